"""The styles in which each answer says what to ask for the next page: a cursor, or a link; and loops of those.

A loop is found before rows of it are taken a second time: each page leaves a digest of its rows and of what it gives
to ask for the next one, of which the last `TRAIL` are kept. Longer loops, and those whose rows change, are found by
what they ask with (Brent's algorithm, BIT 20 (1980), 176-184).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from etl.errors import SourceChanged, SourceError
from etl.records import is_json
from etl.sources.paging import links
from etl.sources.paging.answers import Page
from etl.sources.paging.paths import MISSING, holds_choice, lookup
from etl.sources.paging.place import PagePlace, digest, holds, with_step
from etl.sources.paging.styles import Asked

LOG = logging.getLogger("etl.sources")

# What APIs give in place of a next cursor, besides null and nothing: Twitter's is 0 (and -1 asks for the first page),
# Redis' SCAN ends with 0, and programs write their null as text, in the case of their language.
ENDS = ("0", "-1", "null", "none", "nil", "undefined", "false", "nan")


@dataclass(frozen=True, slots=True)
class Cursor:
    """A cursor that each answer gives for the next page.

    Args:
        param: the parameter's name.
        first: what asks for the first page; None: without that parameter.
        path: where the answer has the next cursor.
        more_path: where it says whether there is more; None: that there is a cursor says so.
        ends: what is no cursor but the end, as text.
        guessed: whether the job does not say so: then a total must not speak against it.
        any_json: whether a cursor may be an array or an object.
        scroll: whether the server alone knows which page comes next, even where the cursor changes.
    """

    param: str
    first: str | int | None
    path: str
    more_path: str | None
    ends: frozenset[str]
    guessed: bool
    any_json: bool
    scroll: bool
    name: str = "cursor"
    before_first: None = None
    shifts: bool = False
    may_stay: bool = True
    looks_back: bool = True

    def ask(self, at: Any) -> Asked:
        """Give back the cursor."""
        cursor = self.first if at is None else at
        params = {} if cursor is None else {self.param: cursor}
        return Asked(params, "the first page" if at is None else f"cursor {at!s:.60}")

    def leads_on(self, document: Any, /) -> bool:
        """Look for a cursor."""
        found = lookup(document, self.path)
        return bool(found) and not self._is_end(found)

    def follow(self, place: PagePlace, page: Page) -> tuple[PagePlace, bool]:
        """Take the next cursor; the end is where there is none."""
        given = _next("cursor_path", self.path, place, page)
        ends = given is not None and self._is_end(given)
        found = None if ends else given
        kinds = (int, str, list, dict) if self.any_json else (int, str)
        # what JSON does not give back as it is could not be asked with: a number that no double holds
        if found is not None and (
            isinstance(found, bool) or not isinstance(found, kinds) or not is_json(found)
        ):
            raise SourceError(
                f"{page.where}: cursor_path = {self.path!r} holds neither text nor a whole number but {found!r:.100}; "
                "name the path of the cursor itself"
            )
        more = self._more(page)
        if self.scroll and not page.rows:  # which says that all have come (Elasticsearch, "Scroll API")
            found = None
        current = self.first if place.at is None else place.at
        if more and (found is None or (_same(found, current) and not page.rows)):
            raise SourceError(
                f"{page.where}: there is more, says {self.more_path}, but "
                + ("no rows come, and the same cursor" if found is not None else f"no cursor at {self.path}")
                + (f" but {given!r}, which is taken for the end; see end_cursors" if ends else "")
            )
        known = place.stays or self.scroll
        if (
            page.repeated
            and place.at is not None
            and (known or (_same(found, current) and more is not False))
        ):
            raise SourceChanged(
                f"{page.where}: the answer was lost on its way and asked for again, but the API's cursor stays the "
                "same: the server may have gone on, so that the rows of a page would be missing. Run again; where that "
                "is refused, begin again with --full-refresh; where the API has a cursor that names its place "
                "(Elasticsearch: search_after), use that"
            )
        count = place.rows + len(page.rows)
        if ends and self.guessed and more is None and page.total is not None and page.total > count:
            raise SourceError(
                f"{page.where}: the cursor {given!r} is taken for the end, after {count} of the "
                f"{page.total} rows that the API says it has: let end_cursors list what the end looks like ([] for: "
                "only null and nothing), or leave total_path out"
            )
        after, ended = _advance(place, page, found, current, last=more is False)
        return replace(after, stays=after.stays or self.scroll), ended

    def _is_end(self, given: Any) -> bool:
        return (
            is_end(given) if self.guessed else not isinstance(given, (list, dict)) and str(given) in self.ends
        )

    def _more(self, page: Page) -> bool | None:
        if self.more_path is None:
            return None
        more = lookup(page.document, self.more_path)
        if isinstance(more, str):
            more = {"true": True, "false": False}.get(more.lower())
        if isinstance(more, bool) or (isinstance(more, int) and more in (0, 1)):
            return bool(more)
        raise SourceError(
            f"{page.where}: more_path = {self.more_path!r} holds neither true nor false: name another path"
        )


@dataclass(frozen=True, slots=True)
class Link:
    """The URL of the next page, in the answer or in the header.

    Args:
        name: `next_link` or `link_header`.
        path: where the answer has it; None: it is in the header (RFC 8288).
        first: the URL of the source.
        secrets: parameters that are put to each URL, by name.
    """

    name: str
    path: str | None
    first: str
    secrets: dict[str, str] = field(repr=False)
    before_first: None = None
    shifts: bool = False
    may_stay: bool = False
    looks_back: bool = True

    def ask(self, at: Any) -> Asked:
        """Go where the link leads."""
        if at is None:
            return Asked({}, "the first page")
        if isinstance(at, dict):
            return Asked({}, "a page that a link led to", at["href"], at["body"])
        return Asked({}, "a page that a link led to", str(at))

    def leads_on(self, document: Any, /) -> bool:
        """Look for a link in the answer."""
        return self.path is not None and bool(lookup(document, self.path))

    def follow(self, place: PagePlace, page: Page) -> tuple[PagePlace, bool]:
        """Take the link to the next page; the end is where there is none."""
        if self.path is None:
            found: Any = links.next_of(page.links)
        else:
            found = _next("next_path", self.path, place, page)
        if found is None or is_end(found):
            return _advance(place, page, None, place.at, last=False)
        target = found
        body = None
        if isinstance(found, dict) and isinstance(found.get("href"), str):
            target, body = found["href"], _body_of(found, page.where)
        if not isinstance(target, str):
            raise SourceError(
                f"{page.where}: next_path = {self.path!r} holds no text but {found!r:.100}: name another path"
            )
        try:
            target = links.without(links.absolute(target, page.url, self.first), self.secrets)
        except SourceError as error:
            raise SourceError(f"{page.where}: {error}") from error
        following = target if body is None else {"href": target, "body": body}
        if following == (self.first if place.at is None else place.at) and page.rows:
            raise SourceError(
                f"{page.where}: the link to the next page leads to this page itself: it would go on for ever. See "
                "whether the link is looked for in the right place, and whether the API wants the link's body too (let "
                "next_path name the whole link)"
            )
        return _advance(place, page, following, place.at, last=False)


def is_end(given: Any) -> bool:
    """Say whether what an answer gives in place of a next cursor is none."""
    if isinstance(given, float) and given.is_integer():
        given = int(given)
    return not isinstance(given, (list, dict)) and str(given).strip().lower() in ENDS


def _body_of(link: dict[str, Any], where: str) -> dict[str, Any] | None:
    """Return what a link object puts into the body of its request; None: it is asked for with GET.

    (STAC API 1.0, Item Search: `method`, `body` and `merge`; what is merged goes before what the first body had.)

    Raises:
        SourceError: it asks for something else.
    """
    method, body = str(link.get("method", "GET")).upper(), link.get("body", {})
    if method == "GET":
        return None
    if method != "POST" or not isinstance(body, dict):
        raise SourceError(
            f"{where}: the link to the next page asks for {method} {body!r:.100}, which is not known"
        )
    return {"merge": body} if link.get("merge") is True else {"whole": body}


def _next(argument: str, path: str, place: PagePlace, page: Page) -> Any:
    """Return what an answer gives to ask for the next page; None: nothing.

    Some APIs leave the name out of their last page, so that one which is never there looks like a single page.
    """
    found = lookup(page.document, path)
    if found is MISSING and place.at is None and page.rows and not holds_choice(page.document, path):
        names = ", ".join(page.document) if isinstance(page.document, dict) else "none: it is a list"
        LOG.warning(
            "%s: there is nothing at %s = %r, so this is taken for the only page (%d rows); the answer's names are: %s",
            page.where,
            argument,
            path,
            len(page.rows),
            names[:200],
        )
    empty = found is MISSING or found is None or found is False or found in ([], {})
    empty = empty or (isinstance(found, str) and not found.strip())
    return None if empty else found


def _advance(place: PagePlace, page: Page, found: Any, current: Any, last: bool) -> tuple[PagePlace, bool]:
    """Follow what an answer gave to ask for the next page.

    Where there is nothing to follow, the next pull asks for this page again, and takes what has come to it.

    Raises:
        SourceError: the page was taken before.
    """
    same = _same(found, current)
    if found is None or (same and (last or not page.rows)):
        return replace(place, taken=len(page.rows)), True
    gives = digest([found, page.shape.hex()])
    if holds(place.trail, gives):
        raise _stays(page, found) if same else _loop(page)
    steps, mark, new = place.steps + 1, place.mark, digest(found)
    if not same:
        if new == mark:
            raise _loop(page)
        if steps & (steps - 1) == 0:
            mark = new
    after = replace(
        place,
        at=found,
        taken=0,
        rows=place.rows + len(page.rows),
        previous=len(page.rows),
        steps=steps,
        mark=mark,
        trail=with_step(place.trail, gives),
        stays=place.stays or same,
    )
    return after, last


def _same(found: Any, current: Any) -> bool:
    return found is not None and (found == current or str(found) == str(current))


def _stays(page: Page, found: Any) -> SourceError:
    return SourceError(
        f"{page.where}: the API gives the same rows again, and the same to ask for more with ({found!s:.60}): it would "
        "go on for ever. See whether the API takes the names of the parameters, and whether what asks for the next "
        "page is looked for in the right place; if it says so that there are no more rows, let total_path or more_path "
        "say it"
    )


def _loop(page: Page) -> SourceError:
    return SourceError(
        f"{page.where}: the API leads back to a page that was taken before: it would go on for ever. See whether "
        "the next page is looked for in the right place, and whether the API takes the names of its parameters; or, if "
        "the cursor that this page was asked with is the API's word for the end, list it in end_cursors"
    )
