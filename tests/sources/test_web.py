"""Whole answers, as the sources of pages ask for them."""

from __future__ import annotations

import gzip
from dataclasses import replace
from typing import Any

import pytest

from etl.errors import SourceCorrupt, SourceError, SourceUnavailable
from etl.sources.web import Answer as WebAnswer
from etl.sources.web import Trouble, Web
from tests.web import Answer, WebServer

BODY = b'{"rows": [1, 2, 3]}' * 5
GZIPPED = {"Content-Encoding": "gzip"}


def web(**arguments: Any) -> Web:
    options = {
        "headers": {},
        "requests_per_second": None,
        "deadline": 20.0,
        "read_timeout": 10.0,
        "secrets": [],
    }
    return Web(**{**options, "first_wait": 0.001, **arguments})


def test_a_whole_answer_has_its_url_status_and_headers() -> None:
    def answer(request: Any) -> Answer:
        if request.path == "/":
            return Answer(status=302, headers={"Location": "/there?a=b"})
        return Answer(headers={"X-Next": "2"}, body=BODY)

    with WebServer(answer) as server:
        got = web().fetch(server.url + "/", params={"q": "ö x"}, headers={"Accept": "application/json"})
        assert got.url == server.url + "/there?a=b"
        assert (got.status, got.headers["x-next"], got.body) == (200, "2", BODY)
        assert server.requests[0].query == {"q": "ö x"}
        assert server.requests[0].headers["accept"] == "application/json"
        assert server.requests[1].query == {"a": "b"}


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_a_body_cut_at_any_byte_is_asked_for_again(chunked: bool, packed: bool) -> None:
    body = gzip.compress(BODY[:40]) + gzip.compress(BODY[40:]) if packed else BODY
    whole = Answer(headers=GZIPPED if packed else {}, body=body, chunked=chunked)
    for cut_after in range(len(body)):
        cut = replace(whole, cut_after=cut_after)
        with WebServer(lambda request, cut=cut: whole if request.number else cut) as server:
            asking = web()
            assert asking.fetch(server.url).body == BODY
            asking.close()
            assert len(server.requests) == 2


def test_gzip_that_ends_too_early_is_asked_for_again() -> None:
    body = gzip.compress(BODY)
    cut = Answer(headers=GZIPPED, body=body[:-4], until_close=True)
    with WebServer(lambda r: Answer(headers=GZIPPED, body=body) if r.number else cut) as server:
        assert web().fetch(server.url).body == BODY


def test_what_the_caller_finds_wrong_is_asked_for_again() -> None:
    def check(answer: WebAnswer) -> None:
        if not answer.body.endswith(b"}"):
            raise Trouble("it is no whole JSON")

    cut = Answer(body=BODY[:-1], until_close=True)
    with WebServer(lambda r: Answer(body=BODY) if r.number else cut) as server:
        assert web().fetch(server.url, check=check).body == BODY
    with WebServer(lambda _: cut) as server, pytest.raises(SourceUnavailable, match="it is no whole JSON"):
        web(deadline=2.0).fetch(server.url, check=check)  # a body that takes longer to come is another error


def test_a_body_that_is_always_short_is_a_named_error() -> None:
    short = Answer(headers={"Content-Length": "1000"}, body=BODY)
    with WebServer(lambda _: short) as server, pytest.raises(SourceCorrupt, match="more expected"):
        web(deadline=1.0).fetch(server.url)


@pytest.mark.parametrize("headers", [{}, GZIPPED])
def test_an_answer_that_is_too_large_is_a_named_error(headers: dict[str, str]) -> None:
    body = gzip.compress(bytes(10_000_000)) if headers else BODY
    with WebServer(lambda _: Answer(headers=headers, body=body)) as server:
        limit = 50 if not headers else len(body) + 1
        with pytest.raises(SourceError, match=f"larger than {limit} bytes"):
            web().fetch(server.url, limit=limit)
        assert web().fetch(server.url, limit=len(BODY) if not headers else 10_000_000).body


def test_a_body_as_large_as_the_limit_is_none_too_large() -> None:
    with WebServer(lambda _: Answer(body=BODY)) as server:
        assert web().fetch(server.url, limit=len(BODY)).body == BODY


def test_an_empty_answer_is_one() -> None:
    with WebServer(lambda r: Answer(status=204) if r.number else Answer(headers=GZIPPED)) as server:
        asking = web()
        assert asking.fetch(server.url).body == b""
        assert asking.fetch(server.url).status == 204


def test_a_coding_that_was_not_asked_for_is_a_named_error() -> None:
    with (
        WebServer(lambda _: Answer(headers={"Content-Encoding": "br"}, body=b"?")) as server,
        pytest.raises(SourceError, match="'br', which was not asked for"),
    ):
        web().fetch(server.url)


def test_a_secret_in_a_parameter_is_in_no_message() -> None:
    secret = "a b/c+d&e"
    said = Answer(
        status=400, headers={"Content-Type": "application/json"}, body=f'{{"key": "{secret}"}}'.encode()
    )
    with (
        WebServer(lambda _: said) as server,
        pytest.raises(SourceError, match="the server said 400") as caught,
    ):
        web(secrets=[secret]).fetch(f"{server.url}/a%20b%2Fc%2Bd%26e/x", params={"q": secret})
    assert secret not in str(caught.value)
    assert "/***/x" in str(caught.value)


def test_an_open_answer_is_read_as_it_comes() -> None:
    with WebServer(
        lambda r: Answer(body=iter([b"one", b"two"])) if r.number else Answer(status=503)
    ) as server:
        asking = web()
        got = asking.open(server.url)
        parts = []
        while piece := got.read(100):
            parts.append(piece)
        got.close()
        asking.close()
    assert b"".join(parts) == b"onetwo"
