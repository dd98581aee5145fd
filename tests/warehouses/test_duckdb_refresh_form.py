"""A refresh keeps the table: all but its rows is as it was, or it is refused before anything is pulled."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import duckdb
import pyarrow
import pytest

from etl.errors import RefreshLost, SchemaMismatch, WarehouseError
from etl.warehouses.base import ChecksRefreshes
from etl.warehouses.duckdb import DuckDB
from tests.warehouses import every_kind
from tests.warehouses.conftest import BUDGET, Refresher

DAY = "2024-01-01"


@pytest.fixture
def make(tmp_path: Path):
    """Make the loader of a job in a database that holds what some statements make."""
    made: list[Refresher] = []

    def make(*statements: str, **options: Any) -> Refresher:
        with duckdb.connect(str(tmp_path / "w.duckdb")) as connection:
            for statement in statements:
                connection.execute(statement)
        made.append(Refresher(tmp_path, **options))
        return made[-1]

    yield make
    for each in made:
        each.warehouse.close()


def form(loader: Refresher) -> Any:
    """Return the form of all tables, as the next one to open the file sees it."""
    loader.warehouse.close()
    with duckdb.connect(str(loader.warehouse.path)) as connection:
        found = every_kind.described(connection)
    loader.warehouse.open(BUDGET)
    return found


def refused(loader: Refresher, *words: str) -> None:
    """See that a refresh is refused with these words and leaves nothing, and that "infer" is what it says next."""
    before = form(loader)
    with pytest.raises(WarehouseError) as caught:
        loader.warehouse.check_refresh(loader.job)
    assert not [word for word in (*words, "schema_on_refresh") if word not in str(caught.value)], caught.value
    assert form(loader) == before


EVERYTHING = (every_kind.BEFORE, every_kind.TABLE, every_kind.REFERRING, every_kind.ROWS)


def test_a_table_of_every_kind_keeps_its_form_and_has_the_new_rows(make):
    loader = make(*EVERYTHING)
    before = form(loader)
    loader.warehouse.check_refresh(loader.job)
    assert form(loader) == before
    loader.refresh(*({"id": number, "day": DAY, "price": "2.50", "country": "de"} for number in range(1, 4)))
    assert form(loader) == before
    assert loader.sql('SELECT id, price, country, mood, twice, "at" FROM t ORDER BY id') == [
        (number, 2.5, "de", "calm", number * 2, None) for number in (1, 2, 3)
    ]
    assert loader.sql("SELECT orders.id, twice, year FROM orders JOIN t ON t = t.id ORDER BY ALL") == [
        (1, 2, 2024),
        (2, 4, 2024),
    ]
    assert loader.sql("SELECT orders, t, amount::INT FROM lines ORDER BY ALL") == [(1, 1, 5), (1, 2, 6)]
    assert loader.sql("FROM prices ORDER BY ALL") == [(1, 2.5, 2), (2, 2.5, 4), (3, 2.5, 6)]
    assert loader.tables() == ["_etl_loads", "_etl_refreshes", "country", "lines", "log", "orders", "t"]


# What still holds after a refresh: an insert, or a deletion, that must fail, and why.
HOLDS = {
    "primary key": ("INSERT INTO t (id) VALUES (1)", "primary key"),
    "unique": ("INSERT INTO t (id, uuid) SELECT 9, uuid FROM t LIMIT 1", "unique"),
    "unique index": (
        "INSERT INTO t (id, clock, \"at\") VALUES (8, '1:00', now()), (9, '1:00', now())",
        "UNIQUE",
    ),
    "not null": ("INSERT INTO t (id, mood) VALUES (9, NULL)", "NOT NULL"),
    "check": ("INSERT INTO t (id, price) VALUES (9, -1)", "CHECK"),
    "its foreign key": ("INSERT INTO t (id, country) VALUES (9, 'xx')", "does not exist in the referenced"),
    "what it refers to": ("DELETE FROM country WHERE code = 'de'", "still referenced"),
    "others' foreign key": ("INSERT INTO lines VALUES (1, 77, 1)", "does not exist in the referenced"),
    "what refers to it": ("DELETE FROM t WHERE id = 1", "still referenced"),
    "further away": ("DELETE FROM orders WHERE id = 1", "still referenced"),
}


def test_keys_and_checks_hold_after_refreshes(make):
    loader = make(*EVERYTHING)
    for name in ("r1", "r2"):
        records = [
            {"id": n, "day": DAY, "country": "de", "uuid": f"00000000-0000-0000-0000-{n:012}"}
            for n in range(1, 4)
        ]
        loader.refresh(*records, name=name)
    loader.warehouse.close()
    for statement, why in HOLDS.values():
        with (
            duckdb.connect(str(loader.warehouse.path)) as connection,
            pytest.raises(duckdb.ConstraintException) as e,
        ):
            connection.execute(statement)
        assert why in str(e.value)
    with duckdb.connect(str(loader.warehouse.path)) as connection:
        connection.execute(
            "INSERT INTO t (id) VALUES (9); DELETE FROM t WHERE id = 9; DELETE FROM t WHERE id = 3"
        )
        assert connection.execute("SELECT count(*) FROM log").fetchone() == (2,)
        for table in ("lines", "orders", "t", "country"):
            connection.execute(f"DROP TABLE {table}")


TABLE = (
    "CREATE TABLE t (number INTEGER NOT NULL, day DATE, price NUMERIC(10, 2), note VARCHAR DEFAULT 'none')"
)


def test_a_column_that_the_data_no_longer_has_stays_with_its_default(make):
    loader = make(TABLE, "INSERT INTO t VALUES (1, NULL, 1, 'mine')")
    loader.refresh({"number": 2, "price": 2.5})
    assert loader.sql("FROM t") == [(2, None, 2.5, "none")]


def test_a_new_field_is_a_new_column_at_the_end(make):
    loader = make(*EVERYTHING)
    before = form(loader)
    loader.refresh({"id": 1, "day": DAY, "new": "x"}, {"id": 2, "day": DAY})
    assert loader.sql("SELECT id, new FROM t ORDER BY id") == [(1, "x"), (2, None)]
    after = form(loader)
    assert {what: after[what] for what in ("constraints", "indexes", "triggers")} == {
        what: before[what] for what in ("constraints", "indexes", "triggers")
    }
    assert [row[3] for row in after["columns"] if row[1] == "t"] == [
        *(row[3] for row in before["columns"] if row[1] == "t"),
        "new",
    ]


MISFITS = {
    "text for a number": ({"number": "seven"}, "part 2 .*, record 2: the value .*seven.* of column number"),
    "digits that a decimal has not": (
        {"number": 1, "price": 1.234},
        r"record 2: the value 1\.234 of column price",
    ),
    "no date": ({"number": 1, "day": "2024-02-30"}, "record 2: the value .*2024-02-30.* of column day"),
}


@pytest.mark.parametrize("what", MISFITS)
def test_a_value_that_does_not_fit_the_old_table_is_named_and_the_table_stays(make, what):
    record, message = MISFITS[what]
    loader = make(TABLE)
    loader.load({"number": 1})
    before = form(loader)
    loader.begin("r1")
    with pytest.raises(SchemaMismatch, match=message):
        loader.load({"number": 1}, record)
    assert form(loader) == before
    assert loader.sql("SELECT number FROM t") == [(1,)]


BROKEN = {
    "not null": ({"number": None}, "NOT NULL"),
    "unique index": ({"number": 5}, "unique"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_record_that_breaks_a_constraint_fails_with_its_part(make, what):
    record, message = BROKEN[what]
    loader = make(TABLE, "CREATE UNIQUE INDEX i ON t (number)")
    loader.begin("r1")
    loader.load({"number": 5})
    with pytest.raises(WarehouseError, match=rf"part 2 .*{message}"):
        loader.load(record)
    loader.load({"number": 6})
    loader.finish()
    assert loader.sql("SELECT number FROM t ORDER BY ALL") == [(5,), (6,)]


def test_an_empty_refresh_empties_the_table_and_keeps_its_form(make):
    loader = make(every_kind.BEFORE, every_kind.TABLE, every_kind.ROWS.split(";")[0])
    before = form(loader)
    loader.refresh()
    assert form(loader) == before
    assert loader.sql("SELECT count(*) FROM t") == [(0,)]


def test_a_refresh_of_a_table_that_is_merged_keeps_its_form(make):
    loader = make(*EVERYTHING, disposition="merge", key=["id"], updated_at="at")
    before = form(loader)
    loader.begin("r1")
    for hour in (1, 3, 2):
        loader.load(*({"id": n, "day": DAY, "at": f"{DAY}T0{hour}:00:00", "int": hour} for n in (1, 2, 2)))
    loader.finish()
    assert form(loader) == before
    assert loader.sql("SELECT id, int FROM t ORDER BY ALL") == [(1, 3), (2, 3)]


def test_a_table_in_another_schema_keeps_its_form(make):
    loader = make(
        'CREATE SCHEMA "Raw x"',
        'USE "Raw x"',
        "CREATE SEQUENCE s",
        'CREATE TABLE p ("of" INTEGER PRIMARY KEY)',
        "INSERT INTO p VALUES (1)",
        'CREATE TABLE "T t" (a INTEGER DEFAULT nextval(\'s\'), b INTEGER UNIQUE REFERENCES p ("of"))',
        'CREATE UNIQUE INDEX "i i" ON "T t" ((a + 1), b)',
        'CREATE TABLE c (b INTEGER REFERENCES "T t" (b))',
        "CREATE TABLE main.t (b INTEGER PRIMARY KEY)",
        "CREATE TABLE main.c (b INTEGER REFERENCES t (b))",
        table="raw x.t T",
    )
    before = form(loader)
    loader.warehouse.check_refresh(loader.job)
    for name in ("r1", "r2"):
        loader.refresh({"b": 1}, {"b": None}, name=name)
    assert form(loader) == before
    assert loader.sql('SELECT b FROM "Raw x"."T t" ORDER BY ALL') == [(1,), (None,)]


@pytest.mark.parametrize("schema_on_refresh", ["keep", "infer"])
@pytest.mark.parametrize("records", [[{"id": 1}], []])
def test_a_table_keeps_the_case_of_its_name(make, schema_on_refresh, records):
    loader = make('CREATE TABLE "TaBle" (id BIGINT)', table="table", schema_on_refresh=schema_on_refresh)
    before = form(loader)
    loader.refresh(*records)
    assert form(loader) == before


def test_a_column_of_json_takes_what_it_took(make):
    loader = make("CREATE TABLE t (a JSON NOT NULL)")
    loader.refresh({"a": {"b": 1}}, {"a": "text"}, {"a": [1, "x"]})
    assert loader.types() == {"a": "JSON"}
    assert sorted(loader.sql("FROM t")) == [('"text"',), ('[1,"x"]',), ('{"b":1}',)]


def test_what_is_declared_comes_before_what_the_table_has(make):
    loader = make(TABLE, schema={"price": "DECIMAL(12, 3)", "more": "DATE"})
    loader.warehouse.check_refresh(loader.job)
    loader.refresh({"number": 1, "price": "1.234"})
    assert loader.types() == {
        "number": "INTEGER",
        "day": "DATE",
        "price": "DECIMAL(12,3)",
        "note": "VARCHAR",
        "more": "DATE",
    }
    loader.refresh(name="r2")
    assert loader.types()["price"] == "DECIMAL(12,3)"


def test_columns_are_those_of_the_old_table_before_the_new_one_is_made(make):
    loader = make(TABLE)
    loader.begin("r1")
    assert [column.name for column in loader.warehouse.columns(loader.job) or ()] == [
        "number",
        "day",
        "price",
        "note",
    ]


def test_the_job_says_whether_a_refresh_keeps_the_table_and_it_is_no_part_of_the_destination(tmp_path):
    warehouses = [DuckDB(tmp_path / "w", table="t", schema_on_refresh=each) for each in ("keep", "infer")]
    assert warehouses[0].destination == warehouses[1].destination
    assert pickle.loads(pickle.dumps(warehouses[1])).schema_on_refresh == "infer"
    assert isinstance(warehouses[0], ChecksRefreshes)
    with pytest.raises(ValueError, match="'keep' or 'infer'"):
        DuckDB(tmp_path / "w", table="t", schema_on_refresh="no")  # type: ignore[arg-type]


CANNOT = {
    "a view that DuckDB keeps from losing its table": (
        ("CREATE TABLE t (a INTEGER)", "SET enable_view_dependencies = true", "CREATE VIEW v AS FROM t"),
        "v",
    ),
    "a table that refers to itself": (
        ("CREATE TABLE t (a INTEGER PRIMARY KEY, b INTEGER REFERENCES t (a))",),
        "refers to the table itself",
    ),
    "one that refers to it, and to itself": (
        (
            "CREATE TABLE t (a INTEGER PRIMARY KEY)",
            "CREATE TABLE c (a INTEGER REFERENCES t (a), b INTEGER PRIMARY KEY, d INTEGER REFERENCES c (b))",
        ),
        '"c"',
    ),
}


@pytest.mark.parametrize("what", CANNOT)
def test_what_cannot_be_kept_is_refused_and_nothing_was_changed(make, what):
    statements, word = CANNOT[what]
    loader = make(*statements, "INSERT INTO t (a) VALUES (1)")
    refused(loader, word)
    assert loader.sql("SELECT a FROM t") == [(1,)]


def test_a_declared_type_that_a_key_forbids_is_refused_before_anything_is_pulled(make):
    loader = make(*EVERYTHING, schema={"id": "VARCHAR"})
    with pytest.raises(WarehouseError):
        loader.warehouse.check_refresh(loader.job)


@pytest.mark.parametrize("schema_on_refresh", ["keep", "infer"])
def test_a_view_is_not_refreshed(make, schema_on_refresh):
    loader = make("CREATE VIEW t AS SELECT 1 AS a", schema_on_refresh=schema_on_refresh)
    with pytest.raises(WarehouseError, match="is a view"):
        loader.warehouse.check_refresh(loader.job)


def test_where_there_is_no_table_nothing_is_kept_and_nothing_refused(make):
    loader = make()
    loader.warehouse.check_refresh(loader.job)
    loader.refresh({"a": 1})
    assert loader.types() == {"a": "BIGINT"}


def test_rows_that_others_refer_to_and_are_gone_leave_all_as_it_was_until_they_are_fixed(make):
    loader = make(*EVERYTHING)
    before = form(loader)
    loader.begin("r1")
    loader.load({"id": 1, "day": DAY})
    for _ in range(2):
        with pytest.raises(RefreshLost, match=r"key .*2.* does not exist"):
            loader.warehouse.finish_refresh(loader.job)
        assert form(loader) == before
    assert loader.sql("SELECT count(*) FROM t") == [(30,)]
    loader.sql("DELETE FROM lines WHERE t = 2; DELETE FROM orders WHERE t = 2")
    loader.finish()
    assert form(loader) == before
    assert loader.sql("SELECT id FROM t") == [(1,)]


CHANGES = {
    "altered": ("ALTER TABLE t ADD COLUMN more INTEGER",),
    "made again": ("DROP TABLE t", "CREATE TABLE t (a VARCHAR)"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_table_that_changed_in_the_meantime_is_not_replaced(make, what):
    loader = make("CREATE TABLE t (a INTEGER NOT NULL)")
    loader.begin("r1")
    loader.load({"a": 1})
    for statement in CHANGES[what]:
        loader.sql(statement)
    before = form(loader)
    with pytest.raises(RefreshLost, match="--full-refresh"):
        loader.warehouse.finish_refresh(loader.job)
    assert form(loader) == before
    loader.refresh({"a": None if what == "made again" else 5}, name="r2")
    assert form(loader) == before


def test_indexes_and_comments_that_came_in_the_meantime_stay(make):
    loader = make("CREATE TABLE t (a INTEGER NOT NULL)")
    loader.begin("r1")
    loader.load({"a": 1})
    loader.sql("CREATE INDEX i ON t (a)")
    loader.sql("COMMENT ON TABLE t IS 'mine'")
    before = form(loader)
    loader.finish()
    assert form(loader) == before


def test_a_job_may_change_its_mind_while_the_new_table_is_filled(make):
    loader = make("CREATE TABLE t (a INTEGER NOT NULL)", "CREATE UNIQUE INDEX i ON t (a)")
    loader.begin("r1")
    loader.load({"a": 1})
    loader.warehouse.close()
    loader.warehouse = DuckDB(loader.warehouse.path, table="t", schema_on_refresh="infer")
    loader.warehouse.open(BUDGET)
    loader.finish()
    assert loader.sql("SELECT a FROM t") == [(1,)]
    assert loader.sql("SELECT comment FROM duckdb_tables() WHERE table_name = 't'") == [(None,)]


NOT_PLAIN = {
    "collation": "CREATE TABLE t (a VARCHAR COLLATE nocase)",
    "compression": "CREATE TABLE t (a VARCHAR USING COMPRESSION zstd)",
    "default": "CREATE TABLE t (a VARCHAR DEFAULT 'x')",
    "not null": "CREATE TABLE t (a VARCHAR NOT NULL)",
    "comment": "CREATE TABLE t (a VARCHAR); COMMENT ON COLUMN t.a IS 'x'",
    "trigger": "CREATE TABLE t (a VARCHAR); CREATE TABLE l (a INTEGER); "
    "CREATE TRIGGER r AFTER INSERT ON t FOR EACH STATEMENT INSERT INTO l VALUES (1)",
}


@pytest.mark.parametrize("what", NOT_PLAIN)
def test_a_table_that_would_lose_something_is_not_written_again_for_want_of_memory(make, what):
    loader = make(NOT_PLAIN[what])
    session = loader.warehouse._session
    assert session is not None
    assert not session.can_rewrite(loader.job)
    loader.sql("CREATE OR REPLACE TABLE t (a VARCHAR)") if what != "trigger" else loader.sql(
        "DROP TRIGGER r ON t"
    )
    assert session.can_rewrite(loader.job)


@pytest.mark.parametrize("schema_on_refresh", ["keep", "infer"])
def test_the_file_does_not_grow_with_refreshes(make, schema_on_refresh):
    rows = pyarrow.table({"a": [number * 2**32 % 1_000_003 for number in range(130_000)]})
    loader = make("CREATE TABLE t (a BIGINT NOT NULL)", schema_on_refresh=schema_on_refresh)
    sizes = []
    for number in range(4):
        loader.begin(f"r{number}")
        loader.load(rows, format="parquet")
        loader.finish()
        sizes.append(loader.warehouse.path.stat().st_size)
    assert max(sizes[2:]) == sizes[1]
