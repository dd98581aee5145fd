"""The form of a table: all that it is besides its rows.

DuckDB writes it down itself, as the statements that make a table, its indexes and its triggers. They are used as they
stand, under another name where one is needed: nothing else knows of collations, compressions and generated columns,
and what a later version adds is in them too. That nothing is lost is not assumed: a table that was made like another
one is compared with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etl.warehouses.duckdb.types import literal, lower, quoted

if TYPE_CHECKING:
    import duckdb

_NAME = r'(?:"(?:[^"]|"")*"|[^\s".(]+)'
_TABLE = re.compile(rf"CREATE TABLE {_NAME}(?:\.{_NAME})*(?=\()")
_INDEX = re.compile(rf"CREATE (UNIQUE )?INDEX {_NAME} ON {_NAME}(?:\.{_NAME})*")

_HERE = "database_name = current_database()"
_OF = f"{_HERE} AND lower(schema_name) = lower(?) AND lower(table_name) = lower(?)"


@dataclass(frozen=True, slots=True)
class Index:
    """An index, as `CREATE INDEX` makes it; those of keys belong to the table's own statement."""

    name: str
    sql: str
    unique: bool
    comment: str | None


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger that belongs to one of some tables, or does something with one."""

    schema: str
    table: str
    name: str
    sql: str


@dataclass(frozen=True, slots=True)
class Form:
    """A table, but for its rows.

    Attributes:
        schema: its schema.
        name: its name.
        columns: the names of the columns that hold values: not those that are generated.
        statement: what follows `CREATE TABLE` and the name, as DuckDB writes it.
        foreign_keys: the foreign keys in `statement`, each as it stands there.
        refers_to: the tables that those refer to, folded; DuckDB has them in the same schema.
        indexes: its indexes.
        comment: on the table.
        comments: on columns, each with the column's name.
    """

    schema: str
    name: str
    columns: tuple[str, ...]
    statement: str
    foreign_keys: tuple[str, ...]
    refers_to: tuple[str, ...]
    indexes: tuple[Index, ...]
    comment: str | None
    comments: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, connection: duckdb.DuckDBPyConnection, schema: str, name: str) -> Form:
        """Read the form of a table, which must be there."""
        of = [schema, name]
        row = connection.execute(
            f"SELECT schema_name, table_name, sql, comment FROM duckdb_tables() WHERE {_OF}",  # noqa: S608
            of,
        ).fetchone()
        assert row is not None
        columns = connection.execute(
            f"SELECT column_name, is_generated, comment FROM duckdb_columns() WHERE {_OF} ORDER BY column_index",  # noqa: S608
            of,
        ).fetchall()
        keys = connection.execute(
            f"SELECT constraint_text, lower(referenced_table) FROM duckdb_constraints() WHERE {_OF} "  # noqa: S608
            "AND constraint_type = 'FOREIGN KEY' ORDER BY constraint_index",
            of,
        ).fetchall()
        indexes = connection.execute(
            f"SELECT index_name, sql, is_unique, comment FROM duckdb_indexes() WHERE {_OF} AND NOT is_primary "  # noqa: S608
            "ORDER BY index_name",
            of,
        ).fetchall()
        return cls(
            schema=row[0],
            name=row[1],
            columns=tuple(column for column, generated, _ in columns if not generated),
            statement=_TABLE.sub("", row[2], count=1),
            foreign_keys=tuple(text for text, _ in keys),
            refers_to=tuple(sorted({table for _, table in keys})),
            indexes=tuple(Index(*each) for each in indexes),
            comment=row[3],
            comments=tuple((column, comment) for column, _, comment in columns if comment is not None),
        )

    @property
    def sql(self) -> str:
        """Its name, as SQL writes it."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def without_foreign_keys(self) -> str:
        """Its statement for a table that is to be renamed.

        What a foreign key refers to goes on to know the old name after a rename (seen with DuckDB 2.0.0: it can neither
        be deleted from nor dropped any more).
        """
        return self._taken_out()[0]

    def with_foreign_keys(self, statement: str) -> str:
        """Put the foreign keys back into what `without_foreign_keys` gave, to which columns were added since."""
        for key, tail in reversed(self._taken_out()[1]):
            end = tail if statement.endswith(tail) else ");"
            statement = f"{statement.removesuffix(end)}, {key}{end}"
        return statement

    def _taken_out(self) -> tuple[str, list[tuple[str, str]]]:
        """Return its statement without foreign keys, and each of those with what stood after it."""
        statement, taken = self.statement, []
        for key in self.foreign_keys:
            # From the end: constraints stand after the columns, in whose defaults there may be any text.
            statement, _, tail = statement.rpartition(f", {key}")
            taken.append((key, tail))
            statement += tail
        return statement, taken

    def adorn(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Give the table of this name the indexes and comments of this form, none of which it has."""
        for index in self.indexes:
            connection.execute(index.sql)
            if index.comment is not None:
                connection.execute(
                    f"COMMENT ON INDEX {quoted(self.schema)}.{quoted(index.name)} IS {literal(index.comment)}"
                )
        if self.comment is not None:
            connection.execute(f"COMMENT ON TABLE {self.sql} IS {literal(self.comment)}")
        for column, comment in self.comments:
            connection.execute(f"COMMENT ON COLUMN {self.sql}.{quoted(column)} IS {literal(comment)}")


def unique_for(index: Index, table: str, number: int) -> str:
    """Write the statement for a unique index like this one on another table, `table` as SQL writes it."""
    name = quoted(f"_etl_unique_{number}_{table}")
    return _INDEX.sub(lambda _: f"CREATE UNIQUE INDEX {name} ON {table}", index.sql, count=1)


def referring(connection: duckdb.DuckDBPyConnection, form: Form) -> list[Form]:
    """Return the forms of all tables whose foreign keys need a table, each after those that it refers to."""
    rows = connection.execute(
        "SELECT DISTINCT lower(table_name), lower(referenced_table) FROM duckdb_constraints() "  # noqa: S608
        f"WHERE {_HERE} AND lower(schema_name) = lower(?) AND constraint_type = 'FOREIGN KEY'",
        [form.schema],
    ).fetchall()
    order = [lower(form.name)]
    wanted = set(order)
    while more := {table for table, other in rows if other in wanted} - wanted:
        wanted |= more
    while left := wanted - set(order):
        # Foreign keys make no circles: a table can only refer to one that is there, or to itself.
        order += sorted(
            table
            for table in left
            if all(other in order for child, other in rows if child == table != other and other in wanted)
        )
    return [Form.of(connection, form.schema, name) for name in order[1:]]


def triggers_of(connection: duckdb.DuckDBPyConnection, schema: str, *tables: str) -> list[Trigger]:
    """Return the triggers of some tables of a schema, and those elsewhere that do something with one of them."""
    found = connection.execute(
        "SELECT schema_name, table_name, trigger_name, sql FROM duckdb_triggers() "  # noqa: S608
        f"WHERE {_HERE} AND trigger_oid IN (SELECT refobjid FROM duckdb_dependencies() WHERE objid IN "
        f"(SELECT table_oid FROM duckdb_tables() WHERE {_HERE} AND lower(schema_name) = lower($1) "
        "AND lower(table_name) IN (SELECT lower(unnest($2))))) ORDER BY ALL",
        [schema, list(tables)],
    )
    return [Trigger(*row) for row in found.fetchall()]


def is_view(connection: duckdb.DuckDBPyConnection, schema: str, name: str) -> bool:
    """Say whether there is a view of that name."""
    found = connection.execute(
        f"SELECT 1 FROM duckdb_views() WHERE {_HERE} AND lower(schema_name) = lower(?) AND lower(view_name) = lower(?)",  # noqa: S608
        [schema, name],
    )
    return found.fetchone() is not None
