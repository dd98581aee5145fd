"""Jobs that run in threads of one process: on one database file, into one table, the same job twice, in asyncio."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pytest

import etl
from etl.errors import EtlError, Fenced, WarehouseError
from etl.memory import budget
from etl.warehouses.duckdb import DuckDB
from etl.warehouses.duckdb.opening import in_order

RECORDS = 90
KEYS = 20


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def job(
    name: str,
    table: str,
    disposition: str = "append",
    source: Any = None,
    memory: int | None = None,
    **options: Any,
) -> etl.Pipeline:
    """Define a job whose records say whose they are; merging, many have one key, and the last one of each stays."""

    def pull(cursor: Any = None) -> Any:
        for n in range(cursor or 0, RECORDS):
            yield {"job": name, "id": n % KEYS if disposition == "merge" else n, "v": n}
            yield etl.Mark(n + 1)

    pull.__qualname__ = f"pull_of_{name}"
    warehouse = {
        "type": "duckdb",
        "path": "w.duckdb",
        "table": table,
        "disposition": disposition,
        **({"key": ["job", "id"]} if disposition == "merge" else {}),
    }
    return etl.Pipeline(
        name,
        source=source or pull,
        sink={"type": "reused_file", "path": f"{name}.ndjson"},
        warehouse={**warehouse, **options},
        part_records=30,
        memory=memory,
    )


def rows(table: str, name: str) -> list[int]:
    with duckdb.connect("w.duckdb", read_only=True) as database:
        return [
            v
            for (v,) in database.execute(f"SELECT v FROM {table} WHERE job = ? ORDER BY v", [name]).fetchall()
        ]


def settings() -> list[Any]:
    """Return what a connection of the user's own has."""
    return duckdb.execute("SELECT name, value FROM duckdb_settings() ORDER BY name").fetchall()


EXPECTED = {
    "append": list(range(RECORDS)),
    "merge": list(range(RECORDS - KEYS, RECORDS)),
    "replace": list(range(RECORDS)),
}


@pytest.mark.parametrize(
    ("jobs", "disposition", "shared"),
    [
        (2, "append", False),
        (8, "append", False),
        (3, "append", True),
        (4, "merge", False),
        (3, "merge", True),
        (4, "replace", False),
    ],
)
def test_jobs_in_threads_load_one_database_exactly(jobs: int, disposition: str, shared: bool) -> None:
    tables = {f"job{n}": "t" if shared else f"t{n}" for n in range(jobs)}
    before = settings()
    begin = threading.Barrier(jobs)
    heard: dict[str, list[str]] = {name: [] for name in tables}

    def run(name: str) -> int:
        pipeline = job(name, tables[name], disposition)
        begin.wait(60)
        return pipeline.run(listeners=[lambda event: heard[name].append(event.pipeline)]).records

    with ThreadPoolExecutor(jobs) as threads:
        assert list(threads.map(run, tables)) == [RECORDS] * jobs
    for name, table in tables.items():
        assert rows(table, name) == EXPECTED[disposition]
        assert set(heard[name]) == {name}
    assert settings() == before


def test_the_same_job_twice_in_threads_runs_once_and_the_other_is_refused() -> None:
    waits, go_on = threading.Event(), threading.Event()

    def pull(cursor: Any = None) -> Any:
        waits.set()
        assert go_on.wait(60)
        yield {"job": "job", "v": 0}

    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(job("job", "t", source=pull).run)
        assert waits.wait(60)
        with pytest.raises(Fenced, match="is being run by process"):
            job("job", "t", source=pull).run()
        go_on.set()
        assert first.result(60).records == 1
    assert rows("t", "job") == [0]


def test_a_job_runs_in_asyncio_beside_others() -> None:
    async def run() -> list[Any]:
        return await asyncio.gather(
            asyncio.to_thread(job("a", "ta").run), asyncio.to_thread(job("b", "tb").run)
        )

    assert [result.records for result in asyncio.run(run())] == [RECORDS] * 2
    assert rows("ta", "a") == rows("tb", "b") == EXPECTED["append"]


def test_order_is_kept_until_the_last_job_that_wants_it_has_it_no_more() -> None:
    def kept(connection: duckdb.DuckDBPyConnection) -> bool:
        ((found,),) = connection.execute("SELECT current_setting('preserve_insertion_order')").fetchall()
        return bool(found)

    options: Any = {"preserve_insertion_order": False}
    with (
        duckdb.connect("w.duckdb", config=options) as one,
        duckdb.connect("w.duckdb", config=options) as other,
    ):
        with in_order(one):
            with in_order(other):
                assert kept(one)
            assert kept(one)
        assert not kept(one)
        one.execute("BEGIN")
        with pytest.raises(duckdb.Error), in_order(one):
            one.execute("SELECT error('the transaction has failed')")
        assert not kept(other)


def test_a_connection_of_the_user_s_own_to_the_file_is_waited_for_and_then_named() -> None:
    job("job", "t").run()
    own = duckdb.connect("w.duckdb")
    with pytest.raises(
        WarehouseError, match="this process has it open with other settings: close that connection"
    ):
        job("other", "u", deadline=0.1).run()

    class Closing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert "is open in this process, with other settings: waiting" in record.getMessage()
            own.close()

    told = Closing()
    logging.getLogger("etl.warehouses").addHandler(told)
    try:
        assert job("other", "u").run().records == RECORDS
    finally:
        logging.getLogger("etl.warehouses").removeHandler(told)
    assert rows("u", "other") == EXPECTED["append"]


def test_a_database_in_memory_is_refused() -> None:
    with pytest.raises(EtlError, match="it must name a file"):
        job("job", "t", path=":memory:")


def test_jobs_of_one_process_that_give_the_file_different_memory_are_refused_by_name() -> None:
    job("first", "t").run()
    first = DuckDB("w.duckdb", table="t")
    first.open(budget(1 << 30))
    try:
        with pytest.raises(
            WarehouseError, match="give jobs that run at once in one process the same `memory`"
        ):
            job("second", "u", deadline=0.1, memory=512 << 20).run()
    finally:
        first.close()
    assert job("second", "u", memory=512 << 20).run().records == RECORDS
