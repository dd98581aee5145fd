from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.errors import PartLost, SinkError
from sinks.local_files import OpenFile
from sinks.page_cache import drop, kernel, open_for_reading, open_for_writing

BUFFER = 256 * 1024
MIB = 1 << 20
SIZES = st.lists(st.one_of(st.integers(0, 2000), st.integers(BUFFER - 2, BUFFER + 2)), max_size=30)
DATA = bytes(range(251)) * 40


@given(SIZES, st.integers(0, 5000))
def test_writes_of_any_size_give_the_same_bytes(sizes: list[int], position: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "file")
        path.write_bytes(b"x" * 9000)
        pieces = [bytes([number]) * size for number, size in enumerate(sizes)]
        with open_for_writing(path, position) as file:
            for piece in pieces:
                assert file.write(piece) == len(piece)
            assert file.position == position + sum(sizes)
        assert path.read_bytes() == b"x" * position + b"".join(pieces)


@given(st.integers(0, len(DATA)), st.integers(0, len(DATA)), st.lists(st.integers(-1, 3000), max_size=10))
def test_any_range_reads_like_a_file_of_its_own(start: int, end: int, reads: list[int]) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(DATA)
        file.flush()
        truth = io.BytesIO(DATA[start:end])
        with open_for_reading(file.name, start, end) as reader:
            for size in reads:
                assert reader.read(size) == truth.read(size)
                assert reader.tell() == truth.tell()
                buffer, expected = bytearray(77), bytearray(77)
                assert reader.readinto(buffer) == truth.readinto(expected)
                assert buffer == expected
            assert reader.seek(0, os.SEEK_END) == truth.seek(0, os.SEEK_END)
            assert reader.seek(0) == 0
            assert io.BufferedReader(reader).read() == DATA[start:end]


def test_a_reader_seeks_like_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    with open_for_reading(tmp_path / "file", 100) as reader:
        assert reader.seekable()
        assert reader.readable()
        assert reader.seek(-1, os.SEEK_END) == len(DATA) - 101
        assert reader.seek(-10, os.SEEK_CUR) == len(DATA) - 111
        assert reader.read() == DATA[-11:]
        assert reader.seek(10_000_000) == 10_000_000
        assert reader.read(10) == b""
        with pytest.raises(ValueError, match="before the start"):
            reader.seek(-1)
        with pytest.raises(ValueError, match="whence"):
            reader.seek(0, 9)
    with pytest.raises(ValueError, match="closed"):
        reader.read(1)


def test_a_short_or_missing_file_is_lost(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    with pytest.raises(PartLost, match=r"5 bytes where 6"):
        open_for_reading(tmp_path / "file", 0, 6)
    with pytest.raises(PartLost, match="missing"):
        open_for_reading(tmp_path / "nothing")


def test_a_file_that_is_cut_while_it_is_read_does_not_just_end(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    with open_for_reading(tmp_path / "file") as reader:
        reader.read(5000)
        os.truncate(tmp_path / "file", 5000)
        with pytest.raises(PartLost, match=r"ends at 5,000"):
            reader.read()


def test_an_exception_keeps_what_is_buffered_out_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_for_writing(tmp_path / "a" / "file") as file:  # noqa: PT012
        file.write(b"buffered")
        raise ZeroDivisionError
    assert (tmp_path / "a" / "file").read_bytes() == b""
    with pytest.raises(ValueError, match="closed"):
        file.write(b"more")


def test_closing_writes_the_rest_and_may_be_repeated(tmp_path: Path) -> None:
    file = open_for_writing(tmp_path / "file")
    file.write(b"rest")
    file.close()
    file.close()
    assert (tmp_path / "file").read_bytes() == b"rest"


def cached(path: Path) -> int:
    """Return how many bytes of a file are in the page cache."""
    with path.open("rb") as file:
        return kernel.resident(file.fileno(), 0, path.stat().st_size) or 0


def test_a_file_that_was_written_and_synced_is_not_cached(on_disk: Path) -> None:
    for number, size in enumerate((1, 5000, BUFFER + 1, 3 * MIB + 5)):
        path = on_disk / f"{number}"
        with open_for_writing(path) as file:
            file.write(bytes(size))
        assert cached(path) == 0


def test_a_reader_drops_behind_its_cursor(on_disk: Path) -> None:
    path, most = on_disk / "file", 0
    path.write_bytes(bytes(64 * MIB))
    drop(path)
    with open_for_reading(path) as reader:
        while reader.read(MIB):
            most = max(most, cached(path))
        reader.seek(20 * MIB)
        reader.read(MIB)
    assert 0 < most <= 8 * MIB
    assert cached(path) == 0


def test_a_file_in_transit_stays_in_the_page_cache_until_it_is_truncated(on_disk: Path) -> None:
    path = on_disk / "file"
    opened = OpenFile.create(path)
    file = open_for_writing(opened, policy="keep")
    file.write(bytes(2 * MIB))
    file.hand_over()
    assert file.hygiene.peak == 2 * MIB
    with open_for_reading(path) as reader:
        assert len(reader.read()) == 2 * MIB
    assert cached(path) == 2 * MIB, "to drop it would begin to write it back"
    opened.truncate(0)
    assert cached(path) == 0


def test_a_file_that_was_in_transit_can_be_dropped_on_demand(on_disk: Path) -> None:
    opened = OpenFile.create(on_disk / "file")
    file = open_for_writing(opened, policy="keep")
    file.write(bytes(2 * MIB))
    file.hand_over()
    drop(on_disk / "file")
    assert cached(on_disk / "file") == 0


def test_dropping_leaves_the_bytes_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    drop(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == DATA
    with pytest.raises(SinkError, match="nothing"):
        drop(tmp_path / "nothing")


def test_a_large_write_is_not_copied(tmp_path: Path) -> None:
    script = """
import re, sys
from pathlib import Path
from sinks.page_cache import open_for_writing
def most():  # ru_maxrss would begin with what the parent had
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
data = bytes(64 << 20)
with open_for_writing(sys.argv[1]) as file:
    before = most()
    file.write(data)
    assert most() - before < 8 << 10  # KiB
"""
    subprocess.run([sys.executable, "-c", script, tmp_path / "file"], check=True)


def test_a_write_that_is_cut_short_is_continued_to_its_error(tmp_path: Path) -> None:
    script = """
import resource, sys
from sinks.page_cache import open_for_writing
resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, 700_000))
file = open_for_writing(sys.argv[1])
for data in (bytes(1_000_000), b"small"):
    try:
        file.write(data)
    except Exception as error:
        print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "file"], stdout=subprocess.PIPE, text=True
    )
    first, second = done.stdout.splitlines()
    assert re.match(r"SinkError cannot write to \S+/file: File too large; .*smaller parts", first)
    assert re.match(r"SinkError an earlier write or sync of \S+/file failed", second)
    assert (tmp_path / "file").stat().st_size == 700_000


@pytest.mark.usefixtures("strace")
def test_a_failed_sync_is_never_tried_again(tmp_path: Path) -> None:
    script = """
import sys
from sinks.page_cache import open_for_writing
file = open_for_writing(sys.argv[1])
file.write(b"data")
for call in (file.sync, file.sync, lambda: file.write(b"more"), file.close):
    try:
        call()
    except Exception as error:
        print(type(error).__name__)
"""
    inject = ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync:error=EIO:when=1"]
    command = ["strace", "-f", "-qq", "-o", tmp_path / "log", *inject, sys.executable, "-c", script]
    done = subprocess.run([*command, tmp_path / "file"], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.split() == ["SinkError"] * 4
    assert (tmp_path / "log").read_text().count("sync(") == 1
