"""Records as they are at one moment: who yielded a record may go on to change it, or anything in it.

A source, or a transform, may yield one dict again and again, or put one list into every record. A format that writes a
record at once is right about that by itself; whatever gathers records keeps snapshots of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from etl.records import Record

# What cannot be changed, and holds nothing that can be. Most records hold nothing else, and are copied as a whole.
_UNCHANGING = frozenset(
    {type(None), bool, int, float, str, bytes, Decimal, datetime, date, time, timedelta, UUID}
)
_all_unchanging = _UNCHANGING.issuperset


def is_flat(record: Record) -> bool:
    """Say whether a record holds nothing but plain values, which cannot be changed, and hold no others."""
    return _all_unchanging(map(type, record.values()))


def snapshot(record: Record) -> Record:
    """Return a record that stays as it is, whatever becomes of the given one.

    Bytes that can be changed become `bytes`, dataclasses and other mappings become dicts, as all formats write them.

    Raises:
        RecursionError: it is nested too deep, or holds itself.
        Exception: what a value of a class of its own raises.
    """
    if is_flat(record):
        return record.copy()
    copy: Record = _settled(record)
    return copy


def _settled(value: Any) -> Any:
    kind = value.__class__
    if kind is dict:
        # To copy all and replace what can change takes half as long as to build it.
        copy = value.copy()
        for name, item in value.items():
            if item.__class__ not in _UNCHANGING:
                copy[name] = _settled(item)
        return copy
    if isinstance(value, tuple):
        return tuple(map(_settled, value))
    if isinstance(value, list):
        return [item if item.__class__ in _UNCHANGING else _settled(item) for item in value]
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, set):  # which no format takes: Arrow would make a list of it, in any order
        return frozenset(value)
    if isinstance(value, Mapping):
        return _settled(dict(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (field.name for field in dataclasses.fields(value) if not field.name.startswith("_"))
        return {name: _settled(getattr(value, name)) for name in names}
    return value
