"""BigQuery's limits and column names, and what Arrow calls its types.

The rule for names that BigQuery forbids (`valid_name`), in this order:

1. each sign that it does not take becomes an underscore: `a.b` is `a_b`, `price ($)` is `price ___`; it takes letters
   and digits of any language, `_`, dashes, blanks, and & % = + : ' < > # | ("Flexible column names", which load jobs
   take by default);
2. the empty name is `_`;
3. a name that begins with one of BigQuery's own prefixes gets an underscore before it: `_PARTITION` is `__PARTITION`;
4. of a name that is longer than 300 characters the first 300 are left.

Sources, all of BigQuery's documentation: "Specify a schema" (names of columns), "Data types" (ranges),
"Quotas and limits" (columns, nesting), "Loading Parquet data" (conversions).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from etl.columns import Column, Columns
from etl.schemas.dialect import Dialect
from etl.warehouses.bigquery.limits import LONGEST_NAME, MOST_LEVELS

if TYPE_CHECKING:
    import pyarrow

# Returns what is to be written for a value, None for what is null; raises `Unfit`.
Check = Callable[[Any], Any]
# Makes the check for a column, for a format that has types of its own or not; None: every value fits as it is.
Maker = Callable[[Column, bool], Check | None]

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


def valid_name(name: str) -> str:
    """Return the name of the column for a field: its own if BigQuery takes it; else see this module's docstring."""
    if wrong_with_name(name) is None:
        return name
    name = "".join(sign if _allowed(sign) else "_" for sign in name) or "_"
    if name.upper().startswith(_PREFIXES):
        name = f"_{name}"
    return name[:LONGEST_NAME]


def may_be_made(name: str) -> bool:
    """Say whether `valid_name` may make this name out of another one."""
    return "_" in name or len(name) == LONGEST_NAME


def _allowed(sign: str) -> bool:
    return sign in _SYMBOLS or unicodedata.category(sign).startswith(_CATEGORIES)


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


BIGQUERY = Dialect(
    warehouse="BigQuery",
    folded=folded,
    valid=valid_name,
    wrong_with_name=wrong_with_name,
    may_be_made=may_be_made,
    most_levels=MOST_LEVELS,
)
