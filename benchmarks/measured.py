"""Run a command in a fresh memory cgroup, where one can be made, and read what it took."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

SAMPLED_EVERY = 0.02  # seconds; a peak of the page cache that is shorter is not seen


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a command took.

    Attributes:
        seconds: from start to end.
        resident: the peak of its resident memory, in bytes (VmHWM of proc(5)).
        cache: the peak of the page cache charged to it, in bytes; None: no cgroup could be made.
        charged: the peak of everything charged to it, in bytes; None: as above.
    """

    seconds: float
    resident: int
    cache: int | None
    charged: int | None


class Group:
    """A memory cgroup of its own, version 1 or 2; without root, none."""

    def __init__(self) -> None:
        self.path: Path | None = None
        name = f"etl-bench-{os.getpid()}-{time.monotonic_ns()}"
        for parent in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")):
            if not (parent / "cgroup.procs").exists():
                continue
            try:
                (parent / name).mkdir()
            except OSError:
                continue
            self.path = parent / name
            if (self.path / "memory.stat").exists():
                return
            self.path.rmdir()
            self.path = None

    def join(self) -> None:
        """Move the calling process in; for `preexec_fn`."""
        if self.path is not None:
            (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def cache(self) -> int | None:
        """Return the page cache that is charged now, in bytes."""
        if self.path is None:
            return None
        stat = dict(line.split() for line in (self.path / "memory.stat").read_text().splitlines())
        return int(stat.get("cache", stat.get("file", 0)))

    def peak(self) -> int | None:
        """Return the most that was ever charged, in bytes."""
        for name in ("memory.max_usage_in_bytes", "memory.peak"):
            if self.path is not None and (self.path / name).exists():
                return int((self.path / name).read_text())
        return None

    def remove(self) -> None:
        """Remove it; its processes have ended."""
        if self.path is not None:
            self.path.rmdir()


def measure(command: list[str]) -> Measured:
    """Run `command` to its end.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    group = Group()
    peak = group.cache()
    began = time.perf_counter()
    process = subprocess.Popen(command, preexec_fn=group.join)  # one thread, our own command
    done = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(SAMPLED_EVERY):
            now = group.cache()
            if now is not None and peak is not None:
                peak = max(peak, now)

    sampler = threading.Thread(target=sample)
    sampler.start()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    done.set()
    sampler.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    charged = group.peak()
    group.remove()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Measured(seconds=seconds, resident=usage.ru_maxrss * 1024, cache=peak, charged=charged)
