"""Google Cloud on this machine: one GCS and one BigQuery server for all tests of a worker, and clients for them.

The tests share the servers, so each takes buckets and datasets of its own: `new_bucket`, `new_dataset`. When a test is
over its datasets are dropped, because each table that is there makes every request take longer.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from etl.testing.bigquery_server import BigQueryServer
from etl.testing.gcs_server import GcsServer

if TYPE_CHECKING:
    from google.cloud import bigquery, storage

PROJECT = "test"
LOCATION = "EU"
BIGQUERY = Path(__file__).parent.parent / ".venv-bigquery"
BIGQUERY_PYTHON = BIGQUERY / "bin" / "python"

# Seconds for one request: the servers are on this machine, and may be busy.
TIMEOUT = 120.0

# What was dropped and what ran leaves its traces in the BigQuery server: after so many datasets it takes half as long
# again for everything, and it is time for an empty one.
DATASETS = 50


@dataclass(frozen=True)
class GoogleServers:
    """A GCS server and a BigQuery server that reads its objects."""

    gcs: GcsServer
    bigquery: BigQueryServer
    datasets: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        """What Google's clients need, in this process or another, to come here."""
        return self.gcs.environment() | self.bigquery.environment()

    def storage_client(self) -> storage.Client:
        """A client, also where the environment leads elsewhere; the caller closes it."""
        from google.api_core.client_options import ClientOptions
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage

        return storage.Client(
            PROJECT,
            credentials=AnonymousCredentials(),
            client_options=ClientOptions(api_endpoint=self.gcs.url),
        )

    def bigquery_client(self) -> bigquery.Client:
        """A client, also where the environment leads elsewhere; the caller closes it."""
        return bigquery_client(self.bigquery.url)

    def new_bucket(self) -> str:
        """The name of a bucket that only the caller uses."""
        name = f"bucket-{uuid.uuid4().hex}"
        self.gcs.create_bucket(name)
        return name

    def new_dataset(self) -> str:
        """The name of a dataset, without its project, that only the caller uses."""
        from google.cloud import bigquery

        name = f"dataset_{uuid.uuid4().hex}"
        dataset = bigquery.Dataset(f"{PROJECT}.{name}")
        dataset.location = LOCATION
        client = self.bigquery_client()
        self.datasets.append(name)
        client.create_dataset(dataset, timeout=TIMEOUT, retry=None)
        client.close()
        return name

    def drop(self, dataset: str) -> None:
        """Drop a dataset with all that is in it; now and then, where it is the last one, the server starts empty."""
        with closing(self.bigquery_client()) as client:
            client.delete_dataset(
                f"{PROJECT}.{dataset}", delete_contents=True, not_found_ok=True, timeout=TIMEOUT
            )
        self.datasets.remove(dataset)
        self.dropped.append(dataset)
        if len(self.dropped) >= DATASETS and not self.datasets:
            self.bigquery.kill()
            shutil.rmtree(self.bigquery.data)
            self.bigquery.start()
            self.dropped.clear()


def bigquery_client(url: str) -> bigquery.Client:
    """A client of the server at that address, which may be a proxy's; the caller closes it."""
    from google.api_core.client_options import ClientOptions
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery

    return bigquery.Client(
        PROJECT,
        credentials=AnonymousCredentials(),
        location=LOCATION,
        client_options=ClientOptions(api_endpoint=url),
    )


@contextmanager
def google(directory: Path) -> Iterator[GoogleServers]:
    """Start both servers, over folders in a directory."""
    need_bigquery()
    with (
        GcsServer(directory / "gcs") as gcs,
        BigQueryServer(gcs.root, directory / "bigquery", python=BIGQUERY_PYTHON, project=PROJECT) as bigquery,
    ):
        yield GoogleServers(gcs, bigquery)


@contextmanager
def storage_alone(directory: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsServer]:
    """Start a GCS server with a bucket, and lead Google's clients there."""
    with GcsServer(directory / "gcs") as server:
        server.create_bucket(bucket)
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


def need_bigquery() -> None:
    """Skip the test where local-bigquery is not installed; where it must be, fail."""
    if (BIGQUERY / ".ready").exists():
        return
    reason = "takes local-bigquery, which `make bigquery` installs where there is a Python 3.13"
    if os.environ.get("ETL_REQUIRE_BIGQUERY"):
        pytest.fail(f"{reason}; it must be there, because ETL_REQUIRE_BIGQUERY is set")
    pytest.skip(reason)
