"""How a refresh begins and ends: the new table takes the old one's place in one transaction."""

from __future__ import annotations

from etl.errors import RefreshLost, WarehouseError
from etl.warehouses.base import Job
from etl.warehouses.duckdb.database import Database
from etl.warehouses.duckdb.exchange import Exchange, stripped
from etl.warehouses.duckdb.forms import is_view
from etl.warehouses.duckdb.opening import said
from etl.warehouses.duckdb.targets import Targets


class Replacing:
    """Replaces one table.

    Args:
        database: where it is.
        targets: the table, and those that are to take its place.
    """

    def __init__(self, database: Database, targets: Targets) -> None:
        self._database = database
        self._connection = database.connection
        self._targets = targets

    def check(self, job: Job) -> None:
        """Try the exchange with no rows, and take it back; see `DuckDB.check_refresh`."""
        import duckdb

        old = self._targets.main.table
        if is_view(self._connection, *old.names):
            raise WarehouseError(
                f"{old.sql} is a view, which cannot be loaded into: give the warehouse the name of a table, or drop it"
            )
        if not old.exists():
            return
        exchange = Exchange(self._connection, old)
        try:
            with self._database.transaction(undone=True):
                if self._targets.keep_schema:
                    new = self._targets.trial(job)
                    exchange.check()
                    exchange.make(new)
                    exchange.take_place(new, rows=False)
                else:
                    old.drop()
        except (duckdb.ProgrammingError, duckdb.NotSupportedError, duckdb.DependencyException) as error:
            if self._targets.keep_schema:
                raise exchange.refused(said(error)) from error
            raise WarehouseError(
                f"{old.sql} cannot be replaced by another table: {said(error)}. Nothing was changed. Drop what needs "
                'it, or set schema_on_refresh = "keep" under [warehouse]'
            ) from error

    def begin(self, job: Job) -> None:
        """Make ready for a refresh; see `DuckDB.begin_refresh`."""
        if self._targets.refreshes.finished(job) is not None:
            return
        with self._database.transaction():
            given_up = [
                self._targets.refreshed(job.pipeline, refresh)
                for refresh in self._targets.refreshes.begin(job)
            ]
            for target in given_up:
                target.table.drop()
                if target.ledger.exists():
                    target.ledger.void()

    def finish(self, job: Job) -> None:
        """Exchange the tables; see `DuckDB.finish_refresh`."""
        if self._targets.refreshes.check(job):
            return
        new, old = self._targets.refreshed(job.pipeline, job.refresh), self._targets.main
        ledger = new.ledger.exists()
        if ledger and not new.table.exists() and new.ledger.latest(job.pipeline):
            raise RefreshLost(
                f"{new.table} is gone, into which the refresh {job.refresh} was loaded: somebody has dropped it. "
                f"{old.table} is as it was; run with --full-refresh to fill it again"
            )
        self._targets.make_like_old(new)
        with self._database.transaction():
            if new.table.exists() and old.table.exists() and self._targets.keep_schema:
                Exchange(self._connection, old.table).take_place(new.table)
            elif new.table.exists():
                stripped(self._connection, new.table)
                new.table.take_place_of(old.table)
            elif old.table.exists():
                # A new one, too: to delete all rows would cost as much as to insert them did.
                new.table.create(old.table.with_declared(old.table.columns()))
                new.table.take_place_of(old.table)
            if ledger:
                old.ledger.take_over(new.ledger)
            self._targets.refreshes.finish(job)
