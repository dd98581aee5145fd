"""What an API answered: a whole JSON document, and what is found in it by a dotted path."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from etl.errors import ErrorPage, SourceError
from etl.sources import json_numbers
from etl.sources.json_decoder import Decoder
from etl.sources.lines import why_not_json
from etl.sources.paging.paths import MISSING, elements, lookup, parted

# How much of an answer a message shows, in characters.
_SHOWN = 200

# The field of a row that holds its name, where rows stand under names of their own.
KEY = "_key"

# What may stand before JSON in UTF-8, and says nothing.
BOM = b"\xef\xbb\xbf"
# A whole number, perhaps with commas between its thousands, of which there may be more: `10,000+`, `>10000`.
_TOTAL = re.compile(r"(?:about|over|more than|>=?|≥|~)?\s*(\d+|\d{1,3}(?:,\d{3})+)\s*\+?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Page:
    """A page as it was answered.

    Attributes:
        url: what was asked, without secrets: links are relative to it.
        document: the answer.
        rows: the rows in it.
        shape: a digest of the rows, or of their keys, by which a page that comes again is known.
        links: the fields `Link` of its header.
        total: how many rows there are on all pages; None: it does not say.
        more_than_total: whether the API says that there may be more than that.
        repeated: whether it was asked for before, and the server may have answered that, too.
        where: names the page for people.
        names: digests of the first names of its columns, where it has a line of them.
        doubt: what is said beside its rows that may mean that some are missing; empty: nothing.
    """

    url: str
    document: Any
    rows: list[Any]
    shape: bytes
    links: str
    total: int | None
    more_than_total: bool
    repeated: bool
    where: str
    names: bytes = b""
    doubt: str = ""


def decode(body: bytes, where: str, hide: Callable[[str], str], decoder: Decoder) -> Any:
    """Decode a whole answer.

    Args:
        body: its bytes.
        where: names the page, for the message.
        hide: takes secrets out of what is shown of it.
        decoder: decodes it; what are its records is still to be settled.

    A byte order mark before it is ignored (RFC 8259, section 8.1). Numbers are exact, see `json_numbers`.

    Raises:
        ErrorPage: it is no JSON.
    """
    try:
        return decoder.document(body.removeprefix(BOM))
    except json_numbers.NOT_JSON as error:
        raise ErrorPage(
            f"{where}: the answer of {len(body)} bytes is {why_not_json(body, error)}: {_shown(body, hide)}; it was "
            "cut short, or the URL is that of a page for people. Run again: the job goes on with this page"
        ) from error


def rows_of(
    document: Any, path: str | None, body: bytes, where: str, hide: Callable[[str], str]
) -> list[Any]:
    """Return the rows; null in place of them is none.

    Args:
        document: the answer.
        path: of the array of rows; with `*`, all elements of the array or the object that stands there are rows.
        body: the answer's bytes, for the message.
        where: names the page, for the message.
        hide: takes secrets out of what is shown of it.

    Raises:
        ErrorPage: there are none.
    """
    base, every, rest = parted(path)
    found = lookup(document, base) if base else document
    if isinstance(found, list) and not every:
        return found
    if found is None and path is not None:
        return []
    if every and (among := elements(found)) is not None:
        return [_row(name, lookup(one, rest) if rest else one, where) for name, one in among]
    what = "the answer is no array" if path is None else f"the answer has no array at records = {path!r}"
    keys = ", ".join(map(str, document)) if isinstance(document, dict) else "none"
    dotted = f"{base}.*" if base else "*"
    advice = f", or {dotted!r} if its rows stand under names of their own" if isinstance(found, dict) else ""
    raise ErrorPage(
        f"{where}: {what}; its keys: {hide(keys)[:_SHOWN]}; it begins with {_shown(body, hide)}: let records name "
        f"the path of the array of rows{advice}"
    )


def _row(name: str | None, row: Any, where: str) -> Any:
    if row is MISSING:
        return None
    if name is None or not isinstance(row, dict):
        return row
    if row.get(KEY, name) != name:
        raise SourceError(
            f"{where}: the row under the name {name!r} has a field {KEY} of its own, which should hold that name: ask "
            "the API for rows without it"
        )
    return {KEY: name, **row}


def total_of(document: Any, path: str | None, where: str) -> tuple[int | None, bool]:
    """Return the number of rows on all pages, where the API tells it, and whether there may be more.

    Elasticsearch has `{"value": 10000, "relation": "gte"}` (its documentation, "Track total hits"); both that object
    and its `value` may be named. Less than 0 says that the API does not know.

    Raises:
        SourceError: there is no number at `path`.
    """
    if path is None:
        return None, False
    found = lookup(document, path)
    if found in ("", "-1"):
        found = None
    holder = (
        found if isinstance(found, dict) else lookup(document, path.removesuffix("value").removesuffix("."))
    )
    more = isinstance(holder, dict) and holder.get("relation", "eq") not in ("eq", "exact")
    if isinstance(found, dict):
        found = found.get("value", MISSING)
    if isinstance(found, str) and (written := _TOTAL.fullmatch(found.strip())):
        more = more or not found.strip()[0].isdecimal() or found.strip().endswith("+")
        found = int(written[1].replace(",", ""))
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    if found is None:
        return None, False
    if isinstance(found, bool) or not isinstance(found, int):
        raise SourceError(
            f"{where}: there is no whole number at total_path = {path!r}: name another path, or leave it out"
        )
    return (found, more) if found >= 0 else (None, False)


def _shown(body: bytes, hide: Callable[[str], str]) -> str:
    # hidden before it is cut: half a secret would not be found
    text = " ".join(hide(body[: 64 * _SHOWN].decode(errors="backslashreplace")).split())
    return repr(text[:_SHOWN] + ("…" if len(text) > _SHOWN else ""))
