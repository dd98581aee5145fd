"""A job that is found under an id is taken for what the id stands for only after the two were compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etl.checkpoint import Plan
from etl.errors import Fenced, WarehouseError
from etl.warehouses.bigquery.jobs import burns
from etl.warehouses.bigquery.staging import staged
from etl.warehouses.bigquery.table import TableOptions


def adopt(job: Any, plan: Plan, table: TableOptions, write: str = "WRITE_APPEND") -> None:
    """Make sure that a job is the load of a plan, no matter who submitted it.

    Args:
        job: the job that has the id of the plan's job.
        plan: the plan.
        table: where it is to be loaded.
        write: its write disposition.

    Raises:
        Fenced: the id was used up by the process that gave the plan up.
        WarehouseError: it is something else.
    """
    check_burnt(job, plan)
    _refuse(job, f"the load of plan {plan.id}", _wrong_load(job, plan, table, write))


def adopt_merge(job: Any, plan: Plan, labels: Mapping[str, str]) -> None:
    """Make sure that a job merges a plan, as `adopt` does for loads; a script says by its labels what it does.

    Raises:
        Fenced: the id was used up by the process that gave the plan up.
        WarehouseError: it is something else.
    """
    check_burnt(job, plan)
    _refuse(job, f"the merge of plan {plan.id}", _wrong_query(job, labels))


def adopt_exchange(
    job: Any, refresh: str, source: TableOptions, table: TableOptions, labels: Mapping[str, str]
) -> None:
    """Make sure that a job puts the new table of a refresh in the place of the old one, or empties that.

    Args:
        job: the job that has the id of the exchange.
        refresh: the refresh.
        source: the new table.
        table: the old one.
        labels: those that such a job has.

    Raises:
        Fenced: the id was used up by the process that gave the refresh up.
        WarehouseError: it is something else.
    """
    if burns(job, refresh):
        raise Fenced(
            f"refresh {refresh} of {table} was given up by another process, which has taken the job over (job "
            f"{job.job_id}); this one stops and touches nothing more"
        )
    wrong = _wrong_query(job, labels) if job.job_type == "query" else _wrong_copy(job, source, table)
    _refuse(job, f"the exchange of {table} at the end of refresh {refresh}", wrong)


def check_burnt(job: Any, plan: Plan) -> None:
    """Make sure that a job is not one that uses up the id of a plan.

    Raises:
        Fenced: it is.
    """
    if burns(job, plan.id):
        raise Fenced(
            f"plan {plan.id} was given up by another process, which has taken the job over (job {job.job_id}); "
            "this one stops and touches nothing more"
        )


def _refuse(job: Any, what: str, wrong: str) -> None:
    if wrong:
        raise WarehouseError(
            f"job {job.job_id} is not {what} that its id stands for: {wrong}; somebody else uses such ids: nothing was "
            "loaded; look at it with `bq show -j`, and give this job another name"
        )


def _wrong_load(job: Any, plan: Plan, table: TableOptions, write: str) -> str:
    """Say in what a job differs from the load of a plan; empty: in nothing."""
    if job.job_type != "load":
        return f"it is a {job.job_type} job"
    if not table.same(job.destination):
        return f"it loads into {job.destination}"
    if job.write_disposition != write:
        return f"its write disposition is {job.write_disposition}"
    uris = list(job.source_uris or ())
    if plan.parts[0].sealed.is_local:
        # Parts of files may have been staged, under whatever prefix, or sent along.
        return "" if not uris or staged(plan, uris) else f"it loads {', '.join(uris[:2])} …"
    if uris == [part.sealed.uri for part in plan.parts]:
        return ""
    return f"it loads {len(uris):,} other objects, {', '.join(uris[:2])} …"


def _wrong_query(job: Any, labels: Mapping[str, str]) -> str:
    if job.job_type != "query":
        return f"it is a {job.job_type} job"
    found = job.labels or {}
    wrong = [f"{key} {found.get(key)!r}" for key, value in labels.items() if found.get(key) != value]
    return f"its labels say {', '.join(wrong)}" if wrong else ""


def _wrong_copy(job: Any, source: TableOptions, table: TableOptions) -> str:
    if job.job_type != "copy":
        return f"it is a {job.job_type} job"
    if len(job.sources) != 1 or not source.same(job.sources[0]):
        return f"it copies {', '.join(map(str, job.sources))}"
    if not table.same(job.destination):
        return f"it copies into {job.destination}"
    if job.write_disposition != "WRITE_TRUNCATE":
        return f"its write disposition is {job.write_disposition}"
    return ""
