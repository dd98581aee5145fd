"""Which value of a part does not fit its column: looked for after a load has failed, to name it with its record."""

from __future__ import annotations

from typing import Any

from etl.errors import SchemaMismatch
from etl.warehouses.duckdb.convert import Check
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
    target = f"the column's type, {check.target}"
    if str(check.target) == "FLOAT":
        target += ", which holds 24 bits of a number exactly (DOUBLE: 53)"
    right_kind = check.right_kind
    if check.target == NULL:
        target = "the values before it"
        right_kind = _right_kind_of_mixed(part, check, read)
    found = right_kind and _first(part, check, read, right_kind)
    if found is None:
        found = _first(part, check, read, check.fits)
        if check.target == NULL:
            target = "any type (an object with an empty name for a field)"
    if found is None:  # cannot be: the same condition has just failed on the same bytes
        return SchemaMismatch(f"{part}: a value of {shown(check.path)} does not fit {target}; {REMEDY}")
    record, value = found
    if len(value) > SHOWN:
        value = value[:SHOWN] + "…"
    return SchemaMismatch(
        f"{part}, record {record}: the value {value} of column {shown(check.path)} does not fit {target}; "
        f"{REMEDY}"
    )


def _right_kind_of_mixed(part: PartReader, check: Check, read: Kind) -> Any:
    """Return the condition that a value is of the kind of the first one, where kinds are mixed."""
    first = _first(part, check, read, check.fits, show=lambda v: f"json_type({v})")
    if first is None:
        return None
    names = [name for name, group in GROUPS.items() if group == GROUPS.get(first[1])] or [first[1]]
    return lambda v: f"{v} = '{{}}' OR json_type({v}) IN ({', '.join(map(literal, names))})"


def _first(part: PartReader, check: Check, read: Kind, fits: Any, show: Any = None) -> tuple[int, str] | None:
    """Return the number of the first record with a value that does not fit, and that value."""
    column = check.path[0]
    assert column is not None
    value = (
        show("v") if show else ("CAST(v AS VARCHAR)" if leaf_at(read, check.path) == JSON else "to_json(v)")
    )
    with in_order(part.connection):
        row = part.connection.execute(
            f"SELECT record, {value} FROM (SELECT record, unnest({values_at(quoted(column), check.path[1:])}) "  # noqa: S608
            f"AS v FROM (SELECT row_number() OVER () AS record, {quoted(column)} "
            f"FROM {part.source({column: read})})) "
            f"WHERE v IS NOT NULL AND NOT coalesce({fits('v')}, false) ORDER BY record LIMIT 1"
        ).fetchone()
    return (int(row[0]), str(row[1])) if row else None
