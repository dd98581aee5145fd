"""DuckDB, embedded: the default warehouse.

One transaction takes a plan's rows, the columns that they need, and a row of the ledger `_etl_loads`; so a
plan is in the table once or not at all, whatever was killed and when. `table` says how a table grows,
`convert` what fits a column.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlencode

from etl.checkpoint import Plan
from etl.errors import WarehouseError
from etl.memory import Budget
from etl.warehouses.base import Audit, Entry, Job
from etl.warehouses.duckdb.session import Session, drop_cache, free_space, said
from etl.warehouses.duckdb.types import lower
from sinks import page_cache
from sinks.errors import SinkError
from sinks.local_files import make_directory, sync_directory


class DuckDB:
    """Loads plans into a table of a DuckDB file.

    The table and its schema are created when they are missing, columns and nested fields are added as they
    come. Without a declaration types are inferred: dates and timestamps in RFC 3339 are recognised, other
    strings are VARCHAR, objects are STRUCT, arrays are LIST. A column that held only nulls is of type "NULL"
    until the first value comes. A value that does not fit its column is an error, never changed or dropped.
    Dropping the table starts it anew.

    Args:
        path: of the database file; it is created with the directories above it.
        table: `table` or `schema.table`.
        schema: types of columns, as DuckDB writes them; other columns are added by themselves. An existing
            column gets the declared type when all its values fit.
        disposition: `append` adds rows to what is there.

    Raises:
        ValueError: an argument makes no sense.
    """

    formats = frozenset({"ndjson", "ndjson.gz", "parquet"})

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        table: str,
        schema: Mapping[str, str] | None = None,
        disposition: Literal["append"] = "append",
    ) -> None:
        self.path = Path(_checked_path(os.fspath(path))).absolute()
        self._schema_name, self._table_name = _checked_table(table)
        if disposition != "append":
            raise ValueError(f"disposition is {disposition!r}; DuckDB knows 'append'")
        self.disposition = disposition
        self.table = table
        self.schema = _checked_schema(schema or {})
        self.destination = f"duckdb://{quote(str(self.path))}?" + urlencode(
            {"table": lower(table), "disposition": disposition}
        )
        self._budget: Budget | None = None
        self._session: Session | None = None

    def __repr__(self) -> str:
        return f"DuckDB({str(self.path)!r}, table={self.table!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the definition, not the connection."""
        made = partial(DuckDB, table=self.table, schema=self.schema, disposition=self.disposition)
        return made, (str(self.path),)

    def open(self, budget: Budget) -> None:
        """Open the file, which no other process may have open.

        Raises:
            ConfigError: the package duckdb is not installed, or a declared type is none.
            WarehouseError: it cannot be opened, is no database, or another process has it.
        """
        self.close()
        try:
            make_directory(self.path.parent)
        except SinkError as error:
            raise WarehouseError(f"{self}: {error}") from error
        self._session = self._connect(budget)
        self._budget = budget

    def load(self, job: Job, plan: Plan) -> int:
        """Load a plan in one transaction; see the port. Durable on return.

        After an error that leaves the database in doubt (a full disk) it is closed, and the next call opens
        it again: DuckDB then recovers what was committed, and nothing else.

        Raises:
            SchemaMismatch: a value does not fit its column.
            LoadMismatch: a part holds another number of records than it was sealed with.
            WarehouseError: anything else.
        """
        if plan.format not in self.formats:
            raise WarehouseError(
                f"DuckDB loads {', '.join(sorted(self.formats))}; plan {plan.id} is {plan.format}"
            )
        with self._using(f"load parts {plan.parts[0].sequence} to {plan.parts[-1].sequence}") as session:
            rows = session.load(job, plan)
        self._settle()
        return rows

    def latest(self, job: Job) -> Entry | None:
        """Return how far the ledger says that a job is in this table; None: no row, or no table.

        Raises:
            WarehouseError: the ledger cannot be read.
        """
        with self._using("read the ledger") as session:
            return session.latest(job.pipeline)

    def audit(self, job: Job) -> Audit:
        """Look up what the ledger has of a job, and what the table holds.

        Raises:
            WarehouseError: they cannot be read.
        """
        with self._using("read the ledger") as session:
            return session.audit(job.pipeline)

    def close(self) -> None:
        """Close the file, so that other processes may open it. May be repeated."""
        session, self._session = self._session, None
        self._budget = None
        if session:
            session.close()

    def _connect(self, budget: Budget) -> Session:
        return Session(
            self.path, budget, schema=self._schema_name, table=self._table_name, declared=self.schema
        )

    def _settle(self) -> None:
        """Make the names of the database's files durable, and drop what the page cache holds of them.

        DuckDB has a buffer pool of its own; what the kernel keeps besides is only a charge on the container.
        """
        wal = self.path.with_name(self.path.name + ".wal")
        with suppress(SinkError):
            sync_directory(self.path.parent)
            if wal.exists():
                page_cache.drop(wal)
        drop_cache(self.path)

    @contextmanager
    def _using(self, what: str) -> Iterator[Session]:
        """Give the open session, and wrap what DuckDB raises."""
        if self._budget is None:
            raise WarehouseError(f"{self} is not open; call open() first")
        import duckdb

        if self._session is None:
            self._session = self._connect(self._budget)
        session = self._session
        try:
            yield session
        except duckdb.Error as error:
            message = said(error)
            if session.at:
                what = f"load {session.at}"
                message = message.replace(session.at.name, session.at.part.sealed.uri)
            lasting = duckdb.FatalException, duckdb.InternalException, duckdb.IOException
            if session.in_doubt or isinstance(error, lasting):
                self._session = None
                session.close()
                hint = "what was loaded before is safe; mend the cause and run again"
            elif "maximum_object_size" in message:
                hint = "a record is too large to be read: give the job more memory, or split the record"
            elif isinstance(error, duckdb.OutOfMemoryException):
                hint = "nothing of this load was kept: give the job more memory, or write smaller parts"
            else:
                hint = "nothing of this load was kept; mend that and run again"
            raise WarehouseError(
                f"cannot {what} in {self}: {message}{free_space(self.path)}; {hint}"
            ) from error


def _checked_path(path: str) -> str:
    if not Path(path).name or path.endswith("/") or path.startswith(":") or "://" in path or "\0" in path:
        raise ValueError(f"path is {path!r}; it must name a file, such as 'flights.duckdb'")
    return path


def _checked_table(table: str) -> tuple[str, str]:
    """Return a table's schema and its name."""
    names = table.split(".")
    schema, name = ("main", *names) if len(names) == 1 else names if len(names) == 2 else ("", "")
    for each in (schema, name):
        if not each or each != each.strip() or not each.isprintable() or '"' in each:
            raise ValueError(
                f"table is {table!r}; it must be 'table' or 'schema.table', without quotes: they are added"
            )
    if lower(name).startswith("_etl_"):
        raise ValueError(f"table is {table!r}; names that start with _etl_ are kept for the ledger")
    return schema, name


def _checked_schema(schema: Mapping[str, str]) -> dict[str, str]:
    seen: dict[str, str] = {}
    for name, kind in schema.items():
        if not name or not kind or not kind.strip():
            raise ValueError(f"schema has {name!r} = {kind!r}; it must give each column's name a type")
        if seen.setdefault(lower(name), name) != name:
            raise ValueError(
                f"schema has {name!r} and {seen[lower(name)]!r}, which are the same name to DuckDB; remove one"
            )
    return dict(schema)
