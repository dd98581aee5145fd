"""The gate before a BigQuery table: which records fit, what they are written as, which columns they need.

A load is refused as a whole for one row that does not fit, hours after the record was read. So each record is looked
at before it is encoded, with the rules of `values` for values, and these for the rest:

- a field without a column gets one, NULLABLE, or REPEATED for an array; see `growth`. As long as it held only
  null, [] or {} it has none, and is left out of what is written. [] and {} are left out, too, where the column has
  come to be another kind: a part that is written again takes the records that it took;
- a name that BigQuery forbids is made valid by the rule of `types`, within RECORDs, too. Two fields never share a
  column: a field that would become the column of another one does not fit, unless it is null;
- a name that differs from a column's in case only is that column, and written as it; two such names in one record
  do not fit;
- null for a REPEATED column is left out: BigQuery stores an empty array either way;
- null within an array, arrays within arrays, and arrays of objects without values do not fit;
- {} for a RECORD is a RECORD of nulls. A RECORD has at least one field, so {} alone makes no column. Nor has a table
  without columns a row: a record that holds nothing does not fit before another has brought some;
- REQUIRED does not take null, nor a missing field.

A RECORD that this part brought becomes JSON when it has more than `MOST_KEYS` fields: such names are data, and BigQuery
takes 10,000 columns ("Quotas and limits"). What the source knows of a field's type (Parquet) a new column is made of.

What a value needs is found out once for each shape of records (their names, and the types of their values): most
values need no look, and integers one comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from etl.columns import Columns
from etl.field_types import FieldTypes, no_types
from etl.formats import SchemaWidened
from etl.records import Record
from etl.schemas.growth import Node, columns_of, count, grown, narrowed, nodes_of
from etl.schemas.sourced import with_known
from etl.schemas.types import Unfit
from etl.shapes import MOST_KEYS
from etl.warehouses.base import Misfit
from etl.warehouses.bigquery.fields import Fields, Unknown
from etl.warehouses.bigquery.limits import MOST_COLUMNS
from etl.warehouses.bigquery.types import BIGQUERY, arrow_schema

if TYPE_CHECKING:
    import pyarrow


class RecordGate:
    """Lets the records of one part through that fit a BigQuery table; see `etl.warehouses.base.Gate`.

    Types of columns that this part brought widen with its values (INTEGER to FLOAT, to NUMERIC, to BIGNUMERIC);
    those that are known before never do.

    Args:
        columns: all that are known: the table's own, the declared and the pinned ones (`schema.known`).
        format: the name of the format that the records will be encoded in.
    """

    dialect = BIGQUERY

    def __init__(self, columns: Columns, *, format: str) -> None:
        self._typed = format == "parquet"
        self._nodes = nodes_of(columns)
        self._fields = Fields(self._nodes, self._typed)
        self._types: Callable[[], FieldTypes] = no_types

    @property
    def columns(self) -> Columns:
        """The table's columns as they must be for every record that was let through."""
        return columns_of(self._nodes)

    def admit(self, record: Record) -> Record:
        """Return `record` as it is to be encoded; a record that does not fit changes no column.

        Raises:
            Misfit: BigQuery would refuse it, or lose something of it.
            SchemaWidened: objects of this part have data as keys, and are JSON from now on; it must be begun again.
        """
        try:
            admitted = self._fields.fit(record)
        except Unknown:
            return self._learn(record)
        except Unfit as error:
            raise _misfit(error) from error
        if not admitted and not self._nodes:
            raise Misfit("it holds no value, and the table has no columns yet; declare a schema, or drop it")
        return admitted

    def arrow_schema(self) -> pyarrow.Schema:
        """Return the columns that are known now as Arrow's; JSON and INTERVAL, which Parquet cannot bring, are not."""
        return arrow_schema(self.columns)

    def expect_types(self, types: Callable[[], FieldTypes]) -> None:
        """Give new columns the types that the source knows; see `etl.warehouses.base.TakesFieldTypes`."""
        self._types = types

    def _learn(self, record: Record) -> Record:
        """Let a record through that needs more columns than there are, or wider ones."""
        if types := self._types():
            try:
                return self._grow(with_known(self._nodes, record, types, self.dialect, self._fits), record)
            except Unfit as error:
                raise _misfit(error) from error
        return self._grow(self._nodes, record)

    def _fits(self, node: Node, name: str, value: Any) -> bool:
        try:
            Fields((node,), self._typed).fit({name: value})
        except Unfit as error:
            return isinstance(error, Unknown)  # which only asks for more
        return True

    def _grow(self, before: tuple[Node, ...], record: Record) -> Record:
        try:
            nodes = grown(before, record, self.dialect)
            wide, paths = narrowed(nodes, MOST_KEYS)
            if paths:
                # What was written of them so far has the names of columns, and lacks what had none.
                self._nodes, self._fields = wide, Fields(wide, self._typed)
                raise SchemaWidened(
                    f"the objects in {', '.join(paths)} have more than {MOST_KEYS} different keys, which are data and "
                    'no columns: they are loaded as JSON. Declare them so: [warehouse.schema] … = "JSON"'
                )
            if count(nodes) > MOST_COLUMNS:
                raise Unfit(
                    f"the table would have more than {MOST_COLUMNS:,} columns; declare objects whose names are data "
                    "as JSON; where it is the records' own fields that are, put them into one field by a transform, or "
                    'take each as a row: records = "*" in the source'
                )
            fields = Fields(nodes, self._typed, self._fields)
            admitted = fields.fit(record)
        except Unfit as error:
            raise _misfit(error) from error
        self._nodes, self._fields = nodes, fields
        return admitted


def _misfit(error: Unfit) -> Misfit:
    path = "".join(step if step.startswith("[") else f".{step}" for step in error.path).removeprefix(".")
    return Misfit(f"column {path}: {error.reason}" if path else error.reason)
