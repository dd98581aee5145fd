"""Rows that move while pages are asked for, and APIs that lead in a circle: the exact rows, or a named error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from paged_api import STYLES, Api, rows_of, said
from pulling import taken, values

from etl.errors import SourceChanged, SourceError
from etl.records import Mark, Unreadable
from etl.sources import Pages
from tests.web import Answer, Request

NUMBERED = ["offset", "page"]


def source(api: Api, path: str, **changes: Any) -> Pages:
    return Pages(
        f"{api.url}/{path}", **{"page_size": 10, "key": "id", "deadline": 30, **STYLES[path], **changes}
    )


def at_request(number: int, change: Any) -> Any:
    """Return what calls `change` before the request of that number, counted from 0."""
    return lambda request: change() if request.number == number else None


@pytest.mark.parametrize("more", [1, 9, 10])
@pytest.mark.parametrize("path", NUMBERED)
def test_rows_that_come_again_as_others_were_put_in_before_them_are_dropped(path: str, more: int) -> None:
    with Api(rows_of(35, 100)) as api:
        api.before = at_request(2, lambda: api.rows.__setitem__(slice(0, 0), rows_of(more)))
        assert taken(source(api, path)) == rows_of(35, 100)


@pytest.mark.parametrize("more", [1, 3, 9])
@pytest.mark.parametrize("path", NUMBERED)
def test_a_job_that_goes_on_drops_them_too_wherever_it_was_cut(path: str, more: int) -> None:
    with Api(rows_of(35, 100)) as api:
        pages = source(api, path)
        items = list(pages.pull(None))
        api.rows[0:0] = rows_of(more)
        for index, item in enumerate(items):
            if isinstance(item, Mark):
                found = taken(pages, json.loads(json.dumps(item.cursor)))
                assert [row for row in found if row["id"] >= 100] == values(items[index:])
                new = [row for row in found if row["id"] < 100]  # on the first page
                assert new in ([], rows_of(more))


@pytest.mark.parametrize("place", [0, 5, 16])
def test_a_row_that_is_removed_before_the_offset_is_a_named_error_or_nothing_is_missed(place: int) -> None:
    with Api(rows_of(35)) as api:
        api.before = at_request(2, lambda: api.rows.pop(place))
        with pytest.raises(
            SourceChanged, match=r"offset 18.*does not hold the rows that it held.*--full-refresh"
        ):
            taken(source(api, "offset"))


def test_an_overlap_bears_as_many_removals_as_it_has_rows_less_one() -> None:
    with Api(rows_of(35)) as api:
        api.before = at_request(2, lambda: api.rows.__delitem__(slice(3, 5)))
        assert taken(source(api, "offset", overlap=3)) == rows_of(35)
    with Api(rows_of(35)) as api:
        api.before = at_request(2, lambda: api.rows.__delitem__(slice(3, 6)))
        with pytest.raises(SourceChanged):
            taken(source(api, "offset", overlap=3))


@pytest.mark.parametrize("path", NUMBERED)
def test_more_new_rows_before_a_page_than_are_remembered_are_a_named_error(path: str) -> None:
    with Api(rows_of(400, 1000)) as api:
        pages = source(api, path)
        api.before = at_request(15, lambda: api.rows.__setitem__(slice(0, 0), rows_of(105)))
        with pytest.raises(SourceChanged, match="many were put in before it"):
            taken(pages)


@pytest.mark.parametrize("path", NUMBERED)
def test_a_later_run_notices_that_rows_were_removed(path: str) -> None:
    with Api(rows_of(25)) as api:
        pages = source(api, path)
        [*_, last] = pages.pull(None)
        del api.rows[:10]
        with pytest.raises(SourceChanged):
            taken(pages, last.cursor)


def test_without_a_key_a_page_that_has_become_shorter_is_a_named_error() -> None:
    with Api(rows_of(25)) as api:
        pages = source(api, "page", key=None)
        [*_, last] = pages.pull(None)
        del api.rows[-2:]
        with pytest.raises(SourceChanged, match=r"page 3.*it had 5 rows and has 3 now"):
            taken(pages, last.cursor)


def test_a_row_that_is_twice_on_a_page_comes_once() -> None:
    with Api([*rows_of(5), *rows_of(5)]) as api:
        assert taken(source(api, "offset")) == rows_of(5)


def test_a_row_without_its_key_is_unreadable_with_the_reason_and_only_once() -> None:
    with Api(rows_of(15)) as api:
        api.rows[10] = {"name": "nobody"}
        api.rows[12] = "text"  # type: ignore[call-overload]
        found = [item for item in source(api, "offset").pull(None) if isinstance(item, Unreadable)]
        assert found[0].raw == '{"name":"nobody"}'
        assert found[0].reason.endswith("(offset 9), row 2: it has no 'id', which is of the key")
        assert found[1].reason.endswith("row 4: not an object but a string")
        [*_, last] = source(api, "offset").pull(None)
        assert taken(source(api, "offset"), last.cursor) == []


def test_pages_of_more_rows_than_are_remembered_go_on_from_any_row() -> None:
    with Api(rows_of(2600), most=5000) as api:
        for path in ("offset", "page", "cursor"):
            pages = source(api, path, page_size=2500)
            items = list(pages.pull(None))
            for index in [n for n, item in enumerate(items) if isinstance(item, Mark)][::701]:
                assert taken(pages, items[index].cursor) == values(items[index:])


def test_what_is_remembered_in_a_cursor_is_bounded() -> None:
    with Api(rows_of(2600), most=5000) as api:
        [*_, last] = source(api, "offset", page_size=2500).pull(None)
        assert len(json.dumps(last.cursor)) < 12_000


class TestCircles:
    def test_a_cursor_that_stays_the_same_as_do_the_rows_is_a_loop(self) -> None:
        with Api(rows_of(5)) as api:
            api.faults = lambda _request: said({"items": rows_of(5), "paging": {"next": "again"}})
            with pytest.raises(SourceError, match="gives the same rows again, and the same to ask for more"):
                taken(source(api, "cursor", key=None))
            assert len(api.requests) == 2

    @pytest.mark.parametrize("length", [2, 3, 7, 20])
    def test_a_circle_of_links_is_found_whatever_its_length(self, length: int) -> None:
        def around(request: Request) -> Answer:
            number = int(request.query.get("start", 0))
            return said(
                {"results": [{"id": number}], "@odata.nextLink": f"/link?start={number % length + 1}"}
            )

        with Api([]) as api:
            api.faults = around
            with pytest.raises(SourceError, match="it would go on for ever"):
                taken(source(api, "link", key=None))
            assert len(api.requests) < 5 * length

    def test_a_circle_is_found_by_a_job_that_is_resumed_on_each_page(self) -> None:
        with Api([]) as api:
            api.faults = lambda request: said(
                {
                    "items": [{"id": request.query.get("after")}],
                    "paging": {"next": str(int(request.query.get("after", 0)) % 5 + 1)},
                }
            )

            def one_page_each(runs: int) -> None:
                cursor = None
                for _ in range(runs):
                    items = source(api, "cursor", key=None).pull(cursor)
                    cursor = next(item.cursor for item in items if isinstance(item, Mark))

            with pytest.raises(SourceError, match="for ever"):
                one_page_each(30)

    def test_the_same_cursor_with_no_rows_is_the_end_and_where_the_next_run_begins(self) -> None:
        def endless(request: Request) -> Answer:
            begin = int(request.query.get("after", 0))
            rows = api.rows[begin : begin + 10]
            return said({"items": rows, "paging": {"next": str(begin + len(rows))}})

        with Api(rows_of(25)) as api:
            api.faults = endless
            pages = source(api, "cursor")
            items = list(pages.pull(None))
            assert values(items) == rows_of(25)
            api.rows += rows_of(2, 25)
            assert taken(pages, items[-1].cursor) == rows_of(2, 25)

    @pytest.mark.parametrize("key", ["id", None])
    @pytest.mark.parametrize("path", NUMBERED)
    def test_an_api_that_does_not_know_the_parameter_is_a_named_error(
        self, path: str, key: str | None
    ) -> None:
        names = {"offset": {"offset_param": "skip"}, "page": {"page_param": "p"}}[path]
        with Api(rows_of(35)) as api:
            with pytest.raises(
                SourceError, match="the same rows as the page before: does the API take the parameters"
            ):
                taken(source(api, path, key=key, **names))
            asked_for_page_0 = path == "page"
            assert len(api.requests) == (7 if key else 2) + asked_for_page_0

    def test_rows_that_are_all_alike_are_no_circle(self) -> None:
        with Api([{"id": 1, "updated_at": ""}] * 35) as api:
            assert len(taken(source(api, "offset", key=None))) == 35


class TestLinks:
    @pytest.mark.parametrize("target", ["http://localhost:1/next", "//example.org/next", "ftp://127.0.0.1/"])
    def test_a_link_to_another_host_is_a_named_error(self, target: str) -> None:
        with Api([]) as api:
            api.faults = lambda _request: said({"results": [{"id": 1}], "@odata.nextLink": target})
            with pytest.raises(SourceError, match="the link to the next page leads to"):
                taken(source(api, "link"))

    @pytest.mark.parametrize(
        ("link", "expected"),
        [
            ("?page=2", "https://a.org/v1/rows?page=2"),
            ("/v2?x=1#part", "https://a.org/v2?x=1"),
            ("http://a.org/rows", "https://a.org/rows"),
            ("http://a.org:80/rows", "https://a.org/rows"),
            ("https://a.org:443/rows", "https://a.org:443/rows"),
        ],
    )
    def test_links_are_made_absolute_and_stay_with_tls(self, link: str, expected: str) -> None:
        from etl.sources.paging.links import absolute

        assert absolute(link, "https://a.org/v1/rows?page=1", "https://a.org/v1/rows") == expected

    @pytest.mark.parametrize(
        ("header", "expected"),
        [
            ('<u?a=1,2;3>; rel="next"', "u?a=1,2;3"),
            ('<p>; rel=prev, <n>; rel=next; title="x"', "n"),
            ('<n>; title="a, <b>; rel=\\"no\\""; REL="last Next"', "n"),
            ("<n>;rel=next", "n"),
            ('<a>; rel="nextish", <b>; rel="prev"', None),
            ('<a>; rev="next"', None),
            ("", None),
        ],
    )
    def test_the_header_is_read_as_its_standard_has_it(self, header: str, expected: str | None) -> None:
        from etl.sources.paging.links import next_of

        assert next_of(header) == expected
