"""Words: boolean, string, json."""

from __future__ import annotations

import math
from datetime import date, time
from decimal import Decimal
from typing import Any

import msgspec
import orjson

from etl import tables
from etl.casts.options import Cast, Options, bad
from etl.errors import ConfigError
from etl.schemas.numbers import json_number

_TRUE = ("true", "t", "yes", "y", "on", "1")
_FALSE = ("false", "f", "no", "n", "off", "0")


def boolean(options: Options, where: str) -> Cast:
    """Return what casts to `bool`."""
    words = dict.fromkeys((word.strip().lower() for word in options.true or _TRUE), True)
    for word in options.false or _FALSE:
        if word.strip().lower() in words:
            raise ConfigError(f"{where}: {tables.show(word)} means true and false")
        words[word.strip().lower()] = False

    def cast(value: Any) -> Any:
        kind = value.__class__
        if kind is bool:
            return value
        found = words.get(value.strip().lower()) if kind is str else None
        if kind in (int, float) and value in (0, 1):
            found = value == 1
        if found is None:
            raise bad(value, "boolean")
        return found

    return cast


def string(_options: Options, _where: str) -> Cast:
    """Return what casts to text."""

    def cast(value: Any) -> Any:
        kind = value.__class__
        if kind is str:
            return value
        if kind in (int, float, Decimal):
            if not math.isfinite(value):
                raise bad(value, "number that has a text")
            return str(value)
        if isinstance(value, (date, time)):
            return value.isoformat()
        try:
            text = orjson.dumps(value).decode()
        except TypeError as error:
            raise bad(value, "value that has a text") from error
        if "null" in text and _holds_no_number(value):  # orjson writes them as null
            raise bad(value, "value that has a text")
        return orjson.loads(text) if text.startswith('"') else text

    return cast


def json(_options: Options, _where: str) -> Cast:
    """Return what casts to what text says as JSON, numbers with all their digits."""
    # not orjson, which makes floats of whole numbers past 64 bits
    decode = msgspec.json.Decoder(float_hook=json_number).decode

    def cast(value: Any) -> Any:
        if value.__class__ is not str:
            return value
        try:
            return decode(value)
        except (ValueError, RecursionError) as error:
            raise bad(value, "JSON") from error

    return cast


def _holds_no_number(value: Any) -> bool:
    """Say whether there is a NaN or an infinity within an object or a list."""
    if isinstance(value, dict):
        return any(map(_holds_no_number, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_holds_no_number, value))
    return isinstance(value, float) and not math.isfinite(value)
