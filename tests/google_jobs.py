"""The job of `tests.jobs` on Google Cloud, in processes that can be killed and stopped, and the truth about it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import etl
from etl.checkpoint import Part
from etl.errors import EtlError, Fenced
from etl.testing.fault_proxy import Counter, Fault, FaultProxy
from etl.testing.fault_proxy.messages import Head
from etl.warehouses.bigquery import BigQuery
from tests import disks, forks, jobs, refresh_jobs
from tests.google import LOCATION, PROJECT, TIMEOUT, GoogleServers

TABLE = "numbers"
NEW = 2  # the version of the source that refreshes and merges are about; the table holds the one before
FENCED, FAILED = 9, 1

REJECTED = frozenset(range(7, 100, 20))
EXPECTED = frozenset(range(jobs.RECORDS)) - REJECTED

NUMBERS = count(1)


@dataclass(frozen=True)
class Case:
    """One job with a bucket, a table and proxies of its own."""

    servers: GoogleServers
    bucket: str
    dataset: str
    directory: Path
    storage: FaultProxy
    bigquery: FaultProxy
    counter: Counter
    sink: dict[str, Any]
    staging: bool = False
    way: str = ""
    hurries: bool = False
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    processes: list[BaseProcess] = field(default_factory=list)
    pids: defaultdict[int, Future[int]] = field(default_factory=lambda: defaultdict(Future))

    @property
    def table(self) -> str:
        """The table's full name."""
        return f"{PROJECT}.{self.dataset}.{TABLE}"

    def environment(self) -> dict[str, str]:
        """Return what sends the clients through the proxies."""
        return {
            **self.servers.environment(),
            "STORAGE_EMULATOR_HOST": self.storage.url,
            "BIGQUERY_EMULATOR_HOST": self.bigquery.url,
        }

    def start(self, name: str = "first", *, asks: bool = True) -> BaseProcess:
        """Start the job in a process of its own, with a disk of its own: each name stands for a machine.

        A refresh that somebody must ask for is asked for with `asks`.
        """
        disk = self.directory / name
        disk.mkdir(exist_ok=True)
        at = self.directory / "disk" if "path" in self.sink else disk
        definition = self._definition(at)
        if self.way:
            definition["asks"] = asks
        process = forks.FORKS.Process(target=_work, args=(self.environment(), disk, at, definition))
        number = len(self.processes)
        self.processes.append(process)
        process.start()
        self.pids[number].set_result(process.pid)
        return process

    def pid(self, number: int = 0) -> int:
        """Return the id of a process, which may be about to start; they count from 0."""
        return self.pids[number].result(timeout=600)

    def disturb(self, nth: int, fault: Fault, *, of: Callable[[Head], bool] = lambda _head: True) -> None:
        """Let a fault strike at the nth request of the first process, of those that `of` is true of."""
        self.counter.at(nth, fault, of=lambda head: len(self.processes) < 2 and of(head))

    def finish(self, name: str = "second", *, asks: bool = False) -> None:
        """Run the job to its end in a fresh process, on a fresh disk."""
        process = self.start(name, asks=asks)
        process.join()
        assert process.exitcode == 0, self.said(name)

    def said(self, name: str) -> str:
        """Return what a process had to say."""
        return (self.directory / name / "stderr").read_text()

    def _definition(self, at: Path) -> dict[str, Any]:
        sink = dict(self.sink)
        if sink["type"] == "gcs_stream":
            sink["bucket"] = self.bucket
        else:
            sink["path"] = str(at / sink["path"])
        warehouse = {"table": self.table, "location": LOCATION}
        if self.staging:
            warehouse["staging"] = f"gs://{self.bucket}/staging"
        defined = {"sink": sink, "warehouse": warehouse, "checkpoint": f"gs://{self.bucket}/etl/job.json"}
        defined["hurries"] = self.hurries
        return defined | ({"way": self.way} if self.way else {})


class SmallPlans(BigQuery):
    """Takes three parts with a job, so that few parts make several plans."""

    def most_parts(self, format: str, parts: Sequence[Part]) -> int:
        return 3


STREAM: dict[str, Any] = {"type": "gcs_stream", "prefix": "parts/job.ndjson"}
KEPT: dict[str, Any] = {**STREAM, "keep": True}


def transform(records: Iterator[dict[str, Any]]) -> Iterator[Any]:
    """Reject some of the first hundred records: dead letters take requests of their own."""
    for record in records:
        yield etl.Reject(record, "a seven") if record["number"] in REJECTED else record


def pipeline(definition: dict[str, Any], **changes: Any) -> etl.Pipeline:
    """Define the job: six parts, at least three plans."""
    defined = {
        "source": jobs.pull,
        "transforms": [transform],
        "part_records": 60,
        **definition,
        "warehouse": SmallPlans(**definition["warehouse"]),
    }
    return etl.Pipeline("job", **{**defined, **changes})


def refreshed(definition: dict[str, Any]) -> etl.Pipeline:
    """Define a job of `tests.refresh_jobs` on Google Cloud: three parts, one plan."""
    way = definition.pop("way")
    warehouse = BigQuery(**definition.pop("warehouse"), **refresh_jobs.WAREHOUSES[way])
    return etl.Pipeline(
        "job",
        source=refresh_jobs.Versions(NEW, grows=False),
        transforms=[refresh_jobs.transform],
        part_records=60,
        warehouse=warehouse,
        **definition,
    )


def _hurried(made: etl.Pipeline) -> etl.Pipeline:
    """Let a job try again at once what failed: these servers need no rest, and half a second each time adds up."""
    for part in (made.sink, made.rejects, made.warehouse, made.store):
        if hasattr(part, "_retry"):
            part._retry = replace(part._retry, first_wait=0.01)
    return made


def _run(definition: dict[str, Any]) -> None:
    hurries = definition.pop("hurries")
    if "way" not in definition:
        made = pipeline(definition)
        (_hurried(made) if hurries else made).run(handle_signals=False)
        return
    asks = definition.pop("asks") and definition["way"] in refresh_jobs.ASKED_FOR
    refreshed(definition).run(handle_signals=False, full_refresh=asks)


def _work(environment: dict[str, str], disk: Path, at: Path, definition: dict[str, Any]) -> None:
    os.environ.update({**environment, "TMPDIR": str(disk)})  # where one machine keeps its locks
    tempfile.tempdir = None
    errors = os.open(disk / "stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(errors, 2)
    if at != disk:  # the same path on every machine, and another disk
        disks.enter_namespace()
        subprocess.run(["mount", "--bind", disk, at], check=True)
    os.chdir(at)
    try:
        _run(definition)
    except Fenced:
        traceback.print_exc()
        sys.exit(FENCED)
    except EtlError:
        traceback.print_exc()
        sys.exit(FAILED)


@contextmanager
def case(
    servers: GoogleServers,
    directory: Path,
    *,
    sink: dict[str, Any] = STREAM,
    staging: bool = False,
    way: str = "",
    hurries: bool = False,
) -> Iterator[Case]:
    """Make a bucket, a dataset and proxies; in the end kill what is left of the processes, drop the dataset."""
    counter = Counter()
    bucket, dataset = servers.new_bucket(), servers.new_dataset()
    place = directory / f"case-{next(NUMBERS)}"
    (place / "disk").mkdir(parents=True)
    with (
        FaultProxy(servers.gcs.url, counter=counter) as storage,
        FaultProxy(servers.bigquery.url, counter=counter) as bigquery,
    ):
        made = Case(servers, bucket, dataset, place, storage, bigquery, counter, sink, staging, way, hurries)
        try:
            yield made
        finally:
            for process in made.processes:
                if process.is_alive():
                    process.kill()
                process.join()
    servers.drop(dataset)


def loaded(case: Case) -> list[int]:
    """Return the numbers that the table holds."""
    with closing(case.servers.bigquery_client()) as client:
        return [row["number"] for row in client.list_rows(case.table, timeout=TIMEOUT)]


def loads(case: Case) -> list[Any]:
    """Return the jobs that loaded into the table."""
    with closing(case.servers.bigquery_client()) as client:
        return [
            job
            for job in client.list_jobs(state_filter="done", min_creation_time=case.began)
            if job.job_type == "load" and job.destination.dataset_id == case.dataset and not job.error_result
        ]


def objects(case: Case, prefix: str) -> list[str]:
    """Return the names of the objects below a prefix."""
    return [name for name in case.servers.gcs.objects(case.bucket) if name.startswith(prefix)]


def assert_exactly_once(case: Case) -> None:
    """Compare the table, the loads, the dead letters and the bucket with the truth, record by record."""
    assert sorted(loaded(case)) == sorted(EXPECTED)
    assert sum(job.output_rows for job in loads(case)) == len(EXPECTED)
    root = case.servers.gcs.root / case.bucket
    letters = jobs.lines([root / name for name in objects(case, "etl/job-rejects/")])
    assert sorted(letter["record"]["number"] for letter in letters) == sorted(REJECTED)
    assert named(case, "etl/_manifest/job-rejects/") == objects(case, "etl/job-rejects/")
    kept = objects(case, "parts/job/")
    if case.sink.get("keep"):
        rows = jobs.lines([root / name for name in kept])
        assert sorted(row["number"] for row in rows) == sorted(EXPECTED)
        assert named(case, "parts/_manifest/job/") == kept
    else:
        assert kept == []
    assert objects(case, "staging/") == []


def named(case: Case, folder: str) -> list[str]:
    """Return the names of the objects that a manifest names, sorted."""
    root = case.servers.gcs.root / case.bucket
    lines = jobs.lines([root / name for name in objects(case, folder)])
    return sorted(line["uri"].removeprefix(f"gs://{case.bucket}/") for line in lines)
