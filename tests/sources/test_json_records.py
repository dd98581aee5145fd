"""Rows at a path of a large JSON document (`records`)."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pulling import assert_resumes_everywhere, compress, small_blocks, taken, write

from etl.cli import main
from etl.errors import SourceError
from etl.sources import Files, json_text

ROWS = [
    {"id": number, "of": {"rows": [{"no": 1}]}, "text": '}],"rows":[{' * (number % 3)} for number in range(9)
]
BESIDE: dict[str, Any] = {
    "text": 'quotes \\" and \\\\ and ]}' * 3,
    "list": [[{"rows": [{"no": number}]}, '"\\'] for number in range(4)],
    "number": -1.5e10,
    "null": None,
    "empty": [{}, []],
}


def read(tmp_path: Path, text: str, records: str, block: int = 1 << 16, name: str = "a.json") -> list[Any]:
    source = small_blocks(Files(write(tmp_path / name, text), records=records), block)
    found = taken(source)
    assert_resumes_everywhere(source)
    return found


@pytest.mark.parametrize("block", [1, 77, 1 << 16])
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    ("records", "document", "rows"),
    [
        ("rows", {**BESIDE, "rows": ROWS, "after": BESIDE}, ROWS),
        ("response.docs", {"a": BESIDE, "response": {**BESIDE, "docs": ROWS, "z": [BESIDE]}, "b": 1}, ROWS),
        ("a.b.c", {"a": {"x": 1, "b.c": ROWS}}, ROWS),  # names may hold dots
        ("a.b", {"a": {"x": [1]}, "a.b": ROWS}, ROWS),
        ("1.rows", [{"rows": [{"no": 1}]}, {"rows": ROWS}, {"rows": [{"no": 1}]}], ROWS),
        ("*.rows", {"a": {"rows": ROWS[:3]}, "b": BESIDE, "c": {"rows": ROWS[3:]}}, ROWS),
        ("*.rows", [{"rows": ROWS[:3]}, 1, {"rows": []}, {"rows": ROWS[3:]}], ROWS),
        ("rows.*", {"rows": ROWS}, ROWS),
        ("rows", {"rows": []}, []),
        ("rows", {"rows": None}, []),
        ("rows.*", {"rows": {}}, []),
        ("*", {row["text"] + str(row["id"]): row for row in ROWS}, ...),
        ("by.*", {"by": {str(row["id"]): row for row in ROWS}, "n": 1}, ...),
        ("*.*", {"a": {"0": ROWS[0]}, "b": {"1": ROWS[1]}}, [{"_key": str(n), **ROWS[n]} for n in (0, 1)]),
    ],
)
def test_rows_stand_at_a_path(
    tmp_path: Path, block: int, indent: Any, records: str, document: Any, rows: Any
) -> None:
    if rows is ...:  # the name of a member becomes a field of its row
        named = document if records == "*" else document["by"]
        rows = [{"_key": name, **row} for name, row in named.items()]
    assert read(tmp_path, json.dumps(document, indent=indent), records, block) == rows


@pytest.mark.parametrize("compression", ["gzip", "zstd", "zip"])
def test_rows_are_found_in_what_is_compressed(tmp_path: Path, compression: str) -> None:
    data = compress(json.dumps({**BESIDE, "rows": ROWS}).encode(), compression, "a.json")
    source = small_blocks(Files(write(tmp_path / "a", data), records="rows"), 300)
    assert taken(source) == ROWS
    assert_resumes_everywhere(source)


@pytest.mark.parametrize("block", [1, 1 << 16])
@pytest.mark.parametrize(("name", "begin"), [("a.json", ""), ("a.ndjson", ""), ("a.json-seq", "\x1e")])
def test_several_documents_have_rows_each(tmp_path: Path, block: int, name: str, begin: str) -> None:
    documents = [{"rows": ROWS[:5]}, {"x": 1, "rows": None}, {"rows": []}, {"rows": ROWS[5:]}]
    text = "".join(begin + json.dumps(document) + "\n" for document in documents)
    assert read(tmp_path, text, "rows", block, name) == ROWS


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"x": 1, "y": 2}', "there is nothing at records = 'rows' (its keys: x, y)"),
        ('{"rows": {"a": {}}}', "stands no array of rows but an object"),
        ("bad", "no JSON"),
        ("3", "no object there"),
    ],
)
def test_a_line_without_rows_is_unreadable_and_the_others_are_not(
    tmp_path: Path, line: str, why: str
) -> None:
    found = read(
        tmp_path, f'{{"rows":[{{"a":1}}]}}\n{line}\n{{"rows":[{{"a":2}}]}}\n', "rows", name="a.jsonl"
    )
    assert (found[0], found[2]) == ({"a": 1}, {"a": 2})
    assert found[1][0] == line
    assert why in found[1][1]
    assert "line 2 (byte 19)" in found[1][1]


@pytest.mark.parametrize("block", [1, 1 << 16])
def test_rows_that_are_no_objects_are_unreadable_one_by_one(tmp_path: Path, block: int) -> None:
    found = read(tmp_path, '{"rows": [{"a": 1}, 3, {"a": NaN}, {"a": 2}]}', "rows", block)
    assert (found[0], found[3]) == ({"a": 1}, {"a": 2})
    assert found[1] == ("3", f"{tmp_path}/a.json, element 2 (byte 19): not an object but a number")
    assert "element 3 (byte 22): no JSON" in found[2][1]
    found = read(tmp_path, '{"x": {"a": 1}, "n": 3, "y": {"_key": "z"}}', "*", block)
    assert found[0] == {"_key": "x", "a": 1}
    assert "not an object but a number" in found[1][1]
    assert "the row has a field _key of its own" in found[2][1]


def test_of_rows_under_two_equal_names_none_is_lost(tmp_path: Path) -> None:
    # RFC 8259, section 4, leaves open what counts where names are not unique.
    assert read(tmp_path, '{"x": {"a": 1}, "x": {"a": 2}}', "*") == [
        {"_key": "x", "a": 1},
        {"_key": "x", "a": 2},
    ]


@pytest.mark.parametrize(
    ("records", "text", "message"),
    [
        ("rows", "{}", r"nothing at records = 'rows' \(its keys: none\)"),
        ("rows", '{"a": 1, "b": 2}', r"nothing at records = 'rows' \(its keys: a, b\)"),
        ("a.rows", '{"a": {"x": 1, "y": 2}, "b": 2}', r"nothing at records = 'a.rows' \('a' holds: x, y\)"),
        ("rows", '{"rows": {"a": {}}}', r"no array of rows but an object.*'rows\.\*' for its members"),
        ("rows", '{"rows": 3}', "no array of rows but a number"),
        ("rows", '{"rows": [{"a": 1}], "rows": []}', "is there twice: the second time at byte 28"),
        ("rows", '{"rows": [{"a": 1}', "the array is not closed, the file ends after 0"),
        ("*", '{"rows": {"a": 1}', "the object is not closed, the file ends after 0"),
        ("rows", '{"rows": [{"a": 1}]', "the document is not closed, the file ends at byte 19, after 1"),
        (
            "rows",
            '{"rows": [{"a": 1}], "b": [1, {"c": "d',
            "is not closed, the file ends at byte 38, after 1",
        ),
        ("rows", '{"rows": []} x', "something follows the document's end, after 0 of its rows: b'x'"),
        ("rows", '{"rows": []}}', "something follows the document's end"),
        ("rows", '{"rows": [],}', "at byte 12 stands b'}', where a name should be"),
        ("rows", '{"rows": [] "a": 1}', "where a comma or } should be"),
        ("rows", '{"rows" []}', "where a colon should be"),
        ("rows", '{"a": tru, "rows": []}', "at byte 6 stands b'tru'"),
        ("rows", '{"a": "x", "b": [' + "1," * 4000 + "{], " + "[" * 5000, "closed by one of the other kind"),
    ],
)
@pytest.mark.parametrize("block", [1, 1 << 16])
def test_a_document_that_is_none_is_a_named_error(
    tmp_path: Path, records: str, text: str, message: str, block: int
) -> None:
    with pytest.raises(SourceError, match=rf"a\.json: .*{message}"):
        read(tmp_path, text, records, block)


@pytest.mark.parametrize("step", [1, 7, 1 << 16])
def test_what_is_passed_over_ends_where_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(json_text, "_READ", step)
    monkeypatch.setattr(json_text, "_NEAR", 0)
    beside = json.dumps({"deep": [BESIDE] * 3, "text": '\\"\\\\' * 50 + "\\"})
    text = f'{{"a": {beside}, "b": {json.dumps(BESIDE["text"])}, "rows": [{{"x": 1}}], "c": {beside}}}'
    assert read(tmp_path, text, "rows") == [{"x": 1}]


def test_what_is_passed_over_is_not_held(tmp_path: Path) -> None:
    class Watched(json_text.Text):
        most = 0

        def more(self, size: int) -> bool:
            found = super().more(size)
            Watched.most = max(Watched.most, len(self.data))
            return found

    beside = json.dumps([{"id": number, "text": "x" * 50} for number in range(40_000)])
    long = '"' + "y" * (2 << 20) + '"'
    path = write(tmp_path / "a.json", f'{{"a": {beside}, "b": {long}, "rows": [{{"x": 1}}], "c": {beside}}}')
    from etl.sources import json_records

    real, json_records.Text = json_records.Text, Watched  # type: ignore[misc]
    try:
        assert taken(Files(path, records="rows")) == [{"x": 1}]
    finally:
        json_records.Text = real  # type: ignore[misc]
    assert 0 < Watched.most <= 1 << 18


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"records": ""}, "is no path"),
        ({"records": "$.rows[*]"}, "looks like a path of JSONPath"),
        ({"records": "rows[]"}, "looks like a path of JSONPath"),
        ({"records": "rows", "format": "csv"}, "records is the path of rows in JSON, and format is 'csv'"),
    ],
)
def test_a_path_that_is_none_is_refused(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Files("a.json", **options)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"meta": {"n": 2}, "results": [{"id": 1}, {"id": 2}]}', "set records = 'results'"),
        ('{\n "response": {"docs": [{"id": 1}]}\n}', "set records = 'response.docs'"),
        ('{"type": "FeatureCollection", "features": [{"id": 1}]}', "set records = 'features'"),
        ('{"0": {"cik": 1, "ticker": "A"}, "1": {"cik": 2, "ticker": "B"}}', 'set records = "*"'),
        ('{"id": 1, "tags": ["a", "b"], "sizes": [1, 2]}', None),
        ('{"id": 1, "lines": [{"a": 1}], "payments": [{"b": 1}]}', None),
        ('{"id": 1, "lines": [{"a": 1}]}\n{"id": 2, "lines": [{"a": 1}]}\n', None),
    ],
)
def test_an_object_that_holds_all_rows_is_one_row_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, said: str | None
) -> None:
    caplog.set_level(logging.WARNING, "etl.sources")
    source = Files([write(tmp_path / "a.json", text), write(tmp_path / "b.json", text)])
    assert len(taken(source)) == 2 if said else 4
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == (said is not None)  # once, as many files may be alike
    assert all(said in message and "a.json holds one object" in message for message in messages if said)


def test_etl_check_names_the_option_that_makes_rows_of_an_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.json", '{"meta": {"n": 2}, "results": [{"id": 1}, {"id": 2}]}')
    job = 'name = "j"\n[source]\ntype = "files"\npaths = "a.json"\n'
    sink = '[sink]\ntype = "reused_file"\npath = "j.ndjson"\n[warehouse]\ntype = "duckdb"\npath = "o"\ntable = "t"\n'
    write(tmp_path / "job.toml", job + sink)
    result = CliRunner().invoke(main, ["check", "job.toml"], prog_name="etl")
    assert "warning: a.json holds one object, which is loaded as one row" in result.stderr
    assert "set records = 'results'" in result.stderr
    write(tmp_path / "job.toml", job + 'records = "results"\n' + sink)
    result = CliRunner().invoke(main, ["check", "job.toml"], prog_name="etl")
    assert "warning" not in result.stderr
    assert result.stdout == '{"id":1}\n{"id":2}\n'
