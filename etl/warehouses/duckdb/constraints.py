"""Which records of a part break a constraint of the table: looked for after a load has failed.

DuckDB says which constraint it was, and of a key that is there twice which one, but not which record. So the part is
inserted into a temporary table without constraints, and these are asked of its rows. Of two records with the same key
the one that comes later breaks it, unless the earlier one is refused itself, and any record does whose key the table
has. What cannot be told so (a foreign key to the table itself, a unique index, a default that breaks a CHECK) is left
to the caller, who can try fewer records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from etl.warehouses.duckdb.growth import Decisions
from etl.warehouses.duckdb.parts import PartReader
from etl.warehouses.duckdb.table import Constraint, Table
from etl.warehouses.duckdb.types import Columns, literal, lower, quoted

if TYPE_CHECKING:
    import duckdb

STAGED = "_etl_constrained"
KEYS = ("PRIMARY KEY", "UNIQUE")
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
    """Return the numbers of records that break a constraint, from 1 on, and what is wrong with each.

    Others may break one, too, once these are left out.

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
    table.insert(part, found, columns, decisions, into=STAGED)

    def rows(condition: Condition) -> list[tuple[int, str, int]]:
        return connection.execute(
            f"SELECT _etl_record, {condition.reason}, {condition.first} "  # noqa: S608
            f"FROM (SELECT row_number() OVER () AS _etl_record, * FROM {STAGED}) AS new "
            f"{condition.which} ORDER BY _etl_record"
        ).fetchall()

    known = table.constraints()
    for condition in _alone(table, known, held, merged=merged):
        if refused := {record: reason for record, reason, _ in rows(condition)}:
            return refused
    twice = [row for condition in ([] if merged else _twice(known, held)) for row in rows(condition)]
    in_question = {record for record, _, _ in twice}
    return {record: reason for record, reason, first in sorted(twice) if first not in in_question}


class Condition(NamedTuple):
    """Which records break a constraint, as SQL.

    Attributes:
        which: the clause that finds them.
        reason: what is to be said of them.
        first: the number of the record that is in their way; 0: none is.
    """

    which: str
    reason: str
    first: str = "0"


def _alone(
    table: Table, found: Sequence[Constraint], held: Sequence[str], *, merged: bool
) -> Iterator[Condition]:
    """Yield which records break a constraint whatever the other records are: they take no key from those."""
    for constraint in found:
        if constraint.kind == "NOT NULL":
            name = constraint.columns[0]
            if name in held or not constraint.has_default:
                yield Condition(
                    f"WHERE new.{quoted(name)} IS NULL",
                    literal(f"column {name} is NOT NULL, and the record has no value"),
                )
        elif constraint.kind == "CHECK" and constraint.expression:
            values = _values(constraint.columns)
            yield Condition(
                f"WHERE NOT coalesce(({constraint.expression}), true)",
                f"{literal(f'it breaks the constraint {constraint.text}: ')} || {values}",
            )
    for constraint in _held(found, held, "FOREIGN KEY"):
        if lower(constraint.other) == lower(table.names[1]):
            continue
        same = " AND ".join(
            f"old.{quoted(there)} = new.{quoted(here)}"
            for here, there in zip(constraint.columns, constraint.others, strict=True)
        )
        other = f"{quoted(table.names[0])}.{quoted(constraint.other)}"
        yield Condition(
            f"WHERE {_given(constraint)} AND NOT EXISTS (SELECT 1 FROM {other} AS old WHERE {same})",  # noqa: S608
            f"{_shown(constraint)} || {literal(f' is not in {constraint.other}')}",
        )
    for constraint in () if merged else _held(found, held, *KEYS):
        same = " AND ".join(f"old.{key} = new.{key}" for key in map(quoted, constraint.columns))
        yield Condition(
            f"WHERE EXISTS (SELECT 1 FROM {table.sql} AS old WHERE {same})",  # noqa: S608
            f"{_shown(constraint)} || ' is in the table already'",
        )


def _twice(found: Sequence[Constraint], held: Sequence[str]) -> Iterator[Condition]:
    """Yield which records have a key that an earlier one has, which keeps it if it is not refused itself."""
    for constraint in _held(found, held, *KEYS):
        of_one_key = f"OVER (PARTITION BY {', '.join(f'new.{quoted(name)}' for name in constraint.columns)}"
        yield Condition(
            f"QUALIFY {_given(constraint)} AND row_number() {of_one_key} ORDER BY _etl_record) > 1",
            f"{_shown(constraint)} || ' came in an earlier record'",
            f"min(_etl_record) {of_one_key})",
        )


def _held(found: Sequence[Constraint], held: Sequence[str], *kinds: str) -> list[Constraint]:
    """Return the constraints of some kinds that are about nothing but columns that the part holds."""
    return [each for each in found if each.kind in kinds and set(each.columns) <= set(held)]


def _given(constraint: Constraint) -> str:
    """Write the condition that no value is null: two nulls are not the same key."""
    return " AND ".join(f"new.{quoted(name)} IS NOT NULL" for name in constraint.columns)


def _shown(constraint: Constraint) -> str:
    return f"{literal(f'{constraint.text}: ')} || {_values(constraint.columns)}"


def _values(columns: Sequence[str]) -> str:
    """Write the text `a = 1, b = 'x'` of a record."""
    parts = (
        f"{literal(name + ' = ')} || coalesce(left(CAST(to_json(new.{quoted(name)}) AS VARCHAR), {SHOWN}), 'null')"
        for name in columns
    )
    return " || ', ' || ".join(parts)
