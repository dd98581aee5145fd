"""Can the table be what the checkpoint says? The mark on the table tells, and where there is none, the jobs do.

What cannot be told is a doubt, never "no": a list of jobs may lack those of other accounts, and those of long ago.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from etl.checkpoint import Plan
from etl.errors import WarehouseError
from etl.warehouses.base import Job
from etl.warehouses.bigquery import marks
from etl.warehouses.bigquery.audit import former_load, last_own_part, under_way
from etl.warehouses.bigquery.jobs import REMEMBERED, SEES_ALL, Hidden, Jobs
from etl.warehouses.bigquery.limits import LONGEST_JOB
from etl.warehouses.bigquery.marks import ADOPT, AGAIN, BACK, Mark
from etl.warehouses.bigquery.table import Table


def doubt(job: Job, found: Any, table: Table, jobs: Jobs) -> str | None:
    """Say why a table may not be what the checkpoint says, and what to do; None: it is.

    Args:
        job: whose table it is.
        found: the table as the client has it.
        table: the table.
        jobs: where its jobs run.

    Raises:
        WarehouseError: it cannot be found out.
    """
    mark = marks.read(found, job.pipeline)
    if mark is not None:
        rows = 0 if mark.is_of(job) else table.count().rows
        return marks.contradiction(job, found, table, rows) or (
            None if mark.is_of(job) else _coming(job, mark, table, jobs)
        )
    if job.loads:
        return _unmarked(job, found, table, jobs)
    if (rows := table.count().rows) == 0:
        return None
    hidden = Hidden()
    if former := former_load(jobs, table, found, job.pipeline, job.life, hidden):
        return (
            f"{table.options} holds what job {job.pipeline!r} has loaded already ({former}), and its checkpoint knows "
            f"nothing of that: everything would be loaded twice. {BACK.capitalize()}, or delete the table, or give the "
            f"job another name; {AGAIN}; {ADOPT}"
        )
    if marks.from_the_beginning(found):
        return None  # the job's would be there, unless somebody took it off
    if jobs.project != table.options.project:
        hidden.add(f"jobs of other projects than {jobs.project} are not known")
    if not hidden:
        return None
    held = "rows" if rows is None else f"{rows:,} rows"
    return (
        f"{table.options} holds {held}, and it cannot be told whether job {job.pipeline!r} has loaded some of them "
        f"before its checkpoint was lost: the table bears no mark of that, and {hidden}. If it has not, say so once: "
        f"`etl run --adopt-table`. Otherwise {BACK}, or delete the table; {AGAIN}. An account that has {SEES_ALL} on "
        f"the project {jobs.project} can tell for the last {REMEMBERED.days} days"
    )


def _unmarked(job: Job, found: Any, table: Table, jobs: Jobs) -> str | None:
    """Look for a load of the job's present life into a table that bears no mark: then no mark was written yet."""
    hidden = Hidden()
    last = None
    if not marks.from_the_beginning(found):
        last = last_own_part(jobs, table, found, job.pipeline, job.life, hidden)
    if last is not None and last <= job.reached:
        return None
    if last is not None:
        return (
            f"job {job.pipeline!r} has loaded up to part {last:,} into {table.options}, and its checkpoint knows of "
            f"parts up to {job.reached:,}: an older copy of it was put back, and what was loaded since would be loaded "
            f"twice. {BACK.capitalize()}; {AGAIN}; {ADOPT}"
        )
    why = f", and {hidden}" if hidden else ""
    return marks.missing(job, table, why)


def _coming(job: Job, mark: Mark, table: Table, jobs: Jobs) -> str | None:
    """Say what a former life of the job may still be loading into an empty table."""
    hidden = Hidden()
    since = datetime.fromtimestamp(mark.at, UTC) - timedelta(minutes=10)  # two clocks
    if found := under_way(jobs, table, job.pipeline, since, hidden):
        return (
            f"{table.options} is empty, and {found} is under way, which job {job.pipeline!r} submitted before its "
            f"checkpoint was lost: everything would be loaded twice. {BACK.capitalize()}; or wait until it has ended, "
            f"and delete the table; {AGAIN}"
        )
    until = datetime.fromtimestamp(mark.at, UTC) + LONGEST_JOB
    if not hidden or datetime.now(UTC) > until:
        return None
    return (
        f"{table.options} is empty, and job {job.pipeline!r} was about to load into it before its checkpoint was lost "
        f"(label {marks.name(job.pipeline)}: {mark}); that may still be under way: {hidden}. {BACK.capitalize()}, or "
        f"run again after {until:%Y-%m-%d %H:%M} UTC; {ADOPT}; or give the account {SEES_ALL} on the project "
        f"{jobs.project}"
    )


def check_remembered(job: Job, plan: Plan, found: Any | None, table: Table) -> None:
    """Where no job is found for a plan, make sure that BigQuery would remember one.

    Args:
        job: whose plan it is.
        plan: the plan.
        found: the table as the client has it; None: there is none.
        table: the table.

    Raises:
        WarehouseError: the plan was about to be loaded so long ago that nobody can tell whether it was.
    """
    mark = marks.read(found, job.pipeline) if found is not None else None
    if mark is None or not mark.is_of(job) or not mark.names(plan):
        return
    at = datetime.fromtimestamp(mark.at, UTC)
    if at < datetime.now(UTC) - REMEMBERED:
        raise WarehouseError(
            f"plan {plan.id} of job {job.pipeline!r} ({plan.records:,} records) was about to be loaded into "
            f"{table.options} on {at:%Y-%m-%d}, and BigQuery has forgotten by now whether it was. `etl verify` "
            "compares the table's rows; then begin again: `etl run --full-refresh`, or delete table and checkpoint"
        )
