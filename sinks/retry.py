"""The one retry policy: exponential backoff with full jitter, for at most so many seconds (tenacity).

Backoff with jitter is what Google asks for (Cloud Storage documentation, "Retry strategy"); the deadline keeps a
host that cannot be reached, or a bucket that is overloaded, from being silence for ten minutes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from sinks import google_errors
from sinks.hurry import Hurry

T = TypeVar("T")

LOG = logging.getLogger("sinks.retry")

# Trouble that passes sooner, in seconds, is not told.
SILENT_SECONDS = 5.0

# One request may take this long at most, in seconds: to connect, and between two of its bytes.
CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How long a request is tried again, when what went wrong may pass by itself.

    Attributes:
        deadline: the seconds after which no other attempt is begun.
        first_wait: the longest wait after the first attempt, in seconds; it doubles with each.
        longest_wait: it never gets longer than that, in seconds.
        hurry: cuts waits short, and begins no attempt, when the run is to end.
    """

    deadline: float = 120.0
    first_wait: float = 0.5
    longest_wait: float = 16.0
    hurry: Hurry = field(default_factory=Hurry, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.deadline > 0:
            raise ValueError(f"deadline: {self.deadline} seconds is not greater than 0")
        if not (self.first_wait >= 0 and self.longest_wait >= 0):
            raise ValueError(f"{self}: waits must not be negative")

    @property
    def timeout(self) -> tuple[float, float]:
        """What one request may take, in seconds: to connect, and between two bytes; as requests wants it.

        A request that hangs may take half of the deadline, so that there is time for another one.
        """
        return min(CONNECT_SECONDS, self.deadline / 2), min(READ_SECONDS, self.deadline / 2)

    def call(
        self,
        function: Callable[[], T],
        *,
        passing: Callable[[BaseException], bool],
        least_wait: Callable[[BaseException], float] = lambda _: 0.0,
        sleep: Callable[[float], object] | None = None,
        what: str = "a request",
    ) -> T:
        """Call `function` until it returns, until it raises what will not pass, or until the deadline.

        No wait goes past the deadline: where the next one would, what was raised last is raised at once.

        Args:
            function: must be fit to be called again after whatever `passing` says may pass.
            passing: says of what it raised whether trying again may help.
            least_wait: says of what it raised how many seconds to wait at least, as a server asks for
                (`Retry-After`, RFC 9110, section 10.2.3).
            sleep: waits so many seconds, or less when somebody calls it off; `function` is called after it. None:
                `hurry` calls it off.
            what: what fails, for the log.

        Raises:
            HurriedAway: there is no time to wait.
            BaseException: what `function` raised last.
        """
        import tenacity

        def pause(seconds: float) -> None:
            (sleep or self.hurry.sleep)(seconds)

        backoff = tenacity.wait_random_exponential(multiplier=self.first_wait, max=self.longest_wait)

        def wait(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            return max(backoff(state), least_wait(error) if error is not None else 0.0)

        def tell(state: tenacity.RetryCallState) -> None:
            elapsed = state.seconds_since_start or 0.0
            error = state.outcome.exception() if state.outcome else None
            if elapsed >= SILENT_SECONDS and error is not None:
                left = self.deadline - elapsed
                LOG.warning(
                    "%s fails (%s); tried again for %.0f s more", what, google_errors.words(error), left
                )

        attempts = tenacity.Retrying(
            stop=tenacity.stop_before_delay(self.deadline),
            wait=wait,
            retry=tenacity.retry_if_exception(passing),
            sleep=pause,
            before_sleep=tell,
            reraise=True,
        )

        def attempt() -> T:
            self.hurry.look(0.0)
            return function()

        return attempts(attempt)
