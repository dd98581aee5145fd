from __future__ import annotations

from pathlib import Path

from etl.testing.sinks import SinkSuite
from sinks import Null, Sink


class TestNull(SinkSuite):
    keeps_bytes = False
    is_local = False

    def make_sink(self, directory: Path) -> Sink:
        return Null()
