"""A file that is being written may end within a record: that is not taken as a whole one, and its rest as another."""

from __future__ import annotations

import gzip
import json
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import fsspec
import msgspec
import pytest
from pulling import ndjson, small_blocks, taken, write

import etl
from etl.errors import SourceChanged, SourceError
from etl.reader import Reader
from etl.records import Position
from etl.sources import Files

ROWS = [{"id": 1200 + number, "name": f"é{number}", "v": number * 7 + 10} for number in range(6)]


def csv(line_end: str = "\n", name: str = "{}") -> bytes:
    rows = "".join(f"{row['id']},{name.format(row['name'])},{row['v']}{line_end}" for row in ROWS)
    return f"id,name,v{line_end}{rows}".encode()


QUOTED = '"a, ""{}""\r\nb"'
SEQUENCE = b"".join(b"\x1e%s\n" % json.dumps(row).encode() for row in ROWS)

# Of a file that is cut anywhere all is exact in the end, and nothing of it fails.
EXACT: dict[str, tuple[bytes, dict[str, Any]]] = {
    "a.ndjson": (ndjson(ROWS), {}),
    "a": (ndjson(ROWS), {}),
    "unended.ndjson": (ndjson(ROWS)[:-1], {}),
    "indented.ndjson": (b"  " + ndjson(ROWS[:3]).replace(b"\n", b"\n\t ") + b'{"id": 1}\n', {}),
    "a.csv": (csv(), {}),
    "crlf.csv": (csv("\r\n"), {}),
    "cr.csv": (csv("\r"), {}),
    "unended.csv": (csv()[:-1], {}),
    "quoted.csv": (csv(name=QUOTED), {}),
    "commented.csv": (b"# 1\n" + csv(name=QUOTED) + b"# 2\n", {"comment": "#"}),
    "no_header.csv": (csv().partition(b"\n")[2], {"header": False}),
    "footer.csv": (csv(), {"skip_footer": 2}),
    "bom.csv": (b"\xef\xbb\xbf" + csv(), {}),
    "a.geojsonseq": (SEQUENCE, {}),
}


def members(text: bytes, size: int) -> bytes:
    return b"".join(gzip.compress(text[at : at + size], mtime=0) for at in range(0, len(text), size))


# Those end by themselves: one that is cut is a named error, after what was whole, and one that grows after it was read
# to an end is refused.
NAMED: dict[str, tuple[bytes, dict[str, Any]]] = {
    "a.ndjson.gz": (members(ndjson(ROWS), 40), {}),
    "a.csv.gz": (members(csv(), 17), {}),
    "utf16.csv": (csv().decode().encode("utf-16"), {}),
    "array.json": (json.dumps(ROWS).encode(), {}),
    "documents.json": (b"\n".join(json.dumps(row, indent=1).encode() for row in ROWS), {}),
}


def run(source: Files, position: Position, found: list[Any]) -> tuple[Position, str]:
    """Take what there is, as a run does; returns where to go on, and how it ended."""
    reader = Reader(source, position, lambda item, _number: found.append(item.raw))
    began = len(found)
    try:
        found.extend(reader.slice())
    except SourceError as error:
        del found[began:]  # what a run that fails has not sealed is taken again
        return position, type(error).__name__
    finally:
        reader.close()
    end = "unfinished" if reader.unfinished else "done"
    return msgspec.json.decode(msgspec.json.encode(reader.position), type=Position), end


def grown(
    path: Path, data: bytes, cut: int, block: int, options: dict[str, Any]
) -> tuple[list[Any], str, str]:
    """Read a file that is cut, and go on when the rest was written."""
    path.unlink(missing_ok=True)
    path.write_bytes(data[:cut])
    found: list[Any] = []
    position, first = run(small_blocks(Files(path, **options), block), Position(), found)
    with path.open("ab") as file:
        file.write(data[cut:])
    _, second = run(small_blocks(Files(path, settle=0, **options), block), position, found)
    return found, first, second


@pytest.mark.parametrize("name", EXACT)
def test_a_file_that_is_read_at_any_cut_and_when_it_has_grown_gives_each_record_once(
    tmp_path: Path, name: str
) -> None:
    data, options = EXACT[name]
    whole = taken(Files(write(tmp_path / name, data), settle=0, **options))
    for cut in range(len(data) + 1):
        found, first, second = grown(tmp_path / name, data, cut, (8, 1 << 15)[cut % 2], options)
        assert (first in ("done", "unfinished"), second) == (True, "done"), cut
        assert found == whole, cut


@pytest.mark.parametrize("block", [8, 1 << 15])
@pytest.mark.parametrize("cut", [8, 20, 9_000, 20_000, 40_000, 50_008, 50_016, 50_019])
def test_a_line_that_is_too_long_and_still_being_written_is_one_record(
    tmp_path: Path, cut: int, block: int
) -> None:
    data = b'{"id":1}' + b'\n{"id":"' + b"x" * 50_000 + b'"}\n{"id":2}\n'
    options: dict[str, Any] = {"max_record_bytes": 10_000}
    found, first, second = grown(tmp_path / "a.ndjson", data, cut, block, options)
    assert (first, second) == ("unfinished" if cut not in (8, 50_019) else "done", "done")
    assert (len(found), found[0], found[2]) == (3, {"id": 1}, {"id": 2})
    assert found[1].startswith('{"id":"xxx')


@pytest.mark.parametrize("name", NAMED)
def test_what_ends_by_itself_is_exact_or_named(tmp_path: Path, name: str) -> None:
    data, options = NAMED[name]
    whole = taken(Files(write(tmp_path / name, data), settle=0, **options))
    ends: Counter[str] = Counter()
    for cut in range(len(data) + 1):
        found, _first, second = grown(tmp_path / name, data, cut, (8, 1 << 15)[cut % 2], options)
        ends[second] += 1
        assert second == "SourceChanged" or found == whole, cut
    assert set(ends) <= {"done", "SourceChanged"}
    assert ends["SourceChanged"] * 20 < len(data)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    "name", [name for name in EXACT if name != "footer.csv"]
)  # its last rows wait for others
def test_a_log_that_is_written_in_pieces_gives_each_record_once(tmp_path: Path, name: str, seed: int) -> None:
    data, options = EXACT[name]
    if options.get("skip_footer"):
        pytest.skip("its last lines are no rows until others follow")
    whole = taken(
        Files(
            write(tmp_path / "whole" if name == "a" else tmp_path / f"whole.{name}", data),
            settle=0,
            **options,
        )
    )
    chance = random.Random(seed)
    path, position, found = tmp_path / name, Position(), list[Any]()
    cuts = sorted(chance.randrange(len(data)) for _ in range(chance.randint(2, 9)))
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        with path.open("ab") as file:
            file.write(data[begin:end])
        source = small_blocks(Files(path, **options), chance.choice([8, 1 << 15]))
        position, how = run(source, position, found)
        assert how in ("done", "unfinished")
    run(Files(path, settle=0, **options), position, found)
    assert found == whole


@pytest.mark.parametrize(("age", "takes"), [(0, False), (5, False), (11, True), (-5, False), (-3600, True)])
def test_a_last_line_without_its_end_is_taken_when_its_file_has_settled(
    tmp_path: Path, age: int, takes: bool
) -> None:
    path = write(tmp_path / "a.csv", "a,b\n1,2\n3,4")
    os.utime(path, (time.time() - age, time.time() - age))
    found: list[Any] = []
    _, end = run(Files(path), Position(), found)
    assert found == [{"a": 1, "b": 2}, {"a": 3, "b": 4}][: 2 if takes else 1]
    assert end == ("done" if takes else "unfinished")


@pytest.mark.parametrize(
    "text", ['{"a":1}\n{"a":2}', '{"a":1}\n[2]', '{"a":1}\nbad', '{"a":1}\n{bad', '{"a":1}\n{}{}']
)
def test_a_line_that_can_be_no_half_of_a_record_is_taken_at_once(tmp_path: Path, text: str) -> None:
    found: list[Any] = []
    _, end = run(Files(write(tmp_path / "a.ndjson", text)), Position(), found)
    assert (len(found), end) == (2, "done")


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("a,b\n1,2\n3,4", "5\n"),
        ("a,b", "c\n1,2\n"),
        ("\ufeffa,b", "c\n1,2\n"),
        ("# wor", "ds\na,b\n1,2\n"),
        ("# words\na,b", "c\n1,2\n"),
        ("sep=;", "1\na;b\n1;2\n"),
    ],
)
def test_a_line_that_was_taken_without_its_end_and_then_grew_is_refused(
    tmp_path: Path, text: str, rest: str
) -> None:
    path = write(tmp_path / "a.csv", text)
    found: list[Any] = []
    position, _ = run(Files(path, settle=0, comment="#"), Position(), found)
    write(path, text + rest)
    with pytest.raises(SourceChanged, match=r"had no end, was written on .*`settle` says"):
        taken(Files(path, comment="#"), position.cursor)


@pytest.mark.parametrize("text", ["a,b", "\ufeff", "\ufeffa,b", "# words", "sep=,"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_line_that_holds_no_record_may_get_its_end_later(tmp_path: Path, text: str, end: str) -> None:
    path = write(tmp_path / "a.csv", text)
    found: list[Any] = []
    position, _ = run(Files(path, settle=0, comment="#"), Position(), found)
    header = "" if text.endswith("b") else "a,b" + end
    write(path, text + end * (text != "\ufeff") + header + "1,2" + end)
    run(Files(path, settle=0, comment="#"), position, found)
    assert found == [{"a": 1, "b": 2}]


def test_a_file_in_the_middle_is_waited_for_before_those_after_it(tmp_path: Path) -> None:
    for name in ("1.csv", "2.csv", "3.csv"):
        write(tmp_path / name, f"a\n{name[0]}" + "\n" * (name != "2.csv"))
    found: list[Any] = []
    position, end = run(Files(tmp_path), Position(), found)
    assert (found, end) == ([{"a": 1}], "unfinished")
    run(Files(tmp_path, settle=0), position, found)
    assert found == [{"a": 1}, {"a": 2}, {"a": 3}]


def test_a_file_elsewhere_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/growing/a.csv", b"a,b\n1,2\n3,4")
    found: list[Any] = []
    position, end = run(Files("memory://growing/a.csv"), Position(), found)
    assert (found, end) == ([{"a": 1, "b": 2}], "unfinished")
    memory.pipe_file("/growing/a.csv", b"a,b\n1,2\n3,45\n")
    run(Files("memory://growing/a.csv"), position, found)
    assert found == [{"a": 1, "b": 2}, {"a": 3, "b": 45}]


def pipeline(folder: Path, **source: Any) -> etl.Pipeline:
    return etl.Pipeline(
        "growing",
        source={"type": "files", "paths": str(folder / "a.csv"), **source},
        sink={"type": "big_file", "path": str(folder / "out.ndjson")},
        checkpoint=folder / "checkpoint.json",
        on_error="reject",
    )


def test_a_run_says_that_it_ended_before_an_unfinished_record_and_the_next_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "a.csv", "a,b\n1,2\n3,4")
    said: list[str] = []
    job = pipeline(tmp_path)
    assert job.check() == [{"a": 1, "b": 2}]
    assert "its writer may be about to write the rest" in caplog.text
    result = job.run(listeners=[lambda event: said.append(str(event))])
    assert result.stopped == "an unfinished record"
    assert any("its writer may be about to write the rest" in line for line in said)
    document = job.read_checkpoint()
    assert document is not None
    assert not document.finished
    assert document.state.totals.rejected == 0
    with (tmp_path / "a.csv").open("a") as file:
        file.write("5\n6,7\n")
    assert pipeline(tmp_path).run().stopped is None
    assert [json.loads(line) for line in (tmp_path / "out.ndjson").read_text().splitlines()] == [
        {"a": 1, "b": 2},
        {"a": 3, "b": 45},
        {"a": 6, "b": 7},
    ]
