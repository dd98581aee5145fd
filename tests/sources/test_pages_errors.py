"""Errors that an API answers with status 200: named with what it said, or waited for; and pages that are none."""

from __future__ import annotations

import re
from typing import Any

import pytest
from paged_api import Api, rows_of, said
from pulling import taken

from etl.errors import SourceError, SourceUnavailable
from etl.sources import Pages
from tests.web import Answer, Request

SECRET = "s3cret-key-0123"


def source(api: Api, **arguments: Any) -> Pages:
    pages = Pages(
        f"{api.url}/rows",
        **{
            "style": "offset",
            "records": "data.rows",
            "page_size": 10,
            "deadline": 30,
            "secrets": {"k": SECRET},
            **arguments,
        },
    )
    pages._first_wait = 0.001
    return pages


@pytest.mark.parametrize(
    ("beside", "words"),
    [
        ({"error": "rate limit exceeded"}, "error: rate limit exceeded"),
        ({"error": {"code": 17, "message": "no quota left"}}, "error: no quota left"),
        ({"errors": [{"message": "one"}, "two"]}, "errors: one; two"),
        ({"message": "API rate limit exceeded"}, "message: API rate limit exceeded"),
        ({"success": False}, "success: false"),
        ({"error": True, "message": "no results"}, "message: no results"),
        ({"status": "error", "message": "no results"}, "message: no results"),
        ({"code": 429}, "code: 429"),
        ({"data": {"rows": [], "error": "below"}}, r"data\.error: below"),
        ({"data": {"rows": None, "error": "broken"}}, r"data\.error: broken"),
        ({"error": f"no key {SECRET}"}, r"error: no key \*\*\*"),
    ],
)
def test_an_error_beside_a_page_without_rows_is_no_end(beside: dict[str, Any], words: str) -> None:
    with Api([]) as api:
        api.faults = lambda request: said(
            {"data": {"rows": rows_of(10)}}
            if request.query["offset"] == "0"
            else {"data": {"rows": []}, **beside}
        )
        with pytest.raises(SourceError, match=rf"offset 10.*{words}.*error_path") as raised:
            taken(source(api))
        assert SECRET not in str(raised.value)
        assert taken(source(api, error_path=[])) == rows_of(10)


@pytest.mark.parametrize(
    "beside",
    [
        {"error": None, "errors": [], "message": "OK", "success": True, "status": "ok", "code": 200},
        {"error": False, "message": "No more records", "status": "success", "ok": True},
        {"error": "", "msg": "Data fetched successfully", "code": 0, "status": 0},
        {"message": "no results found", "status": "200"},
    ],
)
def test_what_is_said_when_all_is_well_is_no_error(beside: dict[str, Any]) -> None:
    with Api([]) as api:
        api.faults = lambda _request: said({"data": {"rows": []}, **beside})
        assert taken(source(api)) == []


@pytest.mark.parametrize(
    ("path", "beside", "words"),
    [
        # Overpass API: "evaluate the remark", as its status is sent before the query has ended
        ("remark", {"remark": "runtime error: Query timed out"}, "remark: runtime error: Query timed out"),
        (["timed_out", "_shards.failures"], {"timed_out": True}, "timed_out: true"),
        (
            ["timed_out", "_shards.failures"],
            {"_shards": {"failures": [{"reason": "x"}]}},
            "_shards.failures: ",
        ),
    ],
)
def test_what_stands_at_error_path_is_an_error_though_there_are_rows(
    path: Any, beside: Any, words: str
) -> None:
    with Api([]) as api:
        api.faults = lambda _request: said({"data": {"rows": rows_of(7)}, **beside})
        with pytest.raises(SourceError, match=words):
            taken(source(api, error_path=path))


def test_nothing_at_error_path_is_no_error() -> None:
    with Api(rows_of(25)) as api:
        for nothing in (
            {},
            {"remark": None},
            {"remark": ""},
            {"remark": []},
            {"remark": False},
            {"remark": 0},
        ):
            api.faults = (
                lambda request, nothing=nothing: said(  # type: ignore[misc]  # a default of a lambda
                    {"data": {"rows": rows_of(25)[int(request.query["offset"]) :][:10]}, **nothing}
                )
            )
            assert taken(source(api, error_path="remark")) == rows_of(25)


PASSING = [
    said({"data": {"rows": rows_of(2)}, "remark": "rate_limited"}),
    said({"data": {"rows": []}, "error": "try again later"}),
    said({"error": "busy"}),
    Answer(headers={"Content-Type": "text/html"}, body=b"<html>Be back soon</html>"),
]


@pytest.mark.parametrize("answer", PASSING, ids=["error_path", "beside", "in place", "HTML"])
def test_an_error_that_passes_can_be_waited_for(answer: Answer) -> None:
    with Api(rows_of(25)) as api:

        def fault(request: Request) -> Answer:
            begin = int(request.query["offset"])
            return answer if request.number % 2 else said({"data": {"rows": rows_of(25)[begin : begin + 10]}})

        api.faults = fault
        assert taken(source(api, error_path="remark", on_error_page="wait")) == rows_of(25)
        with pytest.raises(SourceError) as raised:
            taken(source(api, error_path="remark"))
        assert not isinstance(raised.value, SourceUnavailable)


@pytest.mark.parametrize("answer", PASSING[::3], ids=["error_path", "HTML"])
def test_one_that_does_not_pass_is_named_at_the_deadline(answer: Answer) -> None:
    with Api([]) as api:
        api.faults = lambda _request: answer
        with pytest.raises(SourceUnavailable, match=r"offset 0.*(rate_limited|Be back soon).*tried for"):
            taken(source(api, error_path="remark", on_error_page="wait", deadline=1))


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        ({"records": None}, b'[{"error": "rate limit"}]'),
        ({"records": None, "page_format": "ndjson"}, b'{"error": "rate limit", "code": 1}\n'),
    ],
)
def test_an_error_in_place_of_the_only_row_is_no_row(arguments: Any, body: bytes) -> None:
    with Api([]) as api:
        api.faults = lambda _request: Answer(body=body)
        with pytest.raises(SourceError, match="error: rate limit"):
            taken(source(api, **arguments))


@pytest.mark.parametrize(
    ("beside", "words"),
    [
        ({"error": "one shard is down"}, "error: one shard is down"),
        ({"errors": [{"message": "partial"}]}, "errors: partial"),
        ({"error": f"no key {SECRET}"}, r"error: no key \*\*\*"),
        ({"remark": "runtime error: Query timed out"}, "remark: runtime error"),  # Overpass
        ({"timed_out": True}, "timed_out: true"),  # Elasticsearch
        ({"_shards": {"failed": 2}}, r"_shards\.failed: 2"),
        ({"incomplete_results": True}, "incomplete_results: true"),  # GitHub
    ],
)
def test_an_error_beside_rows_is_told_once(
    beside: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Api([]) as api:
        api.faults = lambda request: said(
            {"data": {"rows": rows_of(30)[int(request.query["offset"]) :][:10]}, **beside}
            if int(request.query["offset"]) < 30
            else {"data": {"rows": []}}
        )
        assert taken(source(api)) == rows_of(30)
        assert len(re.findall("some may be missing", caplog.text)) == 1
        assert re.search(words, caplog.text)
        assert SECRET not in caplog.text
        caplog.clear()
        assert taken(source(api, error_path=[])) == rows_of(30)
        assert not caplog.text


@pytest.mark.parametrize(
    "last",
    [
        {},
        {"data": {"rows": {}}},  # an empty array of PHP
        {"data": {"rows": ""}},
        {"data": {"rows": False}},
        {"message": "No more results"},
    ],
)
def test_what_stands_for_no_rows_after_others_is_the_end(last: dict[str, Any]) -> None:
    with Api([]) as api:
        api.faults = lambda request: said(
            {"data": {"rows": rows_of(10)}} if request.query["offset"] == "0" else last
        )
        assert taken(source(api)) == rows_of(10)
        api.faults = lambda _request: said(last)
        with pytest.raises(SourceError, match="no array at records"):
            taken(source(api))  # where nothing came before, records may be wrong


@pytest.mark.parametrize(
    "beside",
    [{"error": "None", "errorCode": "0"}, {"error": {"code": 0, "message": ""}}, {"errors": "false"}],
)
def test_what_says_that_there_is_no_error_is_none(
    beside: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with Api([]) as api:
        api.faults = lambda request: said(
            {"data": {"rows": rows_of(10) if request.query["offset"] == "0" else []}, **beside}
        )
        assert taken(source(api)) == rows_of(10)
        assert not caplog.text


def test_rows_may_be_left_out_where_there_are_none_but_more_pages() -> None:
    pages: dict[str | None, Any] = {
        None: {"rows": rows_of(2), "next": "a"},
        "a": {"next": "b"},
        "b": {"rows": rows_of(2, 2)},
    }
    with Api([]) as api:
        api.faults = lambda request: said(pages[request.query.get("c")])
        arguments = {"style": "cursor", "cursor_param": "c", "cursor_path": "next", "records": "rows"}
        assert taken(source(api, **arguments, page_size=None)) == rows_of(4)


def test_an_error_as_the_only_element_of_a_page_is_no_row() -> None:
    """Salesforce, "Status Codes and Error Responses"."""
    with Api([]) as api:
        api.faults = lambda _request: said([{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "too many"}])
        with pytest.raises(SourceError, match="errorCode: too many"):
            taken(source(api, records=None))
