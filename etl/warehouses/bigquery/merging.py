"""Merges: a plan is loaded into a staging table of its own, and merged from there into the table.

The load has the ids `…_a<n>`, as every load; it replaces what the staging table holds, so it may be done again. What
counts is the merge, a script under the ids `…_m<n>`: one transaction merges the rows and notes the plan in a ledger
(`_etl_loads` in the dataset), so that a script which runs twice merges once. A plan that is given up has the id of its
merge used up; what is left in a staging table is nobody's, and expires.

The order of a plan's rows is lost when they are loaded; so `MergeGate` writes it into each record, as a column that
only the staging table has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from etl.checkpoint import Plan
from etl.columns import Columns
from etl.errors import LoadFailed, WarehouseError
from etl.warehouses.base import Job
from etl.warehouses.bigquery import making
from etl.warehouses.bigquery.adoption import adopt_merge
from etl.warehouses.bigquery.attempts import Task
from etl.warehouses.bigquery.jobs import TRIES, Jobs, job_id, label
from etl.warehouses.bigquery.layout import Partitioning
from etl.warehouses.bigquery.merge import LEDGER, LEDGER_COLUMNS, ORDER, Merge
from etl.warehouses.bigquery.reasons import said, step_for
from etl.warehouses.bigquery.table import Table

# BigQuery remembers jobs, and with them ids that are taken, for six months; a script does not run twice after that.
LEDGER_KEPT = timedelta(days=180)

# A staging table is needed from a load until its merge; one that expires in between is loaded again.
STAGING_KEPT = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Merging:
    """The merge of one plan.

    Attributes:
        jobs: where its jobs run.
        merge: how rows replace each other.
        table: the table.
        job: whose plan it is.
        plan: the plan.
    """

    jobs: Jobs
    merge: Merge
    table: Table
    job: Job
    plan: Plan

    @property
    def staging(self) -> Table:
        """The staging table."""
        return self.table.named(f"{self.table.options.table}__etl_merge_{self.plan.id}")

    def stage(self, columns: Columns) -> Columns:
        """Make the staging table, and return the columns that its load must list.

        Args:
            columns: all that are known of the table.

        Raises:
            WarehouseError: it cannot be made.
        """
        columns = (*columns, ORDER)
        expires = datetime.now(UTC) + STAGING_KEPT
        labels = {"etl_pipeline": label(self.job.pipeline), "etl_plan": self.plan.id}
        making.create(self.staging, columns, expires=expires, labels=labels, laid_out=False)
        return columns

    def lost(self, load: Any) -> bool:
        """Say whether what was loaded into the staging table is not there: it expired, or somebody deleted it."""
        if int(load.output_rows or 0) != self.plan.records:
            return False  # that is an error of its own
        found = self.staging.look()
        return found is None or found.num_rows != self.plan.records

    def task(self, load: Callable[[], Any], make: Callable[[], Columns], unseen: Callable[[], None]) -> Task:
        """Return what is to be done.

        Args:
            load: loads the plan into the staging table.
            make: makes the table, and returns all columns that are known.
            unseen: as `Task` has it.
        """

        def prepare(id: str) -> Callable[[], Any]:
            from google.cloud.bigquery import QueryJobConfig

            load()
            into = making.widen(self.table, make())
            self._make_ledger()
            staging, options = self.staging, self.table.options
            found = staging.look()
            if found is None:
                raise WarehouseError(
                    f"{staging.options} was deleted before it was merged into {options}; run again"
                )
            columns = tuple(each for each in staging.columns(found) or () if each.name != ORDER.name)
            partitioning = Partitioning.of(into)
            sql = self.merge.script(self.plan, self.job, staging.options, columns, options, partitioning)
            config = QueryJobConfig(labels=self._labels)
            return lambda: self.table.client.query(
                sql, job_config=config, job_id=id, job_retry=None, **self.jobs.options
            )

        def refused(found: Any) -> Exception:
            return LoadFailed(
                f"job {found.job_id} cannot merge plan {self.plan.id} into {self.table.options}: {said(found)}. "
                f"Nothing of it was merged: {step_for(found)}"
            )

        return Task(
            id=lambda attempt: job_id(self.job.pipeline, self.plan, attempt, "m"),
            mark=self.plan.id,
            title=f"into {self.table.options}",
            nothing="nothing was merged",
            prepare=prepare,
            check=lambda found: adopt_merge(found, self.plan, self._labels),
            refused=refused,
            unseen=unseen,
            again=TRIES,  # who else changes the table at that moment makes a merge fail
        )

    def clear(self) -> None:
        """Delete the staging table. May be repeated.

        Raises:
            WarehouseError: it cannot be deleted.
        """
        making.delete(self.staging)

    @property
    def _labels(self) -> dict[str, str]:
        return {
            "etl_pipeline": label(self.job.pipeline),
            "etl_plan": self.plan.id,
            "etl_life": self.job.life,
            "etl_into": self.table.options.short,
            "etl_first_part": str(self.plan.parts[0].sequence),
            "etl_last_part": str(self.plan.parts[-1].sequence),
            "etl_records": str(self.plan.records),
        }

    def _make_ledger(self) -> None:
        ledger = self.table.named(LEDGER)
        if ledger.look() is None:
            making.create(ledger, LEDGER_COLUMNS, laid_out=False, days=("loaded", LEDGER_KEPT))
