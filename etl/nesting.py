"""How far a record goes, in fields and in levels, and how far a warehouse lets it go.

A warehouse that reads a part runs out of memory, of time, or of stack where values are nested too deep or fields are
too many, and cannot say which record it was. So that is looked at before a record is written. A record may hold
itself: a look goes no deeper than what is allowed, and looks at each object once a level.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from etl.records import Record

# What holds no other value.
_PLAIN = frozenset({type(None), bool, int, float, str, bytes, Decimal, datetime, date, time, timedelta, UUID})

# A level with more objects and lists than this is looked at object by object, each once.
MOST_AT_ONCE = 10_000


class Extent(NamedTuple):
    """How many fields a record may have, and in how many levels its values may be nested; itself is the first one.

    Attributes:
        fields: of the record itself.
        levels: objects and lists within each other.
        lists: lists, of all that are around a value.
        json: objects and lists within each other, where the column is JSON and nothing looks into it.
    """

    fields: int
    levels: int
    lists: int
    json: int


class Nesting:
    """Looks for records that have too many fields, or are nested too deep.

    Args:
        most: how far they may go.
        json: the names of the fields whose columns are JSON; there may be more of them later.

    Attributes:
        shallow: a record with no more lists than the first, and no more objects and lists, itself counted, than the
            second, needs no further look.
    """

    def __init__(self, most: Extent, json: Collection[str] = ()) -> None:
        self._most = most
        self._json = json
        self.shallow = (most.lists, min(most.levels, most.json))

    def too_wide(self, record: Record) -> str | None:
        """Say that a record has too many fields, and what to do; None: it has not."""
        if len(record) <= self._most.fields:
            return None
        return (
            f"it has {len(record):,} fields, and {self._most.fields:,} can be loaded with the memory that there is: "
            'put those whose names are data into one field by a transform (yield {"values": record}), or give the job '
            "more memory"
        )

    def too_deep(self, record: Record) -> str | None:
        """Say which field of a record is nested too deep, and what to do; None: none is.

        Raises:
            Exception: what a value of a class of its own raises when it is looked at.
        """
        most = self._most
        for name, value in record.items():
            if isinstance(value, (str, int, float)) or value is None:
                continue
            is_json = name in self._json
            levels, lists = (most.json, most.json) if is_json else (most.levels, most.lists)
            if (found := _too_deep(name, value, levels, lists)) is None:
                continue
            what = f"{lists} lists within each other" if found.lists > lists else f"{levels} levels"
            advice = "cut it in a transform, or make text of it"
            if (
                not is_json
                and most.json > min(levels, lists)
                and not _too_deep(name, value, most.json, most.json)
            ):
                advice += f', or declare {name} = "JSON" under [warehouse.schema]'
            return (
                f"{_path(found)} is nested in more than {what}, which is as deep as can be loaded: {advice}"
            )
        return None


# How a value was reached: the step, what it was taken from, and how many lists there are with itself.
class _Reached(NamedTuple):
    value: Any
    step: str
    above: _Reached | None
    lists: int


def _too_deep(name: object, value: Any, most: int, most_lists: int) -> _Reached | None:
    """Return the first value that is nested too deep in a field; None: there is none."""
    if _is_plainly_shallow(value, min(most - 1, most_lists)):
        return None
    level = [_Reached(value, str(name), None, _is_list(value))]
    for _ in range(most - 1):
        found: dict[int, _Reached] = {}
        for reached in level:
            if reached.lists > most_lists:
                return reached
            for step, item in _within(reached.value):
                if isinstance(item, (str, int, float)) or item is None or not _is_nested(item):
                    continue
                lists = reached.lists + _is_list(item)
                known = found.get(id(item))
                if known is None or known.lists < lists:
                    found[id(item)] = _Reached(item, step, reached, lists)
        if not found:
            return None
        level = list(found.values())
    return level[0]


def _is_plainly_shallow(value: Any, most: int) -> bool:
    """Say whether a value of Python's own types is nested in no more than so many levels: most are, and it is cheap."""
    level = [value]
    for _ in range(most):
        found: list[Any] = []
        for each in level:
            kind = each.__class__
            if kind is dict:
                found += [item for item in each.values() if item.__class__ not in _PLAIN]
            elif kind is list:
                found += [item for item in each if item.__class__ not in _PLAIN]
            elif kind not in _PLAIN:
                return False
        if not found:
            return True
        if len(found) > MOST_AT_ONCE:  # or the same one again and again
            return False
        level = found
    return False


def _is_list(value: Any) -> int:
    return int(isinstance(value, (list, tuple)))


def _is_nested(value: Any) -> bool:
    return isinstance(value, (dict, list, tuple, Mapping)) or dataclasses.is_dataclass(value)


def _within(value: Any) -> Iterable[tuple[str, Any]]:
    """Return what a value holds, each with the step to it."""
    if isinstance(value, Mapping):
        return [(f".{name}", item) for name, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [("[]", item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(f".{field.name}", getattr(value, field.name, None)) for field in dataclasses.fields(value)]
    return []


def _path(reached: _Reached | None) -> str:
    """Write the path to a value for a person, shortened in the middle."""
    steps: list[str] = []
    while reached is not None:
        steps.append(reached.step)
        reached = reached.above
    steps.reverse()
    if len(steps) > SHOWN_STEPS:
        steps[SHOWN_STEPS - 1 : -1] = ["…"]
    return "".join(steps)


# How many steps of a path a message shows.
SHOWN_STEPS = 6
