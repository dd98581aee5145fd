"""Waits of a source that end when the run is stopped: machines that vanish give half a minute's notice."""

from __future__ import annotations

import threading
from typing import Any

from etl.errors import SourceStopped


class Waiting:
    """Waits, unless it was told to leave. Safe from signal handlers; it is pickled as a new one."""

    def __init__(self) -> None:
        self._leaving = threading.Event()

    def __reduce__(self) -> tuple[Any, ...]:
        return Waiting, ()

    def begin(self) -> None:
        """Forget that it was told to leave: a pull begins."""
        self._leaving.clear()

    def leave(self) -> None:
        """Let a wait that is under way, and each one after it, raise `SourceStopped`."""
        self._leaving.set()

    def sleep(self, seconds: float) -> None:
        """Wait.

        Raises:
            SourceStopped: it was told to leave.
        """
        if self._leaving.wait(seconds):
            raise SourceStopped(
                "the source was told to stop while it waited; the next run asks again from its last checkpoint"
            )
