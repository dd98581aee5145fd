"""What kinds of values the fields of a part's records hold, noted while the part is encoded.

A warehouse that has to know the types in a part would otherwise read it twice. Kinds are those of JSON, as the
formats write them; where the Python types do not tell, nothing is said, and the warehouse looks for itself.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from etl.records import Record

# Python's types and the kinds that every value of them is written as.
KINDS: dict[type, str] = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "float",
    str: "string",
    bytes: "string",
    Decimal: "string",
    datetime: "string",
    date: "string",
    time: "string",
    uuid.UUID: "string",
}

# More shapes are folded into fields, so that sparse records take no more memory than they have fields.
MOST_SHAPES = 1000

# A part with more fields is not described: the description is kept in the checkpoint.
MOST_FIELDS = 500

Fields = dict[str, tuple[str, ...]]


class Shapes:
    """Notes the shapes of records: their names and the types of their values, of the top level only."""

    def __init__(self) -> None:
        self._shapes: set[tuple[Any, ...]] = set()
        self._types: dict[str, set[type]] = {}

    def note(self, records: Iterator[Record]) -> Iterator[Record]:
        """Pass records on, and note the shape of each."""
        shapes = self._shapes
        for record in records:
            shape = (*record, *map(type, record.values()))
            if shape not in shapes:
                shapes.add(shape)
                if len(shapes) > MOST_SHAPES:
                    self._fold()
            yield record

    def fields(self) -> Fields | None:
        """Return each field's name and the kinds of its values; None: they cannot be told, or are too many."""
        self._fold()
        if len(self._types) > MOST_FIELDS:
            return None
        fields: Fields = {}
        for name, types in self._types.items():
            kinds = {KINDS.get(type_) for type_ in types}
            if None in kinds or not isinstance(name, str):
                return None
            fields[name] = tuple(sorted(kind for kind in kinds if kind))
        return fields

    def _fold(self) -> None:
        for shape in self._shapes:
            half = len(shape) // 2
            for name, type_ in zip(shape[:half], shape[half:], strict=True):
                self._types.setdefault(name, set()).add(type_)
        self._shapes.clear()
