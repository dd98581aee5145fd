from __future__ import annotations

from pathlib import Path

import pytest

from etl.testing.sinks import SinkSuite
from sinks import GcsStream, Sink
from tests.sinks.gcs_harness import GcsHarness


@pytest.mark.usefixtures("gcs")
class TestGcsStream(GcsHarness, SinkSuite):
    def make_sink(self, directory: Path) -> Sink:
        return GcsStream(self.bucket, prefix=self.prefix(directory), chunk_bytes=1 << 18)


@pytest.mark.usefixtures("gcs")
class TestGcsStreamThatKeepsItsObjects(GcsHarness, SinkSuite):
    def make_sink(self, directory: Path) -> Sink:
        return GcsStream(self.bucket, prefix=self.prefix(directory), keep=True)
