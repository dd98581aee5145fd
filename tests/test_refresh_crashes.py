"""Kill jobs that replace and merge at every system call that changes a file, and run them again.

A table that is replaced holds the old content or the new one whenever a job was killed, nothing else; the job then goes
on to exactly the new one, and the run after it replaces that. Its form stays as it was.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from tests import refresh_jobs as jobs
from tests.jobs import WAREHOUSE
from tests.tracing import KILLED_OR_DONE, calls_in, killing_at, strace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

# As in tests/test_crashes.py: killing at the entry of a call is killing after the one before it.
CALLS = "write,pwrite64,writev,fsync,fdatasync,ftruncate,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir"
SHARES = 4
OLD, NEW, NEXT = 1, 2, 3


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


def kill_at_each(directory: Path, way: str, share: int, only: tuple[str, ...] = ()) -> None:
    """Kill the second run of a job at each call; the first one has filled the table."""
    work, filled = directory / "work", directory / "filled"
    work.mkdir()
    jobs.run(work, way, OLD, first=True)
    old, new, form = end(way, OLD), end(way, NEW), jobs.form(work)
    assert jobs.found(work) == old
    work.rename(filled)  # and back for each case: the paths are part of the job's definition
    shutil.copytree(filled, work)
    done = jobs.start(work, way, NEW, under=traced(work, only, CALLS))
    assert done.returncode == 0, done.stderr
    assert jobs.found(work) == new
    cases = calls_in(Path(f"{work}.strace"))
    assert len(cases) > 15, f"only {cases} were seen: is the pattern of calls still right?"
    for name, n in cases[share::SHARES]:
        shutil.rmtree(work)
        shutil.copytree(filled, work)
        # A thread may come to a call that it did not come to before; a case that is not reached is a plain run.
        done = jobs.start(work, way, NEW, under=traced(work, only, name, killing_at(name, n)))
        assert done.returncode in KILLED_OR_DONE, done.stderr
        if way in jobs.IN_ONE_STEP:
            assert jobs.found(work) in (old, new)
        assert jobs.form(work) == form
        jobs.go_on(work, way, NEW)
        if jobs.found(work) == old and way in jobs.ASKED_FOR:
            jobs.run(work, way, NEW)  # it was killed before the checkpoint said what was asked for
        assert jobs.found(work) == new
        assert not [table for table in jobs.tables(work) if table.startswith("_etl_refresh_")]
        assert_letters(work, way)
        jobs.run(work, way, NEXT)
        assert jobs.found(work) == end(way, NEXT)
        assert jobs.form(work) == form


def end(way: str, version: int) -> list[jobs.Row]:
    """Return what the table holds after the run of a version."""
    return jobs.expected(way, *(range(1, version + 1) if way == "merge" else [version]))


def assert_letters(work: Path, way: str) -> None:
    """Each record that was rejected is in the dead letters once for each time that all of the source was pulled."""
    once = list(range(7, jobs.RECORDS, 20))
    assert jobs.letters(work, OLD) == once
    # A run that was killed when it had done all there is to do is replaced by the one after it.
    assert jobs.letters(work, NEW) in ((once, sorted(once * 2)) if way == "replace" else (once,))


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("way", ["replace", "full refresh"])
def test_killed_at_any_call_of_its_main_thread_the_job_goes_on(directory, way, share):
    kill_at_each(directory, way, share)


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("way", ["replace", "merge", "merge refreshed"])
def test_killed_at_any_call_that_changes_the_warehouse_the_job_goes_on(directory, way, share):
    kill_at_each(directory, way, share, (WAREHOUSE, f"{WAREHOUSE}.wal"))
