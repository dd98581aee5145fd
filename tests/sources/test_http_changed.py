"""A URL whose content is another one: named, or read again; asked for with a condition (RFC 9110, section 13)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from http_sources import source
from pulling import assert_resumes_everywhere, compress, ndjson, pull, small_blocks, taken, values
from test_files_changed import FORMATS, TEXTS, before, rows

import etl
from etl.errors import SourceChanged, SourceUnavailable
from etl.records import Mark
from etl.sources import Http
from tests.web import Answer, Request, WebServer, ranged

BEFORE = rows(1, 60)
MONDAY = "Mon, 01 Jan 2024 00:00:00 GMT"
TUESDAY = "Tue, 02 Jan 2024 00:00:00 GMT"

# What a server says of a content, and of another one.
SAID: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "a strong tag": ({"etag": '"1"'}, {"etag": '"2"'}),
    "a weak tag": ({"etag": 'W/"1"'}, {"etag": 'W/"2"'}),
    "a date": ({"last_modified": MONDAY}, {"last_modified": TUESDAY}),
    "nothing": ({}, {}),
}


def conditional(request: Request, content: bytes, said: dict[str, Any]) -> Answer:
    """Answer as `ranged`, with 304 where a condition says that the client has it (section 13.2.2)."""
    tag, date = request.headers.get("if-none-match"), request.headers.get("if-modified-since")
    has_it = tag == said.get("etag") if tag is not None else date == said.get("last_modified")
    if (tag or date) and has_it:
        return Answer(status=304, headers={"ETag": said["etag"]} if "etag" in said else {})
    return ranged(request, content, **said)


def source_of(server: WebServer, name: str = "a.ndjson", **arguments: Any) -> Http:
    return small_blocks(source(f"{server.url}/{name}", **arguments), 500)  # type: ignore[arg-type, return-value]


def cursors(made: Http) -> list[Any]:
    return [json.loads(json.dumps(item.cursor)) for item in pull(made) if isinstance(item, Mark)]  # type: ignore[arg-type]


@pytest.mark.parametrize("after", [rows(2, 60), rows(2, 130), rows(2, 20)], ids=len)
@pytest.mark.parametrize("kind", SAID)
@pytest.mark.parametrize("name", FORMATS)
def test_a_content_that_was_replaced_is_named_from_any_mark(name: str, kind: str, after: Any) -> None:
    before, now = SAID[kind]
    with WebServer(lambda request: conditional(request, FORMATS[name](BEFORE), before)) as server:
        made = source_of(server, name)
        marks = cursors(made)
        server.answer = lambda request: conditional(request, FORMATS[name](after), now)
        for cursor in marks[1:]:
            with pytest.raises(SourceChanged, match=rf"{name}.* is not what it was: .*on_changed"):
                taken(made, cursor)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", SAID)
@pytest.mark.parametrize("name", ["a.csv", "a.ndjson.gz", "a.parquet"])
def test_a_content_that_was_replaced_may_be_read_again_from_its_beginning(name: str, kind: str) -> None:
    before, now = SAID[kind]
    with WebServer(lambda request: conditional(request, FORMATS[name](BEFORE), before)) as server:
        made = source_of(server, name, on_changed="restart")
        marks = cursors(made)
        server.answer = lambda request: conditional(request, FORMATS[name](rows(2, 70)), now)
        for cursor in (marks[1], marks[-1]):
            items = pull(made, cursor)  # type: ignore[arg-type]
            assert values(items) == rows(2, 70)
            for index, item in enumerate(items):
                if isinstance(item, Mark):
                    assert taken(made, item.cursor) == values(items[index:])  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", SAID)
@pytest.mark.parametrize(
    "name", ["a.ndjson", "a.csv", "a.json", "utf16.csv", "a.ndjson.gz", "a.tar", "a.zip"]
)
def test_what_comes_after_the_cursor_may_be_corrected_what_comes_before_it_may_not(
    name: str, kind: str
) -> None:
    said = SAID[kind]
    with WebServer(lambda request: conditional(request, TEXTS[name](BEFORE), said[0])) as server:
        made = source_of(server, name)
        marks = [cursor for cursor in cursors(made) if before(cursor) and not cursor.get("done")]
        for cursor in marks[::3]:
            after = BEFORE[: before(cursor)] + rows(2, 20)
            server.answer = lambda request, after=after: conditional(request, TEXTS[name](after), said[1])  # type: ignore[misc]
            assert taken(made, cursor) == after[before(cursor) :]  # type: ignore[arg-type]
            other = [{"day": "d0", "n": 1000}, *after[1:]]
            server.answer = lambda request, after=other: conditional(request, TEXTS[name](after), said[1])  # type: ignore[misc]
            with pytest.raises(SourceChanged, match="is not what it was"):
                taken(made, cursor)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", SAID)
@pytest.mark.parametrize("name", FORMATS)
def test_the_same_bytes_are_the_same_content_whatever_the_server_says(name: str, kind: str) -> None:
    before, now = SAID[kind]
    with WebServer(lambda request: conditional(request, FORMATS[name](BEFORE), before)) as server:
        made = source_of(server, name)
        items = pull(made)  # type: ignore[arg-type]
        server.answer = lambda request: conditional(request, FORMATS[name](BEFORE), now)
        for index, item in enumerate(items):
            if isinstance(item, Mark):
                assert taken(made, item.cursor) == values(items[index:])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a.ndjson", "a.csv", "a.ndjson.gz", "a.json"])
@pytest.mark.parametrize("kind", ["a strong tag", "a weak tag", "a date"])
def test_a_pull_goes_on_anywhere_where_each_answer_has_a_tag_of_its_own(name: str, kind: str) -> None:
    content = FORMATS[name](BEFORE)
    with WebServer(lambda request: conditional(request, content, SAID[kind][request.number % 2])) as server:
        assert_resumes_everywhere(source_of(server, name))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["a strong tag", "a date"])
def test_a_pull_of_a_longer_content_goes_on_where_each_answer_has_a_tag_of_its_own(kind: str) -> None:
    """Longer than what is held of its beginning, so that there are ranges."""
    content = ndjson([{"n": number, "text": "x" * 1000} for number in range(400)])
    with WebServer(lambda request: conditional(request, content, SAID[kind][request.number % 2])) as server:
        made = source(f"{server.url}/a.ndjson")
        items = pull(made)  # type: ignore[arg-type]
        marks = [index for index, item in enumerate(items) if isinstance(item, Mark)]
        for index in marks[::4]:
            assert taken(made, items[index].cursor) == values(items[index:])  # type: ignore[arg-type]
        assert any("range" in request.headers for request in server.requests)


@pytest.mark.parametrize(("kind", "condition"), [(kind, said[0]) for kind, said in SAID.items() if said[0]])
def test_a_url_that_was_read_is_asked_for_once_with_a_condition(kind: str, condition: dict[str, str]) -> None:
    with WebServer(lambda request: conditional(request, ndjson(BEFORE), condition)) as server:
        made = source_of(server)
        cursor = cursors(made)[-1]
        asked = len(server.requests)
        assert pull(made, cursor) == []  # type: ignore[arg-type]
        (request,) = server.requests[asked:]
        header = "if-modified-since" if "date" in kind else "if-none-match"
        assert request.headers[header] == next(iter(condition.values()))


@pytest.mark.parametrize("condition", [said[0] for said in SAID.values()])
def test_a_server_without_conditions_is_asked_and_taken_at_its_word(condition: dict[str, Any]) -> None:
    with WebServer(lambda request: ranged(request, ndjson(BEFORE), **condition)) as server:
        made = source_of(server)
        assert taken(made, cursors(made)[-1]) == []  # type: ignore[arg-type]
        assert_resumes_everywhere(made)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", SAID)
@pytest.mark.parametrize("name", ["a.ndjson", "a.csv"])
def test_a_plain_content_that_grew_gives_the_rest_and_what_is_new(name: str, kind: str) -> None:
    before, now = SAID[kind]
    new = rows(2, 30)
    with WebServer(lambda request: conditional(request, FORMATS[name](BEFORE), before)) as server:
        made = source_of(server, name)
        items = pull(made)  # type: ignore[arg-type]
        server.answer = lambda request: conditional(request, FORMATS[name](BEFORE + new), now)
        for index, item in enumerate(items):
            if isinstance(item, Mark):
                assert taken(made, item.cursor) == values(items[index:]) + new  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a.ndjson", "a.csv.zst"])
@pytest.mark.parametrize("kind", SAID)
def test_a_content_of_no_bytes_may_get_some(name: str, kind: str) -> None:
    before, now = SAID[kind]
    with WebServer(lambda request: conditional(request, b"", before)) as server:
        made = source_of(server, name)
        cursor = cursors(made)[-1]
        assert taken(made, cursor) == []  # type: ignore[arg-type]
        server.answer = lambda request: conditional(request, FORMATS[name](BEFORE), now)
        assert taken(made, cursor) == BEFORE  # type: ignore[arg-type]


def test_growth_of_what_is_not_read_on_is_named() -> None:
    with WebServer(lambda request: ranged(request, compress(ndjson(BEFORE), "gzip"), etag='"1"')) as server:
        made = source_of(server)
        cursor = cursors(made)[-1]
        longer = compress(ndjson(BEFORE), "gzip") + compress(ndjson(BEFORE), "gzip")
        server.answer = lambda request: ranged(request, longer, etag='"2"')
        with pytest.raises(SourceChanged, match="only plain NDJSON and CSV are read on"):
            taken(made, cursor)  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [404, 410, 403])
def test_a_url_that_was_read_to_its_end_may_be_gone(status: int) -> None:
    with WebServer(lambda request: ranged(request, ndjson(BEFORE), etag='"1"')) as server:
        made = source_of(server)
        cursor = cursors(made)[-1]
        server.answer = lambda _: Answer(status=status)
        assert taken(made, cursor) == []  # type: ignore[arg-type]


def test_urls_before_the_last_one_and_those_left_out_are_not_asked_for() -> None:
    def answer(request: Request) -> Answer:
        return Answer(status=404) if request.path == "/3" else ranged(request, ndjson(BEFORE), etag='"1"')

    with WebServer(answer) as server:
        made = source(server.url + "/{1..3}", on_missing="skip")
        cursor = cursors(made)[-1]
        asked = len(server.requests)
        assert taken(made, cursor) == []  # type: ignore[arg-type]
        assert len(server.requests) == asked


def test_what_is_compared_with_a_sha256_is_compared_with_what_was_read_too() -> None:
    import hashlib

    def serve(content: bytes, tag: str) -> Callable[[Request], Answer]:
        digest = hashlib.sha256(content).hexdigest().encode()
        return lambda request: (
            Answer(body=digest) if request.path.endswith(".sha256") else ranged(request, content, etag=tag)
        )

    with WebServer(serve(ndjson(BEFORE), '"1"')) as server:
        made = source_of(server, checksum="sha256")
        items = pull(made)  # type: ignore[arg-type]
        server.answer = serve(ndjson(BEFORE), '"2"')
        for index, item in enumerate(items):
            if isinstance(item, Mark):
                assert taken(made, item.cursor) == values(items[index:])  # type: ignore[arg-type]


def test_a_url_that_is_overwritten_each_day_is_merged(tmp_path: Path) -> None:
    days: list[tuple[str, bytes]] = [
        ('"1"', b"id,v\n1,a\n2,b\n"),
        ('"1"', b"id,v\n1,a\n2,b\n"),
        ('"2"', b"id,v\n2,B\n3,c\n"),
    ]
    with WebServer(lambda request: conditional(request, days[0][1], {"etag": days[0][0]})) as server:

        def run() -> list[Any]:
            etl.Pipeline(
                "job",
                source={"type": "http", "urls": f"{server.url}/a.csv", "on_changed": "restart"},
                sink={"type": "reused_file", "path": str(tmp_path / "part")},
                warehouse={
                    "type": "duckdb",
                    "path": str(tmp_path / "db"),
                    "table": "t",
                    "disposition": "merge",
                    "key": ["id"],
                },
                checkpoint=str(tmp_path / "checkpoint.json"),
            ).run()
            with duckdb.connect(str(tmp_path / "db"), read_only=True) as warehouse:
                return warehouse.execute("SELECT id, v FROM t ORDER BY id").fetchall()

        assert run() == [(1, "a"), (2, "b")]
        del days[0]
        assert run() == [(1, "a"), (2, "b")]
        del days[0]
        assert run() == [(1, "a"), (2, "B"), (3, "c")]
        assert run() == [(1, "a"), (2, "B"), (3, "c")]


def test_a_server_that_is_down_when_the_last_url_is_asked_for_again_is_named() -> None:
    with WebServer(lambda request: ranged(request, ndjson(BEFORE), etag='"1"')) as server:
        made = source_of(server, deadline=0.2)
        cursor = cursors(made)[-1]
        server.answer = lambda _: Answer(status=503)
        with pytest.raises(SourceUnavailable, match="503"):
            taken(made, cursor)  # type: ignore[arg-type]
