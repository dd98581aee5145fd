"""Which values of a part do not fit their column: looked for after a load has failed, to name their records."""

from __future__ import annotations

from typing import Any

from etl.errors import SchemaMismatch
from etl.warehouses.duckdb.convert import GENERATED, Check
from etl.warehouses.duckdb.kind_paths import leaf_at, values_at
from etl.warehouses.duckdb.opening import in_order
from etl.warehouses.duckdb.parts import REMEDY, PartReader
from etl.warehouses.duckdb.types import JSON, NULL, Kind, literal, quoted, shown

SHOWN = 100  # characters of a value in a message
NUMBER = "number"
GROUPS = {"UBIGINT": NUMBER, "BIGINT": NUMBER, "HUGEINT": NUMBER, "DOUBLE": NUMBER}


def explained(part: PartReader, check: Check, read: Kind) -> SchemaMismatch:
    """Find the first value that fails a check, and return the error that names it.

    Args:
        part: the part.
        check: what failed.
        read: the type with which its column was read.
    """
    for record, reason in failing(part, check, read, first=True).items():
        return SchemaMismatch(f"{part}, record {record}: {reason}; {REMEDY}")
    # cannot be: the same condition has just failed on the same bytes
    return SchemaMismatch(f"{part}: a value of {shown(check.path)} does not fit {_target(check)}; {REMEDY}")


def failing(part: PartReader, check: Check, read: Kind, *, first: bool = False) -> dict[int, str]:
    """Return the numbers of the records with a value that fails a check, from 1 on, and what is wrong with each.

    Where some values are of the wrong kind, only those are told: beside them others may seem not to fit, as an object
    does where a number stands in another record.

    Args:
        part: the part.
        check: what failed.
        read: the type with which its column was read.
        first: return the first one alone.
    """
    target = _target(check)
    right_kind = check.right_kind
    if check.target == NULL:
        target = "the values before it"
        right_kind = _right_kind_of_mixed(part, check, read)
    found = _values(part, check, read, right_kind, first=first) if right_kind else []
    if not found:
        found = _values(part, check, read, check.fits, first=first)
        if check.target == NULL:
            target = "any type (an object with an empty name for a field)"
    reasons: dict[int, str] = {}
    for record, value in found:
        if len(value) > SHOWN:
            value = value[:SHOWN] + "…"
        reasons.setdefault(record, f"the value {value} of column {shown(check.path)} does not fit {target}")
    return reasons


def _target(check: Check) -> str:
    if check.target == GENERATED:
        return "a generated column, which takes no values"
    target = f"the column's type, {check.target}"
    if str(check.target) == "FLOAT":
        target += ", which holds 24 bits of a number exactly (DOUBLE: 53)"
    return target


def _right_kind_of_mixed(part: PartReader, check: Check, read: Kind) -> Any:
    """Return the condition that a value is of the kind of the first one, where kinds are mixed."""
    first = next(
        iter(_values(part, check, read, check.fits, first=True, show=lambda v: f"json_type({v})")), None
    )
    if first is None:
        return None
    names = [name for name, group in GROUPS.items() if group == GROUPS.get(first[1])] or [first[1]]
    return lambda v: f"{v} = '{{}}' OR json_type({v}) IN ({', '.join(map(literal, names))})"


def _values(
    part: PartReader, check: Check, read: Kind, fits: Any, *, first: bool, show: Any = None
) -> list[tuple[int, str]]:
    """Return the values that do not fit, each with the number of its record, in order."""
    column = check.path[0]
    assert column is not None
    value = (
        show("v") if show else ("CAST(v AS VARCHAR)" if leaf_at(read, check.path) == JSON else "to_json(v)")
    )
    with in_order(part.connection):
        rows = part.connection.execute(
            f"SELECT record, {value} FROM (SELECT record, unnest({values_at(quoted(column), check.path[1:])}) "  # noqa: S608
            f"AS v FROM (SELECT row_number() OVER () AS record, {quoted(column)} "
            f"FROM {part.source({column: read})})) "
            f"WHERE v IS NOT NULL AND NOT coalesce({fits('v')}, false) ORDER BY record{' LIMIT 1' if first else ''}"
        ).fetchall()
    return [(int(record), str(shown_value)) for record, shown_value in rows]
