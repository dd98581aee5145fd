"""Events, sizes and times in words, for the log, the terminal and the command line."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from etl import memory
from etl.progress import (
    ColumnsChanged,
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
from sinks import Hygiene
from sinks.control_group import Memory

# So many columns stand in a line.
SHOWN = 20


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
                f"part {event.sequence} sealed: {count(event.records, 'record')}, {size(event.bytes)} "
                f"(cut by {event.cut}) {event.uri}"
            )
        case SinkHygiene():
            return f"page cache: {held(event) if event.at_end else method(event)}"
        case MemoryPressed():
            after = f", now {size(event.after)}" if event.after is not None else ""
            return (
                f"memory is short: the working set was {size(event.working_set)} of {size(event.limit)}{after}; "
                f"part {event.sequence} was cut at {size(event.bytes)}, the next ones are smaller; if this goes on, "
                "give the container more memory"
            )
        case PlanLoaded():
            return (
                f"loaded up to part {event.sequence}: {count(event.records, 'record')} in "
                f"{event.seconds:.2f} s"
            )
        case ColumnsChanged():
            return f"{event.table} {'; '.join(_columns(event))}, for part {event.sequence}"
        case Notice():
            return event.message
        case RunEnded():
            end = f"stopped by {event.stopped}" if event.stopped else "finished"
            rejected = f", {event.rejected:,} rejected" if event.rejected else ""
            ignored = f", {count(event.ignored, 'unknown field')} ignored" if event.ignored else ""
            rate = f" ({event.records / event.seconds:,.0f}/s)" if event.records and event.seconds else ""
            cut = f", {count(event.cut_for_memory, 'part')} cut for memory" if event.cut_for_memory else ""
            return (
                f"{end}: {count(event.records, 'record')}, {size(event.bytes)}, "
                f"{count(event.parts, 'part')}{rejected}{ignored}{cut} in {duration(event.seconds)}{rate}"
            )
    return type(event).__name__


def _columns(event: ColumnsChanged) -> Iterator[str]:
    """Say what was added to a table, and what was changed; the rest of many names stands in the event."""
    added = [f"{name} ({type_})" for name, type_ in event.added.items()]
    changed = [f"{name} (from {old} to {new})" for name, (old, new) in event.changed.items()]
    for what, columns in (("has new columns: ", added), ("has columns of another type: ", changed)):
        if columns:
            more = f" and {len(columns) - SHOWN} more" if len(columns) > SHOWN else ""
            yield what + ", ".join(columns[:SHOWN]) + more


def method(found: SinkHygiene | Hygiene) -> str:
    """Say how the page cache is kept small, and why so."""
    if found.method == "keep":
        return f"plain writes ({found.reason})"
    return f"{found.method}, windows of {size(found.window)} ({found.reason})"


def held(found: SinkHygiene | Hygiene) -> str:
    """Say what that took."""
    return f"the sink held {size(found.peak)} at most, and waited {duration(found.waited)} for the disk"


def progress_line(event: Progress, rate: float, seconds_left: float | None, memory_text: str) -> str:
    """Say in one line how far a run is."""
    written = count(event.records, "record")
    if event.taken and not event.records:
        written = f"{count(event.taken, 'record')} taken, none written yet"  # they are slow, or few survive
    words = [
        written,
        f"{rate:,.0f}/s",
        size(event.bytes),
        f"{count(event.sealed, 'part')} sealed, {event.loaded:,} loaded",
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


def memory_words(now: Memory | None, limit: int | None) -> str:
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
            digits = 0 if value >= 99.95 or value == int(value) else 1
            return f"{value:.{digits}f} {unit}"
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


def differences(then: str, now: str) -> tuple[str, str]:
    """Leave out of two descriptions what is the same in both, where they are JSON objects, as those of sources are."""
    try:
        before, after = msgspec.json.decode(then), msgspec.json.decode(now)
    except msgspec.DecodeError:
        return then, now
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return then, now
    one, other = (
        {key: value for key, value in a.items() if key not in b or b[key] != value}
        for a, b in ((before, after), (after, before))
    )
    return msgspec.json.encode(one).decode(), msgspec.json.encode(other).decode()
