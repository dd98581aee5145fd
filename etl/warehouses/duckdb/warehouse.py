"""DuckDB, embedded: the default warehouse.

One transaction takes a plan's rows, the columns that they need, and a row of the ledger `_etl_loads`; so a
plan is in the table once or not at all, whatever was killed and when. `table` says how a table grows,
`convert` what fits a column, `merge` which record of a key is kept, `refreshes` how a table is replaced.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import quote, urlencode

from etl.checkpoint import Part, Plan
from etl.columns import ColumnChange, Columns
from etl.errors import PartTooLarge, SchemaMismatch, WarehouseError
from etl.memory import MIB, WAREHOUSE, WAREHOUSE_LEAST, Budget, memory_for
from etl.nesting import Extent
from etl.schemas.lookup import Lookup
from etl.warehouses.base import Audit, Entry, Holding, Job
from etl.warehouses.duckdb.arguments import (
    Disposition,
    SchemaOnRefresh,
    checked_key,
    checked_path,
    checked_schema_on_refresh,
    checked_table,
)
from etl.warehouses.duckdb.declaration import DUCKDB, Schema, declared, neutral, neutral_of
from etl.warehouses.duckdb.idle import WhenIdle
from etl.warehouses.duckdb.left import Left
from etl.warehouses.duckdb.limits import (
    HELD_IN_MEMORY,
    MOST_LINE_BYTES,
    RECORD_IN_MEMORY,
    ROWS_AT_ONCE,
    most_nested,
)
from etl.warehouses.duckdb.opening import advice, drop_cache, free_space, held_by, is_out_of_memory, said
from etl.warehouses.duckdb.session import Session
from etl.warehouses.duckdb.types import lower
from sinks import page_cache
from sinks.base import Whereabouts
from sinks.errors import SinkError
from sinks.hurry import Hurry
from sinks.local_files import make_directory, sync_directory
from sinks.own_files import resolved
from sinks.retry import Retry

T = TypeVar("T")

LOG = logging.getLogger("etl.warehouses")

# After how long without a load the file is closed, in seconds, so that others can read it. To close and open it again
# takes 40 ms of the processor: 4 % of that time at the most, where closing after each load would triple what a job of
# small parts takes.
IDLE_SECONDS = 1.0

# After how many loads the file is closed and opened again, once its log has been written into it: what would be written
# as it is closed fills the page cache. What DuckDB knows of each group of rows stays in memory until then: 0.3 MiB a
# million rows of four columns, for as long as the job runs.
LOADS_OPEN = 32

# Anonymous memory besides its memory_limit, measured: importing it and opening a file take 12 MiB, loads some more.
LIBRARY_BYTES = 16 * MIB

# How often it is seen whether another process has closed the file.
_LOOK_SECONDS = 0.2


class DuckDB:
    """Loads plans into a table of a DuckDB file.

    The table and its schema are created when they are missing, columns and nested fields are added as they
    come. Without a declaration types are inferred: dates and timestamps in RFC 3339 are recognised, other
    strings are VARCHAR, objects are STRUCT, arrays are LIST. A column that held only nulls is of type "NULL"
    until the first value comes. A value that does not fit its column is an error, never changed or dropped.
    Dropping the table starts it again.

    Merging: per key, the record with the greatest `updated_at` is the row; where that is equal, or not given, the
    later one. Null and NaN are older than anything. A record replaces the whole row: fields that it does not have are
    null.

    Replacing: a run, or a refresh that was asked for, fills a table of its own, `_etl_refresh_…` in the same schema,
    which takes the old one's place in one transaction; until then it takes its own place on the disk. It is made like
    the old one: types, keys, checks, defaults, generated columns, indexes, comments, triggers, foreign keys in both
    directions, and views work on (`exchange`). What cannot be kept is refused before anything is pulled.

    The file is open, and locked against other processes, while loads follow each other; where none comes for a second,
    it is closed until the next one. Others may read it then, not change what the job loaded.

    Args:
        path: of the database file; it is created with the directories above it.
        table: `table` or `schema.table`.
        schema: types of columns, as DuckDB writes them; or a list of columns in the form of BigQuery's JSON schemas, or
            the path of a file with one (`declaration` says what its types become). Other columns are added by
            themselves. An existing column gets the declared type when all its values fit.
        disposition: `append` adds rows to what is there; `merge` also replaces rows that have the same key; `replace`
            replaces the table with every run.
        key: for `merge`: the columns that tell rows apart; no record may have null in one.
        updated_at: for `merge`: the column that says which of two rows is the younger one; a number, a date or time, or
            text in that order.
        schema_on_refresh: `keep`: the new table of a refresh is made like the old one, if there is one; `infer`: its
            types are inferred again, and nothing else of the old one is kept but its views.
        deadline: for how many seconds a file that another process has open is waited for, and a load tried again that
            another connection's got in the way of.

    Attributes:
        key: the same.
        disposition: the same.

    Raises:
        ConfigError: `schema` is wrong.
        ValueError: another argument makes no sense.
    """

    formats = frozenset({"ndjson", "ndjson.gz", "parquet"})

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        table: str,
        schema: Schema | None = None,
        disposition: Disposition = "append",
        key: Sequence[str] = (),
        updated_at: str | None = None,
        schema_on_refresh: SchemaOnRefresh = "keep",
        deadline: float = 30.0,
    ) -> None:
        self.path = Path(checked_path(os.fspath(path))).absolute()
        self._schema_name, self._table_name = checked_table(table)
        self.key = checked_key(disposition, key, updated_at)
        self.disposition: str = disposition
        self.updated_at = updated_at
        self.schema_on_refresh = checked_schema_on_refresh(schema_on_refresh)
        self._hurry = Hurry(deadline)
        self._retry = Retry(deadline=deadline, longest_wait=2.0, hurry=self._hurry)
        self.table = table
        self.schema = declared(schema)
        options = [
            ("table", lower(table)),
            ("disposition", disposition),
            *(("key", name) for name in self.key),
        ]
        if updated_at is not None:
            options.append(("updated_at", updated_at))
        self._effect = urlencode(options)
        self.destination = f"duckdb://{quote(str(self.path))}?{self._effect}"
        self._budget: Budget | None = None
        self._session: Session | None = None
        self._loads = 0  # since the file was opened
        self._left = Left()
        self._lock = threading.RLock()  # held while the file is used: it is closed on a thread of its own
        self._used = 0.0
        self._idle = WhenIdle(self._let_go, IDLE_SECONDS, "etl-duckdb-idle")

    def __repr__(self) -> str:
        return f"DuckDB({str(self.path)!r}, table={self.table!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the definition, not the connection."""
        made = partial(
            DuckDB,
            table=self.table,
            schema=self.schema,
            disposition=cast("Disposition", self.disposition),
            key=self.key,
            updated_at=self.updated_at,
            schema_on_refresh=self.schema_on_refresh,
            deadline=self._retry.deadline,
        )
        return made, (str(self.path),)

    @property
    def declares(self) -> bool:
        """Say whether the job declares columns."""
        return bool(self._declared)

    def declared(self, field: str) -> str | None:
        """Return the type that the job declares for the column of a field; see `etl.warehouses.base.Declares`."""
        return self._lookup.type_of(field)

    @cached_property
    def _declared(self) -> Columns:
        return neutral_of(self.schema)

    @cached_property
    def _lookup(self) -> Lookup:
        return Lookup(self._declared, DUCKDB)

    def least_memory(self) -> dict[str, int]:
        """Return what it needs; see `sinks.NeedsMemory`."""
        return {"DuckDB": LIBRARY_BYTES, WAREHOUSE: WAREHOUSE_LEAST}

    def open(self, budget: Budget) -> None:
        """Open the file, which no other process may have open.

        Raises:
            ConfigError: the package duckdb is not installed, or a declared type is none.
            WarehouseError: it cannot be opened, is no database, or another process has it.
        """
        self.close()
        try:
            make_directory(self.path.parent)
        except SinkError as error:
            raise WarehouseError(f"{self}: {error}") from error
        with self._lock:
            self._left = Left()
            self._session = self._connect(budget)
            self._budget = budget
            self._rest()

    def load(self, job: Job, plan: Plan) -> int:
        """Load a plan in one transaction; see the port. Durable on return.

        After an error that leaves the database in doubt (a full disk) it is closed, and the next call opens
        it again: DuckDB then recovers what was committed, and nothing else.

        Raises:
            SchemaMismatch: a value does not fit its column, or a record to be merged has no key.
            LoadMismatch: a part holds another number of records than it was sealed with.
            Fenced: it belongs to a refresh that a later one has taken the place of.
            PartTooLarge: it takes more memory than there is.
            WarehouseError: anything else.
        """
        if plan.format not in self.formats:
            raise WarehouseError(
                f"DuckDB loads {', '.join(sorted(self.formats))}; plan {plan.id} is {plan.format}"
            )
        what = f"load parts {plan.parts[0].sequence} to {plan.parts[-1].sequence}"

        def load() -> tuple[int, bool]:
            with self._using(what) as session:
                try:
                    rows = self._roomy(
                        session, job, lambda session, rewrite: session.load(job, plan, rewrite=rewrite)
                    )
                except Exception as error:
                    if (kept := self._kept(job, plan, error)) is None:
                        raise
                    rows = kept
                in_place = self._session is not None and self._session.in_place
                self._give_back()
                self._settle()
                return rows, in_place

        # Two jobs of one process that make the ledger at once: one of both is told of a conflict, and keeps nothing.
        rows, in_place = self._retry.call(load, passing=_is_conflict, what=what)
        # The file was moved meanwhile: the one that stands there has the plan, or is refused.
        if not in_place:
            rows, _ = load()
        return rows

    def try_part(self, job: Job, format: str, part: Part, data: bytes) -> dict[int, str]:
        """Load a part that is in memory, and undo that; see `etl.warehouses.base.TriesParts`.

        Raises:
            SchemaMismatch: its records do not fit, and it cannot be told which of them.
            PartTooLarge: it takes more memory than there is.
            WarehouseError: anything else.
        """

        def try_part() -> dict[int, str]:
            with self._using("try a part") as session:
                return self._roomy(
                    session,
                    job,
                    lambda session, rewrite: session.try_part(job, format, part, data, rewrite=rewrite),
                )

        return self._retry.call(try_part, passing=_is_conflict, what="try a part")

    def most_part_bytes(self, format: str) -> int | None:  # noqa: ARG002
        """Return None: a part may be as large as it likes; see `LimitsSizes`."""
        return None

    def most_held(self) -> Holding:
        """Return how much a part may have; see `HoldsRecords`."""
        assert self._budget is not None  # it is open
        memory = self._budget.warehouse
        return Holding(rows=ROWS_AT_ONCE, at_once=memory // HELD_IN_MEMORY, whole=memory)

    def memory_for(self, held_bytes: int) -> int:
        """Return how much memory a job needs for so many bytes of records; see `HoldsRecords`."""
        return memory_for(held_bytes * RECORD_IN_MEMORY)

    def most_row_bytes(self, format: str) -> int | None:
        """Return how long a line may be; see `LimitsSizes`."""
        return None if format == "parquet" else MOST_LINE_BYTES

    def most_nested(self, format: str) -> Extent:
        """Return how far a record may go; see `LimitsNesting`."""
        assert self._budget is not None  # it is open
        return most_nested(format, self._budget.warehouse)

    def changes(self) -> tuple[ColumnChange, ...]:
        """Return what loads have done to the table's columns since it was last asked; see `TellsChanges`."""
        with self._lock:
            found = tuple(self._left.changes)
            self._left.changes.clear()
            return found

    def latest(self, job: Job) -> Entry | None:
        """Return how far the ledger says that a job is in this table; None: no row, or no table.

        Raises:
            WarehouseError: the ledger cannot be read.
        """
        with self._using("read the ledger") as session:
            return session.latest(job)

    def check_refresh(self, job: Job) -> None:
        """Make sure that the table can be replaced: the exchange is tried without rows, and undone.

        Raises:
            SchemaMismatch: a column cannot be as it is declared.
            WarehouseError: it cannot; the message says what is in the way.
        """

        def check() -> None:
            with self._using("try a refresh") as session:
                session.check_refresh(job)

        self._retry.call(check, passing=_is_conflict, what="try a refresh")

    def begin_refresh(self, job: Job) -> None:
        """Make ready for a refresh, and drop the tables of this pipeline's others, which were given up.

        May be repeated.

        Raises:
            Fenced: a later one has taken its place.
            WarehouseError: it cannot be noted.
        """

        def begin() -> None:
            with self._using("begin the refresh") as session:
                session.begin_refresh(job)

        self._retry.call(begin, passing=_is_conflict, what="begin the refresh")
        self._settle()

    def finish_refresh(self, job: Job) -> None:
        """Put the new table in the old one's place, in one transaction; durable on return. May be repeated.

        What the ledger has of the old table goes with it, of all pipelines: their rows are gone. Where nothing was
        loaded, the new table is empty, with the columns of the old one.

        Raises:
            Fenced: a later one has taken its place.
            RefreshLost: the new table is gone, or was never begun; the old one was altered in the meantime; or a
                constraint is broken that only both tables together show.
            WarehouseError: the old table cannot be dropped, or anything else.
        """
        what = "put the new table in the place of the old one"

        def finish() -> None:
            with self._using(what) as session:
                session.finish_refresh(job)
                self._left.forget()
                # The tables are exchanged: what fails from here on is no failure of that.
                with self._closing_what_fails():
                    session.give_back_blocks()

        self._retry.call(finish, passing=_is_conflict, what=what)
        self._settle()

    def identity(self, *, draw: bool = True) -> str:
        """Return the database's id; see the port.

        Raises:
            WarehouseError: it cannot be read or written.
        """

        def identity() -> str:
            with self._using("read its id") as session:
                found = session.identity(draw=draw)
                self._left.database = found if draw else self._left.database
                return found

        return self._retry.call(identity, passing=_is_conflict, what="read its id")

    def whereabouts(self) -> Whereabouts:
        """Return what a load depends on, and where the file is; as `sinks.base.OnThisMachine`."""
        return Whereabouts(self._effect, (os.path.realpath(self.path),))

    def columns(self, job: Job) -> Columns | None:
        """Return the columns of the table, or of a refresh's new table, and those that are declared.

        Raises:
            WarehouseError: they cannot be read, or two differ in case only.
        """
        with self._using("read the columns") as session:
            found = session.columns(job)
        return neutral(found) if found else None

    def audit(self, job: Job) -> Audit:
        """Look up what the ledger has of a job, and what the table holds.

        Raises:
            WarehouseError: they cannot be read.
        """
        with self._using("read the ledger") as session:
            return session.audit(job)

    def hurry(self, now: bool) -> None:
        """Cut waits for the file short, or wait as ever again; as `sinks.base.Hurries`."""
        self._hurry.tell(now)

    def close(self) -> None:
        """Close the file, so that other processes may open it. May be repeated."""
        with self._lock:
            self._budget = None
            self._idle.end()
            self._close()

    def _close(self) -> None:
        if self._session is None:
            return
        try:
            self._session.close()
            self._left.closed()
        finally:
            self._session = None
            self._loads = 0

    def _rest(self) -> None:
        """Close the file when it has not been used for a while from now on."""
        self._used = time.monotonic()
        self._idle.put_off()

    def _let_go(self) -> None:
        """Close the file, so that others can read it until the next load, if it was not used just now."""
        with self._lock:
            if self._session is None or time.monotonic() - self._used < IDLE_SECONDS:
                return
            with suppress(
                Exception
            ):  # what fails here is in the log, and is tried again when the file is opened
                self._session.checkpoint()
                self._settle()
            self._close()

    def _connect(self, budget: Budget) -> Session:
        """Open the file; one that another process has open is waited for."""
        until = time.monotonic() + self._retry.deadline
        told = False
        while True:
            try:
                return Session(
                    self._file(),
                    budget,
                    self._left,
                    schema=self._schema_name,
                    table=self._table_name,
                    declared=self.schema,
                    key=self.key,
                    updated_at=self.updated_at,
                    keep_schema=self.schema_on_refresh == "keep",
                )
            except WarehouseError as error:
                holder = held_by(error.__cause__) if error.__cause__ else ""
                if holder and not told:
                    told = True
                    LOG.warning(
                        "%s is open in %s: waiting until it is closed, for %.0f s at most",
                        self.path,
                        holder,
                        self._retry.deadline,
                    )
                if not holder or time.monotonic() >= until:
                    raise
            self._hurry.sleep(_LOOK_SECONDS)

    def _roomy(self, session: Session, job: Job, call: Callable[[Session, bool], T]) -> T:
        """Return what `call` does; where it takes more memory than there is, it is to write the table again.

        What earlier loads have deleted takes memory too, until the file is opened again.
        """
        try:
            return call(session, False)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if session.in_doubt or not session.can_rewrite(job):
                raise
            self._close()
            assert self._budget is not None
            self._session = session = self._connect(self._budget)
            return call(session, True)

    def _kept(self, job: Job, plan: Plan, error: Exception) -> int | None:
        """Return the rows of a plan whose commit had too little memory, if they are in the table; None: they are not.

        Only the file that was opened again tells, by its ledger. Where it cannot be asked, the load stays in doubt.
        """
        import duckdb

        failed = self._session
        if failed is None or not failed.in_doubt or not is_out_of_memory(error):
            return None
        at = failed.at
        self._close()
        assert self._budget is not None
        self._session = session = self._connect(self._budget)
        try:
            rows = session.kept(job, plan)
        except duckdb.Error as other:
            self._close()
            raise WarehouseError(
                f"cannot tell whether plan {plan.id} is in {self}: its commit failed ({said(error)}), and so did a "
                f"look into the ledger: {said(other)}; the next run looks again"
            ) from other
        session.at = at  # for the message
        return rows

    def _give_back(self) -> None:
        """Let the open file give back what a load leaves in memory; where that fails, or it was open long, close it.

        What was loaded is durable in the log; the next load opens the file again, and is told of what is in the way.
        """
        with self._closing_what_fails():
            if self._session is not None:
                written = self._session.rest()
                self._loads += 1
                if written and self._loads >= LOADS_OPEN:
                    self._close()

    @contextmanager
    def _closing_what_fails(self) -> Iterator[None]:
        """Close the file where what only tidies up in it fails, after all that counts is durable in the log."""
        import duckdb

        try:
            yield
        except duckdb.Error:
            self._close()

    def _settle(self) -> None:
        """Make the names of the database's files durable, and drop what the page cache holds of them.

        DuckDB has a buffer pool of its own; what the kernel keeps besides is only a charge on the container.
        """
        file = self._file()
        wal = file.with_name(file.name + ".wal")
        with suppress(SinkError):
            sync_directory(file.parent)
            if wal.exists():
                page_cache.drop(wal)
        drop_cache(file)

    def _file(self) -> Path:
        """Return the file, wherever symbolic links lead to: DuckDB keeps its log beside that.

        Raises:
            WarehouseError: a link that another user made, in a folder that others write to, leads there.
        """
        try:
            return resolved(self.path)
        except OSError as error:
            raise WarehouseError(f"cannot open {self.path}: {said(error)}; {advice(error)}") from error

    @contextmanager
    def _using(self, what: str) -> Iterator[Session]:
        """Give the session, opened where it is not, while nobody closes it; and wrap what DuckDB raises."""
        with self._lock:
            if self._budget is None:
                raise WarehouseError(f"{self} is not open; call open() first")
            if self._session is not None and not self._session.in_place:
                self._close()
            if self._session is None:
                self._session = self._connect(self._budget)
            try:
                with self._wrapping(what):
                    yield self._session
            finally:
                self._rest()

    @contextmanager
    def _wrapping(self, what: str) -> Iterator[None]:
        """Wrap what DuckDB raises, and close the file where that leaves it in doubt."""
        import duckdb

        assert self._session is not None
        try:
            yield
        except (duckdb.Error, MemoryError) as error:
            session = self._session
            message = said(error)
            if session.at:
                what = f"load {session.at}"
                message = message.replace(session.at.name, session.at.part.sealed.uri)
            lasting = duckdb.FatalException, duckdb.InternalException, duckdb.IOException
            closed = session.in_doubt or isinstance(error, lasting)
            memory = is_out_of_memory(error)
            if closed:
                self._close()
            if closed and not memory:
                hint = "what was loaded before is safe; fix the cause and run again"
            elif "maximum_object_size" in message:
                hint = "a record is too large to be read: split it in a transform, or leave its largest field out"
            elif memory:
                hint = (
                    "nothing of this was kept, its records are pulled again: give the job more memory, or write "
                    "smaller parts (part_bytes); split large records in a transform; objects with hundreds of keys "
                    "take little as JSON: declare them so under [warehouse.schema]"
                )
            else:
                hint = "nothing of this was kept; fix that and run again"
            kind = WarehouseError
            if session.in_doubt:
                pass  # it may be in the table
            elif memory:
                kind = PartTooLarge
            elif session.at and isinstance(error, (duckdb.DataError, duckdb.InvalidInputException)):
                kind = SchemaMismatch  # of which record is not known
            raise kind(f"cannot {what} in {self}: {message}{free_space(self.path)}; {hint}") from error


def _is_conflict(error: BaseException) -> bool:
    """Say whether a transaction failed because another one was there first."""
    import duckdb

    cause = error.__cause__
    return isinstance(cause, duckdb.TransactionException) and not is_out_of_memory(cause)
