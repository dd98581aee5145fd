"""Parts that a warehouse cannot read: what is known before is refused by name, the rest is given up and pulled again.

A part that is sealed and cannot be loaded would stop its job for good: no transform, and no later run, changes it.
"""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import etl
from etl.errors import PartTooLarge, RecordError
from tests.google import LOCATION, PROJECT, GoogleServers
from tests.odd_records import EVEN, ODD, RaisingDict, RaisingList, Unshown, nested
from tests.test_records_that_do_not_fit import FORMATS, Dying, Job, Killed

MEMORY = 256 << 20  # of which DuckDB gets 64 MiB

# Two of them in one part take more than that, as text of one column; one does not.
LARGE = 4 << 20


@pytest.mark.parametrize("format", FORMATS)
def test_each_record_that_cannot_be_read_is_a_dead_letter_and_all_others_are_rows(tmp_path, format):
    made = [(name, make()) for name, make in [*ODD.items(), *EVEN.items()]]
    if format == "parquet":  # which has no limit of lines
        made = [(name, record) for name, record in made if name != "a line of 33 MiB"]
    records: list[dict[Any, Any]] = [{"id": 0}]
    for name, record in made:
        records.append(record if name == "no fields" else {"id": len(records), **record})
        if name == "itself":
            record["id"] = len(records) - 1
            records[-1] = record
    records.append({"id": len(records)})
    job = Job(tmp_path, format=format, memory=MEMORY)
    result = job.run(records)
    letters = {letter["number"] - 1: letter["reason"] for letter in job.letters()}
    odd = {number for number, (name, _) in enumerate(made, 1) if name in ODD}
    assert set(letters) == odd, {
        ([("", 0), *made, ("last", 0)][n][0], letters.get(n)) for n in odd ^ set(letters)
    }
    assert result.records + result.rejects == len(records)
    assert job.sql("SELECT count(*) FROM t") == [(len(records) - len(odd),)]
    assert job.run(records).records == 0


@pytest.mark.parametrize("format", ["ndjson", "parquet"])
def test_what_is_nested_too_deep_is_said_with_its_path_and_its_limit(tmp_path, format):
    job = Job(tmp_path, format=format)
    job.run([{"id": 1, "v": {"w": nested(12, lists=True)}}, {"id": 2, "v": nested(120)}, {"id": 3}])
    lists, levels = (letter["reason"] for letter in job.letters())
    assert "v.w[][][]…[] is nested in more than 10 lists within each other" in lists
    assert 'declare v = "JSON"' in lists
    assert "v.a.a.a.a…" in levels
    assert "is nested in more than 100 levels" in levels
    assert "JSON" not in levels  # it would not help


DEEP = {"v": nested(12, lists=True, leaf=1.5)}
WIDE = {f"f{number}": number for number in range(900)}
LONG = {"v": ["x" * (9 << 20), "y" * (9 << 20)]}


def values(records: Any) -> Any:
    for record in records:
        yield {"id": record.pop("id"), "values": record}


def split(records: Any) -> Any:
    for record in records:
        for part in record["v"]:
            yield {"id": record["id"], "v": part}


@pytest.mark.parametrize(
    ("record", "said", "advice", "rows"),
    [
        (DEEP, 'declare v = "JSON"', {"table": {"schema": {"v": "JSON"}}}, 1),
        (DEEP, "make text of it", {"transforms": [etl.each(lambda r: {**r, "v": json.dumps(r["v"])})]}, 1),
        (WIDE, "put those whose names are data into one field", {"transforms": [values]}, 1),
        (WIDE, "give the job more memory", {"memory": 1 << 30}, 1),
        (LONG, "split it by a transform", {"transforms": [split], "memory": 1 << 30}, 2),
    ],
)
def test_what_a_refusal_says_to_do_lets_the_job_finish(tmp_path, record, said, advice, rows):
    job = Job(tmp_path, on_error="fail", memory=MEMORY)
    records = [{"id": 1, **record}]
    with pytest.raises(RecordError, match=said):
        job.run(records)
    job.run(records, **advice)
    assert job.sql("SELECT count(*) FROM t") == [(rows,)]


def large(count: int, *, size: int = LARGE) -> list[dict[str, Any]]:
    return [{"id": number, "v": "x" * size} for number in range(count)]


@pytest.mark.parametrize("format", FORMATS)
def test_records_that_take_too_much_together_are_pulled_again_in_smaller_parts_until_they_fit(
    tmp_path, format
):
    job = Job(tmp_path, format=format, on_error="fail", memory=MEMORY)
    assert job.run([{"id": -1}, *large(3), *large(3, size=15 << 20), {"id": 9}]).records == 8
    assert [row[0] for row in job.sql("SELECT id FROM t ORDER BY id")] == [-1, 0, 0, 1, 1, 2, 2, 9]
    assert job.pipeline([]).read_checkpoint().outstanding == ()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "advice",
    [{"memory": 0}, {"transforms": [etl.each(lambda r: {**r, "v": r.get("v", "")[:100]})]}],
    ids=["memory", "transform"],
)
def test_a_record_that_alone_takes_too_much_ends_the_run_with_the_memory_that_is_enough(
    tmp_path, format, advice
):
    size = (40 if format == "parquet" else 14) << 20  # which has no limit of lines
    job = Job(tmp_path, format=format, on_error="fail", memory=136 << 20 if format == "parquet" else 96 << 20)
    with pytest.raises(
        PartTooLarge, match=r"one record of .* give the job .*or split it in a transform"
    ) as caught:
        job.run([{"id": 0}, *large(1, size=size), {"id": 2}])
    found = re.search(r"give the job (\S+) (MiB|GiB)", str(caught.value))
    assert found
    enough = int(float(found[1]) * (1 << (20 if found[2] == "MiB" else 30)))
    if "memory" in advice:
        advice = {"memory": enough}
    assert job.pipeline([]).read_checkpoint().outstanding == ()
    job.run([{"id": 0}, *large(1, size=size), {"id": 2}], **advice)
    assert [row[0] for row in job.sql("SELECT id FROM t ORDER BY id")] == [0, 0, 2]


def test_records_that_are_too_large_together_are_loaded_apart_and_none_is_rejected(tmp_path):
    job = Job(tmp_path, memory=MEMORY)
    result = job.run([{"id": -1}, *large(3), {"id": 9}])
    assert (result.records, result.rejects) == (5, 0)
    assert [row[0] for row in job.sql("SELECT id FROM t ORDER BY id")] == [-1, 0, 1, 2, 9]


def test_a_record_that_alone_is_too_large_is_a_dead_letter(tmp_path):
    job = Job(tmp_path, memory=96 << 20)
    job.run([{"id": 0}, *({**r, "id": 1} for r in large(1, size=14 << 20)), {"id": 2}])
    assert [row[0] for row in job.sql("SELECT id FROM t ORDER BY id")] == [0, 2]
    (letter,) = job.letters()
    assert letter["number"] == 2
    assert "Out of Memory" in letter["reason"]


@pytest.mark.parametrize("on_error", ["fail", "reject"])
@pytest.mark.parametrize("format", ["ndjson.gz", "parquet"])
def test_a_part_sealed_with_more_memory_whose_commit_fails_is_asked_for_and_pulled_again(
    tmp_path, format, on_error
):
    records = large(70, size=1 << 20)
    job = Job(tmp_path, format=format, on_error=on_error, memory=2 << 30)
    dying = job.pipeline(records)
    dying.store = Dying(dying.store, 3, after=True)  # type: ignore[assignment]
    with pytest.raises(Killed):
        dying.run()
    (part,) = job.pipeline([]).read_checkpoint().outstanding
    assert part.records == 64
    job.run(records, memory=MEMORY)
    assert "failed to pin block" in job.notices[0]
    assert [row[0] for row in job.sql("SELECT id FROM t ORDER BY id")] == list(range(70))


def test_killed_while_a_part_is_given_up_each_record_is_in_one_place_once(tmp_path):
    records = [*large(2), {"id": 2, "v": {1}}, {"id": 3, "v": "x"}]
    crashes = 0
    for change in range(1, 100):
        directory = tmp_path / str(change)
        directory.mkdir()
        job = Job(directory, memory=MEMORY, part_records=3)
        dying = job.pipeline(records)
        dying.store = Dying(dying.store, change, after=change % 2 == 0)  # type: ignore[assignment]
        try:
            dying.run()
        except Killed:
            crashes += 1
        else:
            break
        job.run(records)
        assert [row[0] for row in job.sql("SELECT id FROM t ORDER BY id")] == [0, 1, 3], change
        assert [letter["number"] for letter in job.letters()] == [3], change
    assert crashes >= 8


PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(codec=None), max_size=5),
    st.binary(max_size=5),
    st.decimals(),
    st.datetimes(),
    st.times(),
    st.timedeltas(),
    st.builds(Unshown),
    st.sampled_from([-(2**70), {1}, int, 1j, nested(11, lists=True), nested(130)]),
    st.builds(pow, st.just(10), st.just(5000)),
)
NAMES = st.one_of(st.text(st.characters(codec=None), max_size=3), st.integers(0, 9), st.binary(max_size=2))
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(NAMES, inner, max_size=3),
        st.tuples(inner),
        st.builds(RaisingList, st.lists(inner, max_size=2)),
        st.builds(RaisingDict, st.dictionaries(st.text(max_size=2), inner, max_size=2)),
    ),
    max_leaves=6,
)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=4), min_size=1, max_size=8))
@pytest.mark.parametrize("format", ["ndjson", "parquet"])
def test_rows_and_dead_letters_are_all_records_whatever_they_hold(tmp_path_factory, format, odd):
    job = Job(tmp_path_factory.mktemp("odd"), "CREATE TABLE t (id INTEGER)", format=format)
    records = [{"id": number, **record} for number, record in enumerate(odd)]
    result = job.run(records)
    letters = [letter["number"] - 1 for letter in job.letters()]
    rows = [row[0] for row in job.sql("SELECT id FROM t")]
    assert sorted(rows + letters) == list(range(len(records)))
    assert (result.records, result.rejects) == (len(rows), len(letters))


@pytest.mark.parametrize("format", FORMATS)
def test_bigquery_takes_what_it_can_of_them(
    tmp_path: Path, google_environment: GoogleServers, google_servers: GoogleServers, format: str
) -> None:
    left_out = {"a line of 33 MiB"}  # which it takes
    records = [{"id": 0}]
    for name, make in ODD.items():
        record = make()
        record["id"] = len(records)
        records.append({"id": len(records)} if name in left_out else record)
    table = f"{PROJECT}.{google_servers.new_dataset()}.t"
    pipeline = etl.Pipeline(
        "job",
        source=lambda: iter(records),
        sink={"type": "reused_file", "path": str(tmp_path / "job.part")},
        warehouse={"type": "bigquery", "table": table, "location": LOCATION, "schema": {"id": "INTEGER"}},
        checkpoint=tmp_path / "job.checkpoint.json",
        format=format,
        on_error="reject",
    )
    result = pipeline.run()
    files = sorted(tmp_path.glob("job-rejects-*.ndjson"))
    letters = [json.loads(line)["number"] - 1 for path in files for line in path.read_bytes().splitlines()]
    with closing(google_environment.bigquery_client()) as client:
        rows = [row["id"] for row in client.list_rows(table, timeout=30)]
    if format != "parquet":  # which refuses some once others were taken, whose number they get
        assert sorted(rows + letters) == list(range(len(records)))
    assert len(set(rows)) + len(letters) == len(records)
    assert (result.records, result.rejects) == (len(rows), len(letters))
    assert len(rows) < 8
