"""How JSON is laid out: an object on each line, objects over many lines, text sequences (RFC 7464)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pulling import assert_resumes_everywhere, last_cursor, small_blocks, taken, write

from etl.errors import SourceChanged, SourceError
from etl.sources import Files

OBJECTS: list[dict[str, Any]] = [
    {"id": 1, "v": "x"},
    {"id": 2, "in": {"a": [{"b": 1}, {}, []]}, "text": '}\\n{ " } {'},
    {},
    {"id": 3},
]


def pretty(objects: list[Any], between: str, indent: int | None = 2) -> str:
    return between.join(json.dumps(one, indent=indent) for one in objects) + between


def read(tmp_path: Path, text: str, block: int = 1 << 16, name: str = "a.json", **options: Any) -> list[Any]:
    source = small_blocks(Files(write(tmp_path / name, text), **options), block)
    found = taken(source)
    assert_resumes_everywhere(source)
    return found


@pytest.mark.parametrize("block", [1, 40, 1 << 16])
@pytest.mark.parametrize(
    "text",
    [
        pretty(OBJECTS, "\n"),  # as jq writes them
        pretty(OBJECTS, "\n").replace("\n", "\r\n"),
        pretty(OBJECTS, "\n\n", indent=0),
        pretty(OBJECTS, " \n\t"),
        pretty(OBJECTS, ""),  # concatenated
        pretty(OBJECTS, "\n").rstrip(),
        "\ufeff\n " + pretty(OBJECTS, "\n"),
    ],
)
def test_objects_go_over_as_many_lines_as_they_like(tmp_path: Path, text: str, block: int) -> None:
    assert read(tmp_path, text, block) == OBJECTS
    assert read(tmp_path, text, block, "a") == OBJECTS


@pytest.mark.parametrize(
    "text", ['{\n  "id": 1,\n  "v": "x"\n}\n', '{"id": 1,\n "v": "x"}', '{\n"id":1,"v":"x"}']
)
def test_a_file_of_one_object_is_one_record(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == [{"id": 1, "v": "x"}]


def test_an_object_longer_than_what_is_looked_at_goes_over_lines(tmp_path: Path) -> None:
    one = {"texts": ["x" * 100] * 90, "deep": {"a": [{"b": number} for number in range(90)]}}
    assert read(tmp_path, json.dumps(one, indent=4), 5000) == [one]


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1\n{"a":2}\n{"a":3}\n',
        '{"a":\n{"a":2}\n',
        '{"a":[\n{"a":2}\n{"a":3}\n',
        '{"a":1,\n{"a":2}\n{"a":3}\n',
        '{"a":"x\n{"a":2}\n',
        '{"a":1}}\n{"a":2}\n',
        '{a}\n{"a":2}\n',
        '{"a":[\n{"a":2, "b": [' + '"x",' * 100 + '1]}\n{"a":3}\n',
    ],
)
def test_lines_of_which_the_first_is_broken_are_lines(tmp_path: Path, text: str) -> None:
    for name in ("a.json", "a.ndjson"):
        first, second, *_ = read(tmp_path, text, name=name)
        assert first[0] == text.partition("\n")[0]
        assert f"{name}, line 1 (byte 0): no JSON" in first[1]
        assert second["a"] == 2


def test_a_name_that_says_lines_is_believed_and_the_message_says_what_helps(tmp_path: Path) -> None:
    found = read(tmp_path, '{\n "a": 1\n}\n', name="a.jsonl")
    assert [raw for raw, _ in found] == ["{", ' "a": 1', "}"]
    assert 'where objects go over several lines, set format = "json"' in found[0][1]
    assert read(tmp_path, '{\n "a": 1\n}\n', name="a.jsonl", format="json") == [{"a": 1}]


def test_objects_on_one_line_are_read_or_the_format_named(tmp_path: Path) -> None:
    """As Amazon Data Firehose puts records into an object."""
    text = '{"a":1}{"a":2} {"a":3}'
    assert (
        read(tmp_path, text, name="a.json") == read(tmp_path, text, name="a") == [{"a": n} for n in (1, 2, 3)]
    )
    [(_, reason)] = read(tmp_path, text, name="a.ndjson")
    assert 'several objects stand on the line: set format = "json"' in reason
    assert read(tmp_path, text, name="a.ndjson", format="json") == [{"a": n} for n in (1, 2, 3)]


@pytest.mark.parametrize("block", [1, 1 << 16])
def test_an_object_that_is_no_json_is_unreadable_and_the_others_are_not(tmp_path: Path, block: int) -> None:
    found = read(tmp_path, '{\n"a": 1\n}\n{\n"a": NaN\n}\n[\n2\n]\n{\n"a": 3\n}\n', block)
    assert (found[0], found[3]) == ({"a": 1}, {"a": 3})
    assert "a.json, object 2 (byte 11): no JSON" in found[1][1]
    assert found[2] == ("[\n2\n]", f"{tmp_path}/a.json, object 3 (byte 24): not an object but an array")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n"a": 1\n', "the object that begins at byte 0 is not closed, the file ends after 0 others"),
        ('{\n"a": 1\n}\n{\n"a": "}', "the object that begins at byte 10 is not closed, .* after 1 others"),
        ('{\n"a": 1\n}\nx', "at byte 11, after 1 objects, stands b'x', where an object should begin"),
        ('{\n"a": 1\n},\n{\n"a": 2\n}', "at byte 10, after 1 objects, stands"),
        ('{\n"a": 1\n}}', "at byte 10, after 1 objects, stands b'}'"),
        ('{\n"a": 1\n}\n"x"\n', "at byte 11, after 1 objects, stands"),
    ],
)
@pytest.mark.parametrize("block", [1, 1 << 16])
def test_what_is_no_row_of_objects_is_a_named_error(
    tmp_path: Path, text: str, message: str, block: int
) -> None:
    with pytest.raises(SourceError, match=rf"a\.json: .*{message}"):
        read(tmp_path, text, block)


def test_an_object_that_is_too_long_is_an_error_that_names_the_option(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", '{\n"rows": [' + '{"a": 1},\n' * 20_000 + "{}]}")
    with pytest.raises(
        SourceError, match=r"longer than 65536 bytes.* If it holds the rows, let `records` name"
    ):
        taken(Files(path, max_record_bytes=1 << 16))
    assert len(taken(Files(path, max_record_bytes=1 << 16, records="rows"))) == 20_001


# RFC 7464, section 2.1: 0x1E begins each text, a line feed ends it; 2.4: what of a cut text is to be done.
@pytest.mark.parametrize("block", [1, 20, 1 << 16])
@pytest.mark.parametrize(
    "text",
    [
        "".join(f"\x1e{json.dumps(one)}\n" for one in OBJECTS),
        "".join(f"\x1e{json.dumps(one, indent=1)}\n" for one in OBJECTS),
        "\x1e" + "\x1e\x1e".join(f"{json.dumps(one)}" for one in OBJECTS),
        "".join(f"\x1e\n{json.dumps(one)}\r\n\x1e\n" for one in OBJECTS),
    ],
)
@pytest.mark.parametrize("name", ["a.json-seq", "a.geojsons", "a.json", "a"])
def test_text_sequences_are_read(tmp_path: Path, text: str, block: int, name: str) -> None:
    assert read(tmp_path, text, block, name) == OBJECTS


@pytest.mark.parametrize("block", [1, 1 << 16])
def test_a_text_that_was_cut_is_unreadable_and_the_others_are_not(tmp_path: Path, block: int) -> None:
    found = read(tmp_path, '\x1e{"a":1}\n\x1e{"a":2,"b":\x1e{"a":3}\n\x1e4\n', block)
    assert (found[0], found[2]) == ({"a": 1}, {"a": 3})
    assert found[1][0] == '{"a":2,"b":'
    assert "a.json, text 2 (byte 9): no JSON" in found[1][1]
    assert "text 4 (byte 30): not an object but a number" in found[3][1]


def test_what_does_not_begin_as_a_sequence_is_none(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not begin with 0x1E"):
        read(tmp_path, '{"a":1}\n', format="json-seq")
    assert read(tmp_path, '{"a":1}\n{"a":2}\n', name="a.geojsons") == [{"a": 1}, {"a": 2}]


def test_a_sequence_may_grow(tmp_path: Path) -> None:
    source = Files(path := write(tmp_path / "a.json-seq", '\x1e{"a":1}\n'))
    cursor = last_cursor(source)
    write(path, '\x1e{"a":1}\n\x1e{"a":2}\n')
    assert taken(source, cursor) == [{"a": 2}]
    write(path, '\x1e{"a":1}\n {"b":2}\n')
    with pytest.raises(SourceChanged):
        taken(source, cursor)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.csv", {}, 'its content is a JSON text sequence: set format = "json-seq"'),
        ("a", {"format": "csv"}, 'its content is a JSON text sequence: set format = "json-seq"'),
    ],
)
def test_a_sequence_that_is_called_otherwise_is_refused_with_what_helps(
    tmp_path: Path, name: str, options: Any, message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        read(tmp_path, '\x1e{"a":1}\n', name=name, **options)
    assert read(tmp_path, '\x1e{"a":1}\n', name=name, format="json-seq") == [{"a": 1}]


def test_a_sequence_that_is_called_ndjson_says_what_helps(tmp_path: Path) -> None:
    [(_, reason)] = read(tmp_path, '\x1e{"a":1}\n', format="ndjson")
    assert 'set format = "json-seq"' in reason
    assert read(tmp_path, '\x1e{"a":1}\n', name="a.ndjson") == [{"a": 1}]


@pytest.mark.parametrize(("name", "text"), [("a.csv", "a,b\n1,2\n"), ("a", "a;b\n1;2\n")])
def test_records_of_what_is_no_json_are_refused(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(SourceError, match="it is CSV, and `records` names the path of rows in JSON"):
        read(tmp_path, text, name=name, records="rows")
