"""What the conformance suite needs to know of objects: how they are read, and how they are harmed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from google.cloud import storage

from etl.testing.sink_harness import SinkHarness
from sinks import SealedPart
from tests.sinks.conftest import BUCKET


class GcsHarness(SinkHarness):
    """Reads and harms objects in place of files; a directory is a prefix."""

    bucket = BUCKET
    is_local = False

    def prefix(self, directory: Path) -> str:
        return f"{directory}/job.ndjson.gz".lstrip("/")

    def read(self, part: SealedPart) -> bytes:
        with opened() as bucket:
            found: bytes = bucket.blob(name_of(part), generation=part.generation).download_as_bytes()
        return found

    def stored(self, directory: Path) -> dict[str, int]:
        with opened() as bucket:
            found = bucket.list_blobs(prefix=f"{directory}/".lstrip("/"))
            return {f"gs://{self.bucket}/{blob.name}": blob.size for blob in found}

    def cut(self, part: SealedPart) -> None:
        self._overwrite(part, self.read(part)[:-1])

    def damage(self, part: SealedPart) -> None:
        data = bytearray(self.read(part))
        data[len(data) // 2] = 0
        self._overwrite(part, bytes(data))

    def remove(self, part: SealedPart) -> None:
        with opened() as bucket:
            bucket.blob(name_of(part)).delete()

    def clear(self, directory: Path) -> None:
        with opened() as bucket:
            for blob in bucket.list_blobs(prefix=f"{directory}/".lstrip("/")):
                blob.delete()

    def put_notes(self, directory: Path) -> None:
        with opened() as bucket:
            bucket.blob(f"{directory}/job/notes.txt".lstrip("/")).upload_from_string("mine")

    def has_notes(self, directory: Path) -> bool:
        with opened() as bucket:
            found = bucket.blob(f"{directory}/job/notes.txt".lstrip("/")).download_as_bytes()
            return bool(found == b"mine")

    def _overwrite(self, part: SealedPart, data: bytes) -> None:
        with opened() as bucket:
            bucket.blob(name_of(part)).upload_from_string(data)


@contextmanager
def opened() -> Iterator[Any]:
    """Give the bucket, by Google's own client."""
    client = storage.Client(project=None)
    try:
        yield client.bucket(BUCKET)
    finally:
        client.close()


def name_of(part: SealedPart) -> str:
    """Return the name of a part's object."""
    return part.uri.removeprefix(f"gs://{BUCKET}/")
