from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sinks import BigFile, NumberedChunks, ReusedFile, SinkError, SinkFull, SinkOccupied
from sinks.local_files import HINTS, Location, explain, locate, make_directory, uri

KINDS = pytest.mark.parametrize("kind", [BigFile, NumberedChunks, ReusedFile])


@pytest.mark.parametrize("name", ["job.ndjson", "a b", "100%", "#1-2", "é\udcff", "?x=1", "a\nb", "a;b&c"])
def test_a_uri_leads_back_to_its_file(name: str) -> None:
    path = Path("/out", name)
    assert uri(path).isascii()
    assert locate(uri(path)) == Location(path)
    assert locate(uri(path, 5, 17)) == Location(path, 5, 17)


@pytest.mark.parametrize(
    "other", ["gs://bucket/object", "null://", "file://host/x", "/out/x", "file:x", "file:///x#1"]
)
def test_a_uri_of_no_local_file_is_refused(other: str) -> None:
    with pytest.raises(SinkError, match=other.partition("#")[0]):
        locate(other)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EEXIST, errno.EPIPE, *HINTS])
def test_every_error_says_what_where_and_what_to_do(number: int, tmp_path: Path) -> None:
    said = str(explain(OSError(number, os.strerror(number)), "write to", tmp_path / "job"))
    assert said.startswith(f"cannot write to {tmp_path}/job: {os.strerror(number)}")
    assert len(said.split(";")[-1]) > 15
    assert "\n" not in said


def test_a_full_disk_and_a_full_quota_are_one_error() -> None:
    for number in (errno.ENOSPC, errno.EDQUOT):
        assert isinstance(explain(OSError(number, ""), "write to", Path("/no/such/job")), SinkFull)


def test_directories_are_made_once_and_again(tmp_path: Path) -> None:
    make_directory(tmp_path / "a" / "b" / "c")
    make_directory(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="create the directory"):
        make_directory(tmp_path / "file" / "b")


@KINDS
def test_a_directory_in_the_way_is_named(tmp_path: Path, kind: type[BigFile]) -> None:
    for name in ("job", "job-000001"):
        (tmp_path / name).mkdir()
    with pytest.raises(SinkError, match=str(tmp_path / "job")):
        kind(tmp_path / "job").open_part(1)


@KINDS
def test_a_name_that_is_too_long_is_named(tmp_path: Path, kind: type[BigFile]) -> None:
    with pytest.raises(SinkError, match="shorter name"):
        kind(tmp_path / ("x" * 300)).open_part(1)


@KINDS
def test_a_directory_that_may_not_be_written_is_named(kind: type[BigFile]) -> None:
    script = """
import os, sys
import sinks
sink = getattr(sinks, sys.argv[1])(sys.argv[2])
try:
    if os.access(os.path.dirname(sys.argv[2]), os.W_OK):  # all is permitted to this one
        os.setuid(65534)
    sink.open_part(1)
except PermissionError:
    print("mighty")
except sinks.SinkError as error:
    print(error)
"""
    with tempfile.TemporaryDirectory() as directory:  # not below pytest's own, which only this user may enter
        Path(directory).chmod(0o555)
        command = [sys.executable, "-c", script, kind.__name__, Path(directory, "job")]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    if done.stdout == "mighty\n":
        pytest.skip("this user may write everywhere, and become no other")
    assert "Permission denied; let this user read and write there" in done.stdout


def test_what_stands_in_the_way_is_not_ours() -> None:
    assert isinstance(explain(FileExistsError(errno.EEXIST, ""), "create", Path("/x")), SinkOccupied)
