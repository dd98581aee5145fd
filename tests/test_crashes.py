"""Stop the job at every system call that changes a file, one after the other, and go on from what is there then.

Of one sink the job is killed at each of them besides, and of all of them by `make test-exhaustive`.

The table, the dead letters and the files that are left must be the truth each time, record by record.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from etl.warehouses.duckdb import file as duckdb_file
from tests import jobs
from tests.crash_points import EXHAUSTIVE, tried
from tests.stopping import snapshots
from tests.tracing import KILLED_OR_DONE, calls_in, killing_at, strace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

# Killing at the entry of a call is killing after the one before it: both sides of each are covered.
CALLS = "write,pwrite64,writev,fsync,fdatasync,ftruncate,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir"

# The cases of one job are dealt out to the test runner's processes.
SHARES, KILL_SHARES = 2, 4

KILLED = [
    "numbered_chunks",
    *([sink for sink in jobs.SINKS if sink != "numbered_chunks"] if EXHAUSTIVE else []),
]


@pytest.fixture
def directory():
    """A directory in memory where there is one: a killed process loses nothing that an fsync would have saved."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as name:
        yield Path(name)


def traced(work: Path, calls: str, *options: str) -> tuple[str, ...]:
    """Write the command that traces `calls` into a log beside `work`."""
    return strace(Path(f"{work}.strace"), calls, *options)


def prepare(work: Path, only: tuple[str, ...]) -> None:
    """Make the job's directory; where loads are looked at, with a database, so that they make the first calls."""
    work.mkdir()
    if only:
        duckdb_file.ensure(work / jobs.WAREHOUSE)


def recorded(directory: Path, sink: str) -> list[tuple[str, int]]:
    """Run the job once; return each call with its number among its like, as strace counts: per thread and name."""
    work = directory / "recorded"
    work.mkdir()
    done = jobs.run(work, sink, under=traced(work, CALLS))
    assert done.returncode == 0, done.stderr
    return calls_in(Path(f"{work}.strace"))


def kill_at_each(directory: Path, sink: str, share: int) -> None:
    """Kill the job at each call, really: as many runs as there are calls."""
    cases = recorded(directory, sink)
    if sink == KILLED[0]:
        tried(f"{sink} killed at a call", len(cases))
    for name, n in cases[share::KILL_SHARES]:
        work = directory / f"{name}-{n}"
        work.mkdir()
        # A thread may come to a call that it did not come to before; a case that is not reached is a plain run.
        done = jobs.run(work, sink, under=traced(work, name, killing_at(name, n)))
        assert done.returncode in KILLED_OR_DONE, done.stderr
        jobs.pipeline(work, jobs.SINKS[sink]).run()
        jobs.assert_exactly_once(work, sink)
        shutil.rmtree(work)


def go_on_from_each(
    directory: Path, family: str, sink: str, share: int, only: tuple[str, ...] = (), *, change: str = ""
) -> None:
    """Go on from what the job leaves behind at each call."""
    work = directory / "work"
    prepare(work, only)
    copies, calls = snapshots(work, CALLS, only, (share, SHARES), jobs.run_here, work, sink, change)
    tried(family, calls)
    for left in copies:
        shutil.rmtree(work)
        left.rename(work)  # the paths are part of the job's definition
        jobs.pipeline(work, jobs.SINKS[sink], **jobs.CHANGES[change]).run()
        jobs.assert_exactly_once(work, sink, change)


@pytest.mark.parametrize("share", range(KILL_SHARES))
@pytest.mark.parametrize("sink", KILLED)
def test_killed_at_any_call_of_its_main_thread_the_job_goes_on_exactly_once(directory, sink, share):
    kill_at_each(directory, sink, share)


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("sink", jobs.SINKS)
def test_from_what_it_left_at_any_call_the_job_goes_on_exactly_once(directory, sink, share):
    go_on_from_each(directory, f"{sink} stopped at a call", sink, share)


@pytest.mark.parametrize("share", range(SHARES))
def test_from_what_it_left_at_any_call_of_a_load_the_job_goes_on_exactly_once(directory, share):
    only = (jobs.WAREHOUSE, f"{jobs.WAREHOUSE}.wal")
    go_on_from_each(directory, "a load stopped at a call", "reused_file", share, only)


@pytest.mark.parametrize("share", range(SHARES))
def test_stopped_while_records_that_do_not_fit_become_dead_letters_each_is_one_once(directory, share):
    go_on_from_each(directory, "misfits stopped at a call", "numbered_chunks", share, change="misfits")
