"""Zip and Parquet over HTTP: what is asked for is about what is read, and no more is held than some windows."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import re
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from http_sources import RECORDS, serving, source
from hypothesis import given, settings
from hypothesis import strategies as st
from pulling import assert_resumes_everywhere, compress, ndjson, pull, taken

from etl.errors import SourceChanged, SourceCorrupt, SourceError
from etl.records import Mark
from etl.sources.http_file import HttpFile
from etl.sources.identity import Seen
from etl.sources.web import Web
from tests.web import Answer, Request, WebServer, ranged

MIB = 1 << 20


def parquet(groups: int, rows: int, *, width: int = 4) -> tuple[list[dict[str, Any]], bytes]:
    """Make a file of row groups with columns that do not compress."""
    chance = random.Random(7)
    records = [
        {f"c{column}": chance.randbytes(40).hex() for column in range(width)} | {"id": number}
        for number in range(groups * rows)
    ]
    made = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), made, row_group_size=rows, use_dictionary=False)
    return records, made.getvalue()


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return packed.getvalue()


def asked_for(server: WebServer, length: int) -> int:
    """Return how many bytes the server was asked for."""
    asked = 0
    for request in server.requests:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", "bytes=0-"))
        assert match is not None
        asked += min(int(match[2]) + 1 if match[2] else length, length) - int(match[1])
    return asked


def test_parquet_is_read_by_ranges() -> None:
    records, content = parquet(4, 4000)
    with serving(content, "/data.parquet") as (server, made):
        assert taken(made()) == records
        assert asked_for(server, len(content)) < 2 * len(content)
        assert {request.connection for request in server.requests} == {0}


def test_a_parquet_file_is_resumed_without_the_row_groups_that_were_read() -> None:
    records, content = parquet(8, 2000)
    with serving(content, "/data.parquet") as (server, made):
        marks = [item.cursor for item in pull(made()) if isinstance(item, Mark)]
        last = next(cursor for cursor in marks if cursor.get("row_group") == 7)
        server.requests.clear()
        assert taken(made(), last) == records[-2000:]
        assert asked_for(server, len(content)) < len(content) // 3


def test_parquet_without_its_ending_in_the_name_is_read_by_ranges_too() -> None:
    records, content = parquet(2, 500)
    with serving(content, "/download") as (_, made):
        assert taken(made()) == records


def test_a_member_of_a_zip_file_is_resumed_without_the_members_before_it() -> None:
    chance = random.Random(3)
    members = {
        f"{number}.ndjson": ndjson([{"id": number, "text": chance.randbytes(1000).hex()}] * 300)
        for number in range(6)
    }
    content = zipped(members)
    with serving(content, "/data.zip") as (server, made):
        assert len(taken(made())) == 6 * 300
        assert asked_for(server, len(content)) < 2 * len(content)
        marks = [item.cursor for item in pull(made()) if isinstance(item, Mark)]
        last = next(cursor for cursor in marks if cursor.get("member") == "5.ndjson")
        server.requests.clear()
        assert len(taken(made(), last)) == 300
        assert asked_for(server, len(content)) < len(content) // 2


@pytest.mark.parametrize("kind", ["parquet", "zip"])
def test_a_connection_may_break_in_every_range(kind: str) -> None:
    records, content = parquet(2, 100) if kind == "parquet" else (RECORDS, compress(ndjson(RECORDS), "zip"))

    def answer(request: Request) -> Answer:
        made = ranged(request, content, etag='"one"')
        assert isinstance(made.body, bytes)
        return replace(made, cut_after=len(made.body) // 2 + 1) if request.number % 2 == 0 else made

    with WebServer(answer) as server:
        assert taken(source(f"{server.url}/data.{kind}")) == records


def test_a_zip_cut_at_any_byte_costs_no_record() -> None:
    content = compress(ndjson(RECORDS), "zip")
    cut_after = 0

    def answer(request: Request) -> Answer:
        made = ranged(request, content, etag='"one"')
        return replace(made, cut_after=cut_after) if request.query["first"] == str(request.number) else made

    with WebServer(answer) as server:
        for cut_after in range(len(content)):  # noqa: B007 - the server looks at it
            assert taken(source(f"{server.url}/data.zip?first={len(server.requests)}")) == RECORDS


def large(kind: str) -> tuple[list[dict[str, Any]], bytes]:
    """Make a file that is not held in memory as a whole."""
    if kind == "parquet":
        return parquet(2, 1000)
    records = [{"n": number, "text": random.Random(number).randbytes(100_000).hex()} for number in range(3)]
    return records, zipped({"a.ndjson": ndjson(records[:2]), "b.ndjson": ndjson(records[2:])})


@pytest.mark.parametrize("kind", ["parquet", "zip"])
@pytest.mark.parametrize("name", ["/data.{}", "/download"])
@pytest.mark.parametrize("said", [{}, {"ETag": '"one"'}])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_file_of_a_server_without_ranges_is_stored_while_it_is_read(
    kind: str,
    name: str,
    said: dict[str, str],
    chunked: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "etl.sources")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    records, content = large(kind)
    with WebServer(lambda _: Answer(headers=said, body=content, chunked=chunked)) as server:
        made = source(server.url + name.format(kind))
        assert taken(made) == records
        assert len(server.requests) <= 4
        [told] = caplog.messages
        assert f"does not send ranges: the file is stored in {tmp_path} while it is read" in told
        assert_resumes_everywhere(made)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("said", [{}, {"ETag": '"one"'}, {"ETag": 'W/"one"'}])
def test_a_connection_may_break_while_a_file_is_stored(said: dict[str, str]) -> None:
    records, content = large("zip")

    def answer(request: Request) -> Answer:
        cut = (request.number + 1) * 200_000
        return Answer(headers=said, body=content, cut_after=cut if cut < len(content) else None)

    with WebServer(answer) as server:
        assert taken(source(f"{server.url}/data.zip")) == records


def test_a_file_that_is_another_one_after_a_break_is_not_stored_as_a_mixture() -> None:
    _, content = large("zip")
    other = content.replace(b"a.ndjson", b"z.ndjson")

    def answer(request: Request) -> Answer:
        return Answer(
            body=content if request.number < 3 else other, cut_after=500_000 if request.number < 3 else None
        )

    with WebServer(answer) as server, pytest.raises(SourceChanged, match="are others, read again"):
        taken(source(f"{server.url}/data.zip"))


@pytest.mark.parametrize("chunked", [False, True])
def test_a_file_that_is_too_large_to_be_stored_is_refused(chunked: bool) -> None:
    _, content = large("zip")
    with (
        WebServer(lambda _: Answer(body=content, chunked=chunked)) as server,
        pytest.raises(
            SourceError, match=r"larger than the 300,000 bytes that may be in .*raise `stored_bytes`"
        ),
    ):
        taken(source(f"{server.url}/data.zip", stored_bytes=300_000))


def test_a_place_for_temporary_files_that_cannot_be_had_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc/nowhere")
    _, content = large("zip")
    with (
        WebServer(lambda _: Answer(body=content)) as server,
        pytest.raises(SourceError, match=r"no file can be made in /proc/nowhere .*set TMPDIR"),
    ):
        taken(source(f"{server.url}/data.zip"))


def test_what_is_stored_is_compared_with_its_checksum() -> None:
    records, content = large("zip")
    told = {"Content-MD5": base64.b64encode(hashlib.md5(content).digest()).decode()}
    with WebServer(lambda _: Answer(headers=told, body=content)) as server:
        assert taken(source(f"{server.url}/download")) == records
    with (
        WebServer(lambda _: Answer(headers=told, body=content.replace(b"a.ndjson", b"z.ndjson"))) as server,
        pytest.raises(SourceCorrupt, match="Content-MD5"),
    ):
        taken(source(f"{server.url}/download"))


@pytest.mark.parametrize("kind", ["parquet", "zip"])
@pytest.mark.parametrize("name", ["/data.{}", "/download"])
def test_a_small_file_needs_no_ranges(kind: str, name: str) -> None:
    records, content = parquet(2, 10) if kind == "parquet" else (RECORDS, compress(ndjson(RECORDS), "zip"))
    with WebServer(lambda _: Answer(body=content)) as server:
        assert taken(source(server.url + name.format(kind))) == records
    assert len(server.requests) == 1


def test_a_server_that_does_not_tell_a_length_is_asked_for_it() -> None:
    content = compress(ndjson(RECORDS), "zip")

    def answer(request: Request) -> Answer:
        made = ranged(request, content, etag='"one"')
        return replace(made, chunked=True) if made.status == 200 else made

    with WebServer(answer) as server:
        assert taken(source(server.url + "/download")) == RECORDS


def test_a_parquet_file_that_changes_between_two_ranges_is_no_mixture() -> None:
    _, content = parquet(4, 2000)
    with (
        WebServer(lambda r: ranged(r, content, etag='"one"' if r.number < 4 else '"other"')) as server,
        pytest.raises(SourceChanged, match="its ETag was"),
    ):
        taken(source(server.url + "/data.parquet"))


def test_a_file_that_is_called_parquet_and_is_none_is_read_as_what_it_is() -> None:
    with serving(compress(ndjson(RECORDS), "gzip"), "/data.parquet") as (_, made):
        assert taken(made(format="ndjson")) == RECORDS


def test_a_server_that_refuses_every_range_is_no_empty_file() -> None:
    with (
        WebServer(lambda r: Answer(status=416 if "range" in r.headers else 200, body=b"x")) as server,
        pytest.raises(SourceError, match="416"),
    ):
        taken(source(server.url + "/data.zip"))


def test_an_empty_file_that_is_called_zip_holds_no_records() -> None:
    with serving(b"", "/data.zip") as (_, made):
        assert taken(made()) == []


@pytest.mark.parametrize("name", ["/data.parquet", "/data.zip"])
def test_these_resume_everywhere(name: str) -> None:
    content = (
        parquet(3, 20)[1]
        if name.endswith("parquet")
        else zipped({"a.ndjson": ndjson(RECORDS), "b.json": b'[{"id": 1}, {"id": 2}]'}, zipfile.ZIP_DEFLATED)
    )
    with serving(content, name) as (_, made):
        assert_resumes_everywhere(made())


# Sequences of what may be done with a file: compared with the same on a file in memory.
STEPS = st.lists(
    st.tuples(st.just("read"), st.integers(0, 400))
    | st.tuples(st.just("peek"), st.integers(1, 300))
    | st.tuples(st.just("seek"), st.integers(0, 1000))
    | st.tuples(st.just("end"), st.integers(-1000, 0))
    | st.tuples(st.just("on"), st.integers(0, 300)),
    max_size=12,
)


@pytest.fixture(scope="module")
def content_server() -> Iterator[WebServer]:
    content = random.Random(1).randbytes(1000)

    def answer(request: Request) -> Answer:
        whole = Answer(headers={"ETag": '"one"'}, body=content)
        made = whole if request.path == "/whole" else ranged(request, content, etag='"one"')
        return replace(made, cut_after=333) if request.number % 3 == 0 else made

    with WebServer(answer) as server:
        yield server


@settings(max_examples=150, deadline=None)
@given(
    steps=STEPS,
    path=st.sampled_from(["/", "/whole"]),
    at_random=st.booleans(),
    window=st.integers(1, 300),
    skipped=st.integers(0, 300),
)
def test_any_steps_read_what_they_read_of_a_file(
    content_server: WebServer,
    steps: list[tuple[str, int]],
    path: str,
    at_random: bool,
    window: int,
    skipped: int,
) -> None:
    like = io.BytesIO(random.Random(1).randbytes(1000))
    patch = pytest.MonkeyPatch()
    module = "etl.sources.http_file"
    with patch.context() as context:
        context.setattr(f"{module}._FIRST_WINDOW", window)
        context.setattr(f"{module}._LARGEST_WINDOW", 3 * window)
        context.setattr(f"{module}._HELD", 4 * window)
        context.setattr(f"{module}._IN_A_ROW", 5 * window)
        context.setattr(f"{module}._SKIPPED", skipped)
        context.setattr(f"{module}._PIECE", window)
        web = Web(
            headers={},
            requests_per_second=None,
            deadline=20.0,
            read_timeout=10.0,
            secrets=[],
            first_wait=0.001,
        )
        file = HttpFile(
            web,
            content_server.url + path,
            seen=Seen(),
            least_speed=0.0,
            window=30.0,
            patience=60.0,
            at_random=at_random,
        )
        for step, number in steps:
            if step == "read":
                assert file.read(number) == like.read(number)
            elif step == "peek":
                there = like.getvalue()[like.tell() : like.tell() + number]
                assert file.peek(number)[:number] == there
            elif step == "seek":
                assert file.seek(number) == like.seek(number)
            elif step == "end":
                assert file.seek(number, 2) == like.seek(number, 2)
            else:
                assert file.seek(number, 1) == like.seek(number, 1)
            assert file.tell() == like.tell()
        assert file.read() == like.read()
        file.close()
        web.close()


def test_windows_grow_as_long_as_reading_goes_on_in_a_row() -> None:
    content = random.Random(2).randbytes(24 * MIB)
    lines = ndjson(
        [
            {"id": number, "text": content[number * 1000 : number * 1000 + 1000].hex()}
            for number in range(12_000)
        ]
    )
    with serving(lines) as (server, made):
        marks = [item.cursor for item in pull(made()) if isinstance(item, Mark)]
        cursor = next(cursor for cursor in marks if cursor.get("offset", 0) > 4 * MIB)
        server.requests.clear()
        rest = taken(made(), json.loads(json.dumps(cursor)))
        assert rest[-1]["id"] == 11_999
        assert len(rest) == 12_000 - cursor["record"]
        assert len(server.requests) > 5
        assert len(server.requests) < 15
        assert {request.connection for request in server.requests[1:]} == {server.requests[1].connection}
