"""A disk that fails at any call of the hygiene: the part fails, nothing sealed is lost, the next run goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import etl
from tests import jobs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("strace"),
]

MIB = 1 << 20
RECORDS = 36_000  # 35 MiB in parts of 16 MiB, with windows of 8 MiB


def pull(cursor: int | None = None):
    for number in range(cursor or 0, RECORDS):
        if number % 100 == 0:
            yield etl.Mark(number)
        yield {"number": number, "text": "x" * 1000}


def pipeline(directory: Path, sink: str, policy: str) -> etl.Pipeline:
    table = {**jobs.SINKS[sink], "policy": policy}
    changes = {"source": pull, "transforms": [], "part_bytes": 16 * MIB, "memory": 256 * MIB}
    return jobs.pipeline(directory, table, **changes)


SCRIPT = """
import sys
from pathlib import Path
from tests.test_disk_errors import pipeline
pipeline(Path(sys.argv[1]), *sys.argv[2:]).run()
"""


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize(
    ("sink", "policy", "call", "most"),
    [
        ("numbered_chunks", "write_behind", "sync_file_range", 40),
        ("big_file", "fdatasync", "fdatasync", 4),
        ("big_file", "direct", "pwrite64", 30),
    ],
)
def test_the_part_fails_and_the_next_run_has_each_record_once(
    on_disk: Path, tmp_path: Path, sink: str, policy: str, call: str, most: int, error: str
) -> None:
    injected = failed = 0
    for n in sorted({1, 2, most // 2, most}):
        work, log = on_disk / f"{n}", tmp_path / f"{n}.log"
        work.mkdir()
        only = ("-P", f"{work}/out/job.ndjson") if sink == "big_file" else ()
        under = ("strace", "-f", "-qq", "-o", log, *only, f"--trace={call}")
        done = subprocess.run(
            [
                *under,
                f"--inject={call}:error={error}:when={n}",
                sys.executable,
                "-c",
                SCRIPT,
                work,
                sink,
                policy,
            ],
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        injected += "(INJECTED)" in log.read_text()
        if done.returncode:
            failed += 1
            assert "SinkFailed" in done.stderr or "NoSpace" in done.stderr, done.stderr
            assert f"{work}/out/" in done.stderr
            pipeline(work, sink, policy).run()
        assert sorted(jobs.loaded(work)) == list(range(RECORDS))
        written = jobs.lines([path for path in (work / "out").iterdir() if path.is_file()])
        assert sorted(record["number"] for record in written) == list(range(RECORDS))
    assert injected, "no call was reached"
    assert failed or error == "ENOSPC"  # upon which the job goes on with smaller parts
