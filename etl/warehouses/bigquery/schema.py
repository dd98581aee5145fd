"""Schemas of a BigQuery table: as a job declares them, as the REST API has them, and what follows from both.

A declaration takes one of these forms, and may leave columns out, which are then inferred from the records:

- a table of a job file: `at = "TIMESTAMP"`, `id = "INTEGER REQUIRED"`, `tags = "STRING REPEATED"`,
  `price = "NUMERIC(10, 2)"`; a table within it is a RECORD, `address = {street = "STRING"}`, and one table in a list
  a repeated one, `lines = [{sku = "STRING"}]`;
- a list of tables, each with `name`, `type`, and what else BigQuery's JSON schemas have: `mode`, `fields`,
  `description`, `precision`, `scale`, `maxLength`;
- the path of a file with such a list in JSON, as `bq show --schema --format=prettyjson` prints it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from etl.columns import Column, Columns
from etl.errors import ConfigError, WarehouseError
from etl.tables import did_you_mean, join, show
from etl.warehouses.bigquery.types import (
    DIGITS,
    MODES,
    TYPES,
    folded,
    shown,
    wrong_with_name,
    wrong_with_parameters,
)

Schema = str | os.PathLike[str] | Mapping[str, Any] | Sequence[Mapping[str, Any]]

_KEYS = ("name", "type", "mode", "fields", "description", "precision", "scale", "maxLength")
# What the REST API knows of a column besides, and a load job cannot be trusted to keep or to set.
_OTHERS = frozenset(
    {
        "policyTags",
        "dataPolicies",
        "defaultValueExpression",
        "collation",
        "roundingMode",
        "timestampPrecision",
    }
    | {"categories", "rangeElementType", "foreignTypeDefinition", "nameAlternative", "generatedColumn"}
)
_SHORT = re.compile(
    r"\s*(?P<type>\w+)\s*(?:\(\s*(?P<first>[0-9]+)\s*(?:,\s*(?P<second>[0-9]+)\s*)?\))?(?:\s+(?P<mode>\w+))?\s*"
)
_FORMS = (
    '"INTEGER", "STRING(20) REQUIRED", "NUMERIC(10, 2)", "DATE REPEATED", or a table of columns for a RECORD'
)

# What a column's type may become by ALTER COLUMN … SET DATA TYPE ("Data definition language", coercion).
_WIDER = {
    "INTEGER": {"NUMERIC", "BIGNUMERIC", "FLOAT"},
    "NUMERIC": {"BIGNUMERIC", "FLOAT"},
    "BIGNUMERIC": {"FLOAT"},
}


def declared(schema: Schema | None, where: str = "schema") -> Columns:
    """Return the columns that a job declares; see this module's docstring for the forms.

    Args:
        schema: the declaration; None: nothing is declared.
        where: the path of its key, for the messages.

    Raises:
        ConfigError: it is wrong; says which column, what was found, and what is allowed.
    """
    if schema is None:
        return ()
    if isinstance(schema, (str, os.PathLike)):
        where = f"{where} ({os.fspath(schema)})"
        schema = _read(Path(schema), where)
    if isinstance(schema, Mapping):
        columns = tuple(_short(name, value, join(where, name)) for name, value in schema.items())
    elif isinstance(schema, Sequence):
        columns = tuple(_long(field, f"{where}[{number}]") for number, field in enumerate(schema))
    else:
        raise ConfigError(f"{where}: expected a path, a table or a list of tables, found {show(schema)}")
    _check_names(columns, where)
    return columns


def from_api(fields: Iterable[Mapping[str, Any]], table: str) -> Columns:
    """Return the columns of a table out of the REST API's form (`SchemaField.to_api_repr()`).

    Args:
        fields: one mapping a column.
        table: its name, for the message.

    Raises:
        WarehouseError: a column has a type that is not supported here.
    """
    return tuple(_of_table(field, table, ()) for field in fields)


def to_api(columns: Columns) -> list[dict[str, Any]]:
    """Return the columns in the REST API's form, for `SchemaField.from_api_repr`."""
    fields: list[dict[str, Any]] = msgspec.to_builtins(columns)
    return fields


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


def _read(path: Path, where: str) -> Any:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"{where}: cannot be read: {error.strerror}; give the path of a JSON file"
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"{where}: is no JSON: {error}; write it with: bq show --schema --format=prettyjson TABLE"
        ) from error
    if isinstance(content, Mapping):
        content = content.get("fields", content)
    if not isinstance(content, list):
        raise ConfigError(f"{where}: expected a list of columns, found {show(content)}")
    return content


def _short(name: str, value: Any, where: str) -> Column:
    """Make a column of what a job file's table gives it."""
    if isinstance(value, Mapping):
        return _record(name, value, "NULLABLE", where)
    if isinstance(value, (list, tuple)) and len(value) == 1 and isinstance(value[0], Mapping):
        return _record(name, value[0], "REPEATED", where)
    found = _SHORT.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise ConfigError(f"{where}: expected a type, such as {_FORMS}; found {show(value)}")
    type_ = _type(found["type"], where)
    if type_ == "RECORD":
        raise ConfigError(f'{where}: a RECORD needs its fields: {name} = {{street = "STRING"}}')
    first, second = (None if text is None else int(text) for text in (found["first"], found["second"]))
    exact = type_ in DIGITS
    if second is not None and not exact:
        raise ConfigError(f"{where}: {type_} takes one number at most, found {show(value)}")
    column = Column(
        name=name,
        type=type_,
        mode=_mode(found["mode"] or "NULLABLE", where),
        precision=first if exact else None,
        scale=second,
        max_length=None if exact else first,
    )
    return _sound(column, where)


def _record(name: str, fields: Mapping[str, Any], mode: str, where: str) -> Column:
    columns = tuple(_short(key, value, join(where, key)) for key, value in fields.items())
    return _sound(Column(name=name, type="RECORD", mode=mode, fields=columns), where)


def _long(field: Any, where: str) -> Column:
    """Make a column of an entry of a JSON schema."""
    if not isinstance(field, Mapping):
        raise ConfigError(f"{where}: expected a table with name and type, found {show(field)}")
    name = field.get("name")
    if not isinstance(name, str):
        raise ConfigError(f"{where}.name: expected text, found {show(name)}")
    where = f"{where} ({name})"
    for key in field.keys() - set(_KEYS):
        if key in _OTHERS:
            raise ConfigError(
                f"{where}: {key} is nothing that a load can set; create the table with it, and leave it out here"
            )
        raise ConfigError(
            f"{where}: there is no {show(key)}{did_you_mean(key, _KEYS)}; there are: {', '.join(_KEYS)}"
        )
    type_ = _type(field.get("type"), where)
    fields = field.get("fields", ())
    if not isinstance(fields, (list, tuple)):
        raise ConfigError(f"{where}.fields: expected a list of columns, found {show(fields)}")
    column = Column(
        name=name,
        type=type_,
        mode=_mode(field.get("mode") or "NULLABLE", where),
        fields=tuple(_long(entry, f"{where}.fields[{number}]") for number, entry in enumerate(fields)),
        description=str(field.get("description") or ""),
        precision=_number(field, "precision", where),
        scale=_number(field, "scale", where),
        max_length=_number(field, "maxLength", where),
    )
    return _sound(column, where)


def _type(found: Any, where: str) -> str:
    type_ = TYPES.get(found.upper()) if isinstance(found, str) else None
    if type_ is None:
        raise ConfigError(
            f"{where}: there is no type {show(found)}{did_you_mean(str(found).upper(), TYPES)}; "
            f"there are: {', '.join(sorted(set(TYPES.values())))}"
        )
    return type_


def _mode(found: Any, where: str) -> str:
    mode = found.upper() if isinstance(found, str) else found
    if mode not in MODES:
        raise ConfigError(f"{where}: expected one of {', '.join(MODES)} as mode, found {show(found)}")
    return str(mode)


def _number(field: Mapping[str, Any], key: str, where: str) -> int | None:
    value = field.get(key)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value):  # REST writes 64-bit numbers as text
        return int(value)
    raise ConfigError(f"{where}.{key}: expected a whole number, found {show(value)}")


def _sound(column: Column, where: str) -> Column:
    """Return the column if it is one that BigQuery takes."""
    wrong = wrong_with_name(column.name) or wrong_with_parameters(column)
    if wrong:
        raise ConfigError(f"{where}: {wrong}")
    if column.type == "RECORD" and not column.fields:
        raise ConfigError(f"{where}: a RECORD needs at least one field")
    if column.type != "RECORD" and column.fields:
        raise ConfigError(f"{where}: only a RECORD has fields, not {column.type}")
    _check_names(column.fields, where)
    return column


def _check_names(columns: Columns, where: str) -> None:
    seen: dict[str, str] = {}
    for column in columns:
        key = folded(column.name)
        if key in seen:
            raise ConfigError(
                f"{where}: {seen[key]!r} and {column.name!r} are the same name to BigQuery; remove one"
            )
        seen[key] = column.name


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
        precision=_number(field, "precision", name),
        scale=_number(field, "scale", name),
        max_length=_number(field, "maxLength", name),
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
    plain = (None, None, None)
    parameters, asked = ((column.precision, column.scale, column.max_length) for column in (old, new))
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
    return msgspec.structs.replace(old, fields=fields, description=description)
