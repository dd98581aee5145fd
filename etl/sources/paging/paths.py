"""Dotted paths into a JSON document: what stands at one, what stands at all of a kind, and how one is set."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

# A name, one element of the list that stands there, and what follows: `links[rel=next].href`.
_CHOICE = re.compile(r"([^\[\]]*)\[([^=\[\]]+)=([^\]]*)\](?:\.(.+))?", re.DOTALL)
_INDEX = re.compile(r"-?[0-9]+")
EVERY = "*"


class _Missing:
    def __bool__(self) -> bool:
        return False


MISSING: Final = _Missing()


def lookup(value: Any, path: str) -> Any:
    """Return what stands at a dotted path, or `MISSING`.

    A name may have dots in it itself, as OData's `@odata.nextLink` has. A number is the index in a list; -1 is its
    last element. `links[rel=next].href` looks among the objects of the list `links` for the first one whose `rel` is
    `next`, or a list that holds it (links by relation: STAC API, OGC API; FHIR has `link[relation=next].url`).
    """
    if isinstance(value, dict) and path in value:
        return value[path]
    if "[" in path and (choice := _CHOICE.fullmatch(path)):
        return _chosen(value, *choice.groups())
    if isinstance(value, list):
        head, _, tail = path.partition(".")
        if not _INDEX.fullmatch(head) or not -len(value) <= int(head) < len(value):
            return MISSING
        return lookup(value[int(head)], tail) if tail else value[int(head)]
    if not isinstance(value, dict):
        return MISSING
    dot = path.find(".")
    while dot >= 0:
        head, tail = path[:dot], path[dot + 1 :]
        if head in value and (found := lookup(value[head], tail)) is not MISSING:
            return found
        dot = path.find(".", dot + 1)
    return MISSING


def holds_choice(document: Any, path: str) -> bool:
    """Say whether the list is there in which a path looks for one element, so that none of that kind is an answer."""
    choice = _CHOICE.fullmatch(path)
    return choice is not None and isinstance(lookup(document, choice[1]) if choice[1] else document, list)


def parted(path: str | None) -> tuple[str, bool, str]:
    """Part a path at its first `*`: what stands before it, whether there is one, what stands behind it."""
    names = (path or "").split(".")
    if EVERY not in names:
        return path or "", False, ""
    at = names.index(EVERY)
    return ".".join(names[:at]), True, ".".join(names[at + 1 :])


def elements(value: Any) -> Iterator[tuple[str | None, Any]] | None:
    """Return the elements of a list, or those of an object with their names; None: it is neither."""
    if isinstance(value, list):
        return ((None, one) for one in value)
    if isinstance(value, dict):
        return iter(value.items())
    return None


def with_value(document: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy of a document with a value at a dotted path; objects on the way are made.

    Raises:
        ValueError: something else than an object stands on the way.
    """
    head, dot, tail = path.partition(".")
    copy = dict(document)
    if not dot:
        copy[head] = value
        return copy
    below = copy.get(head, {})
    if not isinstance(below, Mapping):
        raise ValueError(f"{head!r} is no object, so that nothing can be put at {path!r}")  # noqa: TRY004 - of a job file
    copy[head] = with_value(below, tail, value)
    return copy


def _chosen(value: Any, head: str, name: str, wanted: str, tail: str | None) -> Any:
    among = lookup(value, head) if head else value
    wanted = wanted.strip("\"'")
    for one in among if isinstance(among, list) else [among]:
        found = lookup(one, name)
        if found == wanted or (isinstance(found, list) and wanted in found):
            return lookup(one, tail) if tail else one
    return MISSING
