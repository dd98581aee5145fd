"""A job whose source would read what the job itself writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import etl
from etl.errors import SinkFailed

SINKS: dict[str, dict[str, Any]] = {
    "big_file": {"type": "big_file", "path": "data/job.ndjson"},
    "numbered_chunks": {"type": "numbered_chunks", "path": "data/job.ndjson"},
    "reused_file": {"type": "reused_file", "path": "data/job.ndjson"},
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.ndjson").write_text("".join(f'{{"n": {n}}}\n' for n in range(10)))
    Path("link").symlink_to("data")
    return tmp_path


def job(paths: Any, sink: dict[str, Any], **more: Any) -> etl.Pipeline:
    warehouse = {"type": "duckdb", "path": "w.duckdb", "table": "t"}
    return etl.Pipeline(
        "job",
        source={"type": "files", "paths": paths},
        sink=sink,
        warehouse=warehouse if sink["type"] == "reused_file" else None,
        part_records=3,
        **more,
    )


@pytest.mark.parametrize(
    "paths", ["data", "data/*.ndjson", "**/*.ndjson", "link", ["data/a.ndjson", "link/*.ndjson"]]
)
@pytest.mark.parametrize("sink", SINKS)
def test_a_job_that_would_read_its_own_parts_is_refused_and_keeps_nothing(sink: str, paths: Any) -> None:
    with pytest.raises(SinkFailed, match=r"the source reads .*data/job.*, which sink writes.*another folder"):
        job(paths, SINKS[sink]).run()
    document = job(paths, SINKS[sink]).read_checkpoint()
    assert document is not None
    assert document.state.sequence == 0
    job(["data/a.ndjson"], SINKS[sink]).run()
    document = job(["data/a.ndjson"], SINKS[sink]).read_checkpoint()
    assert document is not None
    assert document.state.totals.records == 10


def test_a_job_that_would_read_its_own_dead_letters_is_refused() -> None:
    def rejecting(records: Any) -> Any:
        for record in records:
            yield etl.Reject(record, "odd") if record["n"] % 2 else record

    rejects = {"type": "numbered_chunks", "path": "data/rejects.ndjson"}
    sink = {"type": "big_file", "path": "out.ndjson"}
    with pytest.raises(SinkFailed, match="which rejects writes"):
        job("data", sink, rejects=rejects, transforms=[rejecting]).run()


@pytest.mark.parametrize("paths", ["data/a*.ndjson", ["data/a.ndjson"]])
def test_output_beside_the_input_is_right_where_the_pattern_leaves_it_out(paths: Any) -> None:
    assert job(paths, SINKS["big_file"]).run().records == 10
