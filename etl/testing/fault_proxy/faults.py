"""What can go wrong with a request, as values; and how a process is killed or stopped for certain."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

# Before the request is passed on, or after the server has answered and before the answer is passed back.
When = Literal["before", "after"]

# The process that is meant; a function is asked at the last moment, for a process that is started after the proxy.
Pid = int | Callable[[], int]

# How long, in seconds, a signalled process may take to be gone or to stand still.
WITHIN = 30.0


@dataclass(frozen=True, slots=True, eq=False)
class Fault:
    """What goes wrong with one request; use one of those below.

    Attributes:
        happened: Is set once the fault has struck; a test may wait for it.
    """

    happened: threading.Event = field(default_factory=threading.Event, init=False, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Kill(Fault):
    """Kill a process with SIGKILL, and go on only when no thread of it is left; its connection is closed.

    `before`: the server never sees the request. `after`: the server has answered, and nobody hears it.
    What the process has sent on other connections by then goes its way, as it would in a network.
    """

    pid: Pid
    when: When = "before"


@dataclass(frozen=True, slots=True, eq=False)
class Stop(Fault):
    """Stop a process with SIGSTOP, and once all its threads stand still, pass on and answer as usual.

    The answer waits for the process, which goes on after SIGCONT.
    """

    pid: Pid
    when: When = "before"


@dataclass(frozen=True, slots=True, eq=False)
class Drop(Fault):
    """Close the connection without an answer; with `after`, the server has done what was asked for."""

    when: When = "before"


@dataclass(frozen=True, slots=True, eq=False)
class Delay(Fault):
    """Wait so many seconds.

    With `before`, the request reaches the server late, and it does so even when the client has given up by then
    (what the client has not sent by then is lacking, of course).
    """

    seconds: float
    when: When = "before"


@dataclass(frozen=True, slots=True, eq=False)
class Answer(Fault):
    """Answer in place of the server, with an error body as Google's services give it.

    Args:
        status: The HTTP status, for instance 408, 429, 500 or 503.
        headers: More headers, for instance `{"Retry-After": "1"}`.
        times: How many requests are answered so: this one and those that follow it.
        when: With `after`, the server has done what was asked for, and its answer is thrown away.
        reason: The reason in the error body; the usual one of that status when not given.
        message: The message in the error body; one that names the proxy when not given.
        body: The whole body, as JSON, in place of an error; with status 200 a service's own words.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int = 1
    when: When = "before"
    reason: str | None = None
    message: str | None = None
    body: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Truncate(Fault):
    """Close the connection after so many bytes of the answer's body (of a chunked one: of its chunks' encoding)."""

    bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class Damage(Fault):
    """Change one byte of the answer's body, and nothing of its head; an answer that is shorter stays as it is.

    Args:
        at: Which byte, counted from 0 (of a chunked body: of its chunks' encoding).
        times: How many answers are changed so: this one and those that follow it.
    """

    at: int = 0
    times: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class CutRequest(Fault):
    """Pass on so many bytes of the request's body, then break off; go on once the server has noticed.

    Whatever the server says to it is thrown away, and the client's connection is closed.
    """

    bytes: int


def kill(pid: int) -> None:
    """Kill a process, and return when it is gone or a zombie: none of its threads does anything any more.

    Raises:
        RuntimeError: It may not be killed, or was not gone within 30 seconds.
    """
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        waiting = select.poll()
        waiting.register(handle, select.POLLIN)  # readable when the last thread has ended: pidfd_open(2)
        if not waiting.poll(WITHIN * 1000):
            raise RuntimeError(f"process {pid} was killed and is not gone after {WITHIN:.0f} s")
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise RuntimeError(f"process {pid} may not be killed: {error}") from error
    finally:
        os.close(handle)


def stop(pid: int) -> None:
    """Stop a process, and return when each of its threads stands still, or is gone.

    Raises:
        RuntimeError: It may not be stopped, or did not stand still within 30 seconds.
    """
    try:
        os.kill(pid, signal.SIGSTOP)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise RuntimeError(f"process {pid} may not be stopped: {error}") from error
    deadline = time.monotonic() + WITHIN
    while not thread_states(pid) <= set("TtZX"):
        if time.monotonic() > deadline:
            raise RuntimeError(f"process {pid} was stopped and still runs after {WITHIN:.0f} s")
        time.sleep(0.001)  # the kernel tells nobody but its parent


def thread_states(pid: int) -> set[str]:
    """Return the states that a process's threads are in, by their letters in proc(5); none when it is gone."""
    states = set()
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            states.add((thread / "stat").read_text().rpartition(")")[2].split()[0])
    except (FileNotFoundError, ProcessLookupError):
        pass  # a thread ended while it was looked at: then the others are seen at the next look
    return states
