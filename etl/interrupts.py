"""SIGTERM, SIGINT and SIGHUP: the first one asks a run to stop in order, the second one ends it.

One function handles them for as long as anybody does, and what it does is exchanged: were the handlers themselves
exchanged, there would be moments in which a signal does what it did before, or nothing. It imports little, because
the process `etl` calls `leave_at_once` before anything else.

A child that is forked meanwhile is no run: a pool ends its workers with SIGTERM, and waits until they have ended. What
a terminal sends goes to all of its processes; it is for the parent to say what becomes of the work of its children.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Act = Callable[[str], None]

# Asked to end, by whom: whoever started the process, the keyboard, a terminal that is gone.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_acts: list[Act] = []  # the last one is what a signal does now
_noted: list[str] = []  # signals that came just before a run
_former: dict[signal.Signals, signal._HANDLER] = {}  # what handled the signals that are handled here now
_forks = threading.local()  # each thread that forks keeps its mask of signals


class Leaving:
    """End the process on a signal, at once: where nothing is open that needs closing.

    No exception does that, because an import, a destructor, or a callback of the interpreter may swallow it.

    Attributes:
        code: what the process exits with; None: nothing is done, as it is about to exit by itself.
        why: what is said then, after the signal's name; empty: nothing, as all is said.
    """

    code: int | None = None
    why = ""

    def __call__(self, name: str) -> None:
        """Exit, if there is something to exit with."""
        if self.code is None:
            return
        if self.why:
            with suppress(OSError):  # nobody is there to read it
                os.write(2, f"{name}: {self.why}\n".encode())
        os._exit(self.code)


_leaving = Leaving()


def leave_at_once(code: int, why: str) -> None:
    """Let signals end the process from now on, wherever nothing else is done about them; it is `etl` itself.

    A hang-up that is ignored stays ignored, so that `nohup` works.

    Args:
        code: what it exits with.
        why: what is said then, after the signal's name; empty: nothing.
    """
    _leaving.code, _leaving.why = code, why
    if not _acts:
        _acts.append(_leaving)
        _take_over()


def ignore() -> None:
    """Ignore signals for good: the interpreter is being taken down, and would reset them to what kills."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def noted() -> Iterator[None]:
    """Keep a signal for the run that begins in here; one that comes after it changes nothing of how it ended."""
    with stopped_by_signals(_noted.append):
        try:
            yield
        finally:
            _leaving.code = None
            _noted.clear()


@contextmanager
def interrupted() -> Iterator[None]:
    """Raise KeyboardInterrupt on each signal, so that what was begun in here is cleared up."""

    def interrupt(_name: str) -> None:
        raise KeyboardInterrupt

    with _acting(interrupt):
        try:
            yield
        finally:
            _leaving.code = None


@contextmanager
def stopped_by_signals(stop: Act) -> Iterator[None]:
    """Call `stop` on the first signal, raise KeyboardInterrupt on the second.

    Outside of the main thread, which alone may handle signals, nothing is changed.
    """
    seen: list[str] = []

    def act(name: str) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(name)
        stop(name)

    with _acting(act):
        for name in _noted:
            act(name)
        yield


@contextmanager
def _acting(act: Act) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _acts.append(act)
    before = _take_over()
    try:
        yield
    finally:
        _acts.append(_nothing)  # a second signal would leave half of this undone
        for number, handler in before.items():
            signal.signal(number, _or_default(handler))
            _former.pop(number, None)
        del _acts[max(0, len(_acts) - 2) :]  # a child that unwinds what its parent was in has none


def _take_over() -> dict[signal.Signals, signal._HANDLER]:
    """Handle the signals from now on; return what handled those that were handled otherwise."""
    before = {}
    for number in SIGNALS:
        handler = signal.getsignal(number)
        if handler is not _handle and not (number == signal.SIGHUP and handler is signal.SIG_IGN):
            _former.setdefault(number, handler)
            before[number] = signal.signal(number, _handle)
    return before


def _or_default(handler: signal._HANDLER) -> signal._HANDLER:
    return signal.SIG_DFL if handler is None else handler  # None: it was not set from Python


def _nothing(_name: str) -> None:
    """Do nothing about a signal."""


def _pass(_number: int, _frame: object) -> None:
    """Do nothing about a signal. Unlike one that is ignored, a program that is started next has its usual effect."""


def _before_fork() -> None:
    """Hold signals back in this thread: one that reached a child before it has its own handlers would be lost."""
    _forks.mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _after_fork() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _forks.mask)


def _in_child() -> None:
    """Let a child that was forked be ended by SIGTERM, and by nothing else that its parent decides about."""
    for number in SIGNALS:
        if signal.getsignal(number) is _handle:
            own = number == signal.SIGTERM
            signal.signal(number, _or_default(_former.get(number)) if own else _pass)
    _acts.clear()
    _noted.clear()
    _former.clear()
    _after_fork()


def _handle(number: int, _frame: object) -> None:
    if _acts:
        _acts[-1](signal.Signals(number).name)


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
