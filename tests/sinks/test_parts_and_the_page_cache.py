"""What parts leave in the page cache, when each is smaller than a window and a writer never sees a second one."""

from __future__ import annotations

from pathlib import Path

import pytest

from sinks import BigFile, NumberedChunks, ReusedFile, SealedPart, SinkError
from sinks.page_cache import choose, drop, in_transit, kernel, open_for_writing, open_guest
from sinks.parts import LocalSink
from tests import disks

MIB = 1 << 20
LIMIT = 64 * MIB
PART = 4 * MIB

pytestmark = disks.needs_root


def write(sink: LocalSink, parts: int, *, durable: bool = True) -> list[str]:
    """Write parts of 4 MiB; return the method of each."""
    sink.take_budget(memory=LIMIT, durable=durable)
    methods = []
    for sequence in range(1, parts + 1):
        with sink.open_part(sequence) as part:
            part.write(bytes(PART))
        methods.append(part.hygiene.method)
    return methods


def cached(directory: Path) -> int:
    """Return how many bytes of the files in a directory are in the page cache."""
    total = 0
    for path in directory.iterdir():
        if path.is_file():
            with path.open("rb") as file:
                total += kernel.resident(file.fileno(), 0, path.stat().st_size) or 0
    return total


@pytest.mark.parametrize("sink", [NumberedChunks, BigFile])
def test_where_no_sync_does_anything_parts_do_not_pile_up(
    on_disk: Path, sink: type[NumberedChunks | BigFile]
) -> None:
    with disks.disk(on_disk, "volatile") as place:
        (place / "out").mkdir()
        parts = sink(place / "out" / "job.ndjson", policy="fdatasync")
        write(parts, 25)
        assert cached(place / "out") <= 3 * PART
        parts.close()


def test_an_overlay_that_is_mounted_volatile_is_known_before_the_first_byte(on_disk: Path) -> None:
    with disks.disk(on_disk, "volatile") as place:
        assert "volatile" in choose(place).reason
        assert set(write(NumberedChunks(place / "job.ndjson"), 4)) == {"direct"}
        assert cached(place) == 0
    with disks.disk(on_disk, "overlayfs") as place:
        assert choose(place).methods[0] == "fdatasync"


def test_a_memory_file_system_below_an_overlay_is_found_out(tmp_path: Path) -> None:
    with disks.mounted(tmp_path / "memory", "tmpfs", "size=200m") as memory:
        for name in ("lower", "upper", "work"):
            (memory / name).mkdir()
        layers = [f"lowerdir={memory}/lower", f"upperdir={memory}/upper", f"workdir={memory}/work"]
        with disks.mounted(tmp_path / "overlay", "overlay", *layers) as place:
            with pytest.raises(SinkError, match="overlayfs, which behaves as if it is memory"):
                write(BigFile(place / "job.ndjson"), 20)
            assert (place / "job.ndjson").stat().st_size <= LIMIT // 4 + 2 * PART


def test_a_part_in_transit_is_found_again_without_being_written_back(on_disk: Path) -> None:
    with disks.disk(on_disk, "ext4") as place:
        first = ReusedFile(place / "job.ndjson")
        first.take_budget(memory=LIMIT, durable=False)
        with first.open_part(1) as part:
            part.write(bytes(PART))
        assert isinstance(part.sealed, SealedPart)
        kernel_knows = cached(place)
        second = ReusedFile(place / "job.ndjson")
        second.take_budget(memory=LIMIT, durable=False)
        second.recover([part.sealed], part.sealed)
        assert in_transit(place / "job.ndjson")
        assert cached(place) == kernel_knows == PART
        second.release(part.sealed)
        second.close()


def test_parts_that_are_deleted_leave_nothing_to_remember(on_disk: Path) -> None:
    from sinks.page_cache import transit

    before = set(transit._files)
    with disks.disk(on_disk, "tmpfs") as place:
        sink = NumberedChunks(place / "job.ndjson", keep=False)
        sink.take_budget(memory=LIMIT, durable=False)
        for sequence in range(1, 200):
            with sink.open_part(sequence) as part:
                part.write(b"{}\n")
            assert part.sealed
            sink.release(part.sealed)
    # Fewer is well: a new file may be given the inode of one that another test left here.
    assert set(transit._files) <= before


def test_a_wrong_argument_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"precious")
    for wrong in ({"policy": "drop"}, {"memory": "64MiB"}, {"memory": 0}):
        with pytest.raises(ValueError, match="it must be"):
            open_for_writing(path, **wrong)  # type: ignore[arg-type]
    assert path.read_bytes() == b"precious"


def test_somebody_elses_file_on_an_overlay_is_read_without_staying_in_the_cache(on_disk: Path) -> None:
    with disks.disk(on_disk, "overlayfs") as place:
        (place / "theirs").mkdir()
        path = place / "theirs" / "file"
        path.write_bytes(bytes(32 * MIB))
        drop(path)
        with open_guest(path) as file:
            assert len(file.read()) == 32 * MIB
        assert cached(place / "theirs") <= 2 * MIB


def test_what_others_had_cached_on_an_overlay_stays(on_disk: Path) -> None:
    with disks.disk(on_disk, "overlayfs") as place:
        (place / "theirs").mkdir()
        (place / "theirs" / "file").write_bytes(bytes(8 * MIB))  # dirty: nobody else can drop it either
        with open_guest(place / "theirs" / "file") as file:
            while file.read(100_000):
                pass
        assert cached(place / "theirs") == 8 * MIB
