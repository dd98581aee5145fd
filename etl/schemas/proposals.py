"""Which columns of text could be declared as dates or timestamps: those of which every value is one.

No warehouse's gate guesses that: the next value may be another. A schema that is written down is a declaration, and
is checked strictly, so there it can be proposed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from etl.columns import Column, Columns
from etl.schemas.growth import plain
from etl.schemas.types import Unfit

Path = tuple[str, ...]

# What every warehouse here takes as text, to its last digit (RFC 3339).
_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?"
_FORMS = {
    "DATE": re.compile(_DAY),
    "DATETIME": re.compile(_DAY + _CLOCK),
    "TIMESTAMP": re.compile(rf"{_DAY}{_CLOCK}(?:Z|[+-][0-9]{{2}}:[0-9]{{2}})"),
}


class Proposals:
    """Notes what the text in records looks like.

    Args:
        settled: columns that are declared, for which nothing is proposed.
    """

    def __init__(self, settled: Columns = ()) -> None:
        self._settled = set(_paths(settled))
        self._forms: dict[Path, set[str]] = {}

    def note(self, record: Mapping[str, Any], path: Path = ()) -> None:
        """Look at all text in a record, or in an object in it."""
        for name, value in record.items():
            self._note(value, (*path, name))

    def _note(self, value: Any, path: Path) -> None:
        try:
            value = plain(value)
        except Unfit:
            return
        if type(value) is dict:
            self.note(value, path)
        elif type(value) is list:
            for item in value:
                self._note(item, path)
        elif type(value) is str:
            forms = self._forms.setdefault(path, set())
            if "" not in forms:
                forms.add(_form(value))

    def of(self, columns: Columns, path: Path = ()) -> dict[Path, str]:
        """Return the type that could be declared for columns of text, by their path."""
        found: dict[Path, str] = {}
        for column in columns:
            where = (*path, column.name)
            forms = self._forms.get(where, set())
            if column.type == "RECORD":
                found |= self.of(column.fields, where)
            elif column.type == "STRING" and where not in self._settled and len(forms) == 1 and forms != {""}:
                found[where] = next(iter(forms))
        return found


def applied(columns: Columns, proposed: Mapping[Path, str], path: Path = ()) -> Columns:
    """Return the columns with the types that are proposed."""

    def one(column: Column) -> Column:
        where = (*path, column.name)
        fields = applied(column.fields, proposed, where)
        return msgspec.structs.replace(column, type=proposed.get(where, column.type), fields=fields)

    return tuple(map(one, columns))


def _form(text: str) -> str:
    """Return the type that a text could be; empty: text."""
    for type_, form in _FORMS.items():
        if form.fullmatch(text):
            try:
                datetime.fromisoformat(text)
            except ValueError:
                return ""
            return type_
    return ""


def _paths(columns: Columns, path: Path = ()) -> Iterator[Path]:
    for column in columns:
        yield (*path, column.name)
        yield from _paths(column.fields, (*path, column.name))
