"""A job that the tests run in processes of its own, and the truth to compare with.

It has small parts, so that few records make many.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import etl
from tests import forks

RECORDS = 360
FEW = 130

SINKS: dict[str, dict[str, Any]] = {
    "reused_file": {"type": "reused_file", "path": "out/job.ndjson"},
    "reused_file_one_slot": {"type": "reused_file", "path": "out/job.ndjson", "slots": 1},
    "numbered_chunks": {"type": "numbered_chunks", "path": "out/job.ndjson"},
    "numbered_chunks_not_kept": {"type": "numbered_chunks", "path": "out/job.ndjson", "keep": False},
    "big_file": {"type": "big_file", "path": "out/job.ndjson"},
}

WAREHOUSE = "warehouse.duckdb"
TABLE = "numbers"


def pull(cursor: int | None = None) -> Any:
    """Yield records with a mark after every 50."""
    for number in range(cursor or 0, RECORDS):
        if number % 50 == 0:
            yield etl.Mark(number)
        yield {"number": number, "text": f"record {number} " + "x" * 80}


def transform(records: Any) -> Any:
    """Make one record of two, so that something is held, and reject every 20th."""
    held = None
    for record in records:
        if record["number"] % 20 == 7:
            yield etl.Reject(record, "a seven")
        elif held is None:
            held = record
        else:
            yield {**held, "pair": record["number"]}
            yield {**record, "pair": held["number"]}
            held = None
    if held is not None:
        yield {**held, "pair": None}


def pull_few(cursor: int | None = None) -> Any:
    """Yield the first records alone."""
    return (item for item in pull(cursor) if isinstance(item, etl.Mark) or item["number"] < FEW)


def misfit(records: Any) -> Any:
    """Make text of every 30th number, which the table does not take."""
    for record in records:
        yield {**record, "number": f"#{record['number']}"} if record["number"] % 30 == 11 else record


# What a job is defined with besides, by the word on the command line.
CHANGES: dict[str, dict[str, Any]] = {
    "": {},
    "misfits": {"source": pull_few, "transforms": [transform, misfit], "on_error": "reject"},
}


def pipeline(directory: Path, sink: dict[str, Any], **changes: Any) -> etl.Pipeline:
    """Define the job on the files in `directory`."""
    definition: dict[str, Any] = {
        "source": pull,
        "transforms": [transform],
        "sink": {**sink, "path": str(directory / sink["path"])},
        "warehouse": {"type": "duckdb", "path": str(directory / WAREHOUSE), "table": TABLE},
        "checkpoint": directory / "job.checkpoint.json",
        "part_bytes": 16 * 1024,
    }
    return etl.Pipeline("job", **{**definition, **changes})


def expected(change: str = "") -> set[int]:
    """Return the numbers that the table must hold, each once."""
    return {n for n in numbers(change) if n % 20 != 7 and not (change and n % 30 == 11)}


def rejected(change: str = "") -> set[int]:
    """Return the numbers that the dead letters must hold, each once."""
    return numbers(change) - expected(change)


def numbers(change: str = "") -> set[int]:
    """Return the numbers that the source has."""
    return set(range(FEW if change else RECORDS))


def loaded(directory: Path) -> list[int]:
    """Return the numbers that the table holds; [] where there is none yet."""
    import duckdb

    if not (directory / WAREHOUSE).exists():
        return []
    with duckdb.connect(str(directory / WAREHOUSE), read_only=True) as warehouse:
        if not warehouse.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = ?", [TABLE]).fetchall():
            return []
        return [row[0] for row in warehouse.execute(f"SELECT number FROM {TABLE}").fetchall()]


def lines(paths: list[Path]) -> list[dict[str, Any]]:
    """Return the records in NDJSON files."""
    return [json.loads(line) for path in sorted(paths) for line in path.read_bytes().splitlines()]


def assert_exactly_once(directory: Path, sink: str, change: str = "") -> None:
    """Compare the table, the dead letters and the files that are left with the truth, record by record."""
    assert sorted(loaded(directory)) == sorted(expected(change))
    letters = [letter["record"]["number"] for letter in lines(list(directory.glob("job-rejects-*.ndjson")))]
    assert sorted(int(str(number).removeprefix("#")) for number in letters) == sorted(rejected(change))
    output = [path for path in (directory / "out").iterdir() if path.is_file()]
    if sink in ("numbered_chunks", "big_file"):
        assert sorted(record["number"] for record in lines(output)) == sorted(expected(change))
    else:
        assert output == []
    hidden = [path.name for path in directory.rglob(".*")]
    assert hidden == [], f"temporary files are left: {hidden}"
    known = {WAREHOUSE, "job.checkpoint.json", "out"}
    stray = {path.name for path in directory.iterdir() if not path.name.startswith("job-rejects-")} - known
    assert stray == set()


def run(
    directory: Path, sink: str, change: str = "", *, under: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the job in a process of its own, `under` strace."""
    return forks.run(run_here, directory, sink, change, under=under)


def run_here(directory: Path, sink: str, change: str = "") -> None:
    """Run the job in this process."""
    pipeline(directory, SINKS[sink], **CHANGES[change]).run()
