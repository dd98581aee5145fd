"""Which numbers a NUMERIC or BIGNUMERIC column takes: the part of `values` with decimal digits."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from etl.columns import Column
from etl.formats import number_word
from etl.schemas.numbers import NUMBER, SAFE, digits_after, without_zeros
from etl.schemas.types import Unfit, digits, found, short
from etl.warehouses.bigquery.types import Check, Maker

# What a BIGNUMERIC holds is a whole number of 10**-38 ("Data types", decimal types: the 77th digit is partial).
_UNIT = 38
_MOST, _LEAST = 2**255 - 1, -(2**255)


def _is_partial(value: Decimal) -> bool:
    """Say whether a number with 39 digits before the point, and not more after it than a BIGNUMERIC has, is one."""
    sign, figures, exponent = value.as_tuple()
    assert isinstance(exponent, int), "finite"
    whole: int = int("".join(map(str, figures))) * 10 ** (exponent + _UNIT)
    return _LEAST <= (-whole if sign else whole) <= _MOST


def _of_decimal(column: Column, typed: bool) -> Check:
    before, after = digits(column)
    # Parquet's decimals have 76 digits.
    partial = column.type == "BIGNUMERIC" and column.precision is None and not typed
    kind = column.type if column.precision is None else f"{column.type}({before + after}, {after})"
    hint = "; declare the column as BIGNUMERIC" if kind == "NUMERIC" else ""

    def check(value: Decimal) -> Any:
        if not value.is_finite():
            raise Unfit(f"{kind} has no {number_word(value)}; declare the column as FLOAT, or drop the value")
        if value.adjusted() >= before or digits_after(value) > after:
            if not value:
                return Decimal(0)
            value = without_zeros(value)
            fits = (
                partial and value.adjusted() == before and digits_after(value) <= after and _is_partial(value)
            )
            if not fits and (value.adjusted() >= before or digits_after(value) > after):
                raise Unfit(
                    f"{kind} takes {before} digits before the point and {after} after it, found {found(value)}{hint}"
                )
        if digits_after(value) >= 0 and (typed or value.adjusted() >= -6):
            return value  # the encoder writes it as `str` does, which then is without an exponent
        text = format(value, "f")
        return Decimal(text) if typed else text

    return check


def _of_int(column: Column, typed: bool) -> Check:
    of_decimal = _of_decimal(column, typed)
    limit = 10 ** digits(column)[0]
    bounds = range(1 - limit, limit)
    if column.type == "BIGNUMERIC" and column.precision is None and not typed:
        bounds = range(-(_MOST // 10**_UNIT), _MOST // 10**_UNIT + 1)

    def check(value: int) -> Any:
        if value not in bounds:
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


MAKERS: dict[type, Maker] = {Decimal: _of_decimal, int: _of_int, float: _of_float, str: _of_text}
