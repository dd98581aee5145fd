"""One JSON array of objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pulling import assert_resumes_everywhere, small_blocks, taken, write

from etl.errors import SourceChanged, SourceError
from etl.sources import Files

# Objects that begin alike, within each other and in text, so that guesses where one ends go wrong.
TRICKY: list[Any] = [
    {"id": number, "items": [{"id": 1}, {"id": 2}] * (number % 4), "text": '},{"id":' * (number % 3) + '\\"]'}
    for number in range(300)
]


def read(tmp_path: Path, data: str | bytes, block: int = 1 << 16) -> list[Any]:
    return taken(small_blocks(Files(write(tmp_path / "a.json", data), format="json"), block))


@pytest.mark.parametrize("block", [1, 50, 999, 1 << 16])
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("separators", [(",", ":"), (" , ", " : ")])
def test_elements_end_where_they_end(tmp_path: Path, block: int, indent: Any, separators: Any) -> None:
    text = json.dumps(TRICKY, indent=indent, separators=separators)
    source = small_blocks(Files(write(tmp_path / "a", text)), block)
    assert taken(source) == TRICKY
    if block == 999:
        assert_resumes_everywhere(source)


@pytest.mark.parametrize("text", ["[]", " [ \n ] \n"])
def test_an_empty_array_holds_no_records(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == []


def test_whole_numbers_are_exact(tmp_path: Path) -> None:
    assert read(tmp_path, '[{"n":123456789012345678901234567890}]') == [{"n": 123456789012345678901234567890}]


@pytest.mark.parametrize(
    ("element", "why"),
    [
        (b"3", "not an object but a number"),
        (b"[1, 2]", "not an object but an array"),
        (b'{"a": NaN}', "no JSON"),
        (b'{"a": "\xff"}', "no valid UTF-8"),
        (b"", "no JSON"),
        (b'{"a": 1} {"a": 2}', "no JSON"),
        (b'{"a": [1}]', "no JSON"),
    ],
)
@pytest.mark.parametrize("block", [1, 1 << 16])
def test_an_element_that_is_no_object_is_unreadable_and_the_others_are_not(
    tmp_path: Path, element: bytes, why: str, block: int
) -> None:
    found = read(tmp_path, b'[{"n": 1},' + element + b',{"n": 3}]', block)
    assert (found[0], found[2]) == ({"n": 1}, {"n": 3})
    assert found[1][0] == element.decode(errors="backslashreplace")
    assert found[1][1].startswith(f"{tmp_path}/a.json, element 2 (byte 10): ")
    assert why in found[1][1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"n": 1}, {"n": 2}', "is not closed, the file ends after 1 of its elements"),
        ('[{"n": 1},', "is not closed, the file ends after 1 of its elements"),
        ('[{"n": "1', "is not closed, the file ends after 0 of its elements"),
        ("[", "is not closed, the file ends after 0 of its elements"),
        ('[{"n": 1}] x', "something follows the array's end, after 1 elements: b'x'"),
        ('[{"n": 1}][{"n": 2}]', "something follows the array's end"),
        ("3", r"it does not begin with \[.*format = \"ndjson\""),
        ('[{"n": 1}, {"n": 2}}]', r"a bracket is closed that was not opened, after 1 elements \(byte 19\)"),
    ],
)
@pytest.mark.parametrize("block", [3, 1 << 16])
def test_an_array_that_is_none_is_a_named_error(tmp_path: Path, text: str, message: str, block: int) -> None:
    with pytest.raises(SourceError, match=rf"a\.json.*{message}"):
        read(tmp_path, text, block)


def test_an_element_that_does_not_end_is_an_error_before_it_fills_the_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", '[{"n":1},{"a":"' + "x" * (3 << 20) + '"}]')
    with pytest.raises(SourceError, match=r"element 2 \(byte 9\) is longer than 1 MiB.*max_record_bytes"):
        taken(Files(path, max_record_bytes=1 << 20))
    assert len(taken(Files(path, max_record_bytes=4 << 20))) == 2


def test_a_file_that_was_replaced_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", '[{"n":1},{"n":2}]')
    with pytest.raises(SourceChanged, match=r"a\.json has no element that begins at byte 8"):
        taken(Files(path), {"file": str(path), "offset": 8, "record": 1})
