"""What `Pages` takes, and what each wrong combination is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from etl import registry
from etl.config import read
from etl.errors import ConfigError
from etl.sources import Pages

URL = "https://api.example.org/v1/rows"
CURSOR = {"style": "cursor", "cursor_param": "after", "cursor_path": "next"}
SINCE = {"field": "updated_at", "param": "since"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {},
            "style: missing; there are: offset, page, cursor, next_link, link_header; or a preset: socrata, ckan",
        ),
        ({"style": "scroll"}, "style: 'scroll' is none of: offset, page"),
        ({"preset": "dkan"}, "preset: 'dkan' is none of: socrata, ckan, openalex"),
        ({"preset": "ckan", "style": "page"}, "style: the preset ckan has its own"),
        (
            {"style": "offset", "page_param": "p"},
            "page_param: is for the style page; the style offset takes: offset_param",
        ),
        (
            {"style": "link_header", "next_path": "n"},
            "next_path: is for the style next_link; the style link_header takes",
        ),
        ({"style": "cursor", "cursor_param": "c"}, "cursor_path: missing; the style cursor needs it"),
        ({"style": "cursor", "cursor_path": "c"}, "cursor_param: missing"),
        ({"style": "page", "page_size": 10}, "page_size: size_param is missing"),
        ({"style": "offset", "page_size": 0}, "page_size: 0 is no whole number from 1 on"),
        (
            {"style": "offset", "overlap": 1},
            "overlap: 1 is not from 0 to 100 and below page_size, with a key",
        ),
        ({"style": "offset", "overlap": 5, "key": "id", "page_size": 5}, "overlap: 5"),
        ({"style": "offset", "overlap": 101, "key": "id"}, "overlap: 101"),
        ({"style": "offset", "params": {"offset": 1}}, "params: 'offset' is set by the style"),
        ({"style": "offset", "params": {"limit": 1}, "page_size": 5}, "params: 'limit' is set by the style"),
        ({**CURSOR, "params": {"after": 1}}, "params: 'after' is set by the style"),
        ({"style": "offset", "params": {"a": [1]}}, "params: 'a' is neither text nor a number"),
        (
            {"style": "offset", "params": {"api_key": "x"}},
            "params: api_key is a secret by its name: put it into secrets",
        ),
        ({"style": "offset", "url": f"{URL}?token=x"}, "url: token is a secret by its name"),
        ({"style": "offset", "url": f"{URL}?a=1", "params": {"a": 1}}, "params: 'a' is in the url too"),
        ({"style": "offset", "url": f"{URL}?offset=1"}, "'offset' is set by the style"),
        ({"style": "offset", "url": "ftp://a.org/"}, "is no URL that begins with http"),
        ({"style": "offset", "url": "https://me:pass@a.org/"}, "url: it holds a user or a password"),
        ({"style": "offset", "secrets": {"k": ""}}, "secrets: 'k' has no text"),
        ({"style": "offset", "headers": {"A": "x\ny"}}, "headers: 'A' or its value cannot be sent"),
        ({"style": "offset", "key": ["a", "a"]}, "key: .* is no list of different fields"),
        ({"style": "offset", "key": [""]}, "key: .* is no list of different fields"),
        ({"style": "offset", "max_page_bytes": 0}, "max_page_bytes: 0"),
        ({"style": "offset", "requests_per_second": 0}, "requests_per_second"),
        ({"style": "offset", "deadline": 0}, "deadline"),
        (
            {"style": "offset", "updated_at": {"param": "p"}},
            "updated_at: .*missing required field `field`.*it takes: field",
        ),
        (
            {"style": "offset", "updated_at": {**SINCE, "lookback": 1}},
            "updated_at: .*unknown field `lookback`.*look_back",
        ),
        ({"style": "offset", "updated_at": {**SINCE, "format": "unix"}}, "updated_at: .*'unix'"),
        ({"style": "offset", "updated_at": {**SINCE, "template": "x"}}, "template = 'x' has no {}"),
        ({"style": "offset", "updated_at": {**SINCE, "start": "soon"}}, "updated_at: start is no time"),
        ({"style": "offset", "updated_at": {**SINCE, "look_back": -1}}, "look_back = -1"),
        (
            {"style": "offset", "updated_at": {**SINCE, "look_back": 1}},
            "look_back needs a key to tell rows apart",
        ),
        (
            {"style": "offset", "updated_at": {**SINCE, "param": "offset"}},
            "param = 'offset' is what asks for a page",
        ),
        (
            {"style": "offset", "updated_at": SINCE, "params": {"since": 1}},
            "write both conditions into updated_at.templ",
        ),
        ({"style": "offset", "updated_at": {**SINCE, "field": ""}}, "field and param must be named"),
        (
            {"preset": "socrata", "params": {"$order": "date"}},
            "does not tell all rows apart: end it with ', :id'",
        ),
        ({"preset": "socrata", "params": {"$group": "a"}}, "with \\$group, give an \\$order"),
        ({"preset": "socrata", "params": {"$query": "SELECT 1"}}, "\\$query cannot be paged"),
        ({"preset": "ckan"}, "params: resource_id is missing"),
        ({"preset": "ckan", "params": {"resource_id": "r", "sort": "a"}}, "end it with ', _id'"),
        ({"preset": "openalex", "cursor_path": "n", "page_param": "p"}, "page_param: is for the style page"),
    ],
)
def test_a_wrong_combination_is_told_what_is_allowed(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pages(**{"url": URL, **arguments})


@pytest.mark.parametrize(
    "arguments",
    [
        {"preset": "socrata", "params": {"$order": "date DESC, :id"}},
        {"preset": "socrata", "params": {"$group": "a", "$select": "a, count(*)", "$order": "a"}},
        {"preset": "ckan", "params": {"resource_id": "r", "sort": "a desc, _id", "fields": "a"}},
        {"style": "page", "first_page": 0},
        {**CURSOR, "first_cursor": "*"},
    ],
)
def test_what_fits_is_taken(arguments: dict[str, Any]) -> None:
    Pages(URL, **arguments)


def test_the_fingerprint_holds_what_gives_cursors_their_meaning() -> None:
    def of(**changes: Any) -> str:
        return Pages(URL, **{"style": "offset", "page_size": 10, **changes}).fingerprint()

    same = [
        {"page_size": 20},
        {"headers": {"A": "b"}},
        {"secrets": {"k": "v"}},
        {"deadline": 5},
        {"overlap": 0},
    ]
    others = [{"key": "id"}, {"params": {"a": 1}}, {"records": "r"}, {"updated_at": SINCE}]
    assert {of(**changes) for changes in same} == {of()}
    assert len({of(), *(of(**changes) for changes in others)}) == 5
    numbered = {"style": "page", "size_param": "n"}
    assert of(**numbered) != of(**numbered, page_size=20)


def test_a_job_file_says_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "s3cret")
    job = tmp_path / "job.toml"
    job.write_text(
        """
        [source]
        type = "pages"
        url = "https://api.example.org/v1/rows"
        style = "cursor"
        cursor_param = "after"
        cursor_path = "meta.next"
        records = "data"
        page_size = 200
        size_param = "limit"
        key = ["id"]
        requests_per_second = 5

        [source.params]
        state = "NY"
        year = 2024
        open = true

        [source.secrets]
        api_key = "${MY_KEY}"

        [source.updated_at]
        field = "updated"
        param = "since"
        start = 2024-01-01
        look_back = 3600

        [sink]
        type = "null"
        """
    )
    pipeline = read(job).pipeline()
    assert isinstance(pipeline.source, Pages)
    assert "s3cret" not in json.dumps(pipeline.fingerprint)
    assert pipeline.source._secrets == {"api_key": "s3cret"}


def test_a_wrong_job_file_is_told_where() -> None:
    with pytest.raises(ConfigError, match=r'source\.page_size: expected an integer, found "many"'):
        registry.build("sources", {"type": "pages", "url": URL, "page_size": "many"}, "source")
    with pytest.raises(ConfigError, match=r'source\.pagesize: unknown key \(did you mean "page_size"\?\)'):
        registry.build("sources", {"type": "pages", "url": URL, "pagesize": 1}, "source")
    with pytest.raises(ConfigError, match=r"source: cursor_path: missing"):
        registry.build(
            "sources", {"type": "pages", "url": URL, "style": "cursor", "cursor_param": "a"}, "source"
        )
