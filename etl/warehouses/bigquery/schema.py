"""Schemas of a BigQuery table: as the REST API has them, and what follows from all that is known of it.

The forms of a declaration are those of `etl.schemas.declared`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from etl.columns import Column, ColumnChange, Columns
from etl.errors import WarehouseError
from etl.schemas import declared as declarations
from etl.schemas.declared import Schema, to_api, whole_number
from etl.schemas.types import TYPES, shown
from etl.warehouses.bigquery.types import BIGQUERY, folded

__all__ = [
    "Schema",
    "changes",
    "declared",
    "fields_of",
    "from_api",
    "known",
    "protected",
    "to_api",
    "widened",
]

# What a column's type may become by ALTER COLUMN … SET DATA TYPE ("Data definition language", coercion).
_WIDER = {
    "INTEGER": {"NUMERIC", "BIGNUMERIC", "FLOAT"},
    "NUMERIC": {"BIGNUMERIC", "FLOAT"},
    "BIGNUMERIC": {"FLOAT"},
}


def declared(schema: Schema | None, where: str = "schema") -> Columns:
    """Return the columns that a job declares for a BigQuery table; see `etl.schemas.declared`.

    Args:
        schema: the declaration; None: nothing is declared.
        where: the path of its key, for the messages.

    Raises:
        ConfigError: it is wrong; says which column, what was found, and what is allowed.
    """
    return declarations.declared(schema, BIGQUERY, where)


def from_api(fields: Iterable[Mapping[str, Any]], table: str) -> Columns:
    """Return the columns of a table out of the REST API's form (`SchemaField.to_api_repr()`).

    Args:
        fields: one mapping a column.
        table: its name, for the message.

    Raises:
        WarehouseError: a column has a type that is not supported here.
    """
    return tuple(_of_table(field, table, ()) for field in fields)


def changes(old: Columns, new: Columns, part: int, above: str = "") -> Iterator[ColumnChange]:
    """Yield how columns, or fields of a RECORD, differ; of a new one only itself, with all that it holds.

    Args:
        old: the columns until now.
        new: those from now on.
        part: the number of the part that needs them.
        above: the names above fields, with a dot at the end.
    """
    before = {folded(column.name): column for column in old}
    for column in new:
        was = before.get(folded(column.name))
        name = above + column.name
        if was is None:
            yield ColumnChange(name=name, type=shown(column), part=part)
        elif was.fields and column.fields:
            yield from changes(
                was.fields, column.fields, part, name + ("[]." if column.mode == "REPEATED" else ".")
            )
        elif shown(was) != shown(column):
            yield ColumnChange(name=name, type=shown(column), before=shown(was), part=part)


def fields_of(found: Any) -> list[dict[str, Any]]:
    """Return the columns of a table of the client's in the REST API's form, with all that BigQuery says of them."""
    return list((found.to_api_repr().get("schema") or {}).get("fields") or [])


def protected(fields: list[dict[str, Any]], path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the paths of the fields that only some may read: by policy tags, data policies or governance tags."""
    for field in fields:
        here = (*path, field["name"])
        tags = (field.get("policyTags") or {}).get("names")
        if tags or any(
            field.get(key) for key in ("dataPolicies", "dataPolicyList", "dataGovernanceTagsInfo")
        ):
            yield ".".join(here)
        yield from protected(field.get("fields") or [], here)


def widened(fields: list[dict[str, Any]], columns: Columns) -> list[dict[str, Any]]:
    """Return a table's columns, as the REST API has them, with what they lack of others, nested ones too.

    What is there stays to the letter: an update that leaves a policy tag out removes it (BigQuery REST reference,
    TableFieldSchema, policyTags), and so it is with defaults and collations.

    Args:
        fields: the columns of the table.
        columns: those that it is to have.
    """
    wanted = {folded(column.name): column for column in columns}
    result = []
    for field in fields:
        column = wanted.pop(folded(field["name"]), None)
        if column is not None and column.fields and field.get("fields"):
            field = {**field, "fields": widened(field["fields"], column.fields)}
        result.append(field)
    return result + to_api(tuple(wanted.values()))


def known(*, table: Columns | None, declared: Columns, pinned: Columns | None, name: str) -> Columns:
    """Return all columns that are known before a part: the table's, then the pinned, then the declared ones.

    A table may have been altered since columns were pinned, to a wider type or to NULLABLE: the table's holds.

    Args:
        table: the columns of the table; None: there is no table.
        declared: those that the job declares.
        pinned: those that the checkpoint has; None: nothing yet.
        name: the table's name, for the messages.

    Raises:
        WarehouseError: two of them contradict each other; says which column, and both sides.
    """
    columns = table or ()
    if pinned:
        columns = _merged(columns, pinned, f"table {name}", "the checkpoint", exists=table is not None)
    source = f"table {name}" if table is not None else "the checkpoint"
    return _merged(columns, declared, source, "the job's schema", exists=table is not None)


def _of_table(field: Mapping[str, Any], table: str, path: tuple[str, ...]) -> Column:
    name = field["name"]
    path = (*path, name)
    type_ = TYPES.get(field["type"].upper())
    if type_ is None:
        raise WarehouseError(
            f"table {table}: column {'.'.join(path)} is of type {field['type']}, which cannot be loaded from NDJSON "
            "or Parquet; load into a table without it"
        )
    return Column(
        name=name,
        type=type_,
        mode=(field.get("mode") or "NULLABLE").upper(),
        fields=tuple(_of_table(entry, table, path) for entry in field.get("fields") or ()),
        description=field.get("description") or "",
        precision=whole_number(field, "precision", name),
        scale=whole_number(field, "scale", name),
        max_length=whole_number(field, "maxLength", name),
        timestamp_precision=whole_number(field, "timestampPrecision", name),
    )


def _merged(
    old: Columns, new: Columns, source: str, other: str, *, exists: bool, path: tuple[str, ...] = ()
) -> Columns:
    """Return `old` with what `new` has besides; `exists`: the columns of `old` are those of a table."""
    result = {folded(column.name): column for column in old}
    for column in new:
        key, where = folded(column.name), (*path, column.name)
        there = result.get(key)
        if there is not None:
            result[key] = _one(there, column, source, other, exists=exists, path=where)
            continue
        if exists and _required(column):
            raise WarehouseError(
                f"column {'.'.join(where)}: {other} has {shown(column)}, and {source} has no such column; a REQUIRED "
                "column cannot be added to a table that exists: declare it without REQUIRED"
            )
        result[key] = column
    return tuple(result.values())


def _required(column: Column) -> bool:
    return column.mode == "REQUIRED" or any(map(_required, column.fields))


def _one(old: Column, new: Column, source: str, other: str, *, exists: bool, path: tuple[str, ...]) -> Column:
    altered = (
        exists and other == "the checkpoint"
    )  # somebody may have altered the table, in the ways that there are
    same_type = old.type == new.type or (altered and old.type in _WIDER.get(new.type, ()))
    plain = (None, None, None, None)
    parameters, asked = (
        (column.precision, column.scale, column.max_length, column.timestamp_precision)
        for column in (old, new)
    )
    same_parameters = altered or asked in (plain, parameters)
    repeated = (old.mode == "REPEATED") == (new.mode == "REPEATED")
    same_mode = repeated and (altered or new.mode != "REQUIRED" or old.mode == "REQUIRED")
    if not (same_type and same_parameters and same_mode):
        hint = "alter the table or load into another one" if altered else "make them the same"
        raise WarehouseError(
            f"column {'.'.join(path)}: {other} has {shown(new)}, {source} has {shown(old)}; {hint}"
        )
    fields = _merged(old.fields, new.fields, source, other, exists=exists, path=path)
    description = old.description if exists else old.description or new.description
    field = new.field if old.field is None else old.field
    return msgspec.structs.replace(old, fields=fields, description=description, field=field)
