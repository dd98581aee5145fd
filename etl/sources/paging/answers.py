"""What an API answered: a whole JSON document, and what is found in it by a dotted path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from etl.errors import SourceError
from etl.sources.lines import why_not_json

# How much of an answer a message shows, in characters.
_SHOWN = 200


class _Missing:
    def __bool__(self) -> bool:
        return False


MISSING: Final = _Missing()


@dataclass(frozen=True, slots=True)
class Page:
    """A page as it was answered.

    Attributes:
        url: what was asked, without secrets: links are relative to it.
        document: the answer.
        rows: the rows in it.
        links: the fields `Link` of its header.
        total: how many rows there are on all pages; None: it does not say.
        where: names the page for people.
    """

    url: str
    document: Any
    rows: list[Any]
    links: str
    total: int | None
    where: str


def lookup(value: Any, path: str) -> Any:
    """Return what stands at a dotted path, or `MISSING`.

    A name may have dots in it itself, as OData's `@odata.nextLink` has; a number is the index in a list.
    """
    if isinstance(value, list):
        head, _, tail = path.partition(".")
        if not head.isdecimal() or int(head) >= len(value):
            return MISSING
        return lookup(value[int(head)], tail) if tail else value[int(head)]
    if not isinstance(value, dict):
        return MISSING
    if path in value:
        return value[path]
    dot = path.find(".")
    while dot >= 0:
        head, tail = path[:dot], path[dot + 1 :]
        if head in value and (found := lookup(value[head], tail)) is not MISSING:
            return found
        dot = path.find(".", dot + 1)
    return MISSING


def decode(body: bytes, where: str, hide: Callable[[str], str]) -> Any:
    """Decode a whole answer.

    Args:
        body: its bytes.
        where: names the page, for the message.
        hide: takes secrets out of what is shown of it.

    Raises:
        SourceError: it is no JSON.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SourceError(
            f"{where}: the answer of {len(body)} bytes is {why_not_json(body, error)}: {_shown(body, hide)}; it was "
            "cut short, or the URL is that of a page for people. Run again: the job goes on with this page"
        ) from error


def rows_of(
    document: Any, path: str | None, body: bytes, where: str, hide: Callable[[str], str]
) -> list[Any]:
    """Return the array of rows; null is one of no rows.

    Raises:
        SourceError: there is none.
    """
    found = document if path is None else lookup(document, path)
    if isinstance(found, list):
        return found
    if found is None and path is not None:
        return []
    what = "the answer is no array" if path is None else f"the answer has no array at records = {path!r}"
    keys = ", ".join(map(str, document)) if isinstance(document, dict) else "none"
    raise SourceError(
        f"{where}: {what}; its keys: {hide(keys)[:_SHOWN]}; it begins with {_shown(body, hide)}: let records name "
        "the path of the array of rows"
    )


def total_of(document: Any, path: str | None, where: str) -> int | None:
    """Return the number of rows on all pages, where the API tells it.

    Raises:
        SourceError: there is no number at `path`.
    """
    if path is None:
        return None
    found = lookup(document, path)
    if isinstance(found, str) and found.isdecimal():
        found = int(found)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int):
        raise SourceError(
            f"{where}: there is no whole number at total_path = {path!r}: name another path, or leave it out"
        )
    return found


def _shown(body: bytes, hide: Callable[[str], str]) -> str:
    # hidden before it is cut: half a secret would not be found
    text = " ".join(hide(body[: 64 * _SHOWN].decode(errors="backslashreplace")).split())
    return repr(text[:_SHOWN] + ("…" if len(text) > _SHOWN else ""))
