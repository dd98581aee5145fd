from __future__ import annotations

from pathlib import Path

from etl.testing.sinks import SinkSuite
from sinks import ReusedFile, Sink


class TestReusedFile(SinkSuite):
    def make_sink(self, directory: Path) -> Sink:
        return ReusedFile(directory / "job.ndjson")


class TestReusedFileWithOneSlot(SinkSuite):
    def make_sink(self, directory: Path) -> Sink:
        return ReusedFile(directory / "job.ndjson", slots=1)
