"""Listeners that show how a run goes: lines of a log, and one live line in a terminal.

Events of progress come often (every 256 KiB): a listener keeps the last one and does no more, until it is time
for the next line. Only then is the control group read.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from etl import memory
from etl.progress import Event, Notice, PartSealed, PlanLoaded, Progress, RunEnded, RunStarted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Clock = Callable[[], float]

RATE_SECONDS = 10.0  # the rate shown is that of the last ten seconds


class Meter:
    """The last progress, and what follows from those before: records per second, time left.

    Args:
        clock: gives seconds; `time.monotonic`.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock()
        self._first_fraction: float | None = None
        self._samples: deque[tuple[float, int]] = deque([(self._began, 0)])
        self.latest: Progress | None = None

    def take(self, event: Progress) -> None:
        """Keep `event`; cheap."""
        if self._first_fraction is None:
            self._first_fraction = event.fraction
        self.latest = event

    def rate(self) -> float:
        """Return records per second since about ten seconds ago; call it when a line is written."""
        now, records = self._clock(), self.latest.records if self.latest else 0
        self._samples.append((now, records))
        while len(self._samples) > 2 and self._samples[1][0] <= now - RATE_SECONDS:
            self._samples.popleft()
        then, before = self._samples[0]
        return (records - before) / (now - then) if now > then else 0.0

    def seconds_left(self) -> float | None:
        """Return how long the rest takes at this run's pace; None: unknown."""
        fraction, first = self.latest.fraction if self.latest else None, self._first_fraction
        if fraction is None or first is None or fraction <= first:
            return None
        return (self._clock() - self._began) * (1 - fraction) / (fraction - first)


class LogListener:
    """Writes a line for each important event, and one for the progress every `interval` seconds.

    Each record of the log has the event's fields as a dict in its attribute `event`, for `JsonLines`.

    Args:
        logger: where to write; a notice is a warning, the rest information.
        clock: gives seconds; `time.monotonic`.
        interval: between two lines of progress, in seconds.
    """

    def __init__(self, logger: logging.Logger, clock: Clock, interval: float = 10.0) -> None:
        self._logger = logger
        self._clock = clock
        self._interval = interval
        self._meter = Meter(clock)
        self._next = clock() + interval
        self._limit: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""

    def __call__(self, event: Event) -> None:
        """Write what `event` says, if it is time."""
        if isinstance(event, Progress):
            self._meter.take(event)
            if self._clock() >= self._next:
                self._next = self._clock() + self._interval
                self._report(event)
            return
        if isinstance(event, RunStarted):
            self._limit = event.memory_limit
        text = sentence(event)
        level = logging.WARNING if isinstance(event, Notice) else logging.INFO
        if isinstance(event, (PartSealed, PlanLoaded)):
            level = logging.DEBUG
        self._logger.log(level, "%s: %s", event.pipeline, text, extra={"event": _fields(event)})

    def _report(self, event: Progress) -> None:
        now, rate, left = memory.read(), self._meter.rate(), self._meter.seconds_left()
        fields = _fields(event) | {
            "records_per_second": round(rate, 1),
            "seconds_left": None if left is None else round(left, 1),
            "memory": asdict(now) | {"working_set": now.working_set} if now else None,
            "resident": memory.resident(),
        }
        text = progress_line(event, rate, left, memory_words(now, self._limit))
        self._logger.info("%s: %s", event.pipeline, text, extra={"event": fields})


class JsonLines(logging.Formatter):
    """Formats each record of the log as one JSON object: `time` (UTC), `level`, `message`, the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "event", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class LiveListener:
    """Keeps one line at the bottom of a terminal up to date, and prints important events above it.

    Used as a context manager. Rich's own thread draws the line four times a second; memory is read once a
    second, on that thread.

    Args:
        clock: gives seconds; `time.monotonic`.
        console: the terminal; None: standard error.
    """

    def __init__(self, clock: Clock, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self._clock = clock
        self._console = console or Console(stderr=True, highlight=False)
        self._meter = Meter(clock)
        self._lock = threading.Lock()
        self._limit: int | None = None
        self._memory = ""
        self._memory_at = clock() - 1.0
        self._live = Live(
            console=self._console, get_renderable=self.render, refresh_per_second=4, transient=True
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Keep or print what `event` says."""
        if isinstance(event, RunStarted):
            self._limit = event.memory_limit
        if isinstance(event, Progress):
            self._meter.take(event)
        elif not isinstance(event, (PartSealed, PlanLoaded)):
            style = "yellow" if isinstance(event, Notice) else ""
            self._console.print(
                f"{event.pipeline}: {sentence(event)}", style=style, markup=False, soft_wrap=True
            )

    def render(self) -> Text:
        """Return the line as it is now."""
        from rich.text import Text

        with self._lock:
            event = self._meter.latest
            if self._clock() - self._memory_at >= 1.0:
                self._memory = memory_words(memory.read(), self._limit)
                self._memory_at = self._clock()
            if event is None:
                return Text("starting …", style="dim")
            line = progress_line(event, self._meter.rate(), self._meter.seconds_left(), self._memory)
        return Text(line, no_wrap=True, overflow="ellipsis")


def sentence(event: Event) -> str:
    """Say an event in words."""
    match event:
        case RunStarted():
            start = f"resuming at {event.resumed_at}" if event.resumed_at else "starting from the beginning"
            limit = f"memory limit {size(event.memory_limit)}" if event.memory_limit else "no memory limit"
            unclean = "" if event.clean else "; the run before did not end by itself, parts start smaller"
            return f"{start} (epoch {event.epoch}, parts of {size(event.part_bytes)}, {limit}){unclean}"
        case PartSealed():
            return (
                f"part {event.sequence} sealed: {event.records:,} records, {size(event.bytes)} "
                f"(cut by {event.cut}) {event.uri}"
            )
        case PlanLoaded():
            return (
                f"loaded up to part {event.sequence}: {count(event.records, 'record')} in "
                f"{event.seconds:.2f} s"
            )
        case Notice():
            return event.message
        case RunEnded():
            end = f"stopped by {event.stopped}" if event.stopped else "finished"
            rejected = f", {event.rejected:,} rejected" if event.rejected else ""
            rate = f" ({event.records / event.seconds:,.0f}/s)" if event.records and event.seconds else ""
            return (
                f"{end}: {count(event.records, 'record')}, {size(event.bytes)}, "
                f"{count(event.parts, 'part')}{rejected} in {duration(event.seconds)}{rate}"
            )
    return type(event).__name__


def progress_line(event: Progress, rate: float, seconds_left: float | None, memory_text: str) -> str:
    """Say in one line how far a run is."""
    words = [
        f"{event.records:,} records",
        f"{rate:,.0f}/s",
        size(event.bytes),
        f"{event.sealed:,} parts sealed, {event.loaded:,} loaded",
    ]
    if event.rejected:
        words.insert(1, f"{event.rejected:,} rejected")
    if memory_text:
        words.append(memory_text)
    if event.fraction is not None:
        words.append(f"{event.fraction:.0%}")
    if seconds_left is not None:
        words.append(f"about {duration(seconds_left)} left")
    return " · ".join(words)


def memory_words(now: memory.Memory | None, limit: int | None) -> str:
    """Say what memory is used, against the limit.

    That is what the control group is charged with, if that has a limit. If not, the group is most likely the
    whole machine's or the session's and its use says nothing of the job: then it is this process's own memory.

    Args:
        now: what the control group says.
        limit: what the job's budget was made of.
    """
    if now is not None and now.limit is not None:
        return f"memory {size(now.usage)} of {size(min(limit or now.limit, now.limit))}"
    own = memory.resident()
    of_limit = f" of {size(limit)}" if limit is not None else ""
    return f"memory {size(own)}{of_limit}" if own is not None else ""


def size(number: int) -> str:
    """Write a number of bytes with a unit of a power of 1024."""
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def duration(seconds: float) -> str:
    """Write a time: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def count(number: int, noun: str) -> str:
    """Write how many there are of `noun`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def is_terminal(stream: TextIO | None = None) -> bool:
    """Say whether `stream` (default: standard error) is a terminal that can move its cursor."""
    stream = stream if stream is not None else sys.stderr
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def _fields(event: Event) -> dict[str, Any]:
    return {"event": type(event).__name__, **asdict(event)}
