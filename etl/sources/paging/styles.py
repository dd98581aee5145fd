"""The styles of paging: what is asked for a page, and which page follows it.

None of them takes a page of fewer rows than were asked for as the last one: servers give less than that when they
have an upper limit (CKAN's `ckan.datastore.search.rows_max`), or when they sort rows out of a page. The end is a page
without rows, the total that the API tells, or that no next page is named; that costs one more request a run.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from msgspec.structs import replace

from etl.errors import SourceError
from etl.sources.paging import links
from etl.sources.paging.answers import MISSING, Page, lookup
from etl.sources.paging.place import PagePlace, digest

LOG = logging.getLogger("etl.sources")


class Asked(NamedTuple):
    """What to ask for a page.

    Attributes:
        link: the URL to ask instead of the source's with its parameters; None: those.
        params: the parameters that choose the page.
        words: name the page for people.
    """

    link: str | None
    params: dict[str, str]
    words: str


class Style(Protocol):
    """How pages are asked for."""

    @property
    def name(self) -> str:
        """What a job file calls it."""

    @property
    def shifts(self) -> bool:
        """Whether rows move from one page to another when there are new ones before them."""

    def ask(self, at: int | str | None) -> Asked:
        """Return what to ask for the page at `at`; None: the first one."""

    def follow(self, place: PagePlace, page: Page) -> tuple[PagePlace, bool]:
        """Return the place after a page, and whether the pull has come to its end.

        At the end it is the place where the next pull begins. `taken` counts what is not wanted again.

        Raises:
            SourceError: the page cannot be followed.
        """


@dataclass(frozen=True, slots=True)
class Offset:
    """A number of rows to leave out.

    Args:
        param: the parameter's name.
        overlap: how many rows before the offset are asked for again, to see whether rows have moved.
    """

    param: str
    overlap: int
    name: str = "offset"
    shifts: bool = True

    def ask(self, at: int | str | None) -> Asked:
        """Leave so many rows out."""
        return Asked(None, {self.param: str(at or 0)}, f"offset {at or 0}")

    def follow(self, place: PagePlace, page: Page) -> tuple[PagePlace, bool]:
        """Count the rows; the end is where there are none beyond those, or the total is reached."""
        reached = _number(place.at, 0) + len(page.rows)
        if reached <= place.rows:
            _whole(reached, page)
            return place, True
        overlap = min(self.overlap, reached)
        place = replace(place, at=reached - overlap, taken=overlap, rows=reached, previous=len(page.rows))
        return place, page.total is not None and reached >= page.total


@dataclass(frozen=True, slots=True)
class Number:
    """The number of the page.

    Args:
        param: the parameter's name.
        first: the first page's number.
    """

    param: str
    first: int
    name: str = "page"
    shifts: bool = True

    def ask(self, at: int | str | None) -> Asked:
        """Name the page by its number."""
        number = str(_number(at, self.first))
        return Asked(None, {self.param: number}, f"page {number}")

    def follow(self, place: PagePlace, page: Page) -> tuple[PagePlace, bool]:
        """Count on; the end is a page without rows, or the total."""
        at = _number(place.at, self.first)
        if not page.rows:
            _whole(place.rows, page)
            if at == self.first:
                return place, True
            # the page before may not have been full: the next pull looks at it again
            last = place.previous
            return replace(place, at=at - 1, taken=last, rows=place.rows - last, previous=0), True
        count = place.rows + len(page.rows)
        if page.total is not None and count >= page.total:
            return replace(place, at=at, taken=len(page.rows)), True
        return replace(place, at=at + 1, taken=0, rows=count, previous=len(page.rows)), False


@dataclass(frozen=True, slots=True)
class Cursor:
    """A cursor that each answer gives for the next page.

    Args:
        param: the parameter's name.
        first: what asks for the first page; None: without that parameter.
        path: where the answer has the next cursor.
        more_path: where it says whether there is more; None: that there is a cursor says so.
    """

    param: str
    first: str | None
    path: str
    more_path: str | None
    name: str = "cursor"
    shifts: bool = False

    def ask(self, at: int | str | None) -> Asked:
        """Give back the cursor."""
        cursor = self.first if at is None else at
        params = {} if cursor is None else {self.param: str(cursor)}
        return Asked(None, params, "the first page" if at is None else f"cursor {at!s:.60}")

    def follow(self, place: PagePlace, page: Page) -> tuple[PagePlace, bool]:
        """Take the next cursor; the end is where there is none."""
        found = _next("cursor_path", self.path, place, page)
        if found is not None and (isinstance(found, bool) or not isinstance(found, (int, str))):
            raise SourceError(
                f"{page.where}: cursor_path = {self.path!r} holds neither text nor a whole number but {found!r:.100}; "
                "name the path of the cursor itself"
            )
        last = False
        if self.more_path is not None:
            more = lookup(page.document, self.more_path)
            if not isinstance(more, bool):
                raise SourceError(
                    f"{page.where}: more_path = {self.more_path!r} holds neither true nor false: name another path"
                )
            if more and found is None:
                raise SourceError(
                    f"{page.where}: there is more, says {self.more_path}, but no cursor at {self.path}"
                )
            last = not more
        return _advance(place, page, found, self.first if place.at is None else place.at, last)


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
    secrets: dict[str, str]
    shifts: bool = False

    def ask(self, at: int | str | None) -> Asked:
        """Go where the link leads."""
        if at is None:
            return Asked(None, {}, "the first page")
        return Asked(str(at), {}, "a page that a link led to")

    def follow(self, place: PagePlace, page: Page) -> tuple[PagePlace, bool]:
        """Take the link to the next page; the end is where there is none."""
        if self.path is None:
            found: Any = links.next_of(page.links)
        else:
            found = _next("next_path", self.path, place, page)
        if found is not None:
            if not isinstance(found, str):
                raise SourceError(
                    f"{page.where}: next_path = {self.path!r} holds no text but {found!r:.100}: name another path"
                )
            try:
                found = links.without(links.absolute(found, page.url, self.first), self.secrets)
            except SourceError as error:
                raise SourceError(f"{page.where}: {error}") from error
        return _advance(place, page, found, place.at, last=False)


def _next(argument: str, path: str, place: PagePlace, page: Page) -> Any:
    """Return what an answer gives to ask for the next page; None: nothing.

    Some APIs leave the name out of their last page, so that one which is never there looks like a single page.
    """
    found = lookup(page.document, path)
    if found is MISSING and place.at is None and page.rows:
        names = ", ".join(page.document) if isinstance(page.document, dict) else "none: it is a list"
        LOG.warning(
            "%s: there is nothing at %s = %r, so this is taken for the only page (%d rows); the answer's names are: %s",
            page.where,
            argument,
            path,
            len(page.rows),
            names[:200],
        )
    return _given(found)


def _advance(
    place: PagePlace, page: Page, found: int | str | None, current: int | str | None, last: bool
) -> tuple[PagePlace, bool]:
    """Follow what an answer gave to ask for the next page.

    Where there is nothing to follow, the next pull asks for this page again, and takes what has come to it.
    """
    if found is None:
        return replace(place, taken=len(page.rows)), True
    if found == current:
        if page.rows and not last:
            raise _loop(page)
        return replace(place, taken=len(page.rows)), True
    steps, mark, new = place.steps + 1, place.mark, digest(found)
    if new == mark:
        raise _loop(page)
    if steps & (steps - 1) == 0:
        mark = new
    count = place.rows + len(page.rows)
    return (
        replace(place, at=found, taken=0, rows=count, previous=len(page.rows), steps=steps, mark=mark),
        last,
    )


def _loop(page: Page) -> SourceError:
    return SourceError(
        f"{page.where}: the API leads back to a page that was taken before: it would go on for ever. See whether "
        "the next page is looked for in the right place, and whether the API takes the names of its parameters"
    )


def _whole(reached: int, page: Page) -> None:
    """Refuse an end that comes before what the API says is there."""
    if page.total is not None and page.total > reached:
        raise SourceError(
            f"{page.where}: the API has {page.total} rows, as it says, but gives none after {reached}: it may not go "
            "further than some offset. Ask for less at once (params), or use another style, or leave total_path out "
            "if the total is only an estimate"
        )


def _given(found: Any) -> Any:
    return None if found is MISSING or found is None or found is False or found == "" else found


def _number(at: int | str | None, first: int) -> int:
    return at if isinstance(at, int) else first
