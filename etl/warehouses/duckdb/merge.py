"""How a part is merged into a table by its key.

Its records go into a temporary table first, in the order in which they stand in the part. Of those with the same key
the one with the greatest `updated_at` is kept, the last one where that is equal or there is none; null and NaN are
older than anything. Then rows of the table that are not younger are deleted, and what was kept is inserted. A plan's
parts are merged one after the other, in one transaction: that gives what merging all of them at once would give, and
needs no more memory than one part does.

A row that is replaced is a new row: fields that the record does not have are null. Where a key is in the table many
times, because it was filled without a key, all rows that lose are deleted.

DELETE and INSERT, not MERGE INTO: an UPDATE of DuckDB 2.0 keeps the old values of all changed columns in memory.
What a DELETE keeps there is 8 bytes for each row of every 2,048 of which one is deleted (`ChunkVectorInfo` in DuckDB's
source): for keys all over a table of 30 M rows 245 MB, which are not spilled. Where that does not fit, the table is
written again, which takes no memory (30 M rows of 25 bytes: 9 s with 64 MB) but the table's size of disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from etl.errors import SchemaMismatch
from etl.warehouses.duckdb.growth import Decisions
from etl.warehouses.duckdb.opening import in_order
from etl.warehouses.duckdb.parts import PartReader
from etl.warehouses.duckdb.table import Table
from etl.warehouses.duckdb.types import FLOATS, NULL, Columns, Kind, lower, quoted

if TYPE_CHECKING:
    import duckdb

STAGED = "_etl_staged"


def _age(value: str, kind: Kind) -> str:
    """Write what rows are compared by; to DuckDB nan is the greatest number, and such a row would stay for good."""
    return f"CASE WHEN NOT isnan({value}) THEN {value} END" if kind.scalar in FLOATS else value


class Merge:
    """Merges parts into a table, within a transaction; after one that failed, the order must be let go again.

    Args:
        connection: to the database.
        key: the columns of the key, at least one.
        updated_at: the column that says which of two rows is the younger one; None: the later one is.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, key: Sequence[str], updated_at: str | None
    ) -> None:
        self._connection = connection
        self._key = tuple(key)
        self._updated_at = updated_at

    def take(
        self,
        table: Table,
        part: PartReader,
        found: Columns,
        columns: Columns,
        decisions: Decisions,
        *,
        rewrite: bool,
    ) -> int:
        """Merge a part.

        Args:
            table: the table.
            part: the part.
            found: the columns that it holds.
            columns: what `Table.evolve` returned.
            decisions: what `Table.evolve` took.
            rewrite: write the table again, rather than delete rows from it.

        Returns:
            The number of records that it took.

        Raises:
            Misfit: a value does not fit its column.
            SchemaMismatch: a record has no key.
            LoadMismatch: it holds another number of records than it was sealed with.
        """
        names = {name: f"c{number}" for number, name in enumerate(found) if name not in table.generated()}
        if missing := [name for name in self._key if name not in names]:
            raise self._without_key(part, 1, missing)
        definitions = ", ".join(f"{staged} {columns[name]}" for name, staged in names.items())
        # Named c0, c1, …, so that no column is in the way of rowid, which tells the order.
        self._connection.execute(f"CREATE TEMP TABLE {STAGED} ({definitions})")
        with in_order(self._connection):
            rows = table.insert(part, found, columns, decisions, into=STAGED, names=names)
        self._check_key(part, names)
        self._keep_one_of_each(names, columns)
        if rewrite:
            self._rewrite(table, names, columns)
        else:
            self._connection.execute(
                f"DELETE FROM {table.sql} AS old USING {STAGED} AS new WHERE {self._replaced(names, columns)}"  # noqa: S608
            )
            self._insert(table, names)
        self._connection.execute(f"DROP TABLE {STAGED}")
        return rows

    def _check_key(self, part: PartReader, names: dict[str, str]) -> None:
        """Make sure that each record has a key: null is equal to nothing, and would be added each time."""
        for name in self._key:
            row = self._connection.execute(
                f"SELECT min(rowid) FROM {STAGED} WHERE {names[name]} IS NULL"  # noqa: S608
            ).fetchone()
            if row and row[0] is not None:
                before = self._connection.execute(
                    f"SELECT count(*) FROM {STAGED} WHERE rowid <= ?",  # noqa: S608
                    [row[0]],
                ).fetchone()
                raise self._without_key(part, before[0] if before else 1, [name])

    def _keep_one_of_each(self, names: dict[str, str], columns: Columns) -> None:
        """Delete the records that lose against others of the same part."""
        key = ", ".join(names[name] for name in self._key)
        order = "rowid DESC"
        if staged := names.get(updated_at := self._updated_in(columns)):
            order = f"{_age(staged, columns[updated_at])} DESC NULLS LAST, {order}"
        self._connection.execute(
            f"DELETE FROM {STAGED} WHERE rowid IN (SELECT record FROM (SELECT rowid AS record, "  # noqa: S608
            f"row_number() OVER (PARTITION BY {key} ORDER BY {order}) AS place FROM {STAGED}) WHERE place > 1)"
        )

    def _insert(self, table: Table, names: dict[str, str]) -> None:
        """Insert what was kept, but for keys that are still in the table: those rows are younger."""
        left = f"ANTI JOIN {table.sql} AS old ON ({self._same_key(names)})" if self._updated_at else ""
        self._connection.execute(
            f"INSERT INTO {table.sql} ({', '.join(map(quoted, names))}) "  # noqa: S608
            f"SELECT {', '.join(f'new.{staged}' for staged in names.values())} FROM {STAGED} AS new {left}"
        )

    def _rewrite(self, table: Table, names: dict[str, str], columns: Columns) -> None:
        """Do the same by a new table in the place of the old one."""
        with table.written_anew(columns) as sql:
            every = ", ".join(map(quoted, columns))
            self._connection.execute(
                f"INSERT INTO {sql} ({every}) SELECT {', '.join(f'old.{quoted(name)}' for name in columns)} "  # noqa: S608
                f"FROM {table.sql} AS old ANTI JOIN {STAGED} AS new ON ({self._replaced(names, columns)})"
            )
        self._insert(table, names)

    def _same_key(self, names: dict[str, str]) -> str:
        return " AND ".join(f"old.{quoted(name)} = new.{names[name]}" for name in self._key)

    def _replaced(self, names: dict[str, str], columns: Columns) -> str:
        """Write the condition that a row of the table is replaced by a record that was kept."""
        same = self._same_key(names)
        if not (updated_at := self._updated_in(columns)):
            return same
        kind, staged = columns[updated_at], names.get(updated_at)
        old = _age(f"old.{quoted(updated_at)}", kind)
        younger = f" OR {_age(f'new.{staged}', kind)} >= {old}" if staged else ""
        return f"{same} AND ({old} IS NULL{younger})"

    def _updated_in(self, columns: Columns) -> str:
        """Return the column that says which of two rows is the younger one; empty: no record had a value there so far.

        Its name is that of a column, whose case does not count.
        """
        wanted = lower(self._updated_at or "")
        return next((name for name, kind in columns.items() if lower(name) == wanted and kind != NULL), "")

    def _without_key(self, part: PartReader, record: int, missing: Sequence[str]) -> SchemaMismatch:
        return SchemaMismatch(
            f"{part}, record {record}: {', '.join(missing)} is missing or null, and the table's key is "
            f"{', '.join(self._key)}; fix the transform, or leave such records out. Nothing of this load was kept"
        )
