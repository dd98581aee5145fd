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
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from etl.errors import CheckpointCorrupt, CheckpointError, Fenced
from etl.lease import Conflict
from etl.stores.local import LocalStore
from sinks import GcsStream, Sink, google_errors
from sinks.errors import SinkError
from sinks.gcs.client import connect
from sinks.google_clients import STORAGE_NEEDS, checked
from sinks.hurry import HurriedAway, Hurry
from sinks.own_files import Planted, private_directory
from sinks.retry import Retry

if TYPE_CHECKING:
    from google.cloud.storage import Client

T = TypeVar("T")


class GcsStore:
    """Keeps the checkpoint in one object, which should be in the region where the job runs.

    There is no lock between machines: a second run takes the job over at once, and the first one is `Fenced` at its
    next write. A bucket that has a retention policy, or holds its objects, is refused: it would not let the object be
    replaced.

    Args:
        uri: `gs://bucket/object`.
        deadline: how long a request is tried again, in seconds.
        user_project: the project that pays for each request, where the bucket lets the requester pay; dead letters
            beside the checkpoint have it, too.
        client: a `google.cloud.storage.Client`; default: one with Application Default Credentials.

    Raises:
        ValueError: the URI names no object, or an argument makes no sense.
    """

    def __init__(
        self,
        uri: str,
        *,
        deadline: float = 120.0,
        user_project: str | None = None,
        client: Client | None = None,
    ) -> None:
        match = re.fullmatch(r"gs://([^/]+)/(.*[^/])", uri)
        if not match:
            raise ValueError(f'uri: expected "gs://bucket/object", found {uri!r}')
        self.uri = uri
        self.deadline = deadline
        self.user_project = user_project
        self._bucket, self._name = match[1], match[2]
        self._hurry = Hurry(deadline)
        self._retry = Retry(deadline=deadline, hurry=self._hurry)
        self._client = checked(client, "bucket")

    def __repr__(self) -> str:
        return f"GcsStore({self.uri!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (self.uri, self.deadline, self.user_project)

    @contextmanager
    def hold(self, *, wait: bool) -> Iterator[None]:
        """Hold the job against other processes on this machine: they would write to the same disk.

        Against other machines nothing is held: of two runs the one that swaps first goes on, and the other one is
        fenced. Where no lock file can be made (a disk that is read-only) nothing is held at all.

        Args:
            wait: wait for the process on this machine that holds it, rather than raise.

        Raises:
            Fenced: another process on this machine holds it.
            CheckpointError: another user's directory stands where the lock would be.
        """
        with ExitStack() as stack:
            with suppress(FileNotFoundError):  # there is no directory for temporary files
                lock = self._lock()
                try:
                    stack.enter_context(lock.hold(wait=wait))
                except Fenced:
                    raise
                except CheckpointError:
                    pass  # no lock can be made here
            yield

    def hurry(self, now: bool) -> None:
        """Cut waits short, or wait as ever again; as `sinks.base.Hurries`."""
        self._hurry.tell(now)

    def holder(self) -> str | None:
        """Say which process on this machine holds the job now; another machine's is not seen.

        Raises:
            CheckpointError: the lock file cannot be opened.
        """
        return self._lock().holder()

    def _lock(self) -> LocalStore:
        name = hashlib.blake2b(self.uri.encode(), digest_size=16).hexdigest()
        # One place for all of a user's processes: XDG_RUNTIME_DIR is not set in those of cron.
        directory = Path(tempfile.gettempdir()).absolute() / f"etl-sinks-{os.geteuid()}"
        try:
            private_directory(directory)
        except Planted as error:
            raise CheckpointError(
                f"cannot lock {self.uri} on this machine: {error.strerror} ({directory}); remove it, or set TMPDIR "
                "to a directory that only this user writes to"
            ) from error
        except OSError:
            pass  # read-only: then nothing is held
        lock = LocalStore(directory / name)
        lock.uri = self.uri
        return lock

    def least_memory(self) -> dict[str, int]:
        """Return what it needs; see `sinks.NeedsMemory`."""
        return dict(STORAGE_NEEDS)

    def read(self) -> tuple[bytes, str] | None:
        """Return the document and its generation, or None.

        Raises:
            CheckpointCorrupt: what comes is not what Cloud Storage has, each time until the deadline.
            CheckpointError: the bucket does not exist, or may not be read, or does not answer; or there is no
                checkpoint yet, and the bucket would not let it be replaced.
        """
        from google.api_core.exceptions import NotFound
        from google.cloud.storage.exceptions import DataCorruption

        def download() -> tuple[bytes, str] | None:
            blob = self._blob()
            try:
                data = blob.download_as_bytes(checksum="crc32c", timeout=self._retry.timeout, retry=None)
            except NotFound:
                # The same status for no object and for no bucket; to list takes no right to see the bucket itself.
                found = self._connected().list_blobs(
                    self._bucket_object(),
                    prefix=self._name,
                    max_results=1,
                    timeout=self._retry.timeout,
                    retry=None,
                )
                next(iter(found), None)
                return None
            except DataCorruption as error:
                raise _Damaged(str(error)) from error
            if blob.generation is None:
                raise ConnectionError("the answer does not say which generation it is")
            return data, str(blob.generation)

        found = self._call(download, "read", "storage.objects.get and storage.objects.list")
        if found is None:
            self._call(self._check_bucket, "look at the bucket of", "storage.buckets.get")
        return found

    def swap(self, data: bytes, expected: str | None) -> str:
        """Replace the document if it is still at generation `expected`; durable on return.

        Raises:
            Conflict: it is not, or this very write landed and only its answer was lost.
            CheckpointError: the write failed; it may or may not have landed. Or it did, and could not be replaced.
        """
        from google.api_core.exceptions import Forbidden, NotFound, PreconditionFailed

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
            except Forbidden as error:
                if (kept := self._kept()) is not None:
                    raise self._irreplaceable(kept) from error
                raise
            except PreconditionFailed as error:
                raise Conflict(f"{self.uri} is not at generation {expected}") from error
            except NotFound as error:
                if expected is None:
                    raise
                raise Conflict(f"{self.uri} is gone, and was at generation {expected}") from error
            if expected is None and (kept := _keeps(blob)) is not None:
                raise self._irreplaceable(kept)  # known before the source is pulled, not at the next write
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
            user_project=self.user_project,
            client=self._client,
        )

    def _check_bucket(self) -> None:
        """Make sure that the bucket lets its objects be replaced, if this account may see that.

        Raises:
            CheckpointError: it does not.
        """
        from google.api_core.exceptions import Forbidden

        bucket = self._bucket_object()
        with suppress(Forbidden):  # the role Storage Object User may not: the first write will tell
            bucket.reload(timeout=self._retry.timeout, retry=None)
            if bucket.retention_period:
                raise self._irreplaceable(f"a retention policy of {bucket.retention_period:,} s")
            if bucket.default_event_based_hold:
                raise self._irreplaceable("a hold on every new object")

    def _kept(self) -> str | None:
        """Say what keeps the object from being replaced; None: nothing that its resource tells."""
        from google.api_core.exceptions import GoogleAPIError

        blob = self._blob()
        with suppress(GoogleAPIError):
            blob.reload(timeout=self._retry.timeout, retry=None)
        return _keeps(blob)

    def _irreplaceable(self, kept: str) -> CheckpointError:
        return CheckpointError(
            f"the checkpoint {self.uri} cannot be kept there: {kept} forbids to replace the object, which each step of "
            "a job does; put the checkpoint into a bucket without that, or into a file on a disk that lasts"
        )

    def _call(self, function: Callable[[], T], what: str, needs: str) -> T:
        try:
            return self._retry.call(function, passing=google_errors.passing)
        except (Conflict, CheckpointError, HurriedAway):
            raise
        except _Damaged as error:
            raise CheckpointCorrupt(
                f"cannot {what} the checkpoint {self.uri}: what comes has not the checksum that Cloud Storage has for "
                f"it ({error}), each time for {self.deadline:g} s; look at what stands between this machine and "
                "Cloud Storage (a proxy), and run again"
            ) from error
        except Exception as error:
            said = google_errors.explain(error, f"{what} the checkpoint {self.uri}", needs=needs)
            raise CheckpointError(said) from error

    def _connected(self) -> Client:
        if self._client is None:
            try:
                self._client = connect(self.deadline, self._hurry)
            except SinkError as error:
                raise CheckpointError(f"the checkpoint {self.uri} cannot be reached: {error}") from error
        return self._client

    def _blob(self) -> Any:
        return self._bucket_object().blob(self._name)

    def _bucket_object(self) -> Any:
        return self._connected().bucket(self._bucket, user_project=self.user_project)


class _Damaged(ConnectionError):
    """What came is not what was sent; asked for again, it may be."""


def _keeps(blob: Any) -> str | None:
    """Say what keeps an object from being replaced, as its resource tells; None: nothing."""
    if blob.temporary_hold or blob.event_based_hold:
        return "a hold on it"
    until = blob.retention_expiration_time
    return f"a retention policy (until {until})" if until and until > datetime.now(UTC) else None


def _made(uri: str, deadline: float, user_project: str | None) -> GcsStore:
    return GcsStore(uri, deadline=deadline, user_project=user_project)
