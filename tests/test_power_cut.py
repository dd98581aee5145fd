"""Cut the power after each call that makes something durable, and go on with what the disk has.

The job runs on an ext4 of its own, in an image. The image as it is when the job is killed is what a disk would
hold: what was written and not flushed is in the page cache above it, and is gone. A copy of it is mounted, its
journal is replayed, and the job is run again there. This is what parts in transit must survive, which are
never flushed: the ledger's position is all that stands for them.

Whether a cut takes a part is a matter of timing: one thread seals while another loads, and the kernel may write
pages back that nobody flushed. So each cut is judged by what it left: the job must miss just the parts that the
checkpoint counts on, the table does not hold, and the disk does not have. That such a part can be lost at all is
not left to luck: one cut comes where a part must be.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pytest

from etl import progress
from etl.checkpoint import Plan
from etl.warehouses.base import Job
from etl.warehouses.duckdb import DuckDB
from sinks import SealedPart
from sinks.checksum import extend
from sinks.local_files import locate
from tests import disks, jobs
from tests.tracing import KILLED_OR_DONE, calls_in, killing_at, strace

pytestmark = [pytest.mark.slow, disks.needs_root]

# Between two of these the disk does not change; to kill at the entry of one is to cut the power after the last.
DURABLE = "fsync,fdatasync"

SINKS = ["reused_file", "numbered_chunks_not_kept", "big_file"]
SHARES = 4

# ext4 may flush what nobody asked it to flush: with a journal's commit the data of blocks that were just given out
# (all of them, where many processors share a small disk), and a file that was truncated and written again when it
# is closed. With these options it does neither (linux, Documentation/admin-guide/ext4.rst). What is left is the
# writeback of pages that have been dirty for 30 seconds.
WRITES_BACK_LATE = ("data=writeback", "noauto_da_alloc")


def calls_of(directory: Path, sink: str) -> list[tuple[str, int]]:
    """Run the job once; return the calls that it makes."""
    work, log = directory / "recorded", directory / "calls"
    work.mkdir()
    assert jobs.run(work, sink, under=strace(log, DURABLE)).returncode == 0
    return calls_in(log)


def is_there(part: SealedPart) -> bool:
    """Say whether the bytes of a part are where its URI says."""
    location = locate(part.uri)
    if not location.path.exists():
        return False
    data = location.path.read_bytes()[location.start :][: part.bytes]
    return len(data) == part.bytes and extend(0, data) == part.crc32c


def taken(place: Path, sink: str) -> list[str]:
    """Return the parts that the checkpoint counts on, and neither the table nor the disk has."""
    document = jobs.pipeline(place, jobs.SINKS[sink]).read_checkpoint()
    if document is None:
        return []
    rows = len(jobs.loaded(place))  # parts are loaded in their order, each as a whole
    waiting = [part.sealed for part in document.outstanding if part.after.totals.records > rows]
    return [part.uri for part in waiting if not is_there(part)]


def go_on(image: Path, directory: Path, sink: str) -> list[str]:
    """Run the job on the disk as the cut left it; return the parts that the cut took."""
    events: list[progress.Event] = []
    shutil.copyfile(image, directory / "after")  # a device of its own, whatever has become of the one before
    with disks.mounted(directory / "disk", "ext4", "loop", source=directory / "after") as place:
        if (place / "lost+found").is_dir():
            (place / "lost+found").rmdir()
        missing = taken(place, sink)
        jobs.pipeline(place, jobs.SINKS[sink]).run(listeners=[events.append])
        jobs.assert_exactly_once(place, sink)
    told = [
        event for event in events if isinstance(event, progress.Notice) and "pulling again" in event.message
    ]
    assert bool(told) == bool(missing), (told, missing)
    assert not (missing and jobs.SINKS[sink]["type"] == "big_file"), "parts that last are not lost"
    return missing


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("sink", SINKS)
def test_whatever_a_power_cut_takes_each_record_is_loaded_once(tmp_path: Path, sink: str, share: int) -> None:
    empty, image = tmp_path / "empty", tmp_path / "image"
    disks.make_image(empty, "ext4", 32 * disks.MIB)
    cases = calls_of(tmp_path, sink)
    assert len(cases) > 15, f"only {cases} were seen: is the pattern of calls still right?"
    for name, n in cases[share::SHARES]:
        shutil.copyfile(empty, image)
        with disks.mounted(tmp_path / "disk", "ext4", "loop", source=image) as place:
            (place / "lost+found").rmdir()
            done = jobs.run(place, sink, under=strace(tmp_path / "log", name, killing_at(name, n)))
            disks.cut_power(place)
        assert done.returncode in KILLED_OR_DONE, done.stderr
        go_on(image, tmp_path, sink)


class DiesBeforeLoading(DuckDB):
    """Ends the process when the first plan is handed over: the checkpoint has it by then, and the ledger has not."""

    def load(self, job: Job, plan: Plan) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")


def run_until_the_first_load(place: Path, sink: str) -> None:
    warehouse = DiesBeforeLoading(place / jobs.WAREHOUSE, table=jobs.TABLE)
    jobs.pipeline(place, jobs.SINKS[sink], warehouse=warehouse).run()


@pytest.mark.parametrize("sink", SINKS)
def test_a_part_in_transit_is_lost_before_its_load_and_one_that_lasts_is_not(
    tmp_path: Path, sink: str
) -> None:
    image = tmp_path / "image"
    disks.make_image(image, "ext4", 32 * disks.MIB)
    with disks.mounted(tmp_path / "disk", "ext4", "loop", *WRITES_BACK_LATE, source=image) as place:
        (place / "lost+found").rmdir()
        child = multiprocessing.get_context("spawn").Process(
            target=run_until_the_first_load, args=(place, sink)
        )
        child.start()
        child.join()
        disks.cut_power(place)
    assert child.exitcode == -signal.SIGKILL
    assert bool(go_on(image, tmp_path, sink)) == (sink != "big_file")
