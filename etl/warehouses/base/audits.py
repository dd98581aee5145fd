"""What a warehouse remembers of the loads of a job, for people who compare it with the checkpoint."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec

from etl.warehouses.base.warehouse import Job


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
