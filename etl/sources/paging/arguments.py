"""The arguments of `Pages`, checked: which belong to which style, and what must not be said twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from etl.sources import urls
from etl.sources.paging import links
from etl.sources.paging.asking import Reading
from etl.sources.paging.bodies import body_of, check_body, in_body_of, posts, written
from etl.sources.paging.following import ENDS, Cursor, Link
from etl.sources.paging.formats import PAGE_FORMATS
from etl.sources.paging.presets import PRESETS
from etl.sources.paging.requests import Requests
from etl.sources.paging.rows import MOST_REMEMBERED
from etl.sources.paging.since import Times
from etl.sources.paging.styles import Number, Offset, Style
from etl.sources.web import PASSING, REFUSED

STYLES = ("offset", "page", "cursor", "next_link", "link_header")

# What belongs to some styles only, with its default; ...: it must be given.
_OF_STYLE: dict[str, dict[str, Any]] = {
    "offset": {"offset_param": "offset", "overlap": None, "end_statuses": ()},
    "page": {"page_param": "page", "first_page": None, "end_statuses": ()},
    "cursor": {
        "cursor_param": ...,
        "cursor_path": ...,
        "first_cursor": None,
        "more_path": None,
        "end_cursors": None,
    },
    "next_link": {"next_path": "next"},
    "link_header": {},
}
# Headers that may be shown; another one is a credential by its name, or may be one if it has this many characters.
_HARMLESS = frozenset({"accept", "accept-language", "user-agent"})
_LONG = 16


def completed(given: Mapping[str, Any]) -> dict[str, Any]:
    """Put what a preset says, and the defaults of the style, in the place of what is None.

    Raises:
        ValueError: the preset or the style is unknown, or an argument is missing or belongs to another style.
    """
    arguments = dict(given)
    preset = arguments.pop("preset")
    if preset is not None:
        if preset not in PRESETS:
            raise ValueError(f"preset: {preset!r} is none of: {', '.join(PRESETS)}")
        if arguments["style"] is not None:
            raise ValueError(f"style: the preset {preset} has its own; give a preset or a style")
        for name, value in PRESETS[preset](given).items():
            if name in ("params", "headers", "secrets") or arguments[name] is None:
                arguments[name] = value
    if arguments["query"] is not None:
        _complete_graphql(arguments)
    style = arguments["style"]
    if style is None:
        raise ValueError(f"style: missing; there are: {', '.join(STYLES)}; or a preset: {', '.join(PRESETS)}")
    if style not in STYLES:
        raise ValueError(f"style: {style!r} is none of: {', '.join(STYLES)}")
    for other, names in _OF_STYLE.items():
        for name in names:
            if name not in _OF_STYLE[style] and arguments[name] is not None:
                allowed = ", ".join(_OF_STYLE[style]) or "no names of its own"
                raise ValueError(f"{name}: is for the style {other}; the style {style} takes: {allowed}")
    for name, default in _OF_STYLE[style].items():
        if arguments[name] is None or (default is ... and arguments[name] == ""):
            if default is ...:
                raise ValueError(f"{name}: missing; the style {style} needs it")
            arguments[name] = default
    if arguments["size_param"] is None and style == "offset":
        arguments["size_param"] = "limit"
    for name in ("records", "total_path"):
        arguments[name] = arguments[name] or None  # "" takes back what a preset says
    return arguments


def _complete_graphql(arguments: dict[str, Any]) -> None:
    """Put in what GraphQL has by convention (the Cursor Connections of Relay, and the specification's `errors`)."""
    if arguments["style"] in (None, "cursor"):
        arguments["style"] = "cursor"
        above = (arguments["records"] or "").split(".*")[0].rpartition(".")[0]
        for name, value in (
            ("cursor_param", "after"),
            ("size_param", "first"),
            ("cursor_path", above and f"{above}.pageInfo.endCursor"),
            ("more_path", above and f"{above}.pageInfo.hasNextPage"),
        ):
            if arguments[name] is None:
                arguments[name] = value
    if arguments["error_path"] is None:
        arguments["error_path"] = "errors"


def style_of(arguments: Mapping[str, Any], url: str) -> Style:
    """Make the style of complete arguments.

    Raises:
        ValueError: an argument is wrong.
    """
    name, key, size, overlap = (arguments[part] for part in ("style", "key", "page_size", "overlap"))
    if name == "offset":
        if overlap is None:
            overlap = 1 if key and size != 1 else 0
        if overlap < 0 or (overlap and (not key or (size is not None and overlap >= size) or overlap > 100)):
            raise ValueError(
                f"overlap: {overlap} is not from 0 to 100 and below page_size, with a key to compare by"
            )
        return Offset(arguments["offset_param"], overlap)
    if name == "page":
        return Number(arguments["page_param"], arguments["first_page"])
    if name == "cursor":
        ends, param = arguments["end_cursors"], arguments["cursor_param"]
        return Cursor(
            param=param,
            first=arguments["first_cursor"],
            path=arguments["cursor_path"],
            more_path=arguments["more_path"] or None,
            ends=frozenset(ENDS if ends is None else map(str, ends)),
            guessed=ends is None,
            any_json=in_body_of(arguments) and arguments["form"] is None,
            scroll="scroll" in param.lower(),
        )
    path = arguments["next_path"] if name == "next_link" else None
    return Link(name, path, url, dict(arguments["secrets"]))


def requests_of(arguments: Mapping[str, Any], url: str, style: Style, times: Times | None) -> Requests:
    """Return how requests are made.

    Raises:
        ValueError: a parameter is said twice, or is a secret, or the page's size or the body is wrong.
    """
    in_body = in_body_of(arguments)
    body = body_of(arguments)
    graphql = arguments["query"] is not None
    within = "variables." if graphql else ""
    size, size_param = arguments["page_size"], arguments["size_param"]
    if size is not None:
        _check_size(size, arguments, times)
    own = {
        *style.ask("" if isinstance(style, Cursor) else None).params,
        *((size_param,) if size is not None else ()),
    }
    if times is not None:
        if times.param in own:
            raise ValueError(f"updated_at: param = {times.param!r} is what asks for a page")
        own.add(times.param)
    params = {name: written(name, value) for name, value in arguments["params"].items()}
    _, in_url = links.query_of(url)
    for name in (*params, *in_url):
        if urls.is_secret(name) or name in arguments["secrets"]:
            where = "params" if name in params else "url"
            raise ValueError(
                f"{where}: {name} is a secret by its name: put it into secrets, which are kept nowhere"
            )
    secrets_in_body = arguments["secrets_in"] == "body"
    if secrets_in_body and body is None:
        raise ValueError('secrets_in: "body", but there is none: give body or form, or leave it out')
    names = [] if in_body else [*params, *in_url]
    for name in [*names, *(arguments["secrets"] if in_body == secrets_in_body else ())]:
        if name in own:
            hint = ": write both conditions into updated_at.template" if times and name == times.param else ""
            raise ValueError(f"params: {name!r} is set by the style, page_size or updated_at{hint}")
    if both := params.keys() & in_url.keys():
        raise ValueError(f"params: {min(both)!r} is in the url too")
    if body is not None:
        set_by_us = [within + name for name in own] if in_body else []
        secrets = list(arguments["secrets"]) if secrets_in_body else []
        check_body(body, set_by_us, secrets, form=arguments["form"] is not None)
    return Requests(
        url=url,
        post=posts(arguments),
        params=params,
        size={size_param: size} if size is not None else {},
        secrets=arguments["secrets"],
        body=body,
        form=arguments["form"] is not None,
        in_body=in_body,
        within=within,
        secrets_in_body=secrets_in_body,
    )


def reading_of(arguments: Mapping[str, Any], *, remembers: bool) -> Reading:
    """Return what of an answer is read.

    Args:
        arguments: complete ones.
        remembers: whether the rows of a page are remembered.

    Raises:
        ValueError: an argument is wrong.
    """
    page_format, columns = arguments["page_format"], arguments["columns"]
    if page_format not in PAGE_FORMATS:
        raise ValueError(f"page_format: {page_format!r} is none of: {', '.join(PAGE_FORMATS)}")
    if page_format != "json" and (arguments["records"] or arguments["total_path"]):
        name = "records" if arguments["records"] else "total_path"
        raise ValueError(f"{name}: is for pages of JSON; {page_format} holds nothing but rows")
    if page_format == "csv" and columns is None:
        columns = "0"  # the first line
    if columns is not None and not isinstance(columns, str):
        columns = list(columns)
    if columns in ("", []):
        raise ValueError("columns: it is empty: name the columns, or the path of their names")
    statuses = tuple(arguments["end_statuses"] or ())
    for status in statuses:
        if not 400 <= status <= 499 or status in PASSING or status in REFUSED:
            raise ValueError(
                f"end_statuses: {status} cannot say that a page lies beyond the last one; 404 can, or "
                "400, 410, 416, 422"
            )
    paths = arguments["error_path"]
    if arguments["on_error_page"] not in ("fail", "wait"):
        raise ValueError(f"on_error_page: {arguments['on_error_page']!r} is neither fail nor wait")
    return Reading(
        records=arguments["records"],
        total_path=arguments["total_path"],
        page_format=page_format,
        columns=columns,
        error_path=None if paths is None else (paths,) if isinstance(paths, str) else tuple(paths),
        waits=arguments["on_error_page"] == "wait",
        end_statuses=statuses,
        most_rows=MOST_REMEMBERED if remembers else None,
    )


def _check_size(size: Any, arguments: Mapping[str, Any], times: Times | None) -> None:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"page_size: {size!r} is no whole number from 1 on")
    if not arguments["size_param"]:
        raise ValueError(
            "page_size: size_param is missing: what does the API call the number of rows on a page?"
        )
    if arguments["key"] and times and not times.repeat and size > MOST_REMEMBERED:
        raise ValueError(f"page_size: with updated_at and a key, {MOST_REMEMBERED} at most, not {size}")


def hidden_of(headers: Mapping[str, str], secrets: Mapping[str, str]) -> list[str]:
    """Return what no message and no cursor may hold: secrets, and headers that may be credentials, and their words.

    Raises:
        ValueError: one of them is no text.
    """
    for what, table in (("headers", headers), ("secrets", secrets)):
        for name, value in table.items():
            if not isinstance(value, str) or not value:
                raise ValueError(f"{what}: {name!r} has no text as its value")
    values = list(secrets.values())
    for name, value in headers.items():
        if urls.is_secret(name) or (name.lower() not in _HARMLESS and len(value) >= _LONG):
            values += [value, *(word for word in value.split() if len(word) >= _LONG // 2)]
    return values


def key_of(key: str | Sequence[str] | None) -> list[str]:
    """Return the paths of the fields of a key.

    Raises:
        ValueError: it is no list of different names.
    """
    names = [key] if isinstance(key, str) else list(key or ())
    if not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise ValueError(f"key: {key!r} is no list of different fields")
    return names
