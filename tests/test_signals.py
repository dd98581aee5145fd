"""A signal at any point of the process `etl`: from its first line, through a run, to the interpreter's own end."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl.interrupts import SIGNALS, stopped_by_signals

ROOT = Path(__file__).parent.parent
ETL = [sys.executable, "-m", "etl"]

MODULE = """
import os, sys, time

def pull(cursor=None):
    for number in range(cursor or 0, 30):
        yield {"number": number}

def waiting(cursor=None):
    yield {"number": 0}
    open("ready", "x").close()
    sys.stdin.readline()  # a signal does not end it
    yield {"number": 1}
"""

JOB = """
name = "numbers"
part_records = 20
source = {{function = "counting:{source}"}}
sink = {{type = "big_file", path = "out.ndjson"}}
"""

# Calls of the system at which a signal may come: the first of them open what is imported.
CALLS = ("openat", "read", "write", "fsync", "flock", "rt_sigaction", "munmap")


def fill(folder: Path, source: str = "pull") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "counting.py").write_text(MODULE)
    (folder / "job.toml").write_text(JOB.format(source=source))
    return folder


def traced(folder: Path, *strace: str) -> subprocess.CompletedProcess[str]:
    """Run the job under strace; its main thread alone is looked at."""
    return subprocess.run(
        ["strace", "-o", str(folder / "trace"), *strace, *ETL, "run", "job.toml"],
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module", autouse=True)
def hang_up_as_in_a_terminal() -> Iterator[None]:
    """Give SIGHUP its usual effect, which the processes of these tests inherit: under nohup it is ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, int]]:
    """Return the calls of a run from its first line to its end: each by its name and number."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    folder = fill(tmp_path_factory.mktemp("signals") / "all")
    done = traced(folder, "-e", f"trace={','.join(CALLS)}")
    assert done.returncode == 0, done.stderr
    counts: Counter[str] = Counter()
    found = []
    begun = False
    for line in (folder / "trace").read_text().splitlines():
        name = line.partition("(")[0]
        counts[name] += 1
        begun = begun or re.match(r"rt_sigaction\(SIGTERM, \{sa_handler=0x", line) is not None
        if begun and name in CALLS:
            found.append((name, counts[name]))
    return found


# The beginning, where the imports are, and what comes after the run: the interpreter's end.
PLACES = [*(number / 12 for number in range(12)), *range(-6, 0)]


@pytest.mark.parametrize("place", PLACES)
def test_a_signal_at_any_point_ends_the_process_in_order_or_comes_too_late(
    tmp_path: Path, points: list[tuple[str, int]], place: float
) -> None:
    call, number = points[int(place if place < 0 else place * len(points))]
    name = SIGNALS[PLACES.index(place) % len(SIGNALS)].name
    folder = fill(tmp_path / "job")
    done = traced(folder, "-e", f"trace={call}", "-e", f"inject={call}:signal={name}:when={number}")
    finished = "numbers: finished" in done.stderr
    assert done.returncode == (0 if finished else 75), (call, number, done.stderr)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    assert finished or name in done.stderr or "interrupted; " in done.stderr


def test_the_first_thing_that_the_process_does_is_to_handle_signals() -> None:
    script = (
        "import sys; import etl.__main__; print(*(name for name in sys.modules if name.startswith('etl')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split() == ["etl", "etl.interrupts", "etl.__main__"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"etl": "etl.__main__:main"}


@pytest.fixture
def start(tmp_path: Path):
    """Give what starts a job that waits in its source, and returns when it does."""
    started = []

    def start(*arguments: str, ready: bool = True, **options: object) -> subprocess.Popen[str]:
        folder = fill(tmp_path / "job", "waiting")
        options = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        process = subprocess.Popen([*ETL, "run", "job.toml", *arguments], cwd=folder, **options)
        started.append(process)
        while ready and not (folder / "ready").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_ends_the_wait_for_another_process_at_once(start, number: signal.Signals) -> None:
    first = start()
    second = start("--wait", ready=False)
    until = time.monotonic() + 60
    while "nanosleep" not in Path(f"/proc/{second.pid}/wchan").read_text():  # between two looks at the lock
        assert second.poll() is None, second.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)
    second.send_signal(number)
    _, said = second.communicate(timeout=60)
    assert second.returncode == 75
    assert "Traceback" not in said
    assert first.poll() is None


def test_a_run_whose_terminal_is_closed_stops_in_order(start, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()

    def lead() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    job = start(stdout=theirs, stderr=theirs, preexec_fn=lead, env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    os.close(ours)
    job.communicate("\n", timeout=60)
    assert job.returncode == 75
    assert (tmp_path / "job" / "out.ndjson").read_text() == '{"number":0}\n{"number":1}\n'


def test_a_hang_up_that_is_ignored_stays_ignored(start) -> None:
    job = start(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    job.send_signal(signal.SIGHUP)
    job.communicate("\n", timeout=60)
    assert job.returncode == 0


POOLED = """
import multiprocessing, os, signal

def square(number):
    return number * number

def pooled(records):
    with multiprocessing.get_context("fork").Pool(2) as pool:  # which ends its workers with SIGTERM
        for record in records:
            yield {"number": pool.apply(square, (record["number"],))}

def hung_up(records):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for record in records:
            if record["number"] == 5:
                os.killpg(0, SIGNAL)  # as a terminal does: to its workers, too
            yield {"number": pool.apply(square, (record["number"],))}
"""


@pytest.mark.parametrize("rows", [1, 20])
def test_the_workers_of_a_pool_end_when_the_pool_does(tmp_path: Path, rows: int) -> None:
    done = run_pooled(tmp_path, "pooled", "SIGTERM", rows)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out.ndjson").read_text().count("\n") == 30


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_what_a_terminal_sends_to_all_lets_the_workers_of_a_pool_end_their_work(
    tmp_path: Path, name: str
) -> None:
    done = run_pooled(tmp_path, "hung_up", name, 20)
    assert done.returncode == 75
    assert "Traceback" not in done.stderr
    lines = (tmp_path / "out.ndjson").read_text().splitlines()
    assert lines == [f'{{"number":{number * number}}}' for number in range(len(lines))]
    assert 5 <= len(lines) < 30


def run_pooled(folder: Path, transform: str, name: str, rows: int) -> subprocess.CompletedProcess[str]:
    """Run a job whose transform has a pool for each part, in a group of processes of its own."""
    fill(folder)
    (folder / "pooling.py").write_text(POOLED.replace("SIGNAL", f"signal.{name}"))
    toml = JOB.format(source="pull").replace("= 20", f"= {rows}")
    (folder / "job.toml").write_text(f'transforms = ["pooling:{transform}"]\n{toml}')
    with subprocess.Popen(
        [*ETL, "run", "-q", "job.toml"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as job:
        try:
            _, said = job.communicate(timeout=60)
        finally:
            if job.poll() is None:
                os.killpg(job.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(job.args, job.returncode, stderr=said)


def test_a_child_gets_what_handled_signals_before_the_run() -> None:
    def mine(_number: int, _frame: object) -> None:
        os._exit(3)

    before = signal.signal(signal.SIGTERM, mine)
    try:
        with stopped_by_signals(lambda _name: None):
            child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
            child.start()
            child.terminate()
            child.join(60)
        assert child.exitcode == 3
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)
        child.kill()
