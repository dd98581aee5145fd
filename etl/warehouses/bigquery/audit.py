"""What BigQuery remembers of a job's loads: it keeps jobs for six months (BigQuery documentation, "Managing jobs")."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from etl.warehouses.base import Audit, Loaded
from etl.warehouses.bigquery.jobs import Jobs, Outcome, outcome
from etl.warehouses.bigquery.table import Table

# A job that creates its table is older than that (BigQuery documentation, "Quotas and limits", load jobs: 6 hours).
LONGEST_JOB = timedelta(hours=6)


def audit(jobs: Jobs, table: Table, pipeline: str, life: str) -> Audit:
    """Look up the successful loads into the table, and how many rows it has.

    Args:
        jobs: of the table's project.
        table: the table.
        pipeline: the job's name.
        life: its checkpoint's.

    Raises:
        WarehouseError: something cannot be read.
    """
    loads: list[tuple[Any, Loaded]] = []
    other_rows = former_rows = 0
    now = table.look()
    for job in _loads(jobs, table, now) if now is not None else ():
        rows = int(job.output_rows or 0)
        found = _ours(pipeline).fullmatch(job.job_id)
        if not found:
            other_rows += rows
        elif _life(job) != life:
            former_rows += rows
        else:
            first = (job.labels or {}).get("etl_first_part", "")
            load = Loaded(
                plan=found[2],
                job=job.job_id,
                first=int(first) if first.isdecimal() else None,
                last=int(found[1]),
                rows=rows,
            )
            loads.append((job.created, load))
    loads.sort(key=lambda each: (each[0], each[1].last))
    return Audit(
        loads=tuple(load for _, load in loads),
        loads_ever=None,
        rows_ever=None,
        other_rows=other_rows,
        former_rows=former_rows,
        table=str(table.options),
        table_rows=None if now is None else table.count(),
    )


def former_load(jobs: Jobs, table: Table, now: Any, pipeline: str, life: str) -> str | None:
    """Return the newest load of a job's former life into the table; None: there is none.

    Args:
        jobs: of the table's project.
        table: the table.
        now: what BigQuery says of it.
        pipeline: the job's name.
        life: its checkpoint's.

    Raises:
        WarehouseError: it cannot be found out.
    """
    for job in _loads(jobs, table, now):
        if _ours(pipeline).fullmatch(job.job_id) and _life(job) != life:
            return str(job.job_id)
    return None


def _ours(pipeline: str) -> re.Pattern[str]:
    return re.compile(rf"etl_{re.escape(pipeline)}_(\d+)_([0-9a-f]{{32}})_a\d+")


def _life(job: Any) -> str:
    return str((job.labels or {}).get("etl_life", ""))


def _loads(jobs: Jobs, table: Table, now: Any) -> Iterator[Any]:
    """Yield the load jobs that added to the table as it is now, newest first."""
    for job in jobs.listed(now.created - LONGEST_JOB):
        if job.job_type != "load" or job.state != "DONE" or job.destination is None:
            continue
        if job.ended and job.ended < now.created:
            continue  # into a table of that name that was deleted
        to = job.destination
        if (to.project, to.dataset_id, to.table_id) != table.options.names:
            continue
        if outcome(job) is Outcome.LOADED:
            yield job
