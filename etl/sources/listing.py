"""Which files a source reads, and in which order.

Paths are taken in the order of the list, and sorted by name within a glob or a directory. A file that two of
them name is read once, where it is named first.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from etl.errors import SourceChanged, SourceError
from etl.sources.place import Place


class Listed(NamedTuple):
    """A file that is to be read.

    Attributes:
        entry: which of the source's paths listed it, from 0.
        path: the file, in the way that the source's path was written: relative to the same directory.
    """

    entry: int
    path: str


class Listing(NamedTuple):
    """The files of a source.

    Attributes:
        before: the files that lie before the cursor, as far as they are still there.
        ahead: the file of the cursor, when it is still there, and those after it.
    """

    before: list[Listed]
    ahead: list[Listed]


def listing(paths: Sequence[str], at: Place | None) -> Listing:
    """List the files that `paths` name.

    Args:
        paths: files, globs (`**` goes through directories) and directories (the files in it, not those in
            directories below). Hidden files, whose names begin with a dot, are left out of globs and
            directories.
        at: the cursor; None: the beginning.

    Raises:
        SourceError: a path names nothing. What lies before the cursor may be gone. An empty directory is no
            error: it is how an inbox looks before the first file comes; a glob that matches nothing is more
            often a typing mistake.
        SourceChanged: the cursor is in the middle of a file that is not there any more.
    """
    seen: set[str] = set()
    before: list[Listed] = []
    ahead: list[Listed] = []
    for entry, path in enumerate(paths):
        for found in _files_of(path, may_be_gone=at is not None and entry <= at.entry):
            if found in seen:
                continue
            seen.add(found)
            behind = at is not None and (entry, found) < (at.entry, at.file)
            (before if behind else ahead).append(Listed(entry, found))
    if at is not None and not at.done and Listed(at.entry, at.file) not in ahead[:1]:
        raise SourceChanged(
            f"{at} is not there any more, and the job has read only {at.record} records of it: put it back, "
            "or start the job anew with another name and table"
        )
    return Listing(before, ahead)


def _files_of(path: str, *, may_be_gone: bool) -> Iterator[str]:
    if Path(path).is_dir():
        yield from _in_directory(path)
    elif os.path.lexists(path):
        yield path
    elif glob.has_magic(path):
        # not Path.glob: that finds hidden files too, and wants a pattern without its directory
        names = glob.glob(path, recursive=True)  # noqa: PTH207
        found = sorted(name for name in names if Path(name).is_file())
        if not found and not may_be_gone:
            raise SourceError(
                f"no file matches {path!r} (from {Path.cwd()}): correct the pattern; a directory may be "
                "named in its place, and may be empty"
            )
        for name in found:
            yield _checked(name)
    elif not may_be_gone:
        raise SourceError(
            f"there is no file {path!r} (from {Path.cwd()}): correct the path, or put the file there"
        )


def _in_directory(path: str) -> Iterator[str]:
    try:
        with os.scandir(path) as entries:
            names = sorted(
                entry.name for entry in entries if entry.is_file() and not entry.name.startswith(".")
            )
    except OSError as error:
        raise SourceError(
            f"the directory {path!r} cannot be read: {error.strerror}; mend its permissions"
        ) from error
    for name in names:
        yield _checked(str(Path(path) / name))


def _checked(path: str) -> str:
    """Return `path`, if a cursor, which is JSON, can hold it."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise SourceError(
            f"the name of {path!r} is no valid UTF-8, so that no cursor can hold it: rename the file"
        ) from error
    return path
