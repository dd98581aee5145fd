"""What to make of the memory and the places that a job finds: which sink to use, what fails, what may end badly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from etl.memory import MIB, Budget
from etl.needs import lack
from etl.places import Place, by_directory
from etl.words import count, size
from sinks.control_group import Memory
from sinks.parts import SHARE_IN_MEMORY

NEARLY_FULL = 0.8  # of the limit, for the working set: the kubelet evicts at the limit
LITTLE_DISK = 1024 * MIB  # an output that stays is easily larger
LEAST_DISK = MIB  # the smallest part has 64 KiB; a database file, a checkpoint and its copy need some, too
LITTLE_INODES = 10_000
LEAST_INODES = 10
WAITING = 10.0  # percent of the time, of the last ten seconds
# Measured: in 128 MiB, with an image that nobody had read yet, a job took up to eight times as long, and in 160 MiB
# no longer than with one that was read before (examples/bloat/docker.md).
DUCKDB_LIBRARY = 64 * MIB
CRAMPED_WITH_DUCKDB = 128 * MIB
COMFORTABLE_WITH_DUCKDB = 160 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a job does with its parts.

    Attributes:
        sink: the name of its sink.
        slots: as in `sinks.Sink`.
        lasting: as in `sinks.Sink`.
        loads: whether a warehouse takes the parts.
        duckdb: whether that warehouse is DuckDB, which runs in the job's own process.
        ledger: whether that warehouse keeps a ledger, so that parts in transit need not be durable.
        memory: what the job was given, in bytes; None: what its control group allows.
    """

    sink: str
    slots: int | None
    lasting: bool
    loads: bool
    duckdb: bool
    ledger: bool
    memory: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """A sink to use.

    Attributes:
        sink: its name.
        reason: for what, and why.
    """

    sink: str
    reason: str


def sinks_for(place: Place | None, output: Output | None, budget: Budget) -> Iterator[Advice]:
    """Say which sink to use, the best first.

    Args:
        place: where the sink would write; None: into no file system.
        output: what the job does with its parts; None: there is no job.
        budget: what the job may take.
    """
    if place is None:
        if output is not None:
            yield Advice(sink=output.sink, reason="it takes no local disk")
        return
    slots = output.slots if output is not None and output.slots else 2
    transit = f"takes {count(slots, 'part')} of {size(budget.part_bytes)} at most, however large the output"
    if output is not None and output.loads and not output.lasting:
        if output.ledger and not place.memory:
            transit += (
                f", which do not even touch the disk while all are {size(budget.transit_bytes)} or less"
            )
        yield Advice(sink=output.sink, reason=f"as it is; {transit}")
        return
    room = f"{size(place.free)} are free for them in {place.directory}"
    little = place.free < LITTLE_DISK
    if place.obstacle is not None:
        files = f"but under another path: {place.obstacle}"
    elif place.memory:
        transit += f"; no more should lie on {place.file_system}, which is memory"
        files = f"but under another path, on a disk: {place.file_system} is memory"
    elif little:
        files = f"if they fit: only {room}; with keep = false those that are loaded make way"
    else:
        files = room
    lasting = output.sink if output is not None and output.lasting else "numbered_chunks"
    goal = "to load and keep no files" if output is not None and output.loads else "to load into a warehouse"
    keep, load = (
        Advice(sink=lasting, reason=f"to keep the files; {files}"),
        Advice(sink="reused_file", reason=f"{goal}; {transit}"),
    )
    # What the job has chosen goes first, unless it is likely to fail.
    fit = place.obstacle is None and not place.memory and not little
    yield from (keep, load) if output is not None and fit else (load, keep)


def problems(places: Sequence[Place], output: Output | None, budget: Budget) -> Iterator[str]:
    """Say what will not work, and what to do about it."""
    if output is not None and (missing := lack(budget)) is not None:
        yield f"memory: {missing}; `etl run` refuses the job; give it {size(budget.needed)} or more"
    for place in places:
        problem = _problem(place, output, budget)
        if problem is not None:
            yield f"{place.role}: {problem}"


def warnings(
    now: Memory | None, places: Sequence[Place], output: Output | None, budget: Budget
) -> Iterator[str]:
    """Say what may end badly, and what to do about it; of a place that will not work, nothing more."""
    yield from _about_memory(now, output, budget)
    fit = [place for place in places if _problem(place, output, budget) is None]
    for directory, here in by_directory(fit).items():
        yield from _about_directory(directory, here, output)


def _problem(place: Place, output: Output | None, budget: Budget) -> str | None:
    if place.obstacle is not None:
        return f"{place.obstacle}; choose another path, or fix that"
    if _fills_memory(place, output) and budget.limit is not None:
        share = budget.limit // SHARE_IN_MEMORY
        if not 0 < place.total <= share:
            return (
                f"{place.path} grows on {place.file_system}, which is memory that is charged to the job and cannot "
                f"be dropped; of {size(budget.limit)} no more than {size(share)} may go there; choose a path on a disk"
            )
    if place.free < LEAST_DISK:
        return f"{size(place.free)} are free in {place.directory}; make room, or choose another path"
    if place.inodes is not None and place.inodes < LEAST_INODES:
        files = count(place.inodes, "file")
        return f"only {files} more can be made in {place.directory} (inodes); delete some, or choose another path"
    return None


def _about_memory(now: Memory | None, output: Output | None, budget: Budget) -> Iterator[str]:
    asked = output.memory if output is not None else None
    if budget.limit is None:
        yield (
            "no memory limit is set, so the budget is a guess; give the container `--memory`, or the job file "
            "`memory`"
        )
    if now is None:
        return
    if now.limit is not None and now.limit < CRAMPED_WITH_DUCKDB and (output is None or output.duckdb):
        yield (
            f"DuckDB's library alone ({size(DUCKDB_LIBRARY)}) is charged to the container that touches it first: with "
            f"less than {size(CRAMPED_WITH_DUCKDB)} a cold start crawls, {size(COMFORTABLE_WITH_DUCKDB)} is comfortable"
        )
    if asked is not None and now.limit is not None and asked > now.limit:
        yield f"the job's `memory` is {size(asked)}, but its control group allows {size(now.limit)}: that one counts"
    if now.limit is not None and now.working_set > NEARLY_FULL * now.limit:
        yield (
            f"the working set is {now.working_set / now.limit:.0%} of the limit before the job has begun; "
            "raise the limit, or end what else runs in this container"
        )
    if now.oom_kills:
        yield f"{count(now.oom_kills, 'time')} the kernel killed a process of this control group for want of memory"
    if now.swap or (now.limit is not None and now.swap_limit):
        yield (
            f"there is swap ({size(now.swap)} are in it, {size(now.swap_limit)} may be): a job that wants more than "
            "its limit gets slow, where it would have been killed; `--memory-swap` equal to `--memory` turns it off"
        )
    if now.pressure is not None and now.pressure.some_avg10 > WAITING:
        yield (
            f"tasks here waited for memory {now.pressure.some_avg10:.0f} % of the last ten seconds; "
            "raise the limit, or end what else runs in this container"
        )


def _about_directory(directory: Path, here: list[Place], output: Output | None) -> Iterator[str]:
    place = here[0]
    roles = ", ".join(each.role for each in here)
    stays = [each for each in here if each.role in ("warehouse", "checkpoint") or _fills_memory(each, output)]
    if place.memory:
        lost = ", is gone when the container ends" if stays else ""
        yield (
            f"{roles}: {directory} is on {place.file_system}, which is memory: what is written there is charged to "
            f"the container{lost}, and cannot be dropped; choose a path on a disk"
        )
    elif place.volatile and roles != "temporary":
        yield (
            f"{roles}: {directory} is on an overlay that is mounted volatile: no sync does anything there, so nothing "
            "there is durable, and it is gone with the container; mount a volume"
        )
    elif place.file_system == "overlayfs" and roles != "temporary":
        yield (
            f"{roles}: {directory} is on overlayfs, the container's own layer: it is gone with the container; "
            "mount a volume"
        )
    elif output is not None and output.lasting and place.free < LITTLE_DISK and "sink" in roles:
        yield f"{roles}: the output stays, and only {size(place.free)} are free in {directory}"
    if place.inodes is not None and LEAST_INODES <= place.inodes < LITTLE_INODES:
        yield f"{roles}: only {count(place.inodes, 'file')} more can be made in {directory} (inodes)"


def _fills_memory(place: Place, output: Output | None) -> bool:
    """Say whether what lies there grows with the data, on a file system that is memory."""
    grows = place.role == "warehouse" or (place.role == "sink" and output is not None and output.lasting)
    return place.memory and grows
