"""Which numbers a NUMERIC or BIGNUMERIC column takes: the part of `values` with decimal digits."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from etl.columns import Column
from etl.warehouses.bigquery.types import DIGITS, Check, Maker, Unfit, digits, found, short

# Up to here a double holds every integer: JSON numbers are safe (RFC 8259, section 6).
SAFE = 2**53 - 1

# What a number looks like as text.
NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")


def _of_decimal(column: Column, typed: bool) -> Check:
    before, after = digits(column)
    kind = column.type if column.precision is None else f"{column.type}({before + after}, {after})"
    hint = "; declare the column as BIGNUMERIC" if kind == "NUMERIC" else ""

    def check(value: Decimal) -> Any:
        if not value.is_finite():
            return None
        if value.adjusted() >= before or _after(value) > after:
            if not value:
                return Decimal(0)
            value = _without_zeros(value)
            if value.adjusted() >= before or _after(value) > after:
                raise Unfit(
                    f"{kind} takes {before} digits before the point and {after} after it, found {found(value)}{hint}"
                )
        if _after(value) >= 0 and (typed or value.adjusted() >= -6):
            return value  # the encoder writes it as `str` does, which then is without an exponent
        text = format(value, "f")
        return Decimal(text) if typed else text

    return check


def _after(value: Decimal) -> int:
    """Return the number of digits after the point; below zero for 1E+5."""
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int), "finite"
    return -exponent


def _without_zeros(value: Decimal) -> Decimal:
    """Strip zeros after the last digit; `normalize` would round to the context's precision."""
    sign, figures, exponent = value.as_tuple()
    assert isinstance(exponent, int), "finite"
    end = len(figures)
    while end > 1 and figures[end - 1] == 0:
        end -= 1
    return Decimal((sign, figures[:end], exponent + len(figures) - end))


def _of_int(column: Column, typed: bool) -> Check:
    of_decimal = _of_decimal(column, typed)
    limit = 10 ** digits(column)[0]

    def check(value: int) -> Any:
        if not -limit < value < limit:
            raise Unfit(
                f"{column.type} takes {digits(column)[0]} digits before the point, found {short(value)}"
            )
        if typed:
            return of_decimal(Decimal(value))
        return value if -SAFE <= value <= SAFE else str(value)

    return check


def _of_float(column: Column, typed: bool) -> Check:
    of_decimal = _of_decimal(column, typed)
    return lambda value: of_decimal(Decimal(repr(value)))


def _of_text(column: Column, typed: bool) -> Check:
    of_decimal = _of_decimal(column, typed)

    def check(value: str) -> Any:
        if not NUMBER.fullmatch(value):
            raise Unfit(f"{column.type} takes numbers, found {found(value)}")
        return of_decimal(Decimal(value))

    return check


def least_type(value: Decimal) -> str:
    """Return the type that takes a Decimal, NUMERIC if it does; whether BIGNUMERIC does is for its check to see."""
    if not value.is_finite():
        return "NUMERIC"
    before, after = DIGITS["NUMERIC"]
    if value.adjusted() >= before or _after(value) > after:
        value = _without_zeros(value)
    return "NUMERIC" if not value or (value.adjusted() < before and _after(value) <= after) else "BIGNUMERIC"


MAKERS: dict[type, Maker] = {Decimal: _of_decimal, int: _of_int, float: _of_float, str: _of_text}
