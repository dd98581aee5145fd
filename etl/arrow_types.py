"""Arrow's types for the types that a source knows: what columns of Parquet parts are written with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from etl.field_types import FieldType

if TYPE_CHECKING:
    import pyarrow


def arrow_type(type_: FieldType) -> pyarrow.DataType | None:
    """Return the type of a column for values of a field type; None: values tell better."""
    import pyarrow as arrow

    unit = "ns" if type_.nanoseconds else "us"
    if type_.name == "decimal":
        make = arrow.decimal128 if type_.precision <= 38 else arrow.decimal256
        return make(type_.precision, type_.scale) if type_.precision <= 76 else None
    if type_.name == "timestamp":
        # What has a zone has microseconds: DuckDB would cut off the rest.
        return arrow.timestamp("us", "UTC") if type_.zone else arrow.timestamp(unit)
    if type_.element is not None:
        element = arrow_type(type_.element)
        return None if element is None else arrow.list_(element)
    if type_.name == "record":
        fields = {name: arrow_type(field) for name, field in type_.fields.items()}
        return None if not fields or None in fields.values() else arrow.struct(list(fields.items()))
    plain = {
        "boolean": arrow.bool_,
        "integer": arrow.int64,
        "unsigned": arrow.uint64,
        "float": arrow.float64,
        "string": arrow.string,
        "bytes": arrow.binary,
        "date": arrow.date32,
        "interval": arrow.string,
        "uuid": arrow.string,
    }
    if type_.name == "time":
        return arrow.time64(unit)
    return plain[type_.name]() if type_.name in plain else None


def is_exact_time(type_: FieldType) -> bool:
    """Say whether values of a type may be text because Python has no nanoseconds, and are times to Arrow."""
    return type_.nanoseconds and not type_.zone and type_.name in ("time", "timestamp")


def with_times(array: pyarrow.StructArray, types: Mapping[str, FieldType]) -> pyarrow.StructArray:
    """Return an array with times and timestamps where the records have text for them.

    Raises:
        pyarrow.ArrowException: a text is no time.
    """
    import pyarrow as arrow
    import pyarrow.compute

    exact = {name for name, type_ in types.items() if is_exact_time(type_)}
    text = exact and [
        field.name for field in array.type if field.name in exact and arrow.types.is_string(field.type)
    ]
    if not text:
        return array
    columns = {field.name: array.field(field.name) for field in array.type}
    for name in text:
        moments = columns[name]
        if types[name].name == "time":  # Arrow casts no text to it
            day = arrow.compute.binary_join_element_wise("1970-01-01", moments, "T")
            moments = day.cast(arrow.timestamp("ns"))
        columns[name] = moments.cast(arrow_type(types[name]))
    return arrow.StructArray.from_arrays(list(columns.values()), list(columns))


def typed(field: pyarrow.Field, type_: FieldType) -> pyarrow.Field:
    """Return a field that was inferred from values with the type that the source knows, or a wider one.

    Where its values are of another kind by now, it stays as it is.
    """
    return field.with_type(_typed(field.type, type_))


def _typed(found: pyarrow.DataType, type_: FieldType) -> pyarrow.DataType:
    import pyarrow as arrow
    from pyarrow import types

    if types.is_struct(found) and type_.name == "record":
        return arrow.struct(
            [
                typed(field, type_.fields[field.name]) if field.name in type_.fields else field
                for field in found
            ]
        )
    if types.is_list(found) and type_.element is not None:
        return arrow.list_(_typed(found.value_type, type_.element))
    known = arrow_type(type_)
    if known is None or types.is_null(found):
        return found if known is None else known
    if types.is_decimal(found) and types.is_decimal(known):
        one, other = (arrow.schema([("", each)]) for each in (found, known))
        return arrow.unify_schemas([one, other], promote_options="permissive").field(0).type
    if types.is_timestamp(found) and types.is_timestamp(known) and (found.tz is None) == (known.tz is None):
        return known
    if types.is_time(found) and types.is_time(known):
        return known
    return known if types.is_uint64(known) and types.is_integer(found) else found
