"""A file system that is memory is told apart from a disk: it takes a quarter of the limit, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from sinks import BigFile, NumberedChunks, ReusedFile, SinkError, SinkFull
from sinks.parts import LocalSink
from tests import disks

MIB = 1 << 20
LIMIT = 16 * MIB

pytestmark = disks.needs_root


def fill(sink: LocalSink, *, release: bool) -> int:
    """Write parts of 1 MiB until the sink refuses; return how many it took, at most 12."""
    sink.take_budget(memory=LIMIT, durable=True)
    for sequence in range(1, 13):
        with sink.open_part(sequence) as part:
            part.write(bytes(MIB))
        assert part.sealed
        if release:
            sink.release(part.sealed)
    return 12


def test_an_output_that_stays_is_refused_beyond_a_quarter_of_the_limit(tmp_path: Path) -> None:
    with disks.disk(tmp_path, "tmpfs") as memory:
        for sink in (BigFile(memory / "job.ndjson"), NumberedChunks(memory / "chunks.ndjson")):
            with pytest.raises(SinkError, match=r"is on tmpfs, which is memory: .* With part 5 it would"):
                fill(sink, release=True)
            sink.close()


def test_parts_in_transit_are_small_enough_or_made_smaller(tmp_path: Path) -> None:
    with disks.disk(tmp_path, "tmpfs") as memory:
        assert fill(ReusedFile(memory / "job.ndjson"), release=True) == 12
        assert fill(NumberedChunks(memory / "chunks.ndjson", keep=False), release=True) == 12
        with pytest.raises(SinkFull, match="write smaller parts"):
            fill(NumberedChunks(memory / "more.ndjson", keep=False), release=False)
        with pytest.raises(SinkFull, match="write smaller parts"):
            fill(ReusedFile(memory / "slots.ndjson", slots=9), release=False)


def test_a_resumed_output_counts_what_is_there(tmp_path: Path) -> None:
    with disks.disk(tmp_path, "tmpfs") as memory:
        first = NumberedChunks(memory / "job.ndjson")
        for sequence in range(1, 5):
            with first.open_part(sequence) as part:
                part.write(bytes(MIB))
        second = NumberedChunks(memory / "job.ndjson")
        second.recover([], part.sealed)
        second.take_budget(memory=LIMIT, durable=True)
        with pytest.raises(SinkError, match="would hold 5,242,880 bytes"), second.open_part(5) as part:
            part.write(bytes(MIB))


def test_without_a_limit_a_file_system_in_memory_is_a_disk_like_others(tmp_path: Path) -> None:
    with disks.disk(tmp_path, "tmpfs") as memory:
        sink = BigFile(memory / "job.ndjson")
        sink.take_budget(memory=None, durable=True)
        with sink.open_part(1) as part:
            part.write(bytes(30 * MIB))
        assert part.hygiene.method == "keep"
        assert "tmpfs is memory" in part.hygiene.reason
        sink.close()
