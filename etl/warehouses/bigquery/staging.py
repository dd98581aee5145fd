"""Parts of file sinks, staged in a bucket for as long as a load takes.

A staged object's name follows from the plan, `<prefix>/<plan id>/<sequence><suffix>`, so that who holds the plan
finds what was staged before, and deletes it when the plan is loaded or given up. It is created and never
overwritten; one that is not what was sealed is deleted first, which is safe only while no job may read it.
"""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from etl.checkpoint import Part, Plan
from etl.errors import WarehouseError
from etl.warehouses.bigquery.parts import blocks
from sinks.base import SealedPart
from sinks.errors import NotDeleted, SinkError, SinkOccupied, UploadLost
from sinks.gcs.objects import Objects, StoredObject
from sinks.gcs.upload import Upload
from sinks.retry import Retry

LOG = logging.getLogger("etl.warehouses.bigquery")

# How often a part is sent again because what was sent of it got lost on its way.
MOST_LOST = 5

SUFFIXES = {"ndjson": ".ndjson", "ndjson.gz": ".ndjson.gz", "parquet": ".parquet"}


def checked(uri: str) -> tuple[str, str]:
    """Return the bucket and the prefix, without slashes around it, of a staging place.

    Raises:
        ValueError: it is none.
    """
    split = urlsplit(uri)
    if split.scheme != "gs" or not split.netloc or split.query or split.fragment:
        raise ValueError(f"staging is {uri!r}; it must be 'gs://bucket' or 'gs://bucket/prefix'")
    prefix = split.path.strip("/")
    if "//" in prefix or "*" in prefix:
        raise ValueError(f"staging is {uri!r}; BigQuery takes no '//' and no '*' within names of objects")
    return split.netloc, prefix


def tail(plan: Plan, part: Part) -> str:
    """Return the end of a staged part's name, which does not depend on the prefix."""
    return f"{plan.id}/{part.sequence:06}{SUFFIXES[plan.format]}"


def staged(plan: Plan, uris: Sequence[str]) -> bool:
    """Say whether `uris` are those of the parts of `plan`, staged under any prefix."""
    tails = [tail(plan, part) for part in plan.parts]
    return len(uris) == len(tails) and all(
        uri.startswith("gs://") and uri.endswith(f"/{name}") for uri, name in zip(uris, tails, strict=True)
    )


class Staging:
    """A place in a bucket.

    Args:
        client: a `google.cloud.storage.Client`.
        bucket: the bucket's name.
        prefix: what names begin with; empty: nothing.
        retry: how long each request is tried again.
        chunk_bytes: what is sent with one request; two such chunks are in memory.
        user_project: the project that pays for each request, where the requester does.
        reading: passes on the blocks of a part as they are read; what it raises ends the staging.
    """

    def __init__(
        self,
        client: Any,
        bucket: str,
        prefix: str,
        *,
        retry: Retry,
        chunk_bytes: int,
        user_project: str | None = None,
        reading: Callable[[Iterator[bytes]], Iterator[bytes]],
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._retry = retry
        self._chunk_bytes = chunk_bytes
        self._reading = reading
        self._user_project = user_project
        self._objects = Objects(client, bucket, retry=retry, user_project=user_project)

    def put(self, plan: Plan) -> list[str]:
        """Stage the parts of a plan for which there is no job; return their URIs, in order. Durable on return.

        Raises:
            WarehouseError: a part cannot be read, or staged.
        """
        there = {stored.name: stored for stored in self._list(plan)}
        uris = []
        spare: list[bytearray] = []
        for part in plan.parts:
            name = posixpath.join(self._prefix, tail(plan, part))
            try:
                self._put_in_the_end(name, part.sealed, plan, there.get(name), spare)
            except SinkError as error:
                raise WarehouseError(
                    f"part {part.sequence} ({part.sealed.uri}) cannot be staged: {error}"
                ) from error
            uris.append(self._objects.uri(name))
        return uris

    def clear(self, plan: Plan) -> None:
        """Delete whatever of a plan is staged here. May be repeated.

        What the storage keeps (a retention policy, a hold, a missing permission) stays, and is logged: no job reads it.

        Raises:
            WarehouseError: it cannot be deleted.
        """
        try:
            for stored in self._list(plan):
                self._objects.delete(stored.name, stored.generation)
        except NotDeleted as error:
            LOG.warning("what was staged of plan %s is not needed any more and stays: %s", plan.id, error)
        except SinkError as error:
            raise WarehouseError(f"what was staged of plan {plan.id} cannot be removed: {error}") from error

    def _list(self, plan: Plan) -> list[StoredObject]:
        prefix = posixpath.join(self._prefix, plan.id) + "/"
        ours = re.compile(rf"{re.escape(prefix)}\d{{6,}}{re.escape(SUFFIXES[plan.format])}")
        try:
            return [stored for stored in self._objects.under(prefix) if ours.fullmatch(stored.name)]
        except SinkError as error:
            raise WarehouseError(f"cannot see what of plan {plan.id} is staged: {error}") from error

    def _put_in_the_end(
        self, name: str, part: SealedPart, plan: Plan, there: StoredObject | None, spare: list[bytearray]
    ) -> None:
        """Stage a part, and again where it got lost on its way."""
        for _ in range(MOST_LOST):
            with suppress(UploadLost):
                return self._put_one(name, part, plan, there, spare)
        return self._put_one(name, part, plan, there, spare)

    def _put_one(
        self, name: str, part: SealedPart, plan: Plan, there: StoredObject | None, spare: list[bytearray]
    ) -> None:
        if there is not None:
            if _same(there, part):
                return
            self._objects.delete(name, there.generation)
        facts = {"plan": plan.id, "part": str(part.sequence)}
        try:
            with Upload(
                self._client,
                self._bucket,
                name,
                chunk_bytes=self._chunk_bytes,
                metadata=facts,
                retry=self._retry,
                spare=spare,
                user_project=self._user_project,
            ) as upload:
                for block in self._reading(blocks(part)):
                    upload.write(block)
        except SinkOccupied:
            # Another process that holds the same plan was faster: it staged the same bytes.
            found = self._objects.find(name)
            if found is None or not _same(found, part):
                raise


def _same(stored: StoredObject, part: SealedPart) -> bool:
    return stored.bytes == part.bytes and stored.crc32c == part.crc32c
