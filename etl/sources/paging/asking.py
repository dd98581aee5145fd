"""Asks for a page, and makes of the answer what the styles and the sieve work with: rows, total, links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from etl.errors import ErrorPage, SourceError, SourceMissing, SourceStopped, SourceUnavailable
from etl.sources.bounds import many_values
from etl.sources.json_decoder import DECODER, Decoder
from etl.sources.paging import answers, errors, formats, links
from etl.sources.paging.answers import Page
from etl.sources.paging.paths import MISSING, lookup, parted
from etl.sources.paging.place import PagePlace
from etl.sources.paging.requests import Requests
from etl.sources.paging.rows import Sieve
from etl.sources.paging.since import Times
from etl.sources.paging.styles import Style, all_are_there
from etl.sources.web import PASSING, Web
from etl.sources.web_answers import Answer, Trouble, ungzipped
from etl.sources.web_session import waits_for

# What stands before or behind a value.
_SIGNS = {"json": b",[{", "ndjson": b",[{\n", "csv": b",;\t|\n"}
_NO_CONTENT = 204
_GZIP = b"\x1f\x8b\x08"  # RFC 1952, section 2.3.1; no text begins so
# A page that is asked for after all rows have come may be answered so: it is not there (RFC 9110: 404, 410, 416).
_NOT_THERE = (404, 410, 416)
# A page that cannot be there may be answered with whatever error, 500 among them, which many programs give where they
# count on from a number below 0; those that tell of a busy server are waited for.
_REFUSED = tuple(status for status in range(400, 600) if status == 500 or status not in PASSING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What of an answer is read.

    Args:
        records: the path of the rows.
        total_path: the path of the number of all rows.
        page_format: one of `formats.PAGE_FORMATS`.
        columns: the names of the values of rows that are arrays, or the path of the names.
        error_path: where the API says that something is wrong; None: errors are looked for beside pages without rows.
        waits: whether an error in an answer is taken for one that passes.
        end_statuses: the statuses that say that a page lies beyond the last one.
        most_rows: how many rows a page may have; None: any number.
    """

    records: str | None
    total_path: str | None
    page_format: str
    columns: str | Sequence[str] | None
    error_path: tuple[str, ...] | None
    waits: bool
    end_statuses: tuple[int, ...]
    most_rows: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Asks for pages.

    Args:
        style: how they are asked for.
        requests: how requests are made.
        reading: what of the answers is read.
        sieve: knows the rows' keys.
        times: writes what asks for the rows since a time.
        max_page_bytes: how large an answer may be.
        most: how large it may be with its values, in bytes; None: nobody looks, as the job says `max_page_bytes`.
        page_size: for advice.
        decoder: decodes rows.
    """

    style: Style
    requests: Requests
    reading: Reading
    sieve: Sieve
    times: Times | None
    max_page_bytes: int
    most: int | None
    page_size: int | None
    decoder: Decoder = DECODER

    def ask(self, web: Web, place: PagePlace, none: tuple[int, ...] = ()) -> tuple[Page, str]:
        """Return the page at a place, and the date in the answer's header.

        Args:
            web: makes the requests.
            place: where the page is.
            none: further statuses that say that there are no rows.

        Raises:
            SourceError: there is none, or the API says that something is wrong.
        """
        asked = self.style.ask(place.at)
        sent = self.requests.of(asked, self.times.params(place.since) if self.times else {})
        where = web.shown(f"{self.requests.url} ({asked.words})")
        beyond = (*self._beyond(place), *none)
        pages: list[Page] = []
        failures: list[SourceError] = []  # which no other attempt changes

        def check(answer: Answer) -> None:
            pages.clear()
            waits = self.reading.waits
            try:
                if answer.status == _NO_CONTENT or answer.status in beyond:
                    pages.append(self._made(answer, None, [], place.total, False, where))
                    return
                # without a frame the body's end was that of the connection alone, which may have broken
                answer = self._unpacked(answer, where)
                framed = {"content-length", "transfer-encoding"} & {name.lower() for name in answer.headers}
                waits = waits or not framed
                self._see_that_it_fits(answer.body, where)
                document = formats.decode(
                    answer.body, self.reading.page_format, where, web.shown, self.decoder
                )
                waits = self.reading.waits
                pages.append(self._page(answer, document, place, where, web))
            except ErrorPage as error:
                if waits:
                    raise Trouble(str(error), waits_for(answer.headers)) from error
                failures.append(error)
            except SourceError as error:
                failures.append(error)

        try:
            answer = web.fetch(
                sent.url,
                params=sent.params,
                body=sent.body,
                also=beyond,
                limit=self.max_page_bytes,
                check=check,
            )
        except SourceError as error:
            raise type(error)(f"{asked.words}: {error}{self._advice(error, place)}") from error
        if failures:
            raise failures[-1]
        return pages[0], answer.headers.get("Date", "")

    def see_no_page_before(self, web: Web, page: Page) -> None:
        """Refuse to begin with page 1 where the API counts from 0: the rows of its page 0 would be missing.

        It costs one request. An API that counts from 1 refuses its page 0, has no rows there, or gives its page 1.
        Where it says how many rows there are, missing ones are found at the end.

        Args:
            web: makes the requests.
            page: the first page.

        Raises:
            SourceError: there is such a page, with other rows; or it cannot be found out now.
        """
        at = self.style.before_first
        if at is None or page.total is not None or not page.rows:
            return
        hasty = replace(self, reading=replace(self.reading, waits=False))
        try:
            found, _ = hasty.ask(web, PagePlace(at=at), _REFUSED)
        except (SourceUnavailable, SourceStopped):
            raise
        except SourceError:
            return  # it is no page
        alike = sum(row in page.rows for row in found.rows)
        if 2 * alike < len(found.rows):
            raise SourceError(
                f"{found.where}: it has rows that are not on page {at + 1}, so that the API seems to count its pages "
                f"from {at}: set first_page = {at}; or first_page = {at + 1} to begin with page {at + 1} nevertheless"
            )

    def _beyond(self, place: PagePlace) -> tuple[int, ...]:
        """Return the statuses that say of this page that it lies beyond the last one; the first page cannot."""
        if not self.style.shifts or not place.rows:
            return ()
        return (*self.reading.end_statuses, *(_NOT_THERE if all_are_there(place) else ()))

    def _unpacked(self, answer: Answer, where: str) -> Answer:
        """Decompress what is gzip though its header does not say so: a file that was stored like that."""
        if not answer.body.startswith(_GZIP):
            return answer
        body = ungzipped(answer.body, self.max_page_bytes + 1)
        if len(body) > self.max_page_bytes:
            raise SourceError(
                f"{where}: decompressed, it is larger than max_page_bytes = {self.max_page_bytes}; ask for less at "
                "once, or raise it, and the memory of the job"
            )
        return replace(answer, body=body)

    def _see_that_it_fits(self, body: bytes, where: str) -> None:
        if self.most is None:
            return
        if said := many_values(body, self.most, _SIGNS[self.reading.page_format]):
            raise SourceError(
                f"{where}: {said} is what a page may take here, as its rows are held in memory; ask for less at once, "
                f"or set max_page_bytes ({len(body)} or more), and give the job as much memory as that needs: 16 times "
                "what it is here is enough"
            )

    def _page(self, answer: Answer, document: Any, place: PagePlace, where: str, web: Web) -> Page:
        reading = self.reading
        self._see_no_error(errors.said_under(document, reading.error_path or ()), where, web)
        rows = []
        if not self._has_none(document, place):
            rows = answers.rows_of(document, reading.records, answer.body, where, web.shown)
        if reading.error_path != ():
            beside = errors.said_as_row(rows) if rows else errors.said_beside(document, reading.records)
            if reading.page_format == "ndjson" and len(rows) > 1:
                beside = errors.said_at_the_end(rows)
            self._see_no_error(beside, where, web, guessed=True)
        names = b""
        if reading.page_format == "csv" and reading.columns == "0":
            names = formats.known_by(rows, place.names, where, web.shown)
        if reading.columns is not None:
            rows = formats.named(document, rows, reading.columns, where)
        rows = self.decoder.settled(rows)
        if reading.most_rows is not None and len(rows) > reading.most_rows:
            raise SourceError(
                f"{where}: it has {len(rows)} rows; with updated_at and a key, {reading.most_rows} can be compared at "
                "most: lower page_size"
            )
        made = self._made(
            answer, document, rows, *answers.total_of(document, reading.total_path, where), where
        )
        doubt = errors.doubt_beside(document) if rows and reading.error_path is None else None
        if doubt is None:
            return replace(made, names=names)
        return replace(made, names=names, doubt=f"{doubt[0]}: {errors.words(doubt[1], web.shown)}")

    def _has_none(self, document: Any, place: PagePlace) -> bool:
        """Say whether a page after others has nothing where rows were, and means that there are none.

        An empty list may be left out (Protocol Buffers, "ProtoJSON Format"), or be `{}`, as PHP writes it. Before there
        were rows, it is more likely that `records` is wrong.
        """
        if not place.rows:
            return False
        base = parted(self.reading.records)[0]
        found = lookup(document, base) if base else document
        if found is MISSING:
            return all_are_there(place) or self.style.leads_on(document) or errors.says_well(document)
        return found is False or found in (None, "", {})

    def _made(
        self, answer: Answer, document: Any, rows: list[Any], total: int | None, more: bool, where: str
    ) -> Page:
        return Page(
            url=links.without(answer.url, self.requests.secrets),
            document=document,
            rows=rows,
            shape=self.sieve.shape_of(rows),
            links=answer.headers.get("Link", ""),
            total=total,
            more_than_total=more,
            repeated=answer.repeated,
            where=where,
        )

    def _see_no_error(
        self, said: tuple[str, Any] | None, where: str, web: Web, *, guessed: bool = False
    ) -> None:
        if said is None:
            return
        path, found = said
        advice = (
            " If that is no error, let error_path list the paths at which the API says errors ([]: nowhere)."
            if guessed
            else ""
        )
        raise ErrorPage(
            f"{where}: the API answers with an error in place of a page, though with a status of success: {path}: "
            f"{errors.words(found, web.shown)}. Correct the request, or ask for less at once; if it passes by itself, "
            f'on_error_page = "wait" asks again for `deadline` seconds.{advice}'
        )

    def _advice(self, error: SourceError, place: PagePlace) -> str:
        """Say what else may help, where the server refused the request or the answer is too large."""
        if type(error) not in (SourceError, SourceMissing):
            return ""
        advice = ""
        if self.page_size is not None:
            advice = (
                f"; page_size is {self.page_size}: lower it if that is too much for the API or for memory"
            )
        if self.style.shifts and place.rows:
            advice += (
                f"; {place.rows} rows came before: if the API answers so beyond its last page, name the status in "
                "end_statuses; if it goes no further than that, ask for less at once (params), or use another style"
            )
        if not self.style.shifts and place.at is not None:
            advice += "; if the API forgets its cursors after a while, begin again with --full-refresh"
        return advice
