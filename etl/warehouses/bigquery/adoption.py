"""A job that is found under the id of a plan is taken for its load only after it was compared with the plan."""

from __future__ import annotations

from typing import Any

from etl.checkpoint import Plan
from etl.errors import Fenced, WarehouseError
from etl.warehouses.bigquery.jobs import burns
from etl.warehouses.bigquery.staging import staged
from etl.warehouses.bigquery.table import TableOptions


def adopt(job: Any, plan: Plan, table: TableOptions) -> None:
    """Make sure that a job is the load of a plan, whoever submitted it.

    Args:
        job: the job that has the id of the plan's job.
        plan: the plan.
        table: where it is to be loaded.

    Raises:
        Fenced: the id was used up by whoever gave the plan up.
        WarehouseError: it is something else.
    """
    if burns(job, plan):
        raise Fenced(
            f"plan {plan.id} was given up by another process, which has taken the job over (job {job.job_id}); "
            "this one stops and touches nothing more"
        )
    if wrong := _wrong(job, plan, table):
        raise WarehouseError(
            f"job {job.job_id} is not the load of plan {plan.id} that its id stands for: {wrong}; somebody else "
            "uses such ids: nothing was loaded; look at it with `bq show -j`, and give this job another name"
        )


def _wrong(job: Any, plan: Plan, table: TableOptions) -> str:
    """Say in what a job differs from the load of a plan; empty: in nothing."""
    if job.job_type != "load":
        return f"it is a {job.job_type} job"
    to = job.destination
    if to is None or (to.project, to.dataset_id, to.table_id) != table.names:
        return f"it loads into {to}"
    if job.write_disposition != "WRITE_APPEND":
        return f"its write disposition is {job.write_disposition}"
    uris = list(job.source_uris or ())
    if plan.parts[0].sealed.is_local:
        # Parts of files may have been staged, under whatever prefix, or sent along.
        return "" if not uris or staged(plan, uris) else f"it loads {', '.join(uris[:2])} …"
    if uris == [part.sealed.uri for part in plan.parts]:
        return ""
    return f"it loads {len(uris):,} other objects, {', '.join(uris[:2])} …"
