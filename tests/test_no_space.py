"""A disk that is too small: the job ends well with smaller parts, or stops and says what it needs."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

import etl
from etl import progress
from etl.errors import CheckpointFull, NoSpace, WarehouseError
from tests import disks, jobs

pytestmark = disks.needs_root

RECORDS = 20_000


def pull(cursor=None):
    for number in range(cursor or 0, RECORDS):
        if number % 100 == 0:
            yield etl.Mark(number)
        yield {"number": number, "text": f"record {number} " + "x" * 200}


@pytest.fixture(params=["tmpfs", "ext4"])
def small_disk(request, tmp_path):
    """A file system of 3 MiB."""
    if request.param == "tmpfs":
        source, options = "none", ["size=3m"]
    else:
        source, options = tmp_path / "image", ["loop"]
        disks.make_image(source, "ext4", 3 << 20, "-m", "0", "-O", "^has_journal")
    with disks.mounted(tmp_path / "small", request.param, *options, source=source) as mount:
        yield mount


def job(tmp_path: Path, sink: dict, **changes) -> etl.Pipeline:
    return jobs.pipeline(
        tmp_path, sink, **{"source": pull, "transforms": [], "part_bytes": 64 << 20, **changes}
    )


def fill_up(path: Path) -> None:
    """Write to `path` until the disk is full."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(b"x" * 1000):
            pass


def sink_on(disk: Path, **options) -> dict:
    # Absolute, so that `jobs.pipeline` leaves it where it is.
    return {"type": "reused_file", "path": str(disk / "job.ndjson"), **options}


@pytest.mark.parametrize(
    "options",
    [{}, {"slots": 1}, {"type": "numbered_chunks", "keep": False}],
    ids=["two slots", "one slot", "chunks that are not kept"],
)
def test_a_part_that_does_not_fit_is_made_smaller_until_it_does(tmp_path, small_disk, options):
    notices = []
    result = job(tmp_path, sink_on(small_disk, **options)).run(
        listeners=[lambda event: notices.append(event) if isinstance(event, progress.Notice) else None]
    )
    assert sorted(jobs.loaded(tmp_path)) == list(range(RECORDS))
    assert result.parts > 2
    assert "no space left" in notices[0].message
    assert [path.name for path in small_disk.iterdir() if path.name != "lost+found"] == []


@pytest.mark.parametrize("type", ["big_file", "numbered_chunks"])
def test_an_output_that_cannot_fit_stops_with_what_is_needed_and_keeps_what_is_loaded(
    tmp_path, small_disk, type
):
    with pytest.raises(NoSpace, match=rf"{small_disk}.*bytes are free.*reused_file"):
        job(tmp_path, sink_on(small_disk, type=type)).run()
    loaded = jobs.loaded(tmp_path)
    assert sorted(loaded) == list(range(len(loaded)))
    assert len(loaded) > RECORDS // 4


def test_after_space_was_made_the_job_goes_on(tmp_path, small_disk):
    filler = small_disk / "filler"
    free = os.statvfs(small_disk)
    filler.write_bytes(b"x" * (free.f_bavail * free.f_frsize - 20_000))
    with pytest.raises(NoSpace):
        job(tmp_path, sink_on(small_disk)).run()
    filler.unlink()
    job(tmp_path, sink_on(small_disk)).run()
    assert sorted(jobs.loaded(tmp_path)) == list(range(RECORDS))


def test_without_space_for_the_checkpoint_nothing_loaded_is_lost(tmp_path, small_disk):
    sink = {"type": "reused_file", "path": str(tmp_path / "out" / "job.ndjson")}
    checkpoint = small_disk / "job.checkpoint.json"
    filler = small_disk / "filler"

    def fill(event):
        if isinstance(event, progress.PartSealed) and not filler.exists():
            fill_up(filler)

    with pytest.raises((CheckpointFull, NoSpace), match="no space to write the checkpoint"):
        job(tmp_path, sink, checkpoint=checkpoint, part_bytes=1 << 20).run(listeners=[fill])
    filler.unlink()
    job(tmp_path, sink, checkpoint=checkpoint, part_bytes=1 << 20).run()
    assert sorted(jobs.loaded(tmp_path)) == list(range(RECORDS))


def test_without_space_for_the_warehouse_nothing_loaded_is_lost(tmp_path, small_disk):
    sink = {"type": "reused_file", "path": str(tmp_path / "out" / "job.ndjson")}
    warehouse = {"type": "duckdb", "path": str(small_disk / jobs.WAREHOUSE), "table": jobs.TABLE}

    def noisy(records):
        for record in records:
            yield {**record, "noise": os.urandom(100).hex()}

    with pytest.raises(WarehouseError, match="space"):
        job(tmp_path, sink, warehouse=warehouse, transforms=[noisy], part_bytes=1 << 18).run()
    shutil.copy(small_disk / jobs.WAREHOUSE, tmp_path)
    for log in small_disk.glob("*.wal"):
        shutil.copy(log, tmp_path)
    loaded = jobs.loaded(tmp_path)
    assert sorted(loaded) == list(range(len(loaded)))
    assert loaded
