"""What a job file says of a cast, made into what casts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, get_args

from etl import tables
from etl.casts import numbers, times, words
from etl.casts.options import Cast, Options, Type
from etl.errors import ConfigError

# Which options each type has, besides `type` and `null`.
_OPTIONS: dict[str, tuple[str, ...]] = {
    "integer": ("thousands", "decimal"),
    "float": ("thousands", "decimal"),
    "decimal": ("thousands", "decimal"),
    "boolean": ("true", "false"),
    "string": (),
    "date": ("format",),
    "timestamp": ("format", "unit", "zone"),
    "json": (),
}


def cast_for(declared: str | Mapping[str, Any], where: str) -> Cast:
    """Return what casts the values of one field; lists are cast item by item, except to string and json.

    Args:
        declared: the type, or a table with `type` and options.
        where: the path of the key, for the messages.

    Raises:
        ConfigError: it is wrong; says what was found, and what is allowed.
    """
    table = {"type": declared} if isinstance(declared, str) else declared
    if not isinstance(table, Mapping) or "type" not in table:
        raise ConfigError(
            f"{where}: expected one of {', '.join(get_args(Type))}, or a table with a type, found "
            f"{tables.show(table)}; a name with dots is written in quotes"
        )
    values = tables.check(table, _signature(), where, "a cast")
    options = Options(**values)
    for key in values.keys() - {"type", "null", *_OPTIONS[options.type]}:
        allowed = ", ".join(("null", *_OPTIONS[options.type]))
        raise ConfigError(
            f"{tables.join(where, key)}: a cast to {options.type} has no such option, but {allowed}"
        )
    cast = _MAKERS[options.type](options, where)
    if options.null:
        cast = _nulled(cast, frozenset(options.null))
    return cast if options.type in ("string", "json") else _each(cast)


def type_of(declared: str | Mapping[str, Any]) -> str:
    """Return the type that a cast makes, of what `cast_for` takes."""
    return declared if isinstance(declared, str) else str(declared["type"])


@cache
def _signature() -> tables.Signature:
    """Read the options once: that takes 0.4 ms, and a job may cast thousands of fields."""
    return tables.Signature.of(Options)


def _each(cast: Cast) -> Cast:
    def each(value: Any) -> Any:
        if value.__class__ is list:
            items = [None if item is None else cast(item) for item in value]
            return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
        return cast(value)

    return each


def _nulled(cast: Cast, words: frozenset[str]) -> Cast:
    def nulled(value: Any) -> Any:
        return None if value.__class__ is str and value in words else cast(value)

    return nulled


_MAKERS: dict[str, Callable[[Options, str], Cast]] = {
    "integer": numbers.integer,
    "float": numbers.float_,
    "decimal": numbers.decimal,
    "boolean": words.boolean,
    "string": words.string,
    "date": times.date_,
    "timestamp": times.timestamp,
    "json": words.json,
}
