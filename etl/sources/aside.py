"""Calls that may wait for as long as they like, waited for no longer than is wanted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

# A caller that waits looks this often whether it is to leave, in seconds.
LOOK_SECONDS = 0.1


class Aside:
    """Calls functions on a thread of its own. One that does not return in time is left behind with that thread.

    So they must do nothing but read: what one that was left behind finds in the end, nobody hears of. The thread is a
    daemon, which keeps no process from ending. Threads cost some 50 µs a call.

    Args:
        look: called while somebody waits; what it raises ends that.
    """

    def __init__(self, look: Callable[[], object]) -> None:
        self._look = look
        self._calls: SimpleQueue[_Call | None] | None = None

    def call(self, function: Callable[[], T], seconds: float) -> T:
        """Call a function, and return what it returns.

        Raises:
            TimeoutError: it has not returned in so many seconds.
            BaseException: what it raised; or what `look` raised.
        """
        if self._calls is None:
            self._calls = SimpleQueue()
            threading.Thread(target=_serve, args=(self._calls,), name="aside", daemon=True).start()
        call = _Call(function)
        self._calls.put(call)
        until = time.monotonic() + seconds
        try:
            self._look()
            while not call.done.wait(LOOK_SECONDS):
                self._look()
                if time.monotonic() >= until:
                    raise TimeoutError(f"no answer in {seconds:g} s")
        except BaseException:
            self.close()
            raise
        if call.error is not None:
            raise call.error
        found: T = call.found
        return found

    def close(self) -> None:
        """Let the thread end, when what it does has returned. May be repeated, and another call begins another one."""
        calls, self._calls = self._calls, None
        if calls is not None:
            calls.put(None)


class _Call:
    """A function, and what became of it."""

    __slots__ = ("done", "error", "found", "function")

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.done = threading.Event()
        self.found: Any = None
        self.error: BaseException | None = None


def _serve(calls: SimpleQueue[_Call | None]) -> None:
    while (call := calls.get()) is not None:
        try:
            call.found = call.function()
        except BaseException as error:  # raised in the thread that waits
            call.error = error
        call.done.set()
        del call  # what it found is not held until the next one
