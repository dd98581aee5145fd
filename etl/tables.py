"""Tables of a job file, checked against what they are for: a constructor's annotated signature, or a struct.

The messages name the key's path, what was found, and what is allowed.
"""

from __future__ import annotations

import difflib
import inspect
import json
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import Any

import msgspec

from etl.errors import ConfigError


class FromEnvironment(str):
    """Text that came out of an environment variable, so that a number is written as text and still one."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Signature:
    """What a table may hold.

    Attributes:
        types: the annotated type of each key.
        required: the keys that must be there.
        open: whether other keys are allowed too.
    """

    types: dict[str, Any]
    required: frozenset[str]
    open: bool = False

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Signature:
        """Read the signature of a constructor, or of a function that makes an instance.

        The keys of `**options: Unpack[Options]` (PEP 692) are among its own, and may be left out. An annotation that
        cannot be resolved (a name that is only imported for type checkers) allows any value.
        """
        parameters = inspect.signature(function).parameters.values()
        named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        hints = _hints(function)
        unpacked = [_unpacked(hints.get(p.name)) for p in parameters if p.kind is p.VAR_KEYWORD]
        further = {name: type_ for options in unpacked for name, type_ in (options or {}).items()}
        return cls(
            types={
                name: _accepted(type_)
                for name, type_ in {**{p.name: hints.get(p.name, Any) for p in named}, **further}.items()
            },
            required=frozenset(p.name for p in named if p.default is p.empty),
            open=None in unpacked,
        )


def check(table: Mapping[str, Any], signature: Signature, where: str, what: str) -> dict[str, Any]:
    """Return `table` with each value as its type.

    Args:
        table: the keys and values as they were found.
        signature: what it may hold.
        where: the path of the table's key, for the messages; empty: the file itself.
        what: what such a table is, for the messages: `a sink of type "null"`.

    Raises:
        ConfigError: a key is unknown or missing, or a value has the wrong type.
    """
    for key in table:
        if key not in signature.types and not signature.open:
            keys = ", ".join(signature.types) or "no other keys"
            raise ConfigError(
                f"{join(where, key)}: unknown key{did_you_mean(key, signature.types)}; {what} takes: {keys}"
            )
    for key in signature.types:
        if key in signature.required and key not in table:
            expected = describe(signature.types[key])
            raise ConfigError(
                f"{join(where, key)}: missing; {what} needs it" + (expected and f": {expected}")
            )
    return {
        key: convert(value, signature.types.get(key, Any), join(where, key)) for key, value in table.items()
    }


def convert(value: Any, type_: Any, where: str) -> Any:
    """Return `value` as `type_`.

    Raises:
        ConfigError: it is something else.
    """
    strict = not isinstance(value, FromEnvironment)
    plain = _plain(value)
    try:
        return msgspec.convert(plain, type_, strict=strict, dec_hook=_custom)
    except msgspec.ValidationError as error:
        expected = describe(type_)
        expectation = f"expected {expected}" if expected else str(error)
        raise ConfigError(f"{where}: {expectation}, found {show(value)}") from error


def describe(type_: Any) -> str:
    """Say in words what values `type_` allows; empty: there are no words for it."""
    simple = {
        str: "a string",
        int: "an integer",
        float: "a number",
        bool: "true or false",
        Path: "a string",
    }
    if type_ in simple:
        return simple[type_]
    origin, arguments = typing.get_origin(type_), typing.get_args(type_)
    if origin is typing.Literal:
        return "one of " + ", ".join(show(choice) for choice in arguments)
    if origin in (typing.Union, types.UnionType):
        words = [describe(argument) for argument in arguments if argument is not type(None)]
        return " or ".join(dict.fromkeys(words)) if all(words) else ""
    kind = origin or type_
    if not isinstance(kind, type):
        return ""
    if issubclass(kind, Mapping):
        return "a table" + _of(arguments[1:])
    if issubclass(kind, (list, tuple, set, frozenset, Sequence)):
        return "a list" + _of(arguments[:1])
    return ""


def _of(arguments: Sequence[Any]) -> str:
    plurals = {
        "a string": "strings",
        "an integer": "integers",
        "a number": "numbers",
        "a table": "tables",
        "a list": "lists",
    }
    plural = plurals.get(describe(arguments[0])) if arguments else None
    return f" of {plural}" if plural else ""


def show(value: Any) -> str:
    """Write a value as in a job file, shortened."""
    try:
        text = json.dumps(_plain(value), ensure_ascii=False, default=_toml_time)
    except TypeError:
        text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def join(where: str, key: str) -> str:
    """Return the path of `key` in the table at `where`."""
    return f"{where}.{key}" if where else key


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return ` (did you mean "…"?)`, or nothing."""
    close = difflib.get_close_matches(str(word), list(words), n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Resolve annotations one by one, so that one that cannot be resolved spoils no other."""
    target = function.__init__ if isinstance(function, type) else function  # type: ignore[misc]  # asked as a class
    annotations = getattr(target, "__annotations__", {})
    namespace = getattr(inspect.unwrap(target), "__globals__", {})
    if not annotations and isinstance(
        function, type
    ):  # a struct, or a dataclass whose __init__ is written in C
        annotations = {
            k: v for base in reversed(function.__mro__) for k, v in inspect.get_annotations(base).items()
        }
        namespace = vars(inspect.getmodule(function) or typing)
    hints = {}
    for name, annotation in annotations.items():
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            hints.update(typing.get_type_hints(holder, globalns=namespace))
        except Exception:  # noqa: S112 - whatever a stranger's annotation raises, it only says less
            continue
    return hints


def _unpacked(annotation: Any) -> dict[str, Any] | None:
    """Return the keys and types that `Unpack[…]` stands for; None: it stands for any."""
    if typing.get_origin(annotation) is not typing.Unpack:
        return None
    (options,) = typing.get_args(annotation)
    return typing.get_type_hints(options)


def _accepted(type_: Any) -> Any:
    """Return the type that a table can hold for a parameter of `type_`; Any: the constructor must judge."""
    type_ = _translate(type_)
    try:
        msgspec.convert(None, type_ | None if type_ is not Any else Any)
    except TypeError:
        return Any
    except msgspec.ValidationError:
        pass
    return type_


def _translate(type_: Any) -> Any:
    origin, arguments = typing.get_origin(type_), typing.get_args(type_)
    if type_ is os.PathLike or origin is os.PathLike:
        return str
    if origin is typing.Annotated or origin is typing.Literal:
        return type_
    if origin in (typing.Union, types.UnionType):
        members = [_translate(argument) for argument in arguments]
        if str in members:
            members = [str if member is Path else member for member in members]
        return typing.Union[tuple(dict.fromkeys(members))]  # noqa: UP007 - the members are only known here
    if origin is Callable:
        return Any
    if origin is Iterable:
        origin = list
    if origin is None or not arguments:
        return type_
    generic: Any = origin
    return generic[tuple(argument if argument is ... else _translate(argument) for argument in arguments)]


def _custom(type_: Any, value: Any) -> Any:
    if type_ is Path and isinstance(value, str):
        return Path(value)
    raise ValueError(f"expected a {getattr(type_, '__name__', type_)}")


def _toml_time(value: Any) -> str:
    if isinstance(value, (date, time)):  # a datetime is a date
        return value.isoformat()
    raise TypeError


def _plain(value: Any) -> Any:
    """Return the value without paths and other kinds of text, which the converter does not know."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
