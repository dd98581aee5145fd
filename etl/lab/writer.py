"""The process that writes: `python -m etl.lab.writer SPECIFICATION`, started in the group that is measured.

The specification is a JSON object: `strategy` (a name), `lines`, `line_bytes`, `part_bytes`, `directory`, and
`board`, the descriptor of a `Board`.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import tempfile
import time
from pathlib import Path

from etl.lab.strategies import select
from etl.lab.stream import Stream

_BYTES, _BEGAN, _WRITTEN, _ENDED = range(4)


class Board:
    """A few numbers that the process writes and the one that measures it reads at any time, also if it is killed.

    Args:
        descriptor: of a board that is there already; None: make one.

    Attributes:
        descriptor: to be inherited by the process that writes.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        if descriptor is None:
            with tempfile.TemporaryFile() as file:
                file.truncate(mmap.PAGESIZE)
                descriptor = os.dup(file.fileno())
        self.descriptor = descriptor
        self._map = mmap.mmap(self.descriptor, mmap.PAGESIZE)
        self._numbers = memoryview(self._map).cast("q")  # a store of 8 aligned bytes is never seen by half

    def begin(self) -> None:
        """Note that writing begins now."""
        self._numbers[_BEGAN] = time.monotonic_ns()

    def add(self, count: int) -> None:
        """Note that `count` bytes more are written."""
        self._numbers[_BYTES] += count

    def written(self) -> None:
        """Note that everything is written."""
        self._numbers[_WRITTEN] = time.monotonic_ns()

    def end(self) -> None:
        """Note that everything that stays is on the disk."""
        self._numbers[_ENDED] = time.monotonic_ns()

    @property
    def bytes(self) -> int:
        """How many bytes are written."""
        return self._numbers[_BYTES]

    @property
    def began(self) -> float | None:
        """When writing began, in seconds of the monotonic clock; None: it has not yet."""
        return self._time(_BEGAN)

    def seconds(self) -> tuple[float | None, float | None]:
        """Return how long the writing took, and how long it took until it was on the disk; None: not done."""
        began, written, ended = self.began, self._time(_WRITTEN), self._time(_ENDED)
        return (
            None if began is None or written is None else written - began,
            None if began is None or ended is None else ended - began,
        )

    def close(self) -> None:
        """Release it."""
        self._numbers.release()
        self._map.close()
        os.close(self.descriptor)

    def _time(self, place: int) -> float | None:
        return self._numbers[place] / 1e9 or None


def main(specification: str) -> None:
    """Write a stream through a strategy, and make durable what stays of it.

    Plain files are synced when all is written, so that they are as safe as the parts of a sink, which are when
    they are sealed.
    """
    wanted = json.loads(specification)
    [strategy] = select([wanted["strategy"]])
    directory = Path(wanted["directory"])
    stream = Stream(lines=wanted["lines"], line_bytes=wanted["line_bytes"], part_bytes=wanted["part_bytes"])
    board = Board(wanted["board"])
    board.begin()
    method = strategy.write(stream, directory, board.add)
    board.written()
    for path in directory.iterdir():
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        os.fsync(file)
        os.close(file)
    board.end()
    board.close()
    sys.stdout.write(method)


if __name__ == "__main__":
    main(sys.argv[1])
