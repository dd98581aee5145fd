"""How the sink kept the page cache small is told and noted, whoever wrote the sink."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from etl import progress
from etl.checkpoint import Checkpoint, decode, encode
from etl.housekeeping import Housekeeping
from sinks import Hygiene
from tests import jobs

PLAIN = Hygiene(method="write_behind", reason="as told", window=8, peak=16, waited=0.5)


class Writer:
    """A part of a third party's sink."""

    def __init__(self, hygiene: Any) -> None:
        self.hygiene = hygiene


def noted(*found: Any) -> tuple[Checkpoint, list[progress.Event]]:
    events: list[progress.Event] = []
    housekeeping = Housekeeping("job", events.append)
    document = Checkpoint(pipeline="job")
    for hygiene in found:
        document = housekeeping.noted(Writer(hygiene), document)  # type: ignore[arg-type]
    return document, events


def test_the_parts_of_a_run_are_summed_up() -> None:
    document, events = noted(PLAIN, replace(PLAIN, peak=4), replace(PLAIN, method="fdatasync"))
    assert document.hygiene == replace(PLAIN, method="fdatasync", waited=1.5)
    assert [event.method for event in events if isinstance(event, progress.SinkHygiene)] == [
        "write_behind",
        "fdatasync",
    ]
    assert decode(encode(document), "").hygiene == document.hygiene


@pytest.mark.parametrize("wrong", [replace(PLAIN, peak=1.5), replace(PLAIN, waited=float("nan")), object()])
def test_what_a_checkpoint_could_not_hold_is_left_out(wrong: Any) -> None:
    document, events = noted(wrong)
    assert document.hygiene is None
    assert events == []
    assert decode(encode(document), "") == document


def test_a_run_without_a_record_leaves_what_the_one_before_noted(tmp_path: Path) -> None:
    first = jobs.pipeline(tmp_path, jobs.SINKS["reused_file"]).run()
    again = jobs.pipeline(tmp_path, jobs.SINKS["reused_file"]).run()
    assert first.checkpoint.hygiene is not None
    assert again.checkpoint.hygiene == first.checkpoint.hygiene


def test_a_run_leaves_no_file_open(tmp_path: Path) -> None:
    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    jobs.pipeline(tmp_path, jobs.SINKS["big_file"]).run()
    before = opened()
    for _ in range(3):
        jobs.pipeline(tmp_path, jobs.SINKS["big_file"]).run()
    assert opened() == before
