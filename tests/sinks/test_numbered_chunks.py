from __future__ import annotations

from pathlib import Path

from etl.testing.sinks import SinkSuite
from sinks import NumberedChunks, Sink


class TestNumberedChunks(SinkSuite):
    def make_sink(self, directory: Path) -> Sink:
        return NumberedChunks(directory / "job.ndjson.gz")


class TestNumberedChunksThatAreDeleted(SinkSuite):
    def make_sink(self, directory: Path) -> Sink:
        return NumberedChunks(directory / "job.ndjson", keep=False)
