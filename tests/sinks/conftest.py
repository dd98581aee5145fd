"""A Cloud Storage server for the sink that writes there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from etl.testing.gcs_server import GcsServer
from tests.google import storage_alone

BUCKET = "parts"


@pytest.fixture
def gcs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsServer]:
    """Start a server with a bucket, and lead Google's clients there."""
    with storage_alone(tmp_path, BUCKET, monkeypatch) as server:
        yield server
