"""Jobs in processes of their own: signals, two at once, a half-dead twin."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import jobs

# A job whose source says on its standard output where it is, and waits for a line on its standard input.
STEPS = """
import sys
from pathlib import Path
import etl
from tests import jobs

directory, sink, stops = Path(sys.argv[1]), jobs.SINKS[sys.argv[2]], {int(n) for n in sys.argv[3].split(",")}

def pull(cursor=None):
    for item in jobs.pull(cursor):
        if isinstance(item, dict) and item["number"] in stops:
            print("at", item["number"], flush=True)
            sys.stdin.readline()
        yield item

pull.__qualname__ = "pull"
try:
    result = jobs.pipeline(directory, sink, source=pull, part_records=60).run(wait="wait" in sys.argv)
except etl.errors.Fenced as error:
    print("fenced", error, flush=True)
    sys.exit(3)
print("records", result.records, flush=True)
sys.exit(75 if result.stopped else 0)
"""


class Step:
    """A job that can be let run up to some records."""

    def __init__(self, directory: Path, *stops: int, sink: str = "reused_file", wait: bool = False) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", STEPS, str(directory), sink, ",".join(map(str, stops)) or "-1"]
            + (["wait"] if wait else []),
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        """Wait for what it says next."""
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> int:
        """Wait for its end; return its exit code."""
        self.out, self.err = self.process.communicate(timeout=600)
        return self.process.returncode


@pytest.fixture
def step(tmp_path):
    started = []

    def start(*stops, **options):
        started.append(Step(tmp_path, *stops, **options))
        return started[-1]

    yield start
    for job in started:
        if job.process.poll() is None:
            job.process.kill()
        job.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("sink", jobs.SINKS)
def test_a_signal_seals_and_commits_the_part_and_the_next_run_takes_nothing_twice(
    tmp_path, step, sink, number
):
    job = step(100, sink=sink)
    assert job.line() == "at 100"
    os.kill(job.process.pid, number)
    job.go_on()
    assert job.end() == 75, job.err
    checkpoint = jobs.pipeline(tmp_path, jobs.SINKS[sink]).read_checkpoint()
    assert checkpoint.clean
    assert not checkpoint.finished
    assert checkpoint.state.position.number == 101
    assert not checkpoint.outstanding
    assert sorted(jobs.loaded(tmp_path)) == [n for n in range(101) if n % 20 != 7]
    jobs.pipeline(tmp_path, jobs.SINKS[sink]).run()
    jobs.assert_exactly_once(tmp_path, sink)


def test_a_second_signal_interrupts_at_once_and_the_next_run_goes_on(tmp_path, step):
    job = step(100)
    assert job.line() == "at 100"
    os.kill(job.process.pid, signal.SIGINT)
    os.kill(job.process.pid, signal.SIGTERM)
    assert job.end() != 0
    assert "KeyboardInterrupt" in job.err
    jobs.pipeline(tmp_path, jobs.SINKS["reused_file"]).run()
    jobs.assert_exactly_once(tmp_path, "reused_file")


def test_of_two_processes_at_once_one_wins_and_the_other_is_fenced(tmp_path, step):
    first = step(100)
    assert first.line() == "at 100"
    second = step()
    assert second.end() == 3
    assert f"process {first.process.pid}" in second.out
    first.go_on()
    assert first.end() == 0, first.err
    jobs.assert_exactly_once(tmp_path, "reused_file")


def test_the_other_waits_when_it_is_asked_to_and_then_finds_nothing_to_do(tmp_path, step):
    first = step(100)
    assert first.line() == "at 100"
    second = step(wait=True)
    first.go_on()
    assert first.end() == 0, first.err
    assert second.end() == 0, second.err
    assert "records 0" in second.out
    jobs.assert_exactly_once(tmp_path, "reused_file")


@pytest.mark.parametrize(
    "sink", ["reused_file", "reused_file_one_slot", "numbered_chunks", "numbered_chunks_not_kept"]
)
def test_a_half_dead_twin_that_lost_its_lock_is_fenced_and_harms_nothing(tmp_path, step, sink):
    # As on another machine: the lock of the first is gone, its process goes on later.
    twin = step(100, sink=sink)
    assert twin.line() == "at 100"
    (tmp_path / ".job.checkpoint.json.lock").unlink()
    copy = (tmp_path / jobs.WAREHOUSE).read_bytes()
    (tmp_path / jobs.WAREHOUSE).unlink()
    (tmp_path / jobs.WAREHOUSE).write_bytes(copy)
    successor = step(200, sink=sink)
    assert successor.line() == "at 200"
    twin.go_on()
    assert twin.end() == 3, twin.err
    assert "taken over by" in twin.out
    successor.go_on()
    assert successor.end() == 0, successor.err
    jobs.assert_exactly_once(tmp_path, sink)
