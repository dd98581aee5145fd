"""Schemas of a DuckDB table: as a job declares them, and as other parts of the library see them.

A job gives each column's name a type as DuckDB writes it, or declares columns in the form of BigQuery's JSON schemas
(see `etl.schemas.declared`). Their types become:

=====================  =============================================================================================
STRING                 VARCHAR
BYTES                  BLOB
INTEGER                BIGINT
FLOAT                  DOUBLE
NUMERIC                DECIMAL(38, 9), or as its precision and scale say
BIGNUMERIC             DECIMAL(38, 18), or as its precision and scale say, as far as DuckDB's 38 digits go: a value
                       that needs more is an error, never rounded
BOOLEAN, DATE, TIME    the same
TIMESTAMP              TIMESTAMP WITH TIME ZONE
DATETIME               TIMESTAMP
JSON                   JSON
GEOGRAPHY, INTERVAL    VARCHAR: the text as it came
RECORD                 STRUCT
=====================  =============================================================================================

REPEATED makes a list of them. REQUIRED and the maximum length of text and bytes are not enforced.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from etl.columns import Column
from etl.columns import Columns as NeutralColumns
from etl.schemas import declared as neutral_declarations
from etl.schemas.dialect import Dialect
from etl.warehouses.duckdb.text_rules import is_plain
from etl.warehouses.duckdb.types import JSON, Columns, Kind, lower

Schema = Mapping[str, str] | Sequence[Mapping[str, Any]] | str | os.PathLike[str]

DUCKDB = Dialect(
    warehouse="DuckDB",
    folded=lower,
    valid=lambda name: name,
    may_be_made=lambda _name: False,
    wrong_with_name=lambda name: None if name else "a column needs a name",
    most_levels=100,
)
MOST_DIGITS = 38
SCALES = {"NUMERIC": 9, "BIGNUMERIC": 18}
TYPES = {
    "STRING": "VARCHAR",
    "BYTES": "BLOB",
    "INTEGER": "BIGINT",
    "FLOAT": "DOUBLE",
    "BOOLEAN": "BOOLEAN",
    "TIMESTAMP": "TIMESTAMP WITH TIME ZONE",
    "DATE": "DATE",
    "TIME": "TIME",
    "DATETIME": "TIMESTAMP",
    "JSON": "JSON",
    "GEOGRAPHY": "VARCHAR",
    "INTERVAL": "VARCHAR",
}
# The other way round; whatever is not here is STRING to others, and JSON where it may hold names.
NEUTRAL = {
    **{kind: name for name, kind in TYPES.items() if name not in ("GEOGRAPHY", "INTERVAL")},
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT", "UINTEGER"), "INTEGER"),
    **dict.fromkeys(("UBIGINT", "HUGEINT", "UHUGEINT", "BIGNUM"), "BIGNUMERIC"),
    **dict.fromkeys(("TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"), "DATETIME"),
    "FLOAT": "FLOAT",
}

WHOLE = frozenset({"UBIGINT", "HUGEINT", "UHUGEINT", "BIGNUM"})


def declared(schema: Schema | None) -> dict[str, str]:
    """Return the types of the columns that a job declares, as DuckDB writes them.

    Args:
        schema: the declaration; None: nothing is declared.

    Raises:
        ConfigError: it is in BigQuery's form, and wrong, or its file cannot be read.
        ValueError: it is in DuckDB's form, and wrong.
    """
    if schema is None:
        return {}
    if isinstance(schema, Mapping):
        return _checked(schema)
    columns = neutral_declarations.declared(schema, DUCKDB, "warehouse.schema")
    return {column.name: str(_kind(column)) for column in columns}


def neutral(columns: Columns) -> NeutralColumns:
    """Return columns as other parts of the library see them: their names are exact, their types nearly so."""
    return tuple(_column(name, kind) for name, kind in columns.items())


def neutral_of(schema: Mapping[str, str]) -> NeutralColumns:
    """Return declared columns as other parts of the library see them; without those whose type is none of DuckDB's.

    Whole numbers of all sizes are INTEGER: Python's have any.
    """
    if not schema:
        return ()
    import duckdb

    kinds: dict[str, Kind] = {}
    with duckdb.connect(":memory:", config={"threads": "1"}) as connection:
        for name, text in schema.items():
            with suppress(duckdb.Error):  # opening the warehouse says so
                kinds[name] = Kind.of(connection.sqltype(text))
    whole = {name: replace(kind, scalar="BIGINT") for name, kind in kinds.items() if kind.scalar in WHOLE}
    return neutral({**kinds, **whole})


def _checked(schema: Mapping[str, str]) -> dict[str, str]:
    seen: dict[str, str] = {}
    for name, kind in schema.items():
        if not name or not isinstance(kind, str) or not kind.strip():
            raise ValueError(f"schema has {name!r} = {kind!r}; it must give each column's name a type")
        if seen.setdefault(lower(name), name) != name:
            raise ValueError(
                f"schema has {name!r} and {seen[lower(name)]!r}, which are the same name to DuckDB; remove one"
            )
    return dict(schema)


def _kind(column: Column) -> Kind:
    if column.type == "RECORD":
        kind = Kind(fields=tuple((field.name, _kind(field)) for field in column.fields))
    elif column.type in SCALES:
        scale = SCALES[column.type] if column.precision is None else (column.scale or 0)
        kind = Kind(f"DECIMAL({min(column.precision or MOST_DIGITS, MOST_DIGITS)}, {scale})")
    else:
        kind = Kind(TYPES[column.type])
    return Kind(element=kind) if column.mode == "REPEATED" else kind


def _column(name: str, kind: Kind) -> Column:
    element = kind.element
    if element is not None:
        # A list within a list has no form here; nothing is said of what is in it.
        inner = _column(name, JSON if element.element else element)
        return Column(name=name, type=inner.type, mode="REPEATED", fields=inner.fields)
    if kind.fields:
        return Column(
            name=name, type="RECORD", fields=tuple(_column(field, inner) for field, inner in kind.fields)
        )
    if kind.scalar.startswith("DECIMAL"):
        return Column(name=name, type="NUMERIC")
    return Column(name=name, type=NEUTRAL.get(kind.scalar, "STRING" if is_plain(kind) else "JSON"))
