"""Which dates and times a BigQuery column takes: the part of `values` with a clock.

The forms of text are those of "Loading JSON data", details of loading JSON data, in BigQuery's documentation; the T
of a DATETIME is from "Data types", canonical format. Years are 1 to 9999, fractions have six digits at most.
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
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(_MINUTES + _SECONDS)
_DATETIME = re.compile(rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[ T]{_MINUTES}{_SECONDS}")
# Offsets go to 14 hours.
_TIMESTAMP = re.compile(
    r"([0-9]{4}(?:-[0-9]{2}-[0-9]{2}|/[0-9]{2}/[0-9]{2}))"
    rf"[ T]({_MINUTES}(?:{_SECONDS})?)"
    r"(?: ?(Z|UTC|([+-])(0?[0-9]|1[0-3]|14(?=$|:00))(?::([0-5][0-9]))?))?"
)
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

    def check(value: str) -> Any:
        match = _TIMESTAMP.fullmatch(value)
        if match is None:
            raise Unfit(
                f"TIMESTAMP takes text such as 2024-01-31T12:00:00.123456Z or 2024-01-31 12:00:00+01:00, "
                f"found {found(value)}"
            )
        day, clock, zone, sign, hours, minutes = match.groups()
        _calendar(value, day)
        if not typed and not value.startswith(_EDGES):
            return value
        offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        local = datetime.fromisoformat(f"{day.replace('/', '-')}T{clock}")
        zoned = local.replace(tzinfo=timezone(-offset if sign == "-" else offset) if zone and sign else UTC)
        instant = of_datetime(zoned)
        return instant if typed else value

    return check


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
            raise Unfit(f"DATETIME takes text such as 2024-01-31T12:00:00.123456, found {found(value)}")
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
            raise Unfit(f"TIME takes text such as 12:00:00.123456, found {found(value)}")
        return time.fromisoformat(value) if typed else value

    return check


def _calendar(value: str, day: str) -> date:
    """Return the date that `day` is, if the calendar has it."""
    try:
        return date.fromisoformat(day.replace("/", "-"))
    except ValueError as error:
        raise Unfit(f"the calendar has no such day, found {found(value)}") from error
