"""Buckets: made, looked at, listed, deleted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from etl.testing.gcs_server.answers import Answer, as_json, invalid, no_bucket
from etl.testing.gcs_server.requests import Request
from etl.testing.gcs_server.store import Store


def resource(request: Request, name: str, store: Store) -> dict[str, Any]:
    """Return the resource of a bucket; everything but its name and its time is the same for all."""
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
        "metageneration": "1",
        "etag": "CAE=",
        "timeCreated": time,
        "updated": time,
    }


def insert(request: Request, store: Store) -> Answer:
    """Answer POST /storage/v1/b."""
    name = request.json().get("name")
    if not isinstance(name, str):
        raise invalid("A bucket needs a name.")
    store.create_bucket(name)
    return as_json(resource(request, name, store))


def get(request: Request, name: str, store: Store) -> Answer:
    """Answer GET of a bucket."""
    store.objects(name)
    return as_json(resource(request, name, store))


def delete(name: str, store: Store) -> Answer:
    """Answer DELETE of a bucket, which must be empty."""
    store.delete_bucket(name)
    return Answer(204)


def list_buckets(request: Request, store: Store) -> Answer:
    """Answer GET /storage/v1/b, on one page."""
    prefix = request.query.get("prefix", "")
    found = [resource(request, name, store) for name in store.buckets() if name.startswith(prefix)]
    return as_json({"kind": "storage#buckets", "items": found})
