"""How the columns of a table grow with the records: new columns, and types that widen until they are pinned.

Nothing is guessed from text, and nothing is changed in place: a record that turns out not to fit has then taught
nothing. What fits is not decided here; `gate` looks at the record again with the columns that it led to.
"""

from __future__ import annotations

import dataclasses
import enum
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any

import msgspec

from etl.columns import Column, Columns
from etl.schemas.dialect import Dialect
from etl.schemas.numbers import SAFE, least_type
from etl.schemas.types import Unfit, found
from etl.shown import is_encodable

# What has a rule of its own; other values are made into one of these, if they can be.
PLAIN: frozenset[type] = frozenset(
    {NoneType, bool, int, float, str, dict, list, Decimal, datetime, date, time, uuid.UUID}
    | {bytes, bytearray, memoryview, timedelta}
)
# The type of a column for values of a Python type that tells it.
INFERRED: dict[type, str] = {
    bool: "BOOLEAN",
    int: "INTEGER",
    float: "FLOAT",
    str: "STRING",
    date: "DATE",
    time: "TIME",
    timedelta: "INTERVAL",
    uuid.UUID: "STRING",
    bytes: "BYTES",
    bytearray: "BYTES",
    memoryview: "BYTES",
}


@dataclass(frozen=True, slots=True)
class Node:
    """A column while a part is written.

    Attributes:
        column: the column, without its fields.
        fields: of a RECORD.
        learned: its type is that of values of this part, and may widen with them: it is not pinned yet.
        large: it has held integers past 2**53, which a FLOAT need not hold.
    """

    column: Column
    fields: tuple[Node, ...] = ()
    learned: bool = False
    large: bool = False


def nodes_of(columns: Columns) -> tuple[Node, ...]:
    """Return columns that are known as nodes."""
    return tuple(
        Node(msgspec.structs.replace(column, fields=()), nodes_of(column.fields)) for column in columns
    )


def columns_of(nodes: tuple[Node, ...]) -> Columns:
    """Return nodes as columns."""
    return tuple(msgspec.structs.replace(node.column, fields=columns_of(node.fields)) for node in nodes)


def count(nodes: tuple[Node, ...]) -> int:
    """Return how many columns these are, the fields of RECORDs counted, too."""
    return sum(1 + count(node.fields) if node.fields else 1 for node in nodes)


def narrowed(nodes: tuple[Node, ...], most: int, path: str = "") -> tuple[tuple[Node, ...], list[str]]:
    """Return the columns with JSON in place of RECORDs of this part that have more than `most` fields, and their paths.

    Such names are data: the words of a text, the ids of rows.
    """
    result, found = [], []
    for node in nodes:
        where = f"{path}.{node.column.name}" if path else node.column.name
        if node.learned and len(node.fields) > most:
            column = msgspec.structs.replace(node.column, type="JSON", mode="NULLABLE")
            node = Node(column, learned=True)
            found.append(where)
        elif node.fields:
            fields, within = narrowed(node.fields, most, where)
            node = replace(node, fields=fields) if within else node
            found += within
        result.append(node)
    return (tuple(result) if found else nodes), found


def plain(value: Any) -> Any:
    """Return a value as one of the types that have a rule, as the formats write it: an Enum is its value.

    Raises:
        Unfit: there is no rule for it.
    """
    kind = type(value)
    if kind in PLAIN:
        return value
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (list, tuple)):
        return list(value)
    if dataclasses.is_dataclass(kind):
        names = (field.name for field in dataclasses.fields(kind))
        return {name: getattr(value, name) for name in names if not name.startswith("_")}
    if isinstance(value, int):
        return int.__index__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, str):
        return str.__str__(value)
    raise Unfit(
        f"a {kind.__module__}.{kind.__qualname__} has no type in BigQuery: turn it into text, a number, a list or a "
        f"dict; found {found(value)}"
    )


def is_typeless(value: Any, most_levels: int, level: int = 1) -> bool:
    """Say whether a value tells no type: null, an empty array, an object that holds nothing else.

    Args:
        value: the value.
        most_levels: how deep to look: deeper than a warehouse goes it does not matter, and Python must not run out
            of stack.
        level: how deep it is.
    """
    value = plain(value)
    if type(value) is dict:
        return level <= most_levels and all(
            is_typeless(item, most_levels, level + 1) for item in value.values()
        )
    return value is None or (type(value) is list and not value)


def grown(
    nodes: tuple[Node, ...], record: Mapping[Any, Any], dialect: Dialect, level: int = 1
) -> tuple[Node, ...]:
    """Return the columns, or the fields of a RECORD, with all that a record needs besides.

    Args:
        nodes: those that there are; they are returned as they are when nothing is missing.
        record: the record, or an object in it.
        dialect: of the warehouse.
        level: how deep it is; a record is at 1.

    Raises:
        Unfit: the warehouse has no type or no name for something in it.
    """
    there = {dialect.folded(node.column.name): node for node in nodes}
    changed = False
    for name, value in record.items():
        if not isinstance(name, str):
            raise Unfit(f"the name of a field must be text, found {found(name)}")
        if not is_encodable(name):  # the checkpoint keeps it, though the record is refused when it is encoded
            raise Unfit(f"the name of a field must be text that UTF-8 has, found {name!a}")
        column_name = dialect.valid(name)
        key = dialect.folded(column_name)
        old = there.get(key)
        try:
            value = plain(value)
            new = _grown(old, column_name, value, dialect, level)
            if new is not None and value is not None:
                new = claimed(new, name, dialect)
        except Unfit as error:
            error.path.insert(0, name)
            raise
        if new is not None and new is not old:
            there[key] = new
            changed = True
    return tuple(there.values()) if changed else nodes


def claimed(node: Node, name: str, dialect: Dialect) -> Node:
    """Return the node as that of the field `name`, where another name could become the same column.

    Raises:
        Unfit: it is that of another field.
    """
    column = node.column
    if not dialect.may_be_made(column.name):
        return node
    if column.field is not None:
        if dialect.folded(column.field) == dialect.folded(name):
            return node
        raise collision(column, column.field, name)
    return replace(node, column=msgspec.structs.replace(column, field=name))


def collision(column: Column, one: str, other: str) -> Unfit:
    """Make the error for two fields that would become one column."""
    return Unfit(
        f"the fields {one!r} and {other!r} would both be the column {column.name!r}; rename one "
        "of them, with [rename] or a transform, or drop it"
    )


def _grown(old: Node | None, name: str, value: Any, dialect: Dialect, level: int) -> Node | None:
    if value is None:
        return old
    if old is None:
        return _inferred(name, value, dialect, level)
    if old.column.mode != "REPEATED":
        return _wider(old, value, dialect, level)
    if type(value) is list:
        for item in value:
            old = _wider(old, plain(item), dialect, level)
    return old


def _wider(old: Node, value: Any, dialect: Dialect, level: int) -> Node:
    """Return the node with what a value adds to it: fields to a RECORD, digits to a number that was learned."""
    kind, type_ = type(value), old.column.type
    if type_ == "RECORD":
        fields = grown(old.fields, value, dialect, level + 1) if kind is dict else old.fields
        return old if fields is old.fields else replace(old, fields=fields)
    if not old.learned:
        return old
    if type_ == "INTEGER" and kind is int and not -SAFE <= value <= SAFE:
        return old if old.large else replace(old, large=True)
    if type_ == "INTEGER" and kind is float and not old.large:
        return _of_type(old, "FLOAT")
    if type_ in ("INTEGER", "NUMERIC") and kind is Decimal and value.is_finite():
        wider = least_type(value)
        return old if wider == type_ else _of_type(old, wider)
    return old


def _of_type(node: Node, type_: str) -> Node:
    return replace(node, column=msgspec.structs.replace(node.column, type=type_))


def _inferred(name: str, value: Any, dialect: Dialect, level: int) -> Node | None:
    """Return the column that a value needs; None: it tells no type."""
    kind = type(value)
    if kind is list:
        return _repeated(name, value, dialect, level)
    fields: tuple[Node, ...] = ()
    if kind is dict:
        type_ = "RECORD"
        if level > dialect.most_levels:
            raise Unfit(f"RECORDs go {dialect.most_levels} levels deep; declare one above as JSON")
        fields = grown((), value, dialect, level + 1)
        if not fields:
            return None
    elif kind is Decimal:
        type_ = least_type(value)
    elif kind is datetime:
        type_ = "DATETIME" if value.tzinfo is None else "TIMESTAMP"
    else:
        type_ = INFERRED[kind]
    wrong = dialect.wrong_with_name(name)
    if wrong:
        raise Unfit(f"{wrong}; rename the field")
    large = kind is int and not -SAFE <= value <= SAFE
    return Node(Column(name=name, type=type_), fields, learned=True, large=large)


def _repeated(name: str, items: list[Any], dialect: Dialect, level: int) -> Node | None:
    node: Node | None = None
    for item in map(plain, items):
        if item is None or type(item) is list:
            raise not_an_element(item)
        node = _inferred(name, item, dialect, level) if node is None else _wider(node, item, dialect, level)
    if node is None:
        if items:
            raise Unfit(
                f"an array of objects without values has no type in BigQuery: leave it out, or declare its fields; "
                f"found {found(items)}"
            )
        return None
    return replace(node, column=msgspec.structs.replace(node.column, mode="REPEATED"))


def not_an_element(item: Any) -> Unfit:
    """Make the error for null, or an array, within an array.

    "Loading JSON data": "the array itself cannot contain null values"; "Data types": arrays of arrays are not allowed.
    """
    if item is None:
        return Unfit("an array must not hold null in BigQuery: leave it out, or declare the column as JSON")
    return Unfit(
        f"an array must not hold arrays in BigQuery: put them into objects, or declare the column as JSON; "
        f"found {found(item)}"
    )
