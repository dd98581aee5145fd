"""What a run does about refreshes, and about a cursor that it is told to go on from; on DuckDB."""

from __future__ import annotations

import shutil

import duckdb
import pytest

import etl
from etl.errors import ConfigError, DefinitionChanged, SourceError, WarehouseError
from etl.verification import compare
from etl.warehouses.base import Job
from etl.warehouses.duckdb import DuckDB


class Numbers:
    """Numbers with a mark each ten; can be told to stop its run, or to fail, before one of them."""

    def __init__(self, count, version, fails_at=None):
        self.count = count
        self.version = version
        self.fails_at = fails_at

    def fingerprint(self):
        return "numbers"

    def pull(self, cursor):
        for number in range(cursor or 0, self.count):
            if number == self.fails_at:
                raise OSError("the network is gone")
            if number % 10 == 0:
                yield etl.Mark(number)
            yield {"number": number, "version": self.version}
        yield etl.Mark(self.count)


class Place:
    """A directory with one job, run in versions."""

    def __init__(self, directory):
        self.directory = directory

    def pipeline(self, count=40, version=1, *, fails_at=None, **changes):
        warehouse = {"type": "duckdb", "path": str(self.directory / "w.duckdb"), "table": "t"}
        definition = {
            "source": Numbers(count, version, fails_at),
            "sink": {"type": "reused_file", "path": str(self.directory / "job.ndjson")},
            "warehouse": warehouse | {"disposition": changes.pop("disposition", "append")},
            "checkpoint": self.directory / "job.checkpoint.json",
            "part_records": 10,
        }
        return etl.Pipeline("job", **{**definition, **changes})

    def rows(self):
        """Return how often the table holds each number and version."""
        with duckdb.connect(str(self.directory / "w.duckdb"), read_only=True) as warehouse:
            found = warehouse.execute("SELECT number, version FROM t ORDER BY ALL").fetchall()
            tables = warehouse.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        assert {name for (name,) in tables} <= {
            "t",
            "_etl_database",
            "_etl_loads",
            "_etl_refreshes",
        } or self.refreshing()
        return found

    def refreshing(self):
        document = self.pipeline().read_checkpoint()
        return document is not None and document.refresh is not None


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def numbers(count, version, begin=0):
    return [(number, version) for number in range(begin, count)]


def test_each_run_of_a_job_that_replaces_shows_the_source_as_it_is(place):
    place.pipeline(40, 1, disposition="replace").run()
    assert place.rows() == numbers(40, 1)
    result = place.pipeline(25, 2, disposition="replace").run()
    assert place.rows() == numbers(25, 2)
    assert result.records == 25
    assert result.checkpoint.state.totals.records == 25


def test_a_run_that_fails_leaves_the_old_table_and_the_next_one_goes_on(place):
    place.pipeline(40, 1, disposition="replace").run()
    with pytest.raises(SourceError):
        place.pipeline(40, 2, fails_at=25, disposition="replace").run()
    assert place.rows() == numbers(40, 1)
    result = place.pipeline(40, 2, disposition="replace").run()
    assert result.records == 20
    assert place.rows() == numbers(40, 2)


def test_a_source_that_is_empty_now_empties_the_table(place):
    place.pipeline(40, 1, disposition="replace").run()
    place.pipeline(0, 2, disposition="replace").run()
    assert place.rows() == []


def test_a_full_refresh_of_a_job_that_appends_loads_it_all_again_once(place):
    place.pipeline(40, 1).run()
    place.pipeline(60, 1).run()
    place.pipeline(50, 2).run(full_refresh=True)
    assert place.rows() == numbers(50, 2)
    place.pipeline(70, 3).run()
    assert place.rows() == sorted(numbers(50, 2) + numbers(70, 3, 50))


def test_a_full_refresh_that_failed_goes_on_without_being_asked_again(place):
    place.pipeline(40, 1).run()
    with pytest.raises(SourceError):
        place.pipeline(40, 2, fails_at=25).run(full_refresh=True)
    assert place.rows() == numbers(40, 1)
    assert place.pipeline(40, 2).run().records == 20
    assert place.rows() == numbers(40, 2)


def test_a_full_refresh_that_is_asked_for_again_begins_anew(place):
    place.pipeline(40, 1).run()
    with pytest.raises(SourceError):
        place.pipeline(40, 2, fails_at=25).run(full_refresh=True)
    assert place.pipeline(40, 3).run(full_refresh=True).records == 40
    assert place.rows() == numbers(40, 3)


def test_another_source_needs_a_full_refresh(place):
    place.pipeline(40, 1).run()
    with pytest.raises(DefinitionChanged):
        place.pipeline(source=Others(10, 2)).run()
    place.pipeline(source=Others(10, 2)).run(full_refresh=True)
    assert place.rows() == numbers(10, 2)
    place.pipeline(source=Others(20, 2)).run()
    assert place.rows() == numbers(20, 2)


class Others(Numbers):
    def fingerprint(self):
        return "others"


def test_a_refresh_from_another_source_that_could_not_begin_leaves_the_job_to_the_source_before(place):
    class Unreachable(DuckDB):
        def open(self, budget):
            raise WarehouseError("it cannot be reached")

    place.pipeline(40, 1).run()
    unreachable = Unreachable(place.directory / "w.duckdb", table="t")
    with pytest.raises(WarehouseError):
        place.pipeline(source=Others(60, 2), warehouse=unreachable).run(full_refresh=True)
    with pytest.raises(DefinitionChanged, match="source was numbers"):
        place.pipeline(source=Others(60, 2)).run()
    place.pipeline(50, 1).run()
    assert place.rows() == numbers(50, 1)


class LostAnswer(DuckDB):
    """Exchanges the tables, and dies before it can say so."""

    def finish_refresh(self, job: Job) -> None:
        super().finish_refresh(job)
        raise WarehouseError("the answer was lost")


def lost(place, **options):
    return LostAnswer(place.directory / "w.duckdb", table="t", **options)


def test_an_exchange_whose_answer_was_lost_is_not_done_again(place):
    place.pipeline(40, 1).run()
    with pytest.raises(WarehouseError, match="lost"):
        place.pipeline(40, 2, warehouse=lost(place)).run(full_refresh=True)
    assert place.rows() == numbers(40, 2)
    place.pipeline(60, 3).run()
    assert place.rows() == sorted(numbers(40, 2) + numbers(60, 3, 40))


def test_the_run_after_a_lost_exchange_only_ends_the_one_before(place):
    with pytest.raises(WarehouseError, match="lost"):
        place.pipeline(40, 1, warehouse=lost(place, disposition="replace")).run()
    result = place.pipeline(40, 2, disposition="replace").run()
    assert (result.records, result.checkpoint.finished) == (0, True)
    assert place.rows() == numbers(40, 1)
    place.pipeline(40, 2, disposition="replace").run()
    assert place.rows() == numbers(40, 2)


def test_verify_counts_what_was_loaded_since_the_refresh(place):
    place.pipeline(40, 1).run()
    place.pipeline(50, 2).run(full_refresh=True)
    place.pipeline(60, 2).run()
    pipeline = place.pipeline()
    document = pipeline.read_checkpoint()
    with duckdb.connect():  # nothing else has the file open
        pipeline.warehouse.open(etl.memory.budget())
        audit = pipeline.warehouse.audit(Job.of(document, pipeline.fingerprint))
        pipeline.warehouse.close()
    assert compare(document, audit) == []
    assert (audit.table_rows, document.loaded.totals.records) == (60, 60)


def test_dead_letters_of_several_refreshes_have_names_of_their_own(place):
    def refuse_sevens(records):
        for record in records:
            yield etl.Reject(record, "a seven") if record["number"] % 10 == 7 else record

    for version in (1, 2):
        place.pipeline(40, version, transforms=[refuse_sevens], disposition="replace").run()
    letters = list(place.directory.glob("job-rejects-*"))
    assert len(letters) == 8
    assert place.pipeline().read_checkpoint().state.totals.rejected == 4


@pytest.mark.parametrize("disposition", ["append", "replace"])
def test_a_sink_that_keeps_its_parts_is_not_refreshed(place, disposition):
    sink = {"type": "numbered_chunks", "path": str(place.directory / "job.ndjson")}
    with pytest.raises(ConfigError, match="keep = false"):
        place.pipeline(sink=sink, disposition=disposition).run(full_refresh=True)


def test_a_job_without_a_warehouse_is_not_refreshed(place):
    sink = {"type": "numbered_chunks", "path": str(place.directory / "job.ndjson")}
    with pytest.raises(ConfigError, match="delete its checkpoint"):
        place.pipeline(sink=sink, warehouse=None).run(full_refresh=True)


def test_a_run_goes_on_from_the_cursor_that_it_is_told(place):
    place.pipeline(40, 1).run()
    place.pipeline(40, 2).run(start=etl.Mark(30))
    assert place.rows() == sorted(numbers(40, 1) + numbers(40, 2, 30))
    assert place.pipeline(40, 3).run().records == 0


def test_a_cursor_of_null_is_the_beginning(place):
    place.pipeline(40, 1).run()
    place.pipeline(20, 2).run(start=etl.Mark(None))
    assert place.rows() == sorted(numbers(40, 1) + numbers(20, 2))


def test_where_it_was_told_to_go_on_is_kept_over_a_failure(place):
    place.pipeline(40, 1).run()
    with pytest.raises(SourceError):
        place.pipeline(40, 2, fails_at=17).run(start=etl.Mark(15))
    place.pipeline(40, 2).run()
    assert place.rows() == sorted(numbers(40, 1) + numbers(40, 2, 15))


def test_a_table_that_is_dropped_is_loaded_anew_from_the_beginning_all_the_same(place):
    place.pipeline(40, 1).run()
    with pytest.raises(SourceError):
        place.pipeline(40, 2, fails_at=30).run(start=etl.Mark(30))
    with duckdb.connect(str(place.directory / "w.duckdb")) as warehouse:
        warehouse.execute("DROP TABLE t")
    place.pipeline(40, 3).run()
    assert place.rows() == numbers(40, 3)


def test_a_cursor_that_the_source_does_not_know_changes_nothing(place):
    place.pipeline(40, 1).run()
    before = place.pipeline().read_checkpoint().state
    with pytest.raises(SourceError, match="str"):
        place.pipeline(40, 2).run(start=etl.Mark("nonsense"))
    assert place.pipeline().read_checkpoint().state == before
    assert place.pipeline(50, 2).run().records == 10
    assert place.rows() == sorted(numbers(40, 1) + numbers(50, 2, 40))


def test_a_job_that_replaces_always_begins_at_the_beginning(place):
    place.pipeline(40, 1, disposition="replace").run()
    with pytest.raises(ConfigError, match="leave --from out"):
        place.pipeline(40, 2, disposition="replace").run(start=etl.Mark(30))
    assert place.rows() == numbers(40, 1)


def test_parts_that_wait_must_be_loaded_before_another_cursor(place):
    class Unreachable(DuckDB):
        def load(self, job, plan):
            raise WarehouseError("it cannot be reached")

    with pytest.raises(WarehouseError):
        place.pipeline(40, 1, warehouse=Unreachable(place.directory / "w.duckdb", table="t")).run()
    with pytest.raises(ConfigError, match="without --from"):
        place.pipeline(40, 1).run(start=etl.Mark(30))
    place.pipeline(40, 1).run()
    assert place.rows() == numbers(40, 1)


def test_a_refresh_that_found_nothing_keeps_the_dead_letters_and_their_numbers(place):
    def refuse_all(records):
        for record in records:
            yield etl.Reject(record, "none of them")

    place.pipeline(40, 1, transforms=[refuse_all], disposition="append").run()
    place.pipeline(20, 2, transforms=[refuse_all], disposition="append").run(full_refresh=True)
    assert place.pipeline(20, 3, disposition="append").run().records == 0
    assert len(list(place.directory.glob("job-rejects-*"))) == 2
    assert place.pipeline(30, 4, disposition="append").run().records == 10
    assert place.rows() == numbers(30, 4, 20)


def test_a_new_table_that_somebody_dropped_is_filled_again(place):
    with pytest.raises(SourceError):
        place.pipeline(40, 1, fails_at=25, disposition="replace").run()
    drop_new_table(place)
    assert place.pipeline(40, 1, disposition="replace").run().records == 40
    assert place.rows() == numbers(40, 1)


class DiesBefore(DuckDB):
    """Dies when all is loaded, before the tables are exchanged."""

    def finish_refresh(self, job: Job) -> None:
        raise WarehouseError("died before")


DISPOSITIONS = pytest.mark.parametrize("disposition", ["append", "replace"])


def all_but_exchanged(place, disposition):
    warehouse = DiesBefore(place.directory / "w.duckdb", table="t", disposition=disposition)
    with pytest.raises(WarehouseError, match="died before"):
        place.pipeline(40, 2, warehouse=warehouse).run(full_refresh=not place.refreshing())


def drop_new_table(place):
    with duckdb.connect(str(place.directory / "w.duckdb")) as warehouse:
        for (name,) in warehouse.execute("SELECT table_name FROM duckdb_tables()").fetchall():
            if name.startswith("_etl_refresh_"):
                warehouse.execute(f'DROP TABLE "{name}"')


@DISPOSITIONS
@pytest.mark.parametrize("asked", [False, True])
def test_a_new_table_that_is_dropped_before_the_exchange_is_filled_again(place, disposition, asked):
    place.pipeline(40, 1, disposition=disposition).run()
    all_but_exchanged(place, disposition)
    drop_new_table(place)
    place.pipeline(40, 3, disposition=disposition).run(full_refresh=asked)
    assert place.rows() == numbers(40, 3)


@DISPOSITIONS
def test_a_database_from_before_the_refresh_is_refreshed_anew(place, disposition):
    place.pipeline(40, 1, disposition=disposition).run()
    shutil.copy(place.directory / "w.duckdb", place.directory / "copy")
    all_but_exchanged(place, disposition)
    shutil.copy(place.directory / "copy", place.directory / "w.duckdb")
    place.pipeline(40, 3, disposition=disposition).run()
    assert place.rows() == numbers(40, 3)


@DISPOSITIONS
def test_a_table_that_is_half_filled_is_never_exchanged(place, disposition):
    place.pipeline(40, 1, disposition=disposition).run()
    with pytest.raises(SourceError):
        place.pipeline(40, 2, fails_at=25, disposition=disposition).run(full_refresh=True)
    shutil.copy(place.directory / "w.duckdb", place.directory / "copy")
    all_but_exchanged(place, disposition)
    shutil.copy(place.directory / "copy", place.directory / "w.duckdb")
    place.pipeline(40, 3, disposition=disposition).run()
    assert place.rows() == numbers(40, 3)


@DISPOSITIONS
def test_a_checkpoint_from_the_middle_of_a_refresh_that_is_done_follows_the_ledger(place, disposition):
    place.pipeline(40, 1, disposition=disposition).run()
    with pytest.raises(SourceError):
        place.pipeline(40, 2, fails_at=25, disposition=disposition).run(full_refresh=True)
    shutil.copy(place.directory / "job.checkpoint.json", place.directory / "copy")
    place.pipeline(40, 2, disposition=disposition).run()
    shutil.copy(place.directory / "copy", place.directory / "job.checkpoint.json")
    place.pipeline(60, 2, disposition=disposition).run()
    assert place.rows() == numbers(60, 2)


def test_dead_letters_from_before_a_refresh_outlive_its_table(place):
    def refuse_sevens(records):
        for record in records:
            yield etl.Reject(record, "a seven") if record["number"] % 10 == 7 else record

    place.pipeline(40, 1, transforms=[refuse_sevens]).run()
    letters = set(place.directory.glob("job-rejects-*"))
    with pytest.raises(SourceError):
        place.pipeline(40, 2, fails_at=25, transforms=[refuse_sevens]).run(full_refresh=True)
    drop_new_table(place)
    place.pipeline(40, 2, transforms=[refuse_sevens]).run()
    assert letters < set(place.directory.glob("job-rejects-*"))


FORM = "number INTEGER NOT NULL CHECK (number < 1000), version INTEGER, note VARCHAR DEFAULT 'none'"


def made(place, *statements):
    with duckdb.connect(str(place.directory / "w.duckdb")) as warehouse:
        for statement in statements:
            warehouse.execute(statement)


def form(place):
    with duckdb.connect(str(place.directory / "w.duckdb"), read_only=True) as warehouse:
        return warehouse.execute("SELECT sql FROM duckdb_tables() WHERE table_name = 't'").fetchone()


@DISPOSITIONS
def test_a_refresh_keeps_the_table_that_somebody_made(place, disposition):
    made(place, f"CREATE TABLE t ({FORM})")
    before = form(place)
    place.pipeline(40, 1, disposition=disposition).run()
    place.pipeline(30, 2, disposition=disposition).run(full_refresh=True)
    assert place.rows() == numbers(30, 2)
    assert form(place) == before


def test_a_field_that_the_old_table_has_not_is_new_to_a_refresh(place):
    made(place, "CREATE TABLE t (number INTEGER NOT NULL)")
    with pytest.raises(etl.EtlError, match="version"):
        place.pipeline(40, 1, drift="freeze").run(full_refresh=True)
    place.pipeline(40, 1, drift="freeze", transforms=[only_numbers]).run(full_refresh=True)
    assert form(place) == ("CREATE TABLE t(number INTEGER NOT NULL);",)


def only_numbers(records):
    for record in records:
        yield {"number": record["number"]}


def test_a_refresh_that_is_refused_leaves_the_job_as_it_was(place):
    made(place, "CREATE TABLE t (number INTEGER PRIMARY KEY, version INTEGER REFERENCES t (number))")
    place.pipeline(1, None).run()
    with pytest.raises(WarehouseError, match=r"schema_on_refresh = \"infer\""):
        place.pipeline(40, None).run(full_refresh=True)
    assert not place.refreshing()
    place.pipeline(2, None).run()
    assert place.rows() == numbers(2, None)
    warehouse = DuckDB(place.directory / "w.duckdb", table="t", schema_on_refresh="infer")
    place.pipeline(3, 7, warehouse=warehouse).run(full_refresh=True)
    assert place.rows() == numbers(3, 7)


@DISPOSITIONS
def test_rows_that_others_need_end_a_refresh_and_the_next_run_begins_it_again(place, disposition):
    made(
        place,
        "CREATE TABLE t (number INTEGER PRIMARY KEY, version INTEGER)",
        "INSERT INTO t VALUES (30, 0)",
        "CREATE TABLE others (number INTEGER REFERENCES t (number))",
        "INSERT INTO others VALUES (30)",
    )
    with pytest.raises(WarehouseError, match=r"30.* does not exist"):
        place.pipeline(20, 1, disposition=disposition).run(full_refresh=True)
    events = []
    place.pipeline(40, 2, disposition=disposition).run(listeners=[events.append])
    made(place, "DROP TABLE others")
    assert place.rows() == numbers(40, 2)
    assert [event for event in events if "30" in getattr(event, "message", "")]
