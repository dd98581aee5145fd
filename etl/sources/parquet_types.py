"""What Arrow's types become in records: as types of fields, and as the types that values are read with."""

from __future__ import annotations

from typing import Any

from etl.field_types import FieldType, FieldTypes


def field_types(fields: Any) -> FieldTypes:
    """Return the types of the fields of records that are read of columns, or of the fields of a struct."""
    return {field.name: field_type(field.type) for field in fields}


def field_type(type_: Any) -> FieldType:
    """Return the type of the values that are read of an Arrow type."""
    from pyarrow import types

    if types.is_dictionary(type_):
        return field_type(type_.value_type)
    if types.is_map(type_):
        pair = {"key": field_type(type_.key_type), "value": field_type(type_.item_type)}
        return FieldType(name="list", element=FieldType(name="record", fields=pair))
    if types.is_struct(type_):
        return FieldType(name="record", fields=field_types(type_))
    if (
        types.is_list(type_)
        or types.is_large_list(type_)
        or types.is_fixed_size_list(type_)
        or types.is_list_view(type_)
        or types.is_large_list_view(type_)
    ):
        return FieldType(name="list", element=field_type(type_.value_type))
    if types.is_decimal(type_):
        # With a scale below zero the last digits before the point are zeros.
        return FieldType(
            name="decimal", precision=type_.precision - min(type_.scale, 0), scale=max(type_.scale, 0)
        )
    if types.is_timestamp(type_):
        return FieldType(name="timestamp", nanoseconds=type_.unit == "ns", zone=type_.tz is not None)
    if types.is_time(type_):
        return FieldType(name="time", nanoseconds=type_.unit == "ns")
    if getattr(type_, "extension_name", None) == "arrow.uuid":
        return FieldType(name="uuid")
    if hasattr(type_, "storage_type"):
        return field_type(type_.storage_type)
    names = (
        (types.is_boolean, "boolean"),
        (types.is_uint64, "unsigned"),
        (types.is_integer, "integer"),
        (types.is_floating, "float"),
        (types.is_date, "date"),
        (types.is_duration, "interval"),
        (types.is_null, "null"),
        (types.is_string, "string"),
        (types.is_large_string, "string"),
        (types.is_string_view, "string"),
        (types.is_binary, "bytes"),
        (types.is_large_binary, "bytes"),
        (types.is_binary_view, "bytes"),
        (types.is_fixed_size_binary, "bytes"),
    )
    return FieldType(name=next((name for is_one, name in names if is_one(type_)), "mixed"))


def readable(column: Any) -> Any:
    """Return a column with values that Python has, each as exact as it was.

    A map is a list of objects with `key` and `value`, as BigQuery reads it ("Loading Parquet data", type conversions):
    its keys need not be text, and are data. Nanoseconds are microseconds where that loses nothing, and text otherwise:
    what Python makes of them depends on whether pandas is installed.
    """
    import pyarrow

    in_microseconds = _retyped(column.type, "us")
    if in_microseconds == column.type:
        return column
    try:
        return column.cast(in_microseconds)
    except pyarrow.ArrowInvalid:
        return _as_text(column)


def check_times(column: Any) -> None:
    """See that all times of a column are within a day: 24:00 would become 0:00, and no other library would say so.

    Raises:
        ValueError: one is not.
    """
    import pyarrow
    import pyarrow.compute
    from pyarrow import types

    type_ = column.type
    if types.is_time(type_):
        units = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
        number = column.cast(pyarrow.int32() if type_.bit_width == 32 else pyarrow.int64())
        least, most = pyarrow.compute.min_max(number).as_py().values()
        if least is not None and (least < 0 or most >= 86_400 * units[type_.unit]):
            raise ValueError("a time that is not within a day")
    elif types.is_struct(type_) or types.is_map(type_):
        inner = column.flatten() if types.is_struct(type_) else (column.keys, column.items)
        for field in inner:
            check_times(field)
    elif types.is_dictionary(type_):
        check_times(column.dictionary)
    elif hasattr(type_, "value_type"):
        check_times(column.flatten())


def _as_text(column: Any) -> Any:
    """Return a column with times in nanoseconds as text; those that need no nanoseconds have six digits, as others."""
    import pyarrow
    import pyarrow.compute

    if pyarrow.types.is_duration(column.type):
        return pyarrow.array([_interval(value) for value in column.cast(pyarrow.int64()).to_pylist()])
    if pyarrow.types.is_timestamp(column.type) and column.type.tz is not None:
        column = column.cast(pyarrow.timestamp("ns", "UTC"))  # the same instant
    text = column.cast(_retyped(column.type, None))
    if pyarrow.types.is_string(text.type):
        text = pyarrow.compute.replace_substring_regex(text, r"(\.\d{6})000", r"\1")
    return text


def _interval(nanoseconds: int | None) -> str | None:
    """Write a duration as `etl.field_types.interval` does, with nine digits."""
    if nanoseconds is None:
        return None
    seconds, fraction = divmod(abs(nanoseconds), 10**9)
    return f"P0DT0H0M{'-' if nanoseconds < 0 else ''}{seconds}.{fraction:09}S"


def _retyped(type_: Any, unit: str | None) -> Any:
    """Return an Arrow type with maps as lists, and nanoseconds in another unit; None: as text."""
    import pyarrow
    from pyarrow import types

    if getattr(type_, "unit", None) == "ns":
        if unit is None:
            return pyarrow.string()
        if types.is_timestamp(type_):
            return pyarrow.timestamp(unit, type_.tz)
        return pyarrow.time64(unit) if types.is_time(type_) else pyarrow.duration(unit)
    if types.is_struct(type_):
        fields = (type_.field(number) for number in range(type_.num_fields))
        return pyarrow.struct([field.with_type(_retyped(field.type, unit)) for field in fields])
    if types.is_map(type_):
        pair = [("key", _retyped(type_.key_type, unit)), ("value", _retyped(type_.item_type, unit))]
        return pyarrow.list_(pyarrow.struct(pair))
    if types.is_large_list(type_):
        return pyarrow.large_list(type_.value_field.with_type(_retyped(type_.value_type, unit)))
    if types.is_list(type_):
        return pyarrow.list_(type_.value_field.with_type(_retyped(type_.value_type, unit)))
    if types.is_fixed_size_list(type_):
        value = type_.value_field.with_type(_retyped(type_.value_type, unit))
        return pyarrow.list_(value, type_.list_size)
    return type_
