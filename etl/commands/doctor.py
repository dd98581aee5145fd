"""`etl doctor`: what a job finds where it runs, and which sink it should use."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from etl.commands import FAILED, debug_option, interruptible, say, say_json

if TYPE_CHECKING:
    from etl.advice import Advice
    from etl.config import Job
    from etl.memory import Budget
    from etl.places import Place
    from sinks.control_group import Memory

BAR = 20  # characters
LINE = 110  # the most characters in a line; less where the terminal has less


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All that was found.

    Attributes:
        memory: what the control group says; None: there is none.
        processors: how many this process may use.
        machine: how many the machine has.
        places: what the job writes, or where it might.
        budget: what the job may take; its parts are as large as the job would make them.
        embedded: whether some of that is for a warehouse in the job's own process; without a job: it may be.
        advice: which sink to use, the best first.
        problems: what will not work.
        warnings: what may end badly.
    """

    memory: Memory | None
    processors: int
    machine: int
    places: tuple[Place, ...]
    budget: Budget
    embedded: bool
    advice: tuple[Advice, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


@click.command(
    epilog="Exit codes: 0 it will work, warnings included; 1 something will not; 2 bad configuration."
)
@click.argument("job", metavar="[JOB.toml]", type=click.Path(), required=False)
@click.option(
    "--path",
    type=click.Path(path_type=Path),
    help="Without a job: the directory to write in.  [default: the current one]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; sizes are in bytes.")
@debug_option
@click.pass_context
@interruptible
def doctor(context: click.Context, job: str | None, path: Path | None, *, as_json: bool) -> None:
    """Look at the memory, the processors and the disks that a job finds here, and say which sink to use.

    Shows what the container's memory is taken by, and what of it can be taken back; for each place that the job
    writes to, its file system, its free space, and how the page cache is kept small there. Writes nothing.
    """
    from etl import config

    if job is not None and path is not None:
        raise click.UsageError("--path is for a look without a job; the job's places are in its file")
    found = diagnose(None if job is None else config.read(job), path)
    if as_json:
        say_json(json.dumps(_values(found), indent=2))
    else:
        say("\n".join(_text(found)))
    if found.problems:
        context.exit(FAILED)


def diagnose(job: Job | None = None, path: Path | None = None, *, root: Path = Path("/")) -> Diagnosis:
    """Look at everything; change nothing.

    Args:
        job: the job; None: none in particular.
        path: without a job, the directory where one would write; None: the current one.
        root: where `/proc` and `/sys` are.

    Raises:
        ConfigError: the job's definition is wrong.
    """
    from etl import advice, memory, places
    from etl.warehouses.base import KeepsLedger
    from etl.warehouses.duckdb import DuckDB
    from sinks import control_group

    output, part_bytes = None, None
    budget = memory.budget(root=root)
    if job is None:
        seen = [
            places.look(path or Path.cwd(), "path"),
            places.look(Path(tempfile.gettempdir()), "temporary"),
        ]
    else:
        pipeline = job.pipeline()
        seen = list(places.of_job(pipeline))
        budget, part_bytes = pipeline.budget(root=root), pipeline.part_bytes
        output = advice.Output(
            sink=job.sink.get("type", ""),
            slots=pipeline.sink.slots,
            lasting=pipeline.sink.lasting,
            loads=pipeline.warehouse is not None,
            duckdb=isinstance(pipeline.warehouse, DuckDB),
            ledger=isinstance(pipeline.warehouse, KeepsLedger),
            memory=pipeline.memory,
        )
    now = control_group.read(root)
    budget = replace(budget, part_bytes=min(part_bytes or budget.part_bytes, budget.part_bytes))
    place = next((each for each in seen if each.role in ("sink", "path")), None)
    return Diagnosis(
        memory=now,
        processors=memory.processors(root),
        machine=os.cpu_count() or 1,
        places=tuple(seen),
        budget=budget,
        embedded=output is None or output.duckdb,
        advice=tuple(advice.sinks_for(place, output, budget)),
        problems=tuple(advice.problems(seen, output, budget)),
        warnings=tuple(advice.warnings(now, seen, output, budget)),
    )


def _values(found: Diagnosis) -> dict[str, Any]:
    values = asdict(found)
    if found.memory is not None:
        values["memory"] |= {
            "working_set": found.memory.working_set,
            "reclaimable": found.memory.reclaimable,
        }
    for place in values["places"]:
        place |= {"path": str(place["path"]), "directory": str(place["directory"])}
    return values


def _text(found: Diagnosis) -> Iterator[str]:
    from etl.places import by_directory
    from etl.words import count, size

    yield from _block("memory", _memory(found.memory))
    allowed = count(found.processors, "processor")
    less = f" of {found.machine}, by affinity or quota" if found.processors < found.machine else ""
    yield from _block("cpu", [allowed + less])
    for directory, places in by_directory(found.places).items():
        yield from _block("disk", _disk(directory, places))
    yield from _block("sink", [f"{each.sink}: {each.reason}" for each in found.advice])
    budget = found.budget
    of_limit = f"of {size(budget.limit)}" if budget.limit is not None else "without a limit"
    threads = count(budget.threads, "thread")
    warehouse = (
        f", {size(budget.warehouse)} and {threads} for an embedded warehouse" if found.embedded else ""
    )
    yield from _block("budget", [f"{of_limit}: parts of {size(budget.part_bytes)}{warehouse}"])
    for name, messages in (("warning", found.warnings), ("problem", found.problems)):
        for message in messages:
            yield from _block(name, [message])
    if not found.problems and not found.warnings:
        yield from _block("", ["All is well."])


def _memory(now: Memory | None) -> Iterator[str]:
    from etl.words import count, size

    if now is None:
        yield "no control group counts this process's memory: nothing limits it but the machine"
        return
    whole = now.limit if now.limit is not None else now.usage
    limit = (
        f"limit {size(now.limit)}" if now.limit is not None else "no limit; the shares are of what is used"
    )
    yield f"control group version {now.version}, {limit}"
    rows = (
        ("anonymous", now.anonymous),
        ("page cache, active", now.active_file),
        ("page cache, inactive", now.inactive_file),
        ("tmpfs, shared memory", now.shmem),
        ("kernel", now.kernel),
        ("all of it", now.usage),
    )
    for name, value in rows:
        share = value / whole if whole else 0.0
        yield f"{name:<20}{size(value):>10}{share:>6.0%}  {'#' * min(BAR, round(BAR * share))}"
    waits = now.dirty + now.writeback
    yield f"{size(now.reclaimable)} can be taken back, {size(waits)} of it not before it is on the disk"
    near = f"{now.working_set / now.limit:.0%} of the limit, " if now.limit is not None else ""
    yield f"working set {size(now.working_set)}: {near}without the inactive page cache; Kubernetes evicts by it"
    told = [f"peak {size(now.peak)}"] if now.peak is not None else []
    if now.failed_charges is None:
        told.append("failed charges are not counted where the limit with swap is the same")
    else:
        told.append(count(now.failed_charges, "failed charge"))
    told.append(count(now.oom_kills, "OOM kill"))
    if now.swap or now.swap_limit:
        told.append(f"{size(now.swap)} in swap, {size(now.swap_limit)} at most")
    if now.pressure is not None:
        some, full = now.pressure.some_avg10, now.pressure.full_avg10
        told.append(f"waiting for memory {some:g} % of the time (all tasks {full:g} %)")
    yield ", ".join(told)
    yield f"read in {now.directory}"


def _disk(directory: Path, places: list[Place]) -> Iterator[str]:
    from etl.advice import LITTLE_INODES
    from etl.words import count, size

    first = places[0]
    total = f" of {size(first.total)}" if first.total else ""
    kind = f"{first.file_system or 'unknown file system'}{', which is memory' if first.memory else ''}"
    few = first.inodes is not None and first.inodes < LITTLE_INODES
    files = f", room for {count(first.inodes or 0, 'file')}" if few else ""
    yield f"{directory}: {kind}, {size(first.free)} free{total}{files}"
    names = {"path": "the output", "temporary": "temporary files"}
    yield "  " + ", ".join(
        names.get(place.role, f"{place.role} {os.path.relpath(place.path, directory)}") for place in places
    )
    ways = {
        (place.methods, place.reason): place.role
        for place in reversed(places)
        if place.methods and place.obstacle is None
    }
    for (methods, reason), role in reversed(ways.items()):
        method, *others = methods
        what = f"{role} is" if len(ways) > 1 else "files are"
        then = f"; if that does not work: {', '.join(others)}" if others else ""
        how = "plainly (keep)" if method == "keep" else f"by {method}"
        yield f"  {what} written {how}: {reason}{then}"


def _block(name: str, texts: Iterable[str]) -> Iterator[str]:
    """Lay texts out to the right of a name, wrapped."""
    width = min(LINE, shutil.get_terminal_size((LINE, 24)).columns)
    for text in texts:
        yield from textwrap.wrap(
            text,
            width,
            initial_indent=f"{name:<9}",
            subsequent_indent=" " * (11 + len(text) - len(text.lstrip())),
            break_long_words=False,
            break_on_hyphens=False,
            replace_whitespace=False,
        )
        name = ""
