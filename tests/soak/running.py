"""Run a job of the soak round by round; kill it now and then; compare its table after each run that ends."""

from __future__ import annotations

import collections
import json
import os
import random
import resource
import shutil
import signal
import statistics
import threading
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from etl.errors import Fenced
from tests import forks
from tests.soak.jobs import CHECKPOINT, DATABASE, Content, Job, found, is_rejected, letters, records

# How a run of the soak is ended from outside, and how often.
ENDINGS = {"left alone": 9, "SIGKILL": 6, "SIGTERM": 3, "SIGINT": 1, "a twin beside it": 1}

# Where there are files in memory, they are used: a kill loses nothing that was written.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None

# How the process of a run may end: by itself; stopped by a signal; refused because its twin has the job; killed.
DONE, STOPPED, REFUSED = 0, 75, 3
KILLED = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT}


@dataclass(frozen=True, slots=True)
class Kept:
    """What a job keeps between its runs, and what a process holds at the end of one.

    Args:
        files: all files but dead letters.
        checkpoint: its size in bytes.
        database: its size in bytes.
        descriptors: that are open.
        threads: that are alive.
        resident: the greatest resident memory so far, in bytes.
    """

    files: int
    checkpoint: int
    database: int
    descriptors: int
    threads: int
    resident: int


@dataclass
class Soak:
    """One job, run again and again in one directory.

    Args:
        job: the job.
        directory: an empty one.
        seed: of what is drawn; how far a run is when it is killed depends on the machine besides.
    """

    job: Job
    directory: Path
    seed: int
    content: Content = field(default=Content(records=400))
    endings: collections.Counter[str] = field(default_factory=collections.Counter)
    compared: int = 0
    kept: list[Kept] = field(default_factory=list)

    @property
    def rounds(self) -> int:
        return self.endings.total()

    def __post_init__(self) -> None:
        self._random = random.Random(f"{self.seed} {self.job.name}")
        self._seconds = [0.3]
        self._contents = [self.content]

    def round(self) -> None:
        """Run the job once, end it as is drawn, and compare the table if it came to its end."""
        ending = self._random.choices(list(ENDINGS), list(ENDINGS.values()))[0]
        codes = [self._wait(*started) for started in self._start(ending)]
        assert {DONE, STOPPED, REFUSED} | KILLED >= set(codes), self._said(codes)
        assert REFUSED not in codes or ending == "a twin beside it", self._said(codes)
        self.endings[ending] += 1
        if DONE in codes:
            self._compare()
            self._grow()

    def finish(self) -> None:
        """Run the job to its end, and compare."""
        assert self._wait(*self._process(0)) == DONE, self._said([])
        self._compare()

    def _start(self, ending: str) -> list[tuple[ForkServerProcess, float]]:
        """Start the run, and a twin where one is drawn; send it the signal that is drawn."""
        started = [self._process(number) for number in range(2 if "twin" in ending else 1)]
        if ending.startswith("SIG"):
            process, _ = started[0]
            process.join(self._random.uniform(0, 1.2) * statistics.median(self._seconds))
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, signal.Signals[ending])
        return started

    def _process(self, number: int) -> tuple[ForkServerProcess, float]:
        here, there = forks.FORKS.Pipe()
        process = forks.FORKS.Process(
            target=run, args=(there, self.job, self.directory, self.content, self._report(number))
        )
        process.start()
        there.close()
        here.recv()
        return process, time.monotonic()

    def _wait(self, process: ForkServerProcess, began: float) -> int:
        process.join(forks.SECONDS)
        assert not process.is_alive(), f"{self.job.name} was not done after {forks.SECONDS} s"
        code = process.exitcode
        assert code is not None
        process.close()
        if code == DONE:
            self._seconds = [*self._seconds[-20:], time.monotonic() - began]
        return code

    def _compare(self) -> None:
        """Compare table and dead letters with the truth; note what is kept."""
        assert found(self.directory) == self.job.rows(self.content), f"{self.job.name}, seed {self.seed}"
        rejected = [
            (content.version, record["changed"])
            for content in self._contents
            for record in records(content)
            if is_rejected(record)
        ]
        told = letters(self.directory)
        # A replacement that was killed after its last step is whole: the next run makes another of that version.
        assert (told if self.job.grows else sorted(set(told))) == sorted(rejected), (
            f"{self.job.name}, seed {self.seed}"
        )
        self.compared += 1
        held = json.loads(next(path for path in self._reports() if path.exists()).read_text())
        for path in self._reports():
            path.unlink(missing_ok=True)
        self.kept.append(
            Kept(
                files=sum(
                    1 for path in self.directory.rglob("*") if path.is_file() and "rejects" not in path.name
                ),
                checkpoint=(self.directory / CHECKPOINT).stat().st_size,
                database=(self.directory / DATABASE).stat().st_size,
                **held,
            )
        )

    def _grow(self) -> None:
        """Draw the content that the next run finds."""
        if self.job.grows:
            self.content = Content(self.content.records + self._random.randrange(150))
            self._contents = [self.content]
        else:
            self.content = Content(self.content.records, self.content.version + 1)
            self._contents.append(self.content)

    def _report(self, number: int) -> Path:
        return self.directory.parent / f"{self.directory.name}-{number}.json"

    def _reports(self) -> list[Path]:
        return [self._report(number) for number in range(2)]

    def _said(self, codes: list[int]) -> str:
        return f"{self.job.name}, seed {self.seed}: exit codes {codes}, after {dict(self.endings)}"


def run(begun: Connection, job: Job, directory: Path, content: Content, report: Path) -> None:
    """Run a job in this process; say what the process holds at the end of it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    begun.send(True)
    begun.close()
    try:
        result = job.pipeline(directory, content).run()
    except Fenced:
        raise SystemExit(REFUSED) from None
    except KeyboardInterrupt:
        raise SystemExit(STOPPED) from None
    if result.stopped:
        raise SystemExit(STOPPED)
    report.write_text(json.dumps(held()))


def held() -> dict[str, int]:
    """Return what this process holds: descriptors, threads, resident memory in bytes.

    A thread of the library that was told to end is waited for; one that was not is still there after that.
    """
    for thread in threading.enumerate():
        if thread.name.startswith(("etl-", "sinks-")):
            thread.join(10)
    return {
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        "resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def soak(job: Job, directory: Path, seed: int, *, rounds: int | None = None, seconds: float = 0.0) -> Soak:
    """Run a job round by round, then to its end.

    Args:
        job: the job.
        directory: made anew.
        seed: of what is drawn.
        rounds: how many; None: as many as there is time for.
        seconds: how long.

    Raises:
        AssertionError: the table is not the truth, or a run ended as none may.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    soaked, until = Soak(job, directory, seed), time.monotonic() + seconds
    while (
        len(soaked.kept) < 2 or (rounds is None and time.monotonic() < until) or soaked.rounds < (rounds or 0)
    ):
        soaked.round()
    soaked.finish()
    return soaked
