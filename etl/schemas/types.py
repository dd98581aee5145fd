"""Types of columns, in the words of BigQuery's JSON schemas; and how values and columns are written in messages.

Sources, all of BigQuery's documentation: "Specify a schema" (types and modes), "Data types" (parameters).
"""

from __future__ import annotations

import reprlib
from typing import Any

from etl.columns import Column

# Each type under the names that the REST reference and GoogleSQL have for it; the first is what REST answers with.
_NAMES = (
    ("STRING",),
    ("BYTES",),
    ("INTEGER", "INT64", "INT", "SMALLINT", "BIGINT", "TINYINT", "BYTEINT"),
    ("FLOAT", "FLOAT64"),
    ("NUMERIC", "DECIMAL"),
    ("BIGNUMERIC", "BIGDECIMAL"),
    ("BOOLEAN", "BOOL"),
    ("TIMESTAMP",),
    ("DATE",),
    ("TIME",),
    ("DATETIME",),
    ("GEOGRAPHY",),
    ("JSON",),
    ("INTERVAL",),
    ("RECORD", "STRUCT"),
)
TYPES = {name: names[0] for names in _NAMES for name in names}
MODES = ("NULLABLE", "REQUIRED", "REPEATED")

# Digits before and after the point that a type without parameters keeps. BIGNUMERIC has part of a 39th digit.
DIGITS = {"NUMERIC": (29, 9), "BIGNUMERIC": (38, 38)}


_brief = reprlib.Repr()  # of a value that may be large, or nested without end
_brief.maxlevel, _brief.maxstring, _brief.maxother = 3, 60, 60


class Unfit(Exception):
    """A value does not fit its column.

    Attributes:
        reason: what the column takes, and what was found.
        path: the names on the way to the value, the outermost first; it grows on the way up.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str] = []


def found(value: Any) -> str:
    """Write a value for a message, shortened, with its type."""
    try:
        text = " ".join((short(value) if isinstance(value, int) else _brief.repr(value)).split())
    except ValueError:  # an integer within it is longer than Python prints
        text = "a value"
    return f"{text if len(text) <= 60 else text[:57] + '…'} ({type(value).__name__})"


def short(value: int) -> str:
    """Write an integer, but not thousands of digits, which Python refuses to print."""
    return str(value) if value.bit_length() <= 256 else f"an integer of {value.bit_length()} bits"


def wrong_with_parameters(column: Column) -> str | None:
    """Say what is wrong with precision, scale or maximum length of a column; None: nothing."""
    length, precision, scale = column.max_length, column.precision, column.scale
    if length is not None and column.type not in ("STRING", "BYTES"):
        return f"{column.type} has no maximum length"
    if length is not None and length < 1:
        return f"the maximum length is at least 1, not {length}"
    if precision is None and scale is None:
        return None
    if column.type not in DIGITS:
        return f"{column.type} has no precision and no scale"
    before, after = DIGITS[column.type]
    if precision is None:
        return "a scale needs a precision"
    least, most = max(1, scale or 0), before + (scale or 0)
    if not 0 <= (scale or 0) <= after:
        return f"the scale of {column.type} is 0 to {after}, not {scale}"
    if not least <= precision <= most:
        return f"with a scale of {scale or 0} the precision of {column.type} is {least} to {most}, not {precision}"
    return None


def digits(column: Column) -> tuple[int, int]:
    """Return how many digits a NUMERIC or BIGNUMERIC column keeps before and after the point."""
    if column.precision is None:
        return DIGITS[column.type]
    return column.precision - (column.scale or 0), column.scale or 0


def shown(column: Column) -> str:
    """Write type and mode of a column as a person declares them: `NUMERIC(10, 2) REQUIRED`."""
    given = (
        [column.max_length or column.timestamp_precision]
        if column.precision is None
        else [column.precision, column.scale]
    )
    parameters = ", ".join(str(number) for number in given if number is not None)
    text = f"{column.type}({parameters})" if parameters else column.type
    return text if column.mode == "NULLABLE" else f"{text} {column.mode}"
