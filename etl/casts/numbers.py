"""Numbers: integer, float, decimal."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from etl import tables
from etl.casts.options import Cast, Options, bad
from etl.errors import ConfigError
from etl.schemas.numbers import NUMBER

_WHOLE = re.compile(r"[+-]?[0-9]+")
_BLANKS = "\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}"
_SAFE_DIGITS = 15  # as many every float keeps (IEEE 754 binary64)
_LONGEST = 400  # digits of a whole number


def _digits(options: Options, where: str) -> Callable[[str], str | None]:
    """Return what gives the text of a number as Python writes it; None: it is none."""
    point, group = options.decimal, options.thousands
    for key, sign in (("decimal", point), ("thousands", group)):
        if sign is not None and (len(sign) != 1 or sign.isalnum() or sign in "+-"):
            raise ConfigError(
                f'{where}.{key}: expected one sign, such as "," or ".", found {tables.show(sign)}'
            )
    if point == group:
        raise ConfigError(
            f'{where}: thousands and decimal are both {tables.show(point)}: set decimal = "," or "."'
        )
    if group is None:

        def plain(text: str) -> str | None:
            text = text.strip()
            if point != ".":
                if "." in text:
                    return None
                text = text.replace(point, ".")
            return text if NUMBER.fullmatch(text) else None

        return plain
    between = re.escape(group) if group != " " else f"[ {_BLANKS}]"
    # Groups of three digits; in India all but the last have two.
    grouped = re.compile(
        rf"([+-]?(?:[0-9]+|[0-9]{{1,3}}(?:{between}[0-9]{{2,3}})*{between}[0-9]{{3}}))(?:{re.escape(point)}([0-9]*))?"
    )
    separator = re.compile(between)

    def ungrouped(text: str) -> str | None:
        match = grouped.fullmatch(text.strip())
        if match is None:
            return None
        whole = separator.sub("", match[1])
        return f"{whole}.{match[2]}" if match[2] else whole

    return ungrouped


def integer(options: Options, where: str) -> Cast:
    """Return what casts to `int`."""
    digits = _digits(options, where)

    def cast(value: Any) -> Any:
        kind = value.__class__
        if kind is int:
            return value
        if kind is str and value.isascii() and value.isdigit() and len(value) <= _SAFE_DIGITS:
            return int(value)
        if kind is str:
            text = digits(value)
            if text is not None and len(text) <= _LONGEST:
                return int(text) if _WHOLE.fullmatch(text) else whole(Decimal(text), value)
        elif kind is bool:
            return int(value)
        elif (
            kind in (float, Decimal) and Decimal(value).is_finite()
        ):  # math.isfinite raises for a NaN that signals
            return whole(Decimal(value), value)
        raise bad(value, "integer")

    return cast


def whole(number: Decimal, value: Any) -> int:
    """Return a number as an integer, if it is one; `value` is what it was, for the message."""
    if number.adjusted() > _LONGEST or number != number.to_integral_value():
        raise bad(value, "integer")
    return int(number)


def float_(options: Options, where: str) -> Cast:
    """Return what casts to `float`."""
    digits = _digits(options, where)

    def cast(value: Any) -> Any:
        kind = value.__class__
        if kind is float:
            return value
        if kind is str:
            text = digits(value)
            if text is not None:
                number = float(text)
                whole = _SAFE_DIGITS < len(text) <= _LONGEST and _WHOLE.fullmatch(text)
                if math.isfinite(number) and not (whole and number != int(text)):
                    return number
        elif kind in (int, bool, Decimal):
            try:
                number = float(value)
            except (OverflowError, ValueError):
                number = math.inf
            if math.isfinite(number) and (kind is Decimal or number == value):
                return number
        raise bad(value, "float that has all its digits" if kind in (int, str) else "float")

    return cast


def decimal(options: Options, where: str) -> Cast:
    """Return what casts to `Decimal`."""
    digits = _digits(options, where)

    def cast(value: Any) -> Any:
        kind = value.__class__
        if kind is Decimal:
            return value
        if kind is str:
            text = digits(value)
            if text is not None:
                return Decimal(text)
        elif kind is int or kind is bool:
            return Decimal(value)
        elif kind is float and math.isfinite(value):
            return Decimal(repr(value))
        raise bad(value, "decimal number")

    return cast
