"""Reading objects: metadata, media, lists."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

from etl.testing.gcs_server.answers import Answer, ApiError, Slice, as_json, invalid, not_implemented
from etl.testing.gcs_server.conditions import Conditions, whole_number
from etl.testing.gcs_server.requests import Request
from etl.testing.gcs_server.resources import StoredObject
from etl.testing.gcs_server.store import Store

# Source: https://cloud.google.com/storage/docs/json_api/v1/objects/list
LONGEST_PAGE = 1000

RANGE = re.compile(r"bytes=(\d*)-(\d*)")

# What the real service would heed and this one would have to leave out of its answer in silence.
UNKNOWN_FILTERS = ("matchGlob", "softDeleted", "filter", "includeFoldersAsPrefixes")


def get(request: Request, bucket: str, name: str, store: Store) -> Answer:
    """Answer GET of an object: its resource, or its bytes with `alt=media`."""
    generation = whole_number(request.query, "generation")
    conditions = Conditions.of(request.query)
    if request.query.get("alt") == "media":
        return media(request, bucket, name, store)
    found = store.find(bucket, name, generation)
    conditions.check(found, reading=True)
    return as_json(found.resource(request.url), headers=(("ETag", found.etag),))


def media(request: Request, bucket: str, name: str, store: Store) -> Answer:
    """Answer with an object's bytes as they are stored: content that is gzip stays gzip."""
    generation = whole_number(request.query, "generation")
    found, file = store.open(bucket, name, Conditions.of(request.query), generation)
    headers = [
        ("Content-Type", found.description.fields.get("contentType", "application/octet-stream")),
        ("ETag", found.etag),
        ("Accept-Ranges", "bytes"),
        ("X-Goog-Generation", str(found.generation)),
        ("X-Goog-Metageneration", str(found.metageneration)),
        ("X-Goog-Stored-Content-Length", str(found.size)),
        ("X-Goog-Storage-Class", "STANDARD"),
        ("X-Goog-Hash", f"crc32c={found.crc32c}"),
    ]
    if found.md5:
        headers.append(("X-Goog-Hash", f"md5={found.md5}"))
    encoding = found.description.fields.get("contentEncoding")
    headers.append(("X-Goog-Stored-Content-Encoding", encoding or "identity"))
    for header in ("Content-Encoding", "Content-Disposition", "Content-Language", "Cache-Control"):
        field = header[0].lower() + header[1:].replace("-", "")
        if field in found.description.fields:
            headers.append((header, found.description.fields[field]))
    try:
        first, count = wanted(request.headers.get("Range"), found)
    except ApiError:
        file.close()
        raise
    if (first, count) == (0, found.size) and not request.headers.get("Range"):
        return Answer(200, headers, Slice(file, 0, count))
    headers.append(("Content-Range", f"bytes {first}-{first + count - 1}/{found.size}"))
    return Answer(206, headers, Slice(file, first, count))


def wanted(header: str | None, found: StoredObject) -> tuple[int, int]:
    """Return where a Range begins, and how many bytes it has.

    Raises:
        ApiError: 400, several ranges or none; 416, it begins behind the end.
    """
    if header is None:
        return 0, found.size
    match = RANGE.fullmatch(header.strip())
    if not match or match.groups() == ("", ""):
        raise invalid(f"Invalid Range header: {header!r}; one range of bytes is understood.")
    start, end = match.groups()
    first = int(start) if start else max(found.size - int(end), 0)
    last = min(int(end), found.size - 1) if start and end else found.size - 1
    if first >= found.size or last < first:
        message = f"The requested range cannot be satisfied: {header!r} of {found.size} bytes."
        headers = (("Content-Range", f"bytes */{found.size}"),)
        raise ApiError(416, "requestedRangeNotSatisfiable", message, headers=headers)
    return first, last - first + 1


def list_objects(request: Request, bucket: str, store: Store) -> Answer:
    """Answer GET …/o: a page of objects, and of folders when there is a delimiter."""
    for name in UNKNOWN_FILTERS:
        if request.query.get(name):
            raise not_implemented(f"Listing with {name}")
    if request.query.get("versions") == "true":
        raise not_implemented("Listing of versions")
    size = min(whole_number(request.query, "maxResults") or LONGEST_PAGE, LONGEST_PAGE)
    token = request.query.get("pageToken")
    try:
        after = base64.urlsafe_b64decode(token).decode() if token else None
    except ValueError as error:
        raise invalid(f"Invalid pageToken: {token!r}") from error
    items: list[StoredObject] = []
    folders: list[str] = []
    answer: dict[str, object] = {"kind": "storage#objects"}
    last = ""
    for name, found in entries(request, store.objects(bucket)):
        if after is not None and name.encode() <= after.encode():
            continue
        if len(items) + len(folders) == size:
            answer["nextPageToken"] = base64.urlsafe_b64encode(last.encode()).decode()
            break
        if found:
            items.append(found)
        else:
            folders.append(name)
        last = name
    if items:
        answer["items"] = [found.resource(request.url) for found in items]
    if folders:
        answer["prefixes"] = folders
    return as_json(answer)


def entries(request: Request, objects: dict[str, StoredObject]) -> Iterator[tuple[str, StoredObject | None]]:
    """Yield what a listing without pages would hold, in the order of the names' bytes; None: a folder."""
    prefix = request.query.get("prefix", "")
    delimiter = request.query.get("delimiter", "")
    start = request.query.get("startOffset", "").encode()
    end = request.query.get("endOffset", "").encode()
    last_folder = None
    for name in sorted(objects, key=str.encode):
        if not name.startswith(prefix) or name.encode() < start or (end and name.encode() >= end):
            continue
        head, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
        if not found:
            yield name, objects[name]
        elif (folder := prefix + head + delimiter) != last_folder:
            last_folder = folder
            yield folder, None
