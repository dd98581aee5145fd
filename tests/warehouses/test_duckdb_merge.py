"""Merging: which record of a key is kept, whatever the plans, and what becomes of the rest of the table."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from conftest import BUDGET, MIB, Loader
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import SchemaMismatch, WarehouseError
from etl.memory import Budget
from etl.warehouses.base import MergesByKey
from etl.warehouses.duckdb import DuckDB


def merging(folder: Path, key: tuple[str, ...] = ("id",), **options: Any) -> Loader:
    return Loader(folder, disposition="merge", key=key, **options)


@pytest.fixture
def merger(tmp_path):
    loader = merging(tmp_path, updated_at="since")
    yield loader
    loader.warehouse.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"disposition": "merge"}, "needs a key"),
        ({"disposition": "merge", "key": "id"}, "must be a list"),
        ({"disposition": "merge", "key": [""]}, "must be a list"),
        ({"disposition": "merge", "key": ["id", "ID"]}, "twice"),
        ({"disposition": "merge", "key": ["id"], "updated_at": "id"}, "not in the key"),
        ({"disposition": "merge", "key": ["id"], "updated_at": "ID"}, "not in the key"),
        ({"disposition": "merge", "key": ["id"], "updated_at": ""}, "must be a column"),
        ({"key": ["id"]}, "for the disposition 'merge'"),
        ({"disposition": "replace", "updated_at": "since"}, "for the disposition 'merge'"),
    ],
)
def test_what_makes_no_sense_together_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DuckDB("w.duckdb", table="t", **options)


def test_key_and_updated_at_are_part_of_the_destination(tmp_path):
    made = [
        DuckDB(tmp_path / "w.duckdb", table="t", disposition="merge", key=key, updated_at=updated_at)
        for key, updated_at in ((["a"], None), (["a", "b"], None), (["b", "a"], None), (["a"], "b"))
    ]
    assert all(isinstance(warehouse, MergesByKey) for warehouse in made)
    assert len({warehouse.destination for warehouse in made}) == len(made)


Version = tuple[int, int | None, str]  # key, updated_at, what else is in the record


def apply(table: dict[int, Version], record: Version) -> None:
    """Merge as it is documented, in Python."""
    old = table.get(record[0])
    if old is None or old[1] is None or (record[1] is not None and record[1] >= old[1]):
        table[record[0]] = record


records = st.tuples(
    st.integers(0, 5), st.one_of(st.none(), st.integers(-3, 3)), st.text("abc", min_size=1, max_size=3)
)
plans = st.lists(
    st.lists(st.lists(records, min_size=1, max_size=8), min_size=1, max_size=3), min_size=1, max_size=5
)


@settings(max_examples=12, deadline=None)
@given(
    plans=plans, format=st.sampled_from(["ndjson", "parquet"]), updated_at=st.sampled_from([None, "since"])
)
def test_any_plans_give_what_a_dict_would_hold(plans, format, updated_at):
    truth: dict[int, Version] = {}
    with tempfile.TemporaryDirectory() as name:
        loader = merging(Path(name), updated_at=updated_at)
        for plan in plans:
            parts = [
                loader.part(({"id": key, "since": at, "x": x} for key, at, x in part), format=format)
                for part in plan
            ]
            loader.warehouse.load(loader.job, loader.plan(*parts, format=format))
            for record in (record for part in plan for record in part):
                if updated_at:
                    apply(truth, record)
                else:
                    truth[record[0]] = record
        assert sorted(loader.sql("SELECT id, since, x FROM t")) == sorted(truth.values())
        loader.warehouse.close()


def test_the_last_record_wins_in_a_part_that_many_threads_read(tmp_path):
    loader = merging(tmp_path)
    loader.warehouse.close()
    loader.warehouse.open(replace(BUDGET, threads=4, warehouse=256 * MIB))
    keys, rounds = 1000, 300
    for each in ("ndjson", "parquet"):
        loader.load(*({"id": n % keys, "round": n // keys} for n in range(keys * rounds)), format=each)
        assert loader.sql("SELECT count(*), min(round) FROM t") == [(keys, rounds - 1)]
    loader.warehouse.close()


def test_a_row_is_replaced_as_a_whole_and_columns_grow(merger):
    merger.load({"id": 1, "since": 1, "a": "x", "s": {"p": 1}, "none": None}, {"id": 2, "since": 1, "a": "y"})
    merger.load({"id": 1, "since": 2, "b": 2.5, "s": {"q": [1]}, "none": 7})
    assert merger.sql("SELECT id, a, b, s.p, s.q, none FROM t ORDER BY id") == [
        (1, None, 2.5, None, [1], 7),
        (2, "y", None, None, None, None),
    ]


def test_a_date_of_change_may_be_a_timestamp_or_a_text(tmp_path):
    for name, values in (("a", ("2024-01-02T00:00:00Z", "2024-01-10T00:00:00+00:00")), ("b", ("v1", "v2"))):
        (tmp_path / name).mkdir()
        loader = merging(tmp_path / name, updated_at="since")
        loader.load({"id": 1, "since": values[1], "x": "new"})
        loader.load({"id": 1, "since": values[0], "x": "old"})
        assert loader.sql("SELECT x FROM t") == [("new",)]
        loader.warehouse.close()


def test_a_column_of_change_may_be_missing_at_first_and_later(merger):
    merger.load({"id": 1, "x": "a"}, {"id": 2, "x": "a"}, {"id": 3, "x": "a"})
    merger.load({"id": 1, "x": "b", "since": None}, {"id": 2, "x": "b", "since": 5})
    merger.load({"id": 1, "x": "c"}, {"id": 2, "x": "c"})
    assert merger.sql("SELECT id, x FROM t ORDER BY id") == [(1, "c"), (2, "b"), (3, "a")]


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("kept", [0, 1])
def test_what_is_not_a_number_is_older_than_anything(merger, together, kept):
    records = [{"id": 1, "since": 2.0, "x": "a"}, {"id": 1, "since": float("nan"), "x": "b"}]
    if kept:
        records.reverse()
    for part in [records] if together else [[record] for record in records]:
        merger.load(*part, format="parquet")
    assert merger.sql("SELECT since, x FROM t") == [(2.0, "a")]


def test_the_case_of_the_column_of_change_does_not_count(merger):
    merger.load({"id": 1, "Since": 2, "x": "younger"})
    merger.load({"id": 1, "Since": 1, "x": "older"})
    assert merger.sql("SELECT x FROM t") == [("younger",)]


@pytest.mark.parametrize(
    ("third", "what"), [({"id": None, "x": 3}, "id"), ({"x": 3}, "id")], ids=["null", "missing"]
)
@pytest.mark.parametrize("format", ["ndjson", "parquet"])
def test_a_record_without_a_key_is_named_and_nothing_is_kept(merger, third, what, format):
    merger.load({"id": 1, "x": 1}, format=format)
    with pytest.raises(SchemaMismatch, match=rf"part 2 .*record 3: {what} is missing or null"):
        merger.load({"id": 1, "x": 2}, {"id": 2, "x": 2}, third, format=format)
    assert merger.sql("SELECT id, x FROM t") == [(1, 1)]
    assert merger.load({"id": 1, "x": 4}, format=format) == 1


def test_a_part_in_which_no_record_has_the_key_is_an_error(merger):
    with pytest.raises(SchemaMismatch, match=r"record 1: id is missing"):
        merger.load({"x": 1})


def test_a_value_that_does_not_fit_is_named_as_it_is_when_appending(merger):
    merger.load({"id": 1, "n": 5})
    with pytest.raises(SchemaMismatch, match=r"part 2 .*record 2: the value .*five.* of column n"):
        merger.load({"id": 1, "n": 6}, {"id": 2, "n": "five"})
    assert merger.sql("SELECT id, n FROM t") == [(1, 5)]


def test_a_guess_that_was_wrong_is_made_again(merger):
    records = [{"id": n, "day": f"2024-01-{n % 28 + 1:02}"} for n in range(1500)]
    assert merger.load(*records, {"id": 3, "day": "someday"}) == 1501
    assert merger.types()["day"] == "VARCHAR"
    assert merger.sql("SELECT count(*), max(day) FROM t") == [(1500, "someday")]


def test_names_that_mean_something_to_sql_are_columns_like_others(tmp_path):
    names = ("rowid", "old", "new", "c0", "c1", "order", "place", "record", "t", 'a"b')
    loader = merging(tmp_path, key=("rowid", 'a"b'), updated_at="order")
    for order in (1, 3, 2):
        loader.load({name: {"id": order} if name == "old" else 1 for name in names} | {"order": order})
    assert loader.sql('SELECT "order", old.id FROM t') == [(3, 3)]
    loader.warehouse.close()


def test_rows_that_stood_there_twice_become_one(merger):
    merger.sql("CREATE TABLE t (id BIGINT, since BIGINT, x VARCHAR)")
    merger.sql("INSERT INTO t VALUES (1, 1, 'a'), (1, NULL, 'b'), (1, 9, 'c'), (2, 1, 'a'), (2, 2, 'b')")
    merger.sql("INSERT INTO t VALUES (NULL, 1, 'n')")
    merger.load({"id": 1, "since": 5, "x": "new"}, {"id": 2, "since": 5, "x": "new"})
    assert merger.sql("SELECT id, x FROM t ORDER BY id NULLS LAST") == [(1, "c"), (2, "new"), (None, "n")]


def test_a_table_with_a_primary_key_of_the_users_stays_as_it_is_made(merger):
    merger.sql("CREATE TABLE t (id BIGINT PRIMARY KEY, since BIGINT, x VARCHAR DEFAULT 'none')")
    for at in (1, 2):
        merger.load(*({"id": n, "since": at} for n in range(10)))
    assert merger.sql("SELECT count(*), min(since), min(x) FROM t") == [(10, 2, "none")]
    with pytest.raises(duckdb.ConstraintException):
        merger.sql("INSERT INTO t (id) VALUES (3)")


SMALL = Budget(limit=None, warehouse=48 * MIB, threads=1)
ROWS = 8_000_000


@pytest.fixture
def crowded(tmp_path):
    """Give a table of which one in 2,000 rows is to be replaced: more than the memory that a DELETE may take."""
    path = tmp_path / "w.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"CREATE TABLE t AS SELECT range AS id, 0::BIGINT AS v FROM range({ROWS})")
    loader = merging(tmp_path)
    loader.warehouse.close()
    loader.warehouse.open(SMALL)
    yield loader
    loader.warehouse.close()


def test_where_memory_is_too_small_for_a_delete_the_table_is_written_anew(crowded):
    replaced = range(0, ROWS + 10_000, 2000)
    assert crowded.load(*({"id": n, "v": 1} for n in replaced)) == len(replaced)
    added = len([n for n in replaced if n >= ROWS])
    assert crowded.sql("SELECT count(*), count(DISTINCT id), sum(v) FROM t") == [
        (ROWS + added, ROWS + added, len(replaced))
    ]
    assert crowded.sql(
        "SELECT table_name FROM duckdb_tables() WHERE table_name LIKE '_etl_%' ORDER BY 1"
    ) == [("_etl_loads",)]


def test_a_table_that_would_lose_something_is_not_written_anew(crowded):
    crowded.sql("COMMENT ON TABLE t IS 'mine'")
    with pytest.raises(WarehouseError, match="give the job more memory"):
        crowded.load(*({"id": n, "v": 1} for n in range(0, ROWS, 2000)))
    assert crowded.sql("SELECT sum(v) FROM t") == [(0,)]
    assert crowded.load({"id": 1, "v": 5}) == 1
