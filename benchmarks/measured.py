"""Run a command in a fresh memory cgroup, where one can be made, and read what it took."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from dataclasses import dataclass

from etl.lab.fresh_group import FreshGroup, NoFreshGroup

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


def measure(command: list[str]) -> Measured:
    """Run `command` to its end.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    try:
        group = FreshGroup()
    except NoFreshGroup:
        group = None
    peak = group.memory().file if group is not None else None
    began = time.perf_counter()
    process = subprocess.Popen(command if group is None else group.inside(command))
    done = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(SAMPLED_EVERY):
            if group is not None and peak is not None:
                peak = max(peak, group.memory().file)

    sampler = threading.Thread(target=sample)
    sampler.start()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    done.set()
    sampler.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    charged = group.peak() if group is not None else None
    if group is not None:
        group.remove()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Measured(seconds=seconds, resident=usage.ru_maxrss * 1024, cache=peak, charged=charged)
