"""Columns out of records, where no warehouse has a gate that would refuse any: every record teaches, none is refused.

Names are learned even of fields that held nothing. Types are what JSON makes of the values: dates and times are text
there, and so are bytes; numbers of several kinds are the widest of them; what is mixed is JSON.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from etl.columns import Column, Columns
from etl.schemas.growth import INFERRED, plain
from etl.schemas.numbers import least_type
from etl.schemas.types import Unfit
from etl.shapes import MOST_KEYS

# Shapes of flat records that are remembered; then they are forgotten.
MOST_CELLS = 50_000

# Objects within objects are looked into down to this depth; below they are JSON.
MOST_LEVELS = 100

_NUMBERS = ("INTEGER", "NUMERIC", "BIGNUMERIC", "FLOAT")  # from the narrowest to the widest
_TEXTS = frozenset({"STRING", "BYTES", "DATE", "TIME", "DATETIME", "TIMESTAMP"})
_FLAT = frozenset({type(None), bool, float, str})  # one value of it teaches as much as all


class Learner:
    """Learns the columns of records, or the fields of objects.

    Args:
        level: how deep they are; records are at 1.
    """

    def __init__(self, level: int = 1) -> None:
        self._level = level
        self._fields: dict[str, _Field] = {}
        self._shapes: set[tuple[Any, ...]] = set()
        self._cells = 0

    @property
    def names(self) -> Collection[str]:
        """The names that there were."""
        return self._fields.keys()

    def note(self, record: Mapping[Any, Any]) -> None:
        """Learn from one record; names that are no text are passed over."""
        shape = (*record, *map(type, record.values()))
        if shape in self._shapes:
            return
        flat = True
        for name, value in record.items():
            if isinstance(name, str):
                if name not in self._fields:
                    self._fields[name] = _Field(self._level)
                self._fields[name].note(value)
            flat = flat and type(value) in _FLAT
        if flat:
            self._cells += len(shape)
            if self._cells > MOST_CELLS:
                self._shapes.clear()
                self._cells = len(shape)
            self._shapes.add(shape)

    def columns(self, *, without_type: str | None = None) -> Columns:
        """Return the columns that were learned so far, in the order in which they came.

        Args:
            without_type: the type of columns that held nothing but null, [] and {}; None: they are left out.
        """
        made = (field.column(name, without_type) for name, field in self._fields.items())
        return tuple(column for column in made if column is not None)

    def mixed(self, path: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield the path of each field whose values have no type in common but JSON, and the types that they have."""
        for name, field in self._fields.items():
            where = f"{path}.{name}" if path else name
            if field.is_mixed():
                yield where, field.kinds()
            elif field.fields is not None:
                yield from field.fields.mixed(where)


class _Field:
    """What one field has held."""

    __slots__ = ("_level", "_lists", "_single", "_types", "fields")

    def __init__(self, level: int) -> None:
        self._level = level
        self._types: dict[str, None] = {}
        self._single = False  # whether there was a value that is no list
        self._lists = False
        self.fields: Learner | None = None

    def note(self, value: Any) -> None:
        """Learn from one value."""
        try:
            value = plain(value)
        except Unfit:  # the encoder will say what is wrong with it
            return
        if value is None:
            return
        if type(value) is not list:
            self._single = True
            self._note(value)
            return
        if value:
            self._lists = True
        for item in value:
            if item is not None:
                self._note(item)

    def _note(self, value: Any) -> None:
        try:
            value = plain(value)
        except Unfit:
            return
        if type(value) is not dict:
            self._types[_type_of(value)] = None
            return
        if self._level >= MOST_LEVELS:
            self._types["JSON"] = None
            return
        self._types["RECORD"] = None
        self.fields = self.fields or Learner(self._level + 1)
        self.fields.note(value)

    def column(self, name: str, without_type: str | None) -> Column | None:
        """Return the column; None: nothing tells its type."""
        type_, mode = self._type(), "REPEATED" if self._lists and not self._single else "NULLABLE"
        fields: Columns = ()
        if type_ == "RECORD" and self.fields is not None and len(self.fields.names) > MOST_KEYS:
            type_ = "JSON"
        elif type_ == "RECORD" and self.fields is not None:
            fields = self.fields.columns(without_type=without_type)
            type_ = type_ if fields else None
        if type_ is None:
            return None if without_type is None else Column(name=name, type=without_type)
        if type_ == "JSON":
            mode = "NULLABLE"
        return Column(name=name, type=type_, mode=mode, fields=fields)

    def is_mixed(self) -> bool:
        """Say whether its values have no type in common but JSON."""
        return self._type() == "JSON"

    def kinds(self) -> tuple[str, ...]:
        """Return the types of its values."""
        return (*self._types, *(("a list",) if self._lists and self._single else ()))

    def _type(self) -> str | None:
        types = self._types.keys()
        if self._lists and self._single and types:
            return "JSON"
        if len(types) <= 1:
            return next(iter(types), None)
        if types <= set(_NUMBERS):
            return max(types, key=_NUMBERS.index)
        return "STRING" if types <= _TEXTS else "JSON"


def _type_of(value: Any) -> str:
    kind = type(value)
    if kind is list:  # a list within a list
        return "JSON"
    if kind is int and not -(2**63) <= value < 2**63:
        return "BIGNUMERIC" if abs(value) < 10**38 else "STRING"
    if kind is Decimal:
        return least_type(value)
    if kind is datetime:
        return "DATETIME" if value.tzinfo is None else "TIMESTAMP"
    return INFERRED[kind]
