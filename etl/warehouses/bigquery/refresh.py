"""Refreshes: a new table is filled beside the old one, and takes its place in one step.

The new table is called `<table>__etl_refresh_<job>_<life>_<refresh>`. It expires: what is given up goes away by itself.
Its loads may not make it: one that is gone held what was loaded before. Where there is an old table that is to be kept
but for its rows, the new one has its columns from the beginning of the refresh on, so that the gate judges by them;
else it is made by the first load, laid out as the old one is.

The exchange is one job, done whole or not at all, under an id that follows from the refresh: it is done once, no matter
who does it: a process that is half dead finds that its id is taken. Of a refresh that is given up that id is used up
first. With `schema_on_refresh = "keep"` the job is a transaction that exchanges the rows (`keeping`). With "infer", and
where there is no old table, it is a copy that overwrites the table (BigQuery REST reference, JobConfigurationTableCopy,
writeDisposition). Where nothing was loaded, a query under the same id empties the table.
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
from etl.warehouses.bigquery import keeping, making
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
    def keeps(self) -> bool:
        """Whether the rows alone are exchanged."""
        return self.table.options.keeps

    @property
    def gone(self) -> RefreshLost:
        """The error for a new table that held something, and is not there."""
        return RefreshLost(
            f"{self.new.options} is gone, into which job {self.job.pipeline!r} has loaded what was to replace "
            f"{self.table.options}: somebody deleted it, or it expired after {KEPT.days} days without a run; "
            f"{self.table.options} is as it was. Begin again with `etl run --full-refresh`"
        )

    def check(self, declared: Columns) -> Any | None:
        """Make sure that the table can be refreshed so that all stays that is to stay, and return it; None: none.

        Args:
            declared: the columns that the job declares.

        Raises:
            WarehouseError: it cannot; says what is in the way, and what to do.
        """
        old = self.table.look()
        if old is not None:
            keeping.check(self.table, old)
            if self.keeps:
                keeping.check_kept(self.jobs, self.table, old, declared)
            else:
                keeping.check_dropped(self.table, old)
        return old

    def begin(self, declared: Columns) -> None:
        """Give up all earlier refreshes of the job, whose tables are deleted, and make the new table. May be repeated.

        A later refresh is a successor's: this process is half dead then.

        Args:
            declared: the columns that the job declares.

        Raises:
            StillLoading: it was told to leave.
            WarehouseError: it was not done, or the table cannot be refreshed: see `check`.
        """
        old = self.check(declared)
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
        if old is not None and self.keeps:
            if self.new.look() is None:
                self._create((), old)
            # Also where the process before made the table, and was killed then.
            keeping.protect(self.jobs, self.table, self.new)

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
            like = self.table.look()
            self._create(columns, like)
            if like is not None and self.keeps:
                keeping.protect(self.jobs, self.table, self.new)
        elif found.expires is not None and found.expires < now + KEPT_AT_LEAST:
            making.expire(self.new, now + KEPT)

    def _create(self, columns: Columns, like: Any | None) -> None:
        # From now on a new table that is missing was lost. A life has one refresh of that name.
        self.jobs.burn(self._made, self.job.pipeline, self.job.refresh)
        labels = {"etl_pipeline": label(self.job.pipeline), "etl_refresh": self.job.refresh}
        expires = datetime.now(UTC) + KEPT
        making.create(self.new, columns, expires=expires, labels=labels, like=like, whole=self.keeps)

    def finish(self, submitting: Callable[[], None]) -> None:
        """Put what was loaded in the place of what the table holds, and delete the new table. May be repeated.

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
            if found.job_type == "copy":
                advice = (
                    f"; if {options} has other partitions than {self.new.options}, delete {options} first"
                )
            else:
                advice = (
                    "; rows that were streamed into it cannot be removed for half an hour, and columns that were "
                    "altered since the refresh began may not take the rows: then `etl run --full-refresh`; one job "
                    'changes 4,000 partitions, rows of more are exchanged with schema_on_refresh = "infer" alone'
                )
            return WarehouseError(
                f"job {found.job_id} cannot put what was loaded in the place of {options} ({said(found)}); "
                f"{options} is as it was. Fix the cause and run again{advice}"
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
            # Ids are forgotten after six months; the checkpoint forgets nothing.
            if self.job.loads or self.jobs.find(self._made) is not None:
                raise self.gone
            # Where there is no table its id is used up all the same: somebody may come late, when there is one.
            sql = "SELECT 1" if old is None else f"TRUNCATE TABLE {options.quoted}"
            query = QueryJobConfig(labels=self._labels)
            return lambda: client.query(sql, job_config=query, job_id=id, job_retry=None, **self.jobs.options)
        labels = {**self._labels, "etl_since": str(int(new.created.timestamp() * 1000))}
        if old is not None and self.keeps:
            making.widen(self.table, self.new.columns(new) or ())
            sql, query = keeping.exchange(self.table, self.new, new), QueryJobConfig(labels=labels)
            return lambda: client.query(sql, job_config=query, job_id=id, job_retry=None, **self.jobs.options)
        if old is not None:
            keeping.check_dropped(self.table, old)  # somebody may have protected it since the refresh began
        # Somebody saw the copy of a table that expires expire, too: z3z1ma/target-bigquery, issue 55.
        expires = old.expires if old is not None else None
        if new.expires != expires:
            making.expire(self.new, expires)
        copy = CopyJobConfig(
            write_disposition="WRITE_TRUNCATE",
            create_disposition="CREATE_IF_NEEDED",
            labels=labels,
        )
        copy.destination_encryption_configuration = new.encryption_configuration
        return lambda: client.copy_table(
            self.new.options.reference(),
            options.reference(),
            job_id=id,
            job_config=copy,
            **self.jobs.options,
        )
