from __future__ import annotations

from pathlib import Path

from etl.testing.sinks import SinkSuite
from sinks import BigFile, Sink


class TestBigFile(SinkSuite):
    def make_sink(self, directory: Path) -> Sink:
        return BigFile(directory / "job.ndjson")
