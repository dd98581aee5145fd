r"""The types of CSV columns: what fits each, how a whole column is converted at once, and which words are null.

| word | takes | becomes |
|---|---|---|
| `string` | anything | the text |
| `integer` | `-?` digits, without leading zeros, of any size | `int`, exact |
| `float` | a decimal number, with or without exponent; `NaN`, `Inf`, `-Inf`, `Infinity`, `-Infinity` | `float` |
| `decimal` | a decimal number, with or without exponent | the text, checked |
| `boolean` | `true`, `True`, `TRUE`, `false`, `False`, `FALSE` | `bool` |
| `date` | `YYYY-MM-DD` | the text, checked |
| `timestamp` | ISO 8601: a date, or date and time (after `T` or a space, any offset) | the text, checked |

Where the job says that it is a number, a `+` and leading zeros are part of it; where the values alone say so, they
are none: telephone numbers, postal codes and the like are text. A whole number that no float holds exactly is no float,
nor, where nobody said float, is a fraction with more digits than the nearest float gives back. Dates and timestamps
stay text because that is exact, is what JSON carries, and costs nothing; a transform that needs them calls
`datetime.fromisoformat`.

An empty field is null in columns of every type, and so is `\N`, which MySQL and PostgreSQL write. What else stands for
nothing (`NA`, `NULL`, `-` …) is null among numbers, dates and booleans; in text it is text: Namibia's code, Mr. Null.

Columns are converted whole, through msgspec's JSON decoder where it can read them: three times as fast as a
call for each field.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import cache, partial
from typing import Any, Literal, get_args

import msgspec

from etl.schemas.numbers import json_number

Type = Literal["string", "integer", "float", "decimal", "boolean", "date", "timestamp"]
Convert = Callable[[Sequence[str]], Sequence[Any]]

TYPES: tuple[Type, ...] = get_args(Type)

# Null in columns of every type: nothing, and the null of MySQL ("LOAD DATA Statement") and PostgreSQL ("COPY").
EMPTY = frozenset({"", r"\N"})
# Null where the others are no text; of those that pandas knows (`read_csv`, na_values) the ones that are no word of
# a language, and the dash of tables for people. `NaN` is a float.
WORDS = EMPTY | {"NA", "N/A", "n/a", "#N/A", "<NA>", "NULL", "Null", "null", "nan", "-nan", "-"}

_FLOAT = re.compile(r"\s*-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*", re.ASCII)
# The same, where somebody said that it is a number.
_NUMBER = re.compile(r"\s*[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*", re.ASCII)
_NOT_FINITE = ("NaN", "nan", "Inf", "inf", "-Inf", "-inf", "Infinity", "-Infinity")
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ].+)?")
_DIGITS = re.compile(r"\s*-?[0-9]+\s*", re.ASCII)
_SIGNED = re.compile(r"\s*[+-]?[0-9]+\s*", re.ASCII)

# Beyond it, floats do not hold every whole number.
_SAFE = 2**53
_LONG = 400  # no float has more digits
# So many significant digits each double gives back (IEEE 754 binary64, DBL_DIG of C); a sign and a point besides.
_KEPT = 15

_integers = msgspec.json.Decoder(list[int]).decode
_integers_or_null = msgspec.json.Decoder(list[int | None]).decode
_floats = msgspec.json.Decoder(list[float]).decode
_floats_or_null = msgspec.json.Decoder(list[float | None]).decode


def converter(type_: str, nulls: frozenset[str], *, said: bool = False) -> Convert:
    """Return what turns a column of text into values of `type_`; it raises ValueError when one does not fit.

    Args:
        type_: one of `TYPES`, or `json`: what the text says as JSON, numbers with all their digits.
        nulls: the words that become None.
        said: whether the job says that the column has this type; False: its values alone do.
    """
    kinds: dict[str, Callable[[frozenset[str], Sequence[str]], Sequence[Any]]] = {
        "string": _strings,
        "integer": _to_said_integers if said else _to_integers,
        "float": partial(_to_floats, said),
        "decimal": _to_decimals,
        "boolean": _to_booleans,
        "date": partial(_checked, check_date),
        "timestamp": partial(_checked, check_timestamp),
        "json": _to_json,
    }
    return partial(kinds[type_], nulls)


def infer(present: Sequence[str]) -> Type:
    """Return the narrowest type that every value of a column fits.

    Whole numbers past 64 bits are taken for names of things: text. So are codes such as `12E5`, unless a point among
    the values shows that they are numbers.

    Args:
        present: values of which none is null; at least one.
    """
    if any(len(text) > 18 and _is_huge(text) for text in present):
        return "string"
    candidates: tuple[Type, ...] = ("integer", "float", "boolean", "date", "timestamp")
    for candidate in candidates:
        if not fit(present, candidate):
            continue
        if candidate == "float" and not any("." in text for text in present) and any(map(_is_code, present)):
            return "string"
        return candidate
    return "string"


def fit(present: Sequence[str], type_: str, *, said: bool = False) -> bool:
    """Say whether values, of which none is null, fit a type."""
    try:
        converter(type_, frozenset(), said=said)(present)
    except ValueError:
        return False
    return True


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
        if _has_numbers(nulls):
            return _filled(_integers_or_null, nulls, column)
        return _of_length(_integers(f"[{','.join(column)}]"), column)
    except ValueError:
        return _filled(_integers_or_null, nulls, column)


def _to_said_integers(nulls: frozenset[str], column: Sequence[str]) -> Sequence[Any]:
    try:
        return _to_integers(nulls, column)
    except ValueError:
        return [None if text in nulls else _integer(text) for text in column]


def _to_floats(said: bool, nulls: frozenset[str], column: Sequence[str]) -> Sequence[Any]:
    number = _said_float if said else _float
    try:
        if _has_numbers(nulls):
            raise ValueError(nulls)
        values = _of_length(_floats(f"[{','.join(column)}]"), column)
        largest = max(map(abs, values), default=0.0)
    except ValueError:
        try:
            values = _filled(_floats_or_null, nulls, column)
            largest = max((abs(value) for value in values if value is not None), default=0.0)
        except ValueError:
            return [None if text in nulls else number(text) for text in column]
    if largest >= _SAFE:  # a whole number may have lost digits
        return [None if text in nulls else number(text) for text in column]
    # So may a fraction whose text is longer than a point and the digits that each double keeps.
    if not said and max(map(len, column), default=0) > _KEPT + 1:
        for text, value in zip(column, values, strict=True):
            if len(text) > _KEPT + 1 and value is not None and not _is_held(text, value):
                raise ValueError(text)
    return values


def _to_decimals(nulls: frozenset[str], column: Sequence[str]) -> Sequence[Any]:
    return [None if text in nulls else _decimal(text) for text in column]


def _to_json(nulls: frozenset[str], column: Sequence[str]) -> Sequence[Any]:
    try:
        return [None if text in nulls else _json(text) for text in column]
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


@cache
def _has_numbers(nulls: frozenset[str]) -> bool:
    """Say whether a null word reads as a number, such as -999, so that a column of them can be decoded."""
    return any(_NUMBER.fullmatch(word) for word in nulls)


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


def _integer(text: str) -> int:
    if _SIGNED.fullmatch(text) is None:
        raise ValueError(text)
    return int(text)


def _decimal(text: str) -> str:
    if _NUMBER.fullmatch(text) is None:
        raise ValueError(text)
    return text.strip()


def _float(text: str) -> float:
    """Read a number of which nobody said that it is a float: it must keep each of its digits."""
    if text not in _NOT_FINITE and _FLOAT.fullmatch(text) is None:
        raise ValueError(text)
    value = _said_float(text)
    if len(text) > _KEPT + 1 and math.isfinite(value) and not _is_held(text, value):
        raise ValueError(text)
    return value


_json = msgspec.json.Decoder(float_hook=json_number).decode


def _said_float(text: str) -> float:
    if text in _NOT_FINITE:
        return float(text)
    if _NUMBER.fullmatch(text) is None:
        raise ValueError(text)
    value = float(text)
    if math.isinf(value):  # too large to be held, and not called infinite
        raise ValueError(text)
    if abs(value) >= _SAFE and len(text) < _LONG and _SIGNED.fullmatch(text) and int(value) != int(text):
        raise ValueError(text)
    return value


def _is_held(text: str, value: float) -> bool:
    """Say whether a double, printed with as many significant digits as a text has, is the number of the text."""
    if text == repr(value):
        return True
    number = Decimal(text.strip())
    digits = len("".join(map(str, number.as_tuple().digits)).rstrip("0"))
    return digits <= _KEPT or Decimal(f"{value:.{digits - 1}e}") == number


def _is_code(text: str) -> bool:
    """Say whether a text may be digits, `E` and digits: the number of a part, of a diagnosis."""
    return "e" in text.lower() and text not in _NOT_FINITE


def _is_huge(text: str) -> bool:
    """Tell whether it is a whole number past 64 bits, without converting it where it is very long."""
    if _DIGITS.fullmatch(text) is None:
        return False
    return len(text) > 40 or not -(2**63) <= int(text) < 2**63
