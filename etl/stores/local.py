"""The checkpoint in a local file: compare-and-swap under a lock, and a lock that lasts for the run.

A swap writes a temporary file, syncs it, renames it over the document and syncs the directory: after a
crash the old document is there, or the new one, whole (rename(2): atomic; fsync(2): the directory entry is
durable only after the directory itself was synced).
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from etl.checkpoint import Owner
from etl.errors import CheckpointError, CheckpointFull, Fenced
from etl.lease import Conflict
from sinks import NumberedChunks, Sink, locks
from sinks.base import Whereabouts
from sinks.errors import SinkError
from sinks.hurry import Hurry
from sinks.local_files import OpenFile, make_directory, sync_directory
from sinks.own_files import (
    Planted,
    create_private,
    open_existing,
    open_private,
    remove_left,
    resolved,
)

# A process that only looks who holds the job (`holder`) has the lock for an instant: that is waited for.
_TRIES, _TRY_SECONDS = 5, 0.02
# How often somebody who waits for the job looks whether it is free, in seconds.
_WAIT_SECONDS = 0.2
# How long a swap waits for another one in the same folder, in seconds: one takes milliseconds.
_SWAP_SECONDS = 60.0
_OWNER = re.compile(r"process (\d+) on (\S+) since .*")


class LocalStore:
    """Keep the checkpoint in the file `path`; its directory is made when it is first written.

    Beside it, `.<name>.lock` stands while a run holds the job, and `.<name>.new` during a write. All three are this
    user's alone (0600), or the group's too where the umask lets it write; a document that is there keeps its
    permissions.

    Args:
        path: where the document lives.

    Raises:
        CheckpointError: a link that another user made, in a folder that others write to, leads there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.uri = str(self.path)
        # Where symbolic links lead to: so that all who come by one of them have one lock, and none is written over.
        try:
            self._file = resolved(self.path)
        except Planted as error:
            raise self._failed("find the checkpoint", error) from error
        except OSError:  # which the first use tells
            self._file = self.path
        self._hurry = Hurry(_SWAP_SECONDS)
        self._lock_path = self._file.with_name(f".{self._file.name}.lock")
        self._new_path = self._file.with_name(f".{self._file.name}.new")

    @contextmanager
    def hold(self, *, wait: bool) -> Iterator[None]:
        """Hold the job by an flock(2), which the kernel drops with the process; a child does not inherit it.

        Args:
            wait: wait for the process that holds it, rather than raise.

        Raises:
            Fenced: another process holds it; or has it still, though the one that took it has ended.
            CheckpointError: the lock file cannot be made.
        """
        with self._locked(wait=wait) as holder:
            if holder is not None:
                raise Fenced(holder)
            yield

    def hurry(self, now: bool) -> None:
        """Cut the wait for another swap short, or wait as ever again; as `sinks.base.Hurries`."""
        self._hurry.tell(now)

    def holder(self) -> str | None:
        """Say which process holds the job now; None: none does, whatever a killed one has left.

        Raises:
            CheckpointError: the lock file cannot be opened.
        """
        try:
            file = locks.opened(partial(open_existing, self._lock_path, os.O_RDONLY), self._lock_path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failed("look at the lock of the checkpoint", error) from error
        try:
            if locks.lock(file, shared=True):
                return None
            left = self._left_behind()
            return self._owner() + (f", which has ended, but {left} still has its lock" if left else "")
        finally:
            file.close()

    def read(self) -> tuple[bytes, str] | None:
        """Return the document and a digest of it as its version, or None.

        Raises:
            CheckpointError: it cannot be read.
        """
        try:
            with os.fdopen(open_existing(self._file, os.O_RDONLY), "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return None
        except Planted as error:
            raise self._failed("read the checkpoint", error) from error
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
            with self._directory_locked():
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
            remove_left(self._new_path)  # by a run that was killed while it wrote
            descriptor = create_private(self._new_path, self._permissions())
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

    def _permissions(self) -> int | None:
        """Return those of the document, which its owner may have changed; None: there is none."""
        try:
            return stat.S_IMODE(self._file.stat().st_mode) & 0o666
        except FileNotFoundError:
            return None

    def whereabouts(self) -> Whereabouts:
        """Return where the document is; as `sinks.base.OnThisMachine`."""
        return Whereabouts("", (str(self._file),))

    def dead_letters(self, pipeline: str) -> Sink:
        """Return a sink for a job's dead letters beside the checkpoint."""
        return NumberedChunks(self.path.with_name(f"{pipeline}-rejects.ndjson"), private=True)

    @contextmanager
    def _locked(self, *, wait: bool) -> Iterator[str | None]:
        """Yield None with the lock taken, or why it cannot be."""
        file = self._take(wait=wait)
        if isinstance(file, str):
            yield file
            return
        try:
            yield None
        finally:
            # In a child that was forked meanwhile the file is closed: nothing of the job is its own.
            if file.descriptor >= 0:
                # Unlinked while it is held: who waits for this inode finds that it is not the path's any more. One
                # that is not the path's is not ours to unlink: another process holds the job by now.
                with suppress(OSError, SinkError):
                    if file.in_place:
                        self._lock_path.unlink()
                file.close()

    def _take(self, *, wait: bool) -> OpenFile | str:
        """Take the lock; return its file, or why it cannot be had."""
        tries = _TRIES
        try:
            make_directory(self._file.parent)
            while True:
                file = locks.opened(partial(open_private, self._lock_path), self._lock_path)
                if not locks.lock(file):
                    file.close()
                    left = self._left_behind()
                    tries = _TRIES if wait and not left else tries - 1
                    if not tries:
                        return self._taken(left)
                    time.sleep(_WAIT_SECONDS if wait else _TRY_SECONDS)
                elif file.in_place:
                    with suppress(OSError):  # on a full disk nobody is told who holds it
                        os.ftruncate(file.descriptor, 0)
                        os.pwrite(file.descriptor, str(Owner.this_process()).encode(), 0)
                    return file
                else:
                    file.close()
        except (OSError, SinkError) as error:
            raise self._failed("lock the checkpoint", error) from error

    def _taken(self, left: str) -> str:
        if left:
            return (
                f"the job was run by {self._owner()}, which has ended, but {left} still has its lock ({self.uri}): a "
                "child that it left behind. Nothing was touched. End that process, and run again"
            )
        return (
            f"the job is being run by {self._owner()} ({self.uri}); nothing was touched. Wait for it to end "
            "(`etl run --wait` does so), or stop it first"
        )

    def _owner(self) -> str:
        with suppress(OSError), os.fdopen(open_existing(self._lock_path, os.O_RDONLY), "rb") as file:
            if text := file.read(1000).decode(errors="replace"):
                return text
        return "another process"

    def _left_behind(self) -> str:
        """Name the process that has the lock though the one that took it has ended; empty: none such is seen."""
        took = _OWNER.fullmatch(self._owner())
        if took is None or took[2] != socket.gethostname():
            return ""
        owner = int(took[1])
        if locks.keeps(owner, self._lock_path) or locks.is_hidden(owner):
            return ""
        keepers = locks.keepers(self._lock_path)
        if not keepers or owner in keepers:
            return ""
        # In a container its number is another one there than here, and the name of the machine may be the same.
        if any(locks.took(keeper, self._lock_path) for keeper in keepers):
            return ""
        return f"process {keepers[0]} ({locks.command(keepers[0])})"

    @contextmanager
    def _directory_locked(self) -> Iterator[None]:
        directory = self._file.parent
        file = locks.opened(lambda: os.open(directory, os.O_RDONLY | os.O_CLOEXEC), directory)
        try:
            end = time.monotonic() + _SWAP_SECONDS
            while not locks.lock(file):
                if time.monotonic() > end:
                    raise OSError(
                        errno.EAGAIN, f"{directory} has been locked for a minute, by {_named(directory)}"
                    )
                self._hurry.sleep(_TRY_SECONDS)
            yield
        finally:
            file.close()

    def _failed(self, what: str, error: Exception) -> CheckpointError:
        if isinstance(error, Planted):
            return CheckpointError(
                f"cannot {what} {self.uri}: {error.strerror} ({error.filename}), and nothing of it was touched; "
                "remove it, or give the checkpoint a folder that only this user writes to"
            )
        reason = error.strerror if isinstance(error, OSError) else error
        return CheckpointError(
            f"cannot {what} {self.uri}: {reason}; its directory must be one that this user can write to"
        )


def _version(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _named(path: Path) -> str:
    return (
        " and ".join(f"process {process} ({locks.command(process)})" for process in locks.keepers(path))
        or "another user"
    )
