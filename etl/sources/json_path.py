"""The path of rows in a JSON document, as `records` names it, and the rows at it in one that is decoded.

A path is names of members with dots between them: `results`, `response.docs`; the names may hold dots themselves.
A number is the index in an array. `*` stands for every member of an object, every element of an array. What stands at
the path is the array of rows; null is one of none. A path that ends in `*` takes every member of the object at it, or
every element of the array, as a row; a member's name is kept in the field `_key`.
"""

from __future__ import annotations

from typing import Any

from etl.sources import json_numbers
from etl.sources.bounds import check_values
from etl.sources.json_array import member_row
from etl.sources.json_decoder import Decoder
from etl.sources.lines import not_an_object, why_not_json
from etl.sources.place import unreadable

EVERY = "*"
# How many names a message shows, and one more: that there are more.
MOST_NAMES = 21


class NoRows(Exception):
    """There are no rows at the path; the message says what is there."""


def checked(path: str | None) -> str | None:
    """Return a path as a job says it.

    Raises:
        ValueError: it is none.
    """
    if path is None:
        return None
    if not isinstance(path, str) or not path:
        raise ValueError(f"records: {path!r} is no path: write the names of members with dots between them")
    if path.startswith(("$.", "$[", "/")) or path.endswith("]"):
        raise ValueError(
            f"records: {path!r} looks like a path of JSONPath, jq or JSON Pointer: write the names of members with "
            'dots between them, as in "response.docs"'
        )
    return path


def below(path: str, name: str) -> str | None:
    """Return what is left of a path behind a member or element; None: it does not lead there."""
    if path == name:
        return ""
    if path.startswith(f"{name}."):
        return path[len(name) + 1 :]
    return path[2:] if path.startswith("*.") else None


def is_of_rows(path: str) -> bool:
    """Say whether what stands here holds the rows."""
    return path in ("", EVERY)


def goes_on(path: str) -> bool:
    """Say whether several members may lie on the path."""
    return path.startswith(EVERY)


def shown(names: list[str]) -> str:
    """List names for people."""
    more = ", …" if len(names) >= MOST_NAMES else ""
    return (", ".join(names[: MOST_NAMES - 1]) + more) or "none"


def nothing_at(path: str, trail: list[str], names: list[str] | None) -> str:
    """Say that a path leads nowhere.

    Args:
        path: the whole path.
        trail: the names on it that are there.
        names: those of the members there; None: it is no object.
    """
    where = f"{'.'.join(trail)!r} holds" if trail else "its keys"
    there = "no object there" if names is None else f"{where}: {shown(names)}"
    return f"there is nothing at records = {path!r} ({there})"


def no_array(path: str, value: str) -> str:
    """Say that something else than an array stands at a path."""
    hint = f", or {f'{path}.*'!r} for its members" if value == "an object" else ""
    return f"at records = {path!r} stands no array of rows but {value}: name the path of the array{hint}"


def rows_of(decoder: Decoder, path: str, text: bytes, where: str) -> list[Any]:
    """Decode a document and return the rows at a path; what is none is unreadable."""
    try:
        check_values(text, decoder.most)
        return decoder.settled(rows_in(decoder.document(text), path, where))
    except json_numbers.NOT_JSON as error:
        return [unreadable(text, where, why_not_json(text, error))]
    except NoRows as error:
        return [unreadable(text, where, str(error))]


def rows_in(document: Any, path: str, where: str) -> list[Any]:
    """Return the rows at a path of a document that is decoded; those that are no objects as unreadable.

    Raises:
        NoRows: there are none.
    """
    found: list[list[Any]] = []
    _collect(document, path, path, where, found)
    if not found:
        raise NoRows(nothing_at(path, [], list(document) if isinstance(document, dict) else None))
    if len(found) > 1 and EVERY not in path.split("."):
        raise NoRows(f"records = {path!r} leads to two places: name the fields otherwise")
    return [row for rows in found for row in rows]


def _collect(value: Any, rest: str, path: str, where: str, found: list[list[Any]]) -> None:
    if is_of_rows(rest) and isinstance(value, list):
        found.append([one if type(one) is dict else _no_row(one, where) for one in value])
    elif rest == EVERY and isinstance(value, dict):
        found.append([member_row(name, one, str(one), where) for name, one in value.items()])
    elif is_of_rows(rest) and value is None:
        found.append([])
    elif rest == "":
        raise NoRows(no_array(path, "an object" if isinstance(value, dict) else "something else"))
    elif isinstance(value, (dict, list)):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for name, one in pairs:
            if (left := below(rest, str(name))) is not None:
                _collect(one, left, path, where, found)


def _no_row(value: Any, where: str) -> Any:
    return unreadable(str(value), where, not_an_object(value))
