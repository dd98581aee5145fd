"""What a path can lead to besides one file: the same file again, circles, pipes, sockets, devices, nothing."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from pulling import last_cursor, ndjson, pull, taken, write

from etl.errors import SourceError, SourceStopped, SourceUnavailable
from etl.sources import Files


def put(path: Path, *numbers: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(path, ndjson([{"n": number} for number in numbers]))


def numbers(source: Files, cursor: object = None) -> list[int]:
    return [record["n"] for record in taken(source, cursor)]


def a_link(root: Path) -> list[str]:
    (root / "b.ndjson").symlink_to("a.ndjson")
    return [str(root)]


def a_hard_link(root: Path) -> list[str]:
    os.link(root / "a.ndjson", root / "b.ndjson")
    return [str(root)]


def a_linked_directory(root: Path) -> list[str]:
    (root / "linked").symlink_to(root)
    return [str(root / "*.ndjson"), str(root / "linked" / "*.ndjson")]


def a_way_round(root: Path) -> list[str]:
    return [
        str(root / "a.ndjson"),
        f"{root}/../{root.name}/a.ndjson",
        f"{root}//a.ndjson",
        f"{root}/./*.ndjson",
    ]


def a_relative_path(root: Path) -> list[str]:
    return [str(root / "a.ndjson"), os.path.relpath(root / "a.ndjson")]


def a_glob_of_two_names(root: Path) -> list[str]:
    (root / "linked").symlink_to(root / "below")
    put(root / "below" / "c.ndjson", 1)
    (root / "a.ndjson").unlink()
    return [str(root / "**" / "*.ndjson")]


WAYS = [a_link, a_hard_link, a_linked_directory, a_way_round, a_relative_path, a_glob_of_two_names]


@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_is_reached_in_two_ways_is_read_once_and_that_is_told(
    tmp_path: Path, way: Callable[[Path], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "etl.sources")
    put(tmp_path / "a.ndjson", 1)
    source = Files(way(tmp_path))
    assert numbers(source) == [1]
    [said] = source.told
    assert "is the same file as" in said
    assert said in caplog.messages
    assert numbers(source, last_cursor(source)) == []


def test_a_file_goes_by_the_name_of_the_cursor_whatever_links_come(tmp_path: Path) -> None:
    put(tmp_path / "m.ndjson", 1, 2, 3)
    source = Files(tmp_path)
    cursors = [item.cursor for item in pull(source) if not isinstance(item, dict)]
    for name in ("a.ndjson", "z.ndjson"):
        (tmp_path / name).symlink_to("m.ndjson")
        assert numbers(source, cursors[0]) == [1, 2, 3]
        assert numbers(source, cursors[-1]) == []
        put(tmp_path / "n.ndjson", 4)
        assert numbers(source, cursors[-1]) == [4]
        (tmp_path / "n.ndjson").unlink()


def test_a_link_that_came_too_late_does_not_hide_a_file_that_was_not_read(tmp_path: Path) -> None:
    put(tmp_path / "m.ndjson", 1)
    source = Files(tmp_path)
    cursor = last_cursor(source)
    put(tmp_path / "z.ndjson", 2)
    (tmp_path / "a.ndjson").symlink_to("z.ndjson")
    with pytest.raises(
        SourceError, match=r"a\.ndjson, which is the same file as .*z\.ndjson.*remove .*a\.ndjson"
    ):
        pull(source, cursor)
    (tmp_path / "a.ndjson").unlink()
    assert numbers(source, cursor) == [2]


def test_files_of_the_same_bytes_are_different_files(tmp_path: Path) -> None:
    put(tmp_path / "a.ndjson", 1)
    put(tmp_path / "b.ndjson", 1)
    assert numbers(Files([tmp_path, tmp_path / "*"])) == [1, 1]


@pytest.mark.parametrize(
    "path", ["", "*", "*.ndjson", "**/*.ndjson", "**", "**/**/*.ndjson", "*/../*.ndjson"]
)
def test_links_that_lead_in_a_circle_are_left_out(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    put(root / "a.ndjson", 1)
    put(root / "below" / "b.ndjson", 2)
    (root / "itself.ndjson").symlink_to("itself.ndjson")
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    (root / "below" / "up").symlink_to(root)
    (root / "below" / "here").symlink_to(".")
    assert numbers(Files(str(root / path))) == ([1, 2] if "**" in path else [1])


def test_a_link_to_a_file_that_is_gone_is_told_where_nobody_names_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path / "a.ndjson", 1)
    (tmp_path / "b.ndjson").symlink_to("gone")
    for path in (tmp_path, tmp_path / "*"):
        assert numbers(Files(path)) == [1]
        assert "left out: b.ndjson: what they are links to is not there" in caplog.messages.pop()


@pytest.mark.parametrize(
    ("target", "said"), [("gone", "a link to 'gone'"), ("b.ndjson", "a link to 'b.ndjson'")]
)
def test_a_link_that_leads_nowhere_is_named(tmp_path: Path, target: str, said: str) -> None:
    (tmp_path / "b.ndjson").symlink_to(target)
    with pytest.raises(
        SourceError, match=f"b.ndjson cannot be opened .*{said}; put that file there, or correct the link"
    ):
        pull(Files(tmp_path / "b.ndjson"))


def test_a_pipe_without_a_writer_is_waited_for_until_the_deadline(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(
        SourceUnavailable, match=r"pipe is a pipe or a device, and nothing came out of it for 0\.2 s: start"
    ):
        pull(Files(tmp_path / "pipe", deadline=0.2))


def test_a_pipe_that_is_waited_for_can_be_left(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    source = Files(tmp_path / "pipe")
    leaving = threading.Timer(0.2, source.leave)
    leaving.start()
    began = time.monotonic()
    with pytest.raises(SourceStopped):
        pull(source)
    leaving.join()
    assert time.monotonic() - began < 30


def test_a_pipe_is_read_to_its_end_however_its_writer_pauses(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    pieces = [b"a,b\n1,2\n3", b",4\n" * 30, b"5,6"]
    wrote = threading.Event()

    def writes() -> None:
        with (tmp_path / "pipe").open("wb", buffering=0) as pipe:
            for piece in pieces:
                pipe.write(piece)
                wrote.wait(0.3)

    writer = threading.Thread(target=writes)
    writer.start()
    source = Files(tmp_path / "pipe", format="csv", deadline=0.2 if writer.is_alive() else 1)
    found = [item for item in taken(source) if isinstance(item, dict)]
    writer.join()
    assert (found[0], found[-1]) == ({"a": 1, "b": 2}, {"a": 5, "b": 6})


def test_standard_input_is_read() -> None:
    code = "from etl.sources import Files; print([r for r in Files('/dev/stdin').pull(None) if isinstance(r, dict)])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=b'{"n":1}\n{"n":2}',
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    assert done.stdout == b"[{'n': 1}, {'n': 2}]\n"


def test_pipes_and_sockets_in_a_directory_are_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "a.ndjson", 1)
    os.mkfifo("b.ndjson")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("c.ndjson")
        for path in (".", "*.ndjson"):
            assert numbers(Files(path)) == [1]
            assert "left out: b.ndjson, c.ndjson: pipes, sockets or devices" in caplog.messages.pop()
        with pytest.raises(SourceError, match=r"c\.ndjson is a socket: name a file in its place, or a pipe"):
            pull(Files("c.ndjson"))


@pytest.mark.parametrize(("path", "found"), [("/dev/null", []), ("/dev/zero", None), ("/dev/full", None)])
def test_devices_are_read_or_named(path: str, found: list[object] | None) -> None:
    if found is None:
        with pytest.raises(SourceError, match=path):
            pull(Files(path))
    else:
        assert taken(Files(path)) == found


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="Linux")
def test_a_file_that_has_bytes_and_no_size_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").symlink_to("/proc/self/limits")
    rows = taken(Files(tmp_path, header=["line"], delimiter="\t", settle=0))
    assert any("Max open files" in str(row) for row in rows)


NAMES = [
    "a\nb.ndjson",
    "a*.ndjson",
    "a[1].ndjson",
    "a?.ndjson",
    "é☃.ndjson",
    " .ndjson",
    "-a.ndjson",
    '"a".ndjson',
    "a\\b",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    put(tmp_path / name / name, 1, 2)
    for path in (tmp_path / name, tmp_path / name / name):
        source = Files(path, format="ndjson")
        assert numbers(source) == [1, 2]
        for item in pull(source):
            if not isinstance(item, dict):
                cursor = json.loads(msgspec.json.encode(item.cursor))
                assert cursor["file"] == str(tmp_path / name / name)
                assert numbers(source, cursor) == [1, 2][cursor.get("record", 0) :]


def test_a_directory_that_may_not_be_listed_is_named(tmp_path: Path) -> None:
    """As another user than root, whom nothing is forbidden."""
    tmp_path.chmod(0o755)
    root = tmp_path / "root"
    put(root / "a.ndjson", 1)
    put(root / "below" / "b.ndjson", 2)
    (root / "below").chmod(0o000)
    code = f"""
import os, sys
from etl.errors import SourceError
from etl.sources import Files
sources = [Files({str(root)!r} + path) for path in ("/**/*.ndjson", "/*/*.ndjson", "/below", "/below/b.ndjson")]
os.getuid() or os.setuid(65534)
for source in sources:
    try:
        print(list(source.pull(None)))
    except SourceError as error:
        print(error)
"""
    for above in tmp_path.parents:  # pytest's own, which other users may not enter
        if above.is_relative_to("/tmp") and above != Path("/tmp"):
            above.chmod(0o755)
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, timeout=60, text=True
        )
    finally:
        (root / "below").chmod(0o755)
    said = done.stdout.splitlines()
    assert len(said) == 4
    assert all("below" in line and "Permission denied" in line for line in said)
