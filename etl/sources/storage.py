"""Where files are: the port that a source of files lists and opens them through, and this machine's file system."""

from __future__ import annotations

import errno
import glob
import io
import os
import stat
import time
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from etl.errors import SourceError
from etl.sources import pipes, tree
from etl.sources.identity import RawFile, Seen, watched
from etl.sources.place import Version
from etl.sources.waiting import Waiting
from sinks.page_cache import open_guest

# What is asked of this machine's file system at once, in bytes, and may be read more than is decoded.
_BUFFER_BYTES = 1 << 20
# In nanoseconds.
_STEP_OF_TIME = 2_000_000_000


class Found(NamedTuple):
    """A file that a path names.

    Attributes:
        path: the file, in the way that the source's path was written.
        size: in bytes, as it was listed; 0: unknown.
        identity: the same for all paths by which this file can be reached, as far as that is known.
    """

    path: str
    size: int
    identity: Hashable


class Opened(NamedTuple):
    """A file that is read.

    Attributes:
        raw: a raw binary file at its beginning; it is the caller's to close.
        buffer: of how many bytes the buffer should be, through which it is read.
        version: what it is, as its keeper says; None: it is a pipe or a device, and nothing is compared.
        pinned: what is read is of that version, or reading fails.
        idle: says for how many seconds it has not been changed, by its keeper's clock, and 0 where it is no longer as
            large as it was when it was opened; None: it does not tell, or what is there is never written on.
    """

    raw: RawFile
    buffer: int
    version: Version | None
    pinned: bool
    idle: Callable[[], float | None]

    def watched(self, seen: Seen) -> IO[bytes]:
        """Return the file, which can `peek` and `seek`; what is read of it is noted in `seen`."""
        return watched(self.raw, self.buffer, seen)


class Storage(Protocol):
    """A place that keeps files. Nothing is asked of it before the first call."""

    @property
    def whence(self) -> str:
        """Where relative paths begin, for messages: ` (from /home)`; empty: there are none."""
        ...

    def files(self, path: str) -> Iterator[Found] | None:
        """List the files that `path` names: a file, a glob, or a directory, whose files it holds itself.

        They come sorted by their paths. Hidden files and directories (`etl.sources.hidden`) are left out of globs
        and directories, but where a part of a glob begins with their sign.

        Returns:
            The files, none where a directory is empty; None: there is nothing at `path`, or it matches nothing.

        Raises:
            SourceError: it cannot be listed.
        """
        ...

    def open(self, path: str) -> Opened:
        """Open a file that was listed.

        What the file raises when it is read is an OSError, or a SourceError that says what happened to it.

        Raises:
            SourceError: it cannot be opened.
        """
        ...

    def version(self, path: str) -> Version | None:
        """Say what a file is now, as `open` does; None, too, where it is not there any more and need not be.

        Raises:
            SourceError: it is not there any more, or cannot be looked at.
        """
        ...

    def close(self) -> None:
        """Free what is held; may be repeated. Not guaranteed to be called."""
        ...


def same(was: Version, now: Version) -> bool:
    """Say whether two versions of a file are one, as far as they can be compared."""
    if was.length != now.length:
        return False
    if was.tag is not None and now.tag is not None:
        return was.tag == now.tag
    return was.modified is None or now.modified is None or was.modified == now.modified


def untouched(was: Version, now: Version) -> bool:
    """Say whether two versions of a file are one for certain, so that its bytes need not be compared."""
    told = was.tag is not None or was.modified is not None
    return told and (was.tag, was.modified, was.length, was.inode) == (
        now.tag,
        now.modified,
        now.length,
        now.inode,
    )


class Local:
    """The file system of this machine. What is read leaves the page cache as it was.

    Args:
        deadline: for how long the first byte of a pipe is waited for, in seconds.
        waiting: ends that.
    """

    def __init__(self, deadline: float = 0.0, waiting: Waiting | None = None) -> None:
        self._deadline = deadline
        self._waiting = waiting or Waiting()

    @property
    def whence(self) -> str:
        """Say what relative paths are relative to."""
        return f" (from {Path.cwd()})"

    def files(self, path: str) -> Iterator[Found] | None:
        """List the files that `path` names; `**` in a glob goes through directories, but through none twice."""
        about = tree.look(path)
        if about is not None and stat.S_ISDIR(about.st_mode):
            return map(_found, tree.in_directory(path))
        if about is not None or os.path.lexists(path):
            return iter([_found(tree.Entry(path, about))])
        if glob.has_magic(path):
            found = tree.matching(path)
            return None if found is None else map(_found, found)
        return None

    def open(self, path: str) -> Opened:
        """Open a file; what is read of it is dropped from the page cache, unless it was there before."""
        try:
            mode = Path(path).stat().st_mode
            if pipes.is_one(mode):
                pipe = pipes.Pipe(path, self._deadline, self._waiting)
                return Opened(pipe, pipes.BUFFER_BYTES, None, pinned=False, idle=lambda: None)
            if not stat.S_ISREG(mode):
                raise SourceError(f"{path} is {pipes.called(mode)}: name a file in its place, or a pipe")
            raw = open_guest(path).detach()
            about = os.fstat(raw.fileno())
            version = None if _is_made_up(raw, about) else _version(about)
            return Opened(raw, _BUFFER_BYTES, version, pinned=False, idle=partial(_idle, raw, about))
        except OSError as error:
            if Path(path).is_symlink() and error.errno in (errno.ENOENT, errno.ELOOP):
                raise SourceError(
                    f"{path} cannot be opened ({error.strerror}): it is a link to {str(Path(path).readlink())!r}; put "
                    "that file there, or correct the link, and run again"
                ) from error
            raise SourceError(
                f"{path} cannot be opened ({error.strerror}): it was there when the files were listed, or "
                "may not be read; put it back or fix its permissions, and run again"
            ) from error

    def version(self, path: str) -> Version | None:
        """Say what a file is now; one that is gone was read to its end as it was."""
        try:
            return _version(Path(path).stat())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SourceError(
                f"{path} cannot be looked at any more ({error.strerror}): fix the cause, and run again"
            ) from error

    def close(self) -> None:
        """Free nothing."""


def _version(about: os.stat_result) -> Version | None:
    """Make a version of what the file system says.

    A file that was changed just now may be changed again without another time: file systems count in steps of up to
    2 s (FAT), Linux in those of its clock's tick. Such a time says nothing (as in git's "racy-git" note).
    """
    if not stat.S_ISREG(about.st_mode):
        return None
    settled = time.time_ns() - about.st_mtime_ns > _STEP_OF_TIME
    return Version(
        modified=str(about.st_mtime_ns) if settled else None, length=about.st_size, inode=about.st_ino
    )


def _idle(raw: io.RawIOBase, was: os.stat_result) -> float | None:
    """Say for how many seconds a file that is open has not been changed; as `Opened.idle`."""
    now = os.fstat(raw.fileno())
    if not stat.S_ISREG(now.st_mode):
        return None
    return 0.0 if now.st_size != was.st_size else (time.time_ns() - now.st_mtime_ns) / 1e9


def _is_made_up(raw: io.RawIOBase, about: os.stat_result) -> bool:
    """Say whether a file has bytes and no size, as those in /proc have: nothing of it can be compared."""
    if about.st_size:
        return False
    try:
        return bool(os.pread(raw.fileno(), 1, 0))
    except OSError:
        return False  # reading it will say why


def _found(entry: tree.Entry) -> Found:
    about = entry.about
    if about is None:
        return Found(entry.path, 0, entry.path)  # opening it will say why
    return Found(entry.path, about.st_size, tree.identity(about))
