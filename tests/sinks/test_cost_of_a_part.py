"""What a part costs does not depend on how many files stand where it is written."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sinks
from etl.stores.local import LocalStore
from sinks import SealedPart
from tests import forks
from tests.tracing import strace

FEW, MANY = 10, 4_000
PARTS = 5

KINDS: dict[str, Any] = {
    "big_file": lambda path: sinks.BigFile(path),
    "reused_file": lambda path: sinks.ReusedFile(path),
    "numbered_chunks": lambda path: sinks.NumberedChunks(path),
    "numbered_chunks, not kept": lambda path: sinks.NumberedChunks(path, keep=False),
}


def write(folder: Path, kind: str) -> None:
    """Write parts with a sink, and a checkpoint beside them; between each and the next call for a name that tells."""
    sink = KINDS[kind](folder / "job.ndjson")
    sink.take_budget(memory=1 << 30, durable=True)
    kept = sorted(folder.glob("job-*.ndjson"))
    last = None
    if kind == "numbered_chunks":
        last = SealedPart(sequence=len(kept), uri=kept[-1].as_uri(), bytes=0, crc32c=0)
    sink.recover([], last)
    store, version = LocalStore(folder / "checkpoint.json"), None
    for number in range(1, PARTS + 1):
        (folder / "between").exists()
        with sink.open_part((last.sequence if last else 0) + number) as part:
            part.write(b"{}\n")
        version = store.swap(b"%d" % number, version)
        assert part.sealed is not None
        sink.release(part.sealed)
    (folder / "between").exists()
    sink.close()


def calls_of_a_part(folder: Path, kind: str, files: int) -> list[int]:
    """Return how many calls of the system each part took, but for the first one."""
    log = folder.with_name(f"{folder.name}.trace")
    name = "job-{:06d}.ndjson" if kind == "numbered_chunks" else "other-{}"
    for number in range(1, files + 1):
        os.close(os.open(folder / name.format(number), os.O_CREAT))
    done = forks.run(write, folder, kind, under=strace(log, "%file,%desc,%network"))
    assert done.returncode == 0, done.stderr
    spans = re.split(r".*/between\".*\n", log.read_text())[1:-1]
    assert len(spans) == PARTS
    return [span.count("\n") for span in spans[1:]]


@pytest.fixture(params=["a disk", "memory"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if request.param == "a disk":
        yield tmp_path
        return
    if not Path("/dev/shm").is_dir():
        pytest.skip("needs /dev/shm")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_takes_as_many_calls_beside_ten_files_as_beside_thousands(places: Path, kind: str) -> None:
    few, many = places / "few", places / "many"
    few.mkdir()
    many.mkdir()
    calls = calls_of_a_part(few, kind, FEW)
    assert min(calls) > 5
    assert min(calls_of_a_part(many, kind, MANY)) <= max(calls)
