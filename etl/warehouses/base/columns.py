"""What a warehouse says of the columns of its table."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from etl.columns import ColumnChange, Columns
from etl.warehouses.base.warehouse import Job


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
