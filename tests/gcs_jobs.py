"""A job whose parts and dead letters stay in a bucket, the bucket behind a proxy, and the truth about both."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

import etl
from etl import progress
from etl.testing.fault_proxy import FaultProxy
from etl.testing.gcs_server import GcsServer
from sinks.gcs import connect
from sinks.retry import Retry
from tests.google import storage_alone

# A bucket of each worker's own: on one machine, a checkpoint of one name is locked for one process at a time.
BUCKET = f"parts-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
RECORDS = 40
REJECTED = {3, 4, 17, 25, 39}


def pull(cursor: int | None = None) -> Iterator[Any]:
    for number in range(cursor or 0, RECORDS):
        yield etl.Mark(number)
        yield {"number": number, "text": "x" * 2000}


@dataclass
class Some:
    """The first records of that source, as if more came later."""

    records: int

    def fingerprint(self) -> str:
        return "pull"

    def pull(self, cursor: int | None = None) -> Iterator[Any]:
        return islice(pull(cursor), 2 * max(0, self.records - (cursor or 0)))


def transform(records: Iterator[Any]) -> Iterator[Any]:
    for record in records:
        yield etl.Reject(record, "as it is told") if record["number"] in REJECTED else record


@dataclass
class Place:
    """A bucket behind a proxy, and a job that keeps its parts there."""

    gcs: GcsServer
    proxy: FaultProxy
    client: Any
    notices: list[str] = field(default_factory=list)

    def pipeline(self, **changes: Any) -> etl.Pipeline:
        definition: dict[str, Any] = {
            "source": pull,
            "transforms": [transform],
            "sink": {"type": "gcs_stream", "bucket": BUCKET, "prefix": "out/job.ndjson", "keep": True},
            "checkpoint": f"gs://{BUCKET}/etl/job.json",
            "part_records": 10,
        }
        return etl.Pipeline("job", **{**definition, **changes})

    def run(self, **changes: Any) -> etl.Result:
        def note(event: progress.Event) -> None:
            if isinstance(event, progress.Notice):
                self.notices.append(event.message)

        return self.pipeline(**changes).run(listeners=[note], handle_signals=False)

    def run_quickly(self) -> None:
        """Run the job, and try again at once what fails."""
        job = self.pipeline()
        for part in (job.sink, job.rejects, job.store):
            part._retry = Retry(first_wait=0.001, longest_wait=0.01)  # type: ignore[attr-defined]
        job.run(handle_signals=False)

    def run_one_part(self) -> None:
        """Run the job until it has sealed a part, and leave the rest to the next run."""
        job = self.pipeline()

        def listen(event: progress.Event) -> None:
            if isinstance(event, progress.PartSealed):
                job.stop("one is enough")

        job.run(listeners=[listen], handle_signals=False)

    def lines(self, prefix: str) -> list[Any]:
        names = [name for name in self.gcs.objects(BUCKET) if name.startswith(prefix)]
        texts = [(self.gcs.root / BUCKET / name).read_text() for name in names]
        return [json.loads(line) for text in texts for line in text.splitlines()]

    def assert_exactly_once(self) -> None:
        assert Counter(record["number"] for record in self.lines("out/job/0")) == Counter(
            set(range(RECORDS)) - REJECTED
        )
        assert Counter(letter["record"]["number"] for letter in self.lines("etl/job-rejects/0")) == Counter(
            REJECTED
        )

    def named(self, folder: str) -> list[str]:
        """Return the names of the objects that a manifest names, in order."""
        return [entry["uri"].removeprefix(f"gs://{BUCKET}/") for entry in self.lines(f"{folder}/")]

    def assert_named(self) -> None:
        """Make sure that the manifests name what is there, each once, and nothing else."""
        for folder, prefix in (
            ("out/_manifest/job", "out/job/"),
            ("etl/_manifest/job-rejects", "etl/job-rejects/"),
        ):
            there = [name for name in self.gcs.objects(BUCKET) if name.startswith(prefix)]
            assert sorted(self.named(folder)) == sorted(there)


@contextmanager
def made_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Make the bucket and the proxy, and lead Google's clients there."""
    with storage_alone(tmp_path, BUCKET, monkeypatch) as server, FaultProxy(server.url) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        client = connect()
        yield Place(server, proxy, client)
        client.close()
