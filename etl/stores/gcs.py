"""The checkpoint in an object of Google Cloud Storage: compare-and-swap by generation.

The object's generation is the version. A write carries `ifGenerationMatch` (0: there is no object yet), which Cloud
Storage judges in one step with the write (documentation, "Request preconditions"). An answer that is lost makes the
repetition fail with 412, though the first attempt landed: that is a `Conflict` here, and the lease then reads the
document back and recognises its own write.

One object takes about one write a second (documentation, "Quotas & limits"); more are answered 429 and tried again,
so a job whose parts take less than a second each is slowed down to that.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from etl.errors import CheckpointError, Fenced
from etl.lease import Conflict
from etl.stores.local import LocalStore
from sinks import GcsStream, Sink, google_errors
from sinks.errors import SinkError
from sinks.gcs.client import connect
from sinks.google_clients import checked
from sinks.retry import Retry

if TYPE_CHECKING:
    from google.cloud.storage import Client

T = TypeVar("T")


class GcsStore:
    """Keeps the checkpoint in one object, which should be in the region where the job runs.

    There is no lock between machines: a second run takes the job over at once, and the first one is `Fenced` at its
    next write. The bucket must not have a retention policy, which would forbid to replace the object.

    Args:
        uri: `gs://bucket/object`.
        deadline: how long a request is tried again, in seconds.
        client: a `google.cloud.storage.Client`; default: one with Application Default Credentials.

    Raises:
        ValueError: the URI names no object, or an argument makes no sense.
    """

    def __init__(self, uri: str, *, deadline: float = 120.0, client: Client | None = None) -> None:
        match = re.fullmatch(r"gs://([^/]+)/(.*[^/])", uri)
        if not match:
            raise ValueError(f'uri: expected "gs://bucket/object", found {uri!r}')
        self.uri = uri
        self.deadline = deadline
        self._bucket, self._name = match[1], match[2]
        self._retry = Retry(deadline=deadline)
        self._client = checked(client, "bucket")

    def __repr__(self) -> str:
        return f"GcsStore({self.uri!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (self.uri, self.deadline)

    @contextmanager
    def hold(self, *, wait: bool) -> Iterator[None]:
        """Hold the job against other processes on this machine: they would write to the same disk.

        Against other machines nothing is held: of two runs the one that swaps first goes on, and the other one is
        fenced. Where no lock file can be made (a disk that is read-only) nothing is held at all.

        Args:
            wait: wait for the process on this machine that holds it, rather than raise.

        Raises:
            Fenced: another process on this machine holds it.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(self._lock().hold(wait=wait))
            except Fenced:
                raise
            except (CheckpointError, FileNotFoundError):
                pass  # no lock can be made here
            yield

    def holder(self) -> str | None:
        """Say which process on this machine holds the job now; another machine's is not seen.

        Raises:
            CheckpointError: the lock file cannot be opened.
        """
        return self._lock().holder()

    def _lock(self) -> LocalStore:
        name = hashlib.blake2b(self.uri.encode(), digest_size=16).hexdigest()
        lock = LocalStore(Path(tempfile.gettempdir()) / f"etl-sinks-{os.getuid()}" / name)
        lock.uri = self.uri
        return lock

    def read(self) -> tuple[bytes, str] | None:
        """Return the document and its generation, or None.

        Raises:
            CheckpointError: the bucket does not exist, or may not be read, or does not answer.
        """
        from google.api_core.exceptions import NotFound

        def download() -> tuple[bytes, str] | None:
            blob = self._blob()
            try:
                data = blob.download_as_bytes(timeout=self._retry.timeout, retry=None)
            except NotFound:
                # The same status for no object and for no bucket; to list takes no right to see the bucket itself.
                found = self._connected().list_blobs(
                    self._bucket, prefix=self._name, max_results=1, timeout=self._retry.timeout, retry=None
                )
                next(iter(found), None)
                return None
            return data, str(blob.generation)

        return self._call(download, "read", "storage.objects.get and storage.objects.list")

    def swap(self, data: bytes, expected: str | None) -> str:
        """Replace the document if it is still at generation `expected`; durable on return.

        Raises:
            Conflict: it is not, or this very write landed and only its answer was lost.
            CheckpointError: the write failed; it may or may not have landed.
        """
        from google.api_core.exceptions import NotFound, PreconditionFailed

        def upload() -> str:
            blob = self._blob()
            try:
                blob.upload_from_string(
                    data,
                    content_type="application/json",
                    if_generation_match=int(expected or 0),
                    checksum="crc32c",
                    timeout=self._retry.timeout,
                    retry=None,
                )
            except PreconditionFailed as error:
                raise Conflict(f"{self.uri} is not at generation {expected}") from error
            except NotFound as error:
                if expected is None:
                    raise
                raise Conflict(f"{self.uri} is gone, and was at generation {expected}") from error
            return str(blob.generation)

        return self._call(
            upload, "write", "storage.objects.create and storage.objects.delete (to replace it)"
        )

    def dead_letters(self, pipeline: str) -> Sink:
        """Return a sink for a job's dead letters beside the checkpoint: the disk may go with the machine."""
        folder = self._name.rpartition("/")[0]
        prefix = f"{folder}/" if folder else ""
        return GcsStream(
            self._bucket,
            prefix=f"{prefix}{pipeline}-rejects.ndjson",
            keep=True,
            deadline=self.deadline,
            client=self._client,
        )

    def _call(self, function: Callable[[], T], what: str, needs: str) -> T:
        try:
            return self._retry.call(function, passing=google_errors.passing)
        except (Conflict, CheckpointError):
            raise
        except Exception as error:
            said = google_errors.explain(error, f"{what} the checkpoint {self.uri}", needs=needs)
            raise CheckpointError(said) from error

    def _connected(self) -> Client:
        if self._client is None:
            try:
                self._client = connect(self.deadline)
            except SinkError as error:
                raise CheckpointError(f"the checkpoint {self.uri} cannot be reached: {error}") from error
        return self._client

    def _blob(self) -> Any:
        return self._connected().bucket(self._bucket).blob(self._name)


def _made(uri: str, deadline: float) -> GcsStore:
    return GcsStore(uri, deadline=deadline)
