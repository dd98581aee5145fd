"""The types of CSV columns: what fits each, how a whole column is converted at once, and how one is inferred.

| word | takes | becomes |
|---|---|---|
| `string` | anything | the text |
| `integer` | `-?` digits, without leading zeros, of any size | `int`, exact |
| `float` | a decimal number, with or without exponent; `NaN`, `Inf`, `-Inf`, `Infinity`, `-Infinity` | `float` |
| `boolean` | `true`, `True`, `TRUE`, `false`, `False`, `FALSE` | `bool` |
| `date` | `YYYY-MM-DD` | the text, checked |
| `timestamp` | ISO 8601: a date, or date and time (after `T` or a space, any offset) | the text, checked |

A whole number that no float holds exactly is no float. Null words become None in columns of every type. Dates and
timestamps stay text because that is exact, is what JSON carries, and costs nothing; a transform that needs them calls
`datetime.fromisoformat`.

Columns are converted whole, through msgspec's JSON decoder where it can read them: three times as fast as a
call for each field.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from functools import partial
from typing import Any, Literal, get_args

import msgspec

Type = Literal["string", "integer", "float", "boolean", "date", "timestamp"]
Convert = Callable[[Sequence[str]], Sequence[Any]]

TYPES: tuple[Type, ...] = get_args(Type)

# No `+` and no leading zero: telephone numbers, postal codes and the like are text.
_FLOAT = re.compile(r"\s*-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*", re.ASCII)
_NOT_FINITE = ("NaN", "nan", "Inf", "inf", "-Inf", "-inf", "Infinity", "-Infinity")
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ].+)?")
_DIGITS = re.compile(r"\s*-?[0-9]+\s*", re.ASCII)

# Beyond it, floats do not hold every whole number.
_SAFE = 2**53
_LONG = 400  # no float has more digits

_integers = msgspec.json.Decoder(list[int]).decode
_integers_or_null = msgspec.json.Decoder(list[int | None]).decode
_floats = msgspec.json.Decoder(list[float]).decode
_floats_or_null = msgspec.json.Decoder(list[float | None]).decode


def converter(type_: str, nulls: frozenset[str]) -> Convert:
    """Return what turns a column of text into values of `type_`; it raises ValueError when one does not fit.

    Args:
        type_: one of `TYPES`.
        nulls: the words that become None.
    """
    kinds: dict[str, Callable[[frozenset[str], Sequence[str]], Sequence[Any]]] = {
        "string": _strings,
        "integer": _to_integers,
        "float": _to_floats,
        "boolean": _to_booleans,
        "date": partial(_checked, check_date),
        "timestamp": partial(_checked, check_timestamp),
    }
    return partial(kinds[type_], nulls)


def infer(column: Sequence[str], nulls: frozenset[str]) -> Type:
    """Return the narrowest type that every value of a column fits; `string` for a column of nulls.

    Whole numbers past 64 bits are taken for names of things: text.
    """
    present = [text for text in column if text not in nulls]
    if not present or any(len(text) > 18 and _is_huge(text) for text in present):
        return "string"
    candidates: tuple[Type, ...] = ("integer", "float", "boolean", "date", "timestamp")
    for candidate in candidates:
        try:
            converter(candidate, frozenset())(present)
        except ValueError:
            continue
        return candidate
    return "string"


def check_date(text: str) -> None:
    """Raise ValueError unless `text` is a date."""
    if _DATE.fullmatch(text) is None:
        raise ValueError(text)
    date.fromisoformat(text)


def check_timestamp(text: str) -> None:
    """Raise ValueError unless `text` is a timestamp or a date."""
    if _TIMESTAMP.fullmatch(text) is None:
        raise ValueError(text)
    datetime.fromisoformat(text)


def _strings(nulls: frozenset[str], column: Sequence[str]) -> Sequence[Any]:
    if nulls.isdisjoint(column):
        return column
    return [None if text in nulls else text for text in column]


def _to_integers(nulls: frozenset[str], column: Sequence[str]) -> Sequence[Any]:
    try:
        return _of_length(_integers(f"[{','.join(column)}]"), column)
    except ValueError:
        return _filled(_integers_or_null, nulls, column)


def _to_floats(nulls: frozenset[str], column: Sequence[str]) -> Sequence[Any]:
    try:
        values = _of_length(_floats(f"[{','.join(column)}]"), column)
        largest = max(map(abs, values), default=0.0)
    except ValueError:
        try:
            values = _filled(_floats_or_null, nulls, column)
            largest = max((abs(value) for value in values if value is not None), default=0.0)
        except ValueError:
            return [None if text in nulls else _float(text) for text in column]
    if largest >= _SAFE:  # a whole number may have lost digits
        return [None if text in nulls else _float(text) for text in column]
    return values


def _filled(decode: Callable[[str], list[Any]], nulls: frozenset[str], column: Sequence[str]) -> list[Any]:
    """Decode a column with nulls in it; a value that happens to read `null` and is no null word fits nothing."""
    if "null" not in nulls and "null" in column:
        raise ValueError("null")
    filled = ["null" if text in nulls else text for text in column]
    return _of_length(decode(f"[{','.join(filled)}]"), column)


def _of_length(values: list[Any], column: Sequence[str]) -> list[Any]:
    """Return `values`, if there is one for each field: a field such as `1,2` reads as two."""
    if len(values) != len(column):
        raise ValueError("a comma in a number")
    return values


def _to_booleans(nulls: frozenset[str], column: Sequence[str]) -> list[Any]:
    try:
        return [None if text in nulls else _BOOLEANS[text] for text in column]
    except KeyError as error:
        raise ValueError(str(error)) from error


def _checked(check: Callable[[str], None], nulls: frozenset[str], column: Sequence[str]) -> Sequence[Any]:
    distinct = set(column)
    present = distinct - nulls
    for text in present:
        check(text)
    return column if len(present) == len(distinct) else [None if text in nulls else text for text in column]


def _float(text: str) -> float:
    if text in _NOT_FINITE:
        return float(text)
    if _FLOAT.fullmatch(text) is None:
        raise ValueError(text)
    value = float(text)
    if math.isinf(value):  # too large to be held, and not called infinite
        raise ValueError(text)
    if abs(value) >= _SAFE and len(text) < _LONG and _DIGITS.fullmatch(text) and int(value) != int(text):
        raise ValueError(text)
    return value


def _is_huge(text: str) -> bool:
    """Tell whether it is a whole number past 64 bits, without converting it where it is very long."""
    if _DIGITS.fullmatch(text) is None:
        return False
    return len(text) > 40 or not -(2**63) <= int(text) < 2**63
