"""Start local-bigquery; run by file path with the interpreter that has it, so it imports nothing of ours.

What it does beyond `local-bigquery serve`, and why:

- It listens on a socket that it was started with: nobody can take the port in between.
- It sets the time zone after connecting. DuckDB looks for its ICU extension in the network when `TimeZone` is
  among the options of `connect`, and the extension that is built in is found only afterwards.
- It takes a job id once. The server looks for the id and then stores the job, so that two requests at one time
  could both run; BigQuery answers one of them with 409.
- It lets a MERGE be one of a transaction's statements, as BigQuery does. The server begins a transaction, and takes the
  error for the answer that there is one; in DuckDB 1.5, which it was not made for, that error aborts the one there is.
- It takes the condition of a MERGE for the filter that a table asks for. The server makes several statements of one,
  and looks for a filter in each.
- It runs each statement on one thread. What tests ask for is small, and threads that wait for work took a fifth of
  its time.
- It says how many rows a table has. The server says how many DuckDB has room for, rows that were removed among them.
- What protects a table is held to as BigQuery does: see `protection`, beside this file.
- A load gives the table that it makes the labels of `destinationTableProperties`, and fails where the table is there
  and has others (REST reference, DestinationTableProperties). The server ignores them.
- It ends when the process that started it is gone: that one holds the other end of standard input.
"""

from __future__ import annotations

import argparse
import importlib
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any


def set_the_time_zone_once_connected() -> None:
    """Have `duckdb.connect` set the time zone by a statement."""
    duckdb: Any = importlib.import_module("duckdb")
    original: Callable[..., Any] = duckdb.connect

    def connect(*arguments: Any, config: dict[str, Any] | None = None, **options: Any) -> Any:
        config = dict(config or {})
        zone = config.pop("TimeZone", None)
        connection = original(*arguments, config=config, **options)
        if zone is not None:
            connection.execute(f"SET GLOBAL TimeZone = '{zone}'")
        return connection

    duckdb.connect = connect


def take_a_job_id_once() -> None:
    """Have one request at a time look for its job id and store its job; running goes on at once, as before."""
    runner: Any = importlib.import_module("local_bigquery.jobs.runner")
    original: Callable[..., Any] = runner.submit
    lock = threading.Lock()

    def submit(*arguments: Any, **options: Any) -> Any:
        with lock:
            return original(*arguments, **options)

    runner.submit = submit


def merge_within_a_transaction() -> None:
    """Have MERGE find out whether there is a transaction without spoiling it."""
    duckdb: Any = importlib.import_module("duckdb")
    merge: Any = importlib.import_module("local_bigquery.jobs.merge")
    original: Callable[..., Any] = merge.run

    class Cursor:
        def __init__(self, cursor: Any) -> None:
            self._cursor = cursor

        def __getattr__(self, name: str) -> Any:
            return getattr(self._cursor, name)

        def execute(self, sql: str, *arguments: Any) -> Any:
            if sql == "BEGIN" and self._transaction() == self._transaction():
                raise duckdb.TransactionException("cannot start a transaction within a transaction")
            return self._cursor.execute(sql, *arguments)

        def _transaction(self) -> Any:
            # When it began, in microseconds; without one each statement is one of its own.
            return self._cursor.execute("SELECT epoch_us(transaction_timestamp())").fetchone()

    merge.run = lambda cursor, *arguments: original(Cursor(cursor), *arguments)


def filter_by_the_condition_of_a_merge() -> None:
    """Have a MERGE into a table that asks for a filter name the partitions in its condition, and no more."""
    rules: Any = importlib.import_module("local_bigquery.sql.rules.tables")
    merge: Any = importlib.import_module("local_bigquery.jobs.merge")
    check: Callable[..., Any] = rules._check
    run: Callable[..., Any] = merge.run
    merging = threading.local()

    def check_others(tree: Any, table: Any, is_target: bool) -> Any:
        return check(tree, table, is_target or getattr(merging, "now", False))

    def merged(cursor: Any, tree: Any, context: Any) -> Any:
        reference = rules.resolve(tree.this, context, set())
        stored = reference and rules.metadata.load(rules.Table, *reference)
        if stored and stored.requirePartitionFilter:
            field = (stored.timePartitioning and stored.timePartitioning.field) or "_PARTITIONTIME"
            named = {each.name.casefold() for each in tree.args["on"].find_all(rules.exp.Column)}
            if field.casefold() not in named:
                raise rules.BigQueryError(
                    "invalidQuery",
                    f"Cannot query over table '{'.'.join(reference)}' without a filter over column(s) '{field}' that "
                    "can be used for partition elimination",
                )
        merging.now = True
        try:
            return run(cursor, tree, context)
        finally:
            merging.now = False

    rules._check = check_others
    merge.run = merged


def count_the_rows() -> None:
    """Have the resource of a table say how many rows there are."""
    tables: Any = importlib.import_module("local_bigquery.catalog.tables")
    database: Any = importlib.import_module("local_bigquery.engine.database")
    original: Callable[..., Any] = tables.load

    def load(*reference: str) -> Any:
        found = original(*reference)
        if found.type != "TABLE" or not tables.fields(found):
            return found
        [(rows,)] = database.fetch(f"SELECT count(*) FROM {tables.name(*reference)}")  # noqa: S608 - quoted names
        return found.replace(numRows=str(rows))

    tables.load = load


def label_the_tables_that_loads_make() -> None:
    """Have a load job set the labels of a table that it makes, or compare them."""
    runner: Any = importlib.import_module("local_bigquery.jobs.runner")
    tables: Any = importlib.import_module("local_bigquery.catalog.tables")
    models: Any = importlib.import_module("local_bigquery.models")
    errors: Any = importlib.import_module("local_bigquery.errors")
    original: Callable[..., Any] = runner.HANDLERS["load"]

    def run(cursor: Any, config: Any, upload: Any) -> Any:
        properties = config.destinationTableProperties
        labels = (properties and properties.labels) or None
        if labels is None:
            return original(cursor, config, upload)
        reference = tables.reference(config.destinationTable)
        try:
            found = tables.load(*reference)
        except errors.BigQueryError:
            found = None
        if found is not None and (found.labels or {}) != labels:
            raise errors.BigQueryError("invalid", "Labels differ from those of the destination table")
        done = original(cursor, config, upload)
        if found is None:
            tables.annotate(reference, models.Table(labels=labels))
        return done

    runner.HANDLERS["load"] = run


def end_with_the_parent() -> None:
    """End at once when standard input ends."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=int, required=True, help="a listening socket that was inherited")
    parser.add_argument("--project", required=True)
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    end_with_the_parent()
    set_the_time_zone_once_connected()
    settings = importlib.import_module("local_bigquery.settings").settings
    settings.default_project_id, settings.data_dir = given.project, given.data
    take_a_job_id_once()
    merge_within_a_transaction()
    filter_by_the_condition_of_a_merge()
    count_the_rows()
    importlib.import_module("protection").install()
    label_the_tables_that_loads_make()
    database: Any = importlib.import_module("local_bigquery.engine.database")
    database.connection().execute("SET threads = 1")  # fail here, not in a request
    uvicorn = importlib.import_module("uvicorn")
    config = uvicorn.Config("local_bigquery:app", log_level="warning")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=given.socket)])


if __name__ == "__main__":
    main()
