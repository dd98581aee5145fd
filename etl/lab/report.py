"""What an experiment found: values that can be stored as JSON and read again, and a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from etl.errors import ConfigError
from etl.lab.sampling import Sample
from etl.lab.strategies import Kind
from etl.words import size

Status = Literal["done", "killed", "failed", "skipped"]
Place = Literal["fresh cgroup", "own cgroup", "nothing"]

MIB = 1024 * 1024


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one strategy took. Units are in the names; None: not known, or not reached.

    Attributes:
        strategy: its name.
        kind: what it stands for: naive, control, keep, drop, transit.
        status: done, killed (by the kernel, because its group was full), failed, or skipped.
        reason: why, unless it is done.
        method: how its files were written, in words.
        written_bytes: how much of the stream it wrote.
        kept_bytes: the length of the files that stayed, compared with the stream byte by byte; None: none stay.
        seconds: from the first line until all that stays is on the disk.
        seconds_until_written: from the first line to the last, before plain files are synced.
        bytes_per_second: `written_bytes` in `seconds`.
        peak_page_cache_bytes: the most page cache that was seen.
        peak_working_set_bytes: the most that was seen of what the kubelet compares with the limit.
        peak_dirty_bytes: the most that was seen waiting to be written.
        peak_anonymous_bytes: the most memory of the process itself that was seen.
        peak_charged_bytes: the most of everything, as the kernel counted it.
        failed_charges: how often the group was full, and something had to be taken back first.
        oom_kills: how many processes were killed because it stayed full.
        disk_bytes: the most that its files were seen to take, or to have reserved, of the disk; parts in transit are
            counted, though they are gone before they get there.
        samples: what was seen over time, at most 400 points with the peaks among them.
    """

    strategy: str
    kind: Kind
    status: Status
    reason: str = ""
    method: str = ""
    written_bytes: int = 0
    kept_bytes: int | None = None
    seconds: float | None = None
    seconds_until_written: float | None = None
    bytes_per_second: float | None = None
    peak_page_cache_bytes: int | None = None
    peak_working_set_bytes: int | None = None
    peak_dirty_bytes: int | None = None
    peak_anonymous_bytes: int | None = None
    peak_charged_bytes: int | None = None
    failed_charges: int | None = None
    oom_kills: int | None = None
    disk_bytes: int | None = None
    samples: list[Sample] = []


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment.

    Attributes:
        lines: how many lines each strategy wrote.
        line_bytes: the length of a line.
        stream_bytes: the length of the whole stream.
        part_bytes: the length of a numbered file, a reused file, a part of a sink.
        limit_bytes: what each process could be charged with, by its own cgroup or one above; None: no limit.
        measured_in: `fresh cgroup` (one for each strategy), `own cgroup` (differences to the beginning), `nothing`.
        measured_in_reason: why it is no fresh one.
        cgroup_version: 1, 2, or None.
        kernel: its name and release.
        file_system: of the directory; None: unknown.
        python: its version.
        outcomes: one for each strategy, in the order in which they ran.
    """

    lines: int
    line_bytes: int
    stream_bytes: int
    part_bytes: int
    limit_bytes: int | None
    measured_in: Place
    measured_in_reason: str = ""
    cgroup_version: int | None = None
    kernel: str
    file_system: str | None
    python: str
    outcomes: list[Outcome] = []

    def to_json(self) -> bytes:
        """Encode it as one JSON document, on one line."""
        return msgspec.json.encode(self) + b"\n"

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Report:
        """Decode what `to_json` gave.

        Args:
            data: the document.
            where: its path, for the message.

        Raises:
            ConfigError: it is no such document.
        """
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise ConfigError(f"{where} is not what `etl lab --json` writes: {error}") from error


def conditions(report: Report) -> str:
    """Say in one line under which conditions was measured."""
    limit = f"limit {size(report.limit_bytes)}" if report.limit_bytes is not None else "no limit"
    if report.measured_in == "fresh cgroup":
        where = f"a fresh memory cgroup (v{report.cgroup_version}) each"
    elif report.measured_in == "own cgroup":
        where = "measured in this process's own cgroup"
    else:
        where = "no cgroup counts memory here"
    return (
        f"{report.lines:,} lines, {size(report.stream_bytes)} · {limit} · {where} · "
        f"{report.kernel} · {report.file_system or 'unknown file system'}"
    )


COLUMNS = (
    ("strategy", ""),
    ("time", "s"),
    ("speed", "MiB/s"),
    ("page cache", "peak MiB"),
    ("working set", "peak MiB"),
    ("failed", "charges"),
    ("OOM", "kills"),
    ("files", "peak MiB"),
    ("method", ""),
)


def table(report: Report) -> str:
    """Lay the outcomes out as a table, one line each; below it why some did not end well, each reason once."""
    rows = [_cells(outcome) for outcome in report.outcomes]
    heads = [[column[line] for column in COLUMNS] for line in (0, 1)]
    everything = [*heads, *rows]
    widths = [max(len(row[place]) for row in everything) for place in range(len(COLUMNS))]
    reasons: dict[str, list[str]] = {}
    for outcome in report.outcomes:
        if outcome.status != "done":
            reasons.setdefault(f"{outcome.status}: {outcome.reason}", []).append(outcome.strategy)
    below = [f"{', '.join(strategies)}: {reason}" for reason, strategies in reasons.items()]
    lines = [_aligned(row, widths).rstrip() for row in everything]
    return "\n".join([*lines, "", *below] if below else lines)


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    name, *numbers, method = zip(row, widths, strict=True)
    cells = [
        name[0].ljust(name[1]),
        *(cell.rjust(width) for cell, width in numbers),
        method[0].ljust(method[1]),
    ]
    return "  ".join(cells)


def _cells(outcome: Outcome) -> list[str]:
    speed = outcome.bytes_per_second
    return [
        outcome.strategy,
        "-" if outcome.seconds is None else f"{outcome.seconds:.2f}",
        "-" if speed is None else f"{speed / MIB:,.0f}",
        _mib(outcome.peak_page_cache_bytes),
        _mib(outcome.peak_working_set_bytes),
        _number(outcome.failed_charges),
        _number(outcome.oom_kills),
        _mib(outcome.disk_bytes),
        outcome.method.partition(" ")[0] if outcome.status == "done" else outcome.status,
    ]


def _mib(value: int | None) -> str:
    return "-" if value is None else f"{value / MIB:,.1f}"


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
