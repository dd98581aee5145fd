"""Kill jobs at random, and run them again until they are finished: the table must hold each record once, each time.

The jobs run in processes that are forked from one that has everything imported (`tests.forks`), so that a run takes
little more than its work.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import etl
from tests import forks
from tests.web import Answer, Request, WebServer, ranged

# How often each job is killed. Those of a file over HTTP and of rows without a key have more tests elsewhere.
KILLS = {"pages": 200, "files": 200, "http": 60, "pages without a key": 60}
JOBS = 6  # at least so many jobs share them
RECORDS = [{"id": number, "text": f"record {number} é " + "x" * (number % 50)} for number in range(400)]
PAGE = 30


def serve(request: Request) -> Answer:
    """Serve the records in pages, and as a compressed file."""
    if request.path == "/rows":
        begin = int(request.query["offset"])
        page = RECORDS[begin : begin + min(int(request.query["limit"]), PAGE)]
        return Answer(headers={"Content-Type": "application/json"}, body=json.dumps({"rows": page}).encode())
    half = len(RECORDS) // 2
    first = request.path == "/a.ndjson.gz"
    return ranged(request, packed(RECORDS[:half] if first else RECORDS[half:]), etag='"1"')


def packed(records: list[dict[str, Any]]) -> bytes:
    """Write records as compressed NDJSON, always the same."""
    return gzip.compress(b"".join(json.dumps(record).encode() + b"\n" for record in records), mtime=0)


def sources(url: str, files: Path) -> dict[str, dict[str, Any]]:
    """Return the source of each job."""
    return {
        "pages": {
            "type": "pages",
            "url": f"{url}/rows",
            "style": "offset",
            "records": "rows",
            "page_size": PAGE,
            "key": ["id"],
        },
        "pages without a key": {
            "type": "pages",
            "url": f"{url}/rows",
            "style": "offset",
            "records": "rows",
            "page_size": PAGE,
        },
        "files": {"type": "files", "paths": str(files / "*")},
        "http": {"type": "http", "urls": [f"{url}/a.ndjson.gz", f"{url}/b.ndjson.gz"]},
    }


def run(directory: Path, source: dict[str, Any]) -> None:
    """Run the job on the files in `directory`."""
    with (directory / "errors.txt").open("a") as errors:
        os.dup2(errors.fileno(), 2)
    etl.Pipeline(
        "job",
        source=source,
        sink={"type": "reused_file", "path": f"{directory}/job.ndjson"},
        warehouse={"type": "duckdb", "path": f"{directory}/job.duckdb", "table": "records"},
        checkpoint=f"{directory}/job.checkpoint.json",
        part_records=70,
    ).run()


def loaded(directory: Path) -> list[dict[str, Any]]:
    """Return the records in the table."""
    import duckdb

    with duckdb.connect(str(directory / "job.duckdb"), read_only=True) as warehouse:
        rows = warehouse.execute("SELECT id, text FROM records ORDER BY id").fetchall()
    return [{"id": number, "text": text} for number, text in rows]


def run_for(directory: Path, source: dict[str, Any], seconds: float) -> tuple[int | None, float]:
    """Run the job, and kill it after so many seconds; returns how it ended, and after how many seconds."""
    process = forks.FORKS.Process(target=run, args=(directory, source))
    began = time.monotonic()
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    code = process.exitcode
    process.close()
    return code, time.monotonic() - began


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory in memory where there is one: a killed process loses nothing that an fsync would have saved."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as name:
        yield Path(name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KILLS)
def test_a_job_that_is_killed_at_random_goes_on_exactly_once(directory: Path, kind: str) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    files = directory / "files"
    files.mkdir()
    for number, name in enumerate(["a.ndjson.gz", "b.ndjson", "c.json"]):
        share = RECORDS[number::3]
        data = packed(share) if name.endswith("gz") else b"\n".join(json.dumps(one).encode() for one in share)
        (files / name).write_bytes(data if number < 2 else json.dumps(share).encode())
    killed = jobs = 0
    kills = KILLS[kind]
    with WebServer(serve) as server:
        source = sources(server.url, files)[kind]
        took: list[float] = []  # by the runs that were not killed, as this machine goes at present
        for name in ("one", "two", "three"):
            (directory / name).mkdir()
            code, seconds = run_for(directory / name, source, 60)
            took.append(seconds)
            assert (code, loaded(directory / name)) == (0, RECORDS)
        while killed < kills:
            work = directory / f"job-{jobs}"
            work.mkdir()
            jobs += 1
            # No job takes more than its share: where the machine has become slower than `took` says, each run is
            # killed before it gets anywhere.
            last = min(kills, killed + kills // JOBS)
            runs = 0
            while True:
                longest = statistics.median(took[-5:]) * 1.2
                code, seconds = run_for(work, source, chance.uniform(0, longest) if killed < last else 60)
                runs += 1
                if code == 0:
                    took.append(seconds)
                    break
                assert code == -signal.SIGKILL, (
                    f"seed {seed}, job {jobs}: {(work / 'errors.txt').read_text()}"
                )
                killed += 1
            assert loaded(work) == RECORDS, f"seed {seed}, job {jobs}, after {runs} runs"
            shutil.rmtree(work)
    assert killed == kills
    assert jobs >= JOBS
