"""Answers that fail, break off or are no pages: the exact rows, or a named error; and no secret anywhere."""

from __future__ import annotations

import json
import pickle
import traceback
from dataclasses import replace
from typing import Any

import pytest
from paged_api import JSON, STYLES, Api, rows_of, said
from pulling import assert_resumes_everywhere, pull, taken

from etl.errors import SourceError, SourceMissing, SourceRefused, SourceUnavailable
from etl.records import Mark
from etl.sources import Pages
from tests.web import Answer, Request, cut

SECRET = "s3cret/&=+ k€y"
TOKEN = "Bearer t0ken-0123456789"
SECRETS: dict[str, Any] = {"secrets": {"api_key": SECRET}, "headers": {"Authorization": TOKEN}}


def source(api: Api, path: str, **changes: Any) -> Pages:
    pages = Pages(f"{api.url}/{path}", **{"page_size": 3, "deadline": 10, **STYLES[path], **changes})
    pages._first_wait = 0.001
    return pages


@pytest.mark.parametrize(("path", "reset"), [("array", False), ("array", True), ("body", True)])
def test_a_connection_that_breaks_at_any_byte_of_any_page_is_taken_up_again(path: str, reset: bool) -> None:
    rows = [{"id": number, "name": "é☃"} for number in range(4)]
    with Api(rows) as api:
        pages = source(api, path, key="id", page_size=3)
        broken: set[tuple[str, int]] = set()

        def fault(request: Request) -> Answer:
            answer = api.serve(request)
            assert isinstance(answer.body, bytes)
            where = (request.query.get("offset") or request.body.decode(), at)
            if where in broken or at >= len(answer.body):
                return answer
            broken.add(where)
            return replace(cut(answer, at), reset=reset)

        api.faults = fault
        size = len(json.dumps(rows[:3], ensure_ascii=False).encode())
        for at in range(size + 1):
            assert taken(pages) == rows, at
        assert len(broken) > size + 20  # those of the second page and of the last one too


def _first_request(api: Api) -> Request:
    return Request(
        number=0, method="GET", path="/array", query={"limit": "3"}, headers={}, at=0.0, connection=0
    )


def test_a_body_without_a_length_that_breaks_off_at_any_byte_is_asked_for_again() -> None:
    with Api(rows_of(3)) as api:
        pages = source(api, "array", page_size=5)
        body = api.serve(_first_request(api)).body
        assert isinstance(body, bytes)
        broken: set[int] = set()

        def fault(request: Request) -> Answer | None:
            answer = replace(api.serve(request), until_close=True)
            if at in broken or request.query["offset"] != "0":
                return answer
            broken.add(at)
            return replace(answer, body=body[:at])

        api.faults = fault
        for at in range(len(body)):
            assert taken(pages) == rows_of(3), at


def test_json_that_is_cut_though_its_length_is_right_is_a_named_error() -> None:
    with Api(rows_of(7)) as api:
        pages = source(api, "array")
        body = api.serve(_first_request(api)).body
        assert isinstance(body, bytes)
        for at in range(len(body)):
            api.faults = lambda request, at=at: replace(api.serve(request), body=body[:at])  # type: ignore[misc]
            with pytest.raises(SourceError, match=rf"offset 0\): the answer of {at} bytes is no .*cut short"):
                taken(pages)
        assert len(api.requests) == len(body)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_what_passes_is_tried_again_and_retry_after_is_obeyed(status: int) -> None:
    with Api(rows_of(10)) as api:
        api.faults = lambda request: (
            Answer(status=status, headers={"Retry-After": "0"}) if request.number % 2 == 0 else None
        )
        pages = source(api, "array", key="id")
        assert taken(pages) == rows_of(10)
        assert_resumes_everywhere(pages)


def test_an_answer_that_is_still_being_made_is_asked_for_again_and_no_content_is_the_end() -> None:
    with Api(rows_of(10)) as api:

        def fault(request: Request) -> Answer | None:
            if request.number % 2 == 0:
                return Answer(status=202)
            return (
                Answer(status=204, headers={"Content-Length": "0"})
                if request.query["offset"] == "10"
                else None
            )

        api.faults = fault
        assert taken(source(api, "offset")) == rows_of(10)


def test_a_wait_that_is_longer_than_the_deadline_is_a_named_error() -> None:
    with Api(rows_of(10)) as api:
        api.faults = lambda request: (
            Answer(status=429, headers={"Retry-After": "3600"}) if request.query["offset"] != "0" else None
        )
        with pytest.raises(SourceUnavailable, match=r"offset 3: .*Retry-After.*run again after that"):
            taken(source(api, "array"))


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (400, SourceError, r"offset 0: .* 400 .*page_size is 3: lower it"),
        (401, SourceRefused, "credentials"),
        (404, SourceMissing, "nothing is there"),
    ],
)
def test_a_refusal_is_a_named_error(status: int, kind: type[Exception], words: str) -> None:
    with Api([]) as api:
        api.faults = lambda _request: Answer(status=status, headers=JSON, body=b'{"error": "no such limit"}')
        with pytest.raises(kind, match=words) as raised:
            taken(source(api, "array"))
        assert type(raised.value) is kind
        assert len(api.requests) == 1


def test_a_cursor_that_the_api_has_forgotten_is_a_named_error() -> None:
    with Api(rows_of(7)) as api:
        pages = source(api, "cursor")
        *_, last = pull(pages)
        api.faults = lambda _request: Answer(status=400)
        with pytest.raises(SourceError, match=r"if the API forgets its cursors .* --full-refresh"):
            taken(pages, last.cursor)


def test_a_page_that_is_too_large_says_to_lower_page_size() -> None:
    with Api(rows_of(50)) as api:
        with pytest.raises(SourceError, match=r"larger than 2000 bytes.*page_size is 40: lower it"):
            taken(source(api, "array", page_size=40, max_page_bytes=2000))
        assert len(taken(source(api, "array", page_size=20, max_page_bytes=2000))) == 50


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>Sign in</html>", "no JSON .*: '<html>Sign in</html>'"),
        (
            b'{"error": "limit"}',
            "the answer has no array at records = 'data.rows'; its keys: error; it begins with",
        ),
        (b'{"data": {"rows": {"1": {}}}}', "no array at records"),
        (b'"text"', "no array at records = 'data.rows'; its keys: none"),
        (b"\xff[]", "no valid UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_an_answer_that_is_no_page_is_a_named_error(body: bytes, words: str) -> None:
    with Api([]) as api:
        api.faults = lambda _request: Answer(headers=JSON, body=body)
        with pytest.raises(SourceError, match=words):
            taken(source(api, "offset"))


@pytest.mark.parametrize(
    ("changes", "body", "words"),
    [
        ({"total_path": "n"}, {"items": []}, "no whole number at total_path = 'n'"),
        ({}, {"items": [], "paging": {"next": {"a": 1}}}, "cursor_path = 'paging.next' holds neither"),
        ({"more_path": "more"}, {"items": []}, "more_path = 'more' holds neither true nor false"),
        ({"more_path": "more"}, {"items": [], "more": True}, "there is more, says more, but no cursor"),
    ],
)
def test_a_path_that_leads_elsewhere_is_a_named_error(changes: Any, body: Any, words: str) -> None:
    with Api([]) as api:
        api.faults = lambda _request: said(body)
        with pytest.raises(SourceError, match=words):
            taken(source(api, "cursor", **changes))


def test_a_cursor_of_another_source_is_a_named_error() -> None:
    with pytest.raises(SourceError, match=r"is no cursor of etl\.sources\.Pages"):
        list(Pages("http://127.0.0.1:1/", style="link_header").pull({"file": "a.csv"}))


class TestSecrets:
    def assert_hidden(self, text: str) -> None:
        for word in (SECRET, "s3cret", TOKEN, "t0ken-0123456789"):
            assert word not in text

    @pytest.mark.parametrize("path", STYLES)
    def test_they_are_sent_with_each_page_and_are_in_no_cursor_nor_fingerprint(self, path: str) -> None:
        with Api(rows_of(10)) as api:
            pages = source(api, path, **SECRETS)
            items = pull(pages)
            assert len(api.requests) > 2
            assert {r.query["api_key"] for r in api.requests} == {SECRET}
            assert {r.headers["authorization"] for r in api.requests} == {TOKEN}
            self.assert_hidden(json.dumps([item.cursor for item in items if isinstance(item, Mark)]))
            self.assert_hidden(pages.fingerprint())
            assert_resumes_everywhere(pages)

    @pytest.mark.parametrize(
        "answer",
        [
            Answer(status=400, headers=JSON, body=f'{{"error": "no key {SECRET} or {TOKEN}"}}'.encode()),
            Answer(status=500, headers={"Content-Type": "text/plain"}, body=SECRET.encode()),
            Answer(
                status=302,
                headers={"Location": "http://127.0.0.1:1/?api_key=s3cret%2F%26%3D%2B%20k%E2%82%ACy"},
            ),
            Answer(headers=JSON, body=f'{{"{SECRET}": "{TOKEN}"}}'.encode()),
            Answer(headers=JSON, body=f"{SECRET} {TOKEN}".encode()),
            Answer(headers=JSON, body=b'{"data": {"rows": ["x', cut_after=10),
        ],
        ids=["400", "500", "redirect", "keys", "no JSON", "cut"],
    )
    def test_they_are_in_no_message_nor_in_its_cause(self, answer: Answer, caplog: Any) -> None:
        with Api([]) as api:
            api.faults = lambda _request: answer
            with pytest.raises(SourceError) as raised:
                taken(source(api, "offset", deadline=1, **SECRETS))
        error: BaseException | None = raised.value
        while error is not None:
            self.assert_hidden(f"{error} {error!r} {error.args}")
            error = error.__cause__ or error.__context__
        self.assert_hidden("".join(traceback.format_exception(raised.value)))
        self.assert_hidden(caplog.text)

    @pytest.mark.parametrize("path", ["cursor", "link"])
    def test_an_api_that_gives_them_back_under_another_name_is_refused(self, path: str) -> None:
        with Api([]) as api:
            api.faults = lambda _request: said(
                {
                    "items": [{"id": 1}],
                    "results": [{"id": 1}],
                    "paging": {"next": f"x-{SECRET}"},
                    "@odata.nextLink": f"/link/{SECRET.replace('/', '%2F').replace('&', '%26')}/2",
                }
            )
            with pytest.raises(SourceError) as raised:
                taken(source(api, path, **SECRETS))
            self.assert_hidden(str(raised.value))
            assert len(api.requests) == 1

    def test_a_link_loses_them_by_name_and_by_value(self) -> None:
        from etl.sources.paging.links import without

        url = "https://a.org/x?a=1&api_key=other&b=s3cret%2F%26%3D%2B+k%E2%82%ACy&c=%20"
        assert without(url, {"api_key": SECRET}) == "https://a.org/x?a=1&c=%20"

    def test_a_source_survives_pickling(self) -> None:
        with Api(rows_of(7)) as api:
            pages = pickle.loads(pickle.dumps(source(api, "link", **SECRETS)))
            assert taken(pages) == rows_of(7)
