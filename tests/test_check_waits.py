"""How long `etl check` waits for what does not answer, and that it refuses what every run would refuse."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from etl import config
from etl.cli import main
from etl.commands.patience import waiting_at_most
from etl.stores.gcs import GcsStore
from sinks import GcsStream

MERGED = {
    "DuckDB": 'type = "duckdb"\npath = "w.duckdb"\ntable = "t"\ndisposition = "merge"\nkey = ["id"]',
    "BigQuery": 'type = "bigquery"\ntable = "project.dataset.t"\nlocation = "EU"\ndisposition = "merge"\nkey = ["id"]',
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def port() -> Iterator[int]:
    """Give a port on which connections are taken, and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def check(text: str, *arguments: str) -> Result:
    Path("job.toml").write_text(text)
    return CliRunner().invoke(main, ["check", "job.toml", *arguments])


@pytest.mark.parametrize(
    "source",
    [
        'type = "http"\nurls = "{url}"',
        'type = "pages"\nurl = "{url}"\npage_size = 10\nstyle = "offset"\nrecords = "rows"',
    ],
    ids=["http", "pages"],
)
@pytest.mark.parametrize("answers", [False, True], ids=["a dead port", "a server that hangs"])
def test_a_server_without_an_answer_is_given_up_after_the_deadline(
    folder: Path, port: int, source: str, answers: bool
) -> None:
    url = f"http://127.0.0.1:{port if answers else 9}/a.ndjson"
    result = check(f'[source]\n{source.format(url=url)}\n[sink]\ntype = "null"\n', "--deadline", "0.5")
    assert result.exit_code == 1
    assert "etl check waits for 0.5 s; --deadline says for how long" in result.output


def test_no_table_of_a_job_file_waits_longer_than_it_is_told(folder: Path) -> None:
    Path("job.toml").write_text(
        '[source]\ntype = "http"\nurls = "http://127.0.0.1:9/"\ndeadline = 5\n'
        '[sink]\ntype = "gcs_stream"\nbucket = "bucket"\nprefix = "parts"\nkeep = true\ndeadline = 600\n'
        '[checkpoint]\nuri = "gs://bucket/c.json"\n'
        '[rejects]\ntype = "gcs_stream"\nbucket = "bucket"\nprefix = "rejects"\nkeep = true\n'
    )
    limited = waiting_at_most(config.read("job.toml"), 7)
    assert limited.source["deadline"] == 5
    assert limited.source["read_timeout"] == 7
    pipeline = limited.pipeline()
    assert isinstance(pipeline.store, GcsStore)
    assert pipeline.store.deadline == 7
    for sink in (pipeline.sink, pipeline.rejects):
        assert isinstance(sink, GcsStream)
        assert sink.deadline == 7


def test_a_deadline_that_is_no_number_keeps_its_message(folder: Path) -> None:
    result = check(
        '[source]\ntype = "http"\nurls = "http://127.0.0.1:9/"\ndeadline = "soon"\n[sink]\ntype = "null"\n'
    )
    assert result.exit_code == 2
    assert "source.deadline" in result.output


def merged(records: list[dict[str, Any]], warehouse: str, on_error: str) -> Result:
    Path("data.ndjson").write_text("".join(json.dumps(record) + "\n" for record in records))
    return check(
        f'on_error = "{on_error}"\n[source]\ntype = "files"\npaths = "data.ndjson"\n'
        f'[sink]\ntype = "numbered_chunks"\npath = "job.ndjson"\n[warehouse]\n{MERGED[warehouse]}\n'
    )


@pytest.mark.parametrize("warehouse", MERGED)
@pytest.mark.parametrize("bad", [{"a": 3}, {"id": None}, {"id": [1]}, {"id": {"a": 1}}])
def test_a_record_without_a_key_to_merge_by_is_an_error_wherever_it_stands(
    folder: Path, warehouse: str, bad: dict[str, Any]
) -> None:
    result = merged([{"id": 1, "a": 2}, bad, {"id": 3, "a": 4}], warehouse, "fail")
    assert result.exit_code == 1
    assert "a run would stop at record 2: the key of the table is id, and id is missing" in result.output
    assert "is right" not in result.output


@pytest.mark.parametrize("warehouse", MERGED)
def test_where_such_records_are_rejected_it_is_told(folder: Path, warehouse: str) -> None:
    result = merged([{"id": 1}] + [{"a": 2}] * 12, warehouse, "reject")
    assert result.exit_code == 0
    assert "warning: record 2: the key of the table is id" in result.output
    assert "it becomes a dead letter" in result.output
    assert "and 2 more records are refused, too" in result.output
