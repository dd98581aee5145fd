"""Types of DuckDB for the types of fields that a source knows."""

from __future__ import annotations

from collections.abc import Callable

from etl.field_types import FieldType
from etl.warehouses.duckdb.types import (
    BIGINT,
    BOOLEAN,
    DOUBLE,
    INTEGERS,
    JSON,
    NULL,
    TEXTS,
    VARCHAR,
    Kind,
    Path,
)

MOST_DIGITS = 38
PLAIN = {
    "boolean": BOOLEAN,
    "integer": BIGINT,
    "unsigned": Kind("UBIGINT"),
    "float": DOUBLE,
    "string": VARCHAR,
    "bytes": Kind("BLOB"),
    "date": Kind("DATE"),
    "interval": Kind("INTERVAL"),
    "uuid": Kind("UUID"),
    "json": JSON,
    "null": NULL,
}


def kind_of(type_: FieldType) -> Kind | None:
    """Return the type of a column for a field of this type; None: its values tell."""
    if type_.name == "decimal":
        return (
            Kind(f"DECIMAL({type_.precision},{type_.scale})") if type_.precision <= MOST_DIGITS else VARCHAR
        )
    if type_.name == "timestamp":
        if type_.zone:
            return Kind("TIMESTAMP WITH TIME ZONE")
        return Kind("TIMESTAMP_NS" if type_.nanoseconds else "TIMESTAMP")
    if type_.name == "time":
        return Kind("TIME_NS" if type_.nanoseconds else "TIME")
    if type_.element is not None:
        element = kind_of(type_.element)
        return None if element is None else Kind(element=element)
    if type_.name == "record":
        fields = {name: kind_of(field) for name, field in type_.fields.items()}
        found = tuple((name, kind) for name, kind in fields.items() if kind is not None)
        return Kind(fields=found) if found and len(found) == len(fields) else None
    return PLAIN.get(type_.name)


def refined(
    found: Kind,
    type_: FieldType,
    path: Path,
    infer: Callable[[Kind, Path], Kind],
    note: Callable[[Path], None],
) -> Kind:
    """Return the type of a new column, with the type that the source knows as far as the values are of that kind.

    Args:
        found: what was sniffed, or is known of the values as the part has them.
        type_: what the source knows.
        path: where.
        infer: gives a type to what is of another kind.
        note: told the paths of text that becomes something else.
    """
    if found.fields is not None and type_.name == "record":
        known = type_.fields
        fields = {
            name: refined(kind, known[name], (*path, name), infer, note)
            if name in known
            else infer(kind, (*path, name))
            for name, kind in found.fields
        }
        return Kind(fields=tuple(fields.items()))
    if found.element and type_.element is not None:
        return Kind(element=refined(found.element, type_.element, (*path, None), infer, note))
    kind = kind_of(type_)
    if kind is None:
        return infer(found, path)
    if found in (NULL, JSON):  # nothing but null, [] or {}; or mixed, which has no type of its own
        return kind
    if found.scalar in TEXTS and type_.name not in ("boolean", "integer", "unsigned", "null"):
        if kind != VARCHAR:
            note(path)
        return kind
    fits = (
        (found.scalar in INTEGERS and type_.name in ("integer", "unsigned", "float"))
        or (found == DOUBLE and type_.name == "float")
        or (found == BOOLEAN == kind)
    )
    return kind if fits else infer(found, path)
