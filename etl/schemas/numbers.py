"""How many digits numbers have, and which type holds them."""

from __future__ import annotations

import re
from decimal import Decimal

from etl.schemas.types import DIGITS

# Up to here a double holds every integer: JSON numbers are safe (RFC 8259, section 6).
SAFE = 2**53 - 1

# What a number looks like as text.
NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")

# What stands for a number that is not finite in text; see `etl.formats`.
NOT_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})


def digits_after(value: Decimal) -> int:
    """Return the number of digits after the point; below zero for 1E+5."""
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int), "finite"
    return -exponent


def without_zeros(value: Decimal) -> Decimal:
    """Strip zeros after the last digit; `normalize` would round to the context's precision."""
    sign, figures, exponent = value.as_tuple()
    assert isinstance(exponent, int), "finite"
    end = len(figures)
    while end > 1 and figures[end - 1] == 0:
        end -= 1
    return Decimal((sign, figures[:end], exponent + len(figures) - end))


def least_type(value: Decimal) -> str:
    """Return the type that takes a Decimal, NUMERIC if it does; whether BIGNUMERIC does is for its check to see."""
    if not value.is_finite():
        return "NUMERIC"
    before, after = DIGITS["NUMERIC"]
    if value.adjusted() >= before or digits_after(value) > after:
        value = without_zeros(value)
    return (
        "NUMERIC"
        if not value or (value.adjusted() < before and digits_after(value) <= after)
        else "BIGNUMERIC"
    )
