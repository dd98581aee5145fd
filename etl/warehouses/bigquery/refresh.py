"""Refreshes: a new table is filled beside the old one, and copied over it in one step.

The new table is called `<table>__etl_refresh_<job>_<life>_<refresh>`. It is made by the first load of the refresh, laid
out as the old one is, and expires: what is given up goes away by itself. Its loads may not make it: one that is gone
held what was loaded before.

The exchange is one copy job that overwrites the table, whole or not at all (BigQuery REST reference,
JobConfigurationTableCopy, writeDisposition), under an id that follows from the refresh: it is done once, no matter who
does it: a process that is half dead finds that its id is taken. Of a refresh that is given up that id is used up first.
Where nothing was loaded, a query under the same id empties the table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from etl.columns import Columns
from etl.errors import RefreshLost, WarehouseError
from etl.warehouses.base import Job
from etl.warehouses.bigquery import making
from etl.warehouses.bigquery.adoption import adopt_exchange
from etl.warehouses.bigquery.attempts import Task
from etl.warehouses.bigquery.jobs import Jobs, label
from etl.warehouses.bigquery.reasons import said
from etl.warehouses.bigquery.table import Table, TableOptions

# How long a new table outlives the last day on which something was loaded into it.
KEPT = timedelta(days=30)

# It is asked to stay longer once a day at most: the rate of such requests is limited.
KEPT_AT_LEAST = KEPT - timedelta(days=1)

# What stands in the name of a table between that of the one that is merged into and the plan that is staged there.
MERGED = "__etl_merge_"


def new_name(table: TableOptions, job: Job) -> str:
    """Return the name of the new table of a job's refresh."""
    return f"{_prefix(table, job.pipeline)}{job.life}_{job.refresh}"


def _prefix(table: TableOptions, pipeline: str) -> str:
    # A label, or a part of a name, cannot hold every name of a job as it is.
    return f"{table.table}__etl_refresh_{hashlib.blake2b(pipeline.encode(), digest_size=6).hexdigest()}_"


def _number(refresh: str) -> int:
    """Return the number of a refresh in its life; see `etl.checkpoint.Refresh`."""
    number = refresh.partition("-")[0]
    return int(number) if number.isdecimal() else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshing:
    """One refresh of a table.

    Attributes:
        jobs: where its jobs run.
        table: the table.
        new: the one that is filled.
        job: whose refresh it is.
    """

    jobs: Jobs
    table: Table
    new: Table
    job: Job

    @classmethod
    def of(cls, jobs: Jobs, table: Table, job: Job) -> Refreshing:
        """Return the refresh that a job says."""
        new = table.named(new_name(table.options, job))
        return cls(jobs=jobs, table=table, new=new, job=job)

    @property
    def gone(self) -> RefreshLost:
        """The error for a new table that held something, and is not there."""
        return RefreshLost(
            f"{self.new.options} is gone, into which job {self.job.pipeline!r} has loaded what was to replace "
            f"{self.table.options}: somebody deleted it, or it expired after {KEPT.days} days without a run; "
            f"{self.table.options} is as it was. Begin again with `etl run --full-refresh`"
        )

    def begin(self) -> None:
        """Give up all earlier refreshes of the job, whose tables are deleted. May be repeated.

        A later one is a successor's: this process is half dead then.

        Raises:
            StillLoading: it was told to leave.
            WarehouseError: it was not done.
        """
        prefix = _prefix(self.table.options, self.job.pipeline)
        for name in making.named(self.table, prefix):
            whose, _, staged = name.removeprefix(prefix).partition(MERGED)
            life, _, refresh = whose.rpartition("_")
            later = life == self.job.life and _number(refresh) > _number(self.job.refresh)
            if later or not refresh or (life, refresh) == (self.job.life, self.job.refresh):
                continue
            other = Job(pipeline=self.job.pipeline, fingerprint={}, life=life, refresh=refresh)
            given_up = Refreshing.of(self.jobs, self.table, other)
            if not staged:
                # First: a process that is half dead must not find that nothing was loaded, and empty the table.
                given_up._exchange.settle(self.jobs, self.job.pipeline)
            making.delete(self.table.named(name))

    def make(self, found: Any | None, columns: Columns, *, filled: bool) -> None:
        """Make the new table for a load, or keep it for longer.

        Args:
            found: what it is now; None: there is none.
            columns: all that are known.
            filled: whether something was loaded into it.

        Raises:
            RefreshLost: it is gone, with what was loaded.
            WarehouseError: it cannot be made.
        """
        now = datetime.now(UTC)
        if found is None:
            if filled:
                raise self.gone
            # From now on a new table that is missing was lost. A life has one refresh of that name.
            self.jobs.burn(self._made, self.job.pipeline, self.job.refresh)
            labels = {"etl_pipeline": label(self.job.pipeline), "etl_refresh": self.job.refresh}
            like = self.table.look()
            making.create(self.new, columns, expires=now + KEPT, labels=labels, like=like)
        elif found.expires is not None and found.expires < now + KEPT_AT_LEAST:
            making.expire(self.new, now + KEPT)

    def finish(self, submitting: Callable[[], None]) -> None:
        """Put the new table in the place of the old one, and delete it. May be repeated.

        Args:
            submitting: called for each job that changes the table.

        Raises:
            Fenced: the refresh was given up.
            StillLoading: it was told to leave; the exchange goes on.
            RefreshLost: the new table is gone, with what was loaded into it.
            WarehouseError: it was not done, or nobody knows.
        """
        self._exchange.carry_out(self.jobs, submitting)
        making.delete(self.new)

    @property
    def _made(self) -> str:
        return f"{self._id}_made"

    @property
    def _id(self) -> str:
        # Ids are taken in a whole project and location.
        return f"etl_{self.job.pipeline}_{self.table.options.short}_{self.job.life}_{self.job.refresh}"

    @property
    def _labels(self) -> dict[str, str]:
        return {
            "etl_pipeline": label(self.job.pipeline),
            "etl_life": self.job.life,
            "etl_refresh": self.job.refresh,
            "etl_into": self.table.options.short,
        }

    @property
    def _exchange(self) -> Task:
        job, options = self.job, self.table.options

        def refused(found: Any) -> WarehouseError:
            return WarehouseError(
                f"job {found.job_id} cannot put what was loaded in the place of {options} ({said(found)}); "
                f"{options} is as it was. Fix the cause and run again; if {options} has partitions of another kind "
                f"than {self.new.options}, delete {options} first"
            )

        return Task(
            id=lambda attempt: f"{self._id}_x{attempt}",
            mark=job.refresh,
            title=f"over {options}",
            nothing=f"{options} is as it was",
            prepare=self._prepare,
            check=lambda found: adopt_exchange(found, job.refresh, self.new.options, options, self._labels),
            refused=refused,
            again=1,
        )

    def _prepare(self, id: str) -> Callable[[], Any]:
        """Return what submits the exchange, for which there is no job."""
        from google.cloud.bigquery import CopyJobConfig, QueryJobConfig

        client, options = self.table.client, self.table.options
        old, new = self.table.look(), self.new.look()
        if new is None:
            if self.jobs.find(self._made) is not None:
                raise self.gone
            # Where there is no table its id is used up all the same: somebody may come late, when there is one.
            sql = "SELECT 1" if old is None else f"TRUNCATE TABLE {options.quoted}"
            query = QueryJobConfig(labels=self._labels)
            return lambda: client.query(sql, job_config=query, job_id=id, job_retry=None, **self.jobs.options)
        # Somebody saw the copy of a table that expires expire, too: z3z1ma/target-bigquery, issue 55.
        expires = old.expires if old is not None else None
        if new.expires != expires:
            making.expire(self.new, expires)
        copy = CopyJobConfig(
            write_disposition="WRITE_TRUNCATE",
            create_disposition="CREATE_IF_NEEDED",
            labels={**self._labels, "etl_since": str(int(new.created.timestamp() * 1000))},
        )
        copy.destination_encryption_configuration = new.encryption_configuration
        return lambda: client.copy_table(
            self.new.options.reference(),
            options.reference(),
            job_id=id,
            job_config=copy,
            **self.jobs.options,
        )
