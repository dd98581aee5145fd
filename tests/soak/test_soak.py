"""Many runs of a job, most of them killed: its table is exact, and nothing that is kept grows with the runs.

`make soak` does the same for a quarter of an hour.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import forks
from tests.soak.accounts import problems
from tests.soak.jobs import JOBS
from tests.soak.one_process import many_into_duckdb, many_without_a_warehouse
from tests.soak.running import MEMORY, soak

pytestmark = pytest.mark.volume


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """Return a directory where a sync takes no time: what is killed here is a process, not the machine."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        yield Path(directory)


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_a_job_that_is_killed_again_and_again_stays_exact_and_keeps_nothing(job, in_memory):
    soaked = soak(job, in_memory / "job", 1, rounds=14)
    assert soaked.compared >= 2
    assert problems(soaked) == []


@pytest.mark.slow
def test_ten_thousand_runs_in_one_process_leave_it_as_it_was(in_memory, tmp_path):
    said = run_alone(tmp_path / "report", many_without_a_warehouse, in_memory)
    before, after = said["before"], said["after"]
    assert (said["records"], said["failed"]) == (9_990, 1_429)
    assert (after["descriptors"], after["threads"]) == (before["descriptors"], before["threads"])
    assert after["checkpoint"] <= before["checkpoint"] + 100
    # Less than a kilobyte a run: of a process that was forked, more and more pages are its own.
    assert after["resident"] <= before["resident"] + 7 * 2**20
    assert len([path.name for path in in_memory.iterdir() if "rejects" in path.name]) == 10
    assert len(list(in_memory.iterdir())) == 11


@pytest.mark.parametrize("disposition", ["append", "merge", "replace"])
def test_runs_into_duckdb_leave_their_process_and_the_ledger_as_they_were(disposition, in_memory, tmp_path):
    said = run_alone(tmp_path / "report", many_into_duckdb, disposition, in_memory)
    for name in ("descriptors", "threads", "rows of the ledger"):
        assert said["after"][name] == said["before"][name]


def run_alone(report: Path, function: Callable[..., None], *arguments: object) -> dict[str, Any]:
    """Call a function in a process of its own; return what it reported."""
    ended = forks.run(function, *arguments, report)
    assert ended.returncode == 0, ended.stderr
    said: dict[str, Any] = json.loads(report.read_text())
    return said
