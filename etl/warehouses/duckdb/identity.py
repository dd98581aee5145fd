"""The id of a database, by which it is known wherever its file is, and whatever its file is called.

It stands in the table `_etl_database`, which has one row. A new file has it from the start; one that others made gets
it when a job first loads into it. A copy of a file has the id of the original, and a ledger of its own.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from etl.warehouses.duckdb import ledger

if TYPE_CHECKING:
    import duckdb

NAME = "_etl_database"
QUALIFIED = f"main.{NAME}"


def read(connection: duckdb.DuckDBPyConnection) -> str:
    """Return the id of a database; empty: it has none."""
    if not ledger.exists(connection, "main", NAME):
        return ""
    found = connection.execute(f"SELECT id FROM {QUALIFIED}").fetchone()  # noqa: S608
    return str(found[0]) if found else ""


def draw(connection: duckdb.DuckDBPyConnection) -> None:
    """Give a database an id, and a ledger; in a transaction, or before anybody else can have it open.

    So a database that has an id and no ledger has lost it.
    """
    connection.execute(ledger.CREATE)
    connection.execute(f"CREATE TABLE IF NOT EXISTS {QUALIFIED} (id VARCHAR NOT NULL)")
    connection.execute(f"INSERT INTO {QUALIFIED} VALUES (?)", [secrets.token_hex(8)])  # noqa: S608
