"""Records that a format cannot hold as they are, or a warehouse cannot read: one table for all tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, timezone
from typing import Any


class RaisingList(list[Any]):
    def __iter__(self) -> Any:
        raise ValueError("no look inside")


class RaisingDict(dict[str, Any]):
    def items(self) -> Any:
        raise ValueError("no look inside")


class Unshown:
    def __repr__(self) -> str:
        raise ValueError("not to be shown")


class Name(str):
    __slots__ = ()


@dataclass
class Half:
    there: int
    missing: int


def half() -> Half:
    made = Half(1, 2)
    del made.missing
    return made


def nested(levels: int, *, leaf: Any = 1, lists: bool = False, both: bool = False) -> Any:
    value = leaf
    for level in range(levels):
        value = [value] if lists or (both and level % 2) else {"a": value}
    return value


def cyclic() -> dict[str, Any]:
    record: dict[str, Any] = {}
    record["v"] = record
    return record


def cyclic_list() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


# Each makes what a record holds besides its id.
ODD: dict[str, Callable[[], dict[Any, Any]]] = {
    "lists nested 16 deep": lambda: {"v": nested(15, lists=True, leaf="x")},
    "lists nested 60 deep": lambda: {"v": nested(60, lists=True, leaf=1.5)},
    "objects nested 129 deep": lambda: {"v": nested(128)},
    "both nested 200 deep": lambda: {"v": nested(200, both=True)},
    "nested 254 deep": lambda: {"v": nested(253)},
    "nested 5,000 deep": lambda: {"v": nested(5000, both=True)},
    "nested 5,000 deep within tuples": lambda: {"v": (nested(5000, lists=True),)},
    "itself": cyclic,
    "a list that holds itself": lambda: {"v": cyclic_list()},
    "100,000 fields": lambda: {f"f{number}": number for number in range(100_000)},
    "a line of 33 MiB": lambda: {"v": "x" * (33 << 20)},
    "an integer of 5,000 digits": lambda: {"v": 10**5000},
    "such an integer in a list": lambda: {"v": [10**5000]},
    "half of a surrogate pair": lambda: {"v": "\ud800"},
    "half of a surrogate pair in a name": lambda: {"\ud800": 1},
    "half of a surrogate pair in a name within": lambda: {"v": {"\ud800": 1}},
    "an empty name": lambda: {"": 1},
    "an empty name within": lambda: {"v": {"": 1}},
    "a name that is a number": lambda: {5: 1},
    "names that are one as text": lambda: {"v": {1: 1, "1": 2}},
    "a name that is bytes": lambda: {b"v": 1},
    "a generator": lambda: {"v": iter([1])},
    "a set": lambda: {"v": {1}},
    "a class": lambda: {"v": int},
    "a complex number": lambda: {"v": 1j},
    "what cannot be shown": lambda: {"v": Unshown()},
    "what raises": lambda: {"v": (RaisingDict(a=1), Unshown())},
    "a dataclass that lacks a value": lambda: {"v": half()},
    "a moment before the year 1": lambda: {
        "v": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1, seconds=1)))
    },
    "a time with a zone": lambda: {"v": time(1, tzinfo=UTC)},
}

# What looks odd, and is a row.
EVEN: dict[str, Callable[[], dict[Any, Any]]] = {
    "objects nested 60 deep": lambda: {"a": nested(60)},
    "no fields": dict,
    "nothing but null": lambda: {"b": None},
    "NUL in text": lambda: {"c": "a\0b"},
    "NUL in a name": lambda: {"d\0": 1},
}
