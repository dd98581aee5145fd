"""What pages may be besides an array of objects in JSON: what comes out, and what is refused by name."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from paged_api import Api, rows_of, said
from pulling import assert_resumes_everywhere, taken

from etl.errors import SourceError
from etl.sources import Pages
from etl.sources.paging.paths import MISSING, lookup, with_value
from tests.web import Answer, Request


def source(api: Api, **arguments: Any) -> Pages:
    return Pages(f"{api.url}/rows", **{"style": "offset", "page_size": 10, "deadline": 30, **arguments})


def serving(write: Any, rows: list[Any]) -> Any:
    """Answer with a page of rows, written by `write`."""

    def answer(request: Request) -> Answer:
        begin = int(request.query["offset"])
        body = write(rows[begin : begin + 10])
        return Answer(body=body if isinstance(body, bytes) else json.dumps(body).encode())

    return answer


def csv_of(rows: list[Any], delimiter: str = ",") -> bytes:
    lines = [delimiter.join(map(str, [row["id"], f'"{row["name"]}"', ""])) for row in rows]
    return "\r\n".join([delimiter.join(["id", "name", "none"]), *lines, ""]).encode()


ROWS = rows_of(25)
ARRAYS = [[row["id"], row["name"]] for row in ROWS]
NAMED = [{"id": row["id"], "name": row["name"]} for row in ROWS]
TEXTS = [{"id": str(row["id"]), "name": row["name"], "none": None} for row in ROWS]


@pytest.mark.parametrize(
    ("write", "rows", "arguments", "expected"),
    [
        # RFC 8259, section 8.1: a parser may ignore a byte order mark
        (lambda page: b"\xef\xbb\xbf" + json.dumps(page).encode(), ROWS, {}, ROWS),
        (lambda page: gzip.compress(json.dumps(page).encode()), ROWS, {}, ROWS),  # which no header tells
        (
            lambda page: b"\n".join(json.dumps(row).encode() for row in page) + b"\n\n",
            ROWS,
            {"page_format": "ndjson"},
            ROWS,
        ),
        (csv_of, ROWS, {"page_format": "csv"}, TEXTS),
        (lambda page: b"\xef\xbb\xbf" + csv_of(page, ";"), ROWS, {"page_format": "csv"}, TEXTS),
        (lambda page: csv_of(page, "\t"), ROWS, {"page_format": "csv"}, TEXTS),
        (
            lambda page: csv_of(page).partition(b"\n")[2],
            ROWS,
            {"page_format": "csv", "columns": ["id", "name", "none"]},
            TEXTS,
        ),
        (
            lambda page: {"fields": ["id", "name"], "rows": page},
            ARRAYS,
            {"records": "rows", "columns": "fields"},
            NAMED,
        ),
        # CKAN's and Google's way to say the names
        (
            lambda page: {"meta": {"fields": [{"id": "id"}, {"name": "name", "id": 7}]}, "rows": page},
            ARRAYS,
            {"records": "rows", "columns": "meta.fields"},
            NAMED,
        ),
        (
            lambda page: {"cols": [{"label": "id"}, {"label": "name"}], "rows": page},
            ARRAYS,
            {"records": "rows", "columns": "cols.*.label"},
            NAMED,
        ),
        # the US Census Bureau: the first row has the names
        (lambda page: [["id", "name"], *page] if page else [], ARRAYS, {"columns": "0"}, NAMED),
        (lambda page: page, ARRAYS, {"columns": ["id", "name"]}, NAMED),
        # rows under names of their own
        (
            lambda page: {"entities": {f"Q{row['id']}": row for row in page}},
            ROWS,
            {"records": "entities.*"},
            [{"_key": f"Q{row['id']}", **row} for row in ROWS],
        ),
        (
            lambda page: {f"Q{row['id']}": row for row in page},
            ROWS,
            {"records": "*"},
            [{"_key": f"Q{row['id']}", **row} for row in ROWS],
        ),
        (
            lambda page: {"edges": [{"node": row, "cursor": "x"} for row in page]},
            ROWS,
            {"records": "edges.*.node"},
            ROWS,
        ),
    ],
)
def test_rows_are_read_and_a_pull_goes_on_from_every_mark(
    write: Any, rows: Any, arguments: Any, expected: Any
) -> None:
    with Api([]) as api:
        api.faults = serving(write, rows)
        pages = source(api, **arguments)
        assert taken(pages) == expected
        assert_resumes_everywhere(pages)


@pytest.mark.parametrize(
    ("arguments", "body", "words"),
    [
        ({"page_format": "ndjson"}, b'{"id": 1}\n{"id"', r"offset 0\), line 2: .*no JSON"),
        ({"page_format": "csv"}, b"<html>no</html>", "no CSV but begins with '<html>no"),
        ({"page_format": "csv"}, b'{"status": "pending"}', "no CSV but '.*pending"),
        ({"page_format": "csv"}, b'[{"errorCode": 1}]', "no CSV but .*errorCode"),
        ({"page_format": "csv"}, b"Too many requests, try again later.", "no CSV but 'Too many"),
        ({"max_page_bytes": 99}, gzip.compress(b" " * 100 + b"[]"), "larger than max_page_bytes = 99"),
        ({"page_format": "ndjson"}, b'{"id": 1}\n{"exception": "Code: 241"}', "exception: Code: 241"),
        ({"page_format": "csv"}, b'a,b\n1,"2', r"no CSV that can be read"),
        ({"page_format": "csv"}, b"a\n\xff", "no CSV in UTF-8 .0xff at its byte 2"),
        ({"page_format": "csv"}, b"a,a\n1,2", "names 'a' more than once"),
        ({"columns": "fields"}, b"[[1]]", "no list of names at columns = 'fields'"),
        ({"columns": "fields", "records": "r"}, b'{"r": [[1]], "fields": [1]}', "no list of names"),
        (
            {"records": "r"},
            b'{"r": {"a": {"id": 1}}}',
            r"or 'r\.\*' if its rows stand under names of their own",
        ),
        ({"records": "r.*"}, b'{"r": 1}', "no array at records"),
    ],
)
def test_what_is_no_page_is_refused_by_name(arguments: Any, body: bytes, words: str) -> None:
    with Api([]) as api:
        api.faults = lambda _request: Answer(body=body)
        with pytest.raises(SourceError, match=words):
            taken(source(api, **arguments))


@pytest.mark.parametrize("body", [b"no columns\n", b"20,row 20\n21,row 21\n"])
def test_a_page_of_csv_with_none_of_the_names_of_those_before_is_refused(body: bytes) -> None:
    with Api([]) as api:
        serve = serving(csv_of, ROWS)
        api.faults = lambda request: Answer(body=body) if request.query["offset"] == "20" else serve(request)
        with pytest.raises(SourceError, match="none of the names of the columns of the pages before it"):
            taken(source(api, page_format="csv"))


def test_a_row_with_another_number_of_values_is_unreadable() -> None:
    with Api([]) as api:
        api.faults = lambda request: said([[1, 2], [3], [4, 5]] if request.query["offset"] == "0" else [])
        first, (raw, reason), last = taken(source(api, columns=["a", "b"]))
        assert (first, raw, last) == ({"a": 1, "b": 2}, "[3]", {"a": 4, "b": 5})
        assert "row 2: not an object but an array of 1 values" in reason


DOCUMENT = {
    "links": [{"rel": "self", "href": "s"}, {"rel": ["up", "next"], "href": "n"}],
    "link": [{"relation": "next", "url": "f"}],
    "@odata.nextLink": "o",
    "a.b": {"c": 1},
    "list": [{"sort": [1, "x"]}, {"sort": [2, "y"]}],
    "odd[name=1]": 2,
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("links[rel=next].href", "n"),
        ('links[rel="self"].href', "s"),
        ("links[rel=self]", {"rel": "self", "href": "s"}),
        ("links[rel=prev].href", MISSING),
        ("links[rel=self].title", MISSING),
        ("none[rel=next].href", MISSING),
        ("link[relation=next].url", "f"),
        ("@odata.nextLink", "o"),
        ("a.b.c", 1),
        ("list.-1.sort", [2, "y"]),
        ("list.1.sort.0", 2),
        ("list.-3.sort", MISSING),
        ("odd[name=1]", 2),
    ],
)
def test_a_path_leads_to_what_stands_there(path: str, expected: Any) -> None:
    """Links by relation: STAC API and OGC API Features (`links`), HL7 FHIR (`link`)."""
    assert lookup(DOCUMENT, path) == expected


def test_a_value_is_put_at_a_path_of_a_copy() -> None:
    before = {"a": {"b": 1}}
    assert with_value(before, "a.c.d", 2) == {"a": {"b": 1, "c": {"d": 2}}}
    assert before == {"a": {"b": 1}}
    with pytest.raises(ValueError, match="'b' is no object"):
        with_value(before, "a.b.c", 2)
