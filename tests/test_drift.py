"""What becomes of fields that the table has no column for, and of types that change."""

from __future__ import annotations

import json
from collections import OrderedDict
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

import etl
from etl import drift
from etl.columns import Column, Columns
from etl.drift import DriftGate, gate_of, union
from etl.errors import RecordError, SchemaMismatch
from etl.job import Drift
from etl.schemas.learning import Learner
from etl.warehouses.base import Gate, Misfit
from etl.warehouses.bigquery.gate import RecordGate
from etl.warehouses.bigquery.schema import declared
from etl.warehouses.bigquery.types import BIGQUERY
from tests.google import LOCATION, PROJECT, GoogleServers

KNOWN = declared(
    {"id": "INTEGER", "who": {"name": "STRING", "at": {"x": "FLOAT"}}, "lines": [{"sku": "STRING"}]}
)
JSON_COLUMN = declared({"id": "INTEGER", "payload": "JSON"})


def frozen(known: Columns | None = KNOWN, inner: Gate | None = None) -> DriftGate:
    return DriftGate("freeze", known, inner)


def ignoring(known: Columns | None = KNOWN, inner: Gate | None = None) -> DriftGate:
    return DriftGate("ignore", known, inner)


def names(columns: Columns) -> dict[str, Any]:
    return {column.name: names(column.fields) for column in columns}


def test_it_is_a_gate() -> None:
    gate: Gate = frozen()
    assert gate.columns == KNOWN
    assert gate.arrow_schema().names == []


def test_evolve_needs_no_gate_besides_the_warehouses_own() -> None:
    own = RecordGate(KNOWN, format="ndjson")
    assert gate_of("evolve", own, table=None, pinned=None) is own
    assert gate_of("evolve", None, table=KNOWN, pinned=KNOWN) is None


FITTING: list[dict[str, Any]] = [
    {"id": 1, "who": {"name": "a", "at": {"x": 1.5}}, "lines": [{"sku": "a"}, {}]},
    {"id": "text"},  # types are for others to judge
    {"who": None, "lines": []},
    {"who": "no object", "lines": {"sku": "no list"}},
    {},
]


@pytest.mark.parametrize("record", FITTING)
def test_a_record_without_new_fields_is_passed_on_as_it_is(record: dict[str, Any]) -> None:
    assert frozen().admit(record) is record
    assert ignoring().admit(record) is record


DRIFTED: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    ({"id": 1, "new": 2}, "field new:", {"id": 1}),
    ({"new": [0], "newer": False}, "field new and 1 more:", {}),
    ({"who": {"name": "a", "age": 7}}, r"field who\.age:", {"who": {"name": "a"}}),
    ({"who": {"at": {"y": ""}}}, r"field who\.at\.y:", {"who": {"at": {}}}),
    ({"lines": [{"sku": 1}, {"n": 2}]}, r"field lines\[1\]\.n:", {"lines": [{"sku": 1}, {}]}),
    ({"who": OrderedDict(name="a", age=7)}, r"field who\.age:", {"who": {"name": "a"}}),
    ({"lines": ({"n": 2},)}, r"field lines\[0\]\.n:", {"lines": [{}]}),
]


@pytest.mark.parametrize(("record", "said", "left"), DRIFTED)
def test_a_record_with_a_new_field_does_not_fit_a_frozen_table(
    record: dict[str, Any], said: str, left: dict[str, Any]
) -> None:
    with pytest.raises(Misfit, match=f'^{said}.*drift = "freeze"'):
        frozen().admit(record)


@pytest.mark.parametrize(("record", "said", "left"), DRIFTED)
def test_a_new_field_is_dropped_and_counted_where_it_is_to_be_ignored(
    record: dict[str, Any], said: str, left: dict[str, Any]
) -> None:
    gate, before = ignoring(), repr(record)
    assert gate.admit(record) == left
    assert repr(record) == before, "the record that was given is never changed"
    assert gate.ignored == (2 if "more" in said else 1)


@pytest.mark.parametrize("nothing", [None, [], {}, {"a": None, "b": [], "c": {}}])
def test_a_new_field_that_holds_nothing_is_left_out_and_no_drift(nothing: Any) -> None:
    gate = ignoring()
    assert frozen().admit({"id": 1, "new": nothing}) == {"id": 1}
    assert gate.admit({"id": 1, "who": {"new": nothing}}) == {"id": 1, "who": {}}
    assert gate.ignored == 0


@pytest.mark.parametrize("policy", ["freeze", "ignore"])
def test_a_name_in_another_case_is_never_left_out(policy: Drift) -> None:
    gate = gate_of(policy, None, table=(Column(name="id", type="INTEGER"),), pinned=None)
    assert gate is not None
    with pytest.raises(Misfit, match="field ID: it differs from column id in case only"):
        gate.admit({"ID": 1})


def test_what_a_json_column_holds_is_its_own_affair() -> None:
    record = {"id": 1, "payload": {"anything": [{"at": "all"}]}}
    assert frozen(JSON_COLUMN).admit(record) is record


def test_where_nothing_is_known_the_first_part_teaches_and_the_second_is_frozen() -> None:
    first = frozen(None)
    for record in ({"id": 1, "later": None}, {"id": 2.5, "who": {"name": "a", "tags": ["x"]}}):
        assert first.admit(record) is record
    assert names(first.columns) == {"id": {}, "later": {}, "who": {"name": {}, "tags": {}}}
    second = frozen(first.columns)
    second.admit({"id": 3, "later": "now", "who": {"tags": []}})
    assert second.columns == first.columns
    with pytest.raises(Misfit, match=r"^field who\.age:"):
        second.admit({"who": {"age": 1}})


def test_the_table_and_the_checkpoint_are_known_together() -> None:
    pinned = (Column(name="id", type="STRING"), Column(name="who", type="RECORD", fields=KNOWN[:1]))
    gate = gate_of("freeze", None, table=KNOWN, pinned=pinned)
    assert gate is not None
    assert names(gate.columns) == {
        "id": {},
        "who": {"name": {}, "at": {"x": {}}, "id": {}},
        "lines": {"sku": {}},
    }
    assert gate.columns[0].type == "INTEGER", "the table's"


def test_a_column_whose_fields_only_one_of_them_knows_is_not_looked_into() -> None:
    both = union((Column(name="a", type="JSON"),), (Column(name="a", type="RECORD", fields=KNOWN),))
    assert names(both) == {"a": {}}


def test_before_bigquery_what_its_gate_knows_is_known() -> None:
    own = RecordGate(KNOWN, format="ndjson")
    gate = gate_of("ignore", own, table=None, pinned=None)
    assert isinstance(gate, DriftGate)
    assert gate.admit({"id": 1, "new": 2}) == {"id": 1}
    with pytest.raises(Misfit, match=r"^column id: INTEGER takes whole numbers"):
        gate.admit({"id": "text", "new": 2})
    assert gate.ignored == 1, "of records that were let in"
    assert gate.columns == KNOWN
    assert gate.arrow_schema().names == ["id", "who", "lines"]


def test_before_bigquery_a_first_part_without_a_declaration_teaches() -> None:
    gate = gate_of("freeze", RecordGate((), format="ndjson"), table=None, pinned=None)
    assert gate is not None
    gate.admit({"a.b": 1})
    gate.admit({"c": 1})
    assert names(gate.columns) == {"a_b": {}, "c": {}}


def test_before_bigquery_a_field_is_known_by_the_name_that_its_column_has() -> None:
    own = RecordGate(declared({"a_b": "INTEGER", "R": {"x_y": "INTEGER"}}), format="ndjson")
    gate = gate_of("freeze", own, table=None, pinned=None)
    assert gate is not None
    assert gate.admit({"A.b": 1, "r": {"x$y": 2}}) == {"a_b": 1, "R": {"x_y": 2}}


def test_plans_for_shapes_are_forgotten_before_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "MOST_CELLS", 10)
    gate = ignoring()
    for number in range(100):
        assert gate.admit({"id": 1, f"new {number}": 2}) == {"id": 1}
    assert gate.ignored == 100
    assert len(gate._fields._plans) <= 5  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        ([1, 2.5], "FLOAT"),
        ([1, None, 2**63], "BIGNUMERIC"),
        ([True, None], "BOOLEAN"),
        ([True, 1], "JSON"),
        (["a", b"a"], "STRING"),
        (["a", 1], "JSON"),
        ([[1], [2.5]], "FLOAT REPEATED"),
        ([[], None], "JSON"),
        ([1, [1]], "JSON"),
        ([[[1]]], "JSON"),
        ([{"x": 1}, {"y": "a"}], "RECORD"),
        ([{}, None], "JSON"),
        ([{"x": 1}, "a"], "JSON"),
    ],
)
def test_types_are_learned_from_whatever_comes(values: list[Any], type_: str) -> None:
    learner = Learner()
    for value in values:
        learner.note({"v": value, 7: 1})
    (column,) = learner.columns(without_type="JSON")
    assert f"{column.type} {column.mode}".removesuffix(" NULLABLE") == type_


def test_mixed_types_are_told_with_their_path() -> None:
    learner = Learner()
    for value in (1, "a", [True]):
        learner.note({"r": [{"v": value}], "fine": value == 1})
    assert list(learner.mixed()) == [("r.v", ("INTEGER", "STRING", "BOOLEAN", "a list"))]


# whole jobs

FIRST = [{"id": 1, "who": {"name": "a"}}, {"id": 2, "who": None}]
NEW = [{"id": 3, "who": {"name": "b", "age": 7}, "new": "x"}]
LAST = [{"id": 4, "who": {"name": "c"}, "new": None}]
DRIFTING = [*FIRST, *NEW, *LAST]


class Job:
    """A job with a part for each two records, into DuckDB unless it is told otherwise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: list[dict[str, Any]] = DRIFTING
        self.warehouse: dict[str, Any] | None = {
            "type": "duckdb",
            "path": str(folder / "w.duckdb"),
            "table": "t",
        }

    def pull(self, cursor: int | None = None) -> Any:
        for number in range(cursor or 0, len(self.records)):
            yield etl.Mark(number)
            yield self.records[number]
        yield etl.Mark(len(self.records))

    def run(self, policy: Any, **changes: Any) -> etl.Result:
        pipeline = etl.Pipeline(
            "job",
            **{
                "source": self.pull,
                "sink": {"type": "numbered_chunks", "path": str(self.folder / "out" / "job.ndjson")},
                "warehouse": self.warehouse,
                "checkpoint": self.folder / "job.checkpoint.json",
                "part_records": 2,
                "drift": policy,
                "on_error": "reject",
            }
            | changes,
        )
        return pipeline.run()

    def table(self, query: str = "SELECT * FROM t ORDER BY id") -> list[Any]:
        with duckdb.connect(str(self.folder / "w.duckdb"), read_only=True) as warehouse:
            found = warehouse.execute(query)
            names = [column[0] for column in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def letters(self) -> list[dict[str, Any]]:
        paths = sorted(self.folder.glob("job-rejects*"))
        return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]

    def lines(self) -> list[dict[str, Any]]:
        paths = sorted((self.folder / "out").iterdir())
        return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def test_by_itself_the_table_evolves(job: Job) -> None:
    assert job.run("evolve").rejects == 0
    assert [(row["id"], row["new"]) for row in job.table()] == [(1, None), (2, None), (3, "x"), (4, None)]


def test_a_frozen_job_refuses_records_with_fields_that_its_first_part_had_not(job: Job) -> None:
    result = job.run("freeze")
    assert (result.rejects, result.ignored) == (1, 0)
    assert [row["id"] for row in job.table()] == [1, 2, 4]
    assert set(job.table()[0]) == {"id", "who"}
    (letter,) = job.letters()
    assert letter["record"] == NEW[0]
    assert "field new and 1 more: the table has no column for it" in letter["reason"]


def test_a_frozen_job_that_takes_no_rejects_stops(job: Job) -> None:
    with pytest.raises(RecordError, match=r"record 3 .*does not fit the table: field new and 1 more"):
        job.run("freeze", on_error="fail")
    assert [row["id"] for row in job.table()] == [1, 2]


def test_a_job_that_ignores_new_fields_counts_them(job: Job) -> None:
    result = job.run("ignore")
    assert (result.rejects, result.ignored) == (0, 2)
    assert result.checkpoint.state.totals.ignored == 2
    rows = job.table()
    assert set(rows[0]) == {"id", "who"}
    assert [row["who"] for row in rows] == [{"name": "a"}, None, {"name": "b"}, {"name": "c"}]


def test_a_later_run_knows_what_the_table_has(job: Job) -> None:
    job.run("evolve")
    job.records = [*DRIFTING, {"id": 5, "newer": 1, "new": "y"}]
    assert job.run("ignore").ignored == 1
    assert job.table()[-1] == {"id": 5, "who": None, "new": "y"}


def test_a_frozen_job_knows_what_it_declares_before_its_first_part(job: Job) -> None:
    assert job.warehouse is not None
    job.warehouse["schema"] = [{"name": "id", "type": "INTEGER"}]
    assert job.run("freeze").rejects == 3
    assert job.table() == [{"id": 2}]


@pytest.mark.parametrize("format", ["ndjson", "parquet"])
def test_without_a_warehouse_the_files_are_frozen(job: Job, format: str) -> None:
    job.warehouse = None
    result = job.run("ignore", format=format)
    assert result.ignored == 2
    if format == "ndjson":
        assert job.lines() == [*FIRST, {"id": 3, "who": {"name": "b"}}, {"id": 4, "who": {"name": "c"}}]
    job.records = [*DRIFTING, {"id": 5, "newer": 1}]
    assert job.run("freeze", format=format).rejects == 1


@pytest.mark.parametrize("policy", ["evolve", "freeze", "ignore"])
def test_a_type_that_changes_is_no_drift_and_no_null(job: Job, policy: Drift) -> None:
    job.records = [*FIRST, {"id": "text"}]
    with pytest.raises(SchemaMismatch, match='the value "text" of column id does not fit'):
        job.run(policy, on_error="fail")
    assert [row["id"] for row in job.table()] == [1, 2]
    assert job.run(policy).rejects == 1
    assert [row["id"] for row in job.table()] == [1, 2]
    assert [letter["record"] for letter in job.letters()] == [{"id": "text"}]


def bigquery(job: Job, servers: GoogleServers) -> str:
    table = f"{PROJECT}.{servers.new_dataset()}.t"
    job.warehouse = {"type": "bigquery", "table": table, "location": LOCATION}
    return table


def rows_of(servers: GoogleServers, table: str) -> list[dict[str, Any]]:
    with closing(servers.bigquery_client()) as client:
        rows = [dict(row) for row in client.list_rows(table, timeout=30)]
    return sorted(rows, key=lambda row: int(row["id"]))


def test_the_policies_are_the_same_before_bigquery(job: Job, google_environment: GoogleServers) -> None:
    table = bigquery(job, google_environment)
    result = job.run("freeze")
    assert result.rejects == 1
    assert [row["id"] for row in rows_of(google_environment, table)] == [1, 2, 4]
    assert "field new and 1 more" in job.letters()[0]["reason"]
    job.records = [*DRIFTING, {"id": 5, "newer": 1}]
    assert job.run("ignore").ignored == 1
    assert rows_of(google_environment, table)[-1] == {"id": 5, "who": None}


def test_a_type_that_changes_is_a_dead_letter_before_bigquery(
    job: Job, google_environment: GoogleServers
) -> None:
    table = bigquery(job, google_environment)
    job.records = [*FIRST, {"id": "text"}, {"id": 6.0}, {"id": 7.5}]
    assert job.run("evolve").rejects == 2
    assert [row["id"] for row in rows_of(google_environment, table)] == [1, 2, 6]
    assert [letter["record"]["id"] for letter in job.letters()] == ["text", 7.5]


OLDER = [{"id": 1, "v": "old"}, {"id": 2, "v": "old"}]
DATED = [{"id": 1, "v": "younger", "at": 5}, {"id": 1, "v": "older", "at": 3}]


@pytest.mark.parametrize("policy", ["ignore", "freeze"])
def test_the_time_by_which_rows_are_merged_is_never_left_out(job: Job, policy: str) -> None:
    job.records = [*OLDER, *DATED, {"id": 2, "v": "new", "at": 1, "more": 1}]
    assert job.warehouse is not None
    job.warehouse |= {"disposition": "merge", "key": ["id"], "updated_at": "at"}
    result = job.run(policy)
    assert (result.rejects, result.ignored) == ((0, 1) if policy == "ignore" else (1, 0))
    assert [row["v"] for row in job.table()] == ["younger", "new" if policy == "ignore" else "old"]
    assert "more" not in job.table()[0]


def test_a_name_that_bigquery_forbids_is_one_that_is_never_left_out() -> None:
    gate = DriftGate("ignore", KNOWN, None, dialect=BIGQUERY, needed=["the-id"])
    assert gate.admit({"the-id": 1, "other-id": 2}) == {"the-id": 1}


def test_a_key_that_the_table_has_no_column_for_is_never_left_out(job: Job) -> None:
    with duckdb.connect(str(job.folder / "w.duckdb")) as warehouse:
        warehouse.execute("CREATE TABLE t (v VARCHAR)")
    job.records = [*OLDER, {"id": 1, "v": "new", "more": 1}]
    assert job.warehouse is not None
    job.warehouse |= {"disposition": "merge", "key": ["id"]}
    assert job.run("ignore").ignored == 1
    assert job.table() == [{"v": "new", "id": 1}, {"v": "old", "id": 2}]


def test_the_time_by_which_rows_are_merged_is_never_left_out_before_bigquery(
    job: Job, google_environment: GoogleServers
) -> None:
    bigquery(job, google_environment)
    assert job.warehouse is not None
    job.warehouse |= {"disposition": "merge", "key": ["id"], "updated_at": "at"}
    job.records = [*OLDER, *DATED]
    job.warehouse["schema"] = {"id": "INTEGER", "v": "STRING"}
    assert job.run("ignore").ignored == 0
