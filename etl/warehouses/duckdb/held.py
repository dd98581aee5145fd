"""What DuckDB holds in memory between loads, which is given back; and checkpoints, which take little.

DuckDB keeps each block that it has read or written until its memory_limit is reached. So a job's memory grew for
millions of records, and a checkpoint took as much as it was allowed. Measured with NDJSON in a control group of
128 MiB: anonymous memory of 67 MiB after 0.4 M records, 94 after 2.8 M, 105 while the file was closed. With blocks that
are given back after each load, and checkpoints with little, it is the same at any size, and the speed too.

DuckDB gives blocks back when its limit is lowered below what it holds. That may fail where the rest cannot be given
back (the index of a primary key); what can be is gone all the same.

A checkpoint that has too little memory fails, and the file must be opened again; what was loaded is in the log. That
happens with long texts, 2,048 of which are held at once where row groups are merged: with 500 of 16 KiB a load in
16 MiB, with 8 of 1 MiB in 64 MiB, where it takes twice as much as it is allowed. So where long texts wait, or after one
failure, no row groups are merged, which takes little, but the blocks of rows that were deleted are not given back then;
after another failure all of the memory may be used.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

    from etl.warehouses.duckdb.left import Left

MIB = 1024 * 1024
# For a checkpoint, which takes one column after the other. Measured: 1,000 columns of text take less than 16 MiB, 400
# more than 4 MiB.
CHECKPOINT_BYTES = 16 * MIB
LEAST_BYTES = (
    2 * MIB
)  # fewer blocks stay where they are: below, rows that wait would be written to a temporary file
LONG_TEXTS = 4 * MIB  # when so many bytes of texts past 4 KiB wait, row groups are not merged
VACUUM_TASKS = 1  # see `opening.settings`

# Connections of one process to one file share its memory: the limit is lowered only while there is one of them.
_SHARED = threading.RLock()
_OPEN: Counter[Path] = Counter()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What an open database holds, in bytes.

    Attributes:
        blocks: of the file.
        pending: what only a checkpoint gives back: rows that are in the log alone, indexes.
        texts: those of `pending` that are long texts.
    """

    blocks: int
    pending: int
    texts: int


class Held:
    """The memory that one open database holds.

    Args:
        connection: to it.
        path: of its file, with symbolic links resolved.
        limit: its memory_limit, in bytes.
        left: knows how many checkpoints failed.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, path: Path, limit: int, left: Left) -> None:
        self._connection = connection
        self._path = path
        self._limit = limit
        self._left = left

    def give_back(self) -> None:
        """Give back all blocks that the file has, too: about 5 ms, and the next load reads some again."""
        with self._lowered():
            pass

    def checkpoint(self) -> None:
        """Write what the write-ahead log holds into the file, with little memory.

        Raises:
            duckdb.FatalException: it fails; the file must be closed.
            duckdb.TransactionException: another connection has a transaction open.
        """
        import duckdb

        try:
            with self._lowered():
                self._connection.execute("CHECKPOINT")
        except duckdb.FatalException:
            self._left.failed_checkpoints += 1
            raise

    def disconnect(self) -> None:
        """Close the connection; the last one of a process writes the log into the file."""
        with _SHARED, suppress(Exception):
            if _OPEN[self._path] == 1:
                self._lower()
        with suppress(Exception):
            self._connection.close()
        with _SHARED:
            _OPEN[self._path] -= 1

    @contextmanager
    def _lowered(self) -> Iterator[None]:
        """Give blocks back, and allow no more than a checkpoint takes while the context lasts."""
        with _SHARED:
            if _OPEN[self._path] > 1:
                yield
                return
            self._lower()
            try:
                yield
            finally:
                self._set(f"{self._limit}B")

    def usage(self) -> Usage:
        """Look at what it holds."""
        found = dict(
            self._connection.execute("SELECT tag, memory_usage_bytes FROM duckdb_memory()").fetchall()
        )
        blocks = found.pop("BASE_TABLE", 0)
        return Usage(blocks=blocks, pending=sum(found.values()), texts=found.get("OVERFLOW_STRINGS", 0))

    def _lower(self) -> None:
        """Lower the limit so far that blocks of the file go, and what is pending need not be written elsewhere."""
        import duckdb

        held = self.usage()
        failed = self._left.failed_checkpoints
        self._connection.execute(
            f"SET max_vacuum_tasks = {0 if failed or held.texts >= LONG_TEXTS else VACUUM_TASKS}"
        )
        if held.blocks >= LEAST_BYTES:
            with suppress(duckdb.OutOfMemoryException):
                self._set(f"{min(self._limit, held.pending + LEAST_BYTES)}B")
        self._set(f"{min(self._limit, held.pending + CHECKPOINT_BYTES) if failed < 2 else self._limit}B")

    def _set(self, limit: str) -> None:
        self._connection.execute(f"SET memory_limit = '{limit}'")


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """Count a connection that is opened within the context, and let none be opened while a limit is lowered."""
    with _SHARED:
        yield
        _OPEN[path] += 1
