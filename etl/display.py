"""Listeners that show how a run goes: lines of a log, and one live line in a terminal.

Events of progress come often (every 256 KiB): a listener keeps the last one and does no more, until it is time
for the next line. Only then is the control group read.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self, cast

from etl import memory
from etl.escaping import printable, printable_json
from etl.progress import Event, MemoryPressed, Notice, PartSealed, PlanLoaded, Progress, RunStarted
from etl.secret_values import hide
from etl.words import duration, memory_words, progress_line, sentence
from sinks import control_group

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

    def seconds(self) -> float:
        """Return how long it has been running."""
        return self._clock() - self._began

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
        return self.seconds() * (1 - fraction) / (fraction - first)


class LogListener:
    """Writes a line for each important event, and one for the progress every `interval` seconds.

    Each record of the log has the event's fields as a dict in its attribute `event`, for `JsonLines`.

    Args:
        logger: where to write; a notice of what was not expected is a warning, the rest information.
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
        level = logging.WARNING if _warns(event) else logging.INFO
        if isinstance(event, (PartSealed, PlanLoaded)):
            level = logging.DEBUG
        self._logger.log(level, "%s: %s", event.pipeline, text, extra={"event": _fields(event)})

    def _report(self, event: Progress) -> None:
        now, rate, left = control_group.read(), self._meter.rate(), self._meter.seconds_left()
        fields = _fields(event) | {
            "records_per_second": round(rate, 1),
            "seconds_left": None if left is None else round(left, 1),
            "memory": asdict(now) | {"working_set": now.working_set} if now else None,
            "resident": memory.resident(),
        }
        text = progress_line(event, rate, left, memory_words(now, self._limit))
        self._logger.info("%s: %s", event.pipeline, text, extra={"event": fields})


class TextLines(logging.Formatter):
    """Formats each record of the log as a line of text: the time, `warning:` or `error:` where it is one.

    Args:
        times: whether lines begin with the time.
    """

    def __init__(self, *, times: bool) -> None:
        super().__init__("%(asctime)s %(message)s" if times else "%(message)s", "%Y-%m-%d %H:%M:%S")

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        """Return a traceback without secrets."""
        return hide(super().formatException(ei))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        """Return the line without a traceback."""
        record.message = printable(hide(record.message))
        if record.levelno >= logging.WARNING:
            record.message = f"{record.levelname.lower()}: {record.message}"
        return super().formatMessage(record)


class JsonLines(logging.Formatter):
    """Formats each record of the log as one JSON object: `time` (UTC), `level`, `message`, the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line = line | getattr(record, "event", {}) | line  # an event's own `message` is within the line's
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return printable_json(hide(json.dumps(line, ensure_ascii=False, default=str)))


class _Terminal(io.TextIOBase):
    """Standard error; when that is gone (its terminal was closed), what is written is dropped: no reason to fail."""

    def __init__(self) -> None:
        self._file = sys.stderr

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()

    def isatty(self) -> bool:
        return self._file.isatty()

    def fileno(self) -> int:
        return self._file.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute in the base class
        return self._file.encoding


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
        self._console = console or Console(file=cast("IO[str]", _Terminal()), highlight=False)
        self._meter = Meter(clock)
        self._lock = threading.Lock()
        self._limit: int | None = None
        self._memory = ""
        self._memory_at = clock() - 1.0
        self._live = Live(
            console=self._console,
            get_renderable=self.render,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
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
            style = "yellow" if _warns(event) else ""
            text = f"{event.pipeline}: {printable(hide(sentence(event)))}"
            self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    def render(self) -> Text:
        """Return the line as it is now."""
        from rich.text import Text

        with self._lock:
            event = self._meter.latest
            if self._clock() - self._memory_at >= 1.0:
                self._memory = memory_words(control_group.read(), self._limit)
                self._memory_at = self._clock()
            if event is None:
                return Text(f"no records yet · {duration(self._meter.seconds())}", style="dim")
            line = progress_line(event, self._meter.rate(), self._meter.seconds_left(), self._memory)
        return Text(line, no_wrap=True, overflow="ellipsis")


def _warns(event: Event) -> bool:
    return isinstance(event, MemoryPressed) or (isinstance(event, Notice) and not event.expected)


def _fields(event: Event) -> dict[str, Any]:
    return {"event": type(event).__name__, **asdict(event)}
