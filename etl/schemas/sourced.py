"""Columns for fields whose types the source knows; see `etl.field_types`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from etl.columns import Column
from etl.field_types import FieldType, is_of
from etl.schemas.dialect import Dialect
from etl.schemas.growth import Node, claimed, plain
from etl.schemas.types import DIGITS

# What holds all numbers of 64 bits without a sign.
_UNSIGNED_DIGITS = 20

_TYPES = {
    "boolean": "BOOLEAN",
    "integer": "INTEGER",
    "float": "FLOAT",
    "string": "STRING",
    "bytes": "BYTES",
    "date": "DATE",
    "time": "TIME",
    "interval": "INTERVAL",
    "uuid": "STRING",
}


def with_known(
    nodes: tuple[Node, ...],
    record: Mapping[Any, Any],
    types: Mapping[str, FieldType],
    dialect: Dialect,
    fits: Callable[[Node, str, Any], bool],
) -> tuple[Node, ...]:
    """Return columns, and those that a record needs besides, of which the source knows the type.

    Args:
        nodes: the columns that there are.
        record: the record.
        types: what the source knows of its fields.
        dialect: of the warehouse.
        fits: says whether a field with a value fits a column: a transform may have made more digits of a number.

    Raises:
        Unfit: the warehouse has no type for a value.
    """
    there = {dialect.folded(node.column.name) for node in nodes}
    more = []
    for name, value in record.items():
        type_ = types.get(name)
        if type_ is None or value is None or not is_of(type_, (type(plain(value)),)):
            continue
        node = node_of(name, type_, dialect)
        if node is None or dialect.folded(node.column.name) in there:
            continue
        # Where a warehouse has no nanoseconds, that is to be told, and not to decide about the column.
        if type_.nanoseconds or fits(node, name, value):
            there.add(dialect.folded(node.column.name))
            more.append(node)
    return (*nodes, *more)


def node_of(name: str, type_: FieldType, dialect: Dialect, level: int = 1) -> Node | None:
    """Return the column for a field of a type; None: its values tell better.

    What Python's types tell as well may widen with the values of the part: a transform may have changed them.
    """
    if type_.element is not None:
        node = node_of(name, type_.element, dialect, level) if type_.element.element is None else None
        return (
            None
            if node is None
            else replace(node, column=msgspec.structs.replace(node.column, mode="REPEATED"))
        )
    column = dialect.valid(name)
    if dialect.wrong_with_name(column) is not None:
        return None
    node = _single(column, type_, dialect, level)
    return None if node is None else claimed(node, name, dialect)


def _single(column: str, type_: FieldType, dialect: Dialect, level: int) -> Node | None:
    if type_.name == "record":
        fields: list[Node] = []
        for name, inner in type_.fields.items():
            field = node_of(name, inner, dialect, level + 1)
            if field is None or field.column.name in {other.column.name for other in fields}:
                return None
            fields.append(field)
        if not fields or level > dialect.most_levels:
            return None
        return Node(Column(name=column, type="RECORD"), tuple(fields), learned=True)
    if type_.name == "decimal":
        return Node(_decimal(column, type_))
    if type_.name == "unsigned":
        return Node(Column(name=column, type="NUMERIC", precision=_UNSIGNED_DIGITS, scale=0))
    if type_.name == "json":
        return Node(Column(name=column, type="JSON"))
    if type_.name == "timestamp":
        return Node(Column(name=column, type="TIMESTAMP" if type_.zone else "DATETIME"))
    found = _TYPES.get(type_.name)
    return None if found is None else Node(Column(name=column, type=found), learned=True)


def _decimal(name: str, type_: FieldType) -> Column:
    """Return the narrowest column that holds a decimal: "Parameterized decimal type" in BigQuery's documentation."""
    before = type_.precision - type_.scale
    for exact, (most_before, most_after) in DIGITS.items():
        if before <= most_before and type_.scale <= most_after:
            return Column(
                name=name, type=exact, precision=max(type_.precision, type_.scale, 1), scale=type_.scale
            )
    return Column(name=name, type="STRING")
