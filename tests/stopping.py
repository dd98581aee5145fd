"""What a job leaves behind at each of its calls, out of one run: it is stopped there, and its directory is copied.

A run that is killed at its n-th call does all that came before it, so to kill at each of n calls costs n² / 2 of them.
A run that is stopped at each costs n. A kill at that moment would leave the same: pages that were written and not
synced outlive a process that is killed, too. (Which moment the n-th call is differs between two runs: the job has
threads.)
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from tests import forks
from tests.tracing import strace

STOPPED = re.compile(rb"(\d+) +--- stopped by SIGSTOP ---")

# How often is looked whether a thread that had not stopped has ended instead.
LOOK = 0.01


def snapshots(
    work: Path,
    calls: str,
    only: tuple[str, ...],
    share: tuple[int, int],
    target: Callable[..., object],
    *arguments: object,
) -> tuple[list[Path], int]:
    """Run a job once, stop it after each of its calls, and copy what is in its directory.

    Args:
        work: the job's directory.
        calls: names of system calls, separated by commas.
        only: names of files in `work`; of all calls, those that touch one of these; of all, where it is empty.
        share: which of the copies are wanted: (1, 4) is every fourth, from the second on.
        target: runs the job, in a process of its own; a module has it by its name.
        arguments: what it is called with.

    Returns:
        the copies, in the order of the calls, and how many calls there were.
    """
    log = Path(f"{work}.stops")
    os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    copies: list[Path] = []
    count = 0

    def copy() -> None:
        nonlocal count
        if count % share[1] == share[0]:
            copies.append(shutil.copytree(work, Path(f"{work}.{count}")))
        count += 1

    paths = [word for name in only for word in ("-P", str(work / name))]
    try:
        done = forks.run(
            target,
            *arguments,
            under=strace(log, calls, *paths, f"--inject={calls}:signal=SIGSTOP"),
            beside=lambda pid: _at_each_stop(reader, pid, copy),
        )
    finally:
        os.close(reader)
        log.unlink()
    assert done.returncode == 0, done.stderr
    return copies, count


def _at_each_stop(reader: int, pid: int, act: Callable[[], None]) -> None:
    """Call a function whenever all threads of a process have stopped, and let them go on; until strace has ended."""
    stopped: set[int] = set()
    rest = b""
    while True:
        if select.select([reader], [], [], LOOK)[0]:
            read = os.read(reader, 65536)
            if not read:
                return
            *lines, rest = (rest + read).split(b"\n")
            stopped |= {int(found[1]) for line in lines if (found := STOPPED.match(line))}
        if stopped and stopped >= _threads(pid):
            act()
            stopped.clear()
            os.kill(pid, signal.SIGCONT)


def _threads(pid: int) -> set[int]:
    """Return the ids of the threads that a process has."""
    try:
        return {int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()}
    except FileNotFoundError:
        return set()
