"""A swap waits for another one in the same folder, for so long, and not when the run is to end."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import etl
from etl.errors import CheckpointError
from etl.stores import local
from sinks import hurry


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[etl.Pipeline]:
    """Give a job whose checkpoint is in a folder that somebody else has locked, and keeps locked."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield etl.Pipeline(
        "job", source=lambda: [{"n": 1}], sink={"type": "null"}, checkpoint=str(tmp_path / "job.json")
    )
    os.close(descriptor)


def test_a_lock_that_stays_is_given_up_at_the_deadline(
    pipeline: etl.Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_SWAP_SECONDS", 0.1)
    with pytest.raises(CheckpointError, match="has been locked for a minute"):
        pipeline.run()


def test_a_signal_ends_the_wait_for_a_lock(pipeline: etl.Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hurry, "GRACE_SECONDS", 0.1)
    pipeline.store._hurry = hurry.Hurry()  # type: ignore[attr-defined]  # which has the short time
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(KeyboardInterrupt):
        pipeline.run()
