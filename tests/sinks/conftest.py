"""A Cloud Storage server for the sink that writes there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from etl.testing.gcs_server import GcsServer
from sinks.retry import Retry
from tests.google import storage_alone

BUCKET = "parts"


@dataclass(frozen=True, slots=True, kw_only=True)
class GivesUpSoon(Retry):
    """Ends trying after a moment, and lets each request take as long as any.

    Otherwise a request may take half of the deadline, and on a busy machine it does.
    """

    deadline: float = 0.2
    first_wait: float = 0.01
    longest_wait: float = 0.05

    @property
    def timeout(self) -> tuple[float, float]:
        return Retry().timeout


@pytest.fixture
def gcs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsServer]:
    """Start a server with a bucket, and lead Google's clients there."""
    with storage_alone(tmp_path, BUCKET, monkeypatch) as server:
        yield server
