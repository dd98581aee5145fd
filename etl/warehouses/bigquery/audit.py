"""What BigQuery remembers of a job's loads: it keeps jobs for six months (BigQuery documentation, "Managing jobs")."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from etl.warehouses.base import Audit, Job, Loaded
from etl.warehouses.bigquery import marks
from etl.warehouses.bigquery.jobs import SEES_ALL, Hidden, Jobs, outcome
from etl.warehouses.bigquery.limits import LONGEST_JOB
from etl.warehouses.bigquery.reasons import Outcome
from etl.warehouses.bigquery.refresh import new_name
from etl.warehouses.bigquery.table import Table, TableOptions


@dataclass(frozen=True, slots=True)
class _Done:
    """A load or a merge; a job as the client has it also holds the names of thousands of objects."""

    id: str
    created: datetime
    ended: datetime
    rows: int
    life: str
    first_part: int | None

    @classmethod
    def of(cls, job: Any) -> _Done:
        """Take from a job what is wanted of it."""
        labels = job.labels or {}
        rows = job.output_rows if job.job_type == "load" else labels["etl_records"]
        first = labels.get("etl_first_part", "")
        return cls(
            id=job.job_id,
            created=job.created,
            ended=job.ended,
            rows=int(rows or 0),
            life=labels.get("etl_life", ""),
            first_part=int(first) if first.isdecimal() else None,
        )


def audit(
    jobs: Jobs,
    table: Table,
    job: Job,
    *,
    merged: bool = False,
) -> Audit:
    """Look up the successful loads into the table, and how many rows it has.

    Args:
        jobs: where the job's jobs run.
        table: the table.
        job: the job.
        merged: whether its rows replace each other.

    Raises:
        WarehouseError: something cannot be read.
    """
    loads: list[tuple[datetime, Loaded]] = []
    other_rows = former_rows = 0
    hidden = Hidden()
    now = table.look()
    for done in _loads(jobs, table, now, hidden) if now is not None else ():
        found = _ours(job.pipeline).fullmatch(done.id)
        if not found:
            other_rows += done.rows
        elif done.life != job.life:
            former_rows += done.rows
        else:
            load = Loaded(
                plan=found[2], job=done.id, first=done.first_part, last=int(found[1]), rows=done.rows
            )
            loads.append((done.created, load))
    loads.sort(key=lambda each: (each[0], each[1].last))
    count = None if now is None else table.count()
    return Audit(
        loads=tuple(load for _, load in loads),
        loads_ever=None,
        rows_ever=None,
        other_rows=other_rows,
        former_rows=former_rows,
        table=str(table.options),
        table_rows=None if count is None else count.rows or 0,
        uncounted="" if count is None else count.unknown,
        merged=merged,
        hidden=f"{hidden}; an account that has {SEES_ALL} sees more" if hidden else "",
        contradiction=(marks.contradiction(job, now, table, count.rows if count else 0) or "")
        if now is not None
        else "",
    )


def former_load(jobs: Jobs, table: Table, now: Any, pipeline: str, life: str, hidden: Hidden) -> str | None:
    """Return a load of a job's former life into the table; None: none is found.

    Args:
        jobs: where the job's jobs run.
        table: the table.
        now: what BigQuery says of it.
        pipeline: the job's name.
        life: its checkpoint's.
        hidden: is told why there may be one all the same.

    Raises:
        WarehouseError: it cannot be found out.
    """
    for done in _loads(jobs, table, now, hidden):
        if _ours(pipeline).fullmatch(done.id) and done.life != life:
            return done.id
    return None


def last_own_part(jobs: Jobs, table: Table, now: Any, pipeline: str, life: str, hidden: Hidden) -> int | None:
    """Return the last part that a job's present life has loaded, as `former_load` looks for loads."""
    ours = [
        int(found[1])
        for done in _loads(jobs, table, now, hidden)
        if done.life == life and (found := _ours(pipeline).fullmatch(done.id))
    ]
    return max(ours, default=None)


def under_way(jobs: Jobs, table: Table, pipeline: str, since: datetime, hidden: Hidden) -> str | None:
    """Return a load of a job into the table, of whichever life, that is not done yet; None: none is found.

    Args:
        jobs: where the job's jobs run.
        table: the table.
        pipeline: the job's name.
        since: when the load was submitted, at the earliest.
        hidden: is told why there may be one all the same.

    Raises:
        WarehouseError: it cannot be found out.
    """
    for job in jobs.listed(since, hidden):
        if job.state != "DONE" and _into(job, table.options) and _ours(pipeline).fullmatch(job.job_id):
            return str(job.job_id)
    return None


def _ours(pipeline: str) -> re.Pattern[str]:
    return re.compile(rf"etl_{re.escape(pipeline)}_(\d+)_([0-9a-f]{{32}})_[am]\d+")


def _loads(jobs: Jobs, table: Table, now: Any, hidden: Hidden) -> Iterator[_Done]:
    """Yield the loads and merges that made the content of a table, `now`.

    Of a table that was refreshed these are the ones into the new table whose rows took their place last, and what
    came after that.
    """
    exchange: Any | None = None
    loads: list[_Done] = []
    for job in _done(
        jobs, now.created - LONGEST_JOB, hidden
    ):  # a job that creates its table is older than that
        if job.ended and job.ended < now.created:
            continue  # into a table of that name that was deleted
        if _exchanges(job, table.options) and (exchange is None or job.ended > exchange.ended):
            exchange = job
        elif _into(job, table.options):
            loads.append(_Done.of(job))
    yield from (load for load in loads if exchange is None or load.ended > exchange.ended)
    source = None if exchange is None else _source(exchange, table)
    if exchange is None or source is None:
        return
    began = datetime.fromtimestamp(int(exchange.labels.get("etl_since", "0")) / 1000, UTC)
    for job in _done(jobs, began, hidden):
        if _into(job, source):
            yield _Done.of(job)


def _source(exchange: Any, table: Table) -> TableOptions | None:
    """Return the table whose rows an exchange took; None: it emptied the table."""
    if exchange.job_type == "copy":
        return table.named(exchange.sources[0].table_id).options
    labels = exchange.labels or {}
    life, refresh = labels.get("etl_life", ""), labels.get("etl_refresh", "")
    ends = f"_{table.options.short}_{life}_{refresh}_x"
    if "etl_since" not in labels or ends not in exchange.job_id:
        return None
    pipeline = exchange.job_id.removeprefix("etl_").rpartition(ends)[0]
    job = Job(pipeline=pipeline, fingerprint={}, life=life, refresh=refresh)
    return table.options.sibling(new_name(table.options, job))


def _done(jobs: Jobs, since: datetime, hidden: Hidden) -> Iterator[Any]:
    """Yield the jobs that were made since then and did what they were to do."""
    for job in jobs.listed(since, hidden):
        if job.state == "DONE" and outcome(job) is Outcome.LOADED:
            yield job


def _into(job: Any, table: TableOptions) -> bool:
    """Say whether a job loads or merges into a table."""
    if job.job_type == "load":
        return table.same(job.destination)
    labels = job.labels or {}
    # The statements of a script have its labels, and ids of their own.
    merges = job.job_type == "query" and "etl_records" in labels and job.job_id.startswith("etl_")
    return merges and labels.get("etl_into") == table.short


def _exchanges(job: Any, table: TableOptions) -> bool:
    """Say whether a job replaced the content of a table at the end of a refresh."""
    labels = job.labels or {}
    if job.job_type not in ("copy", "query") or not job.job_id.startswith("etl_"):
        return False
    return "etl_refresh" in labels and labels.get("etl_into") == table.short
