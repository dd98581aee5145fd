"""Put a new table in the place of an old one, so that all but the rows stays as it is.

The new table is made like the old one, beside it; records are judged by its types, defaults, keys and checks when they
are loaded into it. The exchange is one transaction: the old table is dropped, the new one gets its name, then its
indexes and comments. That takes no memory for rows and no time, where deleting the old rows and inserting the new ones
takes a copy, 8 bytes of memory a row for each key, and fails while another table's foreign key needs one of them.

DuckDB 2.0 cannot do two things with foreign keys, so rows are copied there within the transaction:

- a table that has foreign keys cannot be renamed (see `Form.without_foreign_keys`): it is made under its own name,
  and filled from the new one;
- a table that others refer to cannot be dropped: those are set aside, dropped, and made again with their rows, which
  are checked against the new ones.

Triggers are made again when all rows are there: a refresh fires none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.errors import RefreshLost, WarehouseError
from etl.warehouses.duckdb.forms import Form, Trigger, referring, triggers_of, unique_for
from etl.warehouses.duckdb.opening import said
from etl.warehouses.duckdb.types import literal, lower, quoted

if TYPE_CHECKING:
    import duckdb

    from etl.warehouses.duckdb.table import Table

INSTEAD = 'or set schema_on_refresh = "infer" under [warehouse], which keeps nothing of it but views'


class Exchange:
    """The exchange of a table for a new one, within a transaction.

    Args:
        connection: to the database.
        old: the table, which is there.

    Attributes:
        form: its form.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, old: Table) -> None:
        self._connection = connection
        self._old = old
        self.form = Form.of(connection, *old.names)
        self._referring = referring(connection, self.form)

    def make(self, new: Table) -> None:
        """Make `new` like the old table, beside it, but for what the job's definition declares.

        What the old one was is noted as its comment. It has those indexes that are unique, under other names, so that
        a record with a value that is there fails with its part; the others would be in the way of a rename.

        Raises:
            SchemaMismatch: a column cannot be as it is declared.
            WarehouseError: it cannot be made so.
        """
        schema, name = new.names
        self._connection.execute(
            f"CREATE TABLE {quoted(schema)}.{quoted(name)}{self.form.without_foreign_keys}"
        )
        made = Form.of(self._connection, schema, name)
        if made.statement != self.form.without_foreign_keys or made.columns != self.form.columns:
            raise self.refused("DuckDB does not make it again as it writes it down")
        new.declare()
        for number, index in enumerate(each for each in self.form.indexes if each.unique):
            self._connection.execute(unique_for(index, new.sql, number))
        self._connection.execute(f"COMMENT ON TABLE {new.sql} IS {literal(self.form.statement)}")

    def check(self) -> None:
        """Refuse what is known not to work.

        Raises:
            WarehouseError: it cannot be refreshed so that it stays as it is.
        """
        for form in (self.form, *self._referring):
            if lower(form.name) in form.refers_to:
                raise self.refused(f"{form.sql} has a foreign key that refers to the table itself")

    def take_place(self, new: Table, *, rows: bool = True) -> None:
        """Let `new` take the old table's place.

        Args:
            new: what `make` made, with rows.
            rows: whether tables that refer to it keep theirs; not when it is only tried.

        Raises:
            RefreshLost: the old table is not what it was when the new one was made, or the rows do not fit those of
                others.
            WarehouseError: something would be lost.
        """
        import duckdb

        made = Form.of(self._connection, *new.names)
        if self.form.statement != made.comment and self.form.without_foreign_keys != made.statement:
            raise RefreshLost(
                f"{self._old.sql} was made or altered by somebody while its new rows were loaded; it is as it was "
                "left. Run with --full-refresh to load it again into a table like it"
            )
        try:
            self._exchange(new, made, rows)
        except duckdb.ConstraintException as error:
            raise RefreshLost(
                f"the new rows of {self._old.sql} do not go together with its constraints or with the tables around "
                f"it: {said(error)}. It is as it was: fix those rows and run again, or fix the source and run with "
                "--full-refresh"
            ) from error
        self._compare(made)

    def _exchange(self, new: Table, made: Form, rows: bool) -> None:
        run = self._connection.execute
        triggers = self._triggers()
        for trigger in triggers:
            run(f"DROP TRIGGER {quoted(trigger.name)} ON {quoted(trigger.schema)}.{quoted(trigger.table)}")
        aside = {
            form: f"{quoted(form.schema)}.{quoted(f'_etl_aside_{form.name}')}" for form in self._referring
        }
        for form, name in reversed(aside.items()):
            if rows:
                run(f"CREATE TABLE {name} AS SELECT {_names(form)} FROM {form.sql}")  # noqa: S608
            run(f"DROP TABLE {form.sql}")
        stripped(self._connection, new)
        if self.form.foreign_keys:
            self._old.drop()
            run(f"CREATE TABLE {self.form.sql}{self.form.with_foreign_keys(made.statement)}")
            run(f"INSERT INTO {self.form.sql} ({_names(made)}) SELECT {_names(made)} FROM {new.sql}")  # noqa: S608
            new.drop()
        else:
            new.take_place_of(self._old)
        self.form.adorn(self._connection)
        for form, name in aside.items():
            run(f"CREATE TABLE {form.sql}{form.statement}")
            if rows:
                run(f"INSERT INTO {form.sql} ({_names(form)}) SELECT {_names(form)} FROM {name}")  # noqa: S608
                run(f"DROP TABLE {name}")
            form.adorn(self._connection)
        for trigger in triggers:
            run(trigger.sql)
        if self._triggers() != triggers:
            raise self.refused("a trigger is not what it was")

    def _compare(self, made: Form) -> None:
        """Make sure that all is as it was, but for what the new rows needed besides."""
        for before in (self.form, *self._referring):
            after = Form.of(self._connection, before.schema, before.name)
            same = after.statement == before.statement and after.columns == before.columns
            if before is self.form:
                same = after.statement == before.with_foreign_keys(made.statement)
            kept = (after.indexes, after.comment, after.comments) == (
                before.indexes,
                before.comment,
                before.comments,
            )
            if not same or not kept:
                raise self.refused(f"{before.sql} is not what it was")

    def _triggers(self) -> list[Trigger]:
        return triggers_of(
            self._connection, self.form.schema, *(form.name for form in (self.form, *self._referring))
        )

    def refused(self, why: str) -> WarehouseError:
        """Return the error for a table that would not be what it was."""
        return WarehouseError(
            f"{self._old.sql} cannot be refreshed so that it stays as it is: {why}. Nothing was changed. "
            f"Change the table, {INSTEAD}"
        )


def stripped(connection: duckdb.DuckDBPyConnection, new: Table) -> None:
    """Take from a new table what it had only to be filled, and what would be in the way of its rename."""
    made = Form.of(connection, *new.names)
    for index in made.indexes:
        connection.execute(f"DROP INDEX {quoted(made.schema)}.{quoted(index.name)}")
    if made.comment is not None:
        connection.execute(f"COMMENT ON TABLE {new.sql} IS NULL")


def _names(form: Form) -> str:
    return ", ".join(map(quoted, form.columns))
