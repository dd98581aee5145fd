"""Which dates and times a BigQuery column takes: the part of `values` with a clock.

The forms of text are those of "Loading JSON data", details of loading JSON data, in BigQuery's documentation; the T
of a DATETIME is from "Data types", canonical format. Years are 1 to 9999, fractions have six digits at most, but for
a TIMESTAMP of picoseconds (REST reference, TableFieldSchema, timestampPrecision), whose text has twelve.

BigQuery takes second 60 for the first of the next minute ("Data types", leap seconds), which is another moment: it is
refused. So is 24:00, which it does not have.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any

from etl.columns import Column
from etl.schemas.types import Unfit, found
from etl.warehouses.bigquery.types import Check

_MINUTES = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_SECONDS = r":[0-5][0-9](?:\.[0-9]{1,6})?"
_PICOSECONDS = r":[0-5][0-9](?:\.[0-9]{1,12})?"
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(_MINUTES + _SECONDS)
_DATETIME = re.compile(rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[ T]{_MINUTES}{_SECONDS}")


def _timestamp(seconds: str) -> re.Pattern[str]:
    return re.compile(
        r"([0-9]{4}(?:-[0-9]{2}-[0-9]{2}|/[0-9]{2}/[0-9]{2}))"
        rf"[ T]({_MINUTES}(?:{seconds})?)"
        # Offsets go to 14 hours.
        r"(?: ?(Z|UTC|([+-])(0?[0-9]|1[0-3]|14(?=$|:00))(?::([0-5][0-9]))?))?"
    )


_TIMESTAMP = _timestamp(_SECONDS)
_TIMESTAMP_12 = _timestamp(_PICOSECONDS)

# What is wrong with a text that has the form of a time, and is none.
_LEAP = re.compile(r":[0-5][0-9]:60")
_MIDNIGHT = re.compile(r"(?:^|[ T])24:00")
_FINE = re.compile(r":[0-9]{2}\.[0-9]{7,}")

# The precision of a TIMESTAMP that keeps more than microseconds.
PICOSECONDS = 12

# Years in which an offset may lead out of the range.
_EDGES = ("0001", "9999")


def timestamp_of_datetime(_column: Column, _typed: bool) -> Check:
    """Return the check for datetimes in a TIMESTAMP, which keeps the instant and no zone."""

    def check(value: datetime) -> Any:
        if value.tzinfo is UTC:
            return value
        if value.tzinfo is None or value.utcoffset() is None:
            return value.replace(tzinfo=UTC)
        try:
            return value.astimezone(UTC)
        except (OverflowError, ValueError) as error:
            raise Unfit(f"TIMESTAMP takes the years 1 to 9999 in UTC, found {found(value)}") from error

    return check


def timestamp_of_text(column: Column, typed: bool) -> Check:
    """Return the check for text in a TIMESTAMP."""
    of_datetime = timestamp_of_datetime(column, typed)
    fine = column.timestamp_precision == PICOSECONDS and not typed
    form = _TIMESTAMP_12 if fine else _TIMESTAMP

    def check(value: str) -> Any:
        match = form.fullmatch(value)
        if match is None:
            raise Unfit(
                "TIMESTAMP takes text such as 2024-01-31T12:00:00.123456Z or 2024-01-31 12:00:00+01:00"
                f"{_why(value, 12 if fine else 6)}, found {found(value)}"
            )
        _calendar(value, match[1])
        if not typed and not value.startswith(_EDGES):
            return value
        instant = of_datetime(_zoned(match))
        return instant if typed else value

    return check


def moment(text: str) -> date | datetime:
    """Return what a text stands for that fits a DATE, DATETIME or TIMESTAMP, to the microsecond; UTC without a zone.

    Raises:
        ValueError: it fits none.
    """
    if _DATE.fullmatch(text):
        return date.fromisoformat(text)
    match = _TIMESTAMP_12.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no date")
    return _zoned(match)


def _zoned(match: re.Match[str]) -> datetime:
    day, clock, zone, sign, hours, minutes = match.groups()
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    whole, _, fraction = clock.partition(".")
    local = datetime.fromisoformat(f"{day.replace('/', '-')}T{whole}")
    local = local.replace(microsecond=int(fraction[:6].ljust(6, "0")) if fraction else 0)
    return local.replace(tzinfo=timezone(-offset if sign == "-" else offset) if zone and sign else UTC)


def _why(value: str, digits: int) -> str:
    """Say what of a text is wrong that looks like a time; empty: nothing in particular."""
    if _LEAP.search(value):
        return "; it has no second 60, and would store the next minute's first: write that, if it is meant"
    if _MIDNIGHT.search(value):
        return "; a day ends before 24:00: write 00:00 of the next day"
    if _FINE.search(value):
        return f"; it keeps {digits} digits of a second: cut the others off, or declare the column as STRING"
    return ""


def date_of_text(_column: Column, typed: bool) -> Check:
    """Return the check for text in a DATE."""

    def check(value: str) -> Any:
        if not _DATE.fullmatch(value):
            raise Unfit(f"DATE takes text such as 2024-01-31, found {found(value)}")
        day = _calendar(value, value)
        return day if typed else value

    return check


def datetime_of_datetime(_column: Column, _typed: bool) -> Check:
    """Return the check for datetimes in a DATETIME, which has no zone."""

    def check(value: datetime) -> Any:
        if value.tzinfo is not None:
            raise Unfit(f"DATETIME has no zone, found {found(value)}; declare the column as TIMESTAMP")
        return value

    return check


def datetime_of_text(_column: Column, typed: bool) -> Check:
    """Return the check for text in a DATETIME."""

    def check(value: str) -> Any:
        if not _DATETIME.fullmatch(value):
            raise Unfit(
                f"DATETIME takes text such as 2024-01-31T12:00:00.123456{_why(value, 6)}, found {found(value)}"
            )
        _calendar(value, value[:10])
        return datetime.fromisoformat(value) if typed else value

    return check


def time_of_time(_column: Column, _typed: bool) -> Check:
    """Return the check for times in a TIME, which has no zone."""

    def check(value: time) -> Any:
        if value.tzinfo is not None:
            raise Unfit(f"TIME has no zone, found {found(value)}")
        return value

    return check


def time_of_text(_column: Column, typed: bool) -> Check:
    """Return the check for text in a TIME."""

    def check(value: str) -> Any:
        if not _TIME.fullmatch(value):
            raise Unfit(f"TIME takes text such as 12:00:00.123456{_why(value, 6)}, found {found(value)}")
        return time.fromisoformat(value) if typed else value

    return check


def _calendar(value: str, day: str) -> date:
    """Return the date that `day` is, if the calendar has it."""
    try:
        return date.fromisoformat(day.replace("/", "-"))
    except ValueError as error:
        raise Unfit(f"the calendar has no such day, found {found(value)}") from error
