"""Something that is done once nothing else was for a while."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable


class WhenIdle:
    """Calls a method, on a thread of its own, once a time has passed in which it was not put off.

    The thread is begun when it is first needed. It keeps no object alive, and ends with it, or by `end`.

    Args:
        action: a bound method; it must not raise.
        seconds: how long nothing is to have happened.
        name: of the thread.
    """

    def __init__(self, action: Callable[[], object], seconds: float, name: str) -> None:
        self._action = weakref.WeakMethod(action)
        self._seconds = seconds
        self._name = name
        self._clock = _Clock()

    def put_off(self) -> None:
        """Let the time begin now; from any thread. Costs next to nothing where it had begun before."""
        clock = self._clock
        with clock.changed:
            clock.due = time.monotonic() + self._seconds
            if clock.waiting:
                return
            clock.waiting = True
        threading.Thread(target=_wait, args=(clock, self._action), name=self._name, daemon=True).start()

    def end(self) -> None:
        """Do it no more, unless it is put off again; what is being done is not waited for."""
        with self._clock.changed:
            self._clock.due = None
            self._clock.changed.notify()


class _Clock:
    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.due: float | None = None
        self.waiting = False


def _wait(clock: _Clock, action: weakref.WeakMethod[Callable[[], object]]) -> None:
    with clock.changed:
        while clock.due is not None and (left := clock.due - time.monotonic()) > 0:
            clock.changed.wait(left)
        due, clock.due, clock.waiting = clock.due, None, False
    method = action() if due is not None else None
    if method is not None:
        method()
