"""One open DuckDB file: its settings, its transactions, and how a plan goes into it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from etl.checkpoint import Part, Plan
from etl.errors import ConfigError, Fenced, RefreshLost, SchemaMismatch, WarehouseError
from etl.memory import Budget
from etl.warehouses.base import Audit, Entry, Job
from etl.warehouses.duckdb import constraints, identity, lost, misfits
from etl.warehouses.duckdb import file as duckdb_file
from etl.warehouses.duckdb.exchange import Exchange, stripped
from etl.warehouses.duckdb.forms import is_view
from etl.warehouses.duckdb.ledger import Ledger, Newest
from etl.warehouses.duckdb.left import Left
from etl.warehouses.duckdb.merge import Merge
from etl.warehouses.duckdb.opening import advice, in_order, said, settings
from etl.warehouses.duckdb.part_files import Held, Location, PartFiles, location
from etl.warehouses.duckdb.parts import PartReader
from etl.warehouses.duckdb.refreshes import Refreshes, destination_of, table_of
from etl.warehouses.duckdb.table import Decisions, Misfit, Table
from etl.warehouses.duckdb.types import JSON, Columns, Kind, lower
from sinks.errors import SinkError

if TYPE_CHECKING:
    import duckdb


T = TypeVar("T")

# A part, and the columns that it holds.
Looked = tuple[PartReader, Columns]

CONSTRAINED = (
    "change such records in a transform, or the table's constraint, and run again; nothing of this load was kept, its "
    "records are pulled again"
)


@dataclass(frozen=True, slots=True)
class Target:
    """What a job loads into: a table, and what the ledger has about it."""

    table: Table
    ledger: Ledger

    def newest(self, pipeline: str) -> Newest | None:
        """Return the newest row of a pipeline; None: there is none, or the table is gone and it is void."""
        return self.ledger.latest(pipeline) if self.ledger.exists() and self.table.exists() else None


class Session:
    """An open database and what was registered with it.

    Attributes:
        at: the part that is being read, for messages.
        in_doubt: whether a commit failed: only opening the file again tells what is in it.

    Args:
        path: of the database file, with symbolic links resolved.
        left: how the file was left when it was open before.
        budget: the memory and the threads that it may take.
        schema: the schema of the table to load.
        table: the table to load.
        declared: the types of columns that the job's definition declares.
        key: the columns by which rows are merged; empty: they are added.
        updated_at: the column that says which of two rows is the younger one.
        keep_schema: whether the new table of a refresh is made like the old one.

    Raises:
        ConfigError: a package is missing, or a declared type is none.
        WarehouseError: the file cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        budget: Budget,
        left: Left,
        *,
        schema: str,
        table: str,
        declared: Mapping[str, str],
        key: Sequence[str] = (),
        updated_at: str | None = None,
        keep_schema: bool = True,
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
        self._path, self._left = path, left
        try:
            if left.database:
                left.see_that_it_is_there(path)
            else:
                duckdb_file.ensure(path)
            self._connection = duckdb.connect(str(path), config=settings(path, budget))
            self._opened = path.stat()
        except (duckdb.Error, OSError, SinkError) as error:
            raise WarehouseError(f"cannot open {path}: {said(error)}; {advice(error)}") from error
        self._files = PartFiles(self._connection)
        # Runs when the session is closed, and at the latest when the interpreter exits.
        self.close = weakref.finalize(self, _disconnect, self._connection, self._files)
        try:
            self._connection.execute("SET TimeZone = 'UTC'")
            self._draw_no_progress()
            left.see_that_it_is(identity.read(self._connection) if left.database else "", path)
            self._declared = {name: self._kind(name, text) for name, text in declared.items()}
        except BaseException:
            self.close()
            raise
        self._schema, self._name = schema, table
        self._destination = lower(f"{schema}.{table}")
        self._main = Target(self._table(table), Ledger(self._connection, self._destination))
        self._refreshes = Refreshes(self._connection, self._destination)
        self._targets: dict[str, Target] = {}
        self._keep_schema = keep_schema
        self._merge = Merge(self._connection, key, updated_at) if key else None

    @property
    def in_place(self) -> bool:
        """Whether the file that is open still stands at its path."""
        with suppress(OSError):
            return os.path.samestat(self._opened, self._path.stat())
        return False

    def checkpoint(self) -> None:
        """Write what the write-ahead log holds into the file, as closing would do."""
        if self._path.with_name(f"{self._path.name}.wal").exists():
            self._connection.execute("CHECKPOINT")

    def _draw_no_progress(self) -> None:
        """Keep DuckDB from drawing on standard output, which is the user's, when a query takes more than 2 s.

        It is off already in a notebook without ipywidgets, where DuckDB 2.0 refuses every change of the setting.
        """
        drawn = self._connection.execute("SELECT current_setting('enable_progress_bar')").fetchone()
        if drawn and drawn[0]:
            self._connection.execute("SET enable_progress_bar = false")

    def load(self, job: Job, plan: Plan, *, rewrite: bool = False) -> int:
        """Load a plan; see `DuckDB.load`.

        Args:
            job: whose plan it is.
            plan: the plan.
            rewrite: write the table again, rather than add columns or delete rows that are replaced, both of which take
                memory for all rows; see `merge`.
        """
        self.at = None
        finished = bool(job.refresh) and self._refreshes.check(job)
        target = self._main if finished or not job.refresh else self._refreshed(job.pipeline, job.refresh)
        newest = target.newest(job.pipeline)
        rows = target.ledger.rows(job, plan, newest)
        loads = newest[1].loads if newest else 0
        if rows is not None:
            self._left.note(job, loads)
            return rows
        self._left.see_that_it_is_at(job, loads, str(target.table))
        if finished:
            raise Fenced(
                f"plan {plan.id} of {job.pipeline!r} belongs to the refresh {job.refresh} of {self._destination}, "
                "which was finished without it by another process; nothing was loaded"
            )
        self._make_like_old(target)
        with ExitStack() as stack:
            readers = [self._reader(part, location(part.sealed), plan.format, stack) for part in plan.parts]
            return self._looked_at(
                target, readers, lambda parts: self._try(job, plan, target, parts, newest, rewrite)
            )

    def try_part(self, job: Job, format: str, part: Part, data: bytes) -> dict[int, str]:
        """Load a part, and undo that; see `DuckDB.try_part`."""
        import duckdb

        self.at = None
        target = self._target(job) or self._main
        self._make_like_old(target)
        with ExitStack() as stack:
            readers = [self._reader(part, Held(data), format, stack)] if part.records else []
            try:
                return self._looked_at(target, readers, lambda parts: self._tried(target, parts))
            except (duckdb.DataError, duckdb.InvalidInputException) as error:
                raise SchemaMismatch(said(error)) from error

    def _looked_at(
        self, target: Target, readers: Sequence[PartReader], take: Callable[[Sequence[Looked]], T]
    ) -> T:
        """Return what `take` makes of parts, with the columns that each holds: as it was told, or looked at."""
        columns = self._columns(target)
        told: list[Looked] = []
        for reader in readers:
            self.at = reader
            reader.check_json(columns)
            reader.check_bytes(columns)
            said = reader.told(columns)
            if said is not None and not said[1]:
                told.append((reader, said[0]))
        if len(told) == len(readers):
            import duckdb

            # Reading a part once is half the work; where that does not go well, the part is looked at.
            with suppress(duckdb.InvalidInputException, duckdb.ConversionException):
                return take(told)
        return take([(reader, self._sniffed(reader, columns)) for reader in readers])

    def _try(
        self,
        job: Job,
        plan: Plan,
        target: Target,
        parts: Sequence[Looked],
        newest: Newest | None,
        rewrite: bool,
    ) -> int:
        """Load parts of which the columns are known; where a guess was wrong, once more without it."""
        import duckdb

        decisions = Decisions()
        while True:
            try:
                with in_order(self._connection) if self._merge else nullcontext(), self._transaction():
                    rows = self._insert(target, parts, decisions, rewrite)
                    target.ledger.add(job, plan, rows, newest)
            except Misfit as misfit:
                check = misfit.check
                if check.instead is None:
                    raise misfits.explained(misfit.part, check, misfit.read) from misfit
                decisions.instead[check.path] = check.instead
            except duckdb.IntegrityError as error:
                at = self.at or parts[-1][0]
                raise self._constrained(target, parts, at, decisions, error) from error
            else:
                self._left.changes += decisions.changes
                self._left.note(job, newest[1].loads + 1 if newest else 1)
                return rows

    def _tried(self, target: Target, parts: Sequence[Looked]) -> dict[int, str]:
        """Insert a part as a load would, undo that, and return which of its records do not fit."""
        import duckdb

        decisions = Decisions()
        while True:
            try:
                with (
                    in_order(self._connection) if self._merge else nullcontext(),
                    self._transaction(undone=True),
                ):
                    self._take(target, parts, decisions, rewrite=False)
            except Misfit as misfit:
                check = misfit.check
                if check.instead is None:
                    return misfits.failing(misfit.part, check, misfit.read)
                decisions.instead[check.path] = check.instead
            except duckdb.IntegrityError as error:
                ((part, found),) = parts
                if reasons := self._broken(target, part, found, decisions):
                    return reasons
                raise SchemaMismatch(said(error)) from error
            else:
                return {}

    def _broken(
        self, target: Target, part: PartReader, found: Columns, decisions: Decisions
    ) -> dict[int, str]:
        """Return which records of a part break a constraint of the table, and how."""
        with in_order(self._connection), self._transaction(undone=True):
            return constraints.broken(
                self._connection, target.table, part, found, decisions, merged=self._merge is not None
            )

    def _constrained(
        self,
        target: Target,
        parts: Sequence[Looked],
        at: PartReader,
        decisions: Decisions,
        error: Exception,
    ) -> SchemaMismatch:
        """Return the error for a part that breaks a constraint of the table; the record is named where that is told."""
        import duckdb

        with suppress(duckdb.Error, Misfit):
            for part, found in parts:
                for record, reason in self._broken(target, part, found, decisions).items():
                    return SchemaMismatch(f"{part}, record {record}: {reason}; {CONSTRAINED}")
        return SchemaMismatch(f"{at}: {said(error)}; {CONSTRAINED}")

    def can_rewrite(self, job: Job) -> bool:
        """Say whether nothing but rows would be lost, if the table that a job loads into were written again."""
        target = self._target(job)
        return target is not None and (not target.table.exists() or target.table.is_plain())

    def latest(self, job: Job) -> Entry | None:
        """Read the ledger; see `DuckDB.latest`."""
        self.at = None
        target = self._target(job)
        found = target.newest(job.pipeline) if target else None
        self._left.note(job, found[1].loads if found else 0)
        if found is None:
            if not job.refresh and self._merge is None:  # what is merged may be merged again
                lost.see_that_it_is_not(self._connection, self._main.table, self._main.ledger, job)
            return None
        return msgspec.structs.replace(found[1], refreshed=bool(job.refresh) and target is self._main)

    def identity(self, *, draw: bool) -> str:
        """Return the database's id; see `DuckDB.identity`."""
        self.at = None
        if draw and not identity.read(self._connection):
            with self._transaction():
                identity.draw(self._connection)
        return identity.read(self._connection)

    def audit(self, job: Job) -> Audit:
        """Look up what the ledger and the table hold; see `DuckDB.audit`."""
        self.at = None
        target = self._target(job)
        rows = target.table.count() if target and target.table.exists() else None
        merged = self._merge is not None
        if target is None or rows is None or not target.ledger.exists():
            return Audit(
                loads=(),
                loads_ever=0,
                rows_ever=0,
                other_rows=0,
                table=str(target.table if target else self._main.table),
                table_rows=rows,
                merged=merged,
            )
        ledger = target.ledger
        loads, ever = ledger.loads(job.pipeline), _ever(ledger, job.pipeline)
        others = [_ever(ledger, name)[1] for name in ledger.pipelines() if name != job.pipeline]
        # The rows that are kept are all there ever were, or the newest one tells of those that are not.
        kept = len(loads) == ever[0]
        return Audit(
            loads=loads,
            loads_ever=ever[0],
            rows_ever=sum(load.rows for load in loads) if kept else ever[1],
            other_rows=sum(others),
            table=str(target.table),
            table_rows=rows,
            merged=merged,
        )

    def columns(self, job: Job) -> Columns | None:
        """Return the table's columns as they are to be; None: there is no table, and none is declared."""
        self.at = None
        target = self._target(job)
        return self._columns(target) or None

    def _columns(self, target: Target | None) -> Columns:
        """Return the columns of a table as they are to be."""
        if target and not target.table.exists() and self._keep_schema:
            target = self._main  # it will be made like this one
        there = target.table.columns() if target and target.table.exists() else {}
        return self._main.table.with_declared(there)

    def begin_refresh(self, job: Job) -> None:
        """Make ready for a refresh; see `DuckDB.begin_refresh`."""
        self.at = None
        if self._refreshes.finished(job) is not None:
            return
        with self._transaction():
            given_up = [self._refreshed(job.pipeline, refresh) for refresh in self._refreshes.begin(job)]
            for target in given_up:
                target.table.drop()
                if target.ledger.exists():
                    target.ledger.void()

    def finish_refresh(self, job: Job) -> None:
        """Exchange the tables; see `DuckDB.finish_refresh`."""
        self.at = None
        if self._refreshes.check(job):
            return
        new, old = self._refreshed(job.pipeline, job.refresh), self._main
        ledger = new.ledger.exists()
        if ledger and not new.table.exists() and new.ledger.latest(job.pipeline):
            raise RefreshLost(
                f"{new.table} is gone, into which the refresh {job.refresh} was loaded: somebody has dropped it. "
                f"{old.table} is as it was; run with --full-refresh to fill it again"
            )
        self._make_like_old(new)
        with self._transaction():
            if new.table.exists() and old.table.exists() and self._keep_schema:
                Exchange(self._connection, old.table).take_place(new.table)
            elif new.table.exists():
                stripped(self._connection, new.table)
                new.table.take_place_of(old.table)
            elif old.table.exists():
                # A new one, too: to delete all rows would cost as much as to insert them did.
                new.table.create(old.table.with_declared(old.table.columns()))
                new.table.take_place_of(old.table)
            if ledger:
                old.ledger.take_over(new.ledger)
            self._refreshes.finish(job)
        self._checkpoint()

    def _checkpoint(self) -> None:
        """Give the blocks of a table that was dropped back to the file, which would grow by it with every refresh.

        Large loads are written past the log, so that it does not get long enough for a checkpoint.
        """
        import duckdb

        # Not while another job of this process has a transaction open; the next one does it.
        with suppress(duckdb.TransactionException):
            self._connection.execute("CHECKPOINT")

    def check_refresh(self, job: Job) -> None:
        """Try the exchange with no rows, and take it back; see `DuckDB.check_refresh`."""
        import duckdb

        self.at = None
        old = self._main.table
        if is_view(self._connection, self._schema, self._name):
            raise WarehouseError(
                f"{old.sql} is a view, which cannot be loaded into: give the warehouse the name of a table, or drop it"
            )
        if not old.exists():
            return
        exchange = Exchange(self._connection, old)
        try:
            with self._transaction(undone=True):
                if self._keep_schema:
                    new = self._table(table_of(self._name, job.pipeline, "trial"))
                    exchange.check()
                    exchange.make(new)
                    exchange.take_place(new, rows=False)
                else:
                    old.drop()
        except (duckdb.ProgrammingError, duckdb.NotSupportedError, duckdb.DependencyException) as error:
            if self._keep_schema:
                raise exchange.refused(said(error)) from error
            raise WarehouseError(
                f"{old.sql} cannot be replaced by another table: {said(error)}. Nothing was changed. Drop what needs "
                'it, or set schema_on_refresh = "keep" under [warehouse]'
            ) from error

    def _make_like_old(self, target: Target) -> None:
        """Make the new table of a refresh like the old one, if there is one; it holds nothing so far."""
        if target is self._main or not self._keep_schema or target.table.exists():
            return
        if not self._main.table.exists():
            return
        with self._transaction():
            if target.ledger.exists():
                target.ledger.void()
            Exchange(self._connection, self._main.table).make(target.table)

    def _target(self, job: Job) -> Target | None:
        """Return what a job loads into; None: a refresh that is not the newest one, or was never begun."""
        if not job.refresh or (finished := self._refreshes.finished(job)):
            return self._main
        return None if finished is None else self._refreshed(job.pipeline, job.refresh)

    def _refreshed(self, pipeline: str, refresh: str) -> Target:
        """Return what is loaded into in a refresh; kept, because it remembers what exists."""
        name = table_of(self._name, pipeline, refresh)
        if name not in self._targets:
            ledger = Ledger(self._connection, destination_of(self._destination, refresh))
            self._targets[name] = Target(self._table(name), ledger)
        return self._targets[name]

    def _table(self, name: str) -> Table:
        return Table(self._connection, self._schema, name, self._declared)

    def _insert(self, target: Target, parts: Sequence[Looked], decisions: Decisions, rewrite: bool) -> int:
        """Insert or merge parts; return how many records they hold. The ledger is made ready for them."""
        self.at = None
        ledger = target.ledger
        if not ledger.exists():
            ledger.create()
        if not target.table.exists():
            ledger.void()
        return self._take(target, parts, decisions, rewrite=rewrite)

    def _take(self, target: Target, parts: Sequence[Looked], decisions: Decisions, *, rewrite: bool) -> int:
        """Insert or merge parts; return how many records they hold."""
        table = target.table
        if not parts:
            if table.exists():
                table.evolve([], decisions)
            return 0
        columns = table.evolve(parts, decisions, rewrite=rewrite)
        rows = 0
        for part, found in parts:
            self.at = part
            if self._merge is None:
                rows += table.insert(part, found, columns, decisions)
            else:
                rows += self._merge.take(table, part, found, columns, decisions, rewrite=rewrite)
        self.at = None
        return rows

    def _reader(self, part: Part, where: Location | Held, format: str, stack: ExitStack) -> PartReader:
        return PartReader(
            connection=self._connection,
            part=part,
            location=where,
            name=stack.enter_context(self._files.offer(where)),
            format=format,
        )

    def _sniffed(self, reader: PartReader, columns: Columns) -> Columns:
        """Look at a part, but for what is JSON: objects with data as keys take memory for each of them."""
        self.at = reader
        said = reader.told(columns)
        if said is None or JSON not in said[0].values():
            return reader.found()
        told, unknown = said
        # A string of digits is told as text, and an integer past 64 bits is one: the kinds are looked at again.
        unknown += [name for name, kind in told.items() if kind != JSON]
        return {**told, **reader.sniffed(unknown)} if unknown else told

    @contextmanager
    def _transaction(self, *, undone: bool = False) -> Iterator[None]:
        self._connection.execute("BEGIN TRANSACTION")
        try:
            yield
            if undone:
                self._connection.execute("ROLLBACK")
                return
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


def _ever(ledger: Ledger, pipeline: str) -> tuple[int, int]:
    """Return how many loads of a pipeline there were, and how many rows they added."""
    found = ledger.latest(pipeline)
    return (found[1].loads, found[1].state.totals.records) if found else (0, 0)


def _disconnect(connection: duckdb.DuckDBPyConnection, files: PartFiles) -> None:
    with suppress(Exception):
        files.close()
    with suppress(Exception):
        connection.close()
