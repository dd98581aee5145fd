"""Buckets: made, looked at, listed, deleted."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from etl.testing.gcs_server.answers import (
    PLAIN,
    Answer,
    ApiError,
    as_json,
    condition_not_met,
    invalid,
    no_bucket,
)
from etl.testing.gcs_server.conditions import whole_number
from etl.testing.gcs_server.policies import Policies
from etl.testing.gcs_server.requests import Request
from etl.testing.gcs_server.store import Store


def resource(request: Request, name: str, store: Store) -> dict[str, Any]:
    """Return the resource of a bucket; besides its name, its time and its policies all have the same."""
    try:
        changed = (store.root / name).stat().st_mtime
    except FileNotFoundError as error:
        raise no_bucket() from error
    time = datetime.fromtimestamp(changed, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "kind": "storage#bucket",
        "id": name,
        "name": name,
        "selfLink": f"{request.url}/storage/v1/b/{name}",
        "projectNumber": "1",
        "location": "EU",
        "locationType": "multi-region",
        "storageClass": "STANDARD",
        "etag": "CAE=",
        "timeCreated": time,
        "updated": time,
        **store.policies(name).resource(),
    }


def insert(request: Request, store: Store) -> Answer:
    """Answer POST /storage/v1/b."""
    name = request.json().get("name")
    if not isinstance(name, str):
        raise invalid("A bucket needs a name.")
    policies = Policies().patched(name, request.json())
    store.create_bucket(name)
    store.configure(name, replace(policies, metageneration=1))
    return as_json(resource(request, name, store))


def get(request: Request, name: str, store: Store) -> Answer:
    """Answer GET of a bucket."""
    store.objects(name)
    return as_json(resource(request, name, store))


def patch(request: Request, name: str, store: Store) -> Answer:
    """Answer PATCH of a bucket: its retention policy, the hold of new objects, and who pays."""
    policies = store.policies(name)
    expected = whole_number(request.query, "ifMetagenerationMatch")
    if expected not in (None, policies.metageneration):
        raise condition_not_met()
    store.configure(name, policies.patched(name, request.json()))
    return as_json(resource(request, name, store))


def lock(request: Request, name: str, store: Store) -> Answer:
    """Answer POST …/lockRetentionPolicy."""
    policies = store.policies(name)
    request.required("ifMetagenerationMatch")
    if whole_number(request.query, "ifMetagenerationMatch") != policies.metageneration:
        raise condition_not_met()
    store.configure(name, policies.lock())
    return as_json(resource(request, name, store))


def unpaid(request: Request, name: str, store: Store) -> Answer | None:
    """Return the answer to a request that names no project to pay for it, where one must; None: it may go on.

    A download is refused in plain text, all else in JSON.
    """
    if request.query.get("userProject") or not store.pays(name):
        return None
    message = "Bucket is a requester pays bucket but no user project provided."
    if request.query.get("alt") == "media":
        return Answer(400, (("Content-Type", PLAIN),), message.encode())
    return ApiError(400, "required", message).answer()


def delete(name: str, store: Store) -> Answer:
    """Answer DELETE of a bucket, which must be empty."""
    store.delete_bucket(name)
    return Answer(204)


def list_buckets(request: Request, store: Store) -> Answer:
    """Answer GET /storage/v1/b, on one page."""
    prefix = request.query.get("prefix", "")
    found = [resource(request, name, store) for name in store.buckets() if name.startswith(prefix)]
    return as_json({"kind": "storage#buckets", "items": found})
