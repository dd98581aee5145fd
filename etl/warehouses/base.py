"""The port of a warehouse: where plans are loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import msgspec

from etl.checkpoint import Checkpoint, Part, Plan, State
from etl.columns import ColumnChange, Columns
from etl.field_types import FieldTypes
from etl.memory import Budget
from etl.partitions import Touched
from etl.records import Record

if TYPE_CHECKING:
    import pyarrow


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Whose plan it is: what a ledger row needs besides the plan itself.

    Attributes:
        pipeline: the job's name.
        fingerprint: the job's definition, as in the checkpoint.
        columns: what the checkpoint has pinned; None: nothing yet, or the warehouse looks for itself.
        life: the checkpoint's.
        refresh: the refresh that loads go into, as letters, digits and dashes (see `Refreshes`); empty: into the
            table itself.
        sequence: how many parts are committed: the number of the last one.
        rewinds: how often the job gave parts up that were not loaded.
        loads: how many plans the checkpoint says are loaded.
        plans: the ids of those that wait for their load, in order.
        reached: the number of the last part that is loaded, or in one of these.
    """

    pipeline: str
    fingerprint: dict[str, str]
    columns: Columns | None = None
    life: str = ""
    refresh: str = ""
    sequence: int = 0
    rewinds: int = 0
    loads: int = 0
    plans: tuple[str, ...] = ()
    reached: int = 0

    @classmethod
    def of(cls, document: Checkpoint, fingerprint: dict[str, str]) -> Job:
        """Take from a checkpoint what a load must know of its job."""
        return cls(
            pipeline=document.pipeline,
            fingerprint=fingerprint,
            columns=document.columns,
            life=document.life,
            refresh=document.refresh.id if document.refresh else "",
            sequence=document.state.sequence,
            rewinds=document.rewinds,
            loads=document.loads,
            plans=tuple(plan.id for plan in document.plans),
            reached=(document.plans[-1].after if document.plans else document.loaded).sequence,
        )


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What a warehouse's own ledger knows of a job: how far it is, whatever the checkpoint says.

    Attributes:
        fingerprint: the definition of the job that loaded last.
        state: the job's state after the last plan that was loaded.
        loads: how many plans were loaded.
        refreshed: whether the refresh that was asked about has taken the table's place.
    """

    fingerprint: dict[str, str]
    state: State
    loads: int
    refreshed: bool = False


@runtime_checkable
class Warehouse(Protocol):
    """Where plans are loaded. Called from one thread at a time, not always the same one.

    Attributes:
        destination: the table, the disposition and every option on which the effect of a load depends, as
            one stable text: it is part of each plan's id. No secrets.
        formats: the formats it can load.
    """

    destination: str
    formats: frozenset[str]

    def open(self, budget: Budget) -> None:
        """Connect; take no more memory and threads than `budget` says.

        Raises:
            WarehouseError: it cannot be reached, or another process has it.
        """

    def load(self, job: Job, plan: Plan) -> int:
        """Load all parts of `plan` in one step that happens wholly or not at all; durable on return.

        A plan whose id was loaded before is not loaded again; its rows then are returned. So it may be
        repeated after any error and any crash.

        Returns:
            The number of records that it took, each of which became a row, or was merged into one (see `MergesByKey`);
            equal to `plan.records`.

        Raises:
            SchemaMismatch: a value does not fit its column; says part, record, column and value.
            LoadMismatch: another number of rows than the plan's was added, or would have been; the message says which.
            LoadFailed: the plan cannot be loaded as it is, whenever it is tried; nothing was added.
            Fenced: another process has given the plan up, so that it must not be loaded.
            WarehouseError: anything else; nothing was added.
        """

    def close(self) -> None:
        """Disconnect. May be repeated."""


@runtime_checkable
class KeepsLedger(Protocol):
    """A warehouse that notes each plan in the transaction that loads it.

    Its ledger is the truth about what is loaded: a checkpoint that is behind it or ahead of it follows it.
    """

    def latest(self, job: Job) -> Entry | None:
        """Return how far the warehouse is with a job, in its refresh if it has one; None: nothing of it is loaded.

        Of a refresh that has taken the table's place: how far it is with the table, and that this is so.

        Raises:
            WarehouseError: the ledger cannot be read, or is lost, and the table holds what may be the job's.
        """


@runtime_checkable
class HasIdentity(Protocol):
    """A warehouse whose database is known by an id that stands in it, wherever the database is.

    A copy has the id of the original. Each of them has a ledger of its own, so that what a job loads into one is there
    once, whichever of them it goes on with.
    """

    def identity(self, *, draw: bool) -> str:
        """Return the database's id, durable on return; call it after `open`.

        Args:
            draw: whether it gets one where it has none; else that is an empty text, and nothing is changed.

        Raises:
            WarehouseError: it cannot be read or written.
        """


@runtime_checkable
class Refreshes(Protocol):
    """A warehouse that can fill a new table beside the old one, and put it in its place in one step.

    While `Job.refresh` is set, `load`, `settle`, `latest`, `look_back`, `gate` and `audit` are about the new table. It
    belongs to one pipeline and one refresh, and is made by the first load. Readers of the table see its old content
    until `finish_refresh`.

    Attributes:
        disposition: what a run does with what the table holds: `append` adds to it, `merge` adds rows and changes those
            that have the same key, `replace` refreshes it with every run.
    """

    disposition: str

    def begin_refresh(self, job: Job) -> None:
        """Make ready for the refresh `job.refresh`, into which nothing was loaded yet; call it after `open`.

        Tables of this pipeline's other refreshes, which were given up, are deleted. May be repeated.

        Raises:
            WarehouseError: it cannot be made ready now.
        """

    def finish_refresh(self, job: Job) -> None:
        """Put the new table in the place of the old one, in one step that happens wholly or not at all.

        Durable on return. May be repeated after any error and any crash: what was done is not done again, also not by
        a process that is half dead and comes late. Where nothing was loaded, the table is emptied, if there is one.
        From then on `latest` and `audit` find the refresh's loads as those of the table itself.

        Raises:
            Fenced: a later refresh has taken this one's place.
            RefreshLost: what was loaded is gone, or does not go together with what else is there, so that it must be
                loaded again.
            WarehouseError: it was not done, or nobody knows; to be repeated.
        """


@runtime_checkable
class ChecksRefreshes(Protocol):
    """A warehouse that knows before a refresh whether the table can be replaced without losing what it is."""

    def check_refresh(self, job: Job) -> None:
        """Make sure that the table can be refreshed; call it after `open`, before the refresh is noted anywhere.

        Args:
            job: which is in no refresh, or in one that is given up for the one that is to begin.

        Raises:
            WarehouseError: it cannot; the message says what would be lost, and what to do next. Nothing was changed.
        """


@runtime_checkable
class MergesByKey(Protocol):
    """A warehouse that may have a key by which rows replace each other.

    Attributes:
        key: the columns of the key; empty: rows are added as they come.
        updated_at: the column that says which of two rows is the younger one; None: the later one is.
    """

    key: tuple[str, ...]
    updated_at: str | None


@runtime_checkable
class LoadsByJobs(Protocol):
    """A warehouse without a ledger, whose loads are jobs on a server: they go on without this process.

    A plan's job has an id that follows from the plan, so that a process that submits it can only submit the same one.

    Attributes:
        daily_operations: how many jobs may change the table within 24 hours, failed ones too.
        operations: how many such jobs this object has submitted so far.
    """

    daily_operations: int
    operations: int

    @property
    def operations_a_load(self) -> int:
        """How many of them a load is: 1; or 0, where it does not count."""

    def most_parts(self, format: str, parts: Sequence[Part]) -> int:
        """Return how many of these parts, from the first, one job can take; at least one.

        Args:
            format: the name of their format.
            parts: sealed parts, in order; at least one.
        """

    def look_back(self, job: Job, *, adopt: bool = False) -> str | None:
        """Make sure that the table can be what the checkpoint says; call it after `open`.

        There is no ledger to follow: where the two do not fit, or nobody can tell, only a person knows what is meant.

        Args:
            job: whose table it is, and how many plans its checkpoint says are loaded.
            adopt: a person says that the table is right as it is: what the checkpoint does not have is to be loaded,
                whatever the table holds. That is noted, durably: the next run needs not be told.

        Returns:
            What was overruled by `adopt`; None: nothing.

        Raises:
            WarehouseError: plans were loaded, and there is no table; or the table holds what the checkpoint does not
                know of, or may do so: what the job loaded before its checkpoint was lost, or put back from a copy.
        """

    def settle(self, job: Job, plan: Plan) -> int | None:
        """Find out what became of `plan`, which is to be given up, and make sure that it stays so.

        Waits for a job that is under way. If there is none, the id that a job would have is used up, so that a
        half-dead process can submit it no more. May be repeated, and after a crash.

        Returns:
            The rows that it added: it is loaded; None: it is not, and never will be.

        Raises:
            WarehouseError: it cannot be found out now; nothing was given up.
        """

    def leave(self) -> None:
        """Let a `load` that waits for its job raise `StillLoading`. From any thread; may be repeated."""


@runtime_checkable
class ModifiesPartitions(Protocol):
    """A warehouse whose tables have partitions, of which a day's loads may change so many."""

    @property
    def daily_modifications(self) -> int | None:
        """How many partitions the loads of 24 hours may change, each counted once a load; None: there is no limit.

        It is known once the table was looked at.
        """

    def modifications(self, parts: Sequence[Part]) -> int:
        """Return how many partitions a load of these parts changes, at most."""


@runtime_checkable
class LimitsSizes(Protocol):
    """A warehouse that takes parts and records up to a size."""

    def most_part_bytes(self, format: str) -> int | None:
        """Return at how many bytes a part in a format must be cut; None: there is no limit."""

    def most_row_bytes(self, format: str) -> int | None:
        """Return how many bytes a record may have in a format; None: there is no limit that its lines would show."""


@runtime_checkable
class ReadsPlaces(Protocol):
    """A warehouse that reads parts from where they are, which it cannot do from everywhere."""

    def check_place(self, uri: str) -> None:
        """Make sure that parts below `uri` can be loaded from there, as far as that can be seen; call it after `open`.

        Raises:
            WarehouseError: they cannot.
        """


class Misfit(Exception):
    """A record that the warehouse would refuse; says which column, what was found, and what it takes."""


class Gate(Protocol):
    """Lets the records of one part through that fit the table, and learns the columns that they need."""

    @property
    def columns(self) -> Columns:
        """The table's columns as they must be for every record that was let through."""

    def admit(self, record: Record) -> Record:
        """Return `record` as it is to be encoded: itself, or a changed copy that means the same.

        Raises:
            Misfit: the warehouse would refuse it.
        """

    def arrow_schema(self) -> pyarrow.Schema:
        """Return the columns that are known now as Arrow's, for formats that have types of their own."""


@runtime_checkable
class SeesPartitions(Protocol):
    """A gate that knows which partitions of the table its records belong to."""

    @property
    def partitions(self) -> Touched:
        """The partitions of the records that were let through."""

    @property
    def full(self) -> bool:
        """Whether there are so many that the part should end; some records may still come."""


@runtime_checkable
class TakesFieldTypes(Protocol):
    """A gate that gives new columns the types that the source knows."""

    def expect_types(self, types: Callable[[], FieldTypes]) -> None:
        """Give new columns these types, where the values are of that kind.

        Args:
            types: returns what the source knows by now.
        """


@runtime_checkable
class ChecksRecords(Protocol):
    """A warehouse that knows before a load which records it would refuse."""

    def gate(self, job: Job, format: str) -> Gate:
        """Make the gate for one part; call it after `open`, on any thread.

        Args:
            job: whose part it is; its `columns` are what the checkpoint has pinned, None: this is the first part.
            format: the name of the format that the records will be encoded in.
        """


@runtime_checkable
class TriesParts(Protocol):
    """A warehouse that says of a part, before it is sealed, which of its records a load would refuse."""

    def try_part(self, job: Job, format: str, part: Part, data: bytes) -> Mapping[int, str]:
        """Load a part and undo that; call it after `open`, while no load is under way. Nothing of it is durable.

        Args:
            job: whose part it is; `Job.refresh` is minded as it is by `load`.
            format: the name of the part's format.
            part: what is known of the part; where it is, `part.sealed` need not say. One without records shows whether
                the table takes any.
            data: its bytes.

        Returns:
            The numbers of records that would be refused, from 1 on, and why; where two cannot both be had, the later
            one. There may be more of them, once these are left out. Empty: a load of the same bytes takes all of them,
            as long as nobody else changes the table.

        Raises:
            SchemaMismatch: the records do not fit, and it cannot be told which of them.
            WarehouseError: no record is to blame.
        """


@runtime_checkable
class TellsChanges(Protocol):
    """A warehouse that can say what its loads did to the columns of a table that was there."""

    table: str
    """The table, for messages."""

    def changes(self) -> tuple[ColumnChange, ...]:
        """Return what loads of this object have changed since it was last asked, in the order of parts.

        Call it when none is under way.
        """


@runtime_checkable
class KnowsColumns(Protocol):
    """A warehouse that can say which columns its table has."""

    def columns(self, job: Job) -> Columns | None:
        """Return the columns that the table has and those that the definition declares; call it after `open`.

        Names are exact, with their nesting; a type that is not known is STRING or JSON, and of a column of JSON
        anything may be held.

        Args:
            job: of a job in a refresh, the columns are those of the new table.

        Returns:
            The columns; None: there is no table yet, and nothing is declared.

        Raises:
            WarehouseError: it cannot be found out now.
        """


@runtime_checkable
class Declares(Protocol):
    """A warehouse whose definition may declare columns, so that a source can leave their values as they stand."""

    @property
    def declares(self) -> bool:
        """Whether the definition declares any."""

    def declared(self, field: str) -> str | None:
        """Return the type that the definition declares for the column of a field; before `open`, too.

        Args:
            field: its name, with dots where it is one of an object.

        Returns:
            The type, as `etl.columns.Column` has it; None: none is declared.
        """


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """One load, as the warehouse remembers it.

    Attributes:
        plan: the plan's id.
        job: what to look for in the warehouse: the job's id, or the ledger's row.
        last: the number of the plan's last part.
        rows: how many it added.
        first: the number of the plan's first part; None: the warehouse does not remember.
    """

    plan: str
    job: str
    last: int
    rows: int
    first: int | None = None


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What a warehouse remembers of a job, and what its table holds.

    Attributes:
        loads: the job's successful loads into its table, oldest first; the warehouse may have forgotten old ones.
        loads_ever: how many there were, if the warehouse counts; else None.
        rows_ever: how many rows they added, if the warehouse counts; else None: the sum over `loads`.
        other_rows: how many rows loads of other jobs added to the table, as far as the warehouse remembers.
        former_rows: how many rows this very job added before its checkpoint was lost, or begun again.
        table: the table, for messages.
        table_rows: how many rows it holds; None: there is no table.
        uncounted: why it is not known how many rows it holds, whatever `table_rows` says; empty: it is known.
        merged: whether rows replace each other, so that the table may hold fewer than were loaded.
        hidden: why there may be loads, of this job or of others, that the warehouse does not tell of, and what would
            tell; empty: there are none.
        contradiction: in what the table's own mark contradicts the checkpoint; empty: in nothing.
    """

    loads: tuple[Loaded, ...]
    loads_ever: int | None
    rows_ever: int | None
    other_rows: int
    former_rows: int = 0
    table: str
    table_rows: int | None
    merged: bool = False
    uncounted: str = ""
    hidden: str = ""
    contradiction: str = ""


@runtime_checkable
class Audits(Protocol):
    """A warehouse that can be asked what it has of a job."""

    def audit(self, job: Job) -> Audit:
        """Look everything up; changes nothing. Call it after `open`.

        Args:
            job: what a job of that name loaded before it was begun again (see `life`) is another job's. Of a job that
                was refreshed, what counts is what was loaded since that refresh began.

        Raises:
            WarehouseError: it cannot be read.
        """
