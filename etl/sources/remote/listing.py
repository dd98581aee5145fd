"""What a path names at another place, by the rules of a local one."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from etl.errors import SourceError
from etl.sources import hidden
from etl.sources.remote.errors import missing
from etl.sources.remote.readers import information

# where a bucket comes first, and a directory is no more than what names have in common
_BUCKETS = ("s3", "gs", "az")


class _Entry(NamedTuple):
    name: str
    directory: bool
    size: int

    @property
    def last(self) -> str:
        return self.name.rpartition("/")[2]


def files(system: Any, name: str, scheme: str) -> dict[str, int] | None:
    """Return the names of files and their sizes; None: there is nothing called `name`, or nothing matches.

    Args:
        system: fsspec's file system.
        name: of a file, a directory, or a glob. One that ends in `/` is a directory that may be empty, and need not
            be there in a bucket.
        scheme: of the place.

    Raises:
        SourceError: there is no such bucket.
        Exception: whatever the place's package raises.
    """
    return _Tree(system, scheme).files(name)


class _Tree:
    # Not fsspec's own glob: it leaves out, without a word, directories that it failed to list (`walk`, on_error),
    # and what is not listed now sorts before the cursor later, where it is never read.
    def __init__(self, system: Any, scheme: str) -> None:
        self._system = system
        self._scheme = scheme
        self._listed = lru_cache(maxsize=1)(self._list)

    def files(self, name: str) -> dict[str, int] | None:
        there = None if name.endswith("/") else self._look(name)
        if there is not None and not there.directory:
            return {name: there.size}
        if there is None and glob.has_magic(name):
            self._bucket_of(name)
            first, *parts = name.strip("/").split("/")
            start = ("/" if name.startswith("/") else "") + first if not glob.has_magic(first) else "/"
            found = self._matching(start, parts if not glob.has_magic(first) else [first, *parts])
            return {entry.name: entry.size for entry in found} or None
        entries = self._entries(name.rstrip("/") or "/")
        if entries is None:
            self._bucket_of(name)
            return {} if name.endswith("/") and self._scheme in _BUCKETS else None
        files = [entry for entry in entries if not entry.directory]
        hidden.tell(name, (entry.last for entry in files))
        return {entry.name: entry.size for entry in files if not hidden.is_hidden(entry.last)}

    def _look(self, name: str) -> _Entry | None:
        try:
            details = information(self._system, name, self._scheme)
        except Exception as error:
            if missing(error):
                return None
            raise
        return _Entry(name, details["type"] == "directory", int(details["size"] or 0))

    def _entries(self, directory: str) -> list[_Entry] | None:
        """List a directory; None: there is none."""
        return self._listed(directory)

    def _list(self, directory: str) -> list[_Entry] | None:
        try:
            listed = self._system.ls(directory, detail=True)
        except Exception as error:
            if missing(error):
                return None
            raise
        entries = []
        beginning = directory.rstrip("/") + "/"
        for details in listed:
            # a bucket may hold an object that is called as the directory is
            name = details["name"].rstrip("/")
            if not name.startswith(beginning) or (
                details["name"].endswith("/") and details["type"] == "file"
            ):
                continue
            entry: _Entry | None = _Entry(name, details["type"] == "directory", int(details.get("size") or 0))
            if details["type"] not in ("file", "directory"):
                entry = self._look(name)  # a link: what it points to
            if entry is not None:
                entries.append(entry)
        return entries

    def _matching(self, directory: str, parts: list[str]) -> Iterator[_Entry]:
        """Yield the files below `directory` that match, as `glob.glob`; hidden names take their sign in the pattern."""
        first, *rest = parts
        beginning = directory.rstrip("/") + "/"
        if first == "**":
            yield from self._matching(directory, rest or ["*"])
            below = [entry for entry in self._entries(directory) or () if not hidden.is_hidden(entry.last)]
            for entry in below:
                if entry.directory:
                    yield from self._matching(entry.name, parts)
        elif rest and not glob.has_magic(first):
            yield from self._matching(beginning + first, rest)
        else:
            matching = [e for e in self._entries(directory) or () if hidden.matches(e.last, first)]
            for entry in matching:
                if not rest and not entry.directory:
                    yield entry
                elif rest and entry.directory:
                    yield from self._matching(entry.name, rest)

    def _bucket_of(self, name: str) -> None:
        """See that the bucket is there; else nothing in it ever would be."""
        if self._scheme not in _BUCKETS:
            return
        bucket = name.partition("/")[0]
        if not glob.has_magic(bucket) and self._look(bucket) is None:
            raise SourceError(
                f"there is no bucket {bucket!r} at {self._scheme}://, or these credentials do not see it: correct "
                "its name"
            )
