"""One open DuckDB file: its settings, its transactions, and how a plan goes into it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from etl.checkpoint import Part, Plan
from etl.errors import ConfigError, WarehouseError
from etl.memory import Budget
from etl.records import describe
from etl.warehouses.base import Audit, Entry, Job
from etl.warehouses.duckdb import file as duckdb_file
from etl.warehouses.duckdb.ledger import Ledger, Newest
from etl.warehouses.duckdb.part_files import PartFiles, location
from etl.warehouses.duckdb.parts import PartReader
from etl.warehouses.duckdb.table import Decisions, Misfit, Table
from etl.warehouses.duckdb.types import Columns, Kind, lower
from sinks.errors import SinkError

if TYPE_CHECKING:
    import duckdb

MIB = 1024 * 1024

# DuckDB spills sorts and large ALTERs to files beside the database, never more than this.
SPILL_BYTES = 1024 * MIB


class Session:
    """An open database and what was registered with it.

    Attributes:
        at: the part that is being read, for messages.
        in_doubt: whether a commit failed: only opening the file again tells what is in it.

    Args:
        path: of the database file.
        budget: the memory and the threads that it may take.
        schema: the schema of the table to load.
        table: the table to load.
        declared: the types of columns that the job's definition declares.

    Raises:
        ConfigError: a package is missing, or a declared type is none.
        WarehouseError: the file cannot be opened.
    """

    def __init__(
        self, path: Path, budget: Budget, *, schema: str, table: str, declared: Mapping[str, str]
    ) -> None:
        try:
            import duckdb
            import fsspec  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                f"the warehouse duckdb needs a package that is missing ({error.name}): "
                "pip install 'etl-sinks[duckdb]'"
            ) from error
        self.at: PartReader | None = None
        self.in_doubt = False
        try:
            duckdb_file.ensure(path)
            self._connection = duckdb.connect(str(path), config=_settings(path, budget))
        except (duckdb.Error, OSError, SinkError) as error:
            raise WarehouseError(f"cannot open {path}: {said(error)}; {_advice(error)}") from error
        self._files = PartFiles(self._connection)
        # Runs when the session is closed, and at the latest when the interpreter exits.
        self.close = weakref.finalize(self, _disconnect, self._connection, self._files)
        try:
            self._connection.execute("SET TimeZone = 'UTC'")
            # A query of more than 2 s would draw one on standard output, which is the user's.
            self._connection.execute("SET enable_progress_bar = false")
            self._declared = {name: self._kind(name, text) for name, text in declared.items()}
        except BaseException:
            self.close()
            raise
        self._table = Table(self._connection, schema, table, self._declared)
        self._ledger = Ledger(self._connection, lower(f"{schema}.{table}"))

    def load(self, job: Job, plan: Plan) -> int:
        """Load a plan; see `DuckDB.load`."""
        newest = self._newest(job.pipeline)
        rows = self._ledger.rows(job, plan, newest)
        if rows is not None:
            return rows
        with ExitStack() as stack:
            readers = [self._reader(part, plan.format, stack) for part in plan.parts]
            told = [(reader, columns) for reader in readers if (columns := reader.told()) is not None]
            if len(told) == len(readers):
                import duckdb

                # Reading a part once is half the work; where that does not go well, the part is looked at.
                with suppress(duckdb.InvalidInputException, duckdb.ConversionException):
                    return self._try(job, plan, told, newest)
            return self._try(job, plan, [(reader, self._sniffed(reader)) for reader in readers], newest)

    def _try(
        self, job: Job, plan: Plan, parts: Sequence[tuple[PartReader, Columns]], newest: Newest | None
    ) -> int:
        """Load parts of which the columns are known; where a guess was wrong, once more without it."""
        decisions = Decisions()
        while True:
            try:
                with self._transaction():
                    return self._load(job, plan, parts, decisions, newest)
            except Misfit as misfit:
                check = misfit.check
                if check.instead is None:
                    raise misfit.part.misfit(check, misfit.read) from misfit
                decisions.instead[check.path] = check.instead

    def latest(self, pipeline: str) -> Entry | None:
        """Read the ledger; see `DuckDB.latest`."""
        found = self._newest(pipeline)
        return found[1] if found else None

    def audit(self, pipeline: str) -> Audit:
        """Look up what the ledger and the table hold; see `DuckDB.audit`."""
        self.at = None
        if not self._table.exists():
            return Audit(
                loads=(), loads_ever=0, rows_ever=0, other_rows=0, table=str(self._table), table_rows=None
            )
        rows = self._table.count()
        if not self._ledger.exists():
            return Audit(
                loads=(), loads_ever=0, rows_ever=0, other_rows=0, table=str(self._table), table_rows=rows
            )
        loads, ever = self._ledger.loads(pipeline), self._ever(pipeline)
        others = [self._ever(name)[1] for name in self._ledger.pipelines() if name != pipeline]
        # The rows that are kept are all there ever were, or the newest one tells of those that are not.
        kept = len(loads) == ever[0]
        return Audit(
            loads=loads,
            loads_ever=ever[0],
            rows_ever=sum(load.rows for load in loads) if kept else ever[1],
            other_rows=sum(others),
            table=str(self._table),
            table_rows=rows,
        )

    def _ever(self, pipeline: str) -> tuple[int, int]:
        """Return how many loads of a pipeline there were, and how many rows they added."""
        found = self._ledger.latest(pipeline)
        return (found[1].loads, found[1].state.totals.records) if found else (0, 0)

    def _newest(self, pipeline: str) -> Newest | None:
        """Return the newest row of a pipeline; None: there is none, or the table is gone and it is void."""
        self.at = None
        if not self._ledger.exists() or not self._table.exists():
            return None
        return self._ledger.latest(pipeline)

    def _load(
        self,
        job: Job,
        plan: Plan,
        parts: Sequence[tuple[PartReader, Columns]],
        decisions: Decisions,
        newest: Newest | None,
    ) -> int:
        self.at = None
        if not self._ledger.exists():
            self._ledger.create()
        if not self._table.exists():
            self._ledger.void()
        columns = self._table.evolve(parts, decisions)
        rows = 0
        for part, found in parts:
            self.at = part
            rows += self._table.insert(part, found, columns, decisions)
        self.at = None
        self._ledger.add(job, plan, rows, newest)
        return rows

    def _reader(self, part: Part, format: str, stack: ExitStack) -> PartReader:
        where = location(part.sealed)
        return PartReader(
            connection=self._connection,
            part=part,
            location=where,
            name=stack.enter_context(self._files.offer(where)),
            format=format,
        )

    def _sniffed(self, reader: PartReader) -> Columns:
        self.at = reader
        return reader.found()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN TRANSACTION")
        try:
            yield
            self.in_doubt = True
            self._connection.execute("COMMIT")
            self.in_doubt = False
        except BaseException:
            # A failed commit has rolled back already; after a fatal error nothing works any more.
            with suppress(Exception):
                self._connection.execute("ROLLBACK")
            raise

    def _kind(self, name: str, text: str) -> Kind:
        import duckdb

        try:
            return Kind.of(self._connection.sqltype(text))
        except duckdb.Error as error:
            raise ConfigError(
                f"[warehouse.schema] {name} = {text!r} is no type of DuckDB ({said(error)}); write one such as "
                "BIGINT, DECIMAL(18, 2), TIMESTAMP, VARCHAR[] or STRUCT(a BIGINT)"
            ) from error


def _disconnect(connection: duckdb.DuckDBPyConnection, files: PartFiles) -> None:
    with suppress(Exception):
        files.close()
    with suppress(Exception):
        connection.close()


def _settings(path: Path, budget: Budget) -> dict[str, str | bool | int | float | list[str]]:
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


def _advice(error: Exception) -> str:
    if "lock" in str(error).lower():
        return "wait for that process or stop it, and run again: one process at a time may have the file"
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
