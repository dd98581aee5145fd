"""Warehouses whose loads are jobs on a server, with quotas and limits, which read parts from where they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from etl.checkpoint import Part, Plan
from etl.nesting import Extent
from etl.warehouses.base.warehouse import Job


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


class Holding(NamedTuple):
    """How many bytes of records, not compressed, a warehouse holds in memory while it loads a part.

    Attributes:
        rows: how many records it holds at once.
        at_once: how many bytes so many records, one after the other, may have.
        whole: how many bytes all records of a part may have.
    """

    rows: int
    at_once: int
    whole: int


@runtime_checkable
class HoldsRecords(Protocol):
    """A warehouse that holds the records of a part in memory while it loads them, however small the part is."""

    def most_held(self) -> Holding:
        """Return how much a part may have; call it after `open`."""

    def memory_for(self, held_bytes: int) -> int:
        """Return how much memory a job needs to load so many bytes of records at once, in bytes."""


@runtime_checkable
class LimitsNesting(Protocol):
    """A warehouse that takes records of so many fields, and values nested so deep."""

    def most_nested(self, format: str) -> Extent:
        """Return how far a record may go in a format; call it after `open`."""


@runtime_checkable
class ReadsPlaces(Protocol):
    """A warehouse that reads parts from where they are, which it cannot do from everywhere."""

    def check_place(self, uri: str) -> None:
        """Make sure that parts below `uri` can be loaded from there, as far as that can be seen; call it after `open`.

        Raises:
            WarehouseError: they cannot.
        """
