"""How a database file is opened: its settings, what DuckDB says when it fails, and what the kernel caches of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from etl.memory import Budget
from etl.records import describe

if TYPE_CHECKING:
    import duckdb

MIB = 1024 * 1024

# DuckDB spills sorts, large ALTERs and what is to be merged to files beside the database, never more than this.
SPILL_BYTES = 1024 * MIB


def settings(path: Path, budget: Budget) -> dict[str, str | bool | int | float | list[str]]:
    """Return what to connect with, so that no more memory and threads are taken than the budget says."""
    return {
        "threads": budget.threads,
        "memory_limit": f"{budget.warehouse}B",
        "preserve_insertion_order": False,  # or each insert is held back in memory until its turn comes
        # Twice DuckDB's own: half as many checkpoints, each of which lets the next part wait.
        "wal_autocheckpoint": f"{32 * MIB}B",
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


def is_held(error: BaseException) -> bool:
    """Say whether a file cannot be opened because another process has it open (DuckDB, "Concurrency").

    DuckDB 2.0 has no class of its own for it: it is an IOException as any other.
    """
    import duckdb

    return isinstance(error, duckdb.IOException) and "lock" in str(error).lower()


def advice(error: Exception) -> str:
    """Say what to do about a file that cannot be opened."""
    if is_held(error):
        return (
            "a file that is open in one process, even for reading, cannot be written by another one: close it there, "
            "or raise `deadline`, and run again"
        )
    return "give a path to a DuckDB file, or to a new one where this user may write"


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


@contextmanager
def in_order(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Read records in the order in which they stand in their part, while the context lasts; not in a transaction."""
    keep_order(connection, True)
    try:
        yield
    finally:
        with suppress(Exception):  # after a fatal error, which is what must be seen
            keep_order(connection, False)


def keep_order(connection: duckdb.DuckDBPyConnection, keep: bool) -> None:
    """Say whether records are read in the order in which they stand in their part, which takes more memory."""
    connection.execute(f"SET preserve_insertion_order = {str(keep).lower()}")
