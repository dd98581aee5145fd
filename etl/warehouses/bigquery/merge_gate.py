"""The gate before a table that is merged into: it writes into each record where it stands in its plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from etl.columns import Columns
from etl.field_types import FieldTypes
from etl.records import Record
from etl.schemas.growth import plain
from etl.schemas.types import Unfit
from etl.warehouses.base import Gate, Misfit, TakesFieldTypes
from etl.warehouses.bigquery.merge import ORDER, Merge, column_of
from etl.warehouses.bigquery.types import BIGQUERY, arrow_schema

if TYPE_CHECKING:
    import pyarrow

# A part has fewer records than that: 2**32; and there are fewer than 2**31 parts, so that an order is an INT64.
RECORDS = 1 << 32


class MergeGate:
    """Adds to each record that goes through a gate where it stands in its plan.

    Args:
        gate: the table's own.
        merge: how rows replace each other.
        sequence: how many parts there are before this one.

    Raises:
        ConfigError: a column that is known cannot be a key.
    """

    dialect = BIGQUERY

    def __init__(self, gate: Gate, merge: Merge, sequence: int) -> None:
        columns = gate.columns
        merge.check(columns)
        self._gate = gate
        # A key that has no column yet must not get one that cannot be compared.
        self._new = [name for name in merge.key if column_of(columns, name) is None]
        self._order = (sequence + 1) * RECORDS

    @property
    def columns(self) -> Columns:
        """The table's columns; see `etl.warehouses.base.Gate`."""
        return self._gate.columns

    def expect_types(self, types: Callable[[], FieldTypes]) -> None:
        """Give new columns the types that the source knows; see `etl.warehouses.base.TakesFieldTypes`."""
        if isinstance(self._gate, TakesFieldTypes):
            self._gate.expect_types(types)

    def admit(self, record: Record) -> Record:
        """Return `record` as it is to be encoded, with its place in the order.

        Raises:
            Misfit: the warehouse would refuse it.
        """
        if ORDER.name in record:
            raise Misfit(f"{ORDER.name} is the name of a column that a merge adds; rename the field")
        for name in self._new:
            self._check(name, record.get(name))
        admitted = self._gate.admit(record)
        self._order += 1
        return {**admitted, ORDER.name: self._order}

    def arrow_schema(self) -> pyarrow.Schema:
        """Return the columns that are known now as Arrow's, and that of the order."""
        return self._gate.arrow_schema().append(arrow_schema((ORDER,)).field(0))

    def _check(self, name: str, value: Any) -> None:
        try:
            kind = type(plain(value))
        except Unfit:
            return  # the gate says it better
        if kind in (dict, list, float):
            raise Misfit(
                f"column {name}: a {kind.__name__} cannot be a key, because such values cannot be compared; make it "
                "text or an integer" + (", or declare the column as NUMERIC" if kind is float else "")
            )
