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


_LARGEST_EXPONENT = 6144
# A double's exact value has no more significant digits than that.
_MOST_DIGITS = 767
_INFINITY = float("inf")


def json_number(text: str) -> float | Decimal:
    """Return the value of a JSON number that has a fraction or an exponent.

    It is a float where that prints as the number when it is asked for as many significant digits, so that what programs
    write of doubles stays one: the shortest form, `%.17g`, `%.20f`. Else it is a Decimal: more digits than a double
    holds, or beyond its range (`1E400`, `1E-400`).

    Raises:
        ValueError: its exponent is beyond those of decimal128 (IEEE 754-2019, table 3.6: 6144).
    """
    value = float(text)
    if (len(text) < 17 and 1e-290 < abs(value) < 1e290) or repr(value) == text:
        return value  # 15 digits at most, or as it is written
    mantissa, _, exponent = text.lower().partition("e")
    digits = mantissa.lstrip("-").replace(".", "").strip("0")
    if not digits:
        return value
    if value and abs(value) != _INFINITY and len(digits) <= _MOST_DIGITS:
        printed = f"{abs(value):.{len(digits) - 1}e}".partition("e")[0].replace(".", "")
        if printed == digits:
            return value
    if len(exponent.lstrip("+-0")) <= 4:
        exact = Decimal(text)
        if value and abs(value) != _INFINITY and Decimal(repr(value)) == exact:
            return value  # the shortest form: where two are as near, it need not be the one that is printed
        if abs(exact.adjusted()) <= _LARGEST_EXPONENT:
            return exact
    raise ValueError(f"the number {text[:40]} is beyond all that is stored: more than 1E{_LARGEST_EXPONENT}")


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
