"""Judges a page before any row of it is taken: whether it was taken before, what comes after it, where the end is."""

from __future__ import annotations

import dataclasses
from urllib.parse import unquote, unquote_plus

import msgspec
from msgspec.structs import replace

from etl.errors import SourceError
from etl.sources.paging.answers import Page
from etl.sources.paging.place import PagePlace, holds, with_step
from etl.sources.paging.rows import Sieve
from etl.sources.paging.styles import Style, all_are_there
from etl.sources.web import Web

# After how many pages that are the same, though there is a key, the API is taken for one that knows no pages.
_SAME_PAGES = 5
# After how many pages without a row, which all lead to another one, no end is expected any more.
_EMPTY_PAGES = 1000


class Judge:
    """Judges pages.

    Args:
        style: how they are asked for.
        has_key: whether rows are told apart by a key.
        sieve: knows which rows were taken last.
        page_size: how many rows are asked for; None: what the API gives.
    """

    def __init__(self, style: Style, has_key: bool, sieve: Sieve, page_size: int | None) -> None:
        self._style = style
        self._has_key = has_key
        self._sieve = sieve
        self._page_size = page_size

    def judge(self, page: Page, place: PagePlace, web: Web) -> tuple[Page, PagePlace, bool]:
        """Say what comes after a page before any row of it is taken: a loop must not be loaded before it is found.

        Returns:
            The page, without rows where it only repeats the last one; the place after it; whether it is the end.

        Raises:
            SourceError: it is one that was taken before, or cannot be followed.
        """
        shape, shifts, size = page.shape, self._style.shifts, len(page.rows)
        again = shape == place.page if shape else not page.rows
        before = bool(shape) and shifts and not again and holds(place.trail, shape)
        same = place.same + 1 if again or before else 0
        if not shape:
            self._see_no_void(same, page)
        elif (same and all_are_there(place) and (shifts or place.stays)) or (
            again and shifts and not place.taken and len(page.rows) < place.longest
        ):
            # some APIs give their last page for each one after it; a short one that comes again is that (where no
            # row of it is expected again)
            page, shape, same = dataclasses.replace(page, rows=[], shape=b""), place.page, 0
        elif same and shifts:
            self._see_no_repetition(page, place, before)
        try:
            after, ended = self._style.follow(place, page)
        except SourceError as error:  # what the API gave stands in it
            raise type(error)(web.hidden(str(error))) from None
        _see_no_secret(after, page, web)
        if shape and same and not shifts:  # though something new is given to ask with
            self._see_no_repetition(page, place, before)
        if shifts:
            trail = place.trail if same or not shape else with_step(place.trail, shape)
            after = replace(after, trail=b"" if ended else trail, longest=max(place.longest, size))
        if ended:
            same = 0
            if self._style.looks_back:  # its rows come again, then
                shape = b""
        total = None if page.more_than_total else page.total
        names = page.names or place.names
        return page, replace(after, page=shape, same=same, total=total, names=names), ended

    def _see_no_void(self, empty: int, page: Page) -> None:
        if empty >= _EMPTY_PAGES:
            raise SourceError(
                f"{page.where}: the last {empty} pages had no rows, but each of them something to ask for another one "
                "with: let more_path or end_cursors say where the end is, or ask for more rows at once (page_size)"
            )

    def _see_no_repetition(self, page: Page, place: PagePlace, before: bool) -> None:
        """Refuse the same rows again: the API takes no notice of what asks for the page, or begins again.

        Args:
            page: it has the rows of the page before it; or of an earlier one.
            place: before it.
            before: whether it is an earlier one.
        """
        if (
            self._has_key
            and place.same < _SAME_PAGES
            and (not before or self._sieve.remembers(page.rows, place))
        ):
            return  # it may be that as many rows were put in before it as a page has; they are dropped
        full = len(page.rows) > 1 and self._page_size in (None, len(page.rows))
        if full and all(row == page.rows[0] for row in page.rows):
            return  # rows that are all alike fill more than one page
        which = "a page before" if before else "the page before"
        names = ", ".join(self._style.ask(place.at).params) or "of the link"
        raise SourceError(
            f"{page.where}: it holds the same rows as {which}: does the API take the parameters {names}, and does it "
            "count its pages from another number on (first_page)? If it gives its first page, or its last one though "
            "that is full, for each one after the last, let total_path say how many rows there are; if rows are really "
            "alike, ask for more of them at once (page_size), or for a field that tells them apart"
        )


def _see_no_secret(after: PagePlace, page: Page, web: Web) -> None:
    if after.at is None or isinstance(after.at, int):
        return
    text = after.at if isinstance(after.at, str) else msgspec.json.encode(after.at).decode()
    if any(web.hidden(form) != form for form in (text, unquote(text), unquote_plus(text))):
        raise SourceError(
            f"{page.where}: what the API gives to ask for the next page with holds a secret, which must not be "
            "kept in the checkpoint: use another style of paging"
        )
