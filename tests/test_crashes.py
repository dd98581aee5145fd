"""Kill the job at every system call that changes a file, one after the other, and run it again.

The table, the dead letters and the files that are left must be the truth each time, record by record.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from etl.warehouses.duckdb import file as duckdb_file
from tests import jobs
from tests.tracing import KILLED_OR_DONE, calls_in, killing_at, strace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

# Killing at the entry of a call is killing after the one before it: both sides of each are covered.
CALLS = "write,pwrite64,writev,fsync,fdatasync,ftruncate,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir"

# The cases of one job are dealt out to the test runner's processes.
SHARES = 4


@pytest.fixture
def directory():
    """A directory in memory where there is one: a killed process loses nothing that an fsync would have saved."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as name:
        yield Path(name)


def traced(work: Path, only: tuple[str, ...], calls: str, *options: str) -> tuple[str, ...]:
    """Write the command that traces `calls`, of those that touch `only` if it is given, into a log beside `work`."""
    paths = [word for name in only for word in ("-P", str(work / name))]
    return strace(Path(f"{work}.strace"), calls, *paths, *options)


def prepare(work: Path, only: tuple[str, ...]) -> None:
    """Make the job's directory; where loads are looked at, with a database, so that they make the first calls."""
    work.mkdir()
    if only:
        duckdb_file.ensure(work / jobs.WAREHOUSE)


def recorded(directory: Path, sink: str, only: tuple[str, ...], change: str) -> list[tuple[str, int]]:
    """Run the job once; return each call with its number among its like, as strace counts: per thread and name."""
    work = directory / "recorded"
    prepare(work, only)
    done = jobs.run(work, sink, change, under=traced(work, only, CALLS))
    assert done.returncode == 0, done.stderr
    return calls_in(Path(f"{work}.strace"))


def kill_at_each(
    directory: Path, sink: str, share: int, only: tuple[str, ...] = (), *, change: str = ""
) -> None:
    cases = recorded(directory, sink, only, change)
    assert len(cases) > 15, f"only {cases} were seen: is the pattern of calls still right?"
    for name, n in cases[share::SHARES]:
        work = directory / f"{name}-{n}"
        prepare(work, only)
        # A thread may come to a call that it did not come to before; a case that is not reached is a plain run.
        done = jobs.run(work, sink, change, under=traced(work, only, name, killing_at(name, n)))
        assert done.returncode in KILLED_OR_DONE, done.stderr
        jobs.pipeline(work, jobs.SINKS[sink], **jobs.CHANGES[change]).run()
        jobs.assert_exactly_once(work, sink, change)
        shutil.rmtree(work)


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("sink", jobs.SINKS)
def test_killed_at_any_call_of_its_main_thread_the_job_goes_on_exactly_once(directory, sink, share):
    kill_at_each(directory, sink, share)


@pytest.mark.parametrize("share", range(SHARES))
def test_killed_at_any_call_of_a_load_the_job_goes_on_exactly_once(directory, share):
    kill_at_each(directory, "reused_file", share, (jobs.WAREHOUSE, f"{jobs.WAREHOUSE}.wal"))


@pytest.mark.parametrize("share", range(SHARES))
def test_killed_while_records_that_do_not_fit_become_dead_letters_each_is_one_once(directory, share):
    kill_at_each(directory, "numbered_chunks", share, change="misfits")
