"""The table that a job loads: how it is made, how it grows, and how parts are inserted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from etl.errors import LoadMismatch, SchemaMismatch
from etl.warehouses.duckdb.convert import Check, Conversion, Reading, failed_check
from etl.warehouses.duckdb.forms import Form, triggers_of
from etl.warehouses.duckdb.growth import Decisions, as_it_is, changes, inferring
from etl.warehouses.duckdb.ledger import exists
from etl.warehouses.duckdb.parts import PartReader
from etl.warehouses.duckdb.types import (
    CaseClash,
    Columns,
    Kind,
    declared_over,
    grown,
    quoted,
)

if TYPE_CHECKING:
    import duckdb

# A table that is about to replace another one in the same transaction.
WRITTEN_ANEW = "_etl_written_anew"


class Misfit(Exception):
    """A value did not fit; the transaction has failed.

    Args:
        part: the part that holds it.
        check: the check that failed.
        read: the type with which its column was read.
    """

    def __init__(self, part: PartReader, check: Check, read: Kind) -> None:
        super().__init__(part, check, read)
        self.part = part
        self.check = check
        self.read = read


@dataclass(frozen=True, slots=True)
class Constraint:
    """One constraint of a table.

    Attributes:
        kind: `NOT NULL`, `CHECK`, `PRIMARY KEY`, `UNIQUE` or `FOREIGN KEY`.
        columns: the columns that it is about.
        text: how SQL writes it.
        expression: the condition of a CHECK; else empty.
        has_default: whether its first column has a value where a record says nothing of it.
        other: the table that a foreign key refers to; else empty.
        others: the columns there.
    """

    kind: str
    columns: tuple[str, ...]
    text: str
    expression: str
    has_default: bool
    other: str
    others: tuple[str, ...]


class Table:
    """A table within a transaction.

    Args:
        connection: to the database.
        schema: the table's schema.
        name: the table's name.
        declared: the columns that the job's definition declares.

    Attributes:
        names: its schema and its name.
        sql: the same, as SQL writes them.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, schema: str, name: str, declared: Columns
    ) -> None:
        self._connection = connection
        self._schema = schema
        self._name = name
        self._declared = declared
        self.names = (schema, name)
        self.sql = f"{quoted(schema)}.{quoted(name)}"
        self._exists = False
        self._generated: frozenset[str] | None = None

    def exists(self) -> bool:
        """Say whether the table is there; once it is committed, nobody takes it away while the file is open."""
        self._exists = self._exists or exists(self._connection, self._schema, self._name)
        return self._exists

    def __str__(self) -> str:
        return f"{self._schema}.{self._name}"

    def count(self) -> int:
        """Return how many rows it holds."""
        found = self._connection.execute(f"SELECT count(*) FROM {self.sql}").fetchone()  # noqa: S608 - quoted
        return int(found[0]) if found else 0

    def evolve(
        self,
        parts: Sequence[tuple[PartReader, Columns]],
        decisions: Decisions,
        *,
        rewrite: bool = False,
    ) -> Columns:
        """Make the table, or make its columns hold what `parts` hold; return the columns.

        Args:
            parts: each with the columns that it holds.
            decisions: what was decided so far; guesses are added.
            rewrite: write the table again where its columns change, rather than alter it: DuckDB 2.0 keeps a new column
                in memory until the transaction ends, 2.3 bytes a row.

        Raises:
            SchemaMismatch: a column cannot be as it is declared, or two names differ in case only.
        """
        old = self.columns() if self.exists() else None
        columns = self.with_declared(old or {})
        decisions.changes.clear()
        before = old
        for part, found in parts:
            try:
                columns = grown(columns, found, inferring(part, found, decisions))
            except CaseClash as clash:
                raise part.names_alike(clash.path, clash.other) from clash
            if before is not None and columns != before:
                decisions.changes.extend(changes(before, columns, part.part.sequence))
                before = columns
        if old is None:
            self._create(columns, parts[0][0])
        elif rewrite and columns != old:
            self._rewrite(old, columns)
        elif columns != old:
            self._alter(old, columns)
        return columns

    def declare(self) -> None:
        """Make its columns as the job's definition declares them; it must exist.

        Raises:
            SchemaMismatch: one cannot be so.
        """
        old = self.columns()
        self._alter(old, self.with_declared(old))

    def columns(self) -> dict[str, Kind]:
        """Return its columns; it must exist."""
        description = self._connection.execute(f"SELECT * FROM {self.sql} LIMIT 0").description  # noqa: S608
        return {str(name): Kind.of(kind) for name, kind, *_ in description}

    def generated(self) -> frozenset[str]:
        """Return the names of its columns that DuckDB computes; it must exist. They are looked up once."""
        if self._generated is None:
            found = self._connection.execute(
                "SELECT column_name FROM information_schema.columns WHERE is_generated = 'ALWAYS' AND table_catalog = "
                "current_database() AND lower(table_schema) = lower(?) AND lower(table_name) = lower(?)",
                [self._schema, self._name],
            )
            self._generated = frozenset(name for (name,) in found.fetchall())
        return self._generated

    def constraints(self) -> list[Constraint]:
        """Return its constraints; it must exist."""
        found = self._connection.execute(
            "SELECT constraint_type, constraint_column_names, constraint_text, coalesce(expression, ''), "
            "EXISTS (SELECT 1 FROM duckdb_columns() AS c WHERE c.table_oid = k.table_oid "
            "AND c.schema_oid = k.schema_oid AND c.database_oid = k.database_oid "
            "AND c.column_name = constraint_column_names[1] AND c.column_default IS NOT NULL), "
            "coalesce(referenced_table, ''), coalesce(referenced_column_names, []) "
            "FROM duckdb_constraints() AS k WHERE database_name = current_database() AND lower(schema_name) = lower(?) "
            "AND lower(table_name) = lower(?) ORDER BY constraint_index",
            [self._schema, self._name],
        )
        return [
            Constraint(kind, tuple(columns), text, expression, has_default, other, tuple(others))
            for kind, columns, text, expression, has_default, other, others in found.fetchall()
        ]

    def with_declared(self, columns: Columns) -> dict[str, Kind]:
        """Return `columns` as they are to be: with those that are declared, in the types that are declared.

        Raises:
            SchemaMismatch: two names differ in case only.
        """
        try:
            result = grown(columns, self._declared, as_it_is)
        except CaseClash as clash:
            raise SchemaMismatch(
                f"[warehouse.schema] declares {clash.path[0]!r}, but the table {self.sql} has {clash.other!r}, "
                "which is the same name to DuckDB; write it in the same way"
            ) from clash
        return result | {name: declared_over(result[name], kind) for name, kind in self._declared.items()}

    def _create(self, columns: Columns, part: PartReader) -> None:
        if not columns:
            raise SchemaMismatch(
                f"{part}: its records have no fields, so there are no columns to create {self.sql} with; "
                "declare them under [warehouse.schema], or fix the transform"
            )
        self.create(columns)

    def create(self, columns: Columns) -> None:
        """Create it; `columns` are at least one."""
        self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(self._schema)}")
        definitions = ", ".join(f"{quoted(name)} {kind}" for name, kind in columns.items())
        self._connection.execute(f"CREATE TABLE {self.sql} ({definitions})")

    def drop(self) -> None:
        """Drop it, if it is there, with its indexes; views of it stay."""
        self._connection.execute(f"DROP TABLE IF EXISTS {self.sql}")
        self._exists = False
        self._generated = None

    def take_place_of(self, other: Table) -> None:
        """Get the name of another table of the same schema, which is dropped; within a transaction."""
        name = other._stored_name()
        other.drop()
        self._connection.execute(f"ALTER TABLE {self.sql} RENAME TO {quoted(name)}")
        self._exists = False
        self._generated = None

    def _stored_name(self) -> str:
        """Return its name in the case in which the database has it, if it is there."""
        found = self._connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database() "
            "AND lower(schema_name) = lower(?) AND lower(table_name) = lower(?)",
            [self._schema, self._name],
        ).fetchone()
        return str(found[0]) if found else self._name

    @contextmanager
    def written_anew(self, columns: Columns) -> Iterator[str]:
        """Give the name, as SQL, of an empty table that takes the place of this one when the context ends."""
        new = Table(self._connection, self._schema, WRITTEN_ANEW, {})
        new.create(columns)
        yield new.sql
        new.take_place_of(self)

    def is_plain(self) -> bool:
        """Say whether a table that is made of its columns alone is the same; not within a transaction."""
        if triggers_of(self._connection, *self.names):
            return False
        new = Table(self._connection, self._schema, WRITTEN_ANEW, {})
        self._connection.execute("BEGIN TRANSACTION")
        try:
            new.create(self.columns())
            made, old = Form.of(self._connection, *new.names), Form.of(self._connection, *self.names)
        finally:
            self._connection.execute("ROLLBACK")
        return made == replace(old, name=made.name)

    def _alter(self, old: Columns, new: Columns) -> None:
        for name, kind in new.items():
            if name not in old:
                self._connection.execute(f"ALTER TABLE {self.sql} ADD COLUMN {quoted(name)} {kind}")
            elif old[name] != kind:
                conversion = self._conversion(Decisions(), typed=True)
                value = _converted(conversion, name, old[name], kind)
                self._convert(
                    f"ALTER TABLE {self.sql} ALTER COLUMN {quoted(name)} SET DATA TYPE {kind} USING {value}",
                    conversion,
                    old,
                )

    def _rewrite(self, old: Columns, new: Columns) -> None:
        conversion = self._conversion(Decisions(), typed=True)
        values = ", ".join(_converted(conversion, name, kind, new[name]) for name, kind in old.items())
        with self.written_anew(new) as sql:
            names = ", ".join(map(quoted, old))
            self._convert(f"INSERT INTO {sql} ({names}) SELECT {values} FROM {self.sql}", conversion, old)  # noqa: S608

    def _convert(self, statement: str, conversion: Conversion, old: Columns) -> None:
        """Convert values as those of a part are: a type that is declared later must hold what is there."""
        try:
            self._connection.execute(statement)
        except Exception as error:
            number = failed_check(str(error))
            if number is None:
                raise
            check = conversion.checks[number]
            name = check.path[0]
            raise SchemaMismatch(
                f"column {name!r} of {self.sql} is declared as {self._declared.get(name or '', check.target)} and is "
                f"{old[name or '']} with values that do not fit; correct the declaration, or alter the column yourself"
            ) from error

    def _conversion(self, decisions: Decisions, *, typed: bool) -> Conversion:
        return Conversion(
            declared=frozenset(self._declared),
            guessed=decisions.guessed,
            instead=decisions.instead,
            typed=typed,
        )

    def insert(
        self,
        part: PartReader,
        found: Columns,
        columns: Columns,
        decisions: Decisions,
        *,
        into: str = "",
        names: Mapping[str, str] | None = None,
    ) -> int:
        """Insert a part.

        Args:
            part: the part.
            found: the columns that it holds.
            columns: what `evolve` returned.
            decisions: what `evolve` took.
            into: another table, as SQL writes it, to insert it into.
            names: what that one calls the columns.

        Returns:
            The number of rows that were added.

        Raises:
            Misfit: a value does not fit its column.
            LoadMismatch: it added another number of rows than it holds.
        """
        conversion = self._conversion(decisions, typed=part.typed)
        generated = self.generated().intersection(found)
        readings = {
            name: Reading(kind) if name in generated else conversion.reading(kind, columns[name], (name,))
            for name, kind in found.items()
        }
        values = {
            quoted(name): reading.convert(quoted(name)) if reading.convert else quoted(name)
            for name, reading in readings.items()
            if name not in generated
        }
        source = part.source({name: reading.kind for name, reading in readings.items()})
        if generated:
            empty = " AND ".join(conversion.nothing(name) for name in sorted(generated))
            source += f" WHERE {empty}"
        if not values:  # each record is {}
            name, kind = next((n, k) for n, k in columns.items() if n not in self.generated())
            values = {quoted(name): f"CAST(NULL AS {kind})"}
            source = source if generated else part.objects()
        targets = ", ".join(names.values() if names else values)
        try:
            row = self._connection.execute(
                f"INSERT INTO {into or self.sql} ({targets}) SELECT {', '.join(values.values())} FROM {source}"  # noqa: S608
            ).fetchone()
        except Exception as error:
            number = failed_check(str(error))
            if number is None:
                raise
            check = conversion.checks[number]
            assert check.path[0] is not None
            raise Misfit(part, check, readings[check.path[0]].kind) from error
        rows = int(row[0]) if row else 0
        if rows != part.part.records:
            raise LoadMismatch(
                f"{part} added {rows:,} rows where it was sealed with {part.part.records:,} records; nothing was "
                "kept. The part is not what was sealed, or it was counted wrongly: compare it with its checkpoint"
            )
        return rows


def _converted(conversion: Conversion, name: str, old: Kind, new: Kind) -> str:
    """Write how a column's values become those of its new type."""
    convert = conversion.reading(old, new, (name,)).convert
    return convert(quoted(name)) if convert else quoted(name)
