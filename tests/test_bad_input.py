"""Bad input, each with a clear error and nothing lost: what is loaded stays, and mended, the job goes on."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

import etl
from etl.errors import CheckpointCorrupt, CheckpointTooNew, EtlError, RecordError, SinkFailed, SourceError
from tests import jobs

COUNT = 2000
GOOD = b"".join(b'{"number":%d,"text":"%s"}\n' % (number, b"x" * 60) for number in range(COUNT))
LINES = GOOD.splitlines(keepends=True)
CSV = b"number,text\n" + b"".join(b"%d,%s\n" % (number, b"x" * 60) for number in range(COUNT))


def with_line(number: int, line: bytes) -> bytes:
    return b"".join([*LINES[:number], line + b"\n", *LINES[number + 1 :]])


CASES = {
    "a truncated gzip": (
        "in.ndjson.gz",
        gzip.compress(GOOD)[:-2000],
        gzip.compress(GOOD),
        SourceError,
        "cut short|ends",
    ),
    "broken UTF-8": (
        "in.ndjson",
        with_line(1500, b'{"number": 1500, "text": "\xff"}'),
        GOOD,
        RecordError,
        "line 1501.*UTF-8",
    ),
    "no JSON": ("in.ndjson", with_line(1500, b'{"number": 1500'), GOOD, RecordError, "line 1501.*no JSON"),
    "a scalar": (
        "in.ndjson",
        with_line(1500, b"1500"),
        GOOD,
        RecordError,
        "line 1501.*not an object but a number",
    ),
    "too many fields": (
        "in.csv",
        CSV.replace(b"\n1500,", b"\n1500,y,"),
        CSV,
        RecordError,
        "line 1502.*fields",
    ),
}


def job(directory: Path, name: str, *, sink: dict = jobs.SINKS["reused_file"], **changes) -> etl.Pipeline:
    source = {"type": "files", "paths": str(directory / name)}
    return jobs.pipeline(
        directory, sink, **{"source": source, "transforms": [], "part_records": 400, **changes}
    )


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_named_and_when_it_is_mended_the_table_is_exact(tmp_path, case):
    name, bad, good, error, message = CASES[case]
    (tmp_path / name).write_bytes(bad)
    with pytest.raises(error, match=message) as caught:
        job(tmp_path, name).run()
    assert name in str(caught.value)
    loaded = jobs.loaded(tmp_path)
    assert sorted(loaded) == list(range(len(loaded)))
    assert len(loaded) >= 800
    (tmp_path / name).write_bytes(good)
    job(tmp_path, name).run()
    assert sorted(jobs.loaded(tmp_path)) == list(range(COUNT))


@pytest.mark.parametrize("case", [case for case in CASES if case != "a truncated gzip"])
def test_with_reject_a_bad_line_is_a_dead_letter_with_its_text(tmp_path, case):
    name, bad, *_ = CASES[case]
    (tmp_path / name).write_bytes(bad)
    assert job(tmp_path, name, on_error="reject").run().rejects == 1
    assert sorted(jobs.loaded(tmp_path)) == [number for number in range(COUNT) if number != 1500]
    [letter] = jobs.lines(list(tmp_path.glob("job-rejects-*")))
    assert "1500" in letter["record"]
    assert letter["number"] == 1501


def test_an_empty_file_is_no_records_and_no_error(tmp_path):
    (tmp_path / "in.ndjson").write_bytes(b"")
    result = job(tmp_path, "in.ndjson").run()
    assert (result.records, result.stopped) == (0, None)


def test_a_file_that_vanished_is_named_and_put_back_the_job_goes_on(tmp_path):
    path = tmp_path / "in.ndjson"
    path.write_bytes(with_line(1500, b"{"))
    with pytest.raises(RecordError):
        job(tmp_path, "in.ndjson").run()
    path.unlink()
    with pytest.raises(SourceError, match=r"in\.ndjson"):
        job(tmp_path, "in.ndjson").run()
    path.write_bytes(GOOD)
    job(tmp_path, "in.ndjson").run()
    assert sorted(jobs.loaded(tmp_path)) == list(range(COUNT))


@pytest.mark.parametrize("what", ["sink", "checkpoint", "warehouse"])
def test_an_output_directory_that_cannot_be_written_to_is_named(tmp_path, what):
    (tmp_path / "in.ndjson").write_bytes(GOOD)
    (tmp_path / "file").write_text("in the way")
    inside = str(tmp_path / "file" / "x.ndjson")
    changes = {
        "sink": {"sink": {"type": "reused_file", "path": inside}},
        "checkpoint": {"checkpoint": inside},
        "warehouse": {"warehouse": {"type": "duckdb", "path": inside, "table": "t"}},
    }
    with pytest.raises(EtlError, match="file") as caught:
        job(tmp_path, "in.ndjson", **changes[what]).run()
    assert what != "sink" or isinstance(caught.value, SinkFailed)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda text: json.dumps({**json.loads(text), "version": 99}), CheckpointTooNew),
        (lambda text: text[: len(text) // 2], CheckpointCorrupt),
        (lambda text: "", CheckpointCorrupt),
        (lambda text: json.dumps({**json.loads(text), "state": 7}), CheckpointCorrupt),
    ],
)
def test_a_checkpoint_that_cannot_be_read_stops_the_job_and_is_left_as_it_is(tmp_path, change, error):
    (tmp_path / "in.ndjson").write_bytes(GOOD)
    job(tmp_path, "in.ndjson").run()
    checkpoint = tmp_path / "job.checkpoint.json"
    good = checkpoint.read_text()
    checkpoint.write_text(change(good))
    with pytest.raises(error, match=r"job\.checkpoint\.json"):
        job(tmp_path, "in.ndjson").run()
    assert checkpoint.read_text() == change(good)
    checkpoint.write_text(good)
    assert job(tmp_path, "in.ndjson").run().records == 0
    assert sorted(jobs.loaded(tmp_path)) == list(range(COUNT))


@pytest.mark.parametrize("key", [None, float("nan"), {}, [1]])
def test_with_reject_a_record_that_cannot_be_merged_is_a_dead_letter(tmp_path, key):
    job = etl.Pipeline(
        "job",
        source=lambda: iter([{"id": 1.5, "v": "a"}, {"id": key, "v": "b"}]),
        sink={"type": "reused_file", "path": str(tmp_path / "job.ndjson")},
        warehouse={
            "type": "duckdb",
            "path": str(tmp_path / "w.duckdb"),
            "table": "t",
            "disposition": "merge",
            "key": ["id"],
        },
        checkpoint=tmp_path / "job.checkpoint.json",
        on_error="reject",
    )
    result = job.run()
    assert (result.records, result.rejects) == (1, 1)
