"""Memory does not grow with the data: what a whole job takes, resident and page cache, against three times as much."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.events import make
from benchmarks.measured import Measured, measure

pytestmark = [pytest.mark.slow, pytest.mark.volume]

EVENTS = (
    500_000  # so that DuckDB's log gets long enough for a checkpoint, whose pages are cached for a moment
)


def job(directory: Path, events: int) -> Measured:
    data = directory / f"{events}.ndjson.gz"
    make(events, data)
    work = directory / f"{events}"
    work.mkdir()
    return measure([sys.executable, "-m", "benchmarks.events", "pipeline", str(data), str(work)])


def test_three_times_the_data_take_no_more_memory(tmp_path):
    job(tmp_path, 1)  # once libraries are in the page cache, more of their pages are mapped at a time
    small, large = job(tmp_path, EVENTS), job(tmp_path, 3 * EVENTS)
    assert large.resident < 1.1 * small.resident
    if small.cache is not None and large.cache is not None:
        # A part of 16 MiB more or less in flight is no growth: 1,000,000 events are 150 MiB of parts.
        assert large.cache < small.cache + 24 * 2**20
