"""`etl verify`: is everything that a job loaded in its table, once?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from etl.commands import FAILED, UNCOMPARED, debug_option, interruptible, job_argument, lines, say, say_json

if TYPE_CHECKING:
    from etl.checkpoint import Checkpoint
    from etl.pipeline import Pipeline
    from etl.warehouses.base import Audit

# A job that is running changes its checkpoint while the warehouse is asked.
ATTEMPTS = 3


@click.command(
    epilog="Exit codes: 0 all was compared, and is there, once; 3 what could be compared is right, and not all could "
    "be; 1 something is missing, twice or unknown; 2 bad configuration."
)
@job_argument
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@debug_option
@click.pass_context
@interruptible
def verify(context: click.Context, job: str, *, as_json: bool) -> None:
    """Compare the checkpoint, the loads that the warehouse remembers, and the table. Changes nothing.

    Let the job be at rest: while it runs, the numbers change.
    """
    from etl import config, verification
    from etl.verification import compare

    pipeline = config.read(job).pipeline()
    document, audit = _look(pipeline)
    findings = compare(document, audit)
    kinds = {finding.kind for finding in findings}
    wrong, uncompared = bool(kinds & verification.WRONG), bool(kinds & verification.UNCOMPARED)
    if as_json:
        import msgspec

        found = {
            "pipeline": pipeline.name,
            "checkpoint": pipeline.store.uri,
            "loaded": msgspec.to_builtins(document.loaded.totals),
            "warehouse": msgspec.to_builtins(audit),
            "findings": msgspec.to_builtins(findings),
            "right": False if wrong else None if uncompared else True,  # None: nobody knows
        }
        say_json(json.dumps(found, indent=2))
    else:
        say(_summary(document, audit))
        for finding in findings:
            say(f"{finding.kind}: {finding.text}")
        say(_verdict(audit, wrong=wrong, uncompared=uncompared))
    context.exit(FAILED if wrong else UNCOMPARED if uncompared else 0)


def _verdict(audit: Audit, *, wrong: bool, uncompared: bool) -> str:
    """Say in one line what was found, and no more than was compared."""
    if wrong:
        return "something is wrong"
    if uncompared:
        return "what could be compared is right; not all could be compared"
    if audit.merged:
        return (
            "all that was loaded was merged once; whether rows were deleted or changed since is not compared"
        )
    return "all that was loaded is in the table, once"


def _look(pipeline: Pipeline) -> tuple[Checkpoint, Audit]:
    """Read the checkpoint and ask the warehouse, without a step of the job in between."""
    from etl import memory
    from etl.checkpoint import Checkpoint
    from etl.errors import ConfigError, Fenced
    from etl.warehouses.base import Audits, Job

    warehouse = pipeline.warehouse
    asked: object = warehouse
    if warehouse is None or not isinstance(asked, Audits):
        what = "it has no warehouse" if warehouse is None else f"{warehouse!r} cannot be asked what it loaded"
        raise ConfigError(f"job {pipeline.name!r} cannot be verified: {what}")
    warehouse.open(memory.budget(pipeline.memory))
    try:
        for _ in range(ATTEMPTS):
            before = pipeline.read_checkpoint()
            document = before or Checkpoint(pipeline=pipeline.name)
            destination = pipeline.fingerprint["destination"]
            loaded = document.fingerprint.get("destination", destination)
            if loaded != destination and not _is_moved(pipeline, document):
                raise ConfigError(
                    f"job {pipeline.name!r} changed: it loaded into {loaded}, now it names {destination}; change it "
                    "back to verify what was loaded"
                )
            audit = asked.audit(Job.of(document, pipeline.fingerprint))
            if pipeline.read_checkpoint() == before:
                return document, audit
    finally:
        warehouse.close()
    raise Fenced(f"job {pipeline.name!r} is being run; verify it when it has ended")


def _is_moved(pipeline: Pipeline, document: Checkpoint) -> bool:
    """Say whether the database is the one that the job loaded into, although its path is another one."""
    from etl import moves
    from etl.warehouses.base import HasIdentity

    since = moves.Moves(document.fingerprint, pipeline.fingerprint, moves.CHECKPOINT)
    warehouse: object = pipeline.warehouse
    return since.same("destination") or (
        isinstance(warehouse, HasIdentity)
        and since.same_but_for_place("destination")
        and bool(document.warehouse)
        and warehouse.identity(draw=False) == document.warehouse
    )


def _summary(document: Checkpoint, audit: Audit) -> str:
    from etl.words import count

    remembered = sum(load.rows for load in audit.loads) if audit.rows_ever is None else audit.rows_ever
    loads = len(audit.loads) if audit.loads_ever is None else audit.loads_ever
    others = f", and {count(audit.other_rows, 'row')} of other jobs" if audit.other_rows else ""
    table = "does not exist" if audit.table_rows is None else count(audit.table_rows, "row")
    return lines(
        ("job", document.pipeline),
        (
            "checkpoint",
            f"{count(document.loaded.totals.records, 'record')} in {count(document.loads, 'load')}",
        ),
        (
            "warehouse",
            f"{count(remembered, 'record')} in {count(loads, 'load')}, merged by key{others}"
            if audit.merged
            else f"{count(remembered, 'row')} in {count(loads, 'load')}{others}",
        ),
        ("table", f"{audit.table}: {table}"),
    )
