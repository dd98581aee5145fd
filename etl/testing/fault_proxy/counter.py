"""Which request is which: requests are numbered as they come, and faults lie in wait for theirs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from etl.testing.fault_proxy.faults import Answer, Damage, Fault
from etl.testing.fault_proxy.messages import Head


class Seen(NamedTuple):
    """A request that came by; the first one has number 1."""

    number: int
    method: str
    path: str


@dataclass(slots=True)
class _Waiting:
    fault: Fault
    skip: int  # so many more requests go by first
    times: int
    matches: Callable[[Head], bool]


class Counter:
    """Number requests in the order in which their heads were read; may be shared by several proxies.

    Of proxies that share one, a fault strikes at whichever gets the request.

    Attributes:
        log: Every request that came by.
    """

    def __init__(self) -> None:
        self.log: list[Seen] = []
        self._waiting: list[_Waiting] = []
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """How many requests came by."""
        return len(self.log)

    def at(self, nth: int, fault: Fault, *, of: Callable[[Head], bool] | None = None) -> None:
        """Have a fault strike at the nth request from now on.

        When two fall on the same request, the one that was set first strikes, and the other at the next request
        that it is meant for.

        Args:
            nth: 1 is the next one that comes.
            fault: What happens then; once, or as often as an `Answer` or a `Damage` says.
            of: Count only the requests of which this is true; they have `method`, `path` (with the query) and
                `headers` (their names in lower case).
        """
        if nth < 1:
            raise ValueError(f"the nth request to come: 1 or more, not {nth}")
        times = fault.times if isinstance(fault, (Answer, Damage)) else 1
        with self._lock:
            self._waiting.append(_Waiting(fault, nth - 1, times, of or (lambda _head: True)))

    def take(self, head: Head, log: list[Seen]) -> Fault | None:
        """Number a request, add it to a proxy's log too, and return what strikes at it."""
        with self._lock:
            seen = Seen(len(self.log) + 1, head.method, head.path)
            self.log.append(seen)
            log.append(seen)
            struck: _Waiting | None = None
            for waiting in self._waiting:
                if not waiting.matches(head):
                    continue
                if waiting.skip:
                    waiting.skip -= 1
                elif struck is None:
                    struck = waiting
            if struck is None:
                return None
            struck.times -= 1
            if not struck.times:
                self._waiting.remove(struck)
            return struck.fault
