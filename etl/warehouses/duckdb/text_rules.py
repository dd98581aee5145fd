"""Texts that are values of another type to their last digit, and how SQL makes them such."""

from __future__ import annotations

import re
from collections.abc import Callable

from etl.warehouses.duckdb.types import FLOATS, INTEGERS, Kind, literal

ZONED = "TIMESTAMP WITH TIME ZONE"
TIMESTAMP_DIGITS = {"TIMESTAMP_S": 0, "TIMESTAMP_MS": 3, "TIMESTAMP": 6, "TIMESTAMP_NS": 9}


def text_rule(target: Kind) -> tuple[Callable[[str], str], Callable[[str], str]] | None:
    """Return when a string is a value of a type exactly, and how it becomes one; None: never."""
    name = target.scalar
    if not name or name in {"BOOLEAN", "JSON", "VARIANT", '"NULL"'} or not is_plain(target):
        return None
    if name in INTEGERS or name.startswith("DECIMAL"):
        return lambda x: _exact_number(x, target), cast_to(target)
    if name in FLOATS:
        return lambda x: _exact_float(x, target), cast_to(target)
    if name == "BLOB":
        base64 = "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
        return lambda x: f"regexp_full_match({x}, '{base64}')", lambda x: f"from_base64({x})"
    if name == "INTERVAL":
        return _is_interval, _interval
    pattern = _text_pattern(name)
    if pattern:
        return (
            lambda x: f"regexp_full_match({x}, {literal(pattern)}) AND TRY_CAST({x} AS {name}) IS NOT NULL",
            cast_to(target),
        )
    return lambda x: f"lower(CAST(TRY_CAST({x} AS {target}) AS VARCHAR)) = lower({x})", cast_to(target)


# As `etl.field_types.interval` writes them; what DuckDB reads itself is "1 day 02:03:04".
_ISO_INTERVAL = r"P-?\d+DT-?\d+H-?\d+M-?\d+(\.\d{1,6}0*)?S"


def _interval(x: str) -> str:
    """Write how ISO 8601 in text becomes an INTERVAL, to the microsecond."""

    def digits(unit: str) -> str:
        return f"regexp_extract({x}, '(-?[0-9.]+){unit}', 1)"

    microseconds = (
        f"CAST({digits('H')} AS BIGINT) * 3600000000 + CAST({digits('M')} AS BIGINT) * 60000000 + "
        f"CAST(CAST({digits('S')} AS DECIMAL(38, 6)) * 1000000 AS BIGINT)"
    )
    iso = f"to_days(CAST({digits('D')} AS INTEGER)) + to_microseconds({microseconds})"
    return f"CASE WHEN regexp_full_match({x}, '{_ISO_INTERVAL}') THEN {iso} ELSE CAST({x} AS INTERVAL) END"


def _is_interval(x: str) -> str:
    """Write the condition that a text is an INTERVAL to its last digit, as ISO 8601 or DuckDB writes it."""
    own = f"lower(CAST(TRY_CAST({x} AS INTERVAL) AS VARCHAR)) = lower({x})"
    return f"(regexp_full_match({x}, '{_ISO_INTERVAL}') OR coalesce({own}, false))"


def _text_pattern(name: str) -> str | None:
    """Return what a string must look like for a type of date or time to keep all of it (RFC 3339, ISO 8601)."""
    day = r"\d{4}-\d{2}-\d{2}"
    if name == "DATE":
        return day
    if name == "TIME_NS":
        return r"\d{2}:\d{2}(:\d{2}(\.\d{1,9}0*)?)?"
    if name == "TIME":
        return r"\d{2}:\d{2}(:\d{2}(\.\d{1,6}0*)?)?"
    if name == "TIMESTAMP WITH TIME ZONE":
        return day + r"[Tt ]\d{2}:\d{2}(:\d{2}(\.\d{1,6}0*)?)?([Zz]|[+-]\d{2}(:?\d{2})?)"
    if name in TIMESTAMP_DIGITS:
        digits = TIMESTAMP_DIGITS[name]
        fraction = rf"\.\d{{1,{digits}}}0*" if digits else r"\.0+"
        return day + rf"([Tt ]\d{{2}}:\d{{2}}(:\d{{2}}({fraction})?)?)?"
    return None


def _exact_number(x: str, target: Kind) -> str:
    """Write the condition that a text is a decimal number which `target` holds to its last digit."""
    scale = re.fullmatch(r"DECIMAL\(\d+,\s*(\d+)\)", target.scalar)
    fraction = f"length(rtrim(regexp_extract({x}, '\\.(\\d+)', 1), '0'))"
    exponent = f"coalesce(TRY_CAST(regexp_extract({x}, '[eE](.+)$', 1) AS INTEGER), 0)"
    return (
        f"regexp_full_match({x}, '[+-]?(\\d+(\\.\\d*)?|\\.\\d+)([eE][+-]?\\d+)?') "
        f"AND {fraction} - {exponent} <= {scale[1] if scale else 0} AND TRY_CAST({x} AS {target}) IS NOT NULL"
    )


def _exact_float(x: str, target: Kind) -> str:
    """Write the condition that a number's text is that of a float, or of an integer that is one."""
    value = f"TRY_CAST({x} AS {target})"
    return (
        f"isfinite({value}) AND CASE WHEN regexp_full_match({x}, '-?\\d+') "
        f"THEN TRY_CAST({value} AS BIGNUM) = TRY_CAST({x} AS BIGNUM) "
        f"ELSE CAST({value} AS DOUBLE) = TRY_CAST({x} AS DOUBLE) END"
    )


def cast_to(target: Kind) -> Callable[[str], str]:
    """Return how SQL casts to a type."""
    return lambda x: f"CAST({x} AS {target})"


def json_text(kind: Kind) -> Callable[[str], str] | None:
    """Return how a value of a Parquet part is written as NDJSON has it; None: as DuckDB writes it, or it is no scalar.

    A time with an offset is written in UTC: its own offset is not in the part.
    """
    name = kind.scalar.partition("(")[0]
    if name in FLOATS:
        return lambda x: f"CAST(to_json({x}) AS VARCHAR)"
    if name == "BLOB":
        return lambda x: f"base64({x})"
    if name == "DECIMAL":  # DuckDB writes .5
        return lambda x: f"regexp_replace(CAST({x} AS VARCHAR), '^(-?)\\.', '\\10.')"
    if name == "TIME":
        return lambda x: _moment(f"(DATE '2000-01-01' + {x})", "%H:%M:%S.%f")
    if name == "TIMESTAMP":
        return lambda x: _moment(x, "%Y-%m-%dT%H:%M:%S.%f")
    if name == ZONED:
        return lambda x: _moment(f"({x} AT TIME ZONE 'UTC')", "%Y-%m-%dT%H:%M:%S.%f") + " || '+00:00'"
    return None


def _moment(x: str, form: str) -> str:
    """Write a moment with six digits of a second, or with none, as Python does."""
    return f"replace(strftime({x}, '{form}'), '.000000', '')"


def is_plain(kind: Kind) -> bool:
    """Say whether a type is a scalar, without anything inside."""
    return bool(kind.scalar) and not kind.scalar.endswith("]") and kind.scalar[:3] not in {"MAP", "UNI"}
