"""Cut the power after each call that makes something durable, and go on with what the disk has.

The job runs on an ext4 of its own, in an image. The image as it is when the job is killed is what a disk would
hold: what was written and not flushed is in the page cache above it, and is gone. A copy of it is mounted, its
journal is replayed, and the job is run again there. This is what parts in transit must survive, which are
never flushed: the ledger's position is all that stands for them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from etl import progress
from tests import disks, jobs
from tests.tracing import KILLED_OR_DONE, calls_in, killing_at, strace

pytestmark = [
    pytest.mark.slow,
    disks.needs_root,
    pytest.mark.usefixtures("strace"),
]

# Between two of these the disk does not change; to kill at the entry of one is to cut the power after the last.
DURABLE = "fsync,fdatasync"

SHARES = 4


def calls_of(directory: Path, sink: str) -> list[tuple[str, int]]:
    """Run the job once; return the calls that it makes."""
    work, log = directory / "recorded", directory / "calls"
    work.mkdir()
    assert jobs.run(work, sink, under=strace(log, DURABLE)).returncode == 0
    return calls_in(log)


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("sink", ["reused_file", "numbered_chunks_not_kept", "big_file"])
def test_whatever_a_power_cut_takes_each_record_is_loaded_once(tmp_path: Path, sink: str, share: int) -> None:
    empty, image, after = (tmp_path / name for name in ("empty", "image", "after"))
    disks.make_image(empty, "ext4", 32 * disks.MIB)
    cases = calls_of(tmp_path, sink)
    assert len(cases) > 15, f"only {cases} were seen: is the pattern of calls still right?"
    events: list[progress.Event] = []
    for name, n in cases[share::SHARES]:
        shutil.copyfile(empty, image)
        with disks.mounted(tmp_path / "disk", "ext4", "loop", source=image) as place:
            (place / "lost+found").rmdir()
            done = jobs.run(place, sink, under=strace(tmp_path / "log", name, killing_at(name, n)))
            assert done.returncode in KILLED_OR_DONE, done.stderr
            shutil.copyfile(image, after)
        with disks.mounted(tmp_path / "disk", "ext4", "loop", source=after) as place:
            if (place / "lost+found").is_dir():
                (place / "lost+found").rmdir()
            jobs.pipeline(place, jobs.SINKS[sink]).run(listeners=[events.append])
            jobs.assert_exactly_once(place, sink)
    lost = [
        event for event in events if isinstance(event, progress.Notice) and "pulling again" in event.message
    ]
    assert bool(lost) == (sink != "big_file"), "parts in transit are lost, those that last are not"
