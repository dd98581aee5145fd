"""Which values a BigQuery column takes, and what they are written as. One check a type.

A value is written as it is, or as another one that means exactly the same; a conversion that would lose anything is
refused. The forms are those of "Loading JSON data" (details of loading JSON data) and "Data types" in BigQuery's
documentation; what it does not document is not relied upon.

==============  ======================================================================================================
INTEGER         an int of 64 bits; past 2**53, where JSON numbers are not safe, it is written as text, as the
                documentation asks; text of digits; a float or Decimal without a fraction
FLOAT           a float; an int, Decimal or text that a float holds exactly; NaN, Infinity and -Infinity, also as text
NUMERIC,        a Decimal, int, float or text with no more digits before and after the point than the column keeps
BIGNUMERIC      (BigQuery would round, by the column's rounding mode); a BIGNUMERIC has a 39th digit before the point in
                part, up to 2**255 / 10**38; written as text where a JSON number is not safe. A float counts as the
                shortest number that stands for it, which is what JSON has, too
BOOLEAN         a bool; 1 and 0; the texts true, t, yes, y, 1 and their opposites
STRING          text; a UUID, Decimal, date or time, as text. Not numbers: a load of them has failed with "Could not
                convert value to string", and 7 would be "7"
BYTES           bytes; text that is base64
TIMESTAMP       a datetime; text with a date and a time, with or without a zone. Without one it is UTC, as BigQuery
                has it. Six digits of a second; twelve where the column has them, in text and NDJSON. Numbers are
                refused: seconds and milliseconds look alike
DATE            a date; YYYY-MM-DD
DATETIME        a datetime without a zone; YYYY-MM-DD HH:MM:SS[.ffffff], T in place of the blank
TIME            a time without a zone; HH:MM:SS[.ffffff]
GEOGRAPHY       text: WKT, GeoJSON, WKB in hexadecimal digits; see `geography`
INTERVAL        a timedelta; text: P1Y2M3DT4H5M6.5S, 1-2 3 4:5:6.5; see `intervals`. NDJSON only
JSON            anything that is nested in no more levels than the encoder writes. NDJSON only
==============  ======================================================================================================

NaN and the infinities are these words in JSON (`etl.formats`), which a load takes for a FLOAT: BigQuery's own client
writes them so (`google.cloud.bigquery._helpers._float_to_json`). No other type of numbers has them.
"""

from __future__ import annotations

import base64
import math
import re
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from etl.columns import Column
from etl.formats import number_word
from etl.schemas.numbers import NOT_FINITE, NUMBER, SAFE
from etl.schemas.types import Unfit, found, short
from etl.warehouses.bigquery import decimals, geography, intervals, times
from etl.warehouses.bigquery.types import Check, Maker

_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
_BOOLEANS = dict.fromkeys(("true", "t", "yes", "y", "1"), True) | dict.fromkeys(
    ("false", "f", "no", "n", "0"), False
)


def check_for(column: Column, kind: type, typed: bool) -> Check | None:
    """Return the check for values of a Python type in a column that is no RECORD; its mode is not looked at.

    Args:
        column: the column.
        kind: the type of the values, not None's.
        typed: whether the format has types of its own (Parquet) or is JSON.

    Returns:
        The check; None: each value of the type fits and is written as it is.
    """
    if typed and column.type in ("JSON", "INTERVAL"):
        return _refusing(f"BigQuery loads {column.type} from NDJSON only: use the format ndjson.gz")
    if column.type == "JSON":
        return None
    make = _MAKERS[column.type].get(kind)
    if make is None:
        return _refusing(f"{column.type} takes {_TAKES[column.type]}")
    return make(column, typed)


def _refusing(reason: str) -> Check:
    def refuse(value: Any) -> Any:
        raise Unfit(f"{reason}; found {found(value)}")

    return refuse


def _as_is(_column: Column, _typed: bool) -> None:
    return None


# INTEGER


def _integer_of_int(_column: Column, typed: bool) -> Check:
    def check(value: int) -> Any:
        if -SAFE <= value <= SAFE:
            return value
        if not -(2**63) <= value < 2**63:
            raise Unfit(
                f"INTEGER takes 64 bits, found {short(value)}; declare the column as NUMERIC, BIGNUMERIC or STRING"
            )
        return value if typed else str(value)

    return check


def _integer_of_text(column: Column, typed: bool) -> Check:
    of_int = _integer_of_int(column, typed)

    def check(value: str) -> Any:
        if not _INTEGER.fullmatch(value):
            raise Unfit(f"INTEGER takes whole numbers, found {found(value)}")
        return of_int(int(value))

    return check


def _integer_of_number(column: Column, typed: bool) -> Check:
    of_int = _integer_of_int(column, typed)

    def check(value: float | Decimal) -> Any:
        # math.isfinite raises for a NaN that signals
        if not (value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)):
            raise Unfit(
                f"INTEGER has no {number_word(value)}; declare the column as FLOAT, or drop the value"
            )
        if not -(2**63) <= value < 2**63 or value != int(value):
            raise Unfit(
                f"INTEGER takes whole numbers of 64 bits, found {found(value)}; declare the column as FLOAT or NUMERIC"
            )
        return of_int(int(value))

    return check


# FLOAT


def _float_of_int(_column: Column, typed: bool) -> Check:
    def check(value: int) -> Any:
        if -SAFE <= value <= SAFE:
            return float(value) if typed else value
        try:
            converted = float(value)
        except OverflowError:
            converted = math.inf
        if converted != value:
            raise Unfit(
                f"FLOAT would lose digits of {short(value)}; declare the column as NUMERIC or BIGNUMERIC"
            )
        return converted

    return check


def _float_of_decimal(_column: Column, _typed: bool) -> Check:
    def check(value: Decimal) -> Any:
        if not value.is_finite():
            return float(number_word(value))
        converted = float(value)
        if not math.isfinite(converted) or Decimal(repr(converted)) != value:
            raise Unfit(
                f"FLOAT would lose digits of {found(value)}; declare the column as NUMERIC or BIGNUMERIC"
            )
        return converted

    return check


def _float_of_text(column: Column, typed: bool) -> Check:
    of_decimal = _float_of_decimal(column, typed)

    def check(value: str) -> Any:
        if value in NOT_FINITE:
            return float(value)
        if not NUMBER.fullmatch(value):
            raise Unfit(f"FLOAT takes numbers, found {found(value)}")
        return of_decimal(Decimal(value))

    return check


# BOOLEAN


def _boolean_of_int(_column: Column, _typed: bool) -> Check:
    def check(value: int) -> Any:
        if value not in (0, 1):
            raise Unfit(f"BOOLEAN takes 1 and 0 of all numbers, found {short(value)}")
        return value == 1

    return check


def _boolean_of_text(_column: Column, _typed: bool) -> Check:
    def check(value: str) -> Any:
        converted = _BOOLEANS.get(value.lower())
        if converted is None:
            raise Unfit(f"BOOLEAN takes the texts {', '.join(_BOOLEANS)}; found {found(value)}")
        return converted

    return check


# STRING, BYTES


def _string_of_text(column: Column, _typed: bool) -> Check | None:
    limit = column.max_length
    if limit is None:
        return None

    def check(value: str) -> Any:
        if len(value) > limit:
            raise Unfit(f"STRING({limit}) takes {limit} characters, found {len(value)}: {found(value)}")
        return value

    return check


def _string_by(convert: Callable[[Any], str]) -> Maker:
    def make(column: Column, typed: bool) -> Check:
        of_text = _string_of_text(column, typed)

        def check(value: Any) -> Any:
            text = convert(value)
            return text if of_text is None else of_text(text)

        return check

    return make


def _text_of_decimal(value: Decimal) -> str:
    return str(value) if value.is_finite() else number_word(value)


def _bytes_of_bytes(column: Column, typed: bool) -> Check | None:
    limit = column.max_length
    if limit is None and not typed:
        return None

    def check(value: bytes | bytearray | memoryview) -> Any:
        size = memoryview(value).nbytes
        if limit is not None and size > limit:
            raise Unfit(f"BYTES({limit}) takes {limit} bytes, found {size}")
        return bytes(value) if typed else value

    return check


def _bytes_of_text(column: Column, typed: bool) -> Check:
    of_bytes = _bytes_of_bytes(column, typed)

    def check(value: str) -> Any:
        try:
            decoded = base64.b64decode(value, validate=True)
        except ValueError as error:
            raise Unfit(f"BYTES takes text in base64, found {found(value)}") from error
        if of_bytes:
            of_bytes(decoded)
        return decoded if typed else value

    return check


_MAKERS: dict[str, dict[type, Maker]] = {
    "INTEGER": {
        int: _integer_of_int,
        str: _integer_of_text,
        float: _integer_of_number,
        Decimal: _integer_of_number,
    },
    "FLOAT": {float: _as_is, int: _float_of_int, Decimal: _float_of_decimal, str: _float_of_text},
    "NUMERIC": decimals.MAKERS,
    "BIGNUMERIC": decimals.MAKERS,
    "BOOLEAN": {bool: _as_is, int: _boolean_of_int, str: _boolean_of_text},
    "STRING": {
        str: _string_of_text,
        uuid.UUID: _string_by(str),
        Decimal: _string_by(_text_of_decimal),
        datetime: _string_by(datetime.isoformat),
        date: _string_by(date.isoformat),
        time: _string_by(time.isoformat),
    },
    "BYTES": {
        bytes: _bytes_of_bytes,
        bytearray: _bytes_of_bytes,
        memoryview: _bytes_of_bytes,
        str: _bytes_of_text,
    },
    "TIMESTAMP": {datetime: times.timestamp_of_datetime, str: times.timestamp_of_text},
    "DATE": {date: _as_is, str: times.date_of_text},
    "DATETIME": {datetime: times.datetime_of_datetime, str: times.datetime_of_text},
    "TIME": {time: times.time_of_time, str: times.time_of_text},
    "GEOGRAPHY": {str: geography.of_text},
    "INTERVAL": {timedelta: intervals.of_timedelta, str: intervals.of_text},
}
_TAKES = {
    "INTEGER": "whole numbers",
    "FLOAT": "numbers",
    "NUMERIC": "numbers",
    "BIGNUMERIC": "numbers",
    "BOOLEAN": "true and false",
    "STRING": "text: make it text if that is meant",
    "BYTES": "bytes, or text in base64",
    "TIMESTAMP": "a datetime or text such as 2024-01-31T12:00:00Z, as a number may be seconds or milliseconds",
    "DATE": "a date or text such as 2024-01-31",
    "DATETIME": "a datetime without a zone, or text such as 2024-01-31T12:00:00",
    "TIME": "a time without a zone, or text such as 12:00:00",
    "GEOGRAPHY": "WKT, GeoJSON or WKB as text",
    "INTERVAL": "a timedelta or text such as P1Y2M3DT4H5M6.5S",
}
