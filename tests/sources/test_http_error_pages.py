"""Answers with status 200 that tell of an error where data should be, and data that look a little like such.

Their forms: RFC 9457 (problem details), RFC 6749 (section 5.2), JSON:API, Spring Boot's and GitHub's errors, the
phrases of RFC 9110; sentences as OpenML, NOAA and rate limiters answer them.
"""

from __future__ import annotations

import gzip
import json
import logging
from typing import Any

import pytest
from http_sources import source
from pulling import taken

from etl.errors import SourceError, SourceUnavailable
from tests.web import Answer, Request, WebServer

SENTENCES = [
    "The database is busy. Please wait and try again.\n",
    "Rate limit exceeded, try again later",
    "Error: quota exceeded\n",
    "Service Unavailable",
    "503 Service Unavailable\n",
    "Too Many Requests",
    "API RATE LIMIT EXCEEDED",
    "Access denied",
    "No data available for the selected period.",
    "\ufeffSorry, something went wrong. Please contact support.",
    "Error: internal error\nContact: support@example.com\n",
    "The service is closed for maintenance.\nCome back on Monday.\n",
    "java.lang.OutOfMemoryError: Java heap space\n\tat a.B(B.java:1)\n\tat a.C(C.java:2)\n\tat d\n",
    "Traceback (most recent call last):\n  File x, line 1\n    y\nKeyError: 1\n",
    'Error {\n    code=404;\n    message="Not Found: Your query produced no matching results.";\n}\n',  # ERDDAP
    "error,message\n429,quota exceeded\n",
    "null",
]
OBJECTS: list[Any] = [
    {"error": "quota exceeded"},
    {"error": {"code": 429, "message": "slow down"}},
    {"errors": [{"status": "422", "title": "Invalid", "detail": "no such day"}]},
    {"message": "Too many requests", "status": 429},
    {"message": "API rate limit exceeded for 127.0.0.1", "documentation_url": "https://example.com"},
    {"type": "about:blank", "title": "Bad", "status": 400, "detail": "x", "instance": "/1"},
    {"timestamp": "2024-01-01T00:00:00Z", "status": 500, "error": "Internal Server Error", "path": "/days"},
    {"success": False, "message": "nope"},
    {"status": "error", "msg": "nope", "data": None},
    {"Error": "x", "RequestId": "1"},
    # Alpha Vantage's, Yahoo's, Salesforce's
    {"Information": "Our standard API rate limit is 25 requests per day."},
    {"Note": "Our standard API call frequency is 5 calls per minute and 500 calls per day."},
    {"chart": {"result": None, "error": {"code": "Not Found", "description": "No data found"}}},
    [{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "TotalRequests Limit exceeded."}],
    {"error": "invalid_client", "error_description": "x", "error_uri": "https://example.com"},
]
PAGES = [
    "<!DOCTYPE html><html><body>Down</body></html>",
    '<?xml version="1.0"?><Error><Code>SlowDown</Code></Error>',
]

DATA = {"csv": b"day,v\n1,2\n", "ndjson": b'{"day": 1, "v": 2}\n', "json": b'[{"day": 1, "v": 2}]'}


def serving(name: str, body: bytes, before: bytes | None, headers: dict[str, str] | None = None) -> WebServer:
    """Serve a good file, if any, and one with `body`."""

    def answer(request: Request) -> Answer:
        good = request.path.endswith(f"/1.{name}")
        return Answer(body=before if good and before is not None else body, headers=headers or {})

    return WebServer(answer)


def urls(server: WebServer, name: str, *, first: bool) -> list[str]:
    return [f"{server.url}/{number}.{name}" for number in ([2] if first else [1, 2])]


ERRORS = [
    *(("csv", sentence) for sentence in SENTENCES),
    *(("ndjson", sentence) for sentence in SENTENCES[:3]),
    *(("json", sentence) for sentence in SENTENCES[:2]),
    *((name, json.dumps(value)) for name in ("csv", "ndjson", "json") for value in OBJECTS),
    ("ndjson", json.dumps(OBJECTS[1], indent=2)),
    *((name, page) for name in ("csv", "ndjson", "json") for page in PAGES),
]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("name", "body"), ERRORS)
def test_an_error_in_place_of_data_is_one_of_its_url_and_not_done(name: str, body: str, first: bool) -> None:
    with serving(name, body.encode(), DATA[name]) as server:
        made = source(urls(server, name, first=first))
        items: list[Any] = []
        with pytest.raises(SourceUnavailable, match=rf"/2\.{name}: .*on_error_page") as raised:
            items.extend(made.pull(None))
        assert [item for item in items if isinstance(item, dict)] == ([] if first else [{"day": 1, "v": 2}])
        assert "Traceback" not in str(raised.value)
        # the next run asks again for that one
        cursor = next((item.cursor for item in reversed(items) if not isinstance(item, dict)), None)
        server.answer = lambda _: Answer(body=DATA[name])
        assert taken(made, cursor) == [{"day": 1, "v": 2}]  # type: ignore[arg-type]


@pytest.mark.parametrize("headers", [{"Content-Encoding": "gzip"}, {}])
@pytest.mark.parametrize(("name", "body"), [("csv", SENTENCES[0]), ("ndjson", json.dumps(OBJECTS[0]))])
def test_an_error_may_be_compressed(name: str, body: str, headers: dict[str, str]) -> None:
    with (
        serving(name, gzip.compress(body.encode()), None, headers) as server,
        pytest.raises(SourceUnavailable, match="in place of data, an error"),
    ):
        taken(source(urls(server, name, first=True)))


def test_a_problem_by_its_type_is_an_error_whatever_is_in_it() -> None:
    headers = {"Content-Type": "application/problem+json; charset=utf-8"}
    with (
        serving("ndjson", b'{"balance": 30}', None, headers) as server,
        pytest.raises(SourceUnavailable, match="balance"),
    ):
        taken(source(urls(server, "ndjson", first=True)))


@pytest.mark.parametrize(("name", "body"), [ERRORS[0], ERRORS[-1], ("ndjson", json.dumps(OBJECTS[0]))])
def test_a_run_may_end_before_an_error_in_order(
    name: str, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(name, body.encode(), DATA[name]) as server:
        made = source([*urls(server, name, first=False), f"{server.url}/3.{name}"], on_error_page="wait")
        with caplog.at_level(logging.INFO, "etl.sources"):
            items = list(made.pull(None))
        assert [item for item in items if isinstance(item, dict)] == [{"day": 1, "v": 2}]
        assert f"the run ends before {server.url}/2.{name}" in caplog.text
        server.answer = lambda _: Answer(body=DATA[name])
        assert taken(made, items[-1].cursor) == [{"day": 1, "v": 2}] * 2  # type: ignore[arg-type]


def test_what_is_data_all_the_same_is_read_where_the_job_says_so() -> None:
    with serving("ndjson", json.dumps(OBJECTS[0]).encode(), None) as server:
        assert taken(source(urls(server, "ndjson", first=True), on_error_page="read")) == [OBJECTS[0]]


@pytest.mark.parametrize(
    ("name", "body", "records"),
    [
        ("csv", "name\n", 0),
        ("csv", "Country Name,Country Code,Indicator Name\n", 0),
        ("csv", "Error Code,Error Message,Time of failure\n", 0),
        ("csv", "Error Code, Error Message\n", 0),
        ("csv", "Name of the station\nOslo\nBergen\n", 2),
        ("csv", "error\nDisk full.\n", 1),
        ("csv", "note\nThe database is busy. Please wait and try again.\n", 1),
        ("csv", "", 0),
        ("ndjson", "", 0),
        ("ndjson", '{"error": null, "id": 1}', 1),
        ("ndjson", '{"error": null}', 1),
        ("ndjson", '{"error": "x", "host": "a"}', 1),
        ("ndjson", '{"message": "hello", "status": 200}', 1),
        ("ndjson", '{"error": "x"}\n{"error": "y"}\n', 2),
        ("ndjson", '{"status": "ok", "message": "please cite us", "data": [1]}', 1),
        ("json", '[{"error": "x"}]', 1),
    ],
)
def test_what_looks_a_little_like_an_error_is_data(name: str, body: str, records: int) -> None:
    with serving(name, body.encode(), None) as server:
        assert len(taken(source(urls(server, name, first=True)))) == records


def test_a_header_alone_after_files_of_the_same_columns_is_data() -> None:
    with serving("csv", b"day,v\n", DATA["csv"]) as server:
        assert taken(source(urls(server, "csv", first=False))) == [{"day": 1, "v": 2}]


def test_rows_without_a_header_are_data_and_a_sentence_among_them_is_none() -> None:
    arguments: Any = {"header": ["day", "note of the day"], "types": {"day": "string"}}
    with serving("csv", b"1,no data\n", None) as server:
        assert len(taken(source(urls(server, "csv", first=True), **arguments))) == 1
        server.answer = lambda _: Answer(body=b"The database is busy. Try again.\n")
        with pytest.raises(SourceUnavailable):
            taken(source(urls(server, "csv", first=True), **arguments))


def test_the_words_of_an_error_hold_no_secret() -> None:
    with serving("csv", b"The key s3cr3t-key is invalid.\n", None) as server:
        made = source(urls(server, "csv", first=True), headers={"X-Key": "s3cr3t-key"})
        with pytest.raises(SourceError, match=r"The key \*\*\* is invalid") as raised:
            taken(made)
        assert "s3cr3t" not in str(raised.value)


def test_a_word_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="on_error_page: 'skip' is none of: fail, wait, read"):
        source("http://example.com", on_error_page="skip")


def test_the_words_of_an_error_are_shown_without_the_secret_of_the_url() -> None:
    with serving("csv", b"Error: the key abcdef123 is wrong for /2.csv?api_key=abcdef123", None) as server:
        with pytest.raises(SourceUnavailable, match=r"Error: the key \*\*\* is wrong") as raised:
            taken(source(f"{server.url}/2.csv?api_key=abcdef123"))
        assert "abcdef123" not in str(raised.value)


def test_an_answer_of_no_bytes_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with serving("csv", b"", DATA["csv"]) as server:
        assert taken(source(urls(server, "csv", first=False))) == [{"day": 1, "v": 2}]
        assert f"{server.url}/2.csv: the server says 200 and sends nothing" in caplog.text
