"""What a group is charged with while a process in it writes, looked at every 20 milliseconds."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import msgspec

from etl.lab.writer import Board
from etl.repeating import repeated
from sinks import control_group
from sinks.control_group import Memory

EVERY = 0.02  # seconds; what is shorter is not seen
# Looking at thousands of files must not become the work that is measured.
SHARE_FOR_DISK = 0.05
POINTS = 400  # that are kept of a strategy: more than a picture has room for


class Sample(msgspec.Struct, frozen=True):
    """One look at a group.

    Attributes:
        seconds: since writing began; negative while the process starts.
        written_bytes: how much of the stream was written.
        page_cache_bytes: as charged to the group.
        working_set_bytes: what the kubelet compares with the limit.
        dirty_bytes: the part of the page cache that waits to be written.
        anonymous_bytes: the process's own memory.
    """

    seconds: float
    written_bytes: int
    page_cache_bytes: int
    working_set_bytes: int
    dirty_bytes: int
    anonymous_bytes: int


class Group(Protocol):
    """What is measured: a `FreshGroup`, or one's `OwnGroup`."""

    def inside(self, command: Sequence[str]) -> list[str]:
        """Return the command that runs `command` in it."""

    def memory(self) -> Memory | None:
        """Read what it is and was charged with; None: nobody counts."""

    def remove(self) -> None:
        """Release it."""


class OwnGroup:
    """The group that this process is in, where no fresh one can be made: told as the difference to its beginning.

    What others in the group do meanwhile is told with it. Where no control group counts memory, nothing is told.
    """

    def __init__(self) -> None:
        self._before = control_group.read()

    def inside(self, command: Sequence[str]) -> list[str]:
        """Return `command`: a child process is in its parent's group."""
        return list(command)

    def memory(self) -> Memory | None:
        """Read what came to it since the beginning; the kernel keeps no peak since then."""
        now, before = control_group.read(), self._before
        if now is None or before is None:
            return None
        return replace(
            now,
            usage=max(0, now.usage - before.usage),
            file=max(0, now.file - before.file),
            inactive_file=max(0, now.inactive_file - before.inactive_file),
            anonymous=max(0, now.anonymous - before.anonymous),
            dirty=max(0, now.dirty - before.dirty),
            peak=None,
            failed_charges=(
                None
                if now.failed_charges is None or before.failed_charges is None
                else now.failed_charges - before.failed_charges
            ),
            oom_kills=now.oom_kills - before.oom_kills,
        )

    def remove(self) -> None:
        """Do nothing: it was there before."""


class Sampler:
    """Looks at a group, and at what the files of a directory take, in a thread; as a context manager.

    Args:
        group: what to look at.
        board: says how much is written.
        directory: whose files are counted by the blocks that they have, or that are reserved for them.

    Attributes:
        samples: what was seen.
        disk_bytes: the most that the files were seen to take.
    """

    def __init__(self, group: Group, board: Board, directory: Path) -> None:
        self._group = group
        self._board = board
        self._directory = directory
        self._seen: list[tuple[float, int, Memory]] = []
        self._repeated = repeated(self._look, EVERY, "sampler")
        self._next_disk = 0.0
        self.disk_bytes = 0

    def samples(self) -> list[Sample]:
        """Return what was seen, in order."""
        began = self._board.began
        if began is None:
            began = self._seen[0][0] if self._seen else 0.0
        return [
            Sample(
                seconds=round(at - began, 4),
                written_bytes=written,
                page_cache_bytes=memory.file,
                working_set_bytes=memory.working_set,
                dirty_bytes=memory.dirty,
                anonymous_bytes=memory.anonymous,
            )
            for at, written, memory in self._seen
        ]

    def __enter__(self) -> Sampler:
        self._repeated.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._repeated.__exit__(None, None, None)
        self._look(last=True)

    def _look(self, *, last: bool = False) -> None:
        with suppress(OSError):
            memory = self._group.memory()
            if memory is not None:
                self._seen.append((time.monotonic(), self._board.bytes, memory))
        now = time.monotonic()
        if last or now >= self._next_disk:
            self.disk_bytes = max(self.disk_bytes, disk_bytes(self._directory))
            ended = time.monotonic()
            self._next_disk = ended + (ended - now) / SHARE_FOR_DISK


def disk_bytes(directory: Path) -> int:
    """Return what the files in `directory` take on the disk, in bytes; holes take nothing."""
    total = 0
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # released between two steps
                total += entry.stat(follow_symlinks=False).st_blocks * 512  # the unit of stat(2)
    return total


def thin(samples: Sequence[Sample], points: int = POINTS) -> list[Sample]:
    """Return at most `points` samples, spread over all, the one with the most page cache out of each group."""
    if len(samples) <= points:
        return list(samples)
    edges = [len(samples) * number // points for number in range(points + 1)]
    return [
        max(samples[start:end], key=lambda sample: sample.page_cache_bytes) for start, end in pairwise(edges)
    ]
