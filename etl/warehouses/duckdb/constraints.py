"""Which records of a part break a constraint of the table: looked for after a load has failed.

DuckDB says which constraint it was, and of a key that is there twice which one, but not which record. So the part is
inserted into a temporary table without constraints, and these are asked of its rows. Of two records with the same key
the one that comes later breaks it, and any record does whose key the table has. What cannot be told so (a foreign key,
a unique index, a default that breaks a CHECK) is left to the caller, who can try fewer records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from etl.warehouses.duckdb.opening import keep_order
from etl.warehouses.duckdb.parts import PartReader
from etl.warehouses.duckdb.table import Decisions, Table
from etl.warehouses.duckdb.types import Columns, literal, quoted

if TYPE_CHECKING:
    import duckdb

STAGED = "_etl_constrained"
SHOWN = 100  # characters of a value in a message


def broken(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    part: PartReader,
    found: Columns,
    decisions: Decisions,
    *,
    merged: bool,
) -> dict[int, str]:
    """Return the numbers of the records that break a constraint, from 1 on, and what is wrong with each.

    Call it in a transaction, which keeps the order of records, and which is rolled back.

    Args:
        connection: to the database.
        table: the table.
        part: the part, each value of which fits its column.
        found: the columns that it holds.
        decisions: what was decided about them.
        merged: whether rows with the same key are replaced, so that keys say nothing.
    """
    columns = table.evolve([(part, found)], decisions)
    held = [name for name in found if name not in table.generated()]
    stored = [name for name in columns if name not in table.generated()]
    connection.execute(
        f"CREATE TEMP TABLE {STAGED} ({', '.join(f'{quoted(name)} {columns[name]}' for name in stored)})"
    )
    keep_order(connection, True)
    table.insert(part, found, columns, decisions, into=STAGED)
    for which, reason in _conditions(table, held, merged=merged):
        rows = connection.execute(
            f"SELECT _etl_record, {reason} FROM (SELECT row_number() OVER () AS _etl_record, * FROM {STAGED}) AS new "  # noqa: S608
            f"{which} ORDER BY _etl_record"
        ).fetchall()
        if rows:
            return {int(record): str(text) for record, text in rows}
    return {}


def _conditions(table: Table, held: Sequence[str], *, merged: bool) -> Iterator[tuple[str, str]]:
    """Yield for each constraint which records break it, and what is to be said of them, as SQL.

    Those that need nothing but the record come first: one that breaks them takes no key from others.
    """
    found = table.constraints()
    for constraint in found:
        if constraint.kind == "NOT NULL":
            name = constraint.columns[0]
            if name in held or not constraint.has_default:
                yield (
                    f"WHERE new.{quoted(name)} IS NULL",
                    literal(f"column {name} is NOT NULL, and the record has no value"),
                )
        elif constraint.kind == "CHECK" and constraint.expression:
            values = _values(constraint.columns)
            yield (
                f"WHERE NOT coalesce(({constraint.expression}), true)",
                f"{literal(f'it breaks the constraint {constraint.text}: ')} || {values}",
            )
    for constraint in () if merged else found:
        if constraint.kind not in ("PRIMARY KEY", "UNIQUE") or not set(constraint.columns) <= set(held):
            continue
        keys = [quoted(name) for name in constraint.columns]
        some = " AND ".join(f"new.{key} IS NOT NULL" for key in keys)  # two nulls are not the same key
        same = " AND ".join(f"old.{key} = new.{key}" for key in keys)
        shown = f"{literal(f'{constraint.text}: ')} || {_values(constraint.columns)} || "
        yield (
            f"WHERE EXISTS (SELECT 1 FROM {table.sql} AS old WHERE {same})",  # noqa: S608
            f"{shown} ' is in the table already'",
        )
        partition = ", ".join(f"new.{key}" for key in keys)
        yield (
            f"QUALIFY {some} AND row_number() OVER (PARTITION BY {partition} ORDER BY _etl_record) > 1",
            f"{shown} ' came in an earlier record'",
        )


def _values(columns: Sequence[str]) -> str:
    """Write the text `a = 1, b = 'x'` of a record."""
    parts = (
        f"{literal(name + ' = ')} || coalesce(left(CAST(to_json(new.{quoted(name)}) AS VARCHAR), {SHOWN}), 'null')"
        for name in columns
    )
    return " || ', ' || ".join(parts)
