"""How DuckDB reads parts: as files of a file system of our own.

DuckDB is never given a path. A path may hold what it takes for a glob, a quote or a Hive partition; a part may
be a byte range of a larger file; and what the page cache keeps of a part that was read is decided in one
place, `sinks.page_cache`. Reading through Python costs nothing to speak of: 0.12 to 0.28 s for 64 MiB of
NDJSON either way.
"""

from __future__ import annotations

import datetime
import io
import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl.errors import WarehouseError
from sinks import page_cache
from sinks.base import SealedPart
from sinks.errors import SinkError
from sinks.local_files import locate
from sinks.parts import check

if TYPE_CHECKING:
    import duckdb

# A prefix for each connection: those of one process to one file share what is registered.
PREFIXES = (f"etlparts{number}" for number in itertools.count(1))


@dataclass(frozen=True, slots=True)
class Location:
    """A byte range of a local file."""

    path: str
    start: int
    bytes: int

    def open(self) -> page_cache.FileReader:
        """Open it for reading.

        Raises:
            SinkError: it is not there in full, or cannot be read.
        """
        return page_cache.open_for_reading(self.path, self.start, self.start + self.bytes)


@dataclass(frozen=True, slots=True)
class Held:
    """A part that is in memory, and nowhere else yet."""

    data: bytes

    @property
    def bytes(self) -> int:
        """Its size."""
        return len(self.data)

    def open(self) -> io.BytesIO:
        """Open it for reading."""
        return io.BytesIO(self.data)


def location(part: SealedPart) -> Location:
    """Find a sealed part on this machine.

    Raises:
        WarehouseError: it is not here, or not in full; or it is in transit, and not what was sealed.
    """
    try:
        where = locate(part.uri)
        start = where.start
        if where.end is not None and where.end - start != part.bytes:
            raise SinkError(f"its range holds {where.end - start:,} bytes where {part.bytes:,} were sealed")
        found = Location(str(where.path), start, part.bytes)
        found.open().close()
        if page_cache.in_transit(where.path):
            check(part, whole=False)  # out of the page cache: 3 to 4 ms for 16 MiB
    except SinkError as error:
        raise WarehouseError(f"part {part.sequence} ({part.uri}) cannot be read: {error}") from error
    return found


class PartFiles:
    """The parts that a connection may read, under names that were never used before.

    A name is never used twice, because DuckDB may remember what it read under a name, and a sink may use
    one file for all of its parts.

    Args:
        connection: to an open database. Until `close` it must not be closed: the interpreter would report
            the file system as leaked when it exits.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self._locations: dict[str, Location | Held] = {}
        self._prefix = next(PREFIXES)
        connection.register_filesystem(_file_system(self._prefix, self._locations))

    @contextmanager
    def offer(self, location: Location | Held) -> Iterator[str]:
        """Give a part a name that DuckDB can read while the context lasts."""
        name = str(next(self._numbers))
        self._locations[name] = location
        try:
            yield f"{self._prefix}://{name}"
        finally:
            del self._locations[name]

    def close(self) -> None:
        """Take the file system away from the connection."""
        self._connection.unregister_filesystem(self._prefix)


def _file_system(prefix: str, locations: Mapping[str, Location | Held]) -> Any:
    """Make what `register_filesystem` wants; fsspec is imported here and not before."""
    from fsspec import AbstractFileSystem

    class PartFileSystem(AbstractFileSystem):  # type: ignore[misc]
        """Just what DuckDB calls; paths are keys of `locations`."""

        protocol = prefix
        cachable = False  # fsspec would keep each instance, and the connection with it, for good

        def info(self, path: str, **_: Any) -> dict[str, Any]:
            where = locations[self._strip_protocol(path)]
            return {"name": path, "size": where.bytes, "type": "file"}

        def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
            return [self.info(path) if detail else path]

        def glob(self, path: str, **_: Any) -> list[str]:
            return [path]

        def exists(self, path: str, **_: Any) -> bool:
            return self._strip_protocol(path) in locations

        def isfile(self, path: str) -> bool:
            return self.exists(path)

        def modified(self, path: str) -> datetime.datetime:  # noqa: ARG002
            return datetime.datetime.fromtimestamp(0, datetime.UTC)

        created = modified

        def _open(self, path: str, *_: Any, **__: Any) -> page_cache.FileReader | io.BytesIO:
            return locations[self._strip_protocol(path)].open()

    return PartFileSystem()
