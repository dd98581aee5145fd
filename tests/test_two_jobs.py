"""Two jobs that could be taken for one: the same name, checkpoint, output, table or source, in each combination.

What would take the other's ledger, checkpoint, parts or dead letters is refused; all else loads every record of both.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import duckdb
import pytest

import etl
from etl.errors import ConfigError, DefinitionChanged, SinkFailed

FIRST, SECOND = [0, 1, 2], [10, 11, 12]


def source(numbers: list[int]) -> Any:
    def pull(cursor: Any = None) -> Any:
        for at in range(cursor or 0, len(numbers)):
            yield {"n": numbers[at]}
            yield etl.Mark(at + 1)

    pull.__qualname__ = f"pull_from_{numbers[0]}"
    return pull


def job(folder: Path, **changes: Any) -> etl.Pipeline:
    definition: dict[str, Any] = {
        "name": "job",
        "source": source(FIRST),
        "checkpoint": folder / "job.json",
        "sink": {"type": "numbered_chunks", "path": str(folder / "out" / "job.ndjson")},
        "warehouse": {"type": "duckdb", "path": str(folder / "w.duckdb"), "table": "t"},
        "rejects": {"type": "null"},
        "part_records": 2,
    }
    definition |= changes
    return etl.Pipeline(definition.pop("name"), **definition)


def table(folder: Path, name: str = "t") -> list[int]:
    with duckdb.connect(str(folder / "w.duckdb"), read_only=True) as database:
        return sorted(n for (n,) in database.execute(f"FROM {name}").fetchall())


def others(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what the second job has of its own."""
    return {
        "name": {"name": "other"},
        "checkpoint": {"checkpoint": folder / "other.json"},
        "sink": {"sink": {"type": "numbered_chunks", "path": str(folder / "out" / "other.ndjson")}},
        "table": {"warehouse": {"type": "duckdb", "path": str(folder / "w.duckdb"), "table": "other"}},
        "source": {"source": source(SECOND)},
    }


WAYS = ("name", "checkpoint", "sink", "table", "source")
CELLS = [of for count in range(len(WAYS) + 1) for of in itertools.combinations(WAYS, count)]


def expected(own: tuple[str, ...]) -> Any:
    """Return the error of the second job; None: it runs, and loads all of its own; "goes on": it is the first one."""
    if "checkpoint" not in own:
        if "name" in own:
            return DefinitionChanged, "is the checkpoint of the job 'job', not of 'other'"
        if "table" in own or "source" in own:
            return DefinitionChanged, "changed: its (source|destination) was"
        return "goes on"
    if "sink" not in own:
        return (
            SinkFailed,
            "stands where job '(job|other)' would write, and its checkpoint .* does not know it",
        )
    if "name" not in own and "table" not in own:
        what = (
            "its source was"
            if "source" in own
            else "with another checkpoint, .*job.json; this one, .*other.json"
        )
        return DefinitionChanged, what
    return None


@pytest.mark.parametrize("own", CELLS, ids=[" ".join(own) or "nothing" for own in CELLS])
def test_of_two_jobs_that_differ_in(tmp_path: Path, own: tuple[str, ...]) -> None:
    assert job(tmp_path).run().records == 3
    chunks = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    changes: dict[str, Any] = {}
    for way in own:
        changes |= others(tmp_path)[way]
    second = job(tmp_path, **changes)
    outcome = expected(own)
    if outcome == "goes on":
        assert second.run().records == 0
    elif outcome is None:
        assert second.run().records == 3
        there = SECOND if "source" in own else FIRST
        assert table(tmp_path, "other" if "table" in own else "t") == (
            there if "table" in own else sorted([*FIRST, *there])
        )
    else:
        kind, words = outcome
        for _ in range(2):
            with pytest.raises(kind, match=words):
                second.run()
        assert table(tmp_path) == FIRST
    assert {path: path.read_bytes() for path in chunks} == chunks
    if own == (
        "sink",
    ):  # it is the first job, whose output was moved on: what it wrote before is not its own now
        with pytest.raises(SinkFailed, match="stands where"):
            job(tmp_path).run()
    else:
        assert job(tmp_path).run().records == 0


def test_a_job_begun_in_another_directory_is_refused_until_the_other_checkpoint_is_moved_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        monkeypatch.chdir(folder)
        second = job(tmp_path, checkpoint=None, sink={"type": "reused_file", "path": "job.ndjson"})
        if folder == here:
            assert second.run().records == 3
    with pytest.raises(DefinitionChanged, match="move that file away"):
        second.run()
    (here / "job.checkpoint.json").rename(here / "aside")
    said: list[str] = []
    assert second.run(listeners=[lambda event: said.append(getattr(event, "message", ""))]).records == 0
    assert any(
        "is new, but the ledger of" in text and "has 3 records of job 'job', in" in text for text in said
    )
    assert table(tmp_path) == FIRST


def test_a_job_begun_through_a_link_to_its_directory_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to("here")
    for folder, records in (
        (tmp_path / "here", 3),
        (tmp_path / "link", 0),
        (tmp_path / "link" / ".." / "here", 0),
    ):
        monkeypatch.chdir(folder)
        pipeline = job(folder, checkpoint=None, sink={"type": "reused_file", "path": "job.ndjson"})
        assert pipeline.run().records == records
    assert table(tmp_path / "here") == FIRST


SINK = {"type": "numbered_chunks", "path": "out/job.ndjson"}


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("rejects", {"rejects": {**SINK, "path": "out/../out/job.ndjson"}}),
        ("rejects", {"sink": {**SINK, "keep": False}, "rejects": SINK}),
        ("rejects", {"rejects": {**SINK, "path": "link/job.ndjson"}}),
        ("sink", {"sink": {"type": "reused_file", "path": "job.json"}}),
        ("sink", {"sink": {"type": "big_file", "path": "./link/../w.duckdb"}, "format": "ndjson"}),
        ("warehouse", {"warehouse": {"type": "duckdb", "path": "job.json", "table": "t"}}),
    ],
)
def test_a_job_that_would_write_to_one_file_in_two_ways_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, changes: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    Path("link").symlink_to("out")
    with pytest.raises(ConfigError, match=f"^{what}: it "):
        job(tmp_path, **{"sink": SINK, **changes})
