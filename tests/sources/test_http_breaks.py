"""A connection that breaks, at every byte: the records are the same."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import groupby, islice

import pytest
from http_sources import RECORDS, source
from pulling import ndjson, taken

from etl.errors import SourceChanged, SourceCorrupt, SourceError, SourceUnavailable
from etl.records import Mark
from tests.web import Answer, Request, WebServer, ranged

NDJSON = ndjson(RECORDS)
GZIPPED = gzip.compress(ndjson(RECORDS[:5])) + gzip.compress(ndjson(RECORDS[5:]))
DATED = "Mon, 01 Jan 2024 00:00:00 GMT"

# What a server says of the content, and whether it sends ranges: how reading goes on follows from it.
KINDS: dict[str, Callable[[Request, bytes], Answer]] = {
    "ranges, a strong ETag": lambda request, content: ranged(request, content, etag='"one"'),
    "ranges, a weak ETag and a date": lambda request, content: ranged(
        request, content, etag='W/"one"', last_modified=DATED
    ),
    "ranges, a weak ETag": lambda request, content: ranged(request, content, etag='W/"one"'),
    "ranges, nothing else": lambda request, content: ranged(request, content),
    "no ranges, an ETag": lambda _, content: Answer(headers={"ETag": '"one"'}, body=content),
    "no ranges, nothing else": lambda _, content: Answer(body=content),
    "no ranges, chunks": lambda _, content: Answer(body=content, chunked=True),
}


@pytest.mark.parametrize("content", [NDJSON, GZIPPED], ids=["plain", "gzip"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_connection_cut_at_any_byte_costs_no_record_and_doubles_none(kind: str, content: bytes) -> None:
    cut_after = 0

    def answer(request: Request) -> Answer:
        made = KINDS[kind](request, content)
        return replace(made, cut_after=cut_after) if request.query["first"] == str(request.number) else made

    with WebServer(answer) as server:
        for cut_after in range(len(content)):
            number = len(server.requests)
            assert taken(source(f"{server.url}/data?first={number}")) == RECORDS, cut_after
            assert len(server.requests) == number + 2


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_each_connection_may_break_after_one_more_byte(how: str) -> None:
    def answer(request: Request) -> Answer:
        return replace(ranged(request, NDJSON, etag='"one"'), cut_after=1, reset=how == "reset")

    with WebServer(answer) as server:
        assert taken(source(server.url)) == RECORDS


def test_a_stalled_connection_is_made_again_at_its_byte() -> None:
    def answer(request: Request) -> Answer:
        made = ranged(request, NDJSON, etag='"one"')
        return replace(made, stall_after=80) if request.headers.get("range") in (None, "bytes=80-") else made

    with WebServer(answer) as server:
        assert taken(source(server.url, read_timeout=0.05)) == RECORDS
        # An answer that is late, on a busy machine, is asked for once more in the same words.
        asked = [
            words
            for words, _ in groupby(
                (request.headers.get("range"), request.headers.get("if-range")) for request in server.requests
            )
        ]
        assert asked == [(None, None), ("bytes=80-", '"one"'), ("bytes=160-", '"one"')]


def test_a_server_that_hangs_before_it_answers_is_asked_again() -> None:
    def answer(request: Request) -> Answer:
        if request.number == 0:
            server.pause(60.0)
        return Answer(body=NDJSON)

    with WebServer(answer) as server:
        assert taken(source(server.url, read_timeout=0.05)) == RECORDS
        assert len(server.requests) >= 2  # more where the second answer is late, too


def test_a_server_that_stalls_at_the_same_byte_for_ever_is_a_named_error() -> None:
    with (
        WebServer(lambda _: Answer(body=NDJSON, stall_after=100)) as server,
        pytest.raises(SourceUnavailable, match="it was tried for 0 s"),
    ):
        taken(source(server.url, read_timeout=0.05, deadline=0.3))


def test_a_server_that_trickles_is_left_for_another_connection() -> None:
    with WebServer(
        lambda request: trickle(request, server) if request.number < 2 else whole(request)
    ) as server:
        made = source(server.url, least_speed=1000.0)
        made._opening.speed_seconds = 0.1
        assert taken(made) == RECORDS
        assert len(server.requests) >= 3
        begins = [int(request.headers["range"][6:-1]) for request in server.requests[1:]]
        assert 0 < begins[0] < begins[1] < len(NDJSON)


def test_a_server_that_always_trickles_is_a_named_error() -> None:
    with WebServer(lambda request: trickle(request, server)) as server:
        made = source(server.url, least_speed=1000.0, deadline=0.3)
        made._opening.speed_seconds = 0.1
        with pytest.raises(SourceUnavailable, match="bytes a second, less than `least_speed`"):
            taken(made)


def whole(request: Request) -> Answer:
    return ranged(request, NDJSON, etag='"one"')


def trickle(request: Request, server: WebServer) -> Answer:
    made = whole(request)
    assert isinstance(made.body, bytes)
    body = made.body

    def pieces():  # type: ignore[no-untyped-def]
        for byte in body:
            server.pause(0.01)
            yield bytes([byte])

    return replace(made, headers={**made.headers, "Content-Length": str(len(body))}, body=pieces())


@pytest.mark.parametrize("content", [NDJSON, GZIPPED], ids=["plain", "gzip"])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_content_length_that_is_too_long_is_a_named_error(content: bytes, ranges: bool) -> None:
    def answer(request: Request) -> Answer:
        made = ranged(request, content, etag='"one"') if ranges else Answer(body=content)
        if made.status == 200:
            made = replace(made, headers={**made.headers, "Content-Length": str(len(content) + 7)})
        return made

    with WebServer(answer) as server, pytest.raises(SourceCorrupt) as caught:
        # With ranges one more request tells: that must not come too late.
        taken(source(server.url, deadline=20.0 if ranges else 0.2))
    assert ("with the same ETag" if ranges else "7 more expected") in str(caught.value)


@pytest.mark.parametrize("content", [NDJSON, GZIPPED], ids=["plain", "gzip"])
def test_a_content_length_that_is_too_short_is_a_named_error_at_any_byte(content: bytes) -> None:
    def answer(request: Request) -> Answer:
        return Answer(headers={"Content-Length": request.query["length"]}, body=content)

    with WebServer(answer) as server:
        for length in range(1, len(content) - 1):  # a last line end alone is not looked for
            with pytest.raises(SourceError, match="sends more than its Content-Length"):
                taken(source(f"{server.url}?length={length}"))


def test_a_changed_etag_is_no_mixture_at_any_byte() -> None:
    other = NDJSON.replace(b"name", b"game")
    cut_after = 0

    def answer(request: Request) -> Answer:
        if request.query["first"] == str(request.number):
            return replace(ranged(request, NDJSON, etag='"one"'), cut_after=cut_after)
        return ranged(request, other, etag='"other"')

    with WebServer(answer) as server:
        for cut_after in range(len(NDJSON)):
            made = source(f"{server.url}/data?first={len(server.requests)}")
            if cut_after <= NDJSON.index(b"name"):  # what was read is the same in both
                assert len(taken(made)) == len(RECORDS)
            else:
                with pytest.raises(
                    SourceChanged, match=r'its ETag was "one" and is "other", and the .* bytes'
                ):
                    taken(made)


@pytest.mark.parametrize("content", [NDJSON, GZIPPED], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    "said",
    [
        lambda number: {"etag": f'"{number % 2}"'},
        lambda number: {"etag": f'W/"{number % 3}"'},
        lambda number: {"last_modified": f"Mon, 01 Jan 2024 00:00:0{number % 2} GMT"},
    ],
)
@pytest.mark.parametrize("ranges", [True, False])
def test_servers_behind_one_name_may_have_tags_of_their_own_for_the_same_bytes(
    content: bytes, said: Callable[[int], dict[str, str]], ranges: bool
) -> None:
    """As behind a load balancer, where an ETag holds an inode (Apache httpd, FileETag) or dates are those of copies."""

    def answer(request: Request) -> Answer:
        asked = request if ranges else replace(request, headers={})
        made = ranged(asked, content, **said(request.number))  # type: ignore[arg-type]
        at = request.headers.get("range", "bytes=0-")[6:-1]
        cut_after = 300 - (int(at) if made.status == 206 else 0)
        return replace(made, cut_after=cut_after) if request.number < 2 and cut_after > 0 else made

    with WebServer(answer) as server:
        assert taken(source(server.url)) == RECORDS


LATER = "Tue, 02 Jan 2024 00:00:00 GMT"


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ({"last_modified": DATED}, {"last_modified": LATER}, "it was last modified"),
        ({"etag": 'W/"1"'}, {"etag": 'W/"2"'}, "its ETag was"),
        ({"etag": 'W/"1"', "last_modified": DATED}, {"etag": 'W/"1"', "last_modified": LATER}, "modified"),
        ({}, {}, "are others, read again"),
        ({"etag": 'W/"1"'}, {"etag": 'W/"1"'}, "are others, read again"),
        ({"headers": {"Content-Encoding": "gzip"}}, {}, "Content-Encoding"),
    ],
)
@pytest.mark.parametrize("ranges", [True, False])
def test_a_changed_content_of_the_same_length_is_no_mixture(
    before: dict[str, str], after: dict[str, str], why: str, ranges: bool
) -> None:
    other = NDJSON.replace(b"name", b"game")

    def answer(request: Request) -> Answer:
        if request.number == 0:
            return replace(ranged(request, NDJSON, **before), cut_after=100)
        asked = request if ranges else replace(request, headers={})
        return ranged(asked, other, **after)

    with WebServer(answer) as server, pytest.raises(SourceChanged, match=why):
        taken(source(server.url))


def test_a_changed_length_is_no_mixture() -> None:
    def answer(request: Request) -> Answer:
        if request.number == 0:
            return replace(ranged(request, NDJSON), cut_after=100)
        return ranged(request, NDJSON * 2)

    with WebServer(answer) as server, pytest.raises(SourceChanged, match=r"it had \d+ bytes and has \d+"):
        taken(source(server.url))


def test_a_content_that_became_shorter_than_what_was_read_is_a_named_error() -> None:
    def answer(request: Request) -> Answer:
        body = NDJSON if request.number == 0 else NDJSON[:50]
        return Answer(body=body, chunked=True, cut_after=100 if request.number == 0 else None)

    with WebServer(answer) as server, pytest.raises(SourceChanged, match="shorter than the 100 bytes"):
        taken(source(server.url))


def test_a_weak_etag_is_never_asked_with() -> None:
    def answer(request: Request) -> Answer:
        made = ranged(request, NDJSON, etag='W/"one"')
        return replace(made, cut_after=100) if request.number == 0 else made

    with WebServer(answer) as server:
        assert taken(source(server.url)) == RECORDS
        assert [request.headers.get("if-range") for request in server.requests] == [None, None]
        assert "range" not in server.requests[1].headers  # it is read again, and compared


def test_a_date_as_young_as_the_answer_is_not_trusted() -> None:
    now = "Mon, 01 Jan 2024 12:00:00 GMT"

    def answer(request: Request) -> Answer:
        made = ranged(request, NDJSON, last_modified=now, headers={"Date": now})
        return replace(made, cut_after=100) if request.number == 0 else made

    with WebServer(answer) as server:
        assert taken(source(server.url)) == RECORDS
        assert "range" not in server.requests[1].headers


def test_a_server_may_answer_with_less_of_a_range_than_was_asked_for() -> None:
    def answer(request: Request) -> Answer:
        if request.number == 0:
            return replace(ranged(request, NDJSON, etag='"one"'), cut_after=10)
        begin = int(request.headers["range"][6:-1])
        asked = replace(request, headers={"range": f"bytes={begin}-{begin + 30}"})
        return ranged(asked, NDJSON, etag='"one"')

    with WebServer(answer) as server:
        assert taken(source(server.url)) == RECORDS


@pytest.mark.parametrize("said", ["bytes 0-99/{}", "bytes 101-{1}/{0}", "items 100-/{}", "", "bytes */*"])
def test_a_range_that_was_not_asked_for_is_a_named_error(said: str) -> None:
    def answer(request: Request) -> Answer:
        if request.number == 0:
            return replace(ranged(request, NDJSON, etag='"one"'), cut_after=100)
        headers = {"ETag": '"one"', "Content-Range": said.format(len(NDJSON), len(NDJSON) - 1)}
        return Answer(status=206, headers=headers, body=NDJSON[100:])

    with WebServer(answer) as server, pytest.raises(SourceCorrupt, match="asked for bytes 100 and on"):
        taken(source(server.url))


def test_an_answer_of_206_that_nobody_asked_for_is_a_named_error() -> None:
    headers = {"Content-Range": f"bytes 5-{len(NDJSON) - 1}/{len(NDJSON)}"}
    with (
        WebServer(lambda _: Answer(status=206, headers=headers, body=NDJSON[5:])) as server,
        pytest.raises(SourceCorrupt, match="asked for all of it"),
    ):
        taken(source(server.url))


@pytest.mark.parametrize("status", [412, 416])
def test_a_condition_that_fails_is_a_changed_source(status: int) -> None:
    def answer(request: Request) -> Answer:
        if request.number == 0:
            return replace(ranged(request, NDJSON, etag='"one"'), cut_after=100)
        return Answer(status=status)

    with WebServer(answer) as server, pytest.raises(SourceChanged, match=str(status)):
        taken(source(server.url))


def test_a_body_that_breaks_behind_its_last_byte_is_whole() -> None:
    def answer(request: Request) -> Answer:
        if request.number == 0:
            return replace(ranged(request, NDJSON, etag='"one"'), chunked=True, cut_after=len(NDJSON))
        return ranged(request, NDJSON, etag='"one"')

    with WebServer(answer) as server:
        assert taken(source(server.url)) == RECORDS
        assert server.requests[1].headers["range"] == f"bytes={len(NDJSON)}-"  # answered with 416


def test_a_body_that_ends_with_its_connection_is_taken_as_it_is() -> None:
    with WebServer(lambda _: Answer(body=NDJSON, until_close=True)) as server:
        assert taken(source(server.url)) == RECORDS


def test_records_of_a_slow_gzip_come_as_its_bytes_do() -> None:
    lines = b"".join(
        b'{"n": %d, "noise": "%s"}\n' % (n, random.randbytes(50).hex().encode()) for n in range(4000)
    )
    content = gzip.compress(lines)
    assert len(content) > 200_000
    with WebServer(lambda r: replace(ranged(r, content), stall_after=150_000)) as server:
        with closing(source(server.url, read_timeout=5.0).pull(None)) as items:
            taken = list(islice((item["n"] for item in items if not isinstance(item, Mark)), 1000))
        assert taken == list(range(1000))
        assert len(server.requests) == 1
