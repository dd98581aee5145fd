"""The styles of paging: what is asked for a page, and which page follows it.

None of them takes a page of fewer rows than were asked for as the last one: servers give less than that when they
have an upper limit (CKAN's `ckan.datastore.search.rows_max`), or when they sort rows out of a page. The end is a page
without rows, or that no next page is named; that costs one more request a run. A total is the end only together with
a page that is shorter than the one before it: it may be a lower bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from msgspec.structs import replace

from etl.errors import SourceError
from etl.sources.paging.answers import Page
from etl.sources.paging.place import PagePlace

# The number of the first page, where the job does not say it.
_FIRST = 1

Param = str | int | list[Any] | dict[str, Any]


class Asked(NamedTuple):
    """What to ask for a page.

    Attributes:
        params: the parameters that choose the page.
        words: name the page for people.
        link: the URL to ask instead of the source's with its parameters; None: those.
        body: what to put into the body that a link is asked with; None: nothing.
    """

    params: dict[str, Param]
    words: str
    link: str | None = None
    body: dict[str, Any] | None = None


class Style(Protocol):
    """How pages are asked for."""

    @property
    def name(self) -> str:
        """What a job file calls it."""

    @property
    def shifts(self) -> bool:
        """Whether rows move from one page to another when there are new ones before them."""

    @property
    def may_stay(self) -> bool:
        """Whether what asks for the next page may be what asked for this one."""

    @property
    def looks_back(self) -> bool:
        """Whether the next pull begins with the page that was the last one of this."""

    @property
    def before_first(self) -> int | None:
        """Where a page would be that is missed if the first one was guessed wrong; None: nothing was guessed."""

    def ask(self, at: Any) -> Asked:
        """Return what to ask for the page at `at`; None: the first one."""

    def leads_on(self, document: Any, /) -> bool:
        """Say whether an answer gives something to ask for the next page with."""

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
    may_stay: bool = False
    before_first: None = None

    @property
    def looks_back(self) -> bool:
        """It does so by its overlap."""
        return self.overlap > 0

    def ask(self, at: Any) -> Asked:
        """Leave so many rows out."""
        return Asked({self.param: at or 0}, f"offset {at or 0}")

    def leads_on(self, _document: Any, /) -> bool:
        """No answer does."""
        return False

    def follow(self, place: PagePlace, page: Page) -> tuple[PagePlace, bool]:
        """Count the rows; the end is where there are none beyond those, or a short page reaches the total."""
        reached = _number(place.at, 0) + len(page.rows)
        if reached <= place.rows:
            _whole(reached, page)
            return place, True
        ended = _reaches_total(reached, place, page)
        overlap = min(self.overlap, reached)
        return replace(
            place, at=reached - overlap, taken=overlap, rows=reached, previous=len(page.rows)
        ), ended


@dataclass(frozen=True, slots=True)
class Number:
    """The number of the page.

    Args:
        param: the parameter's name.
        first: the first page's number; None: the job does not say it, and it is 1.
    """

    param: str
    first: int | None
    name: str = "page"
    shifts: bool = True
    may_stay: bool = False
    looks_back: bool = True

    @property
    def before_first(self) -> int | None:
        """It is page 0, where the job does not say with which number pages begin."""
        return _FIRST - 1 if self.first is None else None

    @property
    def _begins(self) -> int:
        return _FIRST if self.first is None else self.first

    def ask(self, at: Any) -> Asked:
        """Name the page by its number."""
        number = _number(at, self._begins)
        return Asked({self.param: number}, f"page {number}")

    def leads_on(self, _document: Any, /) -> bool:
        """No answer does."""
        return False

    def follow(self, place: PagePlace, page: Page) -> tuple[PagePlace, bool]:
        """Count on; the end is a page without rows, or a short one that reaches the total."""
        at = _number(place.at, self._begins)
        if not page.rows:
            _whole(place.rows, page)
            if at == self._begins:
                return place, True
            # the page before may not have been full: the next pull looks at it again
            last = place.previous
            return replace(place, at=at - 1, taken=last, rows=place.rows - last, previous=0), True
        count = place.rows + len(page.rows)
        if _reaches_total(count, place, page):
            return replace(place, at=at, taken=len(page.rows)), True
        return replace(place, at=at + 1, taken=0, rows=count, previous=len(page.rows)), False


def all_are_there(place: PagePlace) -> bool:
    """Say whether the total says that no row comes after a place."""
    return place.total is not None and 0 < place.total <= place.rows


def _reaches_total(reached: int, place: PagePlace, page: Page) -> bool:
    """Say whether the total ends the pull: only a page that is shorter than the one before makes it sure."""
    if page.total is None or page.more_than_total or reached < page.total:
        return False
    return len(page.rows) < place.previous


def _whole(reached: int, page: Page) -> None:
    """Refuse an end that comes before what the API says is there."""
    if page.total is not None and page.total > reached:
        raise SourceError(
            f"{page.where}: the API has {page.total} rows, as it says, but gives none after {reached}: it may not go "
            "further than some offset, or count its pages from another number on (first_page). Ask for less at once "
            "(params), or use another style, or leave total_path out if the total is only an estimate"
        )


def _number(at: Any, first: int) -> int:
    return at if isinstance(at, int) else first
