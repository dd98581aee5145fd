"""A GCS server of its own for each test, plain requests to it, and Google's client; a fault proxy and its target."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from etl.testing.fault_proxy import FaultProxy
from etl.testing.gcs_server import GcsServer
from tests.testing.gcs_wire import BUCKET, Wire
from tests.testing.http_target import Target, serving

if TYPE_CHECKING:
    from google.cloud import storage


@pytest.fixture
def gcs(tmp_path: Path) -> Iterator[GcsServer]:
    with GcsServer(tmp_path / "gcs") as server:
        server.create_bucket(BUCKET)
        yield server


@pytest.fixture
def wire(gcs: GcsServer) -> Iterator[Wire]:
    wire = Wire(gcs.url)
    with wire.session:
        yield wire


@pytest.fixture
def client(gcs: GcsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[storage.Client]:
    from google.cloud import storage

    for name, value in gcs.environment().items():
        monkeypatch.setenv(name, value)
    client = storage.Client()
    yield client
    client.close()


@pytest.fixture
def bucket(client: storage.Client) -> storage.Bucket:
    return client.bucket(BUCKET)


@pytest.fixture
def target() -> Iterator[Target]:
    with serving() as target:
        yield target


@pytest.fixture
def proxy(target: Target) -> Iterator[FaultProxy]:
    with FaultProxy(target.url) as proxy:
        yield proxy


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session
