"""Which refreshes of a table a database knows, so that each is finished once, and never after a later one.

A refresh has a table of its own, beside the one that it will replace, and rows of its own in the ledger. That it was
begun, and that it was finished, stands in the table `_etl_refreshes`, written in the transactions that do so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.errors import EtlError, Fenced, RefreshLost
from etl.warehouses.base import Job
from etl.warehouses.duckdb.ledger import exists

if TYPE_CHECKING:
    import duckdb

NAME = "_etl_refreshes"
QUALIFIED = f"main.{NAME}"

# How many a pipeline keeps for a table: a process that comes later than that is told that it was never begun.
KEEP = 100

CREATE = f"""
CREATE TABLE IF NOT EXISTS {QUALIFIED} (
    pipeline VARCHAR NOT NULL,
    destination VARCHAR NOT NULL,
    refresh VARCHAR NOT NULL,
    "number" BIGINT NOT NULL,
    begun_at TIMESTAMPTZ NOT NULL,
    finished_at TIMESTAMPTZ
)
"""


class Refreshes:
    """The refreshes of one table, by all pipelines.

    Args:
        connection: to the database.
        destination: the table, with its schema, as the ledger calls it.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, destination: str) -> None:
        self._connection = connection
        self._destination = destination
        self._exists = False

    def finished(self, job: Job) -> bool | None:
        """Say whether the refresh that a job is in was finished; None: it is not the newest one, or not known."""
        known = self._known(job.pipeline)
        return known[0][1] if known and known[0][0] == job.refresh else None

    def check(self, job: Job) -> bool:
        """Say whether the refresh that a job is in was finished.

        Raises:
            Fenced: a later one has taken its place.
            RefreshLost: it was never begun.
        """
        finished = self.finished(job)
        if finished is None:
            raise self._gone(job)
        return finished

    def begin(self, job: Job) -> list[str]:
        """Note that a refresh is begun, within a transaction; return those that it takes the place of.

        Raises:
            Fenced: a later one has taken its place.
        """
        self._connection.execute(CREATE)
        known = self._known(job.pipeline)
        if job.refresh in [name for name, _ in known]:
            raise self._gone(job)
        key = [job.pipeline, self._destination]
        self._connection.execute(
            f'INSERT INTO {QUALIFIED} SELECT ?, ?, ?, coalesce(max("number"), 0) + 1, now(), NULL '  # noqa: S608
            f"FROM {QUALIFIED} WHERE pipeline = ? AND destination = ?",
            [*key, job.refresh, *key],
        )
        self._connection.execute(
            f"DELETE FROM {QUALIFIED} WHERE pipeline = ? AND destination = ? "  # noqa: S608
            f'AND "number" <= (SELECT max("number") - {KEEP} FROM {QUALIFIED} WHERE pipeline = ? AND destination = ?)',
            [*key, *key],
        )
        return [name for name, finished in known if not finished]

    def finish(self, job: Job) -> None:
        """Note that a refresh is finished, within the transaction that does so."""
        self._connection.execute(
            f"UPDATE {QUALIFIED} SET finished_at = now() "  # noqa: S608
            "WHERE pipeline = ? AND destination = ? AND refresh = ?",
            [job.pipeline, self._destination, job.refresh],
        )

    def _known(self, pipeline: str) -> list[tuple[str, bool]]:
        """Return a pipeline's refreshes, and whether they were finished; the newest first."""
        self._exists = self._exists or exists(self._connection, "main", NAME)
        if not self._exists:
            return []
        return self._connection.execute(
            f"SELECT refresh, finished_at IS NOT NULL FROM {QUALIFIED} "  # noqa: S608
            'WHERE pipeline = ? AND destination = ? ORDER BY "number" DESC',
            [pipeline, self._destination],
        ).fetchall()

    def _gone(self, job: Job) -> EtlError:
        known = self._known(job.pipeline)
        what = f"the refresh {job.refresh} of {self._destination} by {job.pipeline!r}"
        advice = "to fill the table again, run with --full-refresh"
        if not known:
            return RefreshLost(f"{what} was never begun in this database; {advice}")
        return Fenced(
            f"{what} is not the newest one, which is {known[0][0]}: another process or another copy of the "
            f"checkpoint has begun it; nothing was changed. Go on with the newest checkpoint; {advice}"
        )


def destination_of(destination: str, refresh: str) -> str:
    """Return what the ledger calls the new table of a refresh; no table has such a name."""
    return f'{destination} "refresh {refresh}"'


def table_of(table: str, pipeline: str, refresh: str) -> str:
    """Return the name of the new table of a refresh."""
    return f"_etl_refresh_{table}_{pipeline}_{refresh}"
