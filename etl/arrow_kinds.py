"""Whether Arrow's type for some values holds each of them: it cuts a clock off, or a zone, without a word.

pyarrow gives a list the type that its first values have, and makes what fits of the others: of a date and a datetime
two dates, of a naive datetime and one with a zone two naive ones, of bytes and text bytes, of 1.5 and True two floats;
a time loses its zone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow


def are_one_kind(type_: pyarrow.DataType, values: Iterable[Any]) -> bool:
    """Say whether values are of one kind, where their Arrow type does not tell: no other type has to be looked at."""
    from pyarrow import types

    if types.is_struct(type_):
        objects = [value for value in values if isinstance(value, Mapping)]
        return all(
            are_one_kind(field.type, [value.get(field.name) for value in objects])
            for field in type_
            if _must_be_looked_at(field.type)
        )
    if not _must_be_looked_at(type_):
        return True
    if types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_):
        lists = (value for value in values if isinstance(value, (list, tuple)))
        return are_one_kind(type_.value_type, [item for value in lists for item in value])
    if types.is_floating(type_):
        return bool not in set(map(type, values))
    present = [value for value in values if value is not None]
    if types.is_date(type_):
        return not any(isinstance(value, datetime) for value in present)
    if types.is_time(type_):
        return not any(isinstance(value, time) and value.tzinfo is not None for value in present)
    if types.is_timestamp(type_):
        zoned = {value.tzinfo is not None for value in present if isinstance(value, datetime)}
        return zoned <= {type_.tz is not None}
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


def _must_be_looked_at(type_: pyarrow.DataType) -> bool:
    from pyarrow import types

    if type_.num_fields:
        return any(_must_be_looked_at(type_.field(number).type) for number in range(type_.num_fields))
    return bool(
        types.is_floating(type_)
        or types.is_temporal(type_)
        or types.is_binary(type_)
        or types.is_large_binary(type_)
        or types.is_fixed_size_binary(type_)
    )
