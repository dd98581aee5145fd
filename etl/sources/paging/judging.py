"""Judges a page before any row of it is taken: whether it was taken before, what comes after it, where the end is."""

from __future__ import annotations

import dataclasses
from urllib.parse import unquote, unquote_plus

import msgspec
from msgspec.structs import replace

from etl.errors import SourceError
from etl.sources.paging.answers import Page
from etl.sources.paging.place import PagePlace
from etl.sources.paging.styles import Style, all_are_there
from etl.sources.web import Web

# After how many pages that are the same, the API is taken for one that knows no pages.
_SAME_PAGES = 5
# After how many pages without a row, which all lead to another one, no end is expected any more.
_EMPTY_PAGES = 1000


class Judge:
    """Judges pages.

    Args:
        style: how they are asked for.
        has_key: whether rows are told apart by a key.
        page_size: how many rows are asked for; None: what the API gives.
    """

    def __init__(self, style: Style, has_key: bool, page_size: int | None) -> None:
        self._style = style
        self._has_key = has_key
        self._page_size = page_size

    def judge(self, page: Page, place: PagePlace, web: Web) -> tuple[Page, PagePlace, bool]:
        """Say what comes after a page before any row of it is taken: a loop must not be loaded before it is found.

        Returns:
            The page, without rows where it only repeats the last one; the place after it; whether it is the end.

        Raises:
            SourceError: it is one that was taken before, or cannot be followed.
        """
        shape = page.shape if self._style.shifts else b""
        again = shape == place.page if shape else not page.rows
        same = place.same + 1 if again else 0
        if not shape:
            self._see_no_void(same, page)
        elif same and all_are_there(place):  # some APIs give their last page for each one after it
            page, shape, same = dataclasses.replace(page, rows=[], shape=b""), place.page, 0
        elif same:
            self._see_no_repetition(page, place)
        try:
            after, ended = self._style.follow(place, page)
        except SourceError as error:  # what the API gave stands in it
            raise type(error)(web.hidden(str(error))) from None
        _see_no_secret(after, page, web)
        if ended and self._style.looks_back:  # its rows come again, then
            shape = b""
        total = None if page.more_than_total else page.total
        return page, replace(after, page=shape, same=same, total=total), ended

    def _see_no_void(self, empty: int, page: Page) -> None:
        if empty >= _EMPTY_PAGES:
            raise SourceError(
                f"{page.where}: the last {empty} pages had no rows, but each of them something to ask for another one "
                "with: let more_path or end_cursors say where the end is, or ask for more rows at once (page_size)"
            )

    def _see_no_repetition(self, page: Page, place: PagePlace) -> None:
        """Refuse the same rows again, in the styles in which a server that knows no paging gives them."""
        # with a key, it may be that as many rows were put in before it as a page has
        if place.same < (_SAME_PAGES if self._has_key else 0):
            return
        full = len(page.rows) > 1 and len(page.rows) == self._page_size
        if full and all(row == page.rows[0] for row in page.rows):
            return  # rows that are all alike fill more than one page
        raise SourceError(
            f"{page.where}: it holds the same rows as the page before: does the API take the parameters "
            f"{', '.join(self._style.ask(place.at).params)}, and does it count its pages from another number on "
            "(first_page)? If it gives its last page for each one after it, let total_path say how many rows there are"
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
