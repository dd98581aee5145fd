"""Run a command in a fresh memory cgroup, where one can be made, and read what it took."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from etl.errors import NoFreshGroup
from etl.lab.fresh_group import FreshGroup
from sinks.control_group import Memory

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
    cache: int | None = None
    charged: int | None = None


class Sampler:
    """Looks at a memory cgroup again and again, in a thread of this process; as a context manager.

    Args:
        memory: reads what it is charged with now.
        every: how many seconds after one look the next is due.

    Attributes:
        cache: the most page cache that was seen, in bytes.
        anonymous: the most anonymous memory that was seen, in bytes.
        working_set: the most that was seen of what the kubelet compares with a limit, in bytes.
        samples: how often it was looked at.
    """

    def __init__(self, memory: Callable[[], Memory], every: float) -> None:
        self._memory = memory
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="sampler")
        self.cache = self.anonymous = self.working_set = self.samples = 0

    def _look(self) -> None:
        now = self._memory()
        self.cache = max(self.cache, now.file)
        self.anonymous = max(self.anonymous, now.anonymous)
        self.working_set = max(self.working_set, now.working_set)
        self.samples += 1

    def _watch(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            self._look()
            due += self._every

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()


def measure(command: list[str]) -> Measured:
    """Run `command` to its end.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    try:
        group = FreshGroup()
    except NoFreshGroup:
        return _run(command)
    with group:
        with Sampler(group.memory, SAMPLED_EVERY) as sampler:
            taken = _run(group.inside(command))
        return replace(taken, cache=sampler.cache, charged=group.memory().peak)


def _run(command: list[str]) -> Measured:
    began = time.perf_counter()
    with subprocess.Popen(command) as process:
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Measured(seconds=seconds, resident=usage.ru_maxrss * 1024)
