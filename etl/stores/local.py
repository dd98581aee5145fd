"""The checkpoint in a local file: compare-and-swap under a lock, and a lock that lasts for the run.

A swap writes a temporary file, syncs it, renames it over the document and syncs the directory: after a
crash the old document is there, or the new one, whole (rename(2): atomic; fsync(2): the directory entry is
durable only after the directory itself was synced).
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from etl.checkpoint import Owner
from etl.errors import CheckpointError, CheckpointFull, Fenced
from etl.lease import Conflict
from sinks import NumberedChunks, Sink
from sinks.base import Whereabouts
from sinks.errors import SinkError
from sinks.local_files import make_directory, sync_directory

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no flock: there the compare of each swap alone protects
    fcntl = None  # type: ignore[assignment]  # the module is missing, which every use asks about


# A process that only looks who holds the job (`holder`) has the lock for an instant: that is waited for.
_TRIES, _TRY_SECONDS = 5, 0.02


class LocalStore:
    """Keep the checkpoint in the file `path`; its directory is made when it is first written.

    Beside it, `.<name>.lock` stands while a run holds the job, and `.<name>.new` during a write.

    Args:
        path: where the document lives.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.uri = str(self.path)
        # Where symbolic links lead to: so that all who come by one of them have one lock, and none is written over.
        self._file = Path(os.path.realpath(self.path))
        self._lock_path = self._file.with_name(f".{self._file.name}.lock")
        self._new_path = self._file.with_name(f".{self._file.name}.new")

    @contextmanager
    def hold(self, *, wait: bool) -> Iterator[None]:
        """Hold the job by an flock(2), which the kernel drops with the process.

        Args:
            wait: wait for the process that holds it, rather than raise.

        Raises:
            Fenced: another process holds it.
            CheckpointError: the lock file cannot be made.
        """
        with self._locked(wait=wait) as holder:
            if holder is not None:
                raise Fenced(
                    f"the job is being run by {holder} ({self.uri}); nothing was touched. Wait for it to end "
                    "(`etl run --wait` does so), or stop it first"
                )
            yield

    def holder(self) -> str | None:
        """Say which process holds the job now; None: none does, whatever a killed one has left.

        Raises:
            CheckpointError: the lock file cannot be opened.
        """
        try:
            descriptor = os.open(self._lock_path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failed("look at the lock of the checkpoint", error) from error
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return self._holder()
        finally:
            os.close(descriptor)
        return None

    def read(self) -> tuple[bytes, str] | None:
        """Return the document and a digest of it as its version, or None.

        Raises:
            CheckpointError: it cannot be read.
        """
        try:
            data = self._file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CheckpointError(
                f"cannot read the checkpoint {self.uri}: {error.strerror}; it must be a file that this "
                "user can read"
            ) from error
        return data, _version(data)

    def swap(self, data: bytes, expected: str | None) -> str:
        """Replace the document if it is still at `expected`; durable on return.

        A lock on the directory, which nobody can take away, makes it one step, also against a process that has
        lost its hold on the job and does not know.

        Raises:
            Conflict: it is not.
            CheckpointFull: no space; the old document stands.
            CheckpointError: the write failed; the document is the old one or the new one, whole.
        """
        try:
            make_directory(self._file.parent)
            with _directory_locked(self._file.parent):
                found = self.read()
                if (found[1] if found else None) != expected:
                    raise Conflict(f"{self.uri} is not at version {expected}")
                self._write_new(data)
                self._new_path.replace(self._file)
                sync_directory(self._file.parent)
        except (OSError, SinkError) as error:
            raise self._failed("write the checkpoint", error) from error
        return _version(data)

    def _write_new(self, data: bytes) -> None:
        try:
            descriptor = os.open(self._new_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            try:
                with open(descriptor, "wb", closefd=False) as file:
                    file.write(data)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            with suppress(OSError):
                self._new_path.unlink()
            raise CheckpointFull(
                f"no space to write the checkpoint {self.uri} ({len(data)} bytes); the one before still "
                "stands. Free space there and run again"
            ) from error

    def whereabouts(self) -> Whereabouts:
        """Return where the document is; as `sinks.base.OnThisMachine`."""
        return Whereabouts("", (str(self._file),))

    def dead_letters(self, pipeline: str) -> Sink:
        """Return a sink for a job's dead letters beside the checkpoint."""
        return NumberedChunks(self.path.with_name(f"{pipeline}-rejects.ndjson"))

    @contextmanager
    def _locked(self, *, wait: bool) -> Iterator[str | None]:
        """Yield None with the lock taken, or who holds it."""
        descriptor = self._take(wait=wait)
        if descriptor is None:
            yield self._holder()
            return
        try:
            yield None
        finally:
            # Unlinked while it is held: who waits for this inode finds that it is not the path's any more. One
            # that is not the path's is not ours to unlink: another process holds the job by now.
            with suppress(OSError):
                if _is_at(descriptor, self._lock_path):
                    self._lock_path.unlink()
            os.close(descriptor)

    def _take(self, *, wait: bool) -> int | None:
        tries = 1 if wait else _TRIES
        try:
            make_directory(self._file.parent)
            while True:
                descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                try:
                    if fcntl is not None:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                    if _is_at(descriptor, self._lock_path):
                        with suppress(OSError):  # on a full disk nobody is told who holds it
                            os.ftruncate(descriptor, 0)
                            os.pwrite(descriptor, str(Owner.this_process()).encode(), 0)
                        return descriptor
                except BlockingIOError:
                    os.close(descriptor)
                    tries -= 1
                    if not tries:
                        return None
                    time.sleep(_TRY_SECONDS)
                    continue
                except BaseException:
                    os.close(descriptor)
                    raise
                os.close(descriptor)
        except (OSError, SinkError) as error:
            raise self._failed("lock the checkpoint", error) from error

    def _holder(self) -> str:
        with suppress(OSError):
            if text := self._lock_path.read_text():
                return text
        return "another process"

    def _failed(self, what: str, error: Exception) -> CheckpointError:
        reason = error.strerror if isinstance(error, OSError) else error
        return CheckpointError(
            f"cannot {what} {self.uri}: {reason}; its directory must be one that this user can write to"
        )


def _version(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def _directory_locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
