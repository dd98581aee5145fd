"""Which durations a BigQuery INTERVAL takes: the part of `values` with years, days and hours.

Its three parts have each their own range, -10000-0 -3660000 -87840000:0:0 to 10000-0 3660000 87840000:0:0 ("Data
types", interval type). A load takes ISO 8601, P1Y2M3DT4H5M6.5S, whose T must always be there ("Loading JSON data",
details); the canonical format, 1-2 3 4:5:6.5, is written so.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from etl.columns import Column
from etl.field_types import interval
from etl.schemas.types import Unfit, found
from etl.warehouses.bigquery.types import Check

MOST_MONTHS = 10_000 * 12
MOST_DAYS = 3_660_000
MOST_MICROSECONDS = 87_840_000 * 3600 * 10**6

_WHOLE = r"(-?[0-9]{1,18})"
_ISO = re.compile(
    rf"P(?=.*[0-9])(?:{_WHOLE}Y)?(?:{_WHOLE}M)?(?:{_WHOLE}D)?"
    rf"T(?:{_WHOLE}H)?(?:{_WHOLE}M)?(?:(-?)([0-9]{{1,18}})(?:\.([0-9]{{1,6}}))?S)?"
)
_CANONICAL = re.compile(
    r"([+-]?)([0-9]{1,5})-([0-9]|0[0-9]|1[01]) ([+-]?[0-9]{1,7}) "
    r"([+-]?)([0-9]{1,8}):([0-5]?[0-9]):([0-5]?[0-9])(?:\.([0-9]{1,6}))?"
)
_FINE = re.compile(r"\.[0-9]{7,}")


def of_text(_column: Column, _typed: bool) -> Check:
    """Return the check for text in an INTERVAL."""

    def check(value: str) -> Any:
        if match := _ISO.fullmatch(value):
            years, months, days, hours, minutes, sign, seconds, fraction = match.groups()
            size = int(seconds or 0) * 10**6 + int((fraction or "").ljust(6, "0"))
            _within(
                value,
                months=int(years or 0) * 12 + int(months or 0),
                days=int(days or 0),
                microseconds=(int(hours or 0) * 60 + int(minutes or 0)) * 60 * 10**6
                + (-size if sign else size),
            )
            return f"{value}0S" if value.endswith("T") else value
        if match := _CANONICAL.fullmatch(value):
            sign, years, months, days, clock, hours, minutes, seconds, fraction = match.groups()
            sign, clock = sign.removeprefix("+"), clock.removeprefix("+")
            size = (int(hours) * 60 + int(minutes)) * 60 + int(seconds)
            _within(
                value,
                months=int(years) * 12 + int(months),
                days=int(days),
                microseconds=size * 10**6 + int((fraction or "").ljust(6, "0")),
            )
            part = f".{fraction}" if fraction else ""
            return (
                f"P{sign}{int(years)}Y{sign}{int(months)}M{int(days)}D"
                f"T{clock}{int(hours)}H{clock}{int(minutes)}M{clock}{int(seconds)}{part}S"
            )
        more = "; it keeps six digits of a second" if _FINE.search(value) else ""
        raise Unfit(
            f"INTERVAL takes text such as P1Y2M3DT4H5M6.5S or 1-2 3 4:5:6.5{more}, found {found(value)}"
        )

    return check


def of_timedelta(_column: Column, _typed: bool) -> Check:
    """Return the check for a timedelta, which has days, and seconds of a day."""

    def check(value: timedelta) -> Any:
        if abs(value) >= timedelta(days=MOST_DAYS + 1):
            raise Unfit(f"INTERVAL takes {MOST_DAYS:,} days, found {found(value)}")
        return interval(value)

    return check


def _within(value: str, *, months: int, days: int, microseconds: int) -> None:
    for size, most, said in (
        (months, MOST_MONTHS, "10,000 years"),
        (days, MOST_DAYS, f"{MOST_DAYS:,} days"),
        (microseconds, MOST_MICROSECONDS, "87,840,000 hours"),
    ):
        if abs(size) > most:
            raise Unfit(f"INTERVAL takes {said}, found {found(value)}; declare the column as STRING")
