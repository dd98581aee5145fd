"""An API that serves rows in pages, in every style, and as Socrata, CKAN and OpenAlex do."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlencode

from tests.web import Answer, Request, WebServer

JSON = {"Content-Type": "application/json;charset=utf-8"}


def rows_of(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Make rows that tell themselves apart by their id, and by a time of change that grows with it."""
    return [
        {
            "id": number,
            "name": f"row {number} é☃",
            "updated_at": f"2024-01-{1 + number // 1440 % 28:02}T{number // 60 % 24:02}:{number % 60:02}:00Z",
        }
        for number in range(first, first + count)
    ]


class Api:
    """Serves `rows`, which may be changed between two requests.

    Args:
        rows: what there is, in the order in which it is served.
        most: the most rows of a page, whatever is asked for.

    Attributes:
        before: called with each request before it is answered.
        faults: takes the place of the answer where it returns one.
    """

    def __init__(self, rows: list[dict[str, Any]], most: int = 1000) -> None:
        self.rows = rows
        self.most = most
        self.before: Callable[[Request], None] = lambda _request: None
        self.faults: Callable[[Request], Answer | None] = lambda _request: None
        self.server = WebServer(self.answer)

    def __enter__(self) -> Api:
        self.server.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.__exit__(*exception)

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def requests(self) -> list[Request]:
        return self.server.requests

    def answer(self, request: Request) -> Answer:
        self.before(request)
        return self.faults(request) or self.serve(request)

    def serve(self, request: Request) -> Answer:
        """Answer without faults."""
        serve = {
            "/offset": self.offset,
            "/array": self.array,
            "/page": self.page,
            "/cursor": self.cursor,
            "/link": self.link,
            "/header": self.header,
            "/body": self.body,
            "/form": self.form,
            "/graphql": self.graphql,
            "/stac": self.stac,
            "/resource/abcd-1234.json": self.socrata,
            "/api/3/action/datastore_search": self.ckan,
            "/works": self.openalex,
        }.get(request.path)
        return Answer(status=404) if serve is None else serve(request)

    def since(self, request: Request) -> list[dict[str, Any]]:
        """Return the rows that changed since a parameter's time."""
        bound = request.query.get("since", "")
        return [row for row in self.rows if not bound or row["updated_at"] >= bound]

    def offset(self, request: Request) -> Answer:
        rows = self.since(request)
        begin = int(request.query.get("offset", 0))
        size = min(int(request.query.get("limit", 100)), self.most)
        return said({"data": {"rows": rows[begin : begin + size]}, "count": len(rows)})

    def array(self, request: Request) -> Answer:
        begin = int(request.query.get("offset", 0))
        return said(self.rows[begin : begin + min(int(request.query.get("limit", 100)), self.most)])

    def page(self, request: Request) -> Answer:
        rows = self.since(request)
        size = min(int(request.query.get("per_page", 100)), self.most)
        begin = (int(request.query.get("page", 1)) - 1) * size
        return said({"data": rows[begin : begin + size], "total": len(rows)})

    def cursor(self, request: Request) -> Answer:
        """Page by the id of the last row, as keyset paging does."""
        size = min(int(request.query.get("limit", 100)), self.most)
        after = request.query.get("after")
        last = -1 if after is None else int(base64.urlsafe_b64decode(after).decode().removeprefix("after "))
        ahead = sorted((row for row in self.since(request) if row["id"] > last), key=lambda row: row["id"])
        token = (
            base64.urlsafe_b64encode(f"after {ahead[size - 1]['id']}".encode()).decode()
            if len(ahead) > size
            else None
        )
        return said({"items": ahead[:size], "paging": {"next": token}, "has_more": token is not None})

    def link(self, request: Request) -> Answer:
        """Give a link that has all parameters of the request in it, relative to the URL."""
        size = min(int(request.query.get("limit", 100)), self.most)
        begin = int(request.query.get("start", 0))
        rows = self.since(request)
        query = {**request.query, "start": str(begin + size)}
        more = begin + size < len(rows)
        target = f"?{urlencode(query)}"
        return said({"results": rows[begin : begin + size], "@odata.nextLink": target if more else None})

    def header(self, request: Request) -> Answer:
        size = min(int(request.query.get("per_page", 100)), self.most)
        number = int(request.query.get("page", 1))
        rows = self.rows[(number - 1) * size : number * size]
        links = [f'<{self.url}/header?per_page={size}&page=1>; rel="first"; title="a, b; <c>"']
        if number * size < len(self.rows):
            query = {**request.query, "page": str(number + 1)}
            links.append(f'<{self.url}/header?{urlencode(query)}>; rel="next"')
        return replace(said(rows), headers={**JSON, "Link": ", ".join(links)})

    def body(self, request: Request) -> Answer:
        """Page by what a nested JSON body says."""
        asked = json.loads(request.body)
        assert (request.method, asked["filter"]) == ("POST", {"state": ["NY"]})
        begin, size = asked["page"].get("from", 0), min(asked["page"].get("size", 100), self.most)
        return said({"data": {"rows": self.rows[begin : begin + size]}, "count": len(self.rows)})

    def form(self, request: Request) -> Answer:
        """Page by the fields of a form."""
        asked = {name: values[-1] for name, values in parse_qs(request.body.decode()).items()}
        assert asked["q"] == "a b&c"
        size = min(int(asked.get("per_page", 100)), self.most)
        begin = (int(asked["page"]) - 1) * size
        return said({"data": self.rows[begin : begin + size]})

    def graphql(self, request: Request) -> Answer:
        """Page as Relay's Cursor Connections have it: `endCursor` is there on the last page too."""
        variables = json.loads(request.body)["variables"]
        after = int(base64.b64decode(variables["after"])) if "after" in variables else -1
        ahead = [row for row in self.rows if row["id"] > after]
        nodes = ahead[: min(variables.get("first", 100), self.most)]
        end = base64.b64encode(str(nodes[-1]["id"]).encode()).decode() if nodes else variables.get("after")
        info = {"endCursor": end, "hasNextPage": len(ahead) > len(nodes)}
        return said({"data": {"rows": {"nodes": nodes, "pageInfo": info}}})

    def stac(self, request: Request) -> Answer:
        """Page as STAC's Item Search does: by a link object, for GET and for POST, with or without `merge`."""
        asked = json.loads(request.body) if request.method == "POST" else dict(request.query)
        size, begin = min(int(asked.get("limit", 10)), self.most), int(asked.get("token", 0))
        links: list[dict[str, Any]] = [
            {"rel": "self", "href": f"{self.url}/stac"},
            {"rel": "root", "href": "/"},
        ]
        if begin:
            links.insert(begin // size % 2, {"rel": "prev", "href": f"/stac?token={begin - size}"})
        if begin + size < len(self.rows):
            follow: dict[str, Any] = {"rel": "next", "href": f"/stac?token={begin + size}&limit={size}"}
            if request.method == "POST":
                assert asked["collections"] == ["naip"]
                token = {"token": str(begin + size)}
                merge = asked.get("merge", True)
                follow = {
                    "rel": "next",
                    "href": f"{self.url}/stac",
                    "method": "POST",
                    "body": token if merge else {**asked, **token},
                    "merge": merge,
                }
            links.append(follow)
        return said(
            {"type": "FeatureCollection", "features": self.rows[begin : begin + size], "links": links}
        )

    def socrata(self, request: Request) -> Answer:
        """Answer as SODA 2.1: system fields are only there when they are selected, null fields never."""
        query = request.query
        if query.get("$order") != ":id":
            return Answer(status=500)  # so that no test can pass without it
        rows = [
            {f":{name}" if name in ("id", "updated_at") else name: v for name, v in row.items()}
            for row in self.rows
        ]
        if where := query.get("$where"):
            match = re.fullmatch(r":updated_at >= '([^']*)'", where)
            assert match, where
            rows = [row for row in rows if row[":updated_at"] >= match[1]]
        begin = int(query.get("$offset", 0))
        rows = rows[begin : begin + min(int(query.get("$limit", 1000)), 50_000)]
        system = ":*" in query.get("$select", "")
        shown = [{k: v for k, v in row.items() if v is not None and (system or k[0] != ":")} for row in rows]
        headers = {
            **JSON,
            "X-SODA2-Fields": json.dumps([":id", "name", ":updated_at"]),
            "X-SODA2-Types": json.dumps(["row_identifier", "text", "fixed_timestamp"]),
            "X-SODA2-Data-Out-Of-Date": "false",
            "Last-Modified": "Tue, 24 Feb 2015 18:51:22 GMT",
        }
        return replace(said(shown), headers=headers)

    def ckan(self, request: Request) -> Answer:
        query = request.query
        limit, begin = min(int(query.get("limit", 100)), self.most), int(query.get("offset", 0))
        assert query["sort"] == "_id"
        rows = [{"_id": row["id"] + 1, "name": row["name"]} for row in self.rows]
        path = f"/api/3/action/datastore_search?resource_id={query['resource_id']}"
        return said(
            {
                "help": f"{self.url}/api/3/action/help_show?name=datastore_search",
                "success": True,
                "result": {
                    "include_total": True,
                    "limit": limit,
                    "offset": begin,
                    "records_format": "objects",
                    "resource_id": query["resource_id"],
                    "total_estimation_threshold": None,
                    "records": rows[begin : begin + limit],
                    "fields": [{"id": "_id", "type": "int"}, {"id": "name", "type": "text"}],
                    "_links": {"start": path, "next": f"{path}&offset={begin + limit}"},
                    "total": len(rows),
                    "total_was_estimated": False,
                },
            }
        )

    def openalex(self, request: Request) -> Answer:
        """Page by a cursor; the last one asks for a page without results and a null in place of the next."""
        query = request.query
        size = min(int(query.get("per_page", 25)), 100)
        last = -1 if query["cursor"] == "*" else json.loads(base64.b64decode(query["cursor"]))[0]
        ahead = [row for row in self.rows if row["id"] > last][:size]
        token = base64.b64encode(json.dumps([ahead[-1]["id"], "W"]).encode()).decode() if ahead else None
        works = [{"id": f"https://openalex.org/W{row['id']}", "display_name": row["name"]} for row in ahead]
        meta = {
            "count": len(self.rows),
            "db_response_time_ms": 28,
            "page": None,
            "per_page": size,
            "next_cursor": token,
        }
        return said({"meta": {**meta, "groups_count": None}, "results": works, "group_by": []})


def said(document: Any) -> Answer:
    return Answer(headers=JSON, body=json.dumps(document, ensure_ascii=False).encode())


# How each style is told to `Pages`, by the path it is served at; `page_size` is added.
STYLES: dict[str, dict[str, Any]] = {
    "offset": {"style": "offset", "records": "data.rows"},
    "array": {"style": "offset"},
    "page": {"style": "page", "records": "data", "size_param": "per_page"},
    "cursor": {
        "style": "cursor",
        "records": "items",
        "cursor_param": "after",
        "cursor_path": "paging.next",
        "size_param": "limit",
    },
    "link": {
        "style": "next_link",
        "records": "results",
        "next_path": "@odata.nextLink",
        "size_param": "limit",
    },
    "header": {"style": "link_header", "size_param": "per_page"},
    "body": {
        "style": "offset",
        "records": "data.rows",
        "body": {"filter": {"state": ["NY"]}},
        "offset_param": "page.from",
        "size_param": "page.size",
    },
    "graphql": {
        "query": "query ($first: Int, $after: String) { rows(first: $first, after: $after) { nodes { id } } }",
        "records": "data.rows.nodes",
    },
}
