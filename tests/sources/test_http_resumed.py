"""A pull from any mark gives the rest, of each format; unless the content is another one by then."""

from __future__ import annotations

import http.server
import io
import json
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from http_sources import RECORDS, serving, source
from pulling import assert_resumes_everywhere, compress, ndjson, pull, small_blocks, taken

from etl.errors import SourceChanged, SourceError, SourceMissing
from etl.records import Mark
from tests.web import Answer, Request, WebServer, ranged

CSV = "id,name\n" + "".join(f'{number},"a ""b"" \n{number}"\n' for number in range(30))
MANY = [{"id": number, "name": f"name {number}"} for number in range(40)]


def parquet() -> bytes:
    made = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(MANY), made, row_group_size=7)
    return made.getvalue()


CONTENTS: dict[str, bytes] = {
    "/a.ndjson": ndjson(MANY),
    "/a.ndjson.gz": compress(ndjson(MANY), "gzip"),
    "/a.ndjson.zst": compress(ndjson(MANY), "zstd"),
    "/a.zip": compress(ndjson(MANY), "zip", "a.ndjson"),
    "/a.csv": CSV.encode(),
    "/a.csv.gz": compress(CSV.encode(), "gzip"),
    "/a.json": json.dumps(MANY).encode(),
    "/a.json.gz": compress(json.dumps(MANY).encode(), "gzip"),
    "/a.parquet": parquet(),
}


def by_ranges(content: bytes) -> Callable[[Request], Answer]:
    return lambda request: ranged(request, content, etag='"one"')


@pytest.mark.parametrize("name", CONTENTS)
def test_each_format_resumes_everywhere(name: str) -> None:
    with serving(CONTENTS[name], name) as (_, made):
        assert_resumes_everywhere(small_blocks(made(), 100))


@pytest.mark.parametrize("name", [name for name in CONTENTS if not name.endswith(("zip", "parquet"))])
@pytest.mark.parametrize("said", [{}, {"ETag": '"one"'}, {"ETag": 'W/"one"'}])
def test_each_format_resumes_everywhere_without_ranges(name: str, said: dict[str, str]) -> None:
    with WebServer(lambda _: Answer(headers=said, body=CONTENTS[name])) as server:
        assert_resumes_everywhere(small_blocks(source(server.url + name), 100))


@pytest.mark.parametrize("name", CONTENTS)
def test_each_format_resumes_everywhere_over_connections_that_break(name: str) -> None:
    def answer(request: Request) -> Answer:
        made = ranged(request, CONTENTS[name], etag='"one"')
        return Answer(status=made.status, headers=made.headers, body=made.body, cut_after=97)

    with WebServer(answer) as server:
        assert_resumes_everywhere(small_blocks(source(server.url + name), 100))


def test_the_same_etag_counts_more_than_the_date() -> None:
    with WebServer(
        lambda r: ranged(r, ndjson(MANY), etag='"1"', last_modified="Mon, 01 Jan 2024 00:00:00 GMT")
    ) as server:
        made = small_blocks(source(server.url), 100)
        items = pull(made)
        index = next(
            i for i, item in enumerate(items) if isinstance(item, Mark) and item.cursor.get("record")
        )
        server.answer = lambda r: ranged(
            r, ndjson(MANY), etag='"1"', last_modified="Tue, 02 Jan 2024 00:00:00 GMT"
        )
        assert taken(made, items[index].cursor) == [i for i in items[index:] if not isinstance(i, Mark)]


@pytest.mark.parametrize("mode", ["fail", "skip", "wait"])
def test_a_content_that_is_gone_since_is_missing_whatever_the_mode(mode: Any) -> None:
    with serving(ndjson(MANY)) as (server, made):
        cursors = [item.cursor for item in pull(made()) if isinstance(item, Mark)]
        server.answer = lambda _: Answer(status=404)
        # at its beginning too: records may have been taken after that mark
        with pytest.raises(SourceMissing):
            taken(made(on_missing=mode), cursors[0])


def test_a_cursor_of_a_url_that_is_not_named_any_more_is_a_named_error() -> None:
    with serving(ndjson(MANY)) as (server, made):
        cursors = [item.cursor for item in pull(made()) if isinstance(item, Mark)]
        for cursor in (cursors[0], cursors[-1]):
            with pytest.raises(SourceChanged, match="do not stand for any more"):
                taken(source(server.url + "/other"), cursor)


def test_a_url_that_is_signed_anew_is_the_same_one() -> None:
    signed = (
        "/a?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date={0}T0000Z&X-Amz-Expires=60&X-Amz-Signature={0}{0}"
    )
    with serving(ndjson(MANY), "/a") as (server, _):
        before, after = (source(server.url + signed.format(day)) for day in ("20240101", "20240102"))
        items = pull(small_blocks(before, 100))
        cursor = items[-2].cursor if isinstance(items[-2], Mark) else items[-3].cursor
        assert taken(after, cursor) == []
        assert after.fingerprint() == before.fingerprint()


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass


def test_the_web_server_of_python_serves_it_too(tmp_path: Path) -> None:
    for name, content in CONTENTS.items():
        (tmp_path / name[1:]).write_bytes(content)
    handler = partial(Silent, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:  # HTTP/1.0, dates, no ranges
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            for name in CONTENTS:
                made = source(f"http://127.0.0.1:{server.server_address[1]}{name}")
                assert_resumes_everywhere(small_blocks(made, 100))
        finally:
            server.shutdown()
            thread.join()


def test_what_a_server_compresses_unasked_is_decompressed() -> None:
    packed = compress(ndjson(RECORDS), "gzip")
    with WebServer(lambda _: Answer(headers={"Content-Encoding": "gzip"}, body=packed)) as server:
        assert taken(source(server.url + "/data.ndjson")) == RECORDS
        assert_resumes_everywhere(small_blocks(source(server.url + "/data.ndjson"), 40))


def test_a_coding_that_was_not_asked_for_and_is_not_read_is_a_named_error() -> None:
    with (
        WebServer(lambda _: Answer(headers={"Content-Encoding": "br"}, body=b"?")) as server,
        pytest.raises(SourceError, match="Content-Encoding 'br'"),
    ):
        taken(source(server.url))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (compress(ndjson(RECORDS), "gzip")[:-9], "cut short"),
        (compress(ndjson(RECORDS), "zip")[:-9], "zip"),
        (json.dumps(RECORDS).encode()[:-1], "cut short"),
        (b"BZh91AY", "bzip2"),
    ],
)
def test_a_damaged_content_is_a_named_error_with_its_url(content: bytes, why: str) -> None:
    with serving(content, "/data") as (server, made), pytest.raises(SourceError, match=why) as caught:
        taken(made())
    assert server.url in str(caught.value)


def test_progress_is_the_share_of_the_urls() -> None:
    with WebServer(lambda request: ranged(request, ndjson(RECORDS))) as server:
        made = source(server.url + "/{1..4}")
        assert made.progress() is None
        shares = [made.progress() for _ in made.pull(None)]
        assert shares == sorted(shares)  # type: ignore[type-var]  # none of them is None
        assert made.progress() == 1.0
        items = [item for item in made.pull(None) if isinstance(item, Mark) and item.cursor.get("done")]
        first = next(iter(made.pull(items[1].cursor)))
        assert isinstance(first, Mark)
        assert made.progress() == pytest.approx(0.5, abs=0.3)
