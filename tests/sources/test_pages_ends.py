"""Where pages end, and where they do not: words for no cursor, totals, statuses, loops, cursors that stay the same."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from paged_api import STYLES, Api, rows_of, said
from pulling import assert_resumes_everywhere, last_cursor, pull, taken, values

from etl.errors import SourceChanged, SourceError, SourceMissing, SourceUnavailable
from etl.records import Mark
from etl.sources import Pages
from tests.web import Answer, Request, cut

CURSOR = {"style": "cursor", "cursor_param": "c", "cursor_path": "next", "records": "rows"}
SCROLL = {"style": "cursor", "cursor_path": "id", "records": "rows"}
TEXTS = ["0", "-1", "", " ", "null", "Null", "None", "undefined", "false", "FALSE", "NaN"]
LINK = {"style": "next_link", "records": "rows"}


def source(api: Api, **arguments: Any) -> Pages:
    return Pages(f"{api.url}/rows", **{"deadline": 30, **arguments})


def until_error(pages: Pages, words: str) -> list[Any]:
    """Return what a pull yields before it fails, but the marks."""
    found: list[Any] = []

    def pull_all() -> None:
        for item in pages.pull(None):
            found.append(item)  # noqa: PERF402 - what is taken before the error counts

    with pytest.raises(SourceError, match=words):
        pull_all()
    return values(found)


def by_cursor(api: Api, end: Any, size: int = 10) -> Callable[[Request], Answer]:
    """Page by the number of the next row; `end` stands in its place on the last page."""

    def answer(request: Request) -> Answer:
        begin = int(request.query.get("c", 0))
        more = begin + size < len(api.rows)
        document = {"rows": api.rows[begin : begin + size], "total": len(api.rows)}
        return said(
            {**document, "next": begin + size if more else end} if more or end != "absent" else document
        )

    return answer


def by_number(api: Api, size: int = 10) -> Callable[[Request], Answer]:
    """Count pages from 1."""

    def answer(request: Request) -> Answer:
        begin = size * (int(request.query["page"]) - 1)
        return said(api.rows[max(begin, 0) : begin + size])

    return answer


class TestCursors:
    @pytest.mark.parametrize("end", [*TEXTS, 0, -1, 0.0, False, None, {}, [], "absent"])
    def test_what_apis_give_in_place_of_a_next_cursor_is_the_end(self, end: Any) -> None:
        """Twitter's is 0, Redis' SCAN "0"; programs write their null as text."""
        with Api(rows_of(25)) as api:
            api.faults = by_cursor(api, end)
            assert taken(source(api, **CURSOR)) == rows_of(25)
            assert len(api.requests) == 3
            assert_resumes_everywhere(source(api, **CURSOR))

    @pytest.mark.parametrize("end", ["END", 7])
    def test_the_job_says_what_else_is_the_end(self, end: Any) -> None:
        with Api(rows_of(25)) as api:
            api.faults = by_cursor(api, end)
            assert taken(source(api, **CURSOR, end_cursors=[end])) == rows_of(25)

    def test_the_job_says_that_a_cursor_of_0_is_none(self) -> None:
        """Pages are numbered downward here: the one at 0 is the last."""

        def answer(request: Request) -> Answer:
            number = int(request.query.get("c", 2))
            return said({"rows": [{"id": number}], "next": number - 1 if number else None})

        with Api([]) as api:
            api.faults = answer
            assert taken(source(api, **CURSOR, end_cursors=[])) == [{"id": 2}, {"id": 1}, {"id": 0}]
            assert taken(source(api, **CURSOR)) == [{"id": 2}, {"id": 1}]

    @pytest.mark.parametrize(
        ("changes", "document", "words"),
        [
            (
                {"total_path": "n"},
                {"next": 0, "n": 9},
                "cursor 0 is taken for the end, after 1 of the 9 rows .*end_cursors",
            ),
            (
                {"more_path": "more"},
                {"next": 0, "more": True},
                "more, says more, but no cursor at next but 0, .*end_cursors",
            ),
            (
                {"more_path": "more"},
                {"next": None, "more": "true"},
                "there is more, says more, but no cursor at next",
            ),
            ({"more_path": "more"}, {"next": 1, "more": "perhaps"}, "holds neither true nor false"),
            (
                {"more_path": "more", "first_cursor": 1},
                {"rows": [], "next": 1, "more": 1},
                "no rows come, and the same",
            ),
        ],
    )
    def test_an_end_that_something_else_speaks_against_is_a_named_error(
        self, changes: Any, document: Any, words: str
    ) -> None:
        with Api([]) as api:
            api.faults = lambda _request: said({"rows": [{"id": 1}], **document})
            with pytest.raises(SourceError, match=words):
                taken(source(api, **CURSOR, **changes))

    @pytest.mark.parametrize("more", [False, "false", 0])
    def test_that_there_is_no_more_goes_before_a_cursor(self, more: Any) -> None:
        with Api([]) as api:
            api.faults = lambda _request: said({"rows": [{"id": 1}], "next": "x", "more": more})
            assert taken(source(api, **CURSOR, more_path="more")) == [{"id": 1}]
            assert len(api.requests) == 1


class TestScrolls:
    """Elasticsearch, "Scroll API": "While the _scroll_id may change between requests, it doesn't always change"."""

    def serve(self, api: Api, count: int, changing: bool = False) -> None:
        at = 0

        def answer(request: Request) -> Answer:
            nonlocal at
            at = at + 10 if request.query else 0
            name = f"DnF1{at}" if changing else "DnF1"
            return said({"id": name, "rows": rows_of(count)[at : at + 10]})

        api.faults = answer

    @pytest.mark.parametrize("param", ["c", "scroll_id"])
    @pytest.mark.parametrize("count", [0, 9, 10, 25])
    @pytest.mark.parametrize("key", [None, "id"])
    def test_a_cursor_that_stays_while_rows_change_is_followed(
        self, param: str, count: int, key: str | None
    ) -> None:
        with Api([]) as api:
            self.serve(api, count)
            assert taken(source(api, **SCROLL, cursor_param=param, key=key)) == rows_of(count)

    @pytest.mark.parametrize(("param", "changing"), [("c", False), ("scroll_id", False), ("scroll_id", True)])
    @pytest.mark.parametrize("key", [None, "id"])
    def test_no_pull_goes_on_from_it_to_wrong_rows(self, param: str, changing: bool, key: str | None) -> None:
        """The server has moved on: what it gives next may come after rows that were lost with the run."""
        with Api([]) as api:
            pages = source(api, **SCROLL, cursor_param=param, key=key)
            self.serve(api, 35, changing)
            items = pull(pages)
            outcomes = set()
            for index, item in enumerate(items):
                if isinstance(item, Mark):
                    self.serve(api, 35, changing)
                    if item.cursor.get("stays"):
                        with pytest.raises(
                            SourceChanged, match="the server alone knows which page comes next"
                        ):
                            pull(pages, item.cursor)
                    else:
                        assert taken(pages, item.cursor) == values(items[index:])
                    outcomes.add("stays" in item.cursor)
            assert outcomes == ({True, False} if key else {True})

    @pytest.mark.parametrize("param", ["c", "scroll_id"])
    @pytest.mark.parametrize("number", [1, 2, 3])
    def test_an_answer_that_is_lost_on_its_way_is_no_page_that_is_left_out(
        self, param: str, number: int
    ) -> None:
        """The server has gone on when it is asked again; the last page of all is no exception."""
        with Api([]) as api:
            self.serve(api, 25)
            serve = api.faults

            def fault(request: Request) -> Answer | None:
                answer = serve(request)
                assert answer is not None
                return cut(answer, 20) if request.number == number else answer

            api.faults = fault
            with pytest.raises(SourceChanged, match="lost on its way"):
                taken(source(api, **SCROLL, cursor_param=param))

    def test_a_server_that_is_busy_has_not_gone_on(self) -> None:
        with Api([]) as api:
            self.serve(api, 25)
            serve = api.faults
            api.faults = lambda request: Answer(status=503) if request.number == 2 else serve(request)
            pages = source(api, **SCROLL, cursor_param="c")
            pages._first_wait = 0.001
            assert taken(pages) == rows_of(25)


class TestLoops:
    """None of a loop's rows is taken a second time."""

    @pytest.mark.parametrize(("before", "length"), [(0, 1), (0, 2), (0, 3), (0, 20), (1, 2), (5, 7), (3, 40)])
    @pytest.mark.parametrize("style", ["cursor", "next_link"])
    def test_a_loop_is_found_before_its_rows_are_taken(self, style: str, before: int, length: int) -> None:
        def answer(request: Request) -> Answer:
            at = int(request.query.get("c", 1))
            following = at + 1 if at < before + length else before + 1
            return said(
                {"rows": [{"id": at}], "next": f"/rows?c={following}" if style == "next_link" else following}
            )

        with Api([]) as api:
            api.faults = answer
            pages = source(api, **(LINK if style == "next_link" else CURSOR))
            assert until_error(pages, "would go on for ever") == [
                {"id": n + 1} for n in range(before + length)
            ]

    def test_a_loop_that_is_longer_than_what_is_compared_is_found_at_last(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("etl.sources.paging.place.TRAIL", 4)

        def answer(request: Request) -> Answer:
            at = int(request.query.get("c", 1))
            return said({"rows": [{"id": at}], "next": at % 20 + 1})

        with Api([]) as api:
            api.faults = answer
            with pytest.raises(SourceError, match="leads back to a page that was taken before"):
                taken(source(api, **CURSOR))
            assert len(api.requests) < 100

    def test_the_last_page_again_with_the_same_cursor_is_the_end_if_the_total_says_so(self) -> None:
        def answer(request: Request) -> Answer:
            begin = int(request.query.get("c", 0))
            return said({"rows": rows_of(25)[begin:][:10], "next": min(begin + 10, 20), "total": 25})

        with Api([]) as api:
            api.faults = answer
            assert taken(source(api, **CURSOR, total_path="total")) == rows_of(25)
            assert until_error(source(api, **CURSOR), "let total_path or more_path say it") == rows_of(25)

    @pytest.mark.parametrize("link", ["/rows", "", "?"])
    def test_a_link_to_the_page_itself_is_a_named_error(self, link: str) -> None:
        with Api([]) as api:
            api.faults = lambda _request: said({"rows": [{"id": 1}], "next": {"href": link or "/rows"}})
            with pytest.raises(SourceError, match=r"leads to this page itself|would go on for ever"):
                taken(source(api, **LINK, next_path="next.href"))
            assert len(api.requests) <= 2

    def test_pages_of_equal_rows_with_other_cursors_are_no_loop(self) -> None:
        with Api([{"state": "NY", "id": 0, "updated_at": ""}] * 25) as api:
            api.faults = by_cursor(api, None)
            assert len(taken(source(api, **CURSOR))) == 25

    def test_one_row_of_an_api_that_knows_no_pages_is_not_loaded_for_ever(self) -> None:
        with Api([]) as api:
            api.faults = lambda _request: said([{"id": 1}])
            assert taken(source(api, style="offset", page_size=10, key="id")) == [{"id": 1}]
            pages = source(api, style="offset", page_size=10)
            assert until_error(pages, "the same rows as the page before") == [{"id": 1}]

    @pytest.mark.parametrize("key", [None, "id"])
    @pytest.mark.parametrize(("style", "beyond"), [("page", 1), ("page", 2), ("offset", 1), ("offset", 3)])
    def test_an_api_that_begins_anew_after_its_last_page_is_not_loaded_twice(
        self, style: str, beyond: int, key: str | None
    ) -> None:
        """Page numbers and offsets beyond the end lead back to some page: that of the number 1, or modulo."""

        def answer(request: Request) -> Answer:
            begin = int(request.query.get("offset", 0)) or 10 * (
                max(1, int(request.query.get("page", 1))) - 1
            )
            return said(rows_of(30)[begin if begin < 30 else (begin - 30) % (10 * beyond) :][:10])

        with Api([]) as api:
            api.faults = answer
            pages = source(api, style=style, key=key, overlap=0 if style == "offset" else None)
            assert until_error(pages, "the same rows as (a|the) page before") == rows_of(30)

    @pytest.mark.parametrize("key", [None, "id"])
    def test_an_api_that_takes_no_cursor_but_gives_another_one_each_time_is_found(
        self, key: str | None
    ) -> None:
        with Api([]) as api:
            api.faults = lambda request: said({"rows": rows_of(10), "next": f"token {request.number}"})
            pages = source(api, **CURSOR, key=key)
            assert until_error(pages, "the same rows as the page before") == rows_of(10)

    def test_pages_without_rows_that_never_end_are_a_named_error(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("etl.sources.paging.judging._EMPTY_PAGES", 20)
        with Api([]) as api:
            api.faults = lambda request: said({"rows": [], "next": int(request.query.get("c", 1)) + 1})
            with pytest.raises(SourceError, match="the last 20 pages had no rows"):
                taken(source(api, **CURSOR))


class TestTotals:
    """A total may be a lower bound: Elasticsearch, "Track total hits"; those that are cached say nothing of it."""

    @pytest.mark.parametrize(
        ("total", "path"),
        [
            (20, "total"),
            ({"value": 20, "relation": "gte"}, "total.value"),
            ({"value": 20, "relation": "gte"}, "total"),
            ("20+", "total"),
            (">20", "total"),
            (10, "total"),  # of the page alone
            (-1, "total"),
            (None, "total"),
            (25.0, "total"),
            ("1,000+", "ignored"),
        ],
    )
    @pytest.mark.parametrize("style", ["offset", "page"])
    def test_rows_that_go_on_beyond_a_total_are_taken(self, style: str, total: Any, path: str) -> None:
        def answer(request: Request) -> Answer:
            begin = int(request.query.get("offset", 0)) or 10 * (
                max(1, int(request.query.get("page", 1))) - 1
            )
            return said({"rows": rows_of(25)[begin : begin + 10], "total": total})

        with Api([]) as api:
            api.faults = answer
            pages = source(api, style=style, records="rows", total_path=path if path != "ignored" else None)
            assert taken(pages) == rows_of(25)
            assert_resumes_everywhere(pages)

    @pytest.mark.parametrize(
        ("total", "words"),
        [("1,000", "1000 rows"), ("1,000+", "1000 rows"), ("many", "no whole number"), ("1.5", "no whole")],
    )
    def test_a_total_that_is_not_reached_is_a_named_error(self, total: Any, words: str) -> None:
        with Api([]) as api:
            api.faults = lambda _request: said({"rows": [], "total": total})
            with pytest.raises(SourceError, match=words):
                taken(source(api, style="page", records="rows", total_path="total"))

    @pytest.mark.parametrize("style", ["offset", "page"])
    @pytest.mark.parametrize("beyond", [404, 410, 416, "the last page again"])
    def test_when_all_rows_have_come_the_page_after_them_may_be_none(self, style: str, beyond: Any) -> None:
        def answer(request: Request) -> Answer:
            begin = int(request.query.get("offset", 0)) or 10 * (
                max(1, int(request.query.get("page", 1))) - 1
            )
            if begin >= 20:
                if isinstance(beyond, int):
                    return Answer(status=beyond)
                begin = 10
            return said({"rows": rows_of(20)[begin : begin + 10], "total": 20})

        with Api([]) as api:
            api.faults = answer
            for key in (None, "id") if style == "page" or isinstance(beyond, int) else (None,):
                pages = source(api, style=style, records="rows", total_path="total", key=key, overlap=None)
                assert taken(pages) == rows_of(20)
                assert_resumes_everywhere(pages)
                assert taken(pages, last_cursor(pages)) == []

    @pytest.mark.parametrize("style", ["offset", "page"])
    @pytest.mark.parametrize("key", [None, "id"])
    def test_a_last_page_that_is_short_and_comes_again_is_the_end(self, style: str, key: str | None) -> None:
        """Some APIs give their last page for each one after it. A full one may be the last that they give."""

        def answer(request: Request) -> Answer:
            begin = int(request.query.get("offset", 0)) or 10 * (
                max(1, int(request.query.get("page", 1))) - 1
            )
            return said(rows[min(begin, (len(rows) - 1) // 10 * 10) :][:10])

        with Api([]) as api:
            api.faults = answer
            rows = rows_of(25)
            pages = source(api, style=style, key=key, overlap=0 if style == "offset" else None)
            assert taken(pages) == rows
            assert_resumes_everywhere(pages)
            cursor = last_cursor(pages)
            assert taken(pages, cursor) == []
            if style == "page":
                rows = rows_of(29)
                assert taken(pages, cursor) == rows_of(4, 25)
            rows = rows_of(20)
            assert until_error(pages, "the same rows as the page before") == rows


class TestStatuses:
    @pytest.mark.parametrize("path", ["offset", "page"])
    @pytest.mark.parametrize("status", [404, 400])
    def test_a_status_that_the_job_names_is_the_end(self, path: str, status: int) -> None:
        def beyond(request: Request) -> Answer | None:
            far = int(request.query.get("offset", 0)) >= 25 or int(request.query.get("page", 1)) >= 4
            return Answer(status=status) if far else None

        with Api(rows_of(25)) as api:
            api.faults = beyond
            pages = Pages(
                f"{api.url}/{path}", **STYLES[path], page_size=10, end_statuses=[status], deadline=30
            )
            assert taken(pages) == rows_of(25)
            assert_resumes_everywhere(pages)
            cursor = last_cursor(pages)
            assert taken(pages, cursor) == []
            api.faults = lambda _request: None
            api.rows += rows_of(4, 25)
            assert taken(pages, cursor) == rows_of(4, 25)

    def test_it_is_not_on_the_first_page(self) -> None:
        with Api([]) as api, pytest.raises(SourceMissing, match="nothing is there"):
            taken(source(api, style="page", end_statuses=[404]))

    def test_it_is_not_before_the_total(self) -> None:
        with Api(rows_of(25)) as api:
            api.faults = lambda request: Answer(status=404) if request.query["page"] == "2" else None
            with pytest.raises(SourceError, match="has 25 rows, as it says, but gives none after 10"):
                taken(
                    Pages(
                        f"{api.url}/page",
                        **STYLES["page"],
                        page_size=10,
                        total_path="total",
                        end_statuses=[404],
                    )
                )

    def test_a_page_that_is_gone_though_it_had_rows_is_a_named_error(self) -> None:
        with Api(rows_of(25)) as api:
            pages = Pages(f"{api.url}/page", **STYLES["page"], page_size=10, end_statuses=[404], deadline=30)
            cursor = last_cursor(pages)
            api.faults = lambda _request: Answer(status=404)
            with pytest.raises(SourceChanged):
                taken(pages, cursor)

    def test_an_api_that_goes_no_further_than_some_offset_is_a_named_error(self) -> None:
        with Api(rows_of(50)) as api:
            api.faults = lambda request: Answer(status=400) if int(request.query["offset"]) >= 20 else None
            with pytest.raises(
                SourceError, match=r"offset 20: .*20 rows came before.*end_statuses.*ask for less at once"
            ):
                taken(Pages(f"{api.url}/offset", **STYLES["offset"], page_size=10, deadline=30))


def test_pages_may_be_counted_from_0() -> None:
    def answer(request: Request) -> Answer:
        number = int(request.query["page"])
        return said(rows_of(25)[10 * number : 10 * number + 10])

    with Api([]) as api:
        api.faults = answer
        assert taken(source(api, style="page", first_page=0)) == rows_of(25)
        assert_resumes_everywhere(source(api, style="page", first_page=0))


@pytest.mark.parametrize("total", [None, "total"])
def test_an_api_that_counts_from_0_does_not_lose_its_first_page_in_silence(total: str | None) -> None:
    def answer(request: Request) -> Answer:
        number = int(request.query["page"])
        return said({"rows": rows_of(25)[10 * number : 10 * number + 10], "total": 25})

    with Api([]) as api:
        api.faults = answer
        with pytest.raises(SourceError, match="first_page"):
            taken(source(api, style="page", records="rows", total_path=total))


@pytest.mark.parametrize(
    "page_0",
    [
        *(Answer(status=status) for status in (400, 404, 422, 500)),
        Answer(body=b"<html>no such page"),
        said({"error": "page must be greater than 0"}),
        said([]),
        said(rows_of(10)),  # it is page 1
        said([*rows_of(11)[10:], *rows_of(9)]),  # the same, and a row has come in the meantime
    ],
)
def test_an_api_that_counts_from_1_may_say_what_it_likes_of_its_page_0(page_0: Answer) -> None:
    with Api(rows_of(25)) as api:
        numbered = by_number(api)
        api.faults = lambda request: page_0 if request.query["page"] == "0" else numbered(request)
        pages = source(api, style="page", deadline=30)
        assert taken(pages) == rows_of(25)
        assert_resumes_everywhere(pages)


def test_a_page_0_that_cannot_be_had_for_now_ends_the_run() -> None:
    with Api(rows_of(25)) as api:
        numbered = by_number(api)
        api.faults = lambda request: Answer(status=503) if request.query["page"] == "0" else numbered(request)
        with pytest.raises(SourceUnavailable):
            taken(source(api, style="page", deadline=1))


def test_page_0_is_not_asked_for_where_the_job_says_the_first_page() -> None:
    with Api(rows_of(25)) as api:
        api.faults = by_number(api)
        assert taken(source(api, style="page", first_page=1)) == rows_of(25)
        assert [request.query["page"] for request in api.requests] == ["1", "2", "3", "4"]


def test_that_a_page_0_is_the_page_1_is_found(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Api(rows_of(25)) as api:
        api.faults = lambda request: said(rows_of(25)[:10]) if request.query["page"] in "01" else None
        with pytest.raises(SourceError, match="count its pages from another number on"):
            taken(source(api, style="page", first_page=0))


def test_what_is_kept_of_the_way_in_a_cursor_is_bounded() -> None:
    with Api(rows_of(270)) as api:
        api.faults = by_cursor(api, None, size=1)
        pages = source(api, **CURSOR)
        assert max(len(json.dumps(m.cursor)) for m in pages.pull(None) if isinstance(m, Mark)) < 3100
