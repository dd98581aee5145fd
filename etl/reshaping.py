"""Transforms for jobs that need no Python: fields are renamed, dropped, and cast to other types.

A dotted name leads into objects, and into each object of a list: `user.login`. Where a record has a field whose own
name has the dots (`Sepal.Length`), that one is meant. A record without the field is passed on as it is.

What cannot be done to a record is an error that names the field: a dead letter with `on_error = "reject"`, else the
end of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from etl import tables
from etl.casts import Cast, Uncastable, cast_for, type_of
from etl.errors import ConfigError
from etl.records import Declarations, Declared, Record, Transform

# Returns the record, or a changed copy of it.
Change = Callable[[Record], Record]


class Misshapen(ValueError):
    """A record cannot be reshaped; says which field, and why."""


def rename(names: Mapping[str, str]) -> Transform:
    """Make the transform that renames fields.

    Args:
        names: the old name and the new one of each. Both are ways from the record's top: `user.login = "login"` takes
            the field out of its object, and `lat = "place.lat"` puts it into one, which is made when it is missing.
            Within one object names may be exchanged.

    Raises:
        ConfigError: a name is no text, or empty.
    """
    within: dict[tuple[str, ...], dict[str, str]] = {}
    moves: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
    for old, new in names.items():
        source, target = _path(old, f"rename.{old}"), _path(new, f"rename.{old}")
        if source[:-1] == target[:-1]:
            within.setdefault(source[:-1], {})[source[-1]] = target[-1]
        else:
            moves.append((source, target))
    changes = [_literal_first(parent, renames, _renaming) for parent, renames in within.items()]
    if moves:
        changes.append(_moving(moves))

    def before(declared: Declarations) -> Declarations:
        return lambda field: declared(names.get(field, field))

    return Reshaping("rename", changes, before)


def drop(fields: Sequence[str]) -> Transform:
    """Make the transform that drops fields.

    Args:
        fields: their names.

    Raises:
        ConfigError: a name is no text, or empty, or it is no list of names.
    """
    if isinstance(fields, str) or not isinstance(fields, Sequence):
        raise ConfigError(f"drop.fields: expected a list of names, found {tables.show(fields)}")
    within: dict[tuple[str, ...], dict[str, str]] = {}
    for index, name in enumerate(fields):
        path = _path(name, f"drop.fields[{index}]")
        within.setdefault(path[:-1], {})[path[-1]] = ""
    dropped = frozenset(fields)

    def before(declared: Declarations) -> Declarations:
        return lambda field: None if field in dropped else declared(field)

    changes = [_literal_first(parent, names, _dropping) for parent, names in within.items()]
    return Reshaping("drop", changes, before)


def cast(fields: Mapping[str, str | Mapping[str, Any]]) -> Transform:
    """Make the transform that casts the values of fields; see `etl.casts` for the types and their options.

    Args:
        fields: of each field the type, or a table with `type` and options.

    Raises:
        ConfigError: a type or an option is wrong.
    """
    within: dict[tuple[str, ...], dict[str, Cast]] = {}
    for name, declared in fields.items():
        path = _path(name, f"cast.{name}")
        within.setdefault(path[:-1], {})[path[-1]] = cast_for(declared, f"cast.{name}")

    def before(declared: Declarations) -> Declarations:
        return lambda field: (
            Declared(type=_NEUTRAL[type_of(fields[field])], cast=True) if field in fields else declared(field)
        )

    changes = [_literal_first(parent, casts, _casting) for parent, casts in within.items()]
    types = {name: type_of(declared) for name, declared in fields.items()}
    makes = {name: type_ for name, type_ in types.items() if type_ in ("string", "json")}
    return Reshaping("cast", changes, before, makes)


# What each cast makes, as columns are declared.
_NEUTRAL: dict[str, str] = {
    "integer": "INTEGER",
    "float": "FLOAT",
    "decimal": "NUMERIC",
    "boolean": "BOOLEAN",
    "string": "STRING",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "json": "JSON",
}


class Reshaping:
    """A transform of fields, which knows what they were called before it; see `etl.records.PassesDeclared`.

    Args:
        name: what it is called in a job file.
        changes: of each record, in order.
        before: says what is declared of the fields that come to it.
        makes: the fields whose values do not tell their types; see `etl.records.MakesTypes`.
    """

    def __init__(
        self,
        name: str,
        changes: Sequence[Change],
        before: Callable[[Declarations], Declarations],
        makes: Mapping[str, str] | None = None,
    ) -> None:
        self._changes = changes
        self.before = before
        self.makes = makes or {}
        self.__qualname__ = self.__name__ = name
        self.__module__ = "etl"  # where users know it: messages and dead letters say `etl:cast`

    def __call__(self, records: Iterator[Record]) -> Iterator[Record]:
        """Yield the records with their fields changed."""
        changes = self._changes
        if len(changes) == 1:  # most jobs: no loop for each record
            yield from map(changes[0], records)
            return
        for record in records:
            for change in changes:
                record = change(record)
            yield record


def _path(name: Any, where: str) -> tuple[str, ...]:
    if not isinstance(name, str) or not name:
        raise ConfigError(
            f"{where}: expected the name of a field, found {tables.show(name)}; with dots it is written in "
            "quotes"
        )
    path = tuple(name.split("."))
    # Dots at an end, or two in a row, cannot be a way: it is a name with dots.
    return path if all(path) else (name,)


# The functions below make a change of the fields of one object; `path` is where the object is, for messages.


def _renaming(names: Mapping[str, str], path: str) -> Change:
    def change(record: Record) -> Record:
        if names.keys().isdisjoint(record):
            return record
        renamed = {names.get(name, name): value for name, value in record.items()}
        if len(renamed) != len(record):
            raise Misshapen(_clash(names, record, path))
        return renamed

    return change


def _clash(names: Mapping[str, str], record: Record, path: str) -> str:
    taken: dict[str, str] = {}
    for name in record:
        new = names.get(name, name)
        if new in taken:
            return (
                f"{path}{name} and {path}{taken[new]} would both be {path}{new}; rename or drop one of them"
            )
        taken[new] = name
    raise AssertionError(record)  # never reached: two of them are the same


def _dropping(names: Mapping[str, str], _path: str) -> Change:
    def change(record: Record) -> Record:
        if names.keys().isdisjoint(record):
            return record
        return {name: value for name, value in record.items() if name not in names}

    return change


def _casting(casts: Mapping[str, Cast], path: str) -> Change:
    items = tuple(casts.items())

    def change(record: Record) -> Record:
        changed = record
        for name, cast in items:
            value = record.get(name)
            if value is None:
                continue
            try:
                new = cast(value)
            except Uncastable as error:
                raise Misshapen(f"field {path}{name}: {error}") from error
            if new is not value:
                if changed is record:
                    changed = dict(record)
                changed[name] = new
        return changed

    return change


def _moving(moves: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]) -> Change:
    """Make the change that takes fields from one object to another, each from where the one before left it.

    A record may have as many moves as fields: each object is copied once, when it is first changed.
    """
    steps = [_Move(source, target) for source, target in moves]

    def change(record: Record) -> Record:
        owned = _Owned(record)
        for step in steps:
            step.make(owned)
        return owned.record

    return change


class _Owned:
    """A record of which only copies are changed.

    Attributes:
        record: the record, or the copy of it.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        # by their ids; kept, so that no other object gets one of these
        self._copies: dict[int, Record] = {}

    def own(self, path: Sequence[str]) -> Record:
        """Return the object at a path, that may be changed; one that is missing or null is made."""
        if id(self.record) not in self._copies:
            self.record = self._copied(self.record)
        here = self.record
        for name in path:
            there: Record | None = here.get(name)
            if there is None or id(there) not in self._copies:
                there = here[name] = self._copied(there or {})
            here = there
        return here

    def _copied(self, there: Record) -> Record:
        copy = dict(there)
        self._copies[id(copy)] = copy
        return copy


class _Move:
    """Takes a field from one object to another.

    Args:
        source: the way to it.
        target: the way to where it goes.
    """

    def __init__(self, source: tuple[str, ...], target: tuple[str, ...]) -> None:
        self._source, self._target = source, target
        self._old, self._new = ".".join(source), ".".join(target)

    def make(self, owned: _Owned) -> None:
        """Move the field, if the record has it."""
        *above, name = (self._old,) if self._old in owned.record else self._source
        if not self._is_there(owned.record, (*above, name)):
            return
        self._see_room(owned.record, (*above, name))
        value = owned.own(above).pop(name)
        *above, name = self._target
        owned.own(above)[name] = value

    def _is_there(self, value: Any, path: tuple[str, ...]) -> bool:
        if not path:
            return True
        if value.__class__ is list:
            if any(self._is_there(item, path) for item in value):
                raise Misshapen(
                    f"{self._old} is within a list, and cannot become {self._new}; flatten it with a transform"
                )
            return False
        return value.__class__ is dict and path[0] in value and self._is_there(value[path[0]], path[1:])

    def _see_room(self, record: Record, moved: tuple[str, ...]) -> None:
        """See that the field can go where it is to go, once it is not where it was."""
        here: Any = record
        for depth, name in enumerate(self._target):
            gone = self._target[: depth + 1] == moved
            if depth == len(self._target) - 1:
                if name in here and not gone:
                    raise Misshapen(
                        f"{self._old} would be {self._new}, and there is one already; rename or drop one of them"
                    )
                return
            here = None if gone else here.get(name)
            if here is None:
                return
            if here.__class__ is not dict:
                raise Misshapen(
                    f"{self._old} would be {self._new}, but {name} is no object, found {tables.show(here)}"
                )


def _literal_first(
    parent: tuple[str, ...], fields: Mapping[str, Any], make: Callable[[Any, str], Change]
) -> Change:
    """Make a change of objects at `parent`, and of fields whose own names are the dotted ones."""
    if not parent:
        return make(fields, "")
    path = ".".join(parent) + "."
    nested = _within(parent, make(fields, path))
    literal = {path + name: value for name, value in fields.items()}
    if make is _renaming:
        literal = {old: path + new for old, new in literal.items()}
    flat = make(literal, "")

    def change(record: Record) -> Record:
        return nested(record if literal.keys().isdisjoint(record) else flat(record))

    return change


def _within(path: tuple[str, ...], change: Change) -> Change:
    """Make the change of a record that changes each object at `path`."""
    if not path:
        return change
    head, rest = path[0], _within(path[1:], change)

    def through(value: Any) -> Any:
        if value.__class__ is dict:
            return rest(value)
        if value.__class__ is list:
            items = [through(item) for item in value]
            return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
        return value  # null, or no object: it has no fields

    def changed(record: Record) -> Record:
        value = record.get(head)
        new = through(value)
        return record if new is value else {**record, head: new}

    return changed
