"""Which files a source reads, and in which order.

Paths are taken in the order of the list, and sorted by name within a glob or a directory. A file that two of
them name is read once, where it is named first; so is one that is reached in two ways, by links, by a bind mount,
by another way of writing its path.
"""

from __future__ import annotations

import glob
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

from etl.errors import SourceChanged, SourceError
from etl.sources.place import Place
from etl.sources.storage import Found, Storage


class Listed(NamedTuple):
    """A file that is to be read.

    Attributes:
        entry: which of the source's paths listed it, from 0.
        path: the file, in the way that the source's path was written: relative to the same directory.
        size: in bytes, as it was listed; 0: unknown.
    """

    entry: int
    path: str
    size: int

    def before(self, place: Place | None) -> bool:
        """Say whether it comes before the file of a cursor."""
        return place is not None and (self.entry, self.path) < (place.entry, place.file)

    def holds(self, place: Place) -> bool:
        """Say whether a cursor is in this file."""
        return (self.entry, self.path) == (place.entry, place.file)


class Listing(NamedTuple):
    """The files of a source.

    Attributes:
        before: the files that lie before the cursor, as far as they are still there.
        ahead: the file of the cursor, when it is still there, and those after it.
        again: paths that lead to a file which is listed by another one, and that other one.
    """

    before: list[Listed]
    ahead: list[Listed]
    again: list[tuple[Listed, Listed]]


def listing(storage: Storage, paths: Sequence[str], at: Place | None, *, below: bool = False) -> Listing:
    """List the files that `paths` name.

    Args:
        storage: where they are.
        paths: files, globs (`**` goes through directories) and directories (the files in it, not those in
            directories below).
        at: the cursor; None: the beginning.
        below: whether a directory stands for those below it as well.

    Raises:
        SourceError: a path names nothing, or cannot be listed. What lies before the cursor may be gone. An empty
            directory is no error: it is how an inbox looks before the first file comes; a glob that matches
            nothing is more often a typing mistake.
        SourceChanged: the cursor is in the middle of a file that is not there any more.
    """
    listed: dict[Listed, Hashable] = {}
    for entry, path in enumerate(paths):
        for found in _files_of(storage, path, may_be_gone=at is not None and entry <= at.entry, below=below):
            listed[Listed(entry, found.path, found.size)] = found.identity
    before: list[Listed] = []
    ahead: list[Listed] = []
    again: list[tuple[Listed, Listed]] = []
    # A file goes by the name of the cursor, whatever names it has got since; else by the first one.
    first = {identity: file for file, identity in listed.items() if at is not None and file.holds(at)}
    for file, identity in listed.items():
        if first.setdefault(identity, file) is not file:
            if file.path != first[identity].path:
                again.append((file, first[identity]))
            continue
        (before if file.before(at) else ahead).append(file)
    if at is not None and not at.done and not any(file.holds(at) for file in ahead[:1]):
        raise SourceChanged(
            f"{at} is not there any more, and the job has read only {at.record} records of it: put it back, "
            "or start the job over with another name and table"
        )
    return Listing(before, ahead, again)


def _files_of(storage: Storage, path: str, *, may_be_gone: bool, below: bool) -> Iterator[Found]:
    found = storage.files(path)
    if below and found is not None and not glob.has_magic(path):
        held = list(found)
        is_file = any(each.path == path for each in held)
        found = iter(held) if is_file else storage.files(f"{path.rstrip('/')}/**") or iter(())
    if found is None and not may_be_gone:
        if glob.has_magic(path):
            raise SourceError(
                f"no file matches {path!r}{storage.whence}: correct the pattern; a directory may be "
                "named in its place, and may be empty"
            )
        raise SourceError(
            f"there is no file {path!r}{storage.whence}: correct the path, or put the file there"
        )
    for each in found or ():
        yield _checked(each)


def _checked(found: Found) -> Found:
    """Return `found`, if a cursor, which is JSON, can hold its path."""
    try:
        found.path.encode()
    except UnicodeEncodeError as error:
        raise SourceError(
            f"the name of {found.path!r} is no valid UTF-8, so that no cursor can hold it: rename the file"
        ) from error
    return found
