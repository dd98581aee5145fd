"""Refreshes: what becomes of the old table and of what belongs to it, and who comes too late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import BUDGET, Refresher

from etl.checkpoint import replace
from etl.errors import Fenced, SchemaMismatch, WarehouseError
from etl.warehouses.base import Job, KnowsColumns, Refreshes
from etl.warehouses.duckdb import DuckDB
from etl.warehouses.duckdb import refreshes as duckdb_refreshes


@pytest.fixture
def loader(tmp_path):
    loader = Refresher(tmp_path)
    yield loader
    loader.warehouse.close()


def refresher(folder: Path, **options: Any) -> Refresher:
    return Refresher(folder, **options)


def test_it_refreshes_and_says_what_a_run_does(tmp_path):
    for disposition in ("append", "replace"):
        warehouse = DuckDB(tmp_path / "w.duckdb", table="t", disposition=disposition)
        assert isinstance(warehouse, Refreshes)
        assert warehouse.disposition == disposition
        assert f"disposition={disposition}" in warehouse.destination


def test_the_new_table_stands_beside_the_old_one_and_leaves_nothing(loader):
    loader.load({"a": 1})
    loader.begin("r1")
    loader.load({"a": 2})
    assert loader.tables() == ["_etl_database", "_etl_loads", "_etl_refresh_t_job_r1", "_etl_refreshes", "t"]
    assert loader.sql("FROM t") == [(1,)]
    loader.finish()
    assert loader.tables() == ["_etl_database", "_etl_loads", "_etl_refreshes", "t"]
    assert loader.sql("FROM t") == [(2,)]


def test_a_table_in_a_schema_of_its_own_is_refreshed_there(tmp_path):
    loader = refresher(tmp_path, table="Raw.T")
    loader.begin("r1")
    loader.begin("r2")
    loader.load({"a": 1})
    loader.finish()
    assert loader.sql("SELECT schema_name, table_name FROM duckdb_tables() WHERE schema_name <> 'main'") == [
        ("Raw", "T")
    ]
    loader.warehouse.close()


def test_types_are_inferred_again_where_a_job_says_so(tmp_path):
    loader = refresher(tmp_path, schema_on_refresh="infer")
    loader.load({"a": "text", "gone": 1})
    loader.refresh({"a": 5})
    assert loader.types() == {"a": "BIGINT"}
    loader.warehouse.close()


def test_a_declared_schema_is_that_of_the_new_table(tmp_path):
    loader = refresher(tmp_path, schema={"a": "SMALLINT", "b": "DATE"})
    loader.refresh({"a": 5})
    assert loader.types() == {"a": "SMALLINT", "b": "DATE"}
    with pytest.raises(SchemaMismatch):
        loader.refresh({"a": 70_000}, name="r2")
    assert loader.sql("FROM t") == [(5, None)]
    loader.warehouse.close()


def test_an_empty_refresh_keeps_the_columns_as_they_are_to_be(loader, tmp_path):
    loader.load({"a": 1, "b": None})
    loader.warehouse.close()
    loader = refresher(tmp_path, schema={"a": "DECIMAL(9, 2)", "c": "DATE"})
    loader.refresh()
    assert loader.types() == {"a": "DECIMAL(9,2)", "b": '"NULL"', "c": "DATE"}
    assert loader.sql("SELECT count(*) FROM t") == [(0,)]
    assert loader.sql("SELECT count(*) FROM _etl_loads") == [(0,)]
    loader.warehouse.close()


def test_views_of_the_old_table_show_the_new_one(loader):
    loader.load({"a": 1})
    loader.sql("CREATE VIEW v AS SELECT a FROM t")
    loader.refresh({"a": 2, "b": 3})
    assert loader.sql("FROM v") == [(2,)]


def test_indexes_keys_defaults_and_comments_go_with_the_old_table_where_types_are_inferred_again(tmp_path):
    loader = refresher(tmp_path, schema_on_refresh="infer")
    loader.sql("CREATE TABLE t (a BIGINT PRIMARY KEY, b VARCHAR NOT NULL DEFAULT 'x')")
    loader.sql("CREATE INDEX i ON t (b)")
    loader.sql("COMMENT ON TABLE t IS 'mine'")
    loader.refresh({"a": 1}, {"a": 1, "b": None})
    assert loader.sql("SELECT count(*) FROM duckdb_indexes()") == [(0,)]
    assert loader.sql("SELECT comment FROM duckdb_tables() WHERE table_name = 't'") == [(None,)]
    loader.warehouse.close()


def test_a_table_that_a_foreign_key_needs_stays_where_types_are_inferred_again_and_the_error_says_so(
    tmp_path,
):
    loader = refresher(tmp_path, schema_on_refresh="infer")
    loader.sql("CREATE TABLE t (a BIGINT PRIMARY KEY)")
    loader.sql("INSERT INTO t VALUES (1)")
    loader.sql("CREATE TABLE other (a BIGINT REFERENCES t (a))")
    with pytest.raises(WarehouseError, match=r'table "other".*schema_on_refresh = "keep"'):
        loader.warehouse.check_refresh(loader.job)
    loader.begin("r1")
    loader.load({"a": 2})
    for _ in range(2):
        with pytest.raises(WarehouseError, match=r'main key table of the table "other"'):
            loader.warehouse.finish_refresh(loader.job)
    assert loader.sql("FROM t") == [(1,)]
    loader.sql("DROP TABLE other")
    loader.finish()
    assert loader.sql("FROM t") == [(2,)]
    loader.warehouse.close()


def test_what_other_pipelines_loaded_is_gone_and_their_ledger_says_so(loader):
    other = Job(pipeline="other", fingerprint={})
    elsewhere = DuckDB(loader.warehouse.path, table="u")
    elsewhere.open(BUDGET)
    elsewhere.load(loader.job, loader.plan(loader.part([{"a": 1}])))
    loader.warehouse.load(other, loader.plan(loader.part([{"a": 2}])))
    loader.refresh({"a": 3})
    assert loader.warehouse.latest(other) is None
    assert elsewhere.latest(loader.job) is not None
    elsewhere.close()


def test_refreshes_of_two_pipelines_do_not_touch_each_other(loader):
    loader.begin("r1")
    loader.load({"a": 1})
    mine, loader.job = loader.job, Job(pipeline="other", fingerprint={})
    loader.refresh({"a": 2}, name="r1")
    assert loader.sql("FROM t") == [(2,)]
    loader.job = mine
    loader.finish()
    assert loader.sql("FROM t") == [(1,)]


def test_loads_are_counted_from_the_refresh_on(loader):
    for number in range(3):
        loader.load({"a": number})
    loader.begin("r1")
    loader.load({"a": 7})
    in_refresh = loader.warehouse.latest(loader.job)
    loader.finish()
    assert loader.warehouse.latest(loader.job) == in_refresh
    assert in_refresh is not None
    assert in_refresh.loads == 1
    loader.load({"a": 8})
    audit = loader.warehouse.audit(loader.job)
    assert ([load.rows for load in audit.loads], audit.loads_ever, audit.table_rows) == ([1, 1], 2, 2)
    assert not audit.merged


def test_a_plan_that_comes_after_the_end_of_its_refresh_is_fenced(loader):
    loader.begin("r1")
    known, late = (loader.plan(loader.part([{"a": number}])) for number in (1, 2))
    loader.warehouse.load(loader.job, known)
    loader.warehouse.finish_refresh(loader.job)
    assert loader.warehouse.load(loader.job, known) == 1
    with pytest.raises(Fenced, match="finished without it"):
        loader.warehouse.load(loader.job, late)
    assert loader.sql("FROM t") == [(1,)]


def test_a_refresh_whose_place_was_taken_loads_nothing_and_begins_no_more(loader):
    loader.begin("r1")
    late = loader.plan(loader.part([{"a": 1}]))
    loader.begin("r2")
    loader.load({"a": 2})
    loader.in_refresh("r1")
    assert loader.warehouse.latest(loader.job) is None
    assert loader.warehouse.audit(loader.job).table_rows is None
    with pytest.raises(Fenced, match="the newest one, which is r2"):
        loader.warehouse.load(loader.job, late)
    with pytest.raises(Fenced, match="--full-refresh"):
        loader.warehouse.begin_refresh(loader.job)
    loader.in_refresh("r2")
    loader.finish()
    assert loader.sql("FROM t") == [(2,)]


def test_a_refresh_that_was_never_begun_is_an_error(loader):
    loader.load({"a": 1})
    loader.in_refresh("r1")
    with pytest.raises(WarehouseError, match="never begun"):
        loader.load({"a": 2})
    with pytest.raises(WarehouseError, match="never begun"):
        loader.finish()
    assert loader.sql("FROM t") == [(1,)]


def test_a_new_table_that_somebody_dropped_does_not_empty_the_old_one(loader):
    loader.load({"a": 1})
    loader.begin("r1")
    loader.load({"a": 2})
    loader.warehouse.close()
    loader.warehouse.open(BUDGET)
    loader.sql("DROP TABLE _etl_refresh_t_job_r1")
    with pytest.raises(WarehouseError, match="somebody has dropped it"):
        loader.warehouse.finish_refresh(loader.job)
    assert loader.sql("FROM t") == [(1,)]
    assert loader.warehouse.latest(loader.job) is None


def test_few_of_many_refreshes_are_remembered(loader, monkeypatch):
    monkeypatch.setattr(duckdb_refreshes, "KEEP", 3)
    for number in range(6):
        loader.refresh({"a": number}, name=f"r{number}")
    assert loader.sql("SELECT refresh FROM _etl_refreshes ORDER BY number") == [("r3",), ("r4",), ("r5",)]
    assert loader.sql("FROM t") == [(5,)]


def test_the_columns_are_those_of_the_table_that_is_loaded_into(tmp_path):
    loader = refresher(tmp_path, schema_on_refresh="infer")
    assert isinstance(loader.warehouse, KnowsColumns)
    assert loader.warehouse.columns(loader.job) is None
    loader.load({"a": 1})
    loader.begin("r1")
    assert loader.warehouse.columns(loader.job) is None
    loader.load({"b": 1})
    assert [column.name for column in loader.warehouse.columns(loader.job) or ()] == ["b"]
    assert [column.name for column in loader.warehouse.columns(replace(loader.job, refresh="")) or ()] == [
        "a"
    ]
    loader.finish()
    assert [column.name for column in loader.warehouse.columns(loader.job) or ()] == ["b"]
    loader.warehouse.close()
