"""Waits that are cut short when a run is to end: a machine that vanishes gives half a minute's notice, or ten seconds.

What makes progress goes on, so that what was written is sealed and committed. What gets no answer for some seconds will
get none in time: then the run ends as it is, and as after a crash, the next one goes on from what is committed.
"""

from __future__ import annotations

import time
from collections.abc import Callable

# So long, in seconds, a wait goes on after it was to end.
SLICE = 0.1

# What gets nowhere for so long is given up. Docker kills 10 s after its SIGTERM (`docker stop`), Kubernetes after 30.
GRACE_SECONDS = 5.0


class HurriedAway(Exception):
    """What was waited for did not come in the time that is left for a run that is to end; nothing has failed."""


class Hurry:
    """Says whether there is time to wait. There is no lock in it: signal handlers tell it.

    Args:
        deadline: for how many seconds is waited where there is time.
    """

    def __init__(self, deadline: float = 120.0) -> None:
        self._grace = min(GRACE_SECONDS, deadline / 4)
        self._since: float | None = None
        self._given_up = False

    def tell(self, hurry: bool) -> None:
        """Say that there is no time any more, or again."""
        if not hurry:
            self._since, self._given_up = None, False
        elif self._since is None:
            self._since = time.monotonic()

    def look(self, idle: float) -> None:
        """Return if a wait may go on.

        Args:
            idle: for how many seconds nothing has come or gone.

        Raises:
            HurriedAway: it may not, nor may any other one from now on.
        """
        if self._since is None:
            return
        if self._given_up or min(time.monotonic() - self._since, idle) >= self._grace:
            self._given_up = True
            raise HurriedAway(
                f"the run was to end, and what it waited for did not come in {self._grace:g} s; what is committed "
                "stays, and the next run goes on from there"
            )

    def sleep(self, seconds: float, wait: Callable[[float], object] | None = None) -> None:
        """Wait.

        Args:
            seconds: for how long.
            wait: waits for some of it; true: that is enough. None: there is nothing else to wait for.

        Raises:
            HurriedAway: there is no time.
        """
        until = time.monotonic() + seconds
        while (rest := until - time.monotonic()) > 0:
            self.look(float("inf"))
            if (wait or time.sleep)(min(rest, SLICE)):
                return
        self.look(0.0)
