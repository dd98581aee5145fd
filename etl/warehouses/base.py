"""The port of a warehouse: where plans are loaded."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec

from etl.checkpoint import Plan, State
from etl.memory import Budget


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Whose plan it is: what a ledger row needs besides the plan itself.

    Attributes:
        pipeline: the job's name.
        fingerprint: the job's definition, as in the checkpoint.
    """

    pipeline: str
    fingerprint: dict[str, str]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What a warehouse's own ledger knows of a job: how far it is, whatever the checkpoint says.

    Attributes:
        fingerprint: the definition of the job that loaded last.
        state: the job's state after the last plan that was loaded.
        loads: how many plans were loaded.
    """

    fingerprint: dict[str, str]
    state: State
    loads: int


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
            The number of rows that the plan added; equal to `plan.records`.

        Raises:
            SchemaMismatch: a value does not fit its column; says part, record, column and value.
            LoadMismatch: another number of rows would have been added; nothing was.
            WarehouseError: anything else; nothing was added.
        """

    def close(self) -> None:
        """Disconnect. May be repeated."""


@runtime_checkable
class KeepsLedger(Protocol):
    """A warehouse that notes each plan in the transaction that loads it.

    Its ledger is the truth about what is loaded: a checkpoint that is behind it or ahead of it follows it.
    """

    def latest(self, pipeline: str) -> Entry | None:
        """Return how far the warehouse is with `pipeline`; None: nothing of it is loaded."""
