"""Dates and timestamps."""

from __future__ import annotations

import math
import re
import zoneinfo
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from typing import Any

from etl import tables
from etl.casts.numbers import whole
from etl.casts.options import Cast, Options, Uncastable, bad
from etl.errors import ConfigError
from etl.schemas.numbers import NUMBER

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# Of digits after the microsecond only zeros are taken.
_TIMESTAMP = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?)(?:(?<=\.[0-9]{6})0+)?"
    r" ?([Zz]|UTC|[+-][0-9]{2}(?::?[0-9]{2})?)?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_DIGITS = 20  # of a number since 1970: with more, arithmetic would round


def _formats(options: Options) -> Sequence[str]:
    return [options.format] if isinstance(options.format, str) else options.format or []


def _parsed(text: str, formats: Sequence[str]) -> datetime | None:
    for form in formats:
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    return None


def date_(options: Options, _where: str) -> Cast:
    """Return what casts to `date`."""
    formats = _formats(options)

    def cast(value: Any) -> Any:
        if isinstance(value, datetime):
            if value.time() == time.min:
                return value.date()
        elif isinstance(value, date):
            return value
        elif value.__class__ is str:
            text = value.strip()
            if formats:
                if (parsed := _parsed(text, formats)) is not None:
                    return parsed.date()
            elif _DATE.fullmatch(text):
                try:
                    return date.fromisoformat(text)
                except ValueError:
                    pass
        raise bad(value, f"date of the form {' or '.join(formats) or 'YYYY-MM-DD'}")

    return cast


def timestamp(options: Options, where: str) -> Cast:
    """Return what casts to `datetime`."""
    formats, unit = _formats(options), options.unit
    for form in formats:
        if "%Z" in form.replace("%%", ""):
            raise ConfigError(
                f"{where}.format: %Z reads the name of a zone, and Python forgets it: write the name as it stands in "
                "the text, and say what it means with zone; or %z, if it is an offset"
            )
    zone = _zone(options.zone, f"{where}.zone") if options.zone is not None else None

    def of_text(value: str) -> datetime | None:
        text = value.strip()
        if unit is not None and NUMBER.fullmatch(text):
            return of_number(Decimal(text))
        if formats:
            return _parsed(text, formats)
        match = _TIMESTAMP.fullmatch(text)
        if match is None:
            return None
        try:
            return datetime.fromisoformat(match[1] + (match[2] or "").upper().replace("UTC", "Z"))
        except ValueError:
            return None

    def of_number(value: int | float | Decimal) -> datetime | None:
        if unit is None or not math.isfinite(value):
            return None
        exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
        if len(exact.as_tuple().digits) > _DIGITS:
            return None
        try:
            return _EPOCH + timedelta(microseconds=whole(exact * _MICROSECONDS[unit], value))
        except (Uncastable, OverflowError):
            return None

    def cast(value: Any) -> Any:
        kind = value.__class__
        found: datetime | None = None
        if kind is str:
            found = of_text(value)
        elif isinstance(value, datetime):
            found = value
        elif kind in (int, float, Decimal):
            found = of_number(value)
        if found is None:
            form = " or ".join(formats) or "YYYY-MM-DDTHH:MM:SS[.ffffff][Z]"
            hint = (
                ' (a number needs unit = "s", "ms" or "us")' if kind in (int, float) and unit is None else ""
            )
            raise bad(value, f"timestamp of the form {form}{hint}")
        return found.replace(tzinfo=zone) if zone is not None and found.tzinfo is None else found

    return cast


def _zone(name: str, where: str) -> tzinfo:
    if name.upper() in ("UTC", "Z"):
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigError(
            f'{where}: there is no zone {tables.show(name)} here; write it as "Europe/Berlin"'
        ) from error
