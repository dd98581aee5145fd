"""Pipes, terminals and other devices as files: they give their bytes once, when they have them, or never."""

from __future__ import annotations

import io
import os
import select
import stat
import time
from typing import TYPE_CHECKING

from etl.errors import SourceUnavailable
from etl.sources.waiting import LOOK_SECONDS, Waiting

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# As much as a pipe holds (pipe(7)).
BUFFER_BYTES = 64 << 10

_CALLED = {stat.S_IFSOCK: "a socket", stat.S_IFBLK: "a disk", stat.S_IFDIR: "a directory"}


def is_one(mode: int) -> bool:
    """Say whether a file of this mode is read as a pipe."""
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def called(mode: int) -> str:
    """Say what a file of this mode is that is not read."""
    return _CALLED.get(stat.S_IFMT(mode), "no file")


class Pipe(io.RawIOBase):
    """A pipe, or a device, that is read once. Nothing but its first byte is waited for with a deadline.

    To open a named pipe waits for its writer, and no signal ends that; so it is opened without. A writer that has come
    may take its time.

    Args:
        path: of the pipe.
        deadline: for how long its first byte is waited for, in seconds.
        waiting: ends a wait.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str, deadline: float, waiting: Waiting) -> None:
        super().__init__()
        self._path = path
        self._deadline = deadline
        self._waiting = waiting
        self._begun = False
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read up to the length of `buffer` into it, as soon as there is something; return the number of bytes.

        Raises:
            SourceStopped: the run is stopped.
            SourceUnavailable: nothing came until the deadline.
            OSError: it cannot be read.
        """
        until = time.monotonic() + self._deadline
        while True:
            self._waiting.sleep(0)
            if self._poll.poll(LOOK_SECONDS * 1000):
                try:
                    count = os.readv(self._descriptor, [buffer])
                except BlockingIOError:
                    continue
                self._begun = True
                return count
            if not self._begun and time.monotonic() > until:
                raise SourceUnavailable(
                    f"{self._path} is a pipe or a device, and nothing came out of it for {self._deadline:g} s: start "
                    "what writes into it, and run again (`deadline` sets how long is waited)"
                )

    def close(self) -> None:
        """Close it. May be repeated."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()
