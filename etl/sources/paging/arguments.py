"""The arguments of `Pages`, checked: which belong to which style, and what must not be said twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from etl.sources import urls
from etl.sources.paging import links
from etl.sources.paging.presets import PRESETS
from etl.sources.paging.rows import MOST_REMEMBERED
from etl.sources.paging.since import Times
from etl.sources.paging.styles import Cursor, Link, Number, Offset, Style

STYLES = ("offset", "page", "cursor", "next_link", "link_header")

# What belongs to each style, beside what belongs to all of them, with its default; ...: it must be given.
_OF_STYLE: dict[str, dict[str, Any]] = {
    "offset": {"offset_param": "offset", "overlap": None},
    "page": {"page_param": "page", "first_page": 1},
    "cursor": {"cursor_param": ..., "cursor_path": ..., "first_cursor": None, "more_path": None},
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
    style = arguments["style"]
    if style is None:
        raise ValueError(f"style: missing; there are: {', '.join(STYLES)}; or a preset: {', '.join(PRESETS)}")
    if style not in STYLES:
        raise ValueError(f"style: {style!r} is none of: {', '.join(STYLES)}")
    for other, names in _OF_STYLE.items():
        for name in names:
            if other != style and arguments[name] is not None:
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
        path, more = arguments["cursor_path"], arguments["more_path"]
        return Cursor(arguments["cursor_param"], arguments["first_cursor"], path, more)
    path = arguments["next_path"] if name == "next_link" else None
    return Link(name, path, url, dict(arguments["secrets"]))


def params_of(
    arguments: Mapping[str, Any], url: str, style: Style, times: Times | None
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the parameters of each request, the secret ones excepted, and the one for the page's size.

    Raises:
        ValueError: one is said twice, or is a secret, or the page's size is wrong.
    """
    size, size_param = arguments["page_size"], arguments["size_param"]
    if size is not None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"page_size: {size!r} is no whole number from 1 on")
        if not size_param:
            raise ValueError(
                "page_size: size_param is missing: what does the API call the number of rows on a page?"
            )
        if arguments["key"] and times and not times.repeat and size > MOST_REMEMBERED:
            raise ValueError(f"page_size: with updated_at and a key, {MOST_REMEMBERED} at most, not {size}")
    own = {
        *style.ask("" if isinstance(style, Cursor) else None).params,
        *((size_param,) if size is not None else ()),
    }
    if times is not None:
        if times.param in own:
            raise ValueError(f"updated_at: param = {times.param!r} is what asks for a page")
        own.add(times.param)
    params = {name: _written(name, value) for name, value in arguments["params"].items()}
    _, in_url = links.query_of(url)
    for name in (*params, *in_url):
        if urls.is_secret(name) or name in arguments["secrets"]:
            where = "params" if name in params else "url"
            raise ValueError(
                f"{where}: {name} is a secret by its name: put it into secrets, which are kept nowhere"
            )
    for name in (*params, *in_url, *arguments["secrets"]):
        if name in own:
            hint = ": write both conditions into updated_at.template" if times and name == times.param else ""
            raise ValueError(f"params: {name!r} is set by the style, page_size or updated_at{hint}")
    if both := params.keys() & in_url.keys():
        raise ValueError(f"params: {min(both)!r} is in the url too")
    return params, {size_param: str(size)} if size is not None else {}


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


def _written(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ValueError(f"params: {name!r} is neither text nor a number nor true or false: {value!r}")
