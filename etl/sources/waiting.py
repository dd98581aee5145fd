"""Waits of a source that end when the run is stopped: machines that vanish give half a minute's notice."""

from __future__ import annotations

import time
from typing import Any

from etl.errors import SourceStopped

# A caller that waits looks this often whether it is to leave, in seconds.
LOOK_SECONDS = 0.1


class Waiting:
    """Waits, unless it was told to leave; it is pickled as a new one.

    There is no lock in it: `leave` is called by signal handlers, which interrupt the very thread that waits.
    """

    def __init__(self) -> None:
        self._left = False

    def __reduce__(self) -> tuple[Any, ...]:
        return Waiting, ()

    def begin(self) -> None:
        """Forget that it was told to leave: a pull begins."""
        self._left = False

    def leave(self) -> None:
        """Let a wait that is under way, and each one after it, raise `SourceStopped`."""
        self._left = True

    def sleep(self, seconds: float) -> None:
        """Wait.

        Raises:
            SourceStopped: it was told to leave.
        """
        until = time.monotonic() + seconds
        while not self._left and (rest := until - time.monotonic()) > 0:
            time.sleep(min(rest, LOOK_SECONDS))
        self.look()

    def look(self) -> None:
        """Return where a wait may go on.

        Raises:
            SourceStopped: it was told to leave.
        """
        if self._left:
            raise SourceStopped(
                "the source was told to stop while it waited; the next run asks again from its last checkpoint"
            )
