"""A ledger that is lost: nothing tells any more what of a table's rows a job has loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.errors import WarehouseError
from etl.warehouses.base import Job
from etl.warehouses.duckdb import identity
from etl.warehouses.duckdb.ledger import NAME, Ledger
from etl.warehouses.duckdb.table import Table

if TYPE_CHECKING:
    import duckdb


def see_that_it_is_not(connection: duckdb.DuckDBPyConnection, table: Table, ledger: Ledger, job: Job) -> None:
    """Refuse to go on where the ledger has nothing of a job, and the table may hold what it has loaded.

    No row of a job in a ledger that is there says that nothing was loaded: a table that is made again takes the rows
    of the one before out of it. It says nothing where the checkpoint knows of loads and no other job made the table
    again; and a database in which a job drew an id had a ledger from then on.

    Args:
        connection: to the database.
        table: the job's table.
        ledger: the table's rows in the ledger.
        job: the job, of which the ledger has nothing.

    Raises:
        WarehouseError: its rows would be loaded a second time; says what settles it.
    """
    if ledger.exists():
        lost = bool(job.loads) and not ledger.pipelines()
        whose = f"by the checkpoint of job {job.pipeline!r}, {job.loads:,} loads went into it"
    else:
        lost = bool(job.loads or identity.read(connection))
        whose = f"a job has loaded into this database before, perhaps {job.pipeline!r}"
    if lost and table.exists() and (rows := table.count()):
        raise WarehouseError(
            f"table {table} holds {rows:,} rows, and the ledger, {NAME}, has no load of them: somebody deleted it, or "
            f"put another table in this one's place. But {whose}: its records would be loaded a second time. Put back "
            "a copy of the database that has its ledger; or delete the job's rows from the table, all of which is "
            "then loaded again; or, if none of them are the job's, give the job another name"
        )
