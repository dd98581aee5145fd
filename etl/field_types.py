"""Types of fields as a source knows them, apart from any warehouse and any format.

A Parquet file says that a column is a decimal of nine digits; the records that are read of it hold Python values, and
JSON has text. So what the source knows goes along with a part, as far as its values still are of that kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType
from uuid import UUID

import msgspec


class FieldType(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The type of a field.

    Attributes:
        name: `boolean`, `integer` (64 bits), `unsigned` (64 bits), `float`, `string`, `bytes`, `decimal`, `date`,
            `time`, `timestamp`, `interval`, `uuid`, `list`, `record`, `json` (anything), `null` (nothing but null), or
            `mixed`: it has been of two types that have no other one in common.
        precision: of a decimal: how many digits.
        scale: of a decimal: how many of them after the point.
        nanoseconds: whether a time or timestamp is that exact, rather than to the microsecond.
        zone: whether a timestamp is an instant, which a zone makes of it.
        element: of a list.
        fields: of a record.
    """

    name: str
    precision: int = 0
    scale: int = 0
    nanoseconds: bool = False
    zone: bool = False
    element: FieldType | None = None
    fields: dict[str, FieldType] = {}


FieldTypes = dict[str, FieldType]

MIXED = FieldType(name="mixed")

# The Python types that values of a type have; times that Python cannot hold are text.
PYTHON: dict[str, frozenset[type]] = {
    "boolean": frozenset({bool}),
    "integer": frozenset({int}),
    "unsigned": frozenset({int}),
    "float": frozenset({float}),
    "string": frozenset({str}),
    "bytes": frozenset({bytes}),
    "decimal": frozenset({Decimal}),
    "date": frozenset({date}),
    "time": frozenset({time, str}),
    "timestamp": frozenset({datetime, str}),
    "interval": frozenset({timedelta, str}),
    "uuid": frozenset({UUID}),
    "list": frozenset({list}),
    "record": frozenset({dict}),
    "json": frozenset({dict, list, str, int, float, bool, Decimal}),
}


def is_of(type_: FieldType, kinds: Iterable[type]) -> bool:
    """Say whether values of these Python types may be of a type still, after the transforms."""
    return PYTHON.get(type_.name, frozenset()).issuperset(kind for kind in kinds if kind is not NoneType)


def merged(old: Mapping[str, FieldType], new: Mapping[str, FieldType]) -> FieldTypes:
    """Return types that hold what both hold: of two files of one source."""
    return {
        **old,
        **{name: common(old[name], type_) if name in old else type_ for name, type_ in new.items()},
    }


def common(one: FieldType, other: FieldType) -> FieldType:
    """Return the narrowest type that holds all values of both exactly; `mixed`: there is none."""
    if one == other or other.name == "null":
        return one
    if one.name == "null":
        return other
    if one.name != other.name:
        return MIXED
    if one.name == "decimal":
        scale = max(one.scale, other.scale)
        before = max(one.precision - one.scale, other.precision - other.scale)
        return FieldType(name="decimal", precision=before + scale, scale=scale)
    if one.name in ("time", "timestamp"):
        nanoseconds = one.nanoseconds or other.nanoseconds
        return msgspec.structs.replace(one, nanoseconds=nanoseconds) if one.zone == other.zone else MIXED
    if one.element is not None and other.element is not None:
        return FieldType(name="list", element=common(one.element, other.element))
    return FieldType(name="record", fields=merged(one.fields, other.fields))


def interval(value: timedelta) -> str:
    """Write a duration as ISO 8601 has it, and BigQuery's INTERVAL ("Data types", canonical format): P1DT2H3M4.5S."""
    size = abs(value)
    sign = "-" if value < timedelta() else ""
    minutes, seconds = divmod(size.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{size.microseconds:06}" if size.microseconds else ""
    return f"P{sign}{size.days}DT{sign}{hours}H{sign}{minutes}M{sign}{seconds}{fraction}S"


def no_types() -> FieldTypes:
    """Return what a source says that knows no types."""
    return {}
