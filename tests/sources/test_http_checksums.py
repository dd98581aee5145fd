"""Checksums that come with a content, or lie beside it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Callable
from typing import Any

import google_crc32c
import pytest
from http_sources import RECORDS, source
from pulling import compress, ndjson, pull, taken

from etl.errors import SourceCorrupt, SourceError, SourceMissing
from etl.records import Mark
from tests.web import Answer, Request, WebServer, ranged

NDJSON = ndjson(RECORDS)
GZIPPED = gzip.compress(NDJSON)


def told(name: str, content: bytes) -> dict[str, str]:
    md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
    crc32c = base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()
    return {
        "md5": {"Content-MD5": md5},
        "goog md5": {"x-goog-hash": f"md5={md5}"},
        "goog crc32c": {"x-goog-hash": f"crc32c={crc32c}"},
        "goog both": {"x-goog-hash": f"crc32c={crc32c}, md5={md5}"},
    }[name]


NAMES = ["md5", "goog md5", "goog crc32c", "goog both"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", [NDJSON, GZIPPED], ids=["plain", "gzip"])
@pytest.mark.parametrize("cut_after", [None, 0, 50])
def test_a_right_checksum_is_no_error(name: str, content: bytes, cut_after: int | None) -> None:
    def answer(request: Request) -> Answer:
        made = ranged(request, content, etag='"one"', headers=told(name, content))
        return Answer(headers=made.headers, body=content, cut_after=cut_after) if not request.number else made

    with WebServer(answer) as server:
        assert taken(source(server.url)) == RECORDS


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", [NDJSON, GZIPPED], ids=["plain", "gzip"])
def test_a_wrong_checksum_is_a_named_error_before_the_url_counts_as_done(name: str, content: bytes) -> None:
    answer = Answer(headers=told(name, content + b"?"), body=content)
    items: list[Any] = []
    with WebServer(lambda _: answer) as server, pytest.raises(SourceCorrupt, match="has the checksum"):
        items.extend(iter(source(server.url).pull(None)))
    assert not any(isinstance(item, Mark) and item.cursor.get("done") for item in items)


def test_a_checksum_of_what_is_stored_is_not_that_of_what_is_decompressed_on_its_way() -> None:
    headers = {**told("goog both", GZIPPED), "x-goog-stored-content-encoding": "gzip"}
    with WebServer(lambda _: Answer(headers=headers, body=NDJSON)) as server:
        assert taken(source(server.url)) == RECORDS


@pytest.mark.parametrize("said", ["", "?", "md5=", "crc32c=AAAA", "sha9=AAAAAA=="])
def test_a_checksum_that_is_none_is_not_compared(said: str) -> None:
    headers = {"x-goog-hash": said, "Content-MD5": said}
    with WebServer(lambda _: Answer(headers=headers, body=NDJSON)) as server:
        assert taken(source(server.url)) == RECORDS


DIGEST = hashlib.sha256(NDJSON).hexdigest()


def with_sum(said: str | None, content: bytes = NDJSON) -> WebServer:
    return WebServer(beside(said, content))


def beside(said: str | None, content: bytes = NDJSON) -> Callable[[Request], Answer]:
    def answer(request: Request) -> Answer:
        if request.path.endswith(".sha256"):
            return Answer(status=404) if said is None else Answer(body=said.encode())
        return ranged(request, content, etag='"one"')

    return answer


@pytest.mark.parametrize(
    "said",
    [
        DIGEST,
        f"{DIGEST}  data.ndjson\n",
        f"{DIGEST} *data.ndjson\r\n",
        f"{'0' * 64}  other.ndjson\n{DIGEST}  ./somewhere/data.ndjson\n",
        f"SHA256 (data.ndjson) = {DIGEST}\n",
        f"{DIGEST.upper()}  -\n",
    ],
)
def test_a_sha256_beside_is_compared_when_the_job_names_it(said: str) -> None:
    with with_sum(said) as server:
        assert taken(source(server.url + "/data.ndjson?x=1", checksum="sha256")) == RECORDS
        assert [request.path for request in server.requests] == ["/data.ndjson.sha256", "/data.ndjson"]


def test_a_wrong_sha256_is_a_named_error() -> None:
    with (
        with_sum("0" * 64) as server,
        pytest.raises(SourceCorrupt, match=r"the \.sha256 file beside says 000"),
    ):
        taken(source(server.url + "/data.ndjson", checksum="sha256"))


@pytest.mark.parametrize("said", ["", "no checksum at all", f"{DIGEST}  a\n{DIGEST}  b\n"])
def test_a_sha256_file_without_it_is_a_named_error(said: str) -> None:
    with (
        with_sum(said) as server,
        pytest.raises(SourceError, match=r"no SHA-256 of data\.ndjson stands there"),
    ):
        taken(source(server.url + "/data.ndjson", checksum="sha256"))


def test_a_sha256_file_that_is_not_there_is_missing() -> None:
    with with_sum(None) as server:
        url = server.url + "/data.ndjson"
        with pytest.raises(SourceMissing, match=r"data\.ndjson\.sha256"):
            taken(source(url, checksum="sha256"))
        with pytest.raises(SourceError, match="the file itself is there"):
            taken(source(url, checksum="sha256", on_missing="skip"))
        assert pull(source(url, checksum="sha256", on_missing="wait")) == []


def test_a_file_and_its_sha256_that_are_both_missing_are_skipped() -> None:
    with WebServer(lambda _: Answer(status=404)) as server:
        assert taken(source(server.url + "/x", checksum="sha256", on_missing="skip")) == []


def test_a_sha256_is_compared_in_a_run_that_begins_in_the_middle() -> None:
    with with_sum(DIGEST) as server:
        made = source(server.url + "/data.ndjson", checksum="sha256")
        made._content._block_bytes = 60
        marks = [item.cursor for item in pull(made) if isinstance(item, Mark) and not item.cursor.get("done")]
        for cursor in marks:
            taken(made, json.loads(json.dumps(cursor)))
        server.answer = beside("0" * 64)
        for cursor in marks:
            with pytest.raises(SourceCorrupt):
                taken(made, cursor)


def test_a_sha256_of_what_is_not_read_front_to_back_is_refused() -> None:
    with pytest.raises(ValueError, match="front to back"):
        source("http://127.0.0.1/", checksum="sha256", format="parquet")
    packed = compress(NDJSON, "zip")
    with (
        with_sum(hashlib.sha256(packed).hexdigest(), packed) as server,
        pytest.raises(SourceError, match="only when it is read front to back"),
    ):
        taken(source(server.url + "/data.zip", checksum="sha256"))
