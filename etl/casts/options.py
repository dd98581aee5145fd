"""How one field is cast, and the error for a value that is not what it is to be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from etl import tables

Type = Literal["integer", "float", "decimal", "boolean", "string", "date", "timestamp", "json"]
Unit = Literal["s", "ms", "us"]

# Returns what a value that is not null is cast to; raises `Uncastable`.
Cast = Callable[[Any], Any]


class Uncastable(ValueError):
    """A value is not what it is to be cast to."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How one field is cast; see `etl.casts`."""

    type: Type
    null: list[str] = []
    thousands: str | None = None
    decimal: str = "."
    format: str | list[str] | None = None
    unit: Unit | None = None
    zone: str | None = None
    true: list[str] | None = None
    false: list[str] | None = None


def bad(value: Any, expected: str) -> Uncastable:
    """Make the error for a value that is no `expected`."""
    hint = '; if it means that there is none, say null = [""]' if value == "" else ""
    return Uncastable(f"{tables.show(value)} is no {expected}{hint}")
