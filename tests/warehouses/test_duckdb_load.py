"""Exactly once: the transaction, the ledger, and what the constructor refuses."""

from __future__ import annotations

import gzip
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import duckdb
import google_crc32c
import msgspec
import pytest
from conftest import BUDGET, MIB, Loader, encoded

from etl.checkpoint import Part, State
from etl.errors import LoadMismatch, SchemaMismatch, WarehouseError
from etl.memory import Budget
from etl.warehouses.base import Job, Warehouse
from etl.warehouses.duckdb import DuckDB
from etl.warehouses.duckdb import ledger as duckdb_ledger
from sinks import ReusedFile


def test_it_is_a_warehouse(tmp_path):
    assert isinstance(DuckDB(tmp_path / "w.duckdb", table="t"), Warehouse)


@pytest.mark.parametrize("table", ["", "a.b.c", ".t", "t.", " t", 't"', "_etl_loads", "main._ETL_x", "a\nb"])
def test_a_bad_table_name_is_refused(table):
    with pytest.raises(ValueError, match="table is"):
        DuckDB("w.duckdb", table=table)


@pytest.mark.parametrize("path", ["", ":memory:", "out/", "s3://bucket/w.duckdb", "a\0b"])
def test_a_bad_path_is_refused(path):
    with pytest.raises(ValueError, match="path is"):
        DuckDB(path, table="t")


def test_a_bad_schema_or_disposition_is_refused():
    with pytest.raises(ValueError, match="same name"):
        DuckDB("w", table="t", schema={"a": "INT", "A": "INT"})
    with pytest.raises(ValueError, match="must give"):
        DuckDB("w", table="t", schema={"a": " "})
    with pytest.raises(ValueError, match="knows 'append', 'merge', 'replace'"):
        DuckDB("w", table="t", disposition="upsert")  # type: ignore[arg-type]


def test_the_destination_names_path_table_and_disposition(tmp_path):
    split = urlsplit(DuckDB(tmp_path / "a b?.duckdb", table="S.Flights").destination)
    assert split.path == f"{tmp_path}/a%20b%3F.duckdb"
    assert parse_qs(split.query) == {"table": ["s.flights"], "disposition": ["append"]}


def test_making_one_touches_no_file_and_it_can_be_pickled(tmp_path):
    made = DuckDB(tmp_path / "folder" / "w.duckdb", table="t", schema={"a": "BIGINT"})
    copy = pickle.loads(pickle.dumps(made))
    assert (copy.destination, copy.schema) == (made.destination, made.schema)
    assert not list(tmp_path.iterdir())


def test_an_open_one_is_pickled_closed(loader):
    loader.load({"a": 1})
    with pytest.raises(WarehouseError, match="not open"):
        pickle.loads(pickle.dumps(loader.warehouse)).latest(loader.job)


def test_a_plan_is_loaded_once(loader):
    plan = loader.plan(loader.part([{"a": 1}, {"a": 2}]))
    assert loader.warehouse.load(loader.job, plan) == 2
    (loader.folder / "part-1.ndjson").unlink()  # released by the sink in the meantime
    assert loader.warehouse.load(loader.job, plan) == 2
    assert loader.sql("SELECT count(*) FROM t") == [(2,)]


def test_latest_is_the_newest_plan_of_this_pipeline_and_table(loader):
    assert loader.warehouse.latest(loader.job) is None
    first, second = loader.part([{"a": 1}]), loader.part([{"a": 2}])
    loader.warehouse.load(loader.job, loader.plan(first))
    loader.warehouse.load(loader.job, loader.plan(second))
    entry = loader.warehouse.latest(loader.job)
    assert entry is not None
    assert (entry.state, entry.loads, entry.fingerprint) == (second.after, 2, {"source": "here"})
    assert loader.warehouse.latest(Job(pipeline="another job", fingerprint={})) is None


def test_two_pipelines_load_one_table_with_a_ledger_each(loader):
    loader.load({"a": 1})
    other = Job(pipeline="other", fingerprint={})
    assert loader.warehouse.load(other, loader.plan(loader.part([{"a": 2}]))) == 1
    assert loader.sql("SELECT count(*) FROM t") == [(2,)]
    assert [entry.loads for job in (loader.job, other) if (entry := loader.warehouse.latest(job))] == [1, 1]


def test_dropping_the_table_starts_it_anew_and_leaves_other_tables_alone(loader):
    plan = loader.plan(loader.part([{"a": 1}]))
    loader.warehouse.load(loader.job, plan)
    other = DuckDB(loader.warehouse.path, table="other")
    other.open(BUDGET)
    other.load(loader.job, plan)
    loader.sql("DROP TABLE t")
    assert loader.warehouse.latest(loader.job) is None
    assert loader.warehouse.load(loader.job, plan) == 1
    assert loader.sql("SELECT count(*) FROM t") == [(1,)]
    assert loader.sql("SELECT destination, loads FROM _etl_loads ORDER BY 1") == [
        ("main.other", 1),
        ("main.t", 1),
    ]
    assert other.latest(loader.job) is not None
    other.close()


def test_a_table_may_be_in_a_schema_of_its_own(declaring):
    loader = declaring({}, table="raw data.Flüge")
    loader.load({"a": 1})
    assert loader.sql('SELECT a FROM "raw data"."Flüge"') == [(1,)]
    assert loader.warehouse.latest(loader.job) is not None


def test_another_number_of_records_rolls_everything_back(loader):
    loader.load({"a": 1})
    part = loader.part([{"a": 2, "new": 1}], count=2)
    with pytest.raises(LoadMismatch, match=r"part 2 \(file:.*part-2.ndjson\) added 1 rows .* with 2 records"):
        loader.warehouse.load(loader.job, loader.plan(part))
    assert loader.types() == {"a": "BIGINT"}
    assert loader.sql("SELECT a FROM t") == [(1,)]
    assert loader.sql("SELECT count(*) FROM _etl_loads") == [(1,)]


def test_a_plan_of_several_parts_is_loaded_wholly_or_not_at_all(loader):
    parts = [loader.part([{"a": 1}]), loader.part([{"a": "x"}])]
    with pytest.raises(SchemaMismatch, match="part 2 "):
        loader.warehouse.load(loader.job, loader.plan(*parts))
    tables = loader.sql("SELECT table_name FROM duckdb_tables() ORDER BY 1")
    assert tables == [("_etl_database",), ("_etl_loads",)]
    assert loader.sql("SELECT * FROM _etl_loads") == []


def test_a_plan_behind_the_ledger_is_refused(loader):
    old, new = loader.part([{"a": 1}]), loader.part([{"a": 2}])
    loader.warehouse.load(loader.job, loader.plan(new))
    with pytest.raises(WarehouseError, match=r"starts with part 1, but the ledger of main.t has loaded"):
        loader.warehouse.load(loader.job, loader.plan(old))
    assert loader.sql("SELECT a FROM t") == [(2,)]


def test_the_ledger_stays_flat(loader, monkeypatch):
    monkeypatch.setattr(duckdb_ledger, "KEEP", 3)
    for number in range(8):
        loader.load({"a": number})
    assert loader.sql("SELECT sequence FROM _etl_loads ORDER BY 1") == [(6,), (7,), (8,)]
    entry = loader.warehouse.latest(loader.job)
    assert entry is not None
    assert entry.loads == 8


def test_a_byte_range_of_a_file_is_a_part(loader):
    first, second = encoded([{"a": 1}], "ndjson"), encoded([{"a": 2}, {"a": 3}], "ndjson")
    path = loader.folder / "all *?[1] #%'\".ndjson"
    path.write_bytes(first + second)
    part = loader.part([{"a": 2}, {"a": 3}])
    place = replace(part.sealed, uri=f"{path.as_uri()}#{len(first)}-{len(first + second)}")
    part = msgspec.structs.replace(part, sealed=place)
    assert loader.warehouse.load(loader.job, loader.plan(part)) == 2
    assert loader.sql("SELECT a FROM t ORDER BY a") == [(2,), (3,)]


def test_gzip_members_are_all_read(loader):
    data = gzip.compress(encoded([{"a": 1}], "ndjson")) + gzip.compress(encoded([{"a": 2}], "ndjson"))
    part = loader.part([{"a": 1}, {"a": 2}], format="ndjson.gz")
    path = loader.folder / "part-1.ndjson.gz"
    path.write_bytes(data)
    part = msgspec.structs.replace(
        part, sealed=replace(part.sealed, bytes=len(data), crc32c=google_crc32c.value(data))
    )
    assert loader.warehouse.load(loader.job, loader.plan(part, format="ndjson.gz")) == 2


def test_one_file_used_again_and_again_is_read_anew(loader):
    for number in range(5):
        part = loader.part([{"a": number}])
        path = loader.folder / "reused.ndjson"
        path.write_bytes(encoded([{"a": number}], "ndjson"))
        part = msgspec.structs.replace(part, sealed=replace(part.sealed, uri=path.as_uri()))
        loader.warehouse.load(loader.job, loader.plan(part))
    assert loader.sql("SELECT a FROM t ORDER BY a") == [(number,) for number in range(5)]


def test_a_part_that_is_gone_or_short_is_named(loader):
    part = loader.part([{"a": 1}])
    os.truncate(loader.folder / "part-1.ndjson", 3)
    with pytest.raises(WarehouseError, match=r"part 1 \(file:.*part-1.ndjson\) cannot be read: .*3 bytes"):
        loader.warehouse.load(loader.job, loader.plan(part))
    (loader.folder / "part-1.ndjson").unlink()
    with pytest.raises(WarehouseError, match=r"part 1 .*missing"):
        loader.warehouse.load(loader.job, loader.plan(part))
    assert loader.load({"a": 1}) == 1


def test_a_truncated_gzip_is_named_and_nothing_is_kept(loader):
    part = loader.part([{"a": n} for n in range(10_000)], format="ndjson.gz")
    path = loader.folder / "part-1.ndjson.gz"
    os.truncate(path, 5000)
    part = msgspec.structs.replace(part, sealed=replace(part.sealed, bytes=5000))
    with pytest.raises(WarehouseError, match=r"part 1 \(file:.*part-1.ndjson.gz\)"):
        loader.warehouse.load(loader.job, loader.plan(part, format="ndjson.gz"))
    assert loader.load({"a": 1}) == 1
    assert loader.sql("SELECT count(*) FROM t") == [(1,)]


def test_a_part_of_another_format_is_refused(loader):
    with pytest.raises(WarehouseError, match=r"ndjson, ndjson.gz, parquet; plan .* is csv"):
        loader.warehouse.load(loader.job, loader.plan(loader.part([{"a": 1}]), format="csv"))


def test_a_record_of_some_megabytes_is_loaded_and_a_huge_one_is_a_named_error(loader):
    loader.load({"a": "x" * 4_000_000})
    with pytest.raises(WarehouseError, match=r"part 2 \(file:.*a record is too large"):
        loader.load({"a": "x" * 40_000_000})
    assert loader.sql("SELECT length(a) FROM t") == [(4_000_000,)]


def test_all_records_arrive_whatever_the_number_of_threads(tmp_path, declaring):
    loader = declaring({})
    loader.warehouse.open(Budget(limit=None, warehouse=256 * 1024 * 1024, threads=4))
    records = [{"id": n, "s": {"text": f"{n} " * 10}} for n in range(100_000)]
    assert loader.load(*records) == 100_000
    assert loader.sql("SELECT count(*), count(DISTINCT id), sum(id) FROM t") == [
        (100_000, 100_000, sum(range(100_000)))
    ]


def test_a_late_misfit_in_a_large_part_is_named_by_its_record(loader):
    records = [{"id": n, "s": [{"x": n}]} for n in range(150_000)]
    loader.load(*records[:10])
    records[140_000]["s"].append({"x": 0.5})
    with pytest.raises(SchemaMismatch, match=r"record 140001: the value 0.5 of column s\[\].x"):
        loader.load(*records)


def test_a_part_in_transit_that_lost_its_pages_is_not_loaded(loader, tmp_path):
    sink = ReusedFile(tmp_path / "transit.ndjson")
    sink.take_budget(memory=None, durable=False)
    with sink.open_part(1) as part:
        part.write(b'{"n": 1}\n')
    assert part.sealed
    # As when the kernel wrote the page back, failed, and forgot it: the block holds an older part.
    (tmp_path / "transit.ndjson").write_bytes(b'{"n": 9}\n')
    state = State(sequence=1, tail=part.sealed)
    plan = loader.plan(Part(sealed=part.sealed, records=1, after=state))
    with pytest.raises(WarehouseError, match=r"cannot be read: .*CRC-32C"):
        loader.warehouse.load(loader.job, plan)
    assert loader.warehouse.latest(loader.job) is None


def test_nothing_is_drawn_on_standard_output_however_long_a_load_takes(tmp_path):
    """DuckDB takes `python -c`, a notebook and the interpreter's prompt for somebody who wants a progress bar."""
    script = (
        "import sys; from etl.memory import budget; from etl.warehouses import DuckDB; "
        "warehouse = DuckDB(sys.argv[1], table='t'); warehouse.open(budget()); "
        "connection = warehouse._session._database.connection; "
        "print(*connection.execute(\"SELECT current_setting('enable_progress_bar')\").fetchone())"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "warehouse.duckdb")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.fixture
def crowded(tmp_path):
    """Give a table to which a column cannot be added in the memory that there is."""
    with duckdb.connect(str(tmp_path / "w.duckdb")) as connection:
        connection.execute("CREATE TABLE t AS SELECT (range % 100)::TINYINT AS a, 1 AS b FROM range(8000000)")
    loader = Loader(tmp_path, schema={"b": "BIGINT"})
    loader.warehouse.close()
    loader.warehouse.open(Budget(limit=None, warehouse=48 * MIB, threads=1))
    yield loader
    loader.warehouse.close()


def test_where_memory_is_too_small_for_a_new_column_the_table_is_written_anew(crowded):
    assert crowded.load({"a": 100, "b": 2, "new": "x"}) == 1
    assert crowded.sql("SELECT count(*), max(a), sum(b), count(new) FROM t") == [
        (8_000_001, 100, 8_000_002, 1)
    ]
    assert crowded.types() == {"a": "TINYINT", "b": "BIGINT", "new": "VARCHAR"}


def test_a_table_that_would_lose_something_is_not_written_anew_for_a_column(crowded):
    crowded.sql("ALTER TABLE t ALTER COLUMN a SET DEFAULT 5")
    with pytest.raises(WarehouseError, match="give the job more memory"):
        crowded.load({"a": 100, "b": 2, "new": "x"})
    assert crowded.types() == {"a": "TINYINT", "b": "INTEGER"}
