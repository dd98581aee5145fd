"""Records that a DuckDB table refuses: dead letters with their reasons, or the end of the run, by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

import etl
from etl.errors import RecordError, TooManyRejects, WarehouseError
from etl.memory import budget
from etl.progress import Notice
from etl.verification import compare
from etl.warehouses.base import Job as Loaded
from tests.misfits import MISFITS

FORMATS = ["ndjson", "ndjson.gz", "parquet"]


class Job:
    """A job on the files of a directory, and what comes of it."""

    def __init__(self, directory: Path, made: str = "", **options: Any) -> None:
        self.directory = directory
        self.notices: list[str] = []
        self.options: dict[str, Any] = {"format": "ndjson", "on_error": "reject", **options}
        if made:
            self.sql(made)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.directory / "w.duckdb")) as connection:
            return connection.execute(statement).fetchall()

    def pipeline(self, records: list[Any], **options: Any) -> etl.Pipeline:
        definition: dict[str, Any] = {
            "sink": {"type": "reused_file", "path": str(self.directory / "job.part")},
            "warehouse": {"type": "duckdb", "path": str(self.directory / "w.duckdb"), "table": "t"},
            "checkpoint": self.directory / "job.checkpoint.json",
            **self.options,
            **options,
        }
        definition["warehouse"] |= definition.pop("table", {})
        return etl.Pipeline("job", source=lambda: iter(records), **definition)

    def run(self, records: list[Any], **options: Any) -> etl.Result:
        def listen(event: etl.progress.Event) -> None:
            if isinstance(event, Notice):
                self.notices.append(event.message)

        return self.pipeline(records, **options).run(listeners=[listen])

    def rows(self, order: str = "ALL") -> list[tuple[Any, ...]]:
        return self.sql(f"SELECT * FROM t ORDER BY {order}")

    def letters(self) -> list[dict[str, Any]]:
        files = sorted(self.directory.glob("job-rejects-*.ndjson"))
        return [json.loads(line) for path in files for line in path.read_bytes().splitlines()]


def without_absent(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if value is not ...}


@pytest.mark.parametrize("format", FORMATS)
def test_each_record_that_does_not_fit_is_a_dead_letter_and_the_others_are_rows(tmp_path, format):
    columns = {case: f"c{number}" for number, case in enumerate(MISFITS)}
    definitions = ", ".join(
        f"{columns[case]} {kind.replace('v <', columns[case] + ' <')}" for case, (kind, *_) in MISFITS.items()
    )
    job = Job(tmp_path, f"CREATE TABLE t (id INTEGER, {definitions})", format=format)
    good = {columns[case]: fits for case, (_, fits, *_) in MISFITS.items() if fits is not ...}
    bad = [without_absent({**good, columns[case]: unfit}) for case, (_, _, unfit, _) in MISFITS.items()]
    records = [
        {"id": number, **record} for number, record in enumerate([good, *bad[:9], good, *bad[9:], good])
    ]
    result = job.run(records)
    letters = {letter["record"]["id"]: letter["reason"] for letter in job.letters()}
    assert [row[0] for row in job.rows("id")] == [0, 10, len(records) - 1], letters
    assert sorted(letters) == [
        record["id"] for record in records if record["id"] not in (0, 10, len(records) - 1)
    ]
    if format != "parquet":  # in which kinds do not come to DuckDB that one part cannot hold
        for reason, (case, (_, _, _, said)) in zip(letters.values(), MISFITS.items(), strict=True):
            assert said.replace("column v", f"column {columns[case]}") in reason, case
    assert (result.records, result.rejects, len(job.letters())) == (3, len(bad), len(bad))
    assert job.run(records).records == 0


@pytest.mark.parametrize("format", ["ndjson", "parquet"])
def test_the_first_record_may_be_the_one_that_does_not_fit(tmp_path, format):
    job = Job(tmp_path, "CREATE TABLE t (id INTEGER)", format=format)
    job.run([{"id": "five"}, *({"id": number} for number in range(50)), {"id": "six"}])
    assert job.rows() == [(number,) for number in range(50)]
    assert [letter["number"] for letter in job.letters()] == [1, 52]


@pytest.mark.parametrize("format", ["ndjson", "parquet"])
def test_of_a_new_column_the_kind_of_the_first_value_is_what_fits(tmp_path, format):
    job = Job(tmp_path, format=format)
    job.run([{"v": None}, {"v": 1}, {"v": "one"}, {"v": 2}])
    assert job.rows() == [(1,), (2,), (None,)]
    assert [letter["record"] for letter in job.letters()] == [{"v": "one"}]


@pytest.mark.parametrize("format", ["ndjson", "parquet"])
@pytest.mark.parametrize("constraint", ["PRIMARY KEY", "UNIQUE"])
def test_of_records_with_one_key_the_first_is_the_row_and_the_table_comes_before_all(
    tmp_path, format, constraint
):
    job = Job(tmp_path, f"CREATE TABLE t (id INTEGER {constraint}, v INTEGER)", format=format)
    job.sql("INSERT INTO t VALUES (7, 0)")
    job.run([{"id": 1, "v": 1}, {"id": 7, "v": 2}, {"id": 1, "v": 3}, {"id": 2, "v": 4}])
    assert job.rows() == [(1, 1), (2, 4), (7, 0)]
    first, second = job.letters()
    assert (first["number"], second["number"]) == (2, 3)
    assert "id = 7 is in the table already" in first["reason"]
    assert "id = 1 came in an earlier record" in second["reason"]


@pytest.mark.parametrize(
    ("table", "unfit"),
    [
        ("CREATE TABLE t (id INTEGER); CREATE UNIQUE INDEX one ON t (id)", 3),
        ("CREATE TABLE o (id INTEGER PRIMARY KEY); INSERT INTO o VALUES (1), (2), (3); "
         "CREATE TABLE t (id INTEGER REFERENCES o (id))", 40),
        ("CREATE TABLE t (id INTEGER, v INTEGER DEFAULT 9, CHECK (v + id < 20))", 15),
    ],
)  # fmt: skip
def test_what_only_a_trial_can_tell_is_found_by_halves(tmp_path, table, unfit):
    job = Job(tmp_path, table)
    job.run([{"id": 1}, {"id": 2}, {"id": 3}, {"id": unfit}])
    assert [row[0] for row in job.rows()] == [1, 2, 3]
    (letter,) = job.letters()
    assert letter["number"] == 4


TAKEN = {
    "another key": (
        "CREATE TABLE t (id INTEGER UNIQUE, k INTEGER UNIQUE)",
        [{"id": 1, "k": 1}, {"id": 2, "k": 1}, {"id": 2, "k": 3}, {"id": 2, "k": 4}],
        {2: "k = 1 came in an earlier record", 4: "id = 2 came in an earlier record"},
    ),
    "a foreign key": (
        "CREATE TABLE o (id INTEGER PRIMARY KEY); INSERT INTO o VALUES (3); "
        "CREATE TABLE t (id INTEGER PRIMARY KEY, k INTEGER REFERENCES o (id))",
        [{"id": 1, "k": 9}, {"id": 1, "k": 3}, {"id": 2, "k": None}, {"id": 4, "k": 5}],
        {1: "k = 9 is not in o", 4: "k = 5 is not in o"},
    ),
    "a key of the table": (
        "CREATE TABLE t (id INTEGER UNIQUE, k INTEGER UNIQUE); INSERT INTO t VALUES (7, 7)",
        [{"id": 1, "k": 7}, {"id": 1, "k": 3}],
        {1: "k = 7 is in the table already"},
    ),
}


@pytest.mark.parametrize("case", TAKEN)
def test_a_record_that_is_refused_takes_no_key_from_those_after_it(tmp_path, case):
    made, records, refused = TAKEN[case]
    job = Job(tmp_path, made)
    before = len(job.rows())
    job.run(records)
    letters = {letter["number"]: letter["reason"] for letter in job.letters()}
    assert list(letters) == list(refused)
    assert not [number for number, reason in refused.items() if reason not in letters[number]], letters
    assert len(job.rows()) == before + len(records) - len(refused)


def test_a_row_is_judged_by_the_table_as_the_parts_before_it_left_it(tmp_path):
    job = Job(tmp_path, "CREATE TABLE t (id INTEGER PRIMARY KEY)", part_records=3)
    job.run([{"id": number} for number in (1, 2, 2, 3, 1, 4, 5, 5, 6, 4)])
    assert job.rows() == [(number,) for number in (1, 2, 3, 4, 5, 6)]
    assert [letter["number"] for letter in job.letters()] == [3, 5, 8, 10]


def test_parts_without_one_that_fits_leave_no_part(tmp_path):
    job = Job(tmp_path, "CREATE TABLE t (id INTEGER)", part_records=2)
    result = job.run([{"id": text} for text in "abcde"] + [{"id": 1}])
    assert job.rows() == [(1,)]
    assert (result.parts, result.rejects, len(job.letters())) == (1, 5, 5)


@pytest.mark.parametrize("sink", ["reused_file", "numbered_chunks", "big_file"])
def test_no_part_holds_a_record_that_is_a_dead_letter(tmp_path, sink):
    out = tmp_path / "out" / "job.ndjson"
    job = Job(tmp_path, "CREATE TABLE t (id INTEGER)", part_records=4, sink={"type": sink, "path": str(out)})
    job.run([{"id": number if number % 7 else "seven"} for number in range(1, 40)])
    expected = [number for number in range(1, 40) if number % 7]
    assert job.rows() == [(number,) for number in expected]
    assert [letter["number"] for letter in job.letters()] == [7, 14, 21, 28, 35]
    written = b"".join(path.read_bytes() for path in sorted(out.parent.iterdir()))
    if sink != "reused_file":
        assert [json.loads(line)["id"] for line in written.splitlines()] == expected
    assert job.pipeline([]).read_checkpoint().state.totals.rejected == 5


def test_rows_and_dead_letters_are_all_records_and_verify_says_so(tmp_path):
    job = Job(tmp_path, "CREATE TABLE t (id INTEGER)", part_records=5)
    job.run([{"id": number if number % 3 else "three"} for number in range(30)])
    pipeline = job.pipeline([])
    document = pipeline.read_checkpoint()
    assert document is not None
    pipeline.warehouse.open(budget())
    assert compare(document, pipeline.warehouse.audit(Loaded.of(document, pipeline.fingerprint))) == []
    pipeline.warehouse.close()
    totals = document.state.totals
    assert (totals.records, totals.rejected) == (20, 10)


def test_a_transform_that_yields_one_dict_again_and_again_is_judged_by_what_it_yielded(tmp_path):
    def one(records: Any) -> Any:
        held: dict[str, Any] = {"v": {}}
        for record in records:
            held["id"] = record["id"]
            held["v"]["x"] = record["id"] * 2
            yield held

    job = Job(tmp_path, "CREATE TABLE t (id INTEGER, v STRUCT(x BIGINT))", transforms=[one])
    job.run([{"id": number} for number in (1, 2, 2**40, 4)])
    assert job.rows() == [(1, {"x": 2}), (2, {"x": 4}), (4, {"x": 8})]
    assert [letter["record"]["id"] for letter in job.letters()] == [2**40]


def test_merged_records_are_judged_too(tmp_path):
    table = {"disposition": "merge", "key": ["id"]}
    job = Job(tmp_path, "CREATE TABLE t (id INTEGER, v INTEGER NOT NULL CHECK (v < 10))", table=table)
    job.run(
        [{"id": 1, "v": 1}, {"id": 2, "v": None}, {"id": 1, "v": 2}, {"id": 1, "v": 11}, {"id": "x", "v": 1}]
    )
    assert job.rows() == [(1, 2)]
    assert [letter["number"] for letter in job.letters()] == [2, 4, 5]


def test_a_refresh_is_judged_by_the_types_that_are_declared(tmp_path):
    job = Job(tmp_path, table={"disposition": "replace", "schema": {"id": "INTEGER"}})
    for _ in range(2):
        job.run([{"id": 1}, {"id": "x"}, {"id": 2}])
        assert job.rows() == [(1,), (2,)]
    assert [letter["number"] for letter in job.letters()][-1] == 2


def test_types_that_are_declared_decide_before_there_is_a_table(tmp_path):
    job = Job(tmp_path, table={"schema": {"id": "TINYINT"}})
    job.run([{"id": 1}, {"id": 300}])
    assert job.rows() == [(1,)]


def test_max_rejects_counts_what_the_table_refuses(tmp_path):
    job = Job(tmp_path, "CREATE TABLE t (id INTEGER)", max_rejects=1)
    with pytest.raises(TooManyRejects, match="record 3, by warehouse: does not fit the table"):
        job.run([{"id": 1}, {"id": "x"}, {"id": "y"}])
    assert job.letters() == []


def test_a_table_that_takes_no_record_at_all_ends_the_run(tmp_path):
    job = Job(tmp_path, "CREATE TABLE t (id INTEGER)", table={"schema": {"ID": "INTEGER"}})
    with pytest.raises(WarehouseError, match="same name to DuckDB"):
        job.run([{"x": 1}])
    assert job.letters() == []


def test_what_is_wrong_with_the_database_makes_no_dead_letters(tmp_path):
    job = Job(tmp_path, "CREATE TABLE o (id INTEGER); CREATE VIEW t AS FROM o")
    with pytest.raises(WarehouseError):
        job.run([{"id": 1}])
    assert job.letters() == []


def test_records_without_fields_that_parquet_cannot_keep_are_dead_letters_or_end_the_run(tmp_path):
    records = [{}, {}, {"id": 1}, {}]
    job = Job(tmp_path, format="parquet", part_records=2)
    result = job.run(records)
    assert (job.rows(), result.records, result.rejects) == ([(1,), (None,)], 2, 2)
    assert [(letter["number"], letter["record"]) for letter in job.letters()] == [(1, {}), (2, {})]
    (tmp_path / "other").mkdir()
    job = Job(tmp_path / "other", format="parquet", part_records=2, on_error="fail")
    with pytest.raises(RecordError, match=r"record 1 .*no fields, nor has any other"):
        job.run(records)


def test_it_is_told_once_and_says_what_it_was_about(tmp_path):
    job = Job(tmp_path, "CREATE TABLE t (id INTEGER)", part_records=2)
    job.run([{"id": number if number % 4 else "x"} for number in range(20)])
    (notice,) = job.notices
    assert 'the value "x" of column id does not fit' in notice
    assert "tried before it is written" in notice


def test_a_run_that_is_stopped_before_it_judged_leaves_that_to_the_next(tmp_path):
    job = Job(tmp_path, "CREATE TABLE t (id INTEGER)")
    records = [{"id": 1}, {"id": "x"}, {"id": 2}]
    stopping = job.pipeline(
        records, transforms=[lambda taken: (stopping.stop("SIGTERM") or one for one in taken)]
    )
    assert stopping.run().stopped == "SIGTERM"
    job.run(records)
    assert job.rows() == [(1,), (2,)]
    assert [letter["number"] for letter in job.letters()] == [2]


class Killed(BaseException):
    """The process dies here."""


class Dying:
    """The store of a checkpoint beside which the process dies: before, or right after, its n-th change."""

    def __init__(self, store: Any, changes: int, *, after: bool) -> None:
        self._store, self._changes, self._after = store, changes, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def swap(self, data: bytes, expected: str | None) -> str:
        self._changes -= 1
        if self._changes == 0 and not self._after:
            raise Killed
        version: str = self._store.swap(data, expected)
        if self._changes == 0:
            raise Killed
        return version


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_change_of_the_checkpoint_each_record_is_in_one_place_once(tmp_path, after):
    records = [{"id": number if number % 4 else "x", "n": number} for number in range(1, 10)]
    crashes = 0
    for change in range(1, 100):
        directory = tmp_path / str(change)
        directory.mkdir()
        job = Job(directory, part_records=5)
        dying = job.pipeline(records)
        dying.store = Dying(dying.store, change, after=after)  # type: ignore[assignment]
        try:
            dying.run()
        except Killed:
            crashes += 1
        else:
            break
        job.run(records)
        assert [row[1] for row in job.rows("n")] == [1, 2, 3, 5, 6, 7, 9]
        assert [letter["number"] for letter in job.letters()] == [4, 8]
    assert crashes >= 8
