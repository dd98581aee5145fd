"""Arrow's arrays of records: by Arrow itself as far as it gets them right, and column by column where it does not."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from etl.arrow_kinds import are_one_kind, must_be_looked_at
from etl.arrow_types import arrow_type, is_exact_time, with_times
from etl.field_types import FieldTypes, interval, is_of
from etl.formats import in_minutes, number_word
from etl.records import Record

if TYPE_CHECKING:
    import pyarrow


def array_of(records: Sequence[Record], types: FieldTypes) -> pyarrow.StructArray:
    """Return an array of records, with the types that their values have.

    An object without fields is one in the array, too, which Parquet has not (see `etl.arrow_schemas.written`).

    Args:
        records: at least one; all names are text.
        types: what the source knows of the fields.

    Raises:
        Exception: Arrow does not take them together, or would make one value of another. Which kind of error it is
            depends on the value: Arrow's own, or what Python raises while the value is asked for.
    """
    import pyarrow as arrow

    try:
        array = arrow.array(records)
    except MemoryError:
        raise
    except Exception:  # one column of many, most likely
        names = dict.fromkeys(name for record in records for name in record)
        columns = {name: _column(name, [record.get(name) for record in records], types) for name in names}
    else:
        again = {}
        for name, type_, has_form in _to_be_looked_at(array.type):
            values = [record.get(name) for record in records]
            if not (has_form and are_one_kind(type_, values)):
                again[name] = _column(name, values, types)
        if not again:
            return with_times(array, types)
        columns = {field.name: array.field(field.name) for field in array.type} | again
    return with_times(arrow.StructArray.from_arrays(list(columns.values()), list(columns)), types)


@lru_cache(maxsize=8)
def _to_be_looked_at(type_: pyarrow.StructType) -> list[tuple[str, pyarrow.DataType, bool]]:
    """Return the fields whose types do not tell what their values are, their types, and whether they are written so."""
    return [
        (field.name, field.type, _has_form(field.type))
        for field in type_
        if not _has_form(field.type) or must_be_looked_at(field.type)
    ]


def _column(name: str, values: list[Any], types: FieldTypes) -> pyarrow.Array:
    """Make an array of a field's values; what Arrow does not take as it is becomes what it does.

    Raises:
        Exception: see `array_of`.
    """
    import pyarrow as arrow

    type_ = types.get(name)
    known = arrow_type(type_) if type_ is not None and is_of(type_, map(type, values)) else None
    exact = type_ is not None and is_exact_time(type_)
    for given in (None, None if exact else known):
        try:
            array = arrow.array(values, given)
        except MemoryError:
            raise
        except Exception:  # noqa: S112 - the last way below says what is wrong
            continue
        if _has_form(array.type) and are_one_kind(array.type, values):
            return array
    if exact:
        values = [value.isoformat() if isinstance(value, (datetime, time)) else value for value in values]
    ready = [arrow_ready(value) for value in values]
    array = arrow.array(ready)
    if not are_one_kind(array.type, ready):
        raise TypeError(
            f"the values of {name!r} are of several kinds, of which Arrow would make {array.type}: make them one "
            "kind in a transform"
        )
    return array


def _has_form(type_: pyarrow.DataType) -> bool:
    """Say whether a type that Arrow found is written as it is: durations and UUIDs are not."""
    import pyarrow as arrow

    if arrow.types.is_duration(type_) or isinstance(type_, arrow.BaseExtensionType):
        return False
    return all(_has_form(type_.field(number).type) for number in range(type_.num_fields))


def arrow_ready(value: Any) -> Any:
    """Return `value` as Arrow can take it: long integers and UUIDs as strings, enums as values.

    A Decimal that is NaN or an infinity is a float: Parquet's decimals have none (parquet-format, LogicalTypes.md).
    A datetime whose offset has seconds is in UTC.
    """
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)
    if isinstance(value, Decimal) and not value.is_finite():
        return float(number_word(value))
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, enum.Enum):
        return arrow_ready(value.value)
    if isinstance(value, timedelta):
        return interval(value)
    if isinstance(value, datetime):
        return in_minutes(value)
    if isinstance(value, Mapping):
        return {key: arrow_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [arrow_ready(item) for item in value]
    return value
