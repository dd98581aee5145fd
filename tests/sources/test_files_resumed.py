"""Any records, any blocks, any cut: a job that goes on takes each record once."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pulling import assert_resumes_everywhere, compress, ndjson, small_blocks, taken, write

from etl.errors import SourceError
from etl.reader import Reader
from etl.records import Mark, Position, Unreadable
from etl.sources import Files

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=6,
)
JSON_RECORDS = st.lists(st.dictionaries(st.text(), JSON_VALUES, max_size=4), max_size=12)
COMPRESSIONS = st.sampled_from(["none", "gzip", "zip", "zstd", "bzip2", "xz"])

# Text of every kind but zeros, which are no text, and such as CSV and the inference of types may stumble over.
CELLS = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")) | st.sampled_from(
    [
        "",
        "NA",
        '"',
        '""',
        ",",
        "a\nb",
        "\r\n",
        "1",
        "007",
        "1.5",
        "true",
        "2013-01-01",
        "\ufeff",
        " ",
        "null",
        "é☃",
    ]
)


@settings(max_examples=60, deadline=None)
@given(JSON_RECORDS, COMPRESSIONS, st.integers(1, 200), st.booleans(), st.sampled_from(["ndjson", "json"]))
def test_any_records_come_back_from_json(
    records: list[Any], compression: str, block: int, ascii_only: bool, format: Any
) -> None:
    data = (
        "".join(json.dumps(record, ensure_ascii=ascii_only) + "\n" for record in records)
        if format == "ndjson"
        else json.dumps(records, ensure_ascii=ascii_only)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "a", compress(data.encode(), compression))
        source = small_blocks(Files(path, format=format), block)
        assert taken(source) == records
        assert_resumes_everywhere(source)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 4).flatmap(
        lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=12)
    ),
    COMPRESSIONS,
    st.integers(1, 100),
    # csv.writer leaves a lone \r unquoted where lines end in \n
    st.sampled_from([("\r\n", csv.QUOTE_MINIMAL), ("\r\n", csv.QUOTE_ALL), ("\n", csv.QUOTE_ALL)]),
)
def test_any_text_comes_back_from_csv(
    rows: list[list[str]], compression: str, block: int, dialect: tuple[str, Any]
) -> None:
    ending, quoting = dialect
    names = [f"c{number}" for number in range(len(rows[0]))]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=ending, quoting=quoting).writerows([names, *rows])
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "a", compress(text.getvalue().encode(), compression))
        source = Files(path, format="csv", types=dict.fromkeys(names, "string"), null=[], delimiter=",")
        small_blocks(source, block)
        assert taken(source) == [dict(zip(names, row, strict=True)) for row in rows]
        assert_resumes_everywhere(source)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.floats(allow_nan=False, allow_infinity=False),
            st.none() | st.booleans(),
            st.none() | st.datetimes().map(lambda at: at.isoformat()),
        ),
        min_size=1,
        max_size=20,
    ),
    st.integers(1, 200),
)
def test_any_values_come_back_from_csv_with_their_types(rows: list[Any], block: int) -> None:
    names = ["integer", "float", "boolean", "timestamp"]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([names, *rows])
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "a.csv", text.getvalue())
        source = small_blocks(Files(path, types={name: name for name in names}), block)  # type: ignore[misc]
        assert taken(source) == [dict(zip(names, row, strict=True)) for row in rows]
        assert_resumes_everywhere(source)


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=80) | st.text('",\na;\r1').map(str.encode),
    st.integers(1, 50),
    st.sampled_from(["ndjson", "csv", "json"]),
)
def test_any_bytes_are_records_unreadable_or_a_named_error_and_the_same_again(
    data: bytes, block: int, format: Any
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "a", b"x,y\n1,2\n" + data if format == "csv" else data)
        source = small_blocks(Files(path, format=format, compression="none", settle=0), block)
        try:
            found = taken(source)
        except SourceError:
            return
        assert found == taken(small_blocks(Files(path, format=format, compression="none", settle=0), 1 << 16))
        assert_resumes_everywhere(source)


def cut_up(source: Files, sizes: list[int]) -> list[Any]:
    """Take slices of `sizes`, each from a new process's reader, and then the rest."""
    found: list[Any] = []

    def unreadable(item: Unreadable, number: int) -> None:
        found.append((number, item.raw))

    position = Position()
    for size in [*sizes, 10**9]:
        reader = Reader(source, msgspec.json.decode(msgspec.json.encode(position), type=Position), unreadable)
        start = reader.number
        for record in reader.slice():
            found.append(record)
            if len(found) - start >= size:
                reader.end_slice("records")
        position = reader.position
        reader.close()
    assert position.number == len(found)
    return found


@pytest.mark.parametrize("format", ["ndjson", "csv", "json", "zip"])
def test_a_reader_that_is_made_anew_after_each_slice_takes_each_record_once(
    tmp_path: Path, format: str
) -> None:
    records = [{"n": number, "text": f'"é,\n{number}' * (number % 4)} for number in range(300)]
    if format == "csv":
        text = io.StringIO(newline="")
        csv.writer(text).writerows([["n", "text"], *(record.values() for record in records)])
        write(tmp_path / "a.csv", text.getvalue())
        records = [{"n": record["n"], "text": record["text"] or None} for record in records]
    elif format == "json":
        write(tmp_path / "a.json", json.dumps(records))
    else:
        data = ndjson(records)
        write(tmp_path / "a", compress(data, "zip") if format == "zip" else data)
    source = small_blocks(Files(tmp_path), 250)
    for size in (1, 7, 90):
        assert cut_up(source, [size] * (200 // size)) == records


def test_a_reader_counts_what_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path / "a.ndjson", b'{"n":1}\nbad\n[3]\n{"n":4}\n' * 30)
    source = small_blocks(Files(tmp_path), 40)
    whole = cut_up(source, [])
    assert whole[:5] == [{"n": 1}, (2, "bad"), (3, "[3]"), {"n": 4}, {"n": 1}]
    assert cut_up(source, [5] * 15) == whole


def test_a_reader_goes_on_over_several_files_and_with_what_came_later(tmp_path: Path) -> None:
    for name, numbers in [("1", range(5)), ("2", range(5, 9))]:
        write(tmp_path / name, ndjson([{"n": number} for number in numbers]))
    source = small_blocks(Files(tmp_path), 20)
    reader = Reader(source, Position(), lambda item, number: None)
    assert [record["n"] for record in reader.slice()] == list(range(9))
    position = reader.position
    reader.close()
    assert (position.skip, position.number) == (0, 9)
    write(tmp_path / "2", ndjson([{"n": number} for number in range(5, 11)]))
    write(tmp_path / "3", ndjson([{"n": 11}]))
    again = Reader(source, position, lambda item, number: None)
    assert [record["n"] for record in again.slice()] == [9, 10, 11]
    again.close()


@pytest.mark.parametrize("kind", ["gzip", "zstd", "zip"])
def test_a_long_way_to_the_place_can_be_left(tmp_path: Path, kind: str) -> None:
    text = ndjson([{"id": number, "text": "x" * 1000} for number in range(9000)])
    source = Files(write(tmp_path / "a", compress(text, kind, "a.ndjson")))
    place = [item for item in source.pull(None) if isinstance(item, Mark)][-3].cursor
    items = list(source.pull(place))
    records = [item for item in items if not isinstance(item, Mark)]
    assert all(isinstance(item, Mark) and item.cursor == place for item in items[:2])
    reasons = ["stop"]
    reader = Reader(
        source,
        Position(cursor=place, number=7),
        lambda *_: None,
        lambda: reader.end_slice(reasons.pop()) if reasons else None,
    )
    reader.begin_slice()
    reader.nudge()
    assert list(reader.slice()) == []
    assert reader.position == Position(cursor=place, number=7)
    reader.begin_slice()
    assert list(reader.slice()) == records
    assert records[-1]["id"] == 8999
