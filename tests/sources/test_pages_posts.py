"""Requests with a body: JSON, forms and GraphQL, and links that say what to post."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

import pytest
from paged_api import STYLES, Api, rows_of, said
from pulling import assert_resumes_everywhere, last_cursor, taken

from etl.errors import SourceError
from etl.sources import Pages
from tests.web import Answer, Request

URL = "https://api.example.org/search"
SECRET = "s3cret-key-0123"
FORM: dict[str, Any] = {
    "style": "page",
    "records": "data",
    "size_param": "per_page",
    "form": {"q": "a b&c", "all": True},
}
STAC: dict[str, Any] = {"style": "next_link", "records": "features", "next_path": "links[rel=next]"}


def source(api: Api, path: str, **arguments: Any) -> Pages:
    return Pages(f"{api.url}/{path}", **{"deadline": 30, **arguments})


def bodies(api: Api) -> list[Any]:
    return [json.loads(request.body) for request in api.requests]


def test_what_asks_for_a_page_goes_into_the_body_as_numbers() -> None:
    with Api(rows_of(25)) as api:
        assert len(taken(source(api, "body", **STYLES["body"], page_size=10))) == 25
        assert [body["page"] for body in bodies(api)] == [{"from": n, "size": 10} for n in (0, 10, 20, 25)]
        assert {body["filter"]["state"][0] for body in bodies(api)} == {"NY"}
        assert {request.headers["content-type"] for request in api.requests} == {"application/json"}
        assert not any(request.query for request in api.requests)


def test_a_form_is_sent_with_each_page() -> None:
    with Api(rows_of(25)) as api:
        pages = source(api, "form", **FORM, page_size=10)
        assert taken(pages) == rows_of(25)
        assert_resumes_everywhere(pages)
        assert {r.headers["content-type"] for r in api.requests} == {"application/x-www-form-urlencoded"}
        asked = [parse_qs(request.body.decode()) for request in api.requests]
        assert [form["page"] for form in asked[:3]] == [["1"], ["0"], ["2"]]
        assert asked[2] == {
            "q": ["a b&c"],
            "all": ["true"],
            "page": ["2"],
            "per_page": ["10"],
        }


def test_graphql_is_asked_by_its_variables() -> None:
    """GraphQL's Cursor Connections Specification (Relay): `pageInfo`, `first` and `after`."""
    with Api(rows_of(25)) as api:
        pages = source(api, "graphql", **STYLES["graphql"], variables={"org": "x"}, page_size=10)
        assert taken(pages) == rows_of(25)
        first, second, _ = bodies(api)
        assert first["variables"] == {"org": "x", "first": 10}
        assert second["variables"].keys() == {"org", "first", "after"}
        assert first["query"] == STYLES["graphql"]["query"]


def test_graphql_with_offsets_and_edges() -> None:
    def answer(request: Request) -> Answer:
        variables = json.loads(request.body)["variables"]
        rows = rows_of(25)[variables["skip"] :][: variables["n"]]
        return said({"data": {"rows": {"edges": [{"node": row} for row in rows]}}})

    with Api([]) as api:
        api.faults = answer
        pages = source(
            api,
            "graphql",
            query="{ rows }",
            style="offset",
            offset_param="skip",
            size_param="n",
            page_size=10,
            records="data.rows.edges.*.node",
        )
        assert taken(pages) == rows_of(25)
        assert_resumes_everywhere(pages)


@pytest.mark.parametrize(
    "document",
    [
        {"errors": [{"message": "no such field"}]},
        {"data": None, "errors": [{"message": "no such field"}]},
        {"data": {"rows": {"nodes": rows_of(2), "pageInfo": {}}}, "errors": [{"message": "no such field"}]},
    ],
)
def test_errors_of_graphql_are_errors_though_there_are_data(document: Any) -> None:
    """The GraphQL specification, section "Errors": a response may hold both."""
    with Api([]) as api:
        api.faults = lambda _request: said(document)
        with pytest.raises(SourceError, match=r"the first page.*errors: no such field\. Correct the request"):
            taken(source(api, "graphql", **STYLES["graphql"]))


@pytest.mark.parametrize(
    "arguments",
    [{}, {"body": {"collections": ["naip"]}}, {"body": {"collections": ["naip"], "merge": False}}],
)
def test_a_link_says_what_to_post(arguments: Any) -> None:
    """STAC API 1.0, Item Search, "Paging": `method`, `body` and `merge` of the link to the next page."""
    with Api(rows_of(25)) as api:
        pages = source(api, "stac", **STAC, **arguments)
        assert taken(pages) == rows_of(25)
        assert {request.method for request in api.requests} == {"POST" if arguments else "GET"}
        assert_resumes_everywhere(pages)
        cursor = last_cursor(pages)
        api.rows += rows_of(7, 25)
        assert taken(pages, cursor) == rows_of(7, 25)


def test_a_link_that_wants_its_body_is_told_to_be_named_as_a_whole() -> None:
    with Api(rows_of(25)) as api:
        api.faults = lambda _request: said(
            {
                "features": rows_of(2),
                "links": [{"rel": "next", "href": f"{api.url}/stac", "body": {"token": 2}}],
            }
        )
        with pytest.raises(
            SourceError, match=r"leads to this page itself.*let next_path name the whole link"
        ):
            taken(source(api, "stac", **{**STAC, "next_path": "links[rel=next].href"}, body={}))


def test_a_cursor_may_be_an_array_in_a_body() -> None:
    """Elasticsearch, "Paginate search results": `search_after` takes the `sort` of the last hit."""

    def answer(request: Request) -> Answer:
        after = json.loads(request.body).get("search_after", [-1, ""])
        hits = [
            {"_id": row["id"], "sort": [row["id"], row["name"]]}
            for row in rows_of(25)
            if row["id"] > after[0]
        ]
        return said({"hits": {"hits": hits[:10]}})

    with Api([]) as api:
        api.faults = answer
        pages = source(
            api,
            "es",
            style="cursor",
            body={"query": {"match_all": {}}},
            records="hits.hits",
            cursor_param="search_after",
            cursor_path="hits.hits.-1.sort",
            key="_id",
        )
        assert [row["_id"] for row in taken(pages)] == list(range(25))
        assert_resumes_everywhere(pages)


def test_pages_may_be_asked_for_in_the_query_of_a_post() -> None:
    with Api(rows_of(25)) as api:
        api.faults = lambda request: api.offset(request) if json.loads(request.body) == {"q": 1} else None
        pages = source(
            api, "offset", **{**STYLES["offset"], "body": {"q": 1}, "paging_in": "query", "page_size": 10}
        )
        assert taken(pages) == rows_of(25)


def test_secrets_may_go_into_the_body() -> None:
    with Api(rows_of(25)) as api:
        pages = source(
            api,
            "body",
            **{**STYLES["body"], "body": {**STYLES["body"]["body"], "auth": {"user": "me"}}},
            secrets={"auth.api_key": SECRET},
            secrets_in="body",
        )
        assert len(taken(pages)) == 25
        assert {str(body["auth"]) for body in bodies(api)} == {str({"user": "me", "api_key": SECRET})}
        assert SECRET not in pages.fingerprint()
        assert not any(request.query for request in api.requests)


@pytest.mark.parametrize("status", [307, 308])
def test_a_post_that_is_redirected_stays_one(status: int) -> None:
    with Api(rows_of(25)) as api:
        api.faults = lambda request: (
            Answer(status=status, headers={"Location": "/body"}) if request.path == "/old" else None
        )
        assert len(taken(source(api, "old", **STYLES["body"]))) == 25


@pytest.mark.parametrize(
    ("status", "target"), [(301, "/body"), (302, "/body"), (303, "/body"), (307, "http://localhost:1/body")]
)
def test_a_redirect_that_would_lose_or_tell_the_body_is_a_named_error(status: int, target: str) -> None:
    """RFC 9110, section 15.4: clients make a GET of it, which would answer something else."""
    with Api([]) as api:
        api.faults = lambda _request: Answer(status=status, headers={"Location": target})
        with pytest.raises(
            SourceError, match=rf"sent by POST is redirected \({status}\) to .*put that URL in its place"
        ):
            taken(source(api, "old", **STYLES["body"]))
        assert len(api.requests) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"style": "offset", "method": "GET", "body": {}}, "body: a GET has none"),
        ({"style": "offset", "body": {}, "form": {}}, "form: give body or form, not both"),
        ({"style": "offset", "variables": {}}, "variables: are for a query of GraphQL"),
        ({"query": " "}, "cursor_path: missing"),
        ({"query": " ", "records": "data.x.nodes"}, "query: it is empty"),
        ({"style": "offset", "paging_in": "body"}, 'paging_in: "body", but there is none'),
        ({"style": "offset", "secrets_in": "body"}, 'secrets_in: "body", but there is none'),
        ({"style": "offset", "body": {"offset": 1}}, "body: 'offset' is set by the style"),
        ({"style": "offset", "body": {"a": 1}, "offset_param": "a.b"}, "body: 'a' is no object"),
        (
            {"style": "offset", "body": {"auth": {"api_key": "x"}}},
            "body: auth.api_key is a secret by its name",
        ),
        ({"style": "offset", "form": {"a": [1]}}, "form: 'a' is neither text nor a number"),
        (
            {"style": "offset", "body": {"k": 1}, "secrets": {"k": "v"}, "secrets_in": "body"},
            "body: 'k' is set by secrets",
        ),
        (
            {"style": "cursor", "cursor_param": "c", "cursor_path": "n", "end_statuses": [404]},
            "end_statuses: is for",
        ),
        ({"style": "offset", "end_statuses": [401]}, "end_statuses: 401 cannot say"),
        ({"style": "offset", "end_statuses": [503]}, "end_statuses: 503 cannot say"),
        ({"style": "offset", "end_cursors": [0]}, "end_cursors: is for the style cursor"),
        ({"style": "offset", "page_format": "xml"}, "page_format: 'xml' is none of"),
        ({"style": "offset", "page_format": "csv", "records": "r"}, "records: is for pages of JSON"),
        ({"style": "offset", "columns": []}, "columns: it is empty"),
    ],
)
def test_a_wrong_combination_is_told(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pages(URL, **arguments)


def test_the_fingerprint_holds_the_body_and_is_what_it_was_without_one() -> None:
    def of(**changes: Any) -> str:
        return Pages(URL, **{"style": "offset", **changes}).fingerprint()

    others = [{"body": {"a": 1}}, {"body": {"a": 2}}, {"form": {"b": 1}}, {"method": "POST"}]
    assert len({of(), *(of(**changes) for changes in others)}) == 5
    assert of() == (
        '{"pages":"https://api.example.org/search","style":"offset","params":{},"page_size":null,"records":null,'
        '"key":[],"updated_at":null}'
    )
