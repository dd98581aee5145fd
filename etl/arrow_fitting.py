"""Arrays as columns of one schema: each with the type that the schema has, absent ones as nulls."""

from __future__ import annotations

from array import array as numbers_of
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from etl.arrow_schemas import has_empty_object
from etl.records import Record, describe

if TYPE_CHECKING:
    import pyarrow

# Takes a record, the reason why it is refused, and its number in the source.
RefuseNumbered = Callable[[Record, str, int], None]


def fitted(
    array: pyarrow.StructArray, numbers: numbers_of[int], schema: pyarrow.Schema, refuse: RefuseNumbered
) -> pyarrow.RecordBatch:
    """Return the columns of `array` in the order and the types of `schema`.

    Args:
        array: the records.
        numbers: of each record, its number in the source; those of records that are refused are taken out.
        schema: may be wider than their type.
        refuse: takes each record with a value that a wider type does not hold, as a double most integers past 2**53.
    """
    import pyarrow as arrow

    try:
        return _batch(array, schema)
    except MemoryError:
        raise
    except Exception as error:
        if len(array) == 1:
            number = numbers.pop()
            refuse(array.to_pylist()[0], describe(error), number)
            return _no_rows(schema)
    middle = len(array) // 2
    first, second = numbers[:middle], numbers[middle:]
    batches = [
        fitted(array.slice(0, middle), first, schema, refuse),
        fitted(array.slice(middle), second, schema, refuse),
    ]
    numbers[:] = first + second
    return arrow.concat_batches(batches)


def _no_rows(schema: pyarrow.Schema) -> pyarrow.RecordBatch:
    import pyarrow as arrow

    return arrow.RecordBatch.from_arrays([arrow.nulls(0, field.type) for field in schema], schema=schema)


def _batch(array: pyarrow.StructArray, schema: pyarrow.Schema) -> pyarrow.RecordBatch:
    import pyarrow as arrow

    present = {field.name for field in array.type}
    columns = []
    for field in schema:
        column = array.field(field.name) if field.name in present else arrow.nulls(len(array))
        columns.append(_cast(column, field.type))
    return arrow.RecordBatch.from_arrays(columns, schema=schema)


def _cast(column: pyarrow.Array, type_: pyarrow.DataType) -> pyarrow.Array:
    import pyarrow as arrow

    if _holds_required(type_):
        # A cast fills an absent object with nulls inside, which its fields must not have.
        return arrow.array(column.to_pylist(), type_)
    if has_empty_object(column.type):
        column = _without_empty(column, type_)
    if column.type.equals(type_):
        return column  # pyarrow 26 damages [{}, {"a": None}] when it casts it to its own type
    try:
        return column.cast(type_)
    except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError):
        # An integer is no decimal(2, 1) to it, whatever its value.
        return arrow.array(column.to_pylist(), type_)


def _without_empty(column: pyarrow.Array, type_: pyarrow.DataType) -> pyarrow.Array:
    """Return a column with the type's fields, or null, in place of objects that have no fields."""
    import pyarrow as arrow
    import pyarrow.compute

    types = arrow.types
    if not has_empty_object(column.type):
        return column
    if types.is_struct(column.type):
        if not types.is_struct(type_):
            return column if column.type.num_fields else arrow.nulls(len(column))
        if not column.type.num_fields:
            absent = [arrow.nulls(len(column), field.type) for field in type_]
            return arrow.StructArray.from_arrays(absent, fields=list(type_), mask=column.is_null())
        there = {field.name: field.type for field in type_}
        fields: list[Any] = [
            _without_empty(column.field(number), there.get(field.name, arrow.null()))
            for number, field in enumerate(column.type)
        ]
        names = [field.name for field in column.type]
        return arrow.StructArray.from_arrays(fields, names, mask=column.is_null())
    if not types.is_list(type_):
        return column
    lengths = arrow.compute.list_value_length(column).fill_null(0)
    ends = arrow.compute.cumulative_sum(lengths).cast(arrow.int32())
    offsets = arrow.concat_arrays([arrow.array([0], arrow.int32()), ends])
    items = _without_empty(column.flatten(), type_.value_type)
    return arrow.ListArray.from_arrays(offsets, items, mask=column.is_null())


def _holds_required(type_: pyarrow.DataType) -> bool:
    """Say whether a field within a type must not be null."""
    import pyarrow as arrow

    if arrow.types.is_list(type_):
        return _holds_required(type_.value_type)
    if not arrow.types.is_struct(type_):
        return False
    return any(not field.nullable or _holds_required(field.type) for field in type_)
