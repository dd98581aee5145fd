"""Which function answers which request."""

from __future__ import annotations

import re
from urllib.parse import unquote

from etl.testing.gcs_server import buckets, changes, downloads, uploads
from etl.testing.gcs_server.answers import Answer, ApiError
from etl.testing.gcs_server.requests import Request
from etl.testing.gcs_server.sessions import Sessions

# Names come percent-encoded, so that a slash in a path is never one of a name.
# Source: https://cloud.google.com/storage/docs/request-endpoints#encoding
ANY = re.compile(r"(?:/(?:download|upload|resumable/upload))?/storage/v1/b/([^/]+)(?:/.*)?")
LOCK = re.compile(r"/storage/v1/b/([^/]+)/lockRetentionPolicy")
BUCKETS = re.compile(r"/storage/v1/b")
BUCKET = re.compile(r"/storage/v1/b/([^/]+)")
OBJECTS = re.compile(r"/storage/v1/b/([^/]+)/o")
OBJECT = re.compile(r"(?:/download)?/storage/v1/b/([^/]+)/o/([^/]+)")
COMPOSE = re.compile(r"/storage/v1/b/([^/]+)/o/([^/]+)/compose")
COPY = re.compile(r"/storage/v1/b/([^/]+)/o/([^/]+)/(?:rewriteTo|copyTo)/b/([^/]+)/o/([^/]+)")
UPLOAD = re.compile(r"(?:/resumable)?/upload/storage/v1/b/([^/]+)/o")


def answer(request: Request, sessions: Sessions) -> Answer:
    """Answer a request.

    Raises:
        ApiError: the request is refused.
        BodyBroken: the connection ended inside of its body.
        Superseded: a newer request for the same upload has come.
    """
    store = sessions.store
    path, method = request.path, request.method
    if (match := ANY.fullmatch(path)) and (refused := buckets.unpaid(request, decoded(match)[0], store)):
        return refused
    if match := UPLOAD.fullmatch(path):
        (bucket,) = decoded(match)
        if method == "POST":
            return uploads.begin(request, bucket, sessions)
        if method == "PUT":
            return uploads.put(request, sessions)
        if method == "DELETE":
            return uploads.cancel(request, sessions)
    elif match := OBJECT.fullmatch(path):
        bucket, name = decoded(match)
        if method == "GET":
            return downloads.get(request, bucket, name, store)
        if method in ("PATCH", "PUT"):
            return changes.describe(request, bucket, name, store)
        if method == "DELETE":
            return changes.delete(request, bucket, name, store)
    elif match := OBJECTS.fullmatch(path):
        (bucket,) = decoded(match)
        if method == "GET":
            return downloads.list_objects(request, bucket, store)
    elif match := COMPOSE.fullmatch(path):
        bucket, name = decoded(match)
        if method == "POST":
            return changes.compose(request, bucket, name, store)
    elif match := COPY.fullmatch(path):
        source_bucket, source, target_bucket, target = decoded(match)
        if method == "POST":
            return changes.copy(request, (source_bucket, source), (target_bucket, target), store)
    elif match := BUCKET.fullmatch(path):
        (bucket,) = decoded(match)
        if method == "GET":
            return buckets.get(request, bucket, store)
        if method == "PATCH":
            return buckets.patch(request, bucket, store)
        if method == "DELETE":
            return buckets.delete(bucket, store)
    elif match := LOCK.fullmatch(path):
        (bucket,) = decoded(match)
        if method == "POST":
            return buckets.lock(request, bucket, store)
    elif BUCKETS.fullmatch(path):
        if method == "GET":
            return buckets.list_buckets(request, store)
        if method == "POST":
            return buckets.insert(request, store)
    else:
        raise ApiError(404, "notFound", f"Not Found: {method} {path}")
    raise ApiError(405, "methodNotAllowed", f"Method Not Allowed: {method} {path}")


def decoded(match: re.Match[str]) -> list[str]:
    """Return the names in a path; bytes that are no UTF-8 are refused.

    Raises:
        ApiError: 400.
    """
    try:
        return [unquote(group, errors="strict") for group in match.groups()]
    except UnicodeDecodeError as error:
        raise ApiError(400, "invalid", f"A name is not UTF-8: {match.string}") from error
