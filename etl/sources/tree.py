"""The files of this machine that a path names: those of a directory, or those that match a glob.

Not by `glob.glob`: that leaves directories out, without a word, which it may not list, and goes round in a circle
where a link leads to a directory above it.
"""

from __future__ import annotations

import errno
import fnmatch
import glob
import logging
import os
import re
import stat
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from etl.errors import SourceError
from etl.sources import hidden

LOG = logging.getLogger("etl.sources")

_MAGIC = re.compile(r"[*?[]")  # as `glob.has_magic` has it
_NOTHING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)

# By what a file system knows a file or directory, whatever it is called: device and inode.
Identity = tuple[int, int]


class Entry(NamedTuple):
    """What stands in a directory.

    Attributes:
        path: as the source's path was written.
        about: what it is, links followed; None: its link leads nowhere.
    """

    path: str
    about: os.stat_result | None

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory, or a link to one."""
        return self.about is not None and stat.S_ISDIR(self.about.st_mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a file, or a link to one."""
        return self.about is not None and stat.S_ISREG(self.about.st_mode)


def in_directory(path: str) -> list[Entry]:
    """List the files of a directory, sorted by name; those below it are not.

    Raises:
        SourceError: it cannot be listed.
    """
    beginning = (
        "" if Path(path) == Path() else str(Path(path) / "x")[:-1]
    )  # as `etl.sources.paths.root_of` has it
    entries = list(_entries(path, beginning))
    hidden.tell(path, (entry.name for entry in entries if entry.is_file))
    shown = [entry for entry in entries if not hidden.is_hidden(entry.name)]
    _tell_what_is_no_file(path, shown)
    return [entry for entry in shown if entry.is_file]


def matching(pattern: str) -> list[Entry] | None:
    """List the files that match a glob, sorted by path; None: nothing does.

    Raises:
        SourceError: a directory on the way cannot be listed.
    """
    walk = _Walk()
    begin = pattern.rfind("/", 0, _MAGIC.search(pattern).start()) + 1  # type: ignore[union-attr]  # it has magic
    parts = [part for part in pattern[begin:].split("/") if part]
    # of two `**` in a row the second one says nothing
    parts = [part for before, part in pairwise(["", *parts]) if not part == before == "**"]
    found = list(walk.matching(pattern[:begin], parts))
    hidden.tell(pattern, walk.hidden)
    _tell_what_is_no_file(pattern, found)
    files = {entry.path: entry for entry in found if entry.is_file}
    return [files[path] for path in sorted(files)] if found or walk.reached else None


class _Walk:
    """Goes through directories for a glob.

    Attributes:
        hidden: the names that match, and are left out as hidden.
        reached: whether a directory was reached all of whose files are asked for: it may be empty.
    """

    def __init__(self) -> None:
        self.hidden: set[str] = set()
        self.reached = False

    def matching(self, beginning: str, parts: Sequence[str]) -> Iterator[Entry]:
        """Yield what matches below a directory.

        Args:
            beginning: what the paths in the directory begin with: its own, and a slash.
            parts: those of the glob that are left.
        """
        first, *rest = parts
        if first == "**":
            yield from self._through(beginning, rest or ["*"], ())
        elif not glob.has_magic(first):
            about = look(beginning + first)
            if rest and about is not None and stat.S_ISDIR(about.st_mode):
                yield from self.matching(f"{beginning}{first}/", rest)
            elif not rest and os.path.lexists(beginning + first):
                yield Entry(beginning + first, about)
        else:
            for entry in _entries(beginning or ".", beginning):
                if not hidden.matches(entry.name, first):
                    if fnmatch.fnmatchcase(entry.name, first):
                        self.hidden.add(entry.name)
                elif not rest:
                    yield entry
                elif entry.is_directory:
                    yield from self.matching(entry.path + "/", rest)

    def _through(self, beginning: str, rest: Sequence[str], above: tuple[Identity, ...]) -> Iterator[Entry]:
        """Yield what matches in a directory and in those below it.

        Args:
            beginning: what the paths in the directory begin with.
            rest: what is left of the glob behind `**`.
            above: the directories that it led through: a link to one of them leads in a circle.
        """
        here = look(beginning or ".")
        if here is None or not stat.S_ISDIR(here.st_mode):
            return
        above = (*above, identity(here))
        self.reached = self.reached or rest == ["*"]
        yield from self.matching(beginning, rest)
        for entry in _entries(beginning or ".", beginning):
            if entry.about is None or not entry.is_directory or hidden.is_hidden(entry.name):
                continue
            if identity(entry.about) in above:
                LOG.info("%s: left out: it is a link to a directory above it", entry.path)
            else:
                yield from self._through(entry.path + "/", rest, above)


def look(path: str) -> os.stat_result | None:
    """Say what is at a path, links followed; None: nothing, as where a link leads nowhere, or to itself.

    Raises:
        SourceError: it may not be looked at.
    """
    try:
        return Path(path).stat()
    except OSError as error:
        if error.errno in _NOTHING:
            return None
        raise SourceError(
            f"{path} cannot be looked at ({error.strerror}): fix the permissions of the directories that lead there"
        ) from error


def identity(about: os.stat_result) -> Identity:
    """Return what tells a file or directory from all others."""
    return about.st_dev, about.st_ino


def _entries(directory: str, beginning: str) -> Iterator[Entry]:
    """Yield what stands in a directory, by name; nothing where it is gone."""
    try:
        with os.scandir(directory) as found:
            names = sorted(entry.name for entry in found)
    except OSError as error:
        if error.errno in _NOTHING:
            return
        raise SourceError(
            f"the directory {directory!r} cannot be read: {error.strerror}; fix its permissions, or name other paths"
        ) from error
    for name in names:
        yield Entry(beginning + name, look(beginning + name))


def _tell_what_is_no_file(path: str, entries: Sequence[Entry]) -> None:
    """Tell of what a directory or a glob has besides files: a link to a file that is gone might be data."""
    nowhere = [entry.name for entry in entries if entry.about is None]
    if nowhere:
        LOG.warning(
            "%s: left out: %s: what they are links to is not there; remove them, or put it back",
            path,
            hidden.shortened(nowhere),
        )
    special = [
        entry.name for entry in entries if not entry.is_file and not entry.is_directory and entry.about
    ]
    if special:
        LOG.warning(
            "%s: left out: %s: pipes, sockets or devices; a pipe is read where it is named",
            path,
            hidden.shortened(special),
        )
