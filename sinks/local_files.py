"""Local files: what a power cut must not undo, errors that say what to do, and URIs.

The order of durability is that of litestream (`file/replica_client.go`): a temporary file, fsync, the name,
fsync of the directory.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from sinks.errors import SinkError, SinkFull, SinkOccupied
from sinks.own_files import Planted, create_private, open_existing

HINTS = {
    errno.EACCES: "let this user read and write there, or choose another path",
    errno.EPERM: "let this user read and write there, or choose another path",
    errno.EROFS: "the file system is read-only: choose a path on another one",
    errno.ENOENT: "it, or a part of its path, is not there; if it just was, somebody removed it or took the job over",
    errno.ENOTDIR: "a part of the path is a file where a directory is needed: choose another path",
    errno.EISDIR: "a directory stands there: choose another path",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "symbolic links lead in a circle there: choose another path",
    errno.EFBIG: "the file would be larger than the file system or `ulimit -f` allows: write smaller parts",
    errno.EIO: "the device failed: see the kernel's log before trusting it again",
    errno.EMFILE: "this process has too many files open: raise `ulimit -n`",
    errno.ENFILE: "this machine has too many files open",
    errno.ENOLCK: "the file system gives no locks: choose a path on another one",
}


def explain(error: OSError, action: str, path: Path) -> SinkError:
    """Return the error of a sink that says what `error` means for those who run the job.

    Args:
        error: what the system said.
        action: what was tried, to be read after "cannot".
        path: where.
    """
    said = f"cannot {action} {path}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SinkFull(f"{said}; {_free(path)}: free some, write smaller parts, or choose another path")
    if isinstance(error, Planted):
        return SinkOccupied(
            f"{said} ({error.filename}), and nothing of it was touched; remove it, or choose a path in a folder that "
            "only this user writes to"
        )
    if error.errno == errno.EEXIST:
        return SinkOccupied(f"{said}, and this sink did not write it; move it away, or choose another path")
    return SinkError(f"{said}; {HINTS.get(error.errno or 0, 'fix that and run again')}")


def _free(path: Path) -> str:
    with suppress(OSError):
        disk = os.statvfs(path.parent)
        return f"{disk.f_bavail * disk.f_frsize:,} bytes are free in {path.parent}"
    return f"there is no space in {path.parent}"


@contextmanager
def explained(action: str, path: Path) -> Iterator[None]:
    """Turn an OSError from within into the SinkError that explains it."""
    try:
        yield
    except OSError as error:
        raise explain(error, action, path) from error


class OpenFile:
    """A descriptor and its path; closed when nobody refers to it any more, and with it its lock.

    Args:
        descriptor: open for what is to be done with it.
        path: where it was opened; named in errors.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self.descriptor = descriptor
        self.path = path

    @classmethod
    def create(cls, path: Path, *, private: bool = False) -> OpenFile:
        """Create the file, which must not exist, and the directories above it, for reading and writing.

        Its name is durable after a `sync_directory`.

        Args:
            path: nothing that stands there is opened or followed.
            private: whether others may not read it; see `sinks.own_files.create_private`.

        Raises:
            SinkOccupied: something stands there.
            SinkError: it cannot be created.
        """
        make_directory(path.parent)
        with explained("create", path):
            if private:
                return cls(create_private(path), path)
            return cls(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), path)

    @classmethod
    def existing(cls, path: Path, flags: int = os.O_RDWR) -> OpenFile:
        """Open the file that stands at `path`, unless it may be another user's trap.

        Raises:
            OSError: it is not there, or cannot be opened; see `sinks.own_files.open_existing`.
        """
        return cls(open_existing(path, flags), path)

    @property
    def size(self) -> int:
        """The file's length in bytes."""
        with explained("look at", self.path):
            return os.fstat(self.descriptor).st_size

    @property
    def in_place(self) -> bool:
        """Whether this very file still stands at its path; no: somebody moved or replaced it."""
        with explained("look at", self.path):
            try:
                return os.path.samestat(os.fstat(self.descriptor), self.path.stat())
            except FileNotFoundError:
                return False

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes; the space and the cached pages behind are free at once."""
        with explained("truncate", self.path):
            os.ftruncate(self.descriptor, size)

    def sync(self) -> None:
        """Make the file's bytes and length durable. After an error never call it again.

        Linux reports a failed writeback once and then forgets it: a second fsync would say that all is well.
        """
        with explained("sync", self.path):
            os.fsync(self.descriptor)

    def close(self) -> None:
        """Close the descriptor. May be repeated: Linux frees it even when close fails."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            with explained("close", self.path):
                os.close(descriptor)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            with suppress(OSError):
                os.close(self.descriptor)


def make_directory(directory: Path) -> None:
    """Create `directory` and those above it where they are missing; durable on return."""
    with explained("create the directory", directory):
        if directory.is_dir():
            return
        for path in reversed([each for each in (directory, *directory.parents) if not each.exists()]):
            path.mkdir(exist_ok=True)
            sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make durable which names stand in `directory`.

    Raises:
        SinkError: it cannot be read or synced.
    """
    with explained("sync the directory", directory):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            # Some network file systems cannot do it for a directory; PostgreSQL's fsync_fname_ext passes too.
            if error.errno not in (errno.EINVAL, errno.EBADF):
                raise
        finally:
            os.close(descriptor)


def unlink(path: Path) -> bool:
    """Remove the name `path`; return whether it was there. Durable only after a `sync_directory`."""
    with explained("remove", path):
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        return True


def names(directory: Path, pattern: re.Pattern[str]) -> list[tuple[Path, int]]:
    """Return the files in `directory` whose whole name matches, each with the number in the first group.

    A directory that does not exist has none. A group that took no part in the match counts as 1.
    """
    with explained("list", directory):
        try:
            found = [(path, pattern.fullmatch(path.name)) for path in directory.iterdir()]
        except FileNotFoundError:
            return []
    return sorted((path, int(match[1] or 1)) for path, match in found if match)


@dataclass(frozen=True, slots=True)
class Location:
    """Where a part's bytes are on this machine.

    Attributes:
        path: the file.
        start: the offset of the first byte.
        end: the offset after the last byte; None: the end of the file.
    """

    path: Path
    start: int = 0
    end: int | None = None


def uri(path: Path, start: int | None = None, end: int | None = None) -> str:
    """Return the URI of a file, or of its bytes from `start` up to, not including, `end`."""
    return path.as_uri() if start is None else f"{path.as_uri()}#{start}-{end}"


def locate(uri: str) -> Location:
    """Return the file and the range that a `file://` URI names; the opposite of `uri`.

    Raises:
        SinkError: it is not such a URI.
    """
    split = urlsplit(uri)
    span = re.fullmatch(r"(\d+)-(\d+)", split.fragment)
    path = Path(os.fsdecode(unquote_to_bytes(split.path)))
    if split.scheme != "file" or split.netloc not in ("", "localhost") or not path.is_absolute():
        raise SinkError(f"{uri!r} names no local file; a part of a local sink starts with file:///")
    if split.fragment and not span:
        raise SinkError(f"{uri!r} ends in no range of bytes such as #0-4096")
    return Location(path, int(span[1]), int(span[2])) if span else Location(path)
