"""Whether Arrow's type for some values holds each of them: it cuts a clock off, or a zone, without a word.

pyarrow gives a list the type that its first values have, and makes what fits of the others: of a date and a datetime
two dates, of a naive datetime and one with a zone two naive ones, of bytes and text bytes, of 1.5 and True two floats,
of a date and 5 the fifth day after 1970-01-01; a time loses its zone. In a list that begins with text, bytes are text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow


def are_one_kind(type_: pyarrow.DataType, values: Iterable[Any], *, listed: bool = False) -> bool:
    """Say whether values are of one kind, where their Arrow type does not tell: no other type has to be looked at.

    Args:
        type_: what Arrow made of the values.
        values: the values.
        listed: whether they are within a list.
    """
    from pyarrow import types

    if not must_be_looked_at(type_, listed):
        return True
    if types.is_struct(type_):
        # Most are dicts, and to ask for a Mapping takes ten times as long.
        objects = [value for value in values if value.__class__ is dict or isinstance(value, Mapping)]
        return all(
            are_one_kind(field.type, [value.get(field.name) for value in objects], listed=listed)
            for field in type_
            if must_be_looked_at(field.type, listed)
        )
    if _is_list(type_):
        lists = [value for value in values if isinstance(value, (list, tuple))]
        return are_one_kind(type_.value_type, list(chain.from_iterable(lists)), listed=True)
    kinds = set(map(type, values))
    if types.is_floating(type_):
        return bool not in kinds
    if types.is_string(type_):
        return kinds.isdisjoint((bytes, bytearray, memoryview))
    present = [value for value in values if value is not None]
    if types.is_date(type_):
        return all(isinstance(value, date) and not isinstance(value, datetime) for value in present)
    if types.is_time(type_):
        return all(isinstance(value, time) and value.tzinfo is None for value in present)
    if types.is_timestamp(type_):
        has_zone = type_.tz is not None
        return all(
            isinstance(value, datetime) and (value.tzinfo is not None) is has_zone for value in present
        )
    return not any(isinstance(value, str) for value in present)


def are_several_kinds(one: pyarrow.DataType, other: pyarrow.DataType) -> bool:
    """Say whether Arrow unites two types although values of one become others: bytes and text, dates and times."""
    from pyarrow import types

    if types.is_struct(one) and types.is_struct(other):
        there = {field.name: field.type for field in one}
        return any(are_several_kinds(there[field.name], field.type) for field in other if field.name in there)
    if types.is_list(one) and types.is_list(other):
        return are_several_kinds(one.value_type, other.value_type)
    kinds = (
        (types.is_binary, types.is_string),
        (types.is_decimal, types.is_floating),
        (types.is_date, types.is_timestamp),
    )
    return any(
        (is_one(one) and is_other(other)) or (is_one(other) and is_other(one)) for is_one, is_other in kinds
    )


def has_empty_name(fields: Iterable[pyarrow.Field]) -> bool:
    """Say whether a field, or one within it, has no name: DuckDB calls it `C0`, or makes a tuple of its object."""
    return any(
        not field.name or has_empty_name(field.type.field(number) for number in range(field.type.num_fields))
        for field in fields
    )


def widest_decimal(type_: pyarrow.DataType) -> int:
    """Return how many digits the decimals within a type have at most; 0: there are none."""
    from pyarrow import types

    if types.is_decimal(type_):
        return int(type_.precision)
    return max((widest_decimal(type_.field(number).type) for number in range(type_.num_fields)), default=0)


def must_be_looked_at(type_: pyarrow.DataType, listed: bool = False) -> bool:
    """Say whether a type does not tell by itself that its values are of one kind; see `are_one_kind`."""
    from pyarrow import types

    if type_.num_fields:
        listed = listed or _is_list(type_)
        return any(must_be_looked_at(type_.field(number).type, listed) for number in range(type_.num_fields))
    return bool(
        types.is_floating(type_)
        or types.is_temporal(type_)
        or types.is_binary(type_)
        or types.is_large_binary(type_)
        or types.is_fixed_size_binary(type_)
        or (listed and types.is_string(type_))
    )


def _is_list(type_: pyarrow.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_))
