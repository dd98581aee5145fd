"""A job that loads parts into a table of the BigQuery server, without a pipeline around it."""

from __future__ import annotations

import gzip
import io
import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import google_crc32c
import orjson
import pyarrow
import pyarrow.parquet

from etl.checkpoint import Part, Plan, State
from etl.columns import Column, Columns
from etl.memory import Budget
from etl.testing.fault_proxy import FaultProxy, Head
from etl.warehouses.base import Job
from etl.warehouses.bigquery import BigQuery
from etl.warehouses.bigquery.jobs import job_id
from sinks.base import SealedPart
from tests.google import LOCATION, PROJECT, TIMEOUT, GoogleServers, bigquery_client

MIB = 1024 * 1024
BUDGET = Budget(limit=None, warehouse=64 * MIB, threads=1)
ID = Column(name="id", type="INTEGER")
NAME = Column(name="name", type="STRING")
COLUMNS = (ID, NAME)


def encoded(records: Sequence[Any], format: str) -> bytes:
    """Return records (dicts, or lines of JSON as bytes) as the bytes of a part."""
    if format == "parquet":
        file = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(records)), file)
        return file.getvalue()
    lines = b"".join((r if isinstance(r, bytes) else orjson.dumps(r, default=str)) + b"\n" for r in records)
    return gzip.compress(lines) if format == "ndjson.gz" else lines


def rows(first: int, count: int) -> list[dict[str, Any]]:
    """Return so many records."""
    return [{"id": number, "name": f"name {number}"} for number in range(first, first + count)]


def inserting(head: Head) -> bool:
    """Say whether a request submits a job."""
    return head.method == "POST" and "/jobs" in head.path


def looking_up(head: Head) -> bool:
    """Say whether a request looks a job up."""
    return head.method == "GET" and "/jobs/" in head.path


class Loader:
    """Writes parts by hand, as files or as objects, and loads them as one job into a table of its own."""

    def __init__(self, servers: GoogleServers, folder: Path, **options: Any) -> None:
        self.servers = servers
        self.folder = folder
        self.dataset = servers.new_dataset()
        self.bucket = servers.new_bucket()
        self.table = f"{PROJECT}.{self.dataset}.t"
        self.job = Job(pipeline="job", fingerprint={}, columns=COLUMNS)
        self.options = {"table": self.table, "location": LOCATION, "deadline": 20.0} | options
        self._sequences = itertools.count(1)
        self._plans: list[str] = []
        self._opened: list[BigQuery] = []
        self.client = servers.bigquery_client()
        self.warehouse = self.open()

    def open(self, *, url: str | None = None, **options: Any) -> BigQuery:
        """Open another object of the same job: what a successor is, or a process that is half dead."""
        if url is not None:
            options["client"] = bigquery_client(url)
        warehouse = BigQuery(**self.options | options)
        self._opened.append(warehouse)
        warehouse.open(BUDGET)
        warehouse._retry = replace(warehouse._retry, first_wait=0.05)  # these servers need no rest
        return warehouse

    @contextmanager
    def proxy(self, **options: Any) -> Iterator[tuple[FaultProxy, BigQuery]]:
        """Open one behind a proxy that can make its requests go wrong."""
        with FaultProxy(self.servers.bigquery.url) as proxy:
            yield proxy, self.open(url=proxy.url, **options)

    def part(
        self, records: Sequence[Any], *, format: str = "ndjson", local: bool = False, times: int = 1
    ) -> Part:
        """Write a part; with `times`, what the records are encoded to is there so many times."""
        sequence = next(self._sequences)
        data = encoded(records, format) * times
        if local:
            path = self.folder / f"part-{sequence}.{format}"
            path.write_bytes(data)
            uri = path.as_uri()
        else:
            name = f"job/000001/{sequence:06}.{format}"
            uri = f"gs://{self.bucket}/{name}"
            storage = self.servers.storage_client()
            storage.bucket(self.bucket).blob(name).upload_from_string(data, timeout=TIMEOUT)
            storage.close()
        sealed = SealedPart(sequence=sequence, uri=uri, bytes=len(data), crc32c=google_crc32c.value(data))
        return Part(sealed=sealed, records=len(records) * times, after=State(sequence=sequence))

    def plan(
        self, *parts: Part, format: str = "ndjson", local: bool = False, columns: Columns | None = COLUMNS
    ) -> Plan:
        """Make a plan of parts; without any, of two small ones."""
        if not parts:
            parts = (
                self.part(rows(0, 3), format=format, local=local),
                self.part(rows(3, 4), format=format, local=local),
            )
        plan = Plan.of(self.warehouse.destination, format, parts, columns=columns)
        self._plans.append(plan.id)
        return plan

    def id(self, plan: Plan, attempt: int = 0) -> str:
        return job_id(self.job.pipeline, plan, attempt)

    def occupy(self, plan: Plan, sql: str = "SELECT 1", *, attempt: int = 0, **options: Any) -> None:
        """Have a query under the id of a plan's job."""
        from google.cloud.bigquery import QueryJobConfig

        self.client.query(
            sql, job_config=QueryJobConfig(**options), job_id=self.id(plan, attempt), job_retry=None
        ).result()

    def fetch(self, what: str = "id, name", order: str = "ORDER BY 1") -> list[tuple[Any, ...]]:
        """Return what is in the table."""
        return [
            tuple(row.values())
            for row in self.client.query(f"SELECT {what} FROM `{self.table}` {order}").result()
        ]

    def count(self) -> int:
        """Return how many rows are in the table."""
        return int(self.fetch("COUNT(*)", "")[0][0])

    def jobs(self) -> dict[str, str]:
        """Return the ids of the jobs of the plans that were made here, and what they are."""
        found = self.client.list_jobs(max_results=200, timeout=TIMEOUT)
        return {job.job_id: job.job_type for job in found if any(plan in job.job_id for plan in self._plans)}

    def objects(self) -> list[str]:
        """Return the names of the objects in the bucket."""
        storage = self.servers.storage_client()
        names = [blob.name for blob in storage.list_blobs(self.bucket, timeout=TIMEOUT)]
        storage.close()
        return sorted(names)

    def close(self) -> None:
        for warehouse in self._opened:
            warehouse.close()
        self.client.close()


class Paused:
    """A process that stops right before it submits a job by a method of its client, until it is told to go on."""

    def __init__(self, warehouse: BigQuery, method: str) -> None:
        self._reached = threading.Event()
        self._told = threading.Event()
        client = warehouse._connected()
        original = getattr(client, method)

        def stop(*arguments: Any, **options: Any) -> Any:
            self._reached.set()
            assert self._told.wait(60)
            return original(*arguments, **options)

        setattr(client, method, stop)

    def __enter__(self) -> Paused:
        return self

    def __exit__(self, *_: object) -> None:
        self._told.set()

    def wait(self) -> None:
        """Wait until it has stopped."""
        assert self._reached.wait(60)


@contextmanager
def in_background(target: Any, *arguments: Any) -> Iterator[list[Any]]:
    """Run a function on a thread; its result, or what it raised, is in the list when the context ends."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append(target(*arguments))
        except Exception as error:  # it is for the test to look at
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield result
    finally:
        thread.join(30)
