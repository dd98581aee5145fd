"""The load of one plan into its table: by a load job, or by a load job into a staging table and a merge."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from etl.checkpoint import Plan
from etl.columns import Columns
from etl.errors import Fenced, LoadFailed, LoadMismatch, WarehouseError
from etl.warehouses.base import Gate, Job
from etl.warehouses.bigquery import errors, guard, making, marks
from etl.warehouses.bigquery.adoption import adopt
from etl.warehouses.bigquery.attempts import Task
from etl.warehouses.bigquery.gate import RecordGate
from etl.warehouses.bigquery.jobs import Jobs, job_id
from etl.warehouses.bigquery.marks import Mark
from etl.warehouses.bigquery.merge import ORDER, Merge
from etl.warehouses.bigquery.merging import Merging
from etl.warehouses.bigquery.refresh import Refreshing, new_name
from etl.warehouses.bigquery.sending import Sending
from etl.warehouses.bigquery.table import Table


def table_of(main: Table, job: Job) -> Table:
    """Return the table that a job loads into: the new one, if `main` is being refreshed."""
    return main.named(new_name(main.options, job)) if job.refresh else main


def gone(table: Table, job: Job) -> WarehouseError:
    """Make the error for a table that a job has loaded into, and that is not there."""
    return WarehouseError(
        f"{table.options} is gone, into which job {job.pipeline!r} has loaded; put it back (BigQuery keeps a deleted "
        "table for some days), or delete the checkpoint too, to load everything again"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanLoad:
    """The load of one plan.

    Attributes:
        jobs: where its jobs run.
        main: the table, whether it is being refreshed or not.
        job: whose plan it is.
        plan: the plan.
        declared: the columns that the job declares.
        merge: how rows replace each other; None: they are added.
        filled: whether something was loaded before: then there is a table, or it is lost.
        sending: how its parts come to a job.
        former: a life of the job that has loaded nothing into the table that is still there; None: there is none.
    """

    jobs: Jobs
    main: Table
    job: Job
    plan: Plan
    declared: Columns
    merge: Merge | None
    filled: bool
    sending: Sending
    former: str | None = None

    def carry_out(self, submitting: Callable[[], None]) -> None:
        """Have it loaded; durable on return.

        Args:
            submitting: called for each job that changes the table.

        Raises:
            WarehouseError: as `BigQuery.load` says.
        """
        try:
            # A merge is DML, which does not count, and its load changes another table.
            found = self._task.carry_out(self.jobs, submitting if self.merge is None else lambda: None)
        except Fenced:
            # Nobody can load it any more: what was staged of it late is litter.
            with suppress(WarehouseError):
                self._clear()
            raise
        if self.merge is None:
            self._check_rows(found)
        self._clear()

    def settle(self) -> int | None:
        """Find out how many records were loaded, or make sure that none ever will be: None.

        Raises:
            WarehouseError: it cannot be found out now.
        """
        found = self._task.settle(self.jobs, self.job.pipeline)
        self._clear()
        if found is None:
            return None
        return int(found.output_rows or 0) if self.merge is None else self.plan.records

    @property
    def _table(self) -> Table:
        return table_of(self.main, self.job)

    @property
    def _merging(self) -> Merging | None:
        if self.merge is None:
            return None
        return Merging(jobs=self.jobs, merge=self.merge, table=self._table, job=self.job, plan=self.plan)

    @property
    def _task(self) -> Task:
        merging = self._merging
        if merging is None:
            return self._load_into(self._table, self._appended)
        return merging.task(
            partial(self._stage, merging), lambda: self._made(self._table.look()), self._unseen
        )

    def _load_into(
        self,
        table: Table,
        config: Callable[[], Any],
        *,
        write: str = "WRITE_APPEND",
        undone: Callable[[Any], bool] = lambda _: False,
    ) -> Task:
        job, plan, sending = self.job, self.plan, self.sending

        def refused(found: Any) -> LoadFailed:
            return LoadFailed(errors.explain(found, plan, sending.read, self.present_gate))

        return Task(
            id=lambda attempt: job_id(job.pipeline, plan, attempt),
            mark=plan.id,
            title=f"into {table.options}",
            nothing="nothing was loaded",
            prepare=lambda name: sending.submission(name, plan, table.options, config()),
            check=lambda found: adopt(found, plan, table.options, write),
            refused=refused,
            undone=undone,
            overtaken=self._overtaken,
            unseen=self._unseen,
        )

    def _appended(self) -> Any:
        """Return the configuration of a job that adds to the table, and makes it if it is the first."""
        table, job = self._table, self.job
        found = table.look()
        first = found is None and not job.refresh and not self.filled
        if not first:
            columns = self._made(found)
            return table.load_config(job, self.plan, columns, create=False)
        mark = Mark.before(job, self.plan)
        return table.load_config(
            job, self.plan, self._known(found), lay_out=True, marks=marks.labels(job, mark)
        )

    def _stage(self, merging: Merging) -> None:
        """Load the plan into its staging table, if it is not there."""
        table = merging.staging

        def config() -> Any:
            columns = merging.stage(self._known(self._table.look()))
            return table.load_config(self.job, self.plan, columns, append=False, create=False)

        task = self._load_into(table, config, write="WRITE_TRUNCATE", undone=merging.lost)
        # It does not change the table, so that it does not count.
        self._check_rows(task.carry_out(self.jobs, lambda: None))

    def _made(self, found: Any | None) -> Columns:
        """Make the table, which `found` is, if there is none, and mark it; return all columns that are known."""
        columns = self._known(found)
        if self.job.refresh:
            # It is no other job's, and no other refresh's: its mark is its name.
            Refreshing.of(self.jobs, self.main, self.job).make(found, columns, filled=self.filled)
            return columns
        mark = Mark.before(self.job, self.plan)
        if found is None:
            if self.filled:
                raise gone(self.main, self.job)
            found = making.create(self.main, columns, labels=marks.labels(self.job, mark))
        guard.check_remembered(self.job, self.plan, found, self.main)
        marks.write(self.main, self.job, mark, found=found, former=self.former)
        return columns

    def _unseen(self) -> None:
        if not self.job.refresh:
            guard.check_remembered(self.job, self.plan, self.main.look(), self.main)

    def _overtaken(self, load: Any) -> bool:
        """Say whether a load that was to make the table failed because there was one by then."""
        made = load.to_api_repr()["configuration"]["load"].get("destinationTableProperties")
        if not made:
            return False
        found = self._table.look()
        return found is not None and not made["labels"].items() <= (found.labels or {}).items()

    def _known(self, found: Any | None) -> Columns:
        return self._table.known(found, self.declared, self.job.columns)

    def _check_rows(self, found: Any) -> None:
        rows, plan = int(found.output_rows or 0), self.plan
        if rows != plan.records:
            where = "a staging table, and nothing was merged," if self.merge else str(self._table.options)
            raise LoadMismatch(
                f"job {found.job_id} added {rows:,} rows to {where} where plan {plan.id} holds {plan.records:,} "
                f"records; compare the table with the parts: {', '.join(p.sealed.uri for p in plan.parts[:5])}"
            )

    def _clear(self) -> None:
        """Delete what is staged of a plan that no job will read any more."""
        self.sending.clear(self.plan)
        if (merging := self._merging) is not None:
            merging.clear()

    def present_gate(self) -> Gate:
        """Make the gate that the records of this plan would go through now."""
        columns = self._known(self._table.look())
        return RecordGate(columns if self.merge is None else (*columns, ORDER), format="ndjson")
