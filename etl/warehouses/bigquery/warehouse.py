"""BigQuery: plans become load jobs, each in the table once or not at all.

A load job lands whole or not at all, and its id follows from the plan, so that who holds the plan can only submit
the same job. `jobs` and `attempts` have that protocol, `loads` what is submitted for a plan, `refresh` and `merging`
what goes beyond adding rows, `gate` what fits a column.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Any, Literal
from urllib.parse import quote, urlencode

import msgspec

from etl.checkpoint import Part, Plan
from etl.columns import ColumnChange, Columns
from etl.errors import WarehouseError
from etl.memory import Budget
from etl.partitions import fitting, together
from etl.schemas.lookup import Lookup
from etl.warehouses.base import Audit, Gate, Job
from etl.warehouses.bigquery import audit as audits
from etl.warehouses.bigquery import guard, limits, marks, places
from etl.warehouses.bigquery import staging as stagings
from etl.warehouses.bigquery.gate import RecordGate
from etl.warehouses.bigquery.jobs import Client, Jobs
from etl.warehouses.bigquery.layout import Partitioning
from etl.warehouses.bigquery.loads import PlanLoad, gone, table_of
from etl.warehouses.bigquery.marks import Mark
from etl.warehouses.bigquery.merge import Merge
from etl.warehouses.bigquery.merge_gate import MergeGate
from etl.warehouses.bigquery.partition_gate import PartitionGate
from etl.warehouses.bigquery.refresh import Refreshing
from etl.warehouses.bigquery.schema import Schema, changes, declared, to_api
from etl.warehouses.bigquery.sending import Sending
from etl.warehouses.bigquery.table import Table, TableOptions, connect
from etl.warehouses.bigquery.types import BIGQUERY
from etl.warehouses.bigquery.upload import chunk_bytes
from sinks import gcs, google_clients
from sinks.errors import SinkError
from sinks.hurry import Hurry
from sinks.retry import Retry

# Of a day's modifications of partitions so many are used: as `daily_operations` of a day's jobs.
USED = 14 / 15

# What a part may have beyond its size: the last record, and what is encoded at a time.
OVERSHOOT = 2 * limits.MOST_ROW_BYTES

DISPOSITIONS = ("append", "replace", "merge")


class BigQuery:
    """Loads plans into a table of BigQuery, which is created when it is missing; its dataset must exist.

    The schema is explicit: the declared columns, those of the table, and those that the records of the first part
    need, which the checkpoint then pins; new nullable columns are added as they come. A record that BigQuery would
    refuse is told by the gate, before it is encoded.

    Parts in a bucket (`gs://`) are loaded from there. Parts of file sinks are uploaded to `staging` first, and deleted
    there after the load; without `staging` they are sent along with the job, which a machine that is lost
    makes impossible to repeat: the job then pulls those records again.

    Args:
        table: `project.dataset.table`.
        location: where the dataset is: `EU`, `US`, `europe-west3`; jobs run there.
        schema: types of columns, as `schema.declared` takes them; others are inferred.
        partition_by: a column of type TIMESTAMP, DATETIME or DATE, when the table is created; None: no partitions.
        partition_type: how much time a partition holds.
        cluster_by: up to four columns, when the table is created.
        disposition: `append` adds rows to what is there; `replace` fills a new table with every run, and puts it in the
            place of the old one at its end; `merge` replaces the rows that have the same `key`.
        key: for `merge`: the columns that say which rows are the same.
        updated_at: for `merge`: the column that says which of them is newer; None: the one that came last is.
        schema_on_refresh: `keep`: a refresh exchanges the rows alone; columns, constraints, policies, labels and all
            else of the table stay, and columns are added only. `infer`: the table gets the columns that the records
            need, and loses what was said of the old ones; refused where that would drop policies.
        staging: where parts of file sinks are uploaded for their load: `gs://bucket/prefix`.
        user_project: the project that pays for requests to that bucket, where it lets the requester pay.
        project: in which jobs run and are billed; None: the table's.
        daily_operations: how many jobs may change the table within 24 hours; BigQuery allows 1,500.
        deadline: how long a request is tried again, in seconds. A job itself may take as long as it likes.
        client: to be used in place of one of our own; it is not pickled.

    Raises:
        ValueError: an argument makes no sense.
    """

    formats = frozenset({"ndjson", "ndjson.gz", "parquet"})

    def __init__(
        self,
        *,
        table: str,
        location: str,
        schema: Schema | None = None,
        partition_by: str | None = None,
        partition_type: Literal["HOUR", "DAY", "MONTH", "YEAR"] = "DAY",
        cluster_by: Sequence[str] = (),
        disposition: Literal["append", "replace", "merge"] = "append",
        key: Sequence[str] = (),
        updated_at: str | None = None,
        schema_on_refresh: Literal["keep", "infer"] = "keep",
        staging: str | None = None,
        user_project: str | None = None,
        project: str | None = None,
        daily_operations: int = 1400,
        deadline: float = 120.0,
        client: Client | None = None,
    ) -> None:
        self._options = TableOptions.of(
            table, location, partition_by, partition_type, tuple(cluster_by), schema_on_refresh
        )
        if disposition not in DISPOSITIONS:
            raise ValueError(f"disposition is {disposition!r}; there are: {', '.join(DISPOSITIONS)}")
        self._merge = Merge.of(disposition, key, updated_at)
        if daily_operations < 1:
            raise ValueError(f"daily_operations is {daily_operations}; it must be 1 or more")
        self._staging = None if staging is None else stagings.checked(staging)
        self._hurry = Hurry(deadline)
        self._retry = Retry(deadline=deadline, hurry=self._hurry)
        self._declared: Columns = declared(schema)
        self._lookup = Lookup(self._declared, BIGQUERY)
        self._made = partial(
            BigQuery,
            table=table,
            location=location,
            schema=to_api(self._declared) or None,  # and no path, which another machine may not have
            partition_by=partition_by,
            partition_type=partition_type,
            cluster_by=tuple(cluster_by),
            disposition=disposition,
            key=tuple(key),
            updated_at=updated_at,
            schema_on_refresh=schema_on_refresh,
            staging=staging,
            user_project=user_project,
            project=project,
            daily_operations=daily_operations,
            deadline=deadline,
        )
        self._project = project or self._options.project
        self.table = table
        self.staging = staging
        self.user_project = user_project
        self.disposition: str = disposition
        self.key = tuple(key)
        self.updated_at = updated_at
        self.daily_operations = daily_operations
        self.operations = 0
        path = "/".join(quote(name) for name in self._options.names)
        effect = [
            ("location", location.lower()),
            ("disposition", disposition),
            *(("key", name) for name in key),
        ]
        if updated_at is not None:
            effect.append(("updated_at", updated_at))
        if self._project != self._options.project:
            effect.append(("project", self._project))  # a job's id is taken in its project
        self.destination = f"bigquery://{path}?" + urlencode(effect)
        self._injected = google_clients.checked(client, "load_table_from_uri")
        self._client: Client | None = None
        self._storage: Any = None
        self._chunk_bytes = chunk_bytes(None)
        # By refresh: the columns of its table when it was first looked at, and whether something was loaded into it.
        self._seen: dict[str, Columns | None] = {}
        self._filled: set[str] = set()
        # By refresh: the columns of its table after the last load; and what was added since somebody asked.
        self._grown: dict[str, Columns] = {}
        self._changes: list[ColumnChange] = []
        # What is known of the table's partitions: as it would be made, until it was looked at.
        self._partitioning: Partitioning | None = (
            None if partition_by is None else Partitioning(column=partition_by, unit=partition_type)
        )
        # The life whose mark on the table may be replaced: what it loaded is gone.
        self._former: str | None = None
        self._leaving = threading.Event()

    def __repr__(self) -> str:
        return f"BigQuery({self.table!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the definition, not the client."""
        return self._made, ()

    @property
    def declares(self) -> bool:
        """Say whether the job declares columns."""
        return bool(self._declared)

    def declared(self, field: str) -> str | None:
        """Return the type that the job declares for the column of a field; see `etl.warehouses.base.Declares`."""
        return self._lookup.type_of(field)

    def least_memory(self) -> dict[str, int]:
        """Return what it needs; see `sinks.NeedsMemory`."""
        return dict(google_clients.BIGQUERY_NEEDS)

    def open(self, budget: Budget) -> None:
        """Make the client, and look at the dataset.

        Raises:
            WarehouseError: there are no credentials, no dataset, no permission or no answer.
        """
        self.close()
        self._leaving.clear()
        self._seen.clear()
        self._grown.clear()
        self._filled.clear()
        self._former = None
        self._chunk_bytes = chunk_bytes(budget.limit)
        self._client = self._injected or connect(
            self._options, self._project, self._retry.deadline, self._hurry
        )
        main = self._main()
        main.check_dataset()
        if self._project != self._options.project:
            self._jobs().check()
        if self.staging is not None:
            self.check_place(self.staging)

    def check_place(self, uri: str) -> None:
        """Make sure that the dataset can be loaded from a bucket; see `ReadsPlaces`.

        Raises:
            WarehouseError: it cannot.
        """
        if found := re.match(r"gs://([^/]+)", uri):
            options = self._options
            dataset = f"{options.project}.{options.dataset}"
            bucket = self._storage_client().bucket(found[1], user_project=self.user_project)
            places.check_bucket(bucket, dataset, options.location, self._retry)

    def gate(self, job: Job, format: str) -> Gate:
        """Make the gate for one part; see `ChecksRecords`.

        Raises:
            ConfigError: a column of the key cannot be one.
        """
        gate: Gate = RecordGate(self._columns(job), format=format)
        if self._merge is not None:
            gate = MergeGate(gate, self._merge, job.sequence)
        partitioning = self._partitioning
        return (
            gate if partitioning is None or partitioning.column is None else PartitionGate(gate, partitioning)
        )

    def columns(self, job: Job) -> Columns | None:
        """Return the columns that the table has, and those that are declared; see `KnowsColumns`.

        Raises:
            WarehouseError: they contradict each other, or cannot be found out.
        """
        return self._columns(msgspec.structs.replace(job, columns=None)) or None

    def most_parts(self, format: str, parts: Sequence[Part]) -> int:
        """Return how many parts one job can take; of Parquet files that are sent along, one."""
        if parts[0].sealed.is_local and self._staging is None and format == "parquet":
            return 1
        sizes = accumulate(part.sealed.bytes for part in parts[: limits.MOST_URIS])
        most = sum(1 for size in sizes if size <= limits.MOST_JOB_BYTES)
        return fitting((part.partitions for part in parts[: max(1, most)]), limits.MOST_PARTITIONS)

    @property
    def operations_a_load(self) -> int:
        """Say how many of the daily operations a load is: a merge is DML, and its load goes into another table."""
        return 0 if self._merge is not None else 1

    @property
    def daily_modifications(self) -> int | None:
        """Say how many partitions a day's loads may change; None: the table has none, or they do not count."""
        if self._partitioning is None or self._merge is not None:
            return None
        by_column = self._partitioning.column is not None
        most = limits.DAILY_MODIFICATIONS if by_column else limits.DAILY_MODIFICATIONS_INGESTED
        return int(most * USED)

    def modifications(self, parts: Sequence[Part]) -> int:
        """Return how many partitions a load of parts changes, at most; see `ModifiesPartitions`."""
        return max(1, together(part.partitions for part in parts))

    def most_part_bytes(self, format: str) -> int | None:
        """Return how large a part may become; see `LimitsSizes`."""
        return limits.MOST_GZIP_BYTES - OVERSHOOT if format.endswith(".gz") else None

    def most_row_bytes(self, format: str) -> int | None:
        """Return how large an encoded record may be; see `LimitsSizes`."""
        return None if format == "parquet" else limits.MOST_ROW_BYTES

    def load(self, job: Job, plan: Plan) -> int:
        """Load a plan by the one job that it can have; see the port. Durable on return.

        Raises:
            LoadFailed: BigQuery refuses it, and will again; says part, row, column and reason.
            LoadMismatch: the job added another number of rows.
            Fenced: another process gave the plan up.
            StillLoading: it was told to leave; the job goes on.
            WarehouseError: anything else; to be repeated.
        """
        self._check(plan)
        before, after = self._grown.get(job.refresh, self._seen.get(job.refresh)), self._columns(job)
        self._plan_load(job, plan).carry_out(self._submitting)
        self._filled.add(job.refresh)
        if before is not None:
            self._changes += changes(before, after, plan.after.sequence)
        self._grown[job.refresh] = after
        return plan.records

    def changes(self) -> tuple[ColumnChange, ...]:
        """Return what loads have added to the table since it was last asked; see `TellsChanges`."""
        found = tuple(self._changes)
        self._changes.clear()
        return found

    def settle(self, job: Job, plan: Plan) -> int | None:
        """Find out what became of a plan that is to be given up, and make sure that it stays so; see `LoadsByJobs`.

        Raises:
            StillLoading: it was told to leave.
            WarehouseError: it cannot be found out now.
        """
        found = self._plan_load(job, plan).settle()
        if found is not None:
            self._seen.pop(job.refresh, None)  # it was loaded since the table was looked at
            self._grown.pop(job.refresh, None)
            self._filled.add(job.refresh)
        return found

    def check_refresh(self, job: Job) -> None:
        """Make sure that the table can be refreshed, before anything is given up for that.

        Raises:
            WarehouseError: it cannot; says what would be lost, and what to do.
        """
        self._refreshing(job).check(self._declared)

    def begin_refresh(self, job: Job) -> None:
        """Make ready for a refresh; see `Refreshes`.

        Raises:
            StillLoading: it was told to leave.
            WarehouseError: it cannot be made ready now.
        """
        self._refreshing(job).begin(self._declared)
        self._seen.pop(job.refresh, None)  # the new table may be there now

    def finish_refresh(self, job: Job) -> None:
        """Put the new table in the place of the old one; see `Refreshes`.

        Raises:
            Fenced: the refresh was given up.
            StillLoading: it was told to leave; the exchange goes on.
            WarehouseError: it was not done, or nobody knows.
        """
        self._refreshing(job).finish(self._submitting)
        self._seen.clear()
        self._grown.clear()
        # A copy over a table need not bring labels along, nor leave those that are there.
        if (found := self._main().look()) is not None:
            marks.write(self._main(), job, Mark.now(job), found=found, emptied=True)

    def look_back(self, job: Job, *, adopt: bool = False) -> str | None:
        """Make sure that the table can be what the checkpoint says; see `LoadsByJobs`.

        Raises:
            WarehouseError: it cannot; or its columns contradict those that are declared.
            ConfigError: a column of the key cannot be one.
        """
        if not job.refresh and self.disposition == "replace":
            return None  # whatever the table holds will be replaced
        table = self._table(job)
        found = table.look()
        self._note(job, table, found)
        columns = self.columns(job) or ()
        if self._merge is not None:
            self._merge.check(columns)
            self._merge.check_filter(None if found is None else Partitioning.of(found), self.table)
        if job.loads:
            if found is None:
                raise self._refreshing(job).gone if job.refresh else gone(table, job)
            self._filled.add(job.refresh)
        if job.refresh or found is None:
            return None
        before = marks.read(found, job.pipeline)
        doubt = None
        # What is merged again from the beginning becomes what it was.
        if job.loads or self._merge is None:
            doubt = guard.doubt(job, found, table, self._jobs())
        if doubt is not None and not adopt:
            raise WarehouseError(doubt)
        if doubt is not None or (before is None and (job.loads or found.num_rows)):
            # So that the next run need not be told, nor ask.
            now = Mark.now(job)
            marks.write(table, job, now, found=found, adopted=doubt is not None, unmarked=True)
        elif before is not None and not before.is_of(job):
            self._former = before.life
        return doubt

    def hurry(self, now: bool) -> None:
        """Cut waits short, or wait as ever again; as `sinks.base.Hurries`."""
        self._hurry.tell(now)

    def leave(self) -> None:
        """Let a `load` or `settle` that waits raise `StillLoading`. From any thread; may be repeated until `open`."""
        self._leaving.set()

    def audit(self, job: Job) -> Audit:
        """Look up the loads of a job, and the table; see `Audits`.

        Raises:
            WarehouseError: it cannot be read.
        """
        merged = self._merge is not None
        return audits.audit(self._jobs(), self._table(job), job, merged=merged)

    def close(self) -> None:
        """Close the clients that were made here. May be repeated."""
        client, self._client = self._client, None
        storage, self._storage = self._storage, None
        if client is not None and client is not self._injected:
            client.close()
        if storage is not None:
            storage.close()

    def _connected(self) -> Client:
        if self._client is None:
            raise WarehouseError(f"{self} is not open; call open() first")
        return self._client

    def _jobs(self) -> Jobs:
        return Jobs(
            self._connected(),
            project=self._project,
            location=self._options.location,
            retry=self._retry,
            leaving=self._leaving,
        )

    def _submitting(self) -> None:
        self.operations += 1

    def _main(self) -> Table:
        return Table(self._connected(), self._options, self._retry)

    def _table(self, job: Job) -> Table:
        """Return the table that a job loads into: the new one, if it is being refreshed."""
        return table_of(self._main(), job)

    def _refreshing(self, job: Job) -> Refreshing:
        return Refreshing.of(self._jobs(), self._main(), job)

    def _plan_load(self, job: Job, plan: Plan) -> PlanLoad:
        jobs = self._jobs()
        return PlanLoad(
            jobs=jobs,
            main=self._main(),
            job=job,
            plan=plan,
            declared=self._declared,
            merge=self._merge,
            filled=job.refresh in self._filled,
            sending=self._sending(jobs),
            former=self._former,
        )

    def _sending(self, jobs: Jobs) -> Sending:
        return Sending(
            client=self._connected(),
            jobs=jobs,
            retry=self._retry,
            storage=self._storage_client,
            staging=self._staging,
            user_project=self.user_project,
            chunk_bytes=self._chunk_bytes,
            leaving=self._leaving,
        )

    def _storage_client(self) -> Any:
        if self._storage is None:
            try:
                self._storage = gcs.connect(self._retry.deadline, self._hurry)
            except SinkError as error:
                raise WarehouseError(str(error)) from error
        return self._storage

    def _check(self, plan: Plan) -> None:
        """Make sure that a plan can be a job at all."""
        local = [part.sealed.is_local for part in plan.parts]
        most = 1 if any(local) and self._staging is None and plan.format == "parquet" else limits.MOST_URIS
        what = f"plan {plan.id}"
        if plan.format not in self.formats:
            raise WarehouseError(f"BigQuery loads {', '.join(sorted(self.formats))}; {what} is {plan.format}")
        if any(local) != all(local):
            raise WarehouseError(
                f"{what} has parts in a bucket and parts on this machine; one job cannot load both"
            )
        if len(plan.parts) > most:
            why = (
                "; Parquet files cannot be sent along together: give the warehouse `staging`"
                if most == 1
                else ""
            )
            raise WarehouseError(f"{what} has {len(plan.parts):,} parts, one job takes {most:,}{why}")

    def _note(self, job: Job, table: Table, found: Any | None) -> None:
        """Note what a table is when it is looked at; a new one is laid out as the one that it is to replace."""
        self._seen[job.refresh] = table.columns(found)
        like = self._main().look() if found is None and job.refresh else found
        if like is not None:
            self._partitioning = Partitioning.of(like)

    def _columns(self, job: Job) -> Columns:
        """Return all columns that are known: the table's, when it was first looked at, and after `open` only."""
        table = Table(self._client, self._options, self._retry)
        if self._client is not None and job.refresh not in self._seen:
            table = self._table(job)
            self._note(job, table, table.look())
        return table.merged(self._seen.get(job.refresh), self._declared, job.columns)
