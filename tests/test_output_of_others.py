"""What stands where a job would write is its own, or nobody touches it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import etl
from etl.errors import EtlError, SinkFailed
from tests.jobs import SINKS

RECORDS = 1_000


class Failing:
    """A source that cannot be had until it is told that it can; or that ends the process."""

    identity = "failing"

    def __init__(self, how: str = "") -> None:
        self.how = how

    def pull(self, cursor: int | None = None) -> Any:
        if self.how == "killed":
            os._exit(0)
        if self.how == "fails":
            raise OSError("not yet")
        for number in range(cursor or 0, 20):
            yield {"number": number}
        yield etl.Mark(20)


def job(folder: Path, name: str, kind: str, source: Any, **options: Any) -> etl.Pipeline:
    """Define a job of that name; all write to one place."""
    definition: dict[str, Any] = {
        "source": source,
        "sink": {**SINKS[kind], "path": str(folder / SINKS[kind]["path"])},
        "checkpoint": folder / f"{name}.json",
        "part_records": 400,
    }
    if kind in ("reused_file", "numbered_chunks_not_kept"):
        definition["warehouse"] = {"type": "duckdb", "path": str(folder / f"{name}.duckdb"), "table": "t"}
    return etl.Pipeline(name, **{**definition, **options})


def run(pipeline: etl.Pipeline) -> None:
    """Run a job in a process of its own, in which it may be killed."""
    if not (child := os.fork()):
        try:
            pipeline.run(handle_signals=False)
        except EtlError:
            os._exit(0)
        os._exit(0)
    os.waitpid(child, 0)


def output(folder: Path) -> dict[str, bytes]:
    """Return all that stands where the jobs write."""
    return {path.name: path.read_bytes() for path in (folder / "out").iterdir() if path.is_file()}


def others(folder: Path, kind: str) -> dict[str, bytes]:
    """Let another job write its output there."""
    lasting = {"numbered_chunks_not_kept": "numbered_chunks", "reused_file": "big_file"}.get(kind, kind)
    sink = {**SINKS[lasting], "path": str(folder / SINKS[kind]["path"])}
    numbers = lambda: ({"number": number} for number in range(RECORDS))  # noqa: E731
    job(folder, "other", lasting, numbers, sink=sink).run()
    return output(folder)


@pytest.mark.parametrize("how", ["fails", "killed"])
@pytest.mark.parametrize("kind", ["numbered_chunks", "numbered_chunks_not_kept", "big_file", "reused_file"])
def test_a_job_that_ended_before_its_first_part_leaves_alone_what_another_one_wrote_since(
    tmp_path: Path, kind: str, how: str
) -> None:
    run(job(tmp_path, "job", kind, Failing(how)))
    written = others(tmp_path, kind)
    assert sum(map(len, written.values())) > RECORDS
    for _ in range(2):
        with pytest.raises(SinkFailed, match="stands where job 'job' would write"):
            job(tmp_path, "job", kind, Failing()).run()
        assert output(tmp_path) == written


@pytest.mark.parametrize("how", ["fails", "killed"])
@pytest.mark.parametrize("kind", ["numbered_chunks", "numbered_chunks_not_kept", "big_file", "reused_file"])
def test_a_job_that_ended_before_its_first_part_goes_on_where_nobody_wrote(
    tmp_path: Path, kind: str, how: str
) -> None:
    run(job(tmp_path, "job", kind, Failing(how)))
    assert job(tmp_path, "job", kind, Failing()).run().records == 20


@pytest.mark.parametrize("kind", ["numbered_chunks_not_kept", "reused_file"])
def test_a_job_whose_files_are_scratch_leaves_alone_what_another_one_wrote_after_it_was_done(
    tmp_path: Path, kind: str
) -> None:
    job(tmp_path, "job", kind, Failing()).run()
    written = others(tmp_path, kind)
    for _ in range(2):
        with pytest.raises(SinkFailed, match="stands where job 'job' would write"):
            job(tmp_path, "job", kind, Failing()).run()
        assert output(tmp_path) == written


def test_chunks_of_another_job_are_left_alone_where_a_job_s_own_were_moved_away(tmp_path: Path) -> None:
    job(tmp_path, "job", "numbered_chunks", Failing()).run()
    (tmp_path / "out").rename(tmp_path / "kept")
    written = others(tmp_path, "numbered_chunks")
    assert len(written) == 3
    for _ in range(2):
        with pytest.raises(SinkFailed, match=r"job-000001.ndjson is not what this job wrote"):
            job(tmp_path, "job", "numbered_chunks", Failing()).run()
        assert output(tmp_path) == written


@pytest.mark.parametrize("how", ["fails", "killed"])
def test_dead_letters_of_another_job_are_left_alone_too(tmp_path: Path, how: str) -> None:
    letters = {"type": "numbered_chunks", "path": str(tmp_path / "out" / "letters.ndjson")}
    run(job(tmp_path, "job", "reused_file", Failing(how), rejects=letters))
    other = {**SINKS["numbered_chunks"], "path": letters["path"]}
    written = None
    numbers = lambda: ({"number": number} for number in range(RECORDS))  # noqa: E731
    job(tmp_path, "other", "numbered_chunks", numbers, sink=other).run()
    written = output(tmp_path)
    with pytest.raises(SinkFailed, match="stands where job 'job' would write"):
        job(tmp_path, "job", "reused_file", Failing(), rejects=letters).run()
    assert output(tmp_path) == written
