"""A Cloud Storage server for the sink that writes there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from etl.testing.gcs_server import GcsServer

BUCKET = "parts"


@pytest.fixture
def gcs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsServer]:
    """Start a server with a bucket, and lead Google's clients there."""
    with GcsServer(tmp_path / "gcs") as server:
        server.create_bucket(BUCKET)
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server
