"""Schemas as a job declares them.

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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from etl.columns import Column, Columns
from etl.errors import ConfigError
from etl.schemas.dialect import Dialect
from etl.schemas.types import DIGITS, MODES, TYPES, wrong_with_parameters
from etl.tables import did_you_mean, join, show

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


def declared(schema: Schema | None, dialect: Dialect, where: str = "schema") -> Columns:
    """Return the columns that a job declares; see this module's docstring for the forms.

    Args:
        schema: the declaration; None: nothing is declared.
        dialect: of the warehouse that the columns are for.
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
        columns = tuple(_short(name, value, dialect, join(where, name)) for name, value in schema.items())
    elif isinstance(schema, Sequence):
        columns = tuple(_long(field, dialect, f"{where}[{number}]") for number, field in enumerate(schema))
    else:
        raise ConfigError(f"{where}: expected a path, a table or a list of tables, found {show(schema)}")
    _check_names(columns, dialect, where)
    return columns


def to_api(columns: Columns) -> list[dict[str, Any]]:
    """Return the columns in the REST API's form, for `SchemaField.from_api_repr`."""
    return [_to_api(column) for column in columns]


def _to_api(column: Column) -> dict[str, Any]:
    result: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(column, field=None, fields=()))
    return result | {"fields": to_api(column.fields)} if column.fields else result


def _read(path: Path, where: str) -> Any:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"{where}: cannot be read: {error.strerror}; give the path of a JSON file"
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"{where}: is no JSON: {error}; write it with: etl check --write-schema FILE, or bq show --schema "
            "--format=prettyjson TABLE"
        ) from error
    if isinstance(content, Mapping):
        content = content.get("fields", content)
    if not isinstance(content, list):
        raise ConfigError(f"{where}: expected a list of columns, found {show(content)}")
    return content


def _short(name: str, value: Any, dialect: Dialect, where: str) -> Column:
    """Make a column of what a job file's table gives it."""
    if isinstance(value, Mapping):
        return _record(name, value, "NULLABLE", dialect, where)
    if isinstance(value, (list, tuple)) and len(value) == 1 and isinstance(value[0], Mapping):
        return _record(name, value[0], "REPEATED", dialect, where)
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
    return _sound(column, dialect, where)


def _record(name: str, fields: Mapping[str, Any], mode: str, dialect: Dialect, where: str) -> Column:
    columns = tuple(_short(key, value, dialect, join(where, key)) for key, value in fields.items())
    return _sound(Column(name=name, type="RECORD", mode=mode, fields=columns), dialect, where)


def _long(field: Any, dialect: Dialect, where: str) -> Column:
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
        fields=tuple(
            _long(entry, dialect, f"{where}.fields[{number}]") for number, entry in enumerate(fields)
        ),
        description=str(field.get("description") or ""),
        precision=whole_number(field, "precision", where),
        scale=whole_number(field, "scale", where),
        max_length=whole_number(field, "maxLength", where),
    )
    return _sound(column, dialect, where)


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


def whole_number(field: Mapping[str, Any], key: str, where: str) -> int | None:
    """Return the number at a key of a column in its JSON form.

    Raises:
        ConfigError: it is something else.
    """
    value = field.get(key)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value):  # REST writes 64-bit numbers as text
        return int(value)
    raise ConfigError(f"{where}.{key}: expected a whole number, found {show(value)}")


def _sound(column: Column, dialect: Dialect, where: str) -> Column:
    """Return the column if it is one that the warehouse takes."""
    wrong = dialect.wrong_with_name(column.name) or wrong_with_parameters(column)
    if wrong:
        raise ConfigError(f"{where}: {wrong}")
    if column.type == "RECORD" and not column.fields:
        raise ConfigError(f"{where}: a RECORD needs at least one field")
    if column.type != "RECORD" and column.fields:
        raise ConfigError(f"{where}: only a RECORD has fields, not {column.type}")
    _check_names(column.fields, dialect, where)
    return column


def _check_names(columns: Columns, dialect: Dialect, where: str) -> None:
    seen: dict[str, str] = {}
    for column in columns:
        key = dialect.folded(column.name)
        if key in seen:
            raise ConfigError(
                f"{where}: {seen[key]!r} and {column.name!r} are the same name to {dialect.warehouse}; remove one"
            )
        seen[key] = column.name
