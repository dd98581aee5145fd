"""The gate before a table with partitions: it counts those that the records of a part belong to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from etl.columns import Columns
from etl.field_types import FieldTypes
from etl.partitions import Touched
from etl.records import Record
from etl.warehouses.base import Gate, Misfit, TakesFieldTypes
from etl.warehouses.bigquery.layout import Partitioning
from etl.warehouses.bigquery.limits import MOST_PARTITIONS
from etl.warehouses.bigquery.types import BIGQUERY, folded

if TYPE_CHECKING:
    import pyarrow

# A part that touches so many partitions takes no more records; what a transform still has of the last one may follow.
FULL = MOST_PARTITIONS * 3 // 4

# Texts whose partition is remembered: those of one hour have one beginning.
REMEMBERED = 10_000


class PartitionGate:
    """Counts the partitions of the records that go through a gate; see `etl.warehouses.base.SeesPartitions`.

    Args:
        gate: the table's own, or that of a merge.
        partitioning: the table's partitions, by a column.
    """

    dialect = BIGQUERY

    def __init__(self, gate: Gate, partitioning: Partitioning) -> None:
        self._gate = gate
        self._partitioning = partitioning
        self._name = partitioning.name
        self._numbers: set[int] = set()
        self._remembered: dict[str, int] = {}

    @property
    def columns(self) -> Columns:
        """The table's columns; see `etl.warehouses.base.Gate`."""
        return self._gate.columns

    @property
    def partitions(self) -> Touched:
        """The partitions of the records that were let through."""
        return Touched.of(self._numbers)

    @property
    def full(self) -> bool:
        """Whether there are so many that the part should end."""
        return len(self._numbers) >= FULL

    def expect_types(self, types: Callable[[], FieldTypes]) -> None:
        """Give new columns the types that the source knows; see `etl.warehouses.base.TakesFieldTypes`."""
        if isinstance(self._gate, TakesFieldTypes):
            self._gate.expect_types(types)

    def admit(self, record: Record) -> Record:
        """Return `record` as it is to be encoded.

        Raises:
            Misfit: the warehouse would refuse it, or one job could not write to so many partitions.
        """
        admitted = self._gate.admit(record)
        number = self._number(admitted)
        if number not in self._numbers:
            if len(self._numbers) >= MOST_PARTITIONS:
                raise Misfit(
                    f"column {self._name}: what is made of one record of the source has more than {MOST_PARTITIONS:,} "
                    "partitions, and a job may write to no more: make larger partitions, or cluster the table instead"
                )
            self._numbers.add(number)
        return admitted

    def arrow_schema(self) -> pyarrow.Schema:
        """Return the columns that are known now as Arrow's."""
        return self._gate.arrow_schema()

    def _number(self, admitted: Record) -> int:
        value: Any = admitted.get(self._name)
        if value is None:
            name = next((name for name in admitted if folded(name) == folded(self._name)), self._name)
            value = admitted.get(name)
        if not isinstance(value, str) or self._partitioning.unit == "RANGE":
            return self._partitioning.number(value)
        # Texts with an offset are not told apart by their beginning.
        key = value if "+" in value[10:] or "-" in value[10:] else value[:13]
        number = self._remembered.get(key)
        if number is None:
            number = self._partitioning.number(value)
            if len(self._remembered) >= REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = number
        return number
