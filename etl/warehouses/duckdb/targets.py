"""What a job loads into: the table itself, or while a refresh is under way the new table that will replace it."""

from __future__ import annotations

from dataclasses import dataclass

from etl.warehouses.base import Job
from etl.warehouses.duckdb.database import Database
from etl.warehouses.duckdb.exchange import Exchange
from etl.warehouses.duckdb.ledger import Ledger, Newest
from etl.warehouses.duckdb.refreshes import Refreshes, destination_of, table_of
from etl.warehouses.duckdb.table import Table
from etl.warehouses.duckdb.types import Columns, lower


@dataclass(frozen=True, slots=True)
class Target:
    """What a job loads into: a table, and what the ledger has about it."""

    table: Table
    ledger: Ledger

    def newest(self, pipeline: str) -> Newest | None:
        """Return the newest row of a pipeline; None: there is none, or the table is gone and it is void."""
        return self.ledger.latest(pipeline) if self.ledger.exists() and self.table.exists() else None


class Targets:
    """The targets of one table.

    Args:
        database: where they are.
        schema: the table's schema.
        name: the table's name.
        declared: the columns that the job's definition declares.
        keep_schema: whether the new table of a refresh is made like the old one.

    Attributes:
        destination: the table, as the ledger calls it.
        main: the table itself.
        refreshes: those of the table that the database knows.
        keep_schema: the same.
    """

    def __init__(
        self, database: Database, schema: str, name: str, declared: Columns, *, keep_schema: bool
    ) -> None:
        self._database = database
        self._schema, self._name = schema, name
        self._declared = declared
        self.keep_schema = keep_schema
        self.destination = lower(f"{schema}.{name}")
        self.main = Target(self._table(name), Ledger(database.connection, self.destination))
        self.refreshes = Refreshes(database.connection, self.destination)
        self._new: dict[str, Target] = {}

    def of(self, job: Job) -> Target | None:
        """Return what a job loads into; None: a refresh that is not the newest one, or was never begun."""
        if not job.refresh or (finished := self.refreshes.finished(job)):
            return self.main
        return None if finished is None else self.refreshed(job.pipeline, job.refresh)

    def refreshed(self, pipeline: str, refresh: str) -> Target:
        """Return what is loaded into in a refresh; kept, because it remembers what exists."""
        name = table_of(self._name, pipeline, refresh)
        if name not in self._new:
            ledger = Ledger(self._database.connection, destination_of(self.destination, refresh))
            self._new[name] = Target(self._table(name), ledger)
        return self._new[name]

    def trial(self, job: Job) -> Table:
        """Return a table of a name that no refresh has, for what is undone."""
        return self._table(table_of(self._name, job.pipeline, "trial"))

    def columns(self, target: Target | None) -> Columns:
        """Return the columns of a table as they are to be."""
        if target and not target.table.exists() and self.keep_schema:
            target = self.main  # it will be made like this one
        there = target.table.columns() if target and target.table.exists() else {}
        return self.main.table.with_declared(there)

    def make_like_old(self, target: Target) -> None:
        """Make the new table of a refresh like the old one, if there is one; it holds nothing so far."""
        if target is self.main or not self.keep_schema or target.table.exists():
            return
        if not self.main.table.exists():
            return
        with self._database.transaction():
            if target.ledger.exists():
                target.ledger.void()
            Exchange(self._database.connection, self.main.table).make(target.table)

    def _table(self, name: str) -> Table:
        return Table(self._database.connection, self._schema, name, self._declared)
