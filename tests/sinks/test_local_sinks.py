"""What the local sinks promise beyond the suite: names, locks, half-dead twins, the order of durability."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sinks import BigFile, NumberedChunks, PartLost, ReusedFile, SealedPart, Sink, SinkError, SinkOccupied
from sinks.local_files import locate


def write(sink: Sink, sequence: int, data: bytes) -> SealedPart:
    with sink.open_part(sequence) as part:
        part.write(data)
    assert part.sealed is not None
    return part.sealed


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("kind", [BigFile, NumberedChunks, ReusedFile])
@pytest.mark.parametrize("path", ["", ".", "..", "out/", "out/..", "/", "a\0b"])
def test_a_path_that_names_no_file_is_refused(kind: type[BigFile], path: str) -> None:
    with pytest.raises(ValueError, match="must name a file"):
        kind(path)


def test_no_slots_are_refused() -> None:
    with pytest.raises(ValueError, match="1 slot or more"):
        ReusedFile("job.ndjson", slots=0)


def test_the_parts_tell_where_they_are(tmp_path: Path) -> None:
    big, chunks, reused = (kind(tmp_path / "a b#%é.csv.gz") for kind in (BigFile, NumberedChunks, ReusedFile))
    root = f"{tmp_path.as_uri()}/a%20b%23%25%C3%A9"
    assert [write(chunks, number, b"12").uri for number in (1, 1_000_000)] == [
        f"{root}-000001.csv.gz",
        f"{root}-1000000.csv.gz",
    ]
    parts = [write(reused, number, b"12") for number in (1, 2)]
    assert [part.uri for part in parts] == [f"{root}.csv.gz", f"{root}.slot2.csv.gz"]
    reused.release(parts[0])
    again = write(reused, 3, b"123")
    assert (again.uri, parts[0].generation, again.generation) == (parts[0].uri, 1, 3)
    reused.release(parts[1])
    reused.release(again)
    reused.close()
    assert [write(big, number, b"12").uri for number in (1, 2)] == [
        f"{root}.csv.gz#0-2",
        f"{root}.csv.gz#2-4",
    ]
    big.close()


def test_only_names_of_this_very_job_are_cleared_away(tmp_path: Path) -> None:
    others = [
        "job-1.ndjson",
        "job-000001.ndjson.bak",
        "job-0000001.ndjson",
        "job-000001.rejects.ndjson",
        "my-job-000001.ndjson",
        "jobXndjson",
        "job.2.ndjson",
        "job.slot1.ndjson",
        ".job-000001.ndjson.0123456789abcdeg.open",
    ]
    ours = ["job-000001.ndjson", "job-1000000.ndjson", ".job-000001.ndjson.0123456789abcdef.open"]
    slots = ["job.ndjson", "job.slot2.ndjson", "job.slot10.ndjson"]
    for name in [*others, *ours, *slots]:
        (tmp_path / name).write_bytes(b"")
    NumberedChunks(tmp_path / "job.ndjson").recover([], None)
    assert names(tmp_path) == sorted([*others, *slots])
    ReusedFile(tmp_path / "job.ndjson").recover([], None)
    assert names(tmp_path) == sorted(others)


def test_two_sinks_cannot_hold_one_big_file(tmp_path: Path) -> None:
    first, second = BigFile(tmp_path / "job"), BigFile(tmp_path / "job")
    sealed = write(first, 1, b"first")
    for attempt in (lambda: second.recover([], None), lambda: second.open_part(1)):
        with pytest.raises(SinkOccupied, match="another process"):
            attempt()
    first.close()
    second.recover([sealed], sealed)
    assert write(second, 2, b"second").uri.endswith("#5-11")
    second.close()
    assert (tmp_path / "job").read_bytes() == b"firstsecond"


def test_a_dropped_big_file_lets_its_lock_go(tmp_path: Path) -> None:
    sealed = write(BigFile(tmp_path / "job"), 1, b"first")
    BigFile(tmp_path / "job").recover([sealed], sealed)


def test_a_big_file_that_was_replaced_is_noticed(tmp_path: Path) -> None:
    sink = BigFile(tmp_path / "job")
    part = sink.open_part(1)
    (tmp_path / "job").rename(tmp_path / "elsewhere")
    with pytest.raises(SinkError, match="moved or replaced"):
        part.seal()
    sink.close()


def test_a_big_file_that_was_cut_is_lost_even_when_nothing_waits(tmp_path: Path) -> None:
    sink = BigFile(tmp_path / "job")
    sealed = write(sink, 1, b"12345")
    sink.close()
    (tmp_path / "job").write_bytes(b"123")
    with pytest.raises(PartLost, match="cut"):
        sink.recover([], sealed)
    (tmp_path / "job").unlink()
    sink.close()
    sink.recover([], sealed)
    assert write(sink, 2, b"6").uri.endswith("#0-1")
    sink.close()


def test_a_big_file_may_stand_behind_a_symbolic_link_but_not_behind_nothing(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(SinkOccupied, match="symbolic link"):
        BigFile(tmp_path / "link").open_part(1)
    (tmp_path / "file").touch()
    sink = BigFile(tmp_path / "link")
    write(sink, 1, b"1")
    sink.close()
    assert (tmp_path / "file").read_bytes() == b"1"


@pytest.mark.parametrize("kind", [BigFile, NumberedChunks, ReusedFile])
def test_parts_of_another_path_are_lost(tmp_path: Path, kind: type[BigFile]) -> None:
    with kind(tmp_path / "old.ndjson").open_part(1) as part:
        part.write(b"1")
    sealed = part.sealed
    assert sealed is not None
    with pytest.raises(PartLost, match="give the sink the path"):
        kind(tmp_path / "new.ndjson").recover([sealed], sealed)


@pytest.mark.parametrize("kind", [NumberedChunks, ReusedFile])
def test_a_half_dead_twin_cannot_harm_its_successor(tmp_path: Path, kind: type[NumberedChunks]) -> None:
    twin = kind(tmp_path / "job.ndjson")
    open_part = twin.open_part(1)
    open_part.write(b"twin" * 1_000_000)
    successor = kind(tmp_path / "job.ndjson")
    successor.recover([], None)
    sealed = write(successor, 1, b"successor")
    open_part.write(b"twin" * 1_000_000)
    with pytest.raises(SinkError):
        open_part.seal()
    open_part.abort()
    twin.close()
    successor.recover([sealed], sealed)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == len(b"successor")


def test_of_two_twins_one_gets_the_chunk(tmp_path: Path) -> None:
    sinks = [NumberedChunks(tmp_path / "job.ndjson") for _ in range(2)]
    parts = [sink.open_part(1) for sink in sinks]
    for part in parts:
        part.write(b"%d" % id(part))
    parts[1].seal()
    with pytest.raises(SinkOccupied, match="did not write"):
        parts[0].seal()
    parts[0].abort()
    assert names(tmp_path) == ["job-000001.ndjson"]
    assert (tmp_path / "job-000001.ndjson").read_bytes() == b"%d" % id(parts[1])


def test_a_recovered_slot_is_made_anew_and_never_truncated(tmp_path: Path) -> None:
    twin = ReusedFile(tmp_path / "job.ndjson")
    sealed = write(twin, 1, b"kept by whoever has it open")
    with (tmp_path / "job.ndjson").open("rb") as reader:
        successor = ReusedFile(tmp_path / "job.ndjson")
        successor.recover([sealed], sealed)
        successor.release(sealed)
        write(successor, 2, b"new")
        assert reader.read() == b"kept by whoever has it open"
    successor.close()


SCRIPT = """
import sys, sinks
sink = getattr(sinks, sys.argv[1])(sys.argv[2])
with sink.open_part(1) as part:
    part.write(b"data")
"""
CALLS = "?pwrite64,?fsync,?fdatasync,?link,?linkat,?unlink,?unlinkat,?rename,?renameat,?renameat2,?ftruncate"


def traced(tmp_path: Path, kind: str, *options: str, code: int = 0) -> list[tuple[str, str]]:
    log = tmp_path / "log"
    command = [
        "strace",
        "-f",
        "-y",
        "-qq",
        "-o",
        log,
        "-e",
        f"trace={CALLS}",
        *options,
        sys.executable,
        "-c",
        SCRIPT,
    ]
    done = subprocess.run([*command, kind, tmp_path / "out" / "job.ndjson"], stderr=subprocess.DEVNULL)
    assert done.returncode == code
    lines = re.findall(r"^\d+ +(\w+)\((.*)$", log.read_text(), re.MULTILINE)
    return [(re.sub(r"at2?$|64$", "", call), rest) for call, rest in lines]


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize(
    ("kind", "order"),
    [
        ("NumberedChunks", ["pwrite", "fsync file", "link", "unlink", "fsync directory"]),
        ("ReusedFile", ["pwrite", "fsync file", "fsync directory"]),
        ("BigFile", ["pwrite", "fsync file", "fsync directory"]),
    ],
)
def test_the_file_is_durable_before_its_name(tmp_path: Path, kind: str, order: list[str]) -> None:
    (tmp_path / "out").mkdir()
    directory = f"{tmp_path / 'out'}>)"
    seen = [
        call + (" directory" if directory in rest else " file") if call == "fsync" else call
        for call, rest in traced(tmp_path, kind)
    ]
    assert seen == order


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize("kind", ["NumberedChunks", "ReusedFile"])
def test_a_directory_that_cannot_be_synced_leaves_no_part(tmp_path: Path, kind: str) -> None:
    (tmp_path / "out").mkdir()
    traced(tmp_path, kind, "-e", "inject=fsync:error=EIO:when=2", code=1)
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize("kind", [NumberedChunks, ReusedFile])
def test_a_file_that_grew_is_not_what_was_sealed(tmp_path: Path, kind: type[NumberedChunks]) -> None:
    sealed = write(kind(tmp_path / "job.ndjson"), 1, b"1")
    with locate(sealed.uri).path.open("ab") as file:
        file.write(b"2")
    with pytest.raises(PartLost, match="2 bytes where 1"):
        kind(tmp_path / "job.ndjson").recover([sealed], sealed)


@pytest.mark.usefixtures("strace")
def test_a_file_system_without_hard_links_will_do(tmp_path: Path) -> None:
    seen = traced(tmp_path, "NumberedChunks", "-e", "inject=?link,?linkat:error=EPERM")
    assert "rename" in [call for call, _ in seen]
    assert names(tmp_path / "out") == ["job-000001.ndjson"]
    assert (tmp_path / "out" / "job-000001.ndjson").read_bytes() == b"data"
