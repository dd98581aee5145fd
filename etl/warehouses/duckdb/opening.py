"""How a database file is opened: its settings, what DuckDB says when it fails, and what the kernel caches of it."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from etl.memory import Budget
from etl.records import describe
from sinks.own_files import Planted

if TYPE_CHECKING:
    import duckdb

MIB = 1024 * 1024

# A write-ahead log of this length is written into the file. Twice DuckDB's own: half as many checkpoints, each of which
# lets the next part wait.
LONG_LOG = 32 * MIB
# So is one whose rows take half of the memory, where they wait for it: those of row groups that are not full. With a
# quarter more row groups were merged at once, which took 111 MiB of page cache in place of 67.
PENDING_IN_LIMIT = 2

# What DuckDB says of too little memory in errors of other classes. The last one is what ends a spill that is too long.
OUT_OF_MEMORY = (
    "failed to pin block",
    "out of memory",
    "could not allocate",
    "failed to allocate",
    "bad_alloc",
    "max_temp_directory_size",
)

# DuckDB spills sorts, large ALTERs and what is to be merged to files beside the database, never more than this.
SPILL_BYTES = 1024 * MIB


def settings(path: Path, budget: Budget) -> dict[str, str | bool | int | float | list[str]]:
    """Return what to connect with, so that no more memory and threads are taken than the budget says."""
    return {
        "threads": budget.threads,
        "memory_limit": f"{budget.warehouse}B",
        "preserve_insertion_order": False,  # or each insert is held back in memory until its turn comes
        # Those that are ours come first (`Database.rest`), with less memory.
        "wal_autocheckpoint": f"{2 * LONG_LOG}B",
        "temp_directory": f"{path}.tmp",
        "max_temp_directory_size": f"{SPILL_BYTES}B",
        # A checkpoint would merge the row groups of all loads since the last one: closing after 40 loads of
        # 32 MiB took 9.5 s and doubled the file. One task bounds it (0.4 s), and still drops deleted rows.
        "max_vacuum_tasks": 1,
        "autoinstall_known_extensions": False,  # never the network: json, parquet and icu are built in
        "autoload_known_extensions": False,
        "enable_external_file_cache": False,  # parts are read once or twice, and not needed again
    }


def said(error: Exception) -> str:
    """Return what DuckDB said, in one line, without its advice on settings that are not the user's."""
    return (
        describe(error).partition(" Possible solutions")[0].partition(" See also ")[0].partition(" LINE 1")[0]
    )


def held_by(error: BaseException) -> str:
    """Say who has a file open that cannot be opened for that (DuckDB, "Concurrency"); empty: it is something else.

    DuckDB 2.0 has no class of its own for what another process does: it is an IOException as any other.
    """
    import duckdb

    if isinstance(error, duckdb.IOException) and "lock" in str(error).lower():
        return "another process"
    if isinstance(error, duckdb.ConnectionException) and "different configuration" in str(error):
        return "this process, with other settings"
    return ""


def advice(error: Exception) -> str:
    """Say what to do about a file that cannot be opened."""
    if isinstance(error, Planted):
        return (
            "nothing of it was touched; remove it, or give a path in a folder that only this user writes to"
        )
    if held_by(error).startswith("this process"):
        return (
            "this process has it open with other settings: close that connection before the run, or raise `deadline`; "
            "give jobs that run at once in one process the same `memory`"
        )
    if held_by(error):
        return (
            "a file that is open in one process, even for reading, cannot be written by another one: close it there, "
            "or raise `deadline`, and run again"
        )
    return "give a path to a DuckDB file, or to a new one where this user may write"


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether DuckDB, or Python in its call, had too little memory.

    DuckDB has a class for that in a statement. In a commit, at a checkpoint, or where a thread of its own fails, the
    error is of the class of what failed, and only its text tells. Errors of values are none of these: they quote data.
    """
    import duckdb

    if isinstance(error, (duckdb.OutOfMemoryException, MemoryError)):
        return True
    kinds = duckdb.TransactionException, duckdb.FatalException, duckdb.InternalException, duckdb.IOException
    return isinstance(error, kinds) and any(words in str(error).lower() for words in OUT_OF_MEMORY)


def free_space(path: Path) -> str:
    """Say how much space is left beside a file, if it is little."""
    with suppress(OSError):
        disk = os.statvfs(path.parent)
        free = disk.f_bavail * disk.f_frsize
        if free < 256 * MIB:
            return f"; {free:,} bytes are free in {path.parent}"
    return ""


def drop_cache(path: Path) -> None:
    """Ask the kernel to forget what it caches of a database file; for the WAL there is `sinks.page_cache.drop`.

    DuckDB holds the file by a POSIX lock, which is lost when the process closes *any* descriptor of the file
    (fcntl(2)). So none is opened here: the advice is given on DuckDB's own.
    """
    with suppress(OSError):  # advice; what was committed DuckDB has synced itself
        database = path.stat()
        for descriptor in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
            with suppress(OSError):  # that of the listing itself is closed by now
                if os.path.samestat(os.fstat(descriptor), database):
                    os.fdatasync(descriptor)  # only clean pages are dropped
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


# How many want the records of a database in order; of the databases that this process has open, by their paths.
_in_order: Counter[str] = Counter()
_counting = threading.Lock()


@contextmanager
def in_order(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Read records in the order in which they stand in their part, while the context lasts, which takes more memory.

    The setting is one for all connections of this process to a database, so that jobs in several threads share it: the
    last of them that wants the order gives it up.
    """
    row = connection.execute(
        "SELECT path FROM duckdb_databases() WHERE database_name = current_database()"
    ).fetchone()
    database = str(row and row[0])
    with _counting:
        _keep_order(connection, True)
        _in_order[database] += 1
    try:
        yield
    finally:
        with _counting:
            _in_order[database] -= 1
            if not _in_order[database]:
                del _in_order[database]
                with suppress(Exception):  # after a fatal error, which is what must be seen
                    _keep_order(connection, False)


def _keep_order(connection: duckdb.DuckDBPyConnection, keep: bool) -> None:
    # By a connection of its own, which is not in a transaction that has failed.
    with connection.cursor() as other:
        other.execute(f"SET preserve_insertion_order = {str(keep).lower()}")
