"""strace in tests: which calls a job makes, to have each of them go wrong."""

from __future__ import annotations

import re
import signal
from collections import Counter
from pathlib import Path

# How a process ends that strace kills, by itself or under strace; and one that did not come to the call.
KILLED_OR_DONE = (0, -signal.SIGKILL, 128 + signal.SIGKILL)


def strace(log: Path, calls: str, *options: str) -> tuple[str, ...]:
    """Return the command that traces `calls`, separated by commas, into `log`."""
    return ("strace", "-f", "-o", str(log), f"--trace={calls}", *options)


def killing_at(name: str, n: int) -> str:
    """Return the option that kills at the entry of the n-th call of that name."""
    return f"--inject={name}:signal=SIGKILL:when={n}"


def calls_in(log: Path) -> list[tuple[str, int]]:
    """Return each call in a log with its number among its like, as strace counts: per thread and name."""
    counts = Counter(
        (call[1], call[2])
        for line in log.read_text().splitlines()
        if (call := re.match(r"(\d+) +(\w+)\(", line))
    )
    most: dict[str, int] = {}
    for (_thread, name), count in counts.items():
        most[name] = max(count, most.get(name, 0))
    return [(name, n) for name, count in sorted(most.items()) for n in range(1, count + 1)]
