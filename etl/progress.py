"""Events: what a run tells its listeners. The log and the live display are two of them.

A listener is a callable of one event. It is called on the thread of the run, between records: it must be
quick, and what it raises ends the run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from etl import secret_values


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened in a run of `pipeline`."""

    pipeline: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """The job is held, and pulling begins.

    Attributes:
        epoch: the job's epoch.
        resumed_at: the source's position as text; None: the job starts from the beginning.
        clean: whether the run before ended by itself; a run that finds it did not starts with smaller parts.
        part_bytes: the size of a part, in bytes.
        memory_limit: what the job may be charged with, in bytes; None: no limit is known.
    """

    epoch: int
    resumed_at: str | None
    clean: bool
    part_bytes: int
    memory_limit: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Event):
    """How far this run is; sent whenever a batch of records was encoded (about 256 KiB).

    Attributes:
        taken: records taken from the source in this run.
        records: records written in this run.
        bytes: bytes written in this run.
        rejected: records rejected in this run.
        sealed: parts sealed in this run.
        loaded: parts loaded in this run.
        fraction: how much of the source has been taken, 0 to 1, over all runs; None: unknown.
    """

    taken: int
    records: int
    bytes: int
    rejected: int
    sealed: int
    loaded: int
    fraction: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSealed(Event):
    """A part is durable and committed.

    Attributes:
        sequence: its number.
        uri: where it is.
        records: how many records it holds.
        bytes: its size.
        cut: why it ended there: `bytes`, `records`, `seconds`, `memory`, `source` (it cannot be
            had for now), `end`, or the name of a signal.
    """

    sequence: int
    uri: str
    records: int
    bytes: int
    cut: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkHygiene(Event):
    """How the sink keeps the page cache small: when that is known, when it changes, and at the end of the run.

    Attributes:
        method: `write_behind`, `fdatasync`, `direct`, `uncached` or `keep`.
        reason: why that one, in words.
        window: how much is written before it is cleaned up behind, in bytes.
        peak: the most bytes of a part that were seen in the page cache in this run.
        waited: the seconds spent waiting for the disk in this run.
        at_end: whether this is the run's sum.
    """

    method: str
    reason: str
    window: int
    peak: int
    waited: float
    at_end: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPressed(Event):
    """The working set was near the limit: the part was cut early, loaded, and its pages dropped.

    Attributes:
        sequence: the part's number.
        bytes: its size.
        working_set: what the kubelet would have seen when it was cut, in bytes.
        after: the same when all was done, in bytes; None: unknown.
        limit: of the control group, in bytes.
    """

    sequence: int
    bytes: int
    working_set: int
    after: int | None
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanLoaded(Event):
    """A plan is in the warehouse and acknowledged.

    Attributes:
        plan: its id.
        sequence: the number of its last part.
        parts: how many parts it had.
        records: how many rows it added.
        seconds: how long the load took.
    """

    plan: str
    sequence: int
    parts: int
    records: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnsChanged(Event):
    """A load added columns to the table that was there, or gave one another type, because records needed that.

    A load that was repeated because its answer was lost may not be told.

    Attributes:
        table: the table.
        sequence: the number of the part that needed it; of BigQuery the last one of its load.
        added: the type of each column that is new, or of a field of one, by its name: `payload.id`.
        changed: the types of each other one, before and after.
    """

    table: str
    sequence: int
    added: dict[str, str]
    changed: dict[str, tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice(Event):
    """Something a person should know, though the run goes on: less space, lost parts pulled again.

    Attributes:
        message: what it is.
        expected: whether it is what the job was told to do, and so no warning.
    """

    message: str
    expected: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded(Event):
    """The run is over, in order.

    Attributes:
        records: records written in this run.
        bytes: bytes written in this run.
        parts: parts sealed in this run.
        rejected: records rejected in this run.
        ignored: fields that were left out in this run, because the table has no column for them.
        seconds: how long the run took.
        stopped: why it ended before the source did (the name of a signal); None: the source's end.
        cut_for_memory: how many parts were cut early because memory was short.
    """

    records: int
    bytes: int
    parts: int
    rejected: int
    seconds: float
    stopped: str | None
    cut_for_memory: int = 0
    ignored: int = 0


def without_secrets(event: Event) -> Event:
    """Return an event as it may be shown and logged; see `etl.secret_values`."""
    if not secret_values.any_known():
        return event
    found = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    shown = {name: secret_values.hide(value) for name, value in found.items() if isinstance(value, str)}
    return dataclasses.replace(event, **shown)


Listener = Callable[[Event], None]
