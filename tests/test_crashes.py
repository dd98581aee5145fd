"""Kill the job at every system call that changes a file, one after the other, and run it again.

The table, the dead letters and the files that are left must be the truth each time, record by record.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from tests import jobs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

# Killing at the entry of a call is killing after the one before it: both sides of each are covered.
CALLS = "write,pwrite64,writev,fsync,fdatasync,ftruncate,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir"

# Each call is one case; they are dealt out to the test runner's processes.
SHARES = 3


@pytest.fixture
def directory():
    """A directory in memory where there is one: a killed process loses nothing that an fsync would have saved."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as name:
        yield Path(name)


def killed(directory: Path, sink: str, n: int, only: list[Path]) -> bool:
    """Run the job, kill it at its nth call (of those that touch `only`, if given); return whether it got there."""
    paths = [word for path in only for word in ("-P", str(path))]
    log = directory.with_name(f"{directory.name}.strace")
    strace = ("strace", "-f", "-qq", "-o", str(log), *paths, f"--trace={CALLS}")
    done = jobs.run(directory, sink, under=(*strace, f"--inject={CALLS}:signal=SIGKILL:when={n}"))
    log.unlink()
    assert done.returncode in (0, -signal.SIGKILL, 128 + signal.SIGKILL), done.stderr
    return done.returncode != 0


def kill_at_each(directory: Path, sink: str, share: int, only: tuple[str, ...] = ()) -> None:
    n = 1 + share
    died = True
    while died:
        work = directory / str(n)
        work.mkdir()
        died = killed(work, sink, n, [work / name for name in only])
        jobs.pipeline(work, jobs.SINKS[sink]).run()
        jobs.assert_exactly_once(work, sink)
        shutil.rmtree(work)
        n += SHARES
    assert n > SHARES * 5, f"only {n} calls were seen: is the pattern of calls still right?"


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("sink", jobs.SINKS)
def test_killed_at_any_call_of_its_main_thread_the_job_goes_on_exactly_once(directory, sink, share):
    kill_at_each(directory, sink, share)


@pytest.mark.parametrize("share", range(SHARES))
def test_killed_at_any_call_of_a_load_the_job_goes_on_exactly_once(directory, share):
    kill_at_each(directory, "reused_file", share, (jobs.WAREHOUSE, f"{jobs.WAREHOUSE}.wal"))
