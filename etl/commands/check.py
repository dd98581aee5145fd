"""`etl check`: is the definition of a job right, and what comes out of its transforms?"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from etl.commands import debug_option, interruptible, job_argument, lines, say

if TYPE_CHECKING:
    from etl.columns import Columns
    from etl.commands.inference import Inferred
    from etl.config import Job
    from etl.memory import Budget
    from etl.pipeline import Pipeline

SHOWN = 10  # records, and warnings of one kind
LOOKED_AT = 1000  # records
DEADLINE = 10.0  # seconds: who checks a job sits in front of it
SHOWN_COLUMNS = 100


@click.command(epilog="Exit codes: 0 right; 2 bad configuration; 1 the source or a transform failed.")
@job_argument
@click.option(
    "--records",
    "limit",
    metavar="N",
    type=click.IntRange(min=1),
    default=LOOKED_AT,
    show_default=True,
    help="Take the source's first N records.",
)
@click.option(
    "--write-schema",
    "schema",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help='Write the columns to a new file, for `schema = "FILE"` in [warehouse]. Columns of text of which every '
    "value is a date or a timestamp are written as such.",
)
@click.option(
    "--deadline",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=DEADLINE,
    show_default=True,
    help="Wait at most so long for a server that does not answer, whatever the job file says.",
)
@debug_option
@interruptible
def check(job: str, limit: int, schema: Path | None, deadline: float) -> None:
    """Check a job file, and take its first records through the transforms. Writes and loads nothing of the job.

    The job as it is understood goes to standard error, and so do the columns that a load would give an empty table.
    The first ten records go to standard output, as JSON lines.
    """
    from etl import config, formats
    from etl.commands.inference import infer
    from etl.commands.patience import waiting_at_most
    from etl.commands.unused import Unused
    from etl.errors import ConfigError, RecordError, SourceUnavailable
    from etl.escaping import printable_json
    from etl.records import Tells
    from etl.words import count

    if schema is not None and schema.exists():
        raise ConfigError(f"--write-schema: {schema} is there already; remove it, or name another file")
    definition = config.read(job)
    pipeline = waiting_at_most(definition, deadline).pipeline()
    budget = pipeline.see_to_memory()
    say(_describe(definition, pipeline, budget), err=True)
    unused = Unused(definition.written)
    pipeline.transforms = unused.watched(pipeline.transforms)
    try:
        with _warnings_shown():
            records = pipeline.check(limit)
    except SourceUnavailable as error:
        raise type(error)(
            f"{error} (etl check waits for {deadline:g} s; --deadline says for how long)"
        ) from error
    finally:  # where a record cannot be read, it says perhaps why
        for said in pipeline.source.told[:SHOWN] if isinstance(pipeline.source, Tells) else ():
            say(f"found       {said}", err=True)

    def refuse(record: Any, reason: str, _number: int | None = None, /) -> NoReturn:
        raise RecordError(f"a record cannot be encoded: {reason}; the record: {str(record)[:300]}")

    def show(data: bytes | bytearray | memoryview) -> None:
        click.echo(printable_json(bytes(data).decode()), nl=False)

    def hide(data: bytes | bytearray | memoryview) -> None:
        pass

    for some, write in ((records[:SHOWN], show), (records[SHOWN:], hide)):
        for _ in formats.make("ndjson").encode(iter(some), write, refuse, 1):
            pass
    if sys.stdout is not None:
        sys.stdout.flush()
    inferred = infer(definition, pipeline, records)
    for line in _columns(inferred, len(records)):
        say(line, err=True)
    for warning in inferred.warnings[:SHOWN]:
        say(f"warning: {warning}", err=True)
    if (more := len(inferred.warnings) - SHOWN) > 0:
        say(f"warning: and {count(more, 'more record')} would not fit", err=True)
    for warning in unused.warnings()[:SHOWN] if records else ():
        say(f"warning: {warning}", err=True)
    _tell_refused(inferred.refused, pipeline.on_error)
    for obstacle in (_occupied(pipeline), _out_of_reach(pipeline, budget)):
        if obstacle is not None:
            say(f"warning: {obstacle}", err=True)
    if schema is not None:
        _write(inferred, schema)
    if inferred.refused and pipeline.on_error == "fail":
        raise RecordError(
            f"{job}: a run would stop at {inferred.refused[0]}. Fix the source or the transforms, or set "
            'on_error = "reject"'
        )
    say(
        f"{job} is right; the source's first records ({limit:,} at most) gave {count(len(records), 'record')}",
        err=True,
    )


def _tell_refused(refused: list[str], on_error: str) -> None:
    from etl.words import count

    become = "is refused" if on_error == "fail" else "becomes a dead letter"
    for reason in refused[:SHOWN]:
        say(f"warning: {reason}; it {become}", err=True)
    if (more := len(refused) - SHOWN) > 0:
        say(f"warning: and {count(more, 'more record')} are refused, too", err=True)


@contextmanager
def _warnings_shown() -> Iterator[None]:
    """Show what a source warns of, as the other warnings are shown."""
    logger, handler = logging.getLogger("etl"), _Shown()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Shown(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            say(f"warning: {record.getMessage()}", err=True)


def _columns(inferred: Inferred, records: int) -> list[str]:
    """Lay out the columns, as a load would make them."""
    from etl.schemas.types import shown
    from etl.words import count

    rows: list[tuple[str, str]] = []

    def add(columns: Columns, path: tuple[str, ...]) -> None:
        for column in columns:
            where = (*path, column.name)
            type_ = inferred.proposed.get(where)
            hint = f" (every value is a {type_}: --write-schema says so)" if type_ else ""
            rows.append((f"{'  ' * len(where)}{column.name}", shown(column) + hint))
            add(column.fields, where)

    add(inferred.columns, ())
    if not rows:
        return []
    width = min(40, max(len(name) for name, _ in rows))
    laid_out = [f"{name:<{width}}  {type_}" for name, type_ in rows[:SHOWN_COLUMNS]]
    if (more := len(rows) - SHOWN_COLUMNS) > 0:
        laid_out.append(f"  and {more:,} more, which --write-schema writes too")
    return [f"columns     of a table that is empty, by {count(records, 'record')}:", *laid_out]


def _write(inferred: Inferred, path: Path) -> None:
    """Write the columns as BigQuery's JSON schemas have them, which every warehouse takes."""
    import json

    from etl.errors import ConfigError
    from etl.schemas.declared import to_api
    from etl.schemas.proposals import applied
    from etl.words import count

    if not inferred.columns:
        raise ConfigError(
            "--write-schema: the first records tell no columns; take more of them with --records"
        )
    fields = to_api(applied(inferred.columns, inferred.proposed))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(fields, ensure_ascii=False, indent=2) + "\n")
    except OSError as error:
        raise ConfigError(f"--write-schema: {path} cannot be written: {error.strerror}") from error
    proposed = len(inferred.proposed)
    also = (
        f"; {count(proposed, 'column')} of text as date or timestamp, because every value is one"
        if proposed
        else ""
    )
    say(f"wrote {path}{also}; declare it under [warehouse]: schema = {json.dumps(str(path))}", err=True)


def _out_of_reach(pipeline: Pipeline, budget: Budget) -> str | None:
    """Say why a warehouse cannot load from where the sink writes, or cannot be asked."""
    from etl import definition
    from etl.errors import WarehouseError
    from etl.warehouses.base import ReadsPlaces

    warehouse: object = pipeline.warehouse
    if pipeline.warehouse is None or not isinstance(warehouse, ReadsPlaces):
        return None
    try:
        pipeline.warehouse.open(budget)
        definition.check_place(warehouse, pipeline.sink)
    except WarehouseError as error:
        return str(error)
    finally:
        pipeline.warehouse.close()
    return None


def _occupied(pipeline: Pipeline) -> str | None:
    """Say what stands in the way of a first run; where that cannot be found out, why: the definition may be right."""
    from etl.errors import CheckpointError
    from sinks.errors import SinkError

    try:
        if pipeline.read_checkpoint() is None and (path := pipeline.sink.occupied_by()) is not None:
            return f"{path} stands where the sink would write; `etl run` will refuse to overwrite it"
    except (CheckpointError, SinkError) as error:
        return str(error)
    return None


def _describe(job: Job, pipeline: Pipeline, budget: Any) -> str:
    from etl.commands.hiding import shown
    from etl.words import count, size

    def table(values: Mapping[str, Any] | None) -> str:
        return shown(values or {})

    written = job.written
    reshaped = (name for name in ("rename", "drop", "cast") if name in written)
    cuts = [size(min(pipeline.part_bytes, budget.part_bytes))]
    if pipeline.part_records is not None:
        cuts.append(f"{pipeline.part_records:,} records")
    if pipeline.part_seconds is not None:
        cuts.append(f"{pipeline.part_seconds:g} s")
    allowed = size(budget.limit) if budget.limit is not None else "no limit"
    allowed += f"; {size(budget.needed)} are needed"
    if pipeline.warehouse is not None:
        allowed += f"; the warehouse may take {size(budget.warehouse)}, {count(budget.threads, 'thread')}"
    rejects = f"{pipeline.on_error}" + (
        f", at most {pipeline.max_rejects:,} rejects" if pipeline.max_rejects is not None else ""
    )
    return lines(
        ("job", pipeline.name),
        ("source", table(written.get("source"))),
        ("transforms", ", ".join([*reshaped, *job.transforms]) or "none"),
        ("drift", pipeline.drift),
        ("sink", table(written.get("sink"))),
        ("format", pipeline.format),
        ("parts", "cut at " + " or ".join(cuts)),
        ("on error", rejects),
        (
            "rejects",
            table(written.get("rejects")) or f"{getattr(pipeline.rejects, 'path', pipeline.rejects)}",
        ),
        ("warehouse", table(written.get("warehouse")) or "none: the parts are the result"),
        ("checkpoint", pipeline.store.uri),
        ("memory", allowed),
    )
