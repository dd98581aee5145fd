"""Which records fit the table, told before they are loaded: one by one, or part by part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from etl.checkpoint import Part
from etl.columns import Columns
from etl.field_types import FieldTypes
from etl.partitions import Touched
from etl.records import Record
from etl.warehouses.base.warehouse import Job

if TYPE_CHECKING:
    import pyarrow


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
