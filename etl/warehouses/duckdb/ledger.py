"""The ledger: which plans a database holds, kept in it, and written in the transaction that loads them.

One flat table, `_etl_loads`, for all jobs that load into the database. A row belongs to a pipeline and the
table that it loads; it is void once that table is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from etl.checkpoint import Plan, State
from etl.errors import WarehouseError
from etl.warehouses.base import Entry, Job, Loaded

if TYPE_CHECKING:
    import duckdb

NAME = "_etl_loads"
QUALIFIED = f"main.{NAME}"

# How many rows a pipeline keeps for a table. Deleting older ones is safe: plans are loaded in ascending order of
# their parts, a job submits again only the plans that its checkpoint does not know to be loaded, which are the
# newest, and a plan that starts at or before the newest row without being in the ledger is refused.
KEEP = 1000

CREATE = f"""
CREATE TABLE IF NOT EXISTS {QUALIFIED} (
    pipeline VARCHAR NOT NULL,
    destination VARCHAR NOT NULL,
    plan VARCHAR NOT NULL,
    sequence BIGINT NOT NULL,
    "rows" BIGINT NOT NULL,
    loads BIGINT NOT NULL,
    fingerprint JSON NOT NULL,
    state JSON NOT NULL,
    loaded_at TIMESTAMPTZ NOT NULL
)
"""


# The number of the last part in a job's newest row, and the row.
Newest = tuple[int, Entry]


class Ledger:
    """The rows of all pipelines for one table.

    Args:
        connection: to the database.
        destination: the table, with its schema, as the ledger calls it.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, destination: str) -> None:
        self._connection = connection
        self._destination = destination
        self._exists = False

    def create(self) -> None:
        """Create the ledger where there is none."""
        self._connection.execute(CREATE)

    def exists(self) -> bool:
        """Say whether the database has a ledger; once it has, nobody takes it away while it is open."""
        self._exists = self._exists or exists(self._connection, "main", NAME)
        return self._exists

    def rows(self, job: Job, plan: Plan, newest: Newest | None) -> int | None:
        """Return how many rows a plan added when it was loaded; None: it was not.

        Args:
            job: whose plan it is.
            plan: the plan.
            newest: what `latest` returned for the job.

        Raises:
            WarehouseError: it is not in the ledger, but a plan with the same parts or later ones is.
        """
        if newest is None or plan.parts[0].sequence > newest[0]:
            return None
        found = self._connection.execute(
            f'SELECT "rows" FROM {QUALIFIED} WHERE pipeline = ? AND destination = ? AND plan = ?',  # noqa: S608
            [job.pipeline, self._destination, plan.id],
        ).fetchone()
        if found:
            return int(found[0])
        raise WarehouseError(
            f"plan {plan.id} of {job.pipeline!r} starts with part {plan.parts[0].sequence}, but the ledger of "
            f"{self._destination} has loaded other parts up to {newest[0]}: an old checkpoint, or another job "
            "of that name; go on with the newest checkpoint, or give this job a name of its own"
        )

    def add(self, job: Job, plan: Plan, rows: int, newest: Newest | None) -> None:
        """Note a plan as loaded, and forget rows older than the newest `KEEP`.

        Args:
            job: whose plan it is.
            plan: the plan.
            rows: how many rows it added.
            newest: what `latest` returned for the job before it.
        """
        key = [job.pipeline, self._destination]
        loads = newest[1].loads + 1 if newest else 1
        self._connection.execute(
            f"INSERT INTO {QUALIFIED} VALUES (?, ?, ?, ?, ?, ?, ?, ?, now())",  # noqa: S608
            [
                *key,
                plan.id,
                plan.parts[-1].sequence,
                rows,
                loads,
                msgspec.json.encode(job.fingerprint).decode(),
                msgspec.json.encode(plan.after).decode(),
            ],
        )
        if loads > KEEP:
            self._connection.execute(
                f"DELETE FROM {QUALIFIED} WHERE pipeline = ? AND destination = ? AND loads <= ?",  # noqa: S608
                [*key, loads - KEEP],
            )

    def void(self) -> None:
        """Forget what was loaded into the table, which is gone."""
        self._connection.execute(
            f"DELETE FROM {QUALIFIED} WHERE destination = ?",  # noqa: S608
            [self._destination],
        )

    def take_over(self, refresh: Ledger) -> None:
        """Make the rows of a refresh those of the table, which it has taken the place of; within a transaction."""
        self.void()
        self._connection.execute(
            f"UPDATE {QUALIFIED} SET destination = ? WHERE destination = ?",  # noqa: S608
            [self._destination, refresh._destination],
        )

    def latest(self, pipeline: str) -> Newest | None:
        """Return the newest row of a pipeline and the number of its last part; None: there is none."""
        row = self._connection.execute(
            f"SELECT sequence, loads, CAST(fingerprint AS VARCHAR), CAST(state AS VARCHAR) FROM {QUALIFIED} "  # noqa: S608
            "WHERE pipeline = ? AND destination = ? ORDER BY sequence DESC LIMIT 1",
            [pipeline, self._destination],
        ).fetchone()
        if row is None:
            return None
        sequence, loads, fingerprint, state = row
        try:
            return int(sequence), Entry(
                fingerprint=msgspec.json.decode(fingerprint, type=dict[str, str]),
                state=msgspec.json.decode(state, type=State),
                loads=int(loads),
            )
        except msgspec.DecodeError as error:
            raise WarehouseError(
                f"the newest row of {pipeline!r} in {QUALIFIED} cannot be read ({error}): run the job with the "
                "version of etl-sinks that wrote it, or a newer one"
            ) from error

    def loads(self, pipeline: str) -> tuple[Loaded, ...]:
        """Return the rows of a pipeline that are kept, oldest first."""
        found = self._connection.execute(
            f'SELECT plan, loads, sequence, "rows" FROM {QUALIFIED} '  # noqa: S608
            "WHERE pipeline = ? AND destination = ? ORDER BY loads",
            [pipeline, self._destination],
        )
        return tuple(
            Loaded(plan=plan, job=f"load {number}", last=last, rows=rows)
            for plan, number, last, rows in found.fetchall()
        )

    def pipelines(self) -> list[str]:
        """Return the names of all pipelines that loaded into the table."""
        found = self._connection.execute(
            f"SELECT DISTINCT pipeline FROM {QUALIFIED} WHERE destination = ?",  # noqa: S608
            [self._destination],
        )
        return [name for (name,) in found.fetchall()]


def exists(connection: duckdb.DuckDBPyConnection, schema: str, table: str) -> bool:
    """Say whether the database has a table; names are compared as DuckDB does."""
    found = connection.execute(
        "SELECT 1 FROM duckdb_tables() WHERE database_name = current_database() "
        "AND lower(schema_name) = lower(?) AND lower(table_name) = lower(?)",
        [schema, table],
    )
    return found.fetchone() is not None
