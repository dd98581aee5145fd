"""BigQuery: plans become load jobs, each in the table once or not at all.

A load job lands whole or not at all, and its id follows from the plan, so that whoever holds the plan can only submit
the same job. `jobs` has that protocol, `gate` what fits a column, `staging` and
`upload` the two ways of parts that are files on this machine.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal
from urllib.parse import quote, urlencode

from etl.checkpoint import Plan
from etl.columns import Columns
from etl.errors import LoadFailed, LoadMismatch, StillLoading, WarehouseError
from etl.memory import Budget
from etl.warehouses.base import Audit, Gate, Job
from etl.warehouses.bigquery import audit as audits
from etl.warehouses.bigquery import errors
from etl.warehouses.bigquery import staging as stagings
from etl.warehouses.bigquery.adoption import adopt
from etl.warehouses.bigquery.gate import RecordGate
from etl.warehouses.bigquery.jobs import (
    TRIES,
    Client,
    Jobs,
    Outcome,
    burns,
    job_id,
    outcome,
    said,
    until_when,
)
from etl.warehouses.bigquery.parts import blocks, sent_along
from etl.warehouses.bigquery.schema import Schema, declared, known, to_api
from etl.warehouses.bigquery.staging import Staging
from etl.warehouses.bigquery.table import Table, TableOptions, connect
from etl.warehouses.bigquery.upload import JobUpload, chunk_bytes
from sinks import gcs, google_clients
from sinks.base import SealedPart
from sinks.errors import SinkError
from sinks.retry import Retry

# BigQuery documentation, "Quotas and limits", load jobs: source URIs of one job.
MOST_URIS = 10_000


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
        disposition: `append` adds rows to what is there.
        staging: where parts of file sinks are uploaded for their load: `gs://bucket/prefix`.
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
        disposition: Literal["append"] = "append",
        staging: str | None = None,
        daily_operations: int = 1400,
        deadline: float = 120.0,
        client: Client | None = None,
    ) -> None:
        self._options = TableOptions.of(table, location, partition_by, partition_type, tuple(cluster_by))
        if disposition != "append":
            raise ValueError(f"disposition is {disposition!r}; BigQuery knows 'append'")
        if daily_operations < 1:
            raise ValueError(f"daily_operations is {daily_operations}; it must be 1 or more")
        self._staging = None if staging is None else stagings.checked(staging)
        self._retry = Retry(deadline=deadline)
        self._declared: Columns = declared(schema)
        self._made = partial(
            BigQuery,
            table=table,
            location=location,
            schema=to_api(self._declared) or None,  # and no path, which another machine may not have
            partition_by=partition_by,
            partition_type=partition_type,
            cluster_by=tuple(cluster_by),
            disposition=disposition,
            staging=staging,
            daily_operations=daily_operations,
            deadline=deadline,
        )
        self.table = table
        self.staging = staging
        self.daily_operations = daily_operations
        self.operations = 0
        path = "/".join(quote(name) for name in self._options.names)
        self.destination = f"bigquery://{path}?" + urlencode(
            {"location": location.lower(), "disposition": disposition}
        )
        self._injected = google_clients.checked(client, "load_table_from_uri")
        self._client: Client | None = None
        self._storage: Any = None
        self._chunk_bytes = chunk_bytes(None)
        self._present: Any | None = None  # the table, as it was when the run began
        self._known: Columns | None = None  # its columns then
        self._leaving = threading.Event()

    def __repr__(self) -> str:
        return f"BigQuery({self.table!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the definition, not the client."""
        return self._made, ()

    def open(self, budget: Budget) -> None:
        """Make the client, and look at the dataset and the table.

        Raises:
            WarehouseError: there are no credentials, no dataset, no permission or no answer.
            ConfigError: the declared columns contradict the table's.
        """
        self.close()
        self._leaving.clear()
        self._chunk_bytes = chunk_bytes(budget.limit)
        self._client = self._injected or connect(self._options, self._retry.deadline)
        table = self._table()
        table.check_dataset()
        self._present = table.look()
        self._known = table.columns(self._present)
        self._columns(self._known, None)  # a contradiction is told before any record

    def gate(self, job: Job, format: str) -> Gate:
        """Make the gate for one part; see `ChecksRecords`."""
        return RecordGate(self._columns(self._known, job.columns), format=format)

    def most_parts(self, format: str, *, local: bool) -> int:
        """Return how many parts one job can take; of Parquet files that are sent along, one."""
        return 1 if local and self._staging is None and format == "parquet" else MOST_URIS

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
        jobs, tries = self._jobs(), 0
        for attempt in itertools.count():
            name = job_id(job.pipeline, plan, attempt)
            found = jobs.find(name)
            submitted = found is None
            if found is None:
                found, ours = jobs.insert(
                    name, self._submission(name, job, plan), f"submit job {name} to {self._options.location}"
                )
                self.operations += ours
            self._adopt(found, plan)
            found = jobs.wait(found)
            match outcome(found):
                case Outcome.LOADED:
                    rows = self._rows(found, plan)
                    self._clear(plan)
                    return rows
                case Outcome.LASTING:
                    gate = partial(self._present_gate, job)
                    raise LoadFailed(errors.explain(found, plan, self._read, gate))
                case Outcome.WAITING if submitted:
                    raise WarehouseError(
                        f"job {name} into {self.table} failed ({said(found)}); nothing was loaded: {until_when(found)}"
                    )
                case Outcome.PASSING if submitted:
                    tries += 1
                    if tries == TRIES:
                        raise WarehouseError(
                            f"job {name} failed, as {TRIES - 1} before it ({said(found)}); nothing was loaded, and it "
                            "may pass by itself: run again later"
                        )
                    jobs.pause(tries)
        raise AssertionError  # never reached: the loop has no end

    def settle(self, job: Job, plan: Plan) -> int | None:
        """Find out what became of a plan that is to be given up, and make sure that it stays so; see `LoadsByJobs`.

        Raises:
            StillLoading: it was told to leave.
            WarehouseError: it cannot be found out now.
        """
        jobs = self._jobs()
        for attempt in itertools.count():
            name = job_id(job.pipeline, plan, attempt)
            found = jobs.find(name) or jobs.burn(name, job.pipeline, plan)
            if burns(found, plan):
                self._clear(plan)
                return None
            self._adopt(found, plan)
            found = jobs.wait(found)
            if outcome(found) is Outcome.LOADED:
                rows = int(found.output_rows or 0)
                self._clear(plan)
                return rows
        raise AssertionError  # never reached: the loop has no end

    def look_back(self, job: Job, *, loads: int) -> None:
        """Make sure that the table can be what the checkpoint says; see `LoadsByJobs`.

        Raises:
            WarehouseError: it cannot.
        """
        table = self._present
        if loads and table is None:
            raise WarehouseError(
                f"{self.table} is gone, into which job {job.pipeline!r} has loaded; put it back (BigQuery keeps a "
                "deleted table for some days), or delete the checkpoint too, to load everything anew"
            )
        if loads or table is None or not table.num_rows:
            return
        if former := audits.former_load(self._jobs(), self._table(), table, job.pipeline, job.life):
            raise WarehouseError(
                f"{self.table} holds what job {job.pipeline!r} has loaded already ({former}), and its checkpoint knows "
                "nothing of that: everything would be loaded twice. Put the checkpoint back, or delete the table, or "
                "give the job another name"
            )

    def leave(self) -> None:
        """Let a `load` or `settle` that waits raise `StillLoading`. From any thread; may be repeated until `open`."""
        self._leaving.set()

    def audit(self, job: Job) -> Audit:
        """Look up the loads of a job, and the table; see `Audits`.

        Raises:
            WarehouseError: it cannot be read.
        """
        return audits.audit(self._jobs(), self._table(), job.pipeline, job.life)

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
            project=self._options.project,
            location=self._options.location,
            retry=self._retry,
            leaving=self._leaving,
        )

    def _table(self) -> Table:
        return Table(self._connected(), self._options, self._retry)

    def _check(self, plan: Plan) -> None:
        """Make sure that a plan can be a job at all."""
        local = [part.sealed.is_local for part in plan.parts]
        most = self.most_parts(plan.format, local=any(local))
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

    def _submission(self, id: str, job: Job, plan: Plan) -> Any:
        """Return what submits the job of a plan for which there is none."""
        client, jobs, options = self._connected(), self._jobs(), self._options
        config = self._table().load_config(job, plan, self._declared)
        local = plan.parts[0].sealed.is_local
        if local and self._staging is None:
            return partial(self._send_along, id, plan, config)
        uris = self._staged().put(plan) if local else [part.sealed.uri for part in plan.parts]
        return lambda: client.load_table_from_uri(
            uris, options.reference(), job_id=id, job_config=config, **jobs.options
        )

    def _send_along(self, id: str, plan: Plan, config: Any) -> Any:
        client, options = self._connected(), self._options
        resource = {
            "jobReference": {"projectId": options.project, "jobId": id, "location": options.location},
            "configuration": config.to_api_repr(),
        }
        resource["configuration"]["load"]["destinationTable"] = options.reference().to_api_repr()
        upload = JobUpload(
            client,
            project=options.project,
            resource=resource,
            blocks=self._until_left(sent_along([part.sealed for part in plan.parts], plan.format)),
            chunk_bytes=self._chunk_bytes,
            retry=self._retry,
            sleep=self._jobs().sleep,
        )
        try:
            return client.job_from_resource(upload.send())
        except SinkError as error:
            raise WarehouseError(f"plan {plan.id} cannot be uploaded: {error}") from error

    def _adopt(self, found: Any, plan: Plan) -> None:
        """Make sure that a job is the load of `plan`; see `adopt`."""
        if burns(found, plan):
            # Nobody can load it any more: what was staged of it late is litter.
            with suppress(WarehouseError):
                self._clear(plan)
        adopt(found, plan, self._options)

    def _rows(self, found: Any, plan: Plan) -> int:
        rows = int(found.output_rows or 0)
        if rows != plan.records:
            raise LoadMismatch(
                f"job {found.job_id} added {rows:,} rows to {self.table} where plan {plan.id} holds {plan.records:,} "
                f"records; compare the table with the parts: {', '.join(p.sealed.uri for p in plan.parts[:5])}"
            )
        return rows

    def _staged(self) -> Staging:
        if self._staging is None:
            raise AssertionError  # never reached: asked before
        bucket, prefix = self._staging
        return Staging(
            self._storage_client(),
            bucket,
            prefix,
            retry=self._retry,
            chunk_bytes=self._chunk_bytes,
            reading=self._until_left,
        )

    def _until_left(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Pass on what is read of a part, until `leave` is called.

        Raises:
            StillLoading: it was; no job was submitted.
        """
        for block in blocks:
            if self._leaving.is_set():
                raise StillLoading(
                    "a load was being prepared, and is left to the next run; nothing was submitted"
                )
            yield block

    def _clear(self, plan: Plan) -> None:
        """Delete what is staged of a plan that no job will read any more."""
        if self._staging is not None and plan.parts[0].sealed.is_local:
            self._staged().clear(plan)

    def _storage_client(self) -> Any:
        if self._storage is None:
            try:
                self._storage = gcs.connect(self._retry.deadline)
            except SinkError as error:
                raise WarehouseError(str(error)) from error
        return self._storage

    def _read(self, part: SealedPart) -> Iterator[bytes]:
        """Yield a part's bytes, wherever it is."""
        if part.is_local:
            yield from self._until_left(blocks(part))
            return
        bucket, name = re.fullmatch(r"gs://([^/]+)/(.+)", part.uri).groups()  # type: ignore[union-attr]
        blob = self._storage_client().bucket(bucket).blob(name, generation=part.generation or None)
        timeout = self._retry.timeout
        with blob.open("rb", chunk_size=self._chunk_bytes, timeout=timeout, retry=None) as file:
            yield from self._until_left(iter(partial(file.read, self._chunk_bytes), b""))

    def _present_gate(self, job: Job) -> Gate:
        table = self._table()
        return RecordGate(self._columns(table.columns(table.look()), job.columns), format="ndjson")

    def _columns(self, table: Columns | None, pinned: Columns | None) -> Columns:
        return known(table=table, declared=self._declared, pinned=pinned, name=self.table)
