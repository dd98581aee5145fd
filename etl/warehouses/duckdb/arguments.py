"""What the arguments of the warehouse may be: they are checked before anything is opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from etl.warehouses.duckdb.types import lower

Disposition = Literal["append", "merge", "replace"]
SchemaOnRefresh = Literal["keep", "infer"]


def checked_path(path: str) -> str:
    """Return the path of a database file.

    Raises:
        ValueError: it makes no sense.
    """
    if not Path(path).name or path.endswith("/") or path.startswith(":") or "://" in path or "\0" in path:
        raise ValueError(f"path is {path!r}; it must name a file, such as 'flights.duckdb'")
    return path


def checked_table(table: str) -> tuple[str, str]:
    """Return a table's schema and its name.

    Raises:
        ValueError: it makes no sense.
    """
    names = table.split(".")
    schema, name = ("main", *names) if len(names) == 1 else names if len(names) == 2 else ("", "")
    for each in (schema, name):
        if not each or each != each.strip() or not each.isprintable() or '"' in each:
            raise ValueError(
                f"table is {table!r}; it must be 'table' or 'schema.table', without quotes: they are added"
            )
    if lower(name).startswith("_etl_"):
        raise ValueError(f"table is {table!r}; names that start with _etl_ are kept for the ledger")
    return schema, name


def checked_schema_on_refresh(schema_on_refresh: SchemaOnRefresh) -> SchemaOnRefresh:
    """Return what a refresh does with the schema.

    Raises:
        ValueError: it makes no sense.
    """
    if schema_on_refresh not in get_args(SchemaOnRefresh):
        known = " or ".join(map(repr, get_args(SchemaOnRefresh)))
        raise ValueError(f"schema_on_refresh is {schema_on_refresh!r}; it must be {known}")
    return schema_on_refresh


def checked_key(disposition: str, key: Sequence[str], updated_at: str | None) -> tuple[str, ...]:
    """Return the key of a disposition; empty: rows are added.

    Raises:
        ValueError: it makes no sense.
    """
    if disposition not in get_args(Disposition):
        known = ", ".join(map(repr, get_args(Disposition)))
        raise ValueError(f"disposition is {disposition!r}; DuckDB knows {known}")
    if isinstance(key, str) or not all(isinstance(name, str) and name for name in key):
        raise ValueError(f"key is {key!r}; it must be a list of columns, such as ['id']")
    if disposition == "merge" and not key:
        raise ValueError("disposition is 'merge', which needs a key: a list of columns, such as key = ['id']")
    if disposition != "merge" and (key or updated_at is not None):
        raise ValueError(f"key and updated_at are for the disposition 'merge'; it is {disposition!r}")
    if len({lower(name) for name in key}) < len(key):
        raise ValueError(f"key is {list(key)!r}; it names a column twice")
    if updated_at is not None and (not updated_at or lower(updated_at) in map(lower, key)):
        raise ValueError(f"updated_at is {updated_at!r}; it must be a column that is not in the key")
    return tuple(key)
