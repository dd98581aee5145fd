"""Every style and preset: all rows, once, in their order, from any place, and where new rows came."""

from __future__ import annotations

from typing import Any

import pytest
from paged_api import STYLES, Api, rows_of, said
from pulling import assert_resumes_everywhere, last_cursor, taken

from etl.errors import SourceError
from etl.sources import Pages


def source(api: Api, path: str, page_size: int = 10, **changes: Any) -> Pages:
    return Pages(f"{api.url}/{path}", **{"page_size": page_size, "deadline": 30, **STYLES[path], **changes})


@pytest.mark.parametrize("key", [None, "id"])
@pytest.mark.parametrize("count", [0, 1, 10, 11, 20])
@pytest.mark.parametrize("path", STYLES)
def test_all_rows_come_once_and_in_order(path: str, count: int, key: str | None) -> None:
    with Api(rows_of(count)) as api:
        assert taken(source(api, path, key=key)) == rows_of(count)


@pytest.mark.parametrize("key", [None, "id"])
@pytest.mark.parametrize("count", [0, 20, 25])
@pytest.mark.parametrize("path", STYLES)
def test_a_pull_goes_on_from_every_mark(path: str, count: int, key: str | None) -> None:
    with Api(rows_of(count)) as api:
        assert_resumes_everywhere(source(api, path, key=key))


@pytest.mark.parametrize("key", [None, "id"])
@pytest.mark.parametrize(("count", "more"), [(0, 5), (20, 1), (25, 5), (25, 6), (25, 40)])
@pytest.mark.parametrize(
    ("path", "total"), [*((path, None) for path in STYLES), ("offset", "count"), ("page", "total")]
)
def test_a_later_run_takes_the_rows_that_came_last(
    path: str, total: str | None, count: int, more: int, key: str | None
) -> None:
    with Api(rows_of(count)) as api:
        pages = source(api, path, key=key, total_path=total)
        cursor = last_cursor(pages)
        assert taken(pages, cursor) == []
        cursor = last_cursor(pages, cursor)
        api.rows += rows_of(more, count)
        assert taken(pages, cursor) == rows_of(more, count)
        cursor = last_cursor(pages, cursor)
        assert taken(pages, cursor) == []


@pytest.mark.parametrize("path", ["offset", "array", "page"])
def test_a_server_that_gives_less_than_was_asked_for_is_read_to_its_end(path: str) -> None:
    with Api(rows_of(25), most=7) as api:
        pages = source(api, path, page_size=100)
        assert taken(pages) == rows_of(25)
        assert_resumes_everywhere(pages)


def test_a_total_saves_the_last_request_where_the_last_page_is_short() -> None:
    """It may be a lower bound (Elasticsearch: `relation`), or cached: full pages are no end."""
    for count, requests in ((20, 3), (25, 3)):
        with Api(rows_of(count)) as api:
            assert len(taken(source(api, "page", total_path="total"))) == count
            assert len(api.requests) == requests


def test_an_api_that_goes_no_further_than_some_offset_is_a_named_error() -> None:
    with Api(rows_of(25)) as api:
        api.faults = lambda request: (
            said({"data": {"rows": []}, "count": 25}) if request.query["offset"] == "20" else None
        )
        pages = source(api, "offset", total_path="count")
        with pytest.raises(SourceError, match=r"25 rows, as it says, but gives none after 20"):
            taken(pages)


def test_more_path_says_that_there_is_no_more_though_there_is_a_cursor() -> None:
    with Api(rows_of(25)) as api:
        pages = source(api, "cursor", more_path="has_more", first_cursor=None)
        assert taken(pages) == rows_of(25)
        assert_resumes_everywhere(pages)


def test_a_key_may_be_made_of_several_fields() -> None:
    with Api(rows_of(25)) as api:
        assert taken(source(api, "offset", key=["id", "name"])) == rows_of(25)


def test_parameters_of_the_url_and_of_the_table_are_sent_with_each_page() -> None:
    with Api(rows_of(25)) as api:
        url = f"{api.url}/offset?a=1"
        pages = Pages(url, style="offset", records="data.rows", params={"b": True, "c": 2.5}, page_size=10)
        assert len(taken(pages)) == 25
        assert [(r.query["a"], r.query["b"], r.query["c"]) for r in api.requests] == [
            ("1", "true", "2.5")
        ] * 4


def test_progress_is_the_share_of_the_total() -> None:
    with Api(rows_of(25)) as api:
        pages = source(api, "offset", total_path="count")
        shares = {pages.progress() for _ in pages.pull(None)}
        assert shares == {None, 0.4, 0.8, 1.0}


class TestPresets:
    def test_socrata_is_asked_in_the_order_of_its_ids(self) -> None:
        with Api(rows_of(2500)) as api:
            pages = Pages(
                f"{api.url}/resource/abcd-1234.json", preset="socrata", secrets={"app_token": "t0ken"}
            )
            assert taken(pages) == [{"name": row["name"]} for row in api.rows]
            assert {r.query["$order"] for r in api.requests} == {":id"}
            assert {r.headers["x-app-token"] for r in api.requests} == {"t0ken"}
            assert {r.query["$limit"] for r in api.requests} == {"1000"}
            assert all("app_token" not in r.query for r in api.requests)
            assert_resumes_everywhere(pages)

    def test_socrata_can_be_told_apart_by_system_fields(self) -> None:
        with Api(rows_of(25)) as api:
            pages = Pages(
                f"{api.url}/resource/abcd-1234.json",
                preset="socrata",
                params={"$select": ":*, *"},
                key=":id",
                page_size=10,
            )
            assert [row[":id"] for row in taken(pages)] == list(range(25))
            assert_resumes_everywhere(pages)

    def test_ckan_is_read_to_its_total_though_it_gives_less_than_asked_for(self) -> None:
        with Api(rows_of(25), most=10) as api:
            pages = Pages(
                f"{api.url}/api/3/action/datastore_search", preset="ckan", params={"resource_id": "r"}
            )
            assert [row["_id"] for row in taken(pages)] == list(range(1, 26))
            assert_resumes_everywhere(pages)

    def test_openalex_is_read_until_there_is_no_next_cursor(self) -> None:
        with Api(rows_of(250)) as api:
            pages = Pages(f"{api.url}/works", preset="openalex", params={"mailto": "you@example.org"})
            assert [row["id"] for row in taken(pages)] == [f"https://openalex.org/W{n}" for n in range(250)]
            assert [r.query["per_page"] for r in api.requests] == ["100"] * 4
            assert_resumes_everywhere(pages)
            cursor = last_cursor(pages)
            api.rows += rows_of(3, 250)
            assert len(taken(pages, cursor)) == 3

    def test_what_is_given_goes_before_a_preset(self) -> None:
        with Api(rows_of(25)) as api:
            pages = Pages(f"{api.url}/works", preset="openalex", page_size=7, key=[], total_path="")
            assert len(taken(pages)) == 25
            assert {r.query["per_page"] for r in api.requests} == {"7"}
            assert pages.progress() is None


@pytest.mark.parametrize(
    ("path", "changes"), [("cursor", {"cursor_path": "paging.nxt"}), ("link", {"next_path": "links.nxt"})]
)
def test_a_name_that_the_first_page_has_not_is_told(
    caplog: pytest.LogCaptureFixture, path: str, changes: dict[str, str]
) -> None:
    with Api(rows_of(25)) as api:
        records = [item for item in source(api, path, **changes).pull(None) if isinstance(item, dict)]
    assert len(records) == 10
    (said,) = [record.getMessage() for record in caplog.records if record.name == "etl.sources"]
    (name, value) = next(iter(changes.items()))
    assert f"nothing at {name} = {value!r}" in said
    assert "the answer's names are: " in said
