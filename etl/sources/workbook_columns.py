"""What the values of a workbook become.

They have types, each cell its own; a column gets one of them, by all of its cells:

| cells of a column | become |
|---|---|
| numbers | `int` where all are whole and below 2**53, as a workbook keeps doubles; else `float` |
| booleans; times of day; durations | `bool`; `time`; `timedelta` |
| dates; dates and times | `date`; `datetime` if one of them has a time |
| text, or a mixture of these | text, numbers as JSON writes them, times as ISO 8601 |
| empty; `#N/A`, `#DIV/0!` and the other errors of formulas | None |

(ECMA-376, part 1, 18.18.11 and 18.17.4.1.) Columns that are declared, by the job's `types` or by the warehouse,
are converted from that text, as those of CSV. Null words are null in columns that hold no other text, or, where the
job names them, in all.
"""

from __future__ import annotations

from datetime import date, datetime, time
from typing import Any

from etl.sources.csv_columns import UNKNOWN, reading
from etl.sources.csv_options import Options

EMPTY = ""
_WHOLE = 2**53
# The words of `csv_types`; the later one of two in the alphabet holds both.
_INFERRED = {int: "float", float: "float", bool: "boolean", date: "date", datetime: "timestamp"}


class Column:
    """What the cells of one column are, and become.

    Attributes:
        name: what it is called; empty: nothing yet.
        used: whether a cell holds something.
    """

    def __init__(self, options: Options) -> None:
        self.name = ""
        self.used = False
        self._options = options
        self._nulls = options.words(text=False)
        self._types: set[type] = set()
        self._texts = False
        self._whole = True

    def see(self, cell: Any) -> None:
        """Take a cell into account."""
        if cell == EMPTY:
            return
        self.used = True
        if isinstance(cell, str):
            self._texts = self._texts or cell not in self._nulls
            return
        self._types.add(type(cell))
        if isinstance(cell, (int, float)):
            self._whole = self._whole and cell == int(cell) and abs(cell) < _WHOLE

    def decide(self, name: str) -> None:
        """Decide what cells become, when all were seen; `name` is what the column is called."""
        self.name = name
        kinds = {_INFERRED.get(type_, "string") for type_ in self._types}
        alike = len(self._types) < 2 or self._types in ({int, float}, {date, datetime})
        self._as_text = self._texts or not alike
        self._times = datetime in self._types
        inferred = "string" if self._as_text else max(kinds, default=UNKNOWN)
        read = reading(name, "integer" if inferred == "float" and self._whole else inferred, self._options)
        self._words = read.nulls if read.by == "values" else self._options.words(text=self._texts)
        self._declared = None if read.by == "values" else read.converter()

    def value(self, cell: Any) -> Any:
        """Return the value of a cell; raises ValueError where it is none of a declared type."""
        if self._declared is not None:
            try:
                return self._declared([text_of(cell)])[0]
            except ValueError as error:
                raise ValueError(
                    f"column {self.name!r}: {text_of(cell)[:200]!r} is none of its type"
                ) from error
        if isinstance(cell, str) and (cell == EMPTY or cell in self._words):
            return None
        if self._options.nulls is not None and text_of(cell) in self._words:
            return None
        if self._as_text:
            return text_of(cell)
        if isinstance(cell, (int, float)) and not isinstance(cell, bool):
            return int(cell) if self._whole else float(cell)
        if self._times and not isinstance(cell, datetime):
            return datetime.combine(cell, time())
        return cell


def text_of(cell: Any) -> str:
    """Return a value as text: of a number, the shortest that is it; of a whole one, its digits."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < _WHOLE else repr(cell)
    if isinstance(cell, (date, time)):
        return cell.isoformat()
    return str(cell)


def letters_of(column: int) -> str:
    """Return what a sheet calls its column, from 0: A, B, … Z, AA."""
    name = ""
    column += 1
    while column:
        column, letter = divmod(column - 1, 26)
        name = chr(65 + letter) + name
    return name
