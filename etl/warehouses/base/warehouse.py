"""The port of a warehouse: where plans are loaded; and what it may remember of them by itself."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec

from etl.checkpoint import Checkpoint, Plan, State
from etl.columns import Columns
from etl.memory import Budget


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
class MergesByKey(Protocol):
    """A warehouse that may have a key by which rows replace each other.

    Attributes:
        key: the columns of the key; empty: rows are added as they come.
        updated_at: the column that says which of two rows is the younger one; None: the later one is.
    """

    key: tuple[str, ...]
    updated_at: str | None
