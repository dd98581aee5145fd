r"""JSON read with its numbers exact, as fast as without where they need no care.

RFC 8259, section 6, sets no limit to digits or exponents; a double (IEEE 754 binary64) holds 15 significant decimal
digits of any number, and more of some. Here:

- A whole number is an `int`, whatever its size.
- A number with a fraction or an exponent is what `etl.schemas.numbers.json_number` makes of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import orjson

from etl.schemas.numbers import json_number
from etl.sources.bounds import TooLarge

# What is raised for a text that is not decoded.
NOT_JSON = (msgspec.DecodeError, orjson.JSONDecodeError, UnicodeDecodeError, RecursionError, TooLarge)

# Digits and points as 0, e as e, - as -, all else as blanks: what numbers look like, found by plain searches.
_SHAPES = bytes(
    ord("0")
    if chr(byte) in "0123456789."
    else ord("e")
    if chr(byte) in "eE"
    else 0x2D
    if byte == 0x2D
    else 0x20
    for byte in range(256)
)
_DIGITS = bytes(byte if chr(byte) in "-.0123456789" else 0x20 for byte in range(256))
_NOT_NUMBERS = bytes(byte for byte in range(256) if chr(byte) not in "-.0123456789,:]}")
_LONG = b"0" * 16
_LONG_WITH_EXPONENT = _LONG + b"e"
_BEFORE = b":,[ \t\r\n"
_BEHIND = rb"(?=[ \t\r\n,\]}]|\Z)"
_TINY = re.compile(rb"[eE]-[0-9]{3,}" + _BEHIND)
_NUMBER = re.compile(rb"[0-9.]++(?:[eE][-+]?[0-9]++)?+" + _BEHIND)
_WITH_EXPONENT = re.compile(rb"[0-9.]{16,}+[eE][-+]?[0-9]++" + _BEHIND)
# So many are looked at one by one, before all are looked at together; and of these, of those that may be none.
_FEW = 8
_DOUBTFUL = 24


def loads(text: bytes) -> Any:
    """Decode one JSON value, an array or an object.

    Raises:
        msgspec.DecodeError, orjson.JSONDecodeError, UnicodeDecodeError, RecursionError: it is none (`NOT_JSON`).
    """
    shape = text.translate(_SHAPES)
    decode = _exact if _is_tiny_in(text, shape) else _decoder_of_few(text, shape)
    if decode is None:
        # Coordinates have 15 to 17 digits, and are most of such files. Written by orjson they are as short as can be:
        # as they stand in the text, if a double holds them, and if they were written as they should.
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            return _exact(text)
        if b"\\" not in text:
            printed = orjson.dumps(value).translate(None, _NOT_NUMBERS)
            if printed == text.translate(None, _NOT_NUMBERS):
                return value
        decode = _decoder_of_many(text, shape)
    try:
        return decode(text)
    except (orjson.JSONDecodeError, msgspec.ValidationError):
        if decode is _exact:
            raise
        # a number beyond the range of doubles, or nested more deeply than orjson goes; else its reason is the better
        return _exact(text)


def is_whole(text: bytes) -> bool:
    """Say whether a text is one JSON value to its end; nothing is made of it, so that it takes no memory."""
    try:
        _skipped(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def is_as_written(text: bytes) -> bool:
    """Say whether `loads` gives each number of a JSON text as it is written: a float is that very number."""
    shape = text.translate(_SHAPES)
    if _LONG not in shape:
        return True  # 15 digits at most, all of which a double holds
    runs = b",".join(run for run in text.translate(_DIGITS).split() if len(run) >= len(_LONG))
    try:
        return (
            orjson.dumps(orjson.loads(b"[" + runs + b"]"))[1:-1] == runs and _LONG_WITH_EXPONENT not in shape
        )
    except orjson.JSONDecodeError:
        return False


def _written(text: str) -> float | Decimal:
    value = json_number(text)
    if type(value) is Decimal or repr(value) == text:
        return value
    exact = Decimal(text)
    return value if Decimal(repr(value)) == exact else exact


# Decodes as `loads` does, but a number becomes a `float` only where that is the very number.
loads_as_written: Callable[[bytes], Any] = msgspec.json.Decoder(float_hook=_written).decode
_exact: Callable[[bytes], Any] = msgspec.json.Decoder(float_hook=json_number).decode
_skipped: Callable[[bytes], Any] = msgspec.json.Decoder(msgspec.Raw).decode
_of_whole_numbers: Callable[[bytes], Any] = msgspec.json.Decoder().decode


def _is_tiny_in(text: bytes, shape: bytes) -> bool:
    """Say whether there may be a number so small that decoders make 0 of it; of one too large they make an error."""
    at = shape.rfind(b"e-")  # from the right: half the time
    while at >= 0:
        if shape.startswith(b"000", at + 2) and _TINY.match(text, at):
            return True
        at = shape.rfind(b"e-", 0, at)
    return False


def _decoder_of_few(text: bytes, shape: bytes) -> Callable[[bytes], Any] | None:
    """Look at numbers of 16 digits or more and choose what decodes them all; None: there are too many of them.

    Text of many digits within strings may count as well: it costs time, and changes nothing.
    """
    decode: Callable[[bytes], Any] = orjson.loads
    at = shape.find(_LONG)
    for _ in range(_FEW):
        if at < 0:
            return decode
        found = _NUMBER.match(text, at)
        if found and text[max(at - 2, 0) : at].rstrip(b"-")[-1:] in _BEFORE:
            if not found[0].isdigit():
                if not _is_double(found[0]):
                    return _exact
            elif len(found[0]) >= 19:  # the largest of 64 bits have as many
                decode = _of_whole_numbers
        at = shape.find(_LONG, shape.find(b" ", at) + 1 or len(shape))
    return None


def _decoder_of_many(text: bytes, shape: bytes) -> Callable[[bytes], Any]:
    """Choose what decodes a text with many numbers of 16 digits or more."""
    runs = [run for run in text.translate(_DIGITS).split() if len(run) > 16]
    try:
        printed = orjson.dumps(orjson.loads(b"[" + b",".join(runs) + b"]"))[1:-1].split(b",")
    except orjson.JSONDecodeError:
        return _exact
    differ = [run for run, short in zip(runs, printed, strict=bool(runs)) if run != short]
    fractions = [run for run in differ if b"." in run]
    if len(fractions) > _DOUBTFUL or not all(map(_is_double, fractions)):
        return _exact
    if _LONG_WITH_EXPONENT in shape and not all(map(_is_double, _WITH_EXPONENT.findall(text))):
        return _exact
    return orjson.loads if len(fractions) == len(differ) else _of_whole_numbers


def _is_double(text: bytes) -> bool:
    try:
        return type(json_number(text.decode())) is float
    except ValueError:  # beyond all numbers, or none: it stands in a string
        return False
