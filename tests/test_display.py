"""What the log and the terminal show of a run's events."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from rich.console import Console

from etl.display import JsonLines, LiveListener, LogListener, Meter, TextLines
from etl.memory import MIB
from etl.progress import (
    Event,
    MemoryPressed,
    Notice,
    PartSealed,
    PlanLoaded,
    Progress,
    RunEnded,
    RunStarted,
    SinkHygiene,
)
from etl.words import duration, memory_words, progress_line, sentence, size
from sinks.control_group import Memory

STARTED = RunStarted(
    pipeline="job", epoch=2, resumed_at=None, clean=True, part_bytes=4 * MIB, memory_limit=128 * MIB
)
SEALED = PartSealed(pipeline="job", sequence=1, uri="file:///a", records=10, bytes=100, cut="bytes")
LOADED = PlanLoaded(pipeline="job", plan="ab", sequence=1, parts=1, records=10, seconds=0.5)
NOTICE = Notice(pipeline="job", message="less space: parts are smaller now")
ENDED = RunEnded(pipeline="job", records=1000, bytes=5000, parts=3, rejected=2, seconds=4.0, stopped=None)


def progress(records: int = 0, fraction: float | None = None) -> Progress:
    return Progress(
        pipeline="job",
        taken=records,
        records=records,
        bytes=records * 100,
        rejected=0,
        sealed=2,
        loaded=1,
        fraction=fraction,
    )


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger that writes JSON lines into a buffer."""
    logger, stream = logging.Logger("test", logging.DEBUG), io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logger.addHandler(handler)
    yield logger, stream
    handler.close()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_progress_is_logged_every_ten_seconds_only(
    clock: Clock, log: tuple[logging.Logger, io.StringIO]
) -> None:
    logger, stream = log
    listener = LogListener(logger, clock)
    for step in range(250):
        clock.now = 100.0 + step / 10
        listener(progress(step * 10))
    assert [line["records"] for line in lines(stream)] == [1000, 2000]


def test_a_line_of_progress_has_the_numbers_as_fields(
    clock: Clock, log: tuple[logging.Logger, io.StringIO]
) -> None:
    logger, stream = log
    listener = LogListener(logger, clock)
    listener(progress(0, fraction=0.0))
    clock.now += 10
    listener(progress(5000, fraction=0.25))
    (line,) = lines(stream)
    assert (line["event"], line["level"], line["pipeline"]) == ("Progress", "info", "job")
    assert (line["records_per_second"], line["seconds_left"]) == (500.0, 30.0)


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (STARTED, "info"),
        (NOTICE, "warning"),
        (ENDED, "info"),
        (SEALED, "debug"),
        (LOADED, "debug"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Event) else value,
)
def test_an_event_has_its_level_and_its_fields(
    clock: Clock, log: tuple[logging.Logger, io.StringIO], event: Event, level: str
) -> None:
    logger, stream = log
    LogListener(logger, clock)(event)
    (line,) = lines(stream)
    assert (line["level"], line["event"]) == (level, type(event).__name__)
    assert line["message"] == f"job: {sentence(event)}"
    assert str(line["time"]).endswith("Z")


def test_an_error_in_the_log_keeps_its_traceback(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = log
    try:
        raise ValueError("no")
    except ValueError:
        logger.exception("it failed")
    assert "ValueError: no" in str(lines(stream)[0]["traceback"])


def test_a_warning_is_marked_in_text(clock: Clock) -> None:
    logger, stream = logging.Logger("test"), io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextLines(times=False))
    logger.addHandler(handler)
    listener = LogListener(logger, clock)
    listener(STARTED)
    listener(NOTICE)
    assert stream.getvalue().splitlines() == [
        "job: starting from the beginning (epoch 2, parts of 4 MiB, memory limit 128 MiB)",
        "warning: job: less space: parts are smaller now",
    ]


def test_the_rate_is_that_of_the_last_seconds(clock: Clock) -> None:
    meter = Meter(clock)
    for _ in range(20):
        clock.now += 1
        meter.take(progress(10_000))
        meter.rate()
    assert meter.rate() == 0.0


def test_the_time_left_follows_from_this_run_alone(clock: Clock) -> None:
    meter = Meter(clock)
    meter.take(progress(0, fraction=0.5))  # what an earlier run took
    clock.now += 10
    meter.take(progress(100, fraction=0.6))
    assert meter.seconds_left() == pytest.approx(40.0)


def test_without_a_fraction_no_time_left_is_shown(clock: Clock) -> None:
    meter = Meter(clock)
    meter.take(progress(100))
    assert meter.seconds_left() is None


def test_the_terminal_shows_the_latest_progress(clock: Clock) -> None:
    screen = io.StringIO()
    with LiveListener(clock, Console(file=screen, force_terminal=True, width=200)) as listener:
        assert listener.render().plain == "no records yet · 0.0 s"
        listener(progress(0, fraction=0.0))
        clock.now += 2
        listener(progress(3000, fraction=0.5))
        shown = listener.render().plain
    assert shown.startswith("3,000 records · 1,500/s · 293 KiB · 2 parts sealed, 1 loaded · memory ")
    assert shown.endswith(" · 50% · about 2.0 s left")


def test_the_terminal_shows_important_events_above(clock: Clock) -> None:
    screen = io.StringIO()
    with LiveListener(clock, Console(file=screen, force_terminal=True, width=200)) as listener:
        for event in (STARTED, SEALED, LOADED, NOTICE, ENDED):
            listener(event)
    text = screen.getvalue()
    assert "job: starting from the beginning" in text
    assert "job: less space" in text
    assert "job: finished: 1,000 records, 4.9 KiB, 3 parts, 2 rejected in 4.0 s (250/s)" in text
    assert "file:///a" not in text


def test_brackets_in_a_message_are_no_markup(clock: Clock) -> None:
    screen = io.StringIO()
    with LiveListener(clock, Console(file=screen, force_terminal=True, width=200)) as listener:
        listener(Notice(pipeline="job", message="found [red]brackets[/red]"))
    assert "[red]brackets[/red]" in screen.getvalue()


def hygiene(method: str, *, at_end: bool) -> SinkHygiene:
    return SinkHygiene(
        pipeline="j",
        method=method,
        reason="ext4 does as it is told",
        window=8 * MIB,
        peak=16 * MIB,
        waited=1.5,
        at_end=at_end,
    )


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            RunStarted(
                pipeline="j", epoch=3, resumed_at="7 + 1", clean=False, part_bytes=MIB, memory_limit=None
            ),
            "resuming at 7 + 1 (epoch 3, parts of 1 MiB, no memory limit); "
            "the run before did not end by itself, parts start smaller",
        ),
        (SEALED, "part 1 sealed: 10 records, 100 B (cut by bytes) file:///a"),
        (LOADED, "loaded up to part 1: 10 records in 0.50 s"),
        (
            RunEnded(pipeline="j", records=1, bytes=1, parts=1, rejected=0, seconds=0.5, stopped="SIGTERM"),
            "stopped by SIGTERM: 1 record, 1 B, 1 part in 0.5 s (2/s)",
        ),
        (
            hygiene("write_behind", at_end=False),
            "page cache: write_behind, windows of 8 MiB (ext4 does as it is told)",
        ),
        (
            hygiene("keep", at_end=False),
            "page cache: plain writes (ext4 does as it is told)",
        ),
        (
            hygiene("direct", at_end=True),
            "page cache: the sink held 16 MiB at most, and waited 1.5 s for the disk",
        ),
        (
            MemoryPressed(
                pipeline="j",
                sequence=4,
                bytes=2 * MIB,
                working_set=118 * MIB,
                after=90 * MIB,
                limit=128 * MIB,
            ),
            "memory is short: the working set was 118 MiB of 128 MiB, now 90 MiB; part 4 was cut at 2 MiB, "
            "the next ones are smaller; if this goes on, give the container more memory",
        ),
    ],
)
def test_an_event_is_said_in_words(event: Event, text: str) -> None:
    assert sentence(event) == text


def test_the_memory_of_the_group_is_shown_against_its_limit() -> None:
    now = Memory(limit=128 * MIB, usage=90 * MIB, file=0, inactive_file=0, anonymous=0, dirty=0)
    assert memory_words(now, None) == "memory 90 MiB of 128 MiB"
    assert memory_words(now, 100 * MIB) == "memory 90 MiB of 100 MiB"


def test_without_a_limit_of_the_group_the_process_is_shown() -> None:
    assert memory_words(None, 100 * MIB).endswith(" MiB of 100 MiB")
    assert " of " not in memory_words(None, None)


def test_a_line_of_progress_names_rejected_records() -> None:
    event = Progress(pipeline="j", taken=3, records=1, bytes=1, rejected=2, sealed=0, loaded=0, fraction=None)
    assert progress_line(event, 0.0, None, "") == (
        "1 record · 2 rejected · 0/s · 1 B · 0 parts sealed, 0 loaded"
    )


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (200 * MIB + 1, "200 MiB"),
        (3 * 1024**4, "3.0 TiB"),
    ],
)
def test_sizes_are_rounded(number: int, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.4 s"), (9.97, "10 s"), (59.4, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_times_are_rounded(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_slow_source_is_seen_to_be_alive_before_its_first_batch_is_written():
    event = Progress(
        pipeline="slow", taken=7, records=0, bytes=0, rejected=0, sealed=0, loaded=0, fraction=None
    )
    assert progress_line(event, 0.0, None, "").startswith("7 records taken, none written yet")


def test_what_a_job_was_told_to_do_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        listener = LogListener(logging.getLogger("etl.test"), lambda: 0.0)
        listener(Notice(pipeline="job", message="refreshed", expected=True))
        listener(NOTICE)
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
