"""Whole jobs over HTTP: faults, kills, a content far larger than memory."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import duckdb
import pytest
from http_sources import source
from pulling import compress, ndjson

import etl
from etl.errors import SourceCorrupt, SourceError, SourceMissing, SourceRefused, SourceUnavailable
from tests import forks
from tests.web import Answer, Request, WebServer, ranged

URLS = 6
RECORDS = {
    f"/{number}": [{"id": number * 1000 + index, "name": f"é {index}"} for index in range(200)]
    for number in range(1, URLS + 1)
}
CONTENTS = {path: compress(ndjson(records), "gzip") for path, records in RECORDS.items()}
EXPECTED = sorted(record["id"] for records in RECORDS.values() for record in records)


def pipeline(directory: Path, url: str, **more: Any) -> etl.Pipeline:
    return etl.Pipeline(
        "job",
        source=source(url + "/{1..6}", format="ndjson", **more),
        sink={"type": "reused_file", "path": str(directory / "out.ndjson")},
        warehouse={"type": "duckdb", "path": str(directory / "warehouse.duckdb"), "table": "rows"},
        checkpoint=directory / "job.checkpoint.json",
        part_records=70,
    )


def loaded(directory: Path) -> list[int]:
    with duckdb.connect(str(directory / "warehouse.duckdb"), read_only=True) as warehouse:
        return [number for (number,) in warehouse.execute("SELECT id FROM rows ORDER BY id").fetchall()]


@pytest.mark.parametrize("seed", range(3))
def test_a_job_with_faults_on_its_way_loads_each_record_once(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    trouble: dict[str, int] = dict.fromkeys(CONTENTS, 3)

    def answer(request: Request) -> Answer:
        content = CONTENTS[request.path]
        made = ranged(request, content, etag='"one"')
        assert isinstance(made.body, bytes)
        if not trouble[request.path]:
            return made
        trouble[request.path] -= 1
        kind = chance.randrange(5)
        if kind == 0:
            return Answer(status=500)
        if kind == 1:
            return Answer(status=429, headers={"Retry-After": "0"})
        if kind == 2:  # no ranges this time
            made = Answer(headers={"ETag": '"one"'}, body=content)
        return replace(made, cut_after=chance.randrange(len(made.body)), reset=kind == 3)  # type: ignore[arg-type]  # it has one

    with WebServer(answer) as server:
        result = pipeline(tmp_path, server.url).run()
        assert result.records == len(EXPECTED)
        assert loaded(tmp_path) == EXPECTED
        assert pipeline(tmp_path, server.url).run().records == 0


def test_a_job_that_waits_for_a_url_ends_in_order_and_goes_on_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "etl.sources")
    published = {"/1", "/2"}

    def answer(request: Request) -> Answer:
        return ranged(request, CONTENTS[request.path]) if request.path in published else Answer(status=404)

    with WebServer(answer) as server:
        assert pipeline(tmp_path, server.url, on_missing="wait").run().records == 400
        assert f"{server.url}/3 is not there yet: the run ends before it" in caplog.text
        published.update(CONTENTS)
        assert pipeline(tmp_path, server.url, on_missing="wait").run().records == 800
    assert loaded(tmp_path) == EXPECTED


def run(directory: Path, url: str) -> None:
    pipeline(directory, url).run()


@pytest.mark.slow
def test_a_job_killed_while_bytes_come_loads_each_record_once(tmp_path: Path) -> None:
    chance = random.Random(11)
    child: list[BaseProcess] = []
    started = threading.Event()
    killed_at = [0]  # after so many bytes more; 0: not at all

    def pieces(content: bytes) -> Iterator[bytes]:
        for begin in range(0, len(content), 16):
            if killed_at[0] > 0:
                killed_at[0] -= 16
                if killed_at[0] <= 0:
                    assert started.wait(600)
                    child[-1].kill()
            yield content[begin : begin + 16]

    def answer(request: Request) -> Answer:
        made = ranged(request, CONTENTS[request.path], etag='"one"')
        assert isinstance(made.body, bytes)
        headers = {**made.headers, "Content-Length": str(len(made.body))}
        return replace(made, headers=headers, body=pieces(made.body))

    total = sum(map(len, CONTENTS.values()))
    kills = 0
    with WebServer(answer) as server:
        while True:
            killed_at[0] = chance.randrange(1, total // 4) if kills < 12 else 0
            started.clear()
            child.append(forks.FORKS.Process(target=run, args=(tmp_path, server.url)))
            child[-1].start()
            started.set()
            child[-1].join()
            if child[-1].exitcode != -signal.SIGKILL:
                assert child[-1].exitcode == 0
                break
            kills += 1
    assert kills >= 3
    assert loaded(tmp_path) == EXPECTED


PULL = """
import json, re, sys
from pathlib import Path
from etl.sources import Http

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

early, late = int(sys.argv[2]), int(sys.argv[3])
samples, records = [], 0
for item in Http(sys.argv[1]).pull(None):
    if item.__class__ is dict:
        records += 1
        if records in (early, late):
            samples.append(resident())
print(json.dumps([records, *samples]))
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_gibibytes_of_gzip_take_no_more_memory_than_a_hundred_mebibytes() -> None:
    chance = random.Random(5)
    lines = ndjson(
        [{"id": number, "text": base64.b64encode(chance.randbytes(12_000)).decode()} for number in range(87)]
    )
    member = gzip.compress(lines, 1)
    members = (2 << 30) // len(member)
    length = {"Content-Length": str(members * len(member))}
    with WebServer(lambda _: Answer(headers=length, body=itertools.repeat(member, members))) as server:
        early, late = 87 * (100 << 20) // len(member), 87 * members
        command = [sys.executable, "-c", PULL, server.url + "/large.ndjson.gz", str(early), str(late)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    records, before, after = json.loads(done.stdout)
    assert records == late
    assert after < before * 1.05, f"{before} KiB after 100 MiB, {after} KiB after 2 GiB"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("asked", ["Retry-After", "a pause"])
def test_a_job_that_is_stopped_while_its_source_waits_ends_at_once(tmp_path: Path, asked: str) -> None:
    jobs: list[etl.Pipeline] = []

    def answer(request: Request) -> Answer:
        if request.path == "/4" and jobs:
            jobs.pop().stop("SIGTERM")
            if asked == "Retry-After":
                return Answer(status=503, headers={"Retry-After": "3600"})
            return Answer(status=503)
        return ranged(request, CONTENTS[request.path], etag='"one"')

    with WebServer(answer) as server:
        limits = {"deadline": 4000.0} if asked == "Retry-After" else {"requests_per_second": 100.0}
        first = pipeline(tmp_path, server.url, **limits)
        jobs.append(first)
        result = first.run()
        assert result.stopped == "SIGTERM"
        assert loaded(tmp_path) == EXPECTED[:600]
        assert pipeline(tmp_path, server.url, **limits).run().records == 600
    assert loaded(tmp_path) == EXPECTED


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (Answer(status=404), SourceMissing),
        (Answer(status=403), SourceRefused),
        (Answer(status=503), SourceUnavailable),
    ],
)
def test_what_was_taken_before_a_url_that_cannot_be_had_is_kept(
    tmp_path: Path, trouble: Answer, error: type[SourceError]
) -> None:
    broken = True

    def answer(request: Request) -> Answer:
        if request.path == "/4" and broken:
            return trouble
        return ranged(request, CONTENTS[request.path], etag='"one"')

    with WebServer(answer) as server:
        for _ in range(2):
            with pytest.raises(error):
                pipeline(tmp_path, server.url, deadline=0.2).run()
            assert loaded(tmp_path) == EXPECTED[:600]
        broken = False
        assert pipeline(tmp_path, server.url).run().records == 600
    assert loaded(tmp_path) == EXPECTED


def test_what_may_be_wrong_is_not_kept(tmp_path: Path) -> None:
    def answer(request: Request) -> Answer:
        made = ranged(request, CONTENTS[request.path], etag='"one"')
        wrong = {"Content-MD5": base64.b64encode(b"0" * 16).decode()} if request.path == "/4" else {}
        return replace(made, headers={**made.headers, **wrong})

    with WebServer(answer) as server, pytest.raises(SourceCorrupt):
        pipeline(tmp_path, server.url).run()
    assert loaded(tmp_path) == EXPECTED[:770]


def test_a_sample_of_a_source_that_cannot_be_had_is_an_error(tmp_path: Path) -> None:
    def answer(request: Request) -> Answer:
        if request.path == "/2":
            return Answer(status=404)
        return ranged(request, CONTENTS[request.path], etag='"one"')

    with WebServer(answer) as server, pytest.raises(SourceMissing):
        pipeline(tmp_path, server.url).check(500)
