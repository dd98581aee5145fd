"""Changing objects: metadata, deletion, composition, copies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, BinaryIO

from etl.testing.gcs_server.answers import Answer, as_json, invalid, not_implemented
from etl.testing.gcs_server.conditions import Conditions, whole_number
from etl.testing.gcs_server.contents import BLOCK, Incoming
from etl.testing.gcs_server.requests import Request
from etl.testing.gcs_server.resources import Description
from etl.testing.gcs_server.store import Store

# Source: https://cloud.google.com/storage/docs/json_api/v1/objects/compose
MOST_SOURCES = 32


def describe(request: Request, bucket: str, name: str, store: Store) -> Answer:
    """Answer PATCH (what is sent is merged in) and PUT (what is sent replaces all) of an object."""
    whole = request.method == "PUT"
    conditions = Conditions.of(request.query)
    return as_json(
        store.describe(bucket, name, conditions, request.json(), whole=whole).resource(request.url)
    )


def delete(request: Request, bucket: str, name: str, store: Store) -> Answer:
    """Answer DELETE of an object."""
    store.delete(bucket, name, Conditions.of(request.query), whole_number(request.query, "generation"))
    return Answer(204)


def compose(request: Request, bucket: str, name: str, store: Store) -> Answer:
    """Answer POST …/compose: one object out of up to 32 of the same bucket."""
    body = request.json()
    sources = body.get("sourceObjects") or []
    if not 1 <= len(sources) <= MOST_SOURCES:
        raise invalid(f"The number of source components must be between 1 and {MOST_SOURCES}.")
    if body.get("deleteSourceObjects"):
        raise not_implemented("Deleting the sources of a composition")
    conditions = Conditions.of(request.query)
    store.check(bucket, name, conditions)
    components = 0
    with store.incoming() as incoming:
        for source in sources:
            wanted = {key: str(value) for key, value in (source.get("objectPreconditions") or {}).items()}
            generation = (
                whole_number({"generation": str(source["generation"])}, "generation")
                if (source.get("generation"))
                else None
            )
            found, file = store.open(bucket, str(source.get("name", "")), Conditions.of(wanted), generation)
            with file:
                append(incoming, file)
            components += found.components or 1
        description = Description.of(body.get("destination") or {})
        stored = store.commit(
            bucket,
            name,
            incoming.path,
            incoming.checksums,
            description,
            conditions,
            components=components,
        )
    return as_json(stored.resource(request.url))


def copy(request: Request, source: tuple[str, str], target: tuple[str, str], store: Store) -> Answer:
    """Answer POST …/rewriteTo/… and …/copyTo/…; a rewrite is done in one go, whatever its size."""
    changes: dict[str, Any] = request.json()
    conditions = Conditions.of(request.query)
    store.check(*target, conditions)
    generation = whole_number(request.query, "sourceGeneration")
    found, file = store.open(*source, Conditions.of(request.query, "ifSource"), generation)
    with file, store.incoming() as incoming:
        append(incoming, file)
        # A resource in the body replaces the source's; none at all keeps it, but for its holds.
        # Source: https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite
        description = Description.of(changes) if changes else replace(found.description, holds={})
        stored = store.commit(*target, incoming.path, incoming.checksums, description, conditions)
    if "/rewriteTo/" not in request.path:
        return as_json(stored.resource(request.url))
    answer = {
        "kind": "storage#rewriteResponse",
        "totalBytesRewritten": str(stored.size),
        "objectSize": str(stored.size),
        "done": True,
        "resource": stored.resource(request.url),
    }
    return as_json(answer)


def append(incoming: Incoming, file: BinaryIO) -> None:
    """Take the bytes of an open file in."""
    for block in blocks(file):
        incoming.append(memoryview(block))


def blocks(file: BinaryIO) -> Iterable[bytes]:
    """Yield a file in blocks."""
    return iter(lambda: file.read(BLOCK), b"")
