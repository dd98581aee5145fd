"""BigQuery's types and column names: what there is, how it is written, and what Arrow calls it.

Sources, all of BigQuery's documentation: "Specify a schema" (names of columns and types), "Data types" (ranges,
parameters), "Quotas and limits" (columns, nesting), "Loading Parquet data" (conversions).
"""

from __future__ import annotations

import reprlib
import unicodedata
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from etl.columns import Column, Columns

if TYPE_CHECKING:
    import pyarrow

# Returns what is to be written for a value, None for what is null; raises `Unfit`.
Check = Callable[[Any], Any]
# Makes the check for a column, for a format that has types of its own or not; None: every value fits as it is.
Maker = Callable[[Column, bool], Check | None]

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

MOST_COLUMNS = 10_000  # of a table, fields of records counted
MOST_LEVELS = 15  # of records within records
LONGEST_NAME = 300  # characters

_PREFIXES = (
    "_TABLE_",
    "_FILE_",
    "_PARTITION",
    "_ROW_TIMESTAMP",
    "__ROOT__",
    "_COLIDENTIFIER",
    "_CHANGE_SEQUENCE_NUMBER",
    "_CHANGE_TYPE",
    "_CHANGE_TIMESTAMP",
)
# Flexible column names: letters, numbers, marks, connectors and dashes of any language, and these.
_CATEGORIES = ("L", "N", "M", "Pc", "Pd", "Zs")
_SYMBOLS = frozenset("&%=+:'<>#|")


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


def folded(name: str) -> str:
    """Return what names that BigQuery takes for the same one have in common: case makes no difference."""
    return name.lower()


def wrong_with_name(name: str) -> str | None:
    """Say what is wrong with the name of a column; None: BigQuery takes it."""
    if not name:
        return "a name must not be empty"
    if len(name) > LONGEST_NAME:
        return f"a name has at most {LONGEST_NAME} characters, this one {len(name)}"
    if name.isascii() and name.replace("_", "a").isalnum():
        bad = None
    else:
        bad = next((sign for sign in name if not _allowed(sign)), None)
    if bad is not None:
        return f"a name must not hold {bad!r}; letters, digits, underscores and dashes are safe"
    upper = name.upper()
    prefix = next((prefix for prefix in _PREFIXES if upper.startswith(prefix)), None)
    if prefix:
        return f"names that begin with {prefix} are BigQuery's own"
    return None


def _allowed(sign: str) -> bool:
    return sign in _SYMBOLS or unicodedata.category(sign).startswith(_CATEGORIES)


def wrong_with_parameters(column: Column) -> str | None:
    """Say what is wrong with precision, scale or maximum length of a column; None: BigQuery takes them."""
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
    given = [column.max_length] if column.precision is None else [column.precision, column.scale]
    parameters = ", ".join(str(number) for number in given if number is not None)
    text = f"{column.type}({parameters})" if parameters else column.type
    return text if column.mode == "NULLABLE" else f"{text} {column.mode}"


def arrow_schema(columns: Columns) -> pyarrow.Schema:
    """Return the columns as Arrow's, for parts in Parquet.

    JSON and INTERVAL columns are left out: BigQuery loads them from other formats only ("Work with JSON data",
    limitations; "Loading Parquet data", type conversions), so that no value for them is let through.
    """
    import pyarrow as arrow

    return arrow.schema(list(_arrow_fields(columns)))


def _arrow_fields(columns: Columns) -> Iterable[pyarrow.Field]:
    import pyarrow as arrow

    plain = {
        "STRING": arrow.string(),
        "BYTES": arrow.binary(),
        "INTEGER": arrow.int64(),
        "FLOAT": arrow.float64(),
        "NUMERIC": arrow.decimal128(38, 9),
        "BIGNUMERIC": arrow.decimal256(76, 38),
        "BOOLEAN": arrow.bool_(),
        "TIMESTAMP": arrow.timestamp("us", tz="UTC"),
        "DATE": arrow.date32(),
        "TIME": arrow.time64("us"),
        "DATETIME": arrow.timestamp("us"),
        "GEOGRAPHY": arrow.string(),
    }
    for column in columns:
        if column.type == "RECORD":
            fields = list(_arrow_fields(column.fields))
            type_ = arrow.struct(fields) if fields else None
        else:
            type_ = plain.get(column.type)
        if type_ is None:
            continue
        if column.mode == "REPEATED":
            type_ = arrow.list_(type_)
        yield arrow.field(column.name, type_, nullable=column.mode != "REQUIRED")
