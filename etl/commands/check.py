"""`etl check`: is the definition of a job right, and what comes out of its transforms?"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import click

from etl.commands import debug_option, job_argument, lines

if TYPE_CHECKING:
    from etl.config import Job
    from etl.pipeline import Pipeline
    from etl.records import Record

SAMPLE = 10


@click.command(epilog="Exit codes: 0 right; 2 bad configuration; 1 the source or a transform failed.")
@job_argument
@debug_option
def check(job: str) -> None:
    """Check a job file, and take ten records through the transforms. Writes nothing, loads nothing.

    The job as it is understood goes to standard error, the records go to standard output, as JSON lines.
    """
    from etl import advice, config, formats, memory
    from etl.errors import RecordError
    from etl.words import count

    definition = config.read(job)
    pipeline = definition.pipeline()
    budget = memory.budget(pipeline.memory)
    click.echo(_describe(definition, pipeline, budget), err=True)
    for warning in advice.about_limit(budget) if pipeline.warehouse is not None else ():
        click.echo(f"warning: {warning}", err=True)
    records = pipeline.check(SAMPLE)

    def refuse(record: Any, reason: str) -> NoReturn:
        raise RecordError(f"a record cannot be encoded: {reason}; the record: {str(record)[:300]}")

    def show(data: bytes | bytearray | memoryview) -> None:
        click.echo(bytes(data), nl=False)

    for _ in formats.make("ndjson").encode(iter(records), show, refuse, 1):
        pass
    if sys.stdout is not None:
        sys.stdout.flush()
    for misfit in _misfits(pipeline, records):
        click.echo(f"warning: {misfit}", err=True)
    if (obstacle := _occupied(pipeline)) is not None:
        click.echo(f"warning: {obstacle}", err=True)
    click.echo(
        f"{job} is right; the source's first records ({SAMPLE} at most) gave {count(len(records), 'record')}",
        err=True,
    )


def _misfits(pipeline: Pipeline, records: list[Record]) -> Iterator[str]:
    """Say which of the records a warehouse would refuse, by the columns that the job declares."""
    from etl.warehouses.base import ChecksRecords, Job, Misfit

    warehouse: object = pipeline.warehouse
    if not isinstance(warehouse, ChecksRecords):
        return
    gate = warehouse.gate(Job(pipeline=pipeline.name, fingerprint={}), pipeline.format)
    for number, record in enumerate(records, 1):
        try:
            gate.admit(record)
        except Misfit as misfit:
            yield f"record {number} would not fit the table: {misfit}"


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
    from etl.tables import show
    from etl.words import count, size

    def table(values: Mapping[str, Any] | None) -> str:
        # As written: what the environment holds may be a secret.
        return " ".join(f"{key}={show(value)}" for key, value in (values or {}).items())

    written = job.written
    cuts = [size(min(pipeline.part_bytes, budget.part_bytes))]
    if pipeline.part_records is not None:
        cuts.append(f"{pipeline.part_records:,} records")
    if pipeline.part_seconds is not None:
        cuts.append(f"{pipeline.part_seconds:g} s")
    allowed = size(budget.limit) if budget.limit is not None else "no limit"
    if pipeline.warehouse is not None:
        allowed += f"; the warehouse may take {size(budget.warehouse)}, {count(budget.threads, 'thread')}"
    rejects = f"{pipeline.on_error}" + (
        f", at most {pipeline.max_rejects:,} rejects" if pipeline.max_rejects is not None else ""
    )
    return lines(
        ("job", pipeline.name),
        ("source", table(written.get("source"))),
        ("transforms", ", ".join(job.transforms) or "none"),
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
