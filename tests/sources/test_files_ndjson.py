"""NDJSON: what a line is, and what becomes of one that cannot be decoded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pulling import assert_resumes_everywhere, small_blocks, taken, write

from etl.errors import SourceError
from etl.sources import Files

GOOD = b'{"n":1}\n'


def read(tmp_path: Path, data: bytes, block: int = 1 << 16) -> list[Any]:
    return taken(small_blocks(Files(write(tmp_path / "a.ndjson", data)), block))


@pytest.mark.parametrize(
    "data", [b'{"a":1}\n{"a":2}', b'{"a":1}\r\n{"a":2}\r\n', b'\n\n{"a":1}\n \t\r\n{"a":2}\n\n']
)
def test_lines_may_end_and_be_parted_in_several_ways(tmp_path: Path, data: bytes) -> None:
    assert read(tmp_path, data) == [{"a": 1}, {"a": 2}]


def test_whole_numbers_are_exact_whatever_their_size(tmp_path: Path) -> None:
    [record] = read(tmp_path, b'{"small":-9223372036854775809,"large":123456789012345678901234567890}')
    assert record == {"small": -9223372036854775809, "large": 123456789012345678901234567890}


def test_of_two_equal_keys_the_last_counts(tmp_path: Path) -> None:
    assert read(tmp_path, b'{"a":1,"a":2}') == [{"a": 2}]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"a":"\xff"}', "no valid UTF-8 (0xff at its byte 6)"),
        (b'{"\xe2\x82":1}', "no valid UTF-8 (0xe2 at its byte 2)"),
        (b'{"a":"\xed\xa0\x80"}', "no valid UTF-8 (0xed at its byte 6)"),
        (b"\xff\xfe", "no valid UTF-8 (0xff at its byte 0)"),
        (b'{"a":"Zo\xeb"}', 'set `encoding`, such as "cp1252" or "latin-1"'),
        (rb'{"a":"\ud83d"}', "half of a character"),
        (b'{"a":-Infinity}', "-Infinity is no JSON"),
        (b'{"a":1},', "a comma follows the object"),
        (b"no JSON", "no JSON (JSON is malformed"),
        (b'{"a":1', "no JSON (Input data was truncated)"),
        (b'{"a":NaN}', "no JSON"),
        (b'{"a":"\\ud800"}', "no JSON"),
        (b'{"a":1}{"b":2}', 'no JSON (several objects stand on the line: set format = "json"'),
        (b'{"a":1}\r{"b":2}', "no JSON (several objects stand on the line"),
        (b'{"a":1},', "no JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"3", "not an object but a number"),
        (b'"text"', "not an object but a string"),
        (b"null", "not an object but null"),
        (b"true", "not an object but a boolean"),
        (b"[1]", "not an object but an array"),
    ],
)
def test_a_line_that_is_no_object_is_unreadable_and_the_others_are_not(
    tmp_path: Path, line: bytes, why: str
) -> None:
    first, (raw, reason), last = read(tmp_path, GOOD + line + b"\n" + GOOD)
    assert first == last == {"n": 1}
    assert raw == line.decode(errors="backslashreplace")[:8192]
    assert reason.startswith(f"{tmp_path}/a.ndjson, line 2 (byte 8): ")
    assert why in reason


def test_lines_and_bytes_are_those_of_the_file_whatever_the_blocks_are(tmp_path: Path) -> None:
    good = GOOD * 1_000
    data = good + b"\n{bad}\r\n" + good + b"\xff\n" + good + b"{unended"
    reasons = [
        reason for _, reason in filter(lambda found: isinstance(found, tuple), read(tmp_path, data, 999))
    ]
    assert [reason.partition(": ")[0].partition(", ")[2] for reason in reasons] == [
        "line 1002 (byte 8001)",
        "line 2003 (byte 16008)",
        "line 3004 (byte 24010)",
    ]


def test_an_object_that_goes_over_lines_is_unreadable_wherever_the_blocks_end(tmp_path: Path) -> None:
    data = GOOD + b'{"a":\n1}\n' + GOOD
    for block in (5, 10, 15, 100):
        found = read(tmp_path, data, block)
        assert [type(item) for item in found] == [dict, tuple, tuple, dict]
        assert "line 2 " in found[1][1]
        assert "line 3 " in found[2][1]


def test_what_cannot_be_read_is_counted_when_a_pull_goes_on(tmp_path: Path) -> None:
    data = (GOOD * 3 + b"bad\n\n[]\n") * 20
    assert_resumes_everywhere(small_blocks(Files(write(tmp_path / "a.ndjson", data)), 50))


def test_a_line_longer_than_a_block_is_read(tmp_path: Path) -> None:
    long = "x" * 300_000
    data = GOOD + b'{"long":"%s"}\n' % long.encode() + GOOD
    assert read(tmp_path, data, 1_000) == [{"n": 1}, {"long": long}, {"n": 1}]


LONG = b'{"a":"' + b"x" * (3 << 17) + b'"}'


@pytest.mark.parametrize("end", [b"", b"\n", b"\n" + GOOD])
def test_a_line_that_is_too_long_is_one_unreadable_record_and_the_next_one_is_read(
    tmp_path: Path, end: bytes
) -> None:
    path = write(tmp_path / "a.ndjson", GOOD + LONG + end)
    first, (raw, reason), *rest = taken(Files(path, settle=0, max_record_bytes=1 << 17))
    assert [first, *rest] == [json.loads(GOOD)] * (1 + end.count(GOOD))
    assert raw == LONG[:8192].decode()
    assert reason.startswith(f"{path}, line 2 (byte {len(GOOD)}): the line is longer than 131072 bytes")
    assert "raise max_record_bytes (it is 131072)" in reason
    assert_resumes_everywhere(Files(path, settle=0, max_record_bytes=1 << 17))
    assert taken(Files(path, settle=0, max_record_bytes=len(LONG) + 100)) == [
        json.loads(GOOD),
        json.loads(LONG),
        *rest,
    ]


def test_a_first_line_that_is_too_long_is_a_record_only_where_it_has_an_end(tmp_path: Path) -> None:
    alone = write(tmp_path / "alone.ndjson", LONG)
    with pytest.raises(SourceError, match=r"line 1 .byte 0.: the line is longer .* is this the right format"):
        taken(Files(alone, settle=0, max_record_bytes=1 << 17))
    followed = write(tmp_path / "followed.ndjson", LONG + b"\n" + GOOD)
    (_, reason), good = taken(Files(followed, max_record_bytes=1 << 17))
    assert "line 1 (byte 0): the line is longer" in reason
    assert good == json.loads(GOOD)


@pytest.mark.parametrize("name", ["a.ndjson", "a.json", "a.json-seq"])
def test_small_values_count_for_what_they_take_in_memory(tmp_path: Path, name: str) -> None:
    many = b'{"a":[' + b"[]," * 10_000 + b"0]}"
    begin, between, end = {"a.ndjson": (b"", b"\n", b""), "a.json": (b"[", b",", b"]")}.get(
        name, (b"\x1e", b"\n\x1e", b"")
    )
    good = GOOD.strip()
    path = write(tmp_path / name, begin + between.join([good, many, good]) + end)
    first, (_, reason), last = taken(Files(path, settle=0, max_record_bytes=100_000))
    assert first == last == json.loads(GOOD)
    assert "20002 values" in reason
    assert "raise max_record_bytes (it is 100000)" in reason
    assert len(taken(Files(path, settle=0, max_record_bytes=400_000))) == 3
    assert_resumes_everywhere(Files(path, settle=0, max_record_bytes=100_000))
