"""Which files are read, in which order, and what a later run takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pulling import last_cursor, ndjson, pull, small_blocks, taken, write

from etl.errors import SourceChanged, SourceError
from etl.records import Mark
from etl.sources import Files


def put(path: Path, *numbers: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(path, ndjson([{"n": number} for number in numbers]))


def numbers(source: Files, cursor: Any = None) -> list[int]:
    return [record["n"] for record in taken(source, cursor)]


def test_paths_are_read_in_their_order_and_sorted_within_a_glob_or_directory(tmp_path: Path) -> None:
    put(tmp_path / "last.ndjson", 9)
    put(tmp_path / "first" / "b.ndjson", 2)
    put(tmp_path / "first" / "a.ndjson", 1)
    put(tmp_path / "glob" / "d.ndjson", 4)
    put(tmp_path / "glob" / "c.ndjson", 3)
    paths = [tmp_path / "first", tmp_path / "glob" / "*.ndjson", tmp_path / "last.ndjson"]
    assert numbers(Files(paths)) == [1, 2, 3, 4, 9]


def test_two_stars_go_through_directories_and_a_directory_alone_does_not(tmp_path: Path) -> None:
    put(tmp_path / "a.ndjson", 1)
    put(tmp_path / "b" / "c" / "d.ndjson", 2)
    assert numbers(Files(str(tmp_path / "**" / "*.ndjson"))) == [1, 2]
    assert numbers(Files(tmp_path)) == [1]


def test_hidden_files_and_directories_with_a_files_name_are_left_out(tmp_path: Path) -> None:
    put(tmp_path / ".hidden.ndjson", 1)
    (tmp_path / "directory.ndjson").mkdir()
    put(tmp_path / "seen.ndjson", 2)
    assert numbers(Files(tmp_path)) == [2]
    assert numbers(Files(str(tmp_path / "*"))) == [2]


HIDDEN = {
    "a.ndjson": 1,
    "_SUCCESS": 2,
    "_committed_1": 3,
    "_started_1": 4,
    "_b.ndjson": 5,
    ".c.ndjson": 6,
    "d.ndjson._COPYING_": 7,
    "_delta_log/e.ndjson": 8,
    "_temporary/0/f.ndjson": 9,
    "_year=2024/g.ndjson": 10,
    "_year=2024/_h.ndjson": 11,
    ".trash/i.ndjson": 12,
    "year=2024/j.ndjson": 13,
}


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("", [1]),
        ("*", [1]),
        ("*.ndjson", [1]),
        ("**", [10, 1, 13]),
        ("**/*.ndjson", [10, 1, 13]),
        ("*/*.ndjson", [10, 13]),
        ("_*", [2, 5, 3, 4]),
        ("_*.ndjson", [5]),
        (".*", [6]),
        ("**/_*.ndjson", [5, 11]),
        ("_*/*.ndjson", [8, 10]),
        ("_temporary/**/*.ndjson", [9]),
        ("_delta_log", [8]),
        ("_SUCCESS", [2]),
        ("_b.ndjson", [5]),
        (".c.ndjson", [6]),
        ("d.ndjson._COPYING_", [7]),
        ("[a]*", [1]),
        ("[_]*", []),
        ("[_]*.ndjson", None),
    ],
)
def test_names_that_writers_of_data_hide_are_read_only_where_they_are_named(
    tmp_path: Path, path: str, read: list[int] | None
) -> None:
    """As Spark: InMemoryFileIndex.shouldFilterOutPathName; its partitions may begin with `_`."""
    root = tmp_path / ".above" / "_here"
    for name, number in HIDDEN.items():
        put(root / name, number)
    source = Files(str(root / path))
    if read is None:
        with pytest.raises(SourceError, match="no file matches"):
            pull(source)
    else:
        assert numbers(source) == read


def test_hidden_files_that_may_be_data_are_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "etl.sources")
    for name in ("_b.ndjson", ".c", "a.ndjson"):
        put(tmp_path / name, 1)
    for path in (tmp_path, tmp_path / "*"):
        assert numbers(Files(path)) == [1]
        assert caplog.messages.pop() == f"{path}: left out as hidden: _b.ndjson; name them to read them"


def test_a_file_that_two_paths_name_is_read_once(tmp_path: Path) -> None:
    put(tmp_path / "a.ndjson", 1)
    put(tmp_path / "b.ndjson", 2)
    assert numbers(Files([tmp_path / "b.ndjson", tmp_path / "*.ndjson"])) == [2, 1]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    put(tmp_path / "a[1].ndjson", 1)
    put(tmp_path / "a1.ndjson", 2)
    assert numbers(Files(tmp_path / "a[1].ndjson")) == [1]


def test_an_empty_directory_holds_no_records(tmp_path: Path) -> None:
    assert pull(Files(tmp_path)) == []


@pytest.mark.parametrize("name", ["missing.csv", "*.csv", "no/such/**/*.csv"])
def test_a_path_that_names_nothing_is_an_error_that_says_so(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match=r"no file.*csv.*correct the (path|pattern)"):
        pull(Files(tmp_path / name))


def test_a_file_that_vanishes_after_listing_is_named(tmp_path: Path) -> None:
    put(tmp_path / "a.ndjson", 1)
    put(tmp_path / "b.ndjson", 2)
    pulling = Files(tmp_path).pull(None)
    next(pulling)
    (tmp_path / "b.ndjson").unlink()
    with pytest.raises(SourceError, match=r"b\.ndjson cannot be opened \(No such file or directory\)"):
        list(pulling)


def test_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").symlink_to(tmp_path / "gone")
    with pytest.raises(SourceError, match=r"a\.ndjson cannot be opened"):
        pull(Files(tmp_path / "a.ndjson"))


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="Linux: a file that opens and cannot be read")
def test_a_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(SourceError, match=r"/proc/self/mem.*cannot be read \(Input/output error\)"):
        pull(Files("/proc/self/mem"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_a_name_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.ndjson")).write_bytes(b"")
    with pytest.raises(SourceError, match="no valid UTF-8"):
        pull(Files(tmp_path))


def test_a_later_run_takes_the_files_that_came_after(tmp_path: Path) -> None:
    put(tmp_path / "1.ndjson", 1)
    source = Files(tmp_path)
    cursor = last_cursor(source)
    assert numbers(source, cursor) == []
    put(tmp_path / "2.ndjson", 2)
    put(tmp_path / "0.ndjson", 0)
    assert numbers(source, cursor) == [2]


def test_files_that_came_too_late_are_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path / "b" / "2.ndjson", 2)
    source = Files([tmp_path / "a*", tmp_path / "b"])
    put(tmp_path / "a1.ndjson", 1)
    cursor = last_cursor(source)
    assert numbers(source, cursor) == []
    assert not caplog.messages
    put(tmp_path / "a2.ndjson", 3)
    put(tmp_path / "b" / "1.ndjson", 4)
    assert numbers(source, cursor) == []
    [said] = caplog.messages
    assert "2 or more files came too late: they sort before" in said


def test_files_that_came_too_late_stop_a_job_that_wants_it_so(tmp_path: Path) -> None:
    put(tmp_path / "2.ndjson", 2)
    source = Files(tmp_path, on_late="fail")
    cursor = last_cursor(source)
    assert numbers(source, cursor) == []
    put(tmp_path / "1.ndjson", 1)
    with pytest.raises(SourceError, match=r"1 or more files came too late.*2\.ndjson"):
        pull(source, cursor)


def test_no_file_is_too_late_in_a_directory_that_was_emptied(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 2, 3):
        put(tmp_path / f"{number}.ndjson", number)
    source = Files(tmp_path)
    cursor = last_cursor(source)
    for number in (1, 2):
        (tmp_path / f"{number}.ndjson").unlink()
    put(tmp_path / "4.ndjson", 4)
    cursor = last_cursor(source, cursor)
    assert cursor["before"] == 1
    put(tmp_path / "1.ndjson", 1)
    assert numbers(source, cursor) == []
    assert "1 or more files" in caplog.messages[0]


def test_files_that_were_read_may_be_deleted(tmp_path: Path) -> None:
    put(tmp_path / "1.ndjson", 1)
    put(tmp_path / "2.ndjson", 2)
    source = Files([tmp_path / "1.ndjson", tmp_path / "2*"])
    cursor = last_cursor(source)
    (tmp_path / "1.ndjson").unlink()
    (tmp_path / "2.ndjson").unlink()
    assert numbers(source, cursor) == []
    put(tmp_path / "20.ndjson", 20)
    assert numbers(source, cursor) == [20]


def test_a_file_that_vanished_in_the_middle_of_reading_is_named(tmp_path: Path) -> None:
    path = put(tmp_path / "1.ndjson", 1, 2, 3)
    source = small_blocks(Files(tmp_path), 8)
    cursors = [item.cursor for item in source.pull(None) if isinstance(item, Mark)]
    path.unlink()
    with pytest.raises(SourceChanged, match=r"1\.ndjson is not there any more.*only 1 records"):
        numbers(source, cursors[1])


@pytest.mark.parametrize("ending", [b"\n", b""])
def test_a_plain_file_that_has_grown_gives_what_is_new(tmp_path: Path, ending: bytes) -> None:
    path = write(tmp_path / "a.ndjson", b'{"n":1}\n{"n":2}' + ending)
    source = Files(path)
    cursor = last_cursor(source)
    write(path, b'{"n":1}\n{"n":2}\n{"n":3}\n')
    assert numbers(source, cursor) == [3]


def test_a_file_that_was_empty_may_grow(tmp_path: Path) -> None:
    path = write(tmp_path / "a", b"")
    source = Files(path)
    cursor = last_cursor(source)
    put(path, 1, 2)
    assert numbers(source, cursor) == [1, 2]


def test_a_last_line_that_was_written_on_after_it_was_read_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"a,b\n1,2\n3,4")
    source = Files(path, settle=0)
    cursor = last_cursor(source)
    write(path, b"a,b\n1,2\n3,45\n")
    with pytest.raises(SourceChanged, match=r"a\.csv has no line that begins at byte 11"):
        pull(source, cursor)


@pytest.mark.parametrize("name", ["a.ndjson", "a.csv"])
def test_a_plain_file_that_became_shorter_is_named(tmp_path: Path, name: str) -> None:
    line = b'{"n":1}\n' if name.endswith(".ndjson") else b"one,two\n"
    path = write(tmp_path / name, line * 50)
    source = Files(path)
    cursor = last_cursor(source)
    write(path, line * 40)
    with pytest.raises(SourceChanged, match="shorter than the 400 bytes that it had"):
        pull(source, cursor)


def test_growth_of_a_file_before_the_cursor_is_left_alone(tmp_path: Path) -> None:
    """The records after a mark are counted: what a file before it grew by must never come between."""
    put(tmp_path / "a.ndjson", 1)
    put(tmp_path / "b.ndjson", 2, 3)
    source = Files(tmp_path)
    items = pull(source)
    cursor = [item.cursor for item in items[: items.index({"n": 2})] if isinstance(item, Mark)][-1]
    put(tmp_path / "a.ndjson", 1, 10)
    assert numbers(source, cursor) == [2, 3]


def test_a_cursor_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no cursor of files"):
        pull(Files(tmp_path), {"page": 3})
