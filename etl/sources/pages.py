"""Paged APIs: rows that come a page at a time."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from etl.errors import SourceChanged
from etl.records import Declarations
from etl.sources import urls
from etl.sources.bounds import UNLIMITED, Bounds
from etl.sources.json_decoder import DECODER, decoder
from etl.sources.paging.answers import Page
from etl.sources.paging.arguments import completed, hidden_of, key_of, reading_of, requests_of, style_of
from etl.sources.paging.asking import Asker
from etl.sources.paging.judging import Judge
from etl.sources.paging.place import PagePlace, mark_within
from etl.sources.paging.rows import Sieve
from etl.sources.paging.since import Pass, Times
from etl.sources.waiting import Waiting
from etl.sources.web import Web
from etl.sources.web_tokens import OAuth2, Tokens

LOG = logging.getLogger("etl.sources")

_STAYS = (
    "the API's cursor stays the same from page to page, or is called a scroll (as Elasticsearch's is): the server "
    "alone knows which page comes next, so that neither a run that was interrupted nor a later one can go on from it. "
    'Begin again with --full-refresh, or have each run do so with disposition = "replace"; where the API has a cursor '
    "that names its place (Elasticsearch: search_after), use that"
)


class Pages:
    """Reads the rows of a paged API, and goes on where it was: after a stop, and when rows came.

    **The order must be the same whenever a page is asked for again.** Let the API sort by what does not change and
    tells all rows apart, such as its id (the presets do so), and new rows come last if it can. With `key` (fields
    that tell rows apart) a pull that goes on finds its place by the rows, not by their number: rows that come again
    as others were put in before them are dropped; and where rows may have been missed as others were removed, the
    pull ends with `SourceChanged`, in the styles `offset` (see `overlap`) and `page` (only if rows come again
    in the wrong place: rows that are removed before the page that comes next are not noticed). Without a key
    rows are told apart by their place alone, and rows that move are missed or taken twice.

    **A later run** asks for the page again that was the last one, and takes what has come after the rows that
    were taken: new rows must come last. An API may forget its cursors after a while; the run then ends with its
    answer, and `--full-refresh` begins again.

    **With `updated_at`** a later run asks from the first page on for rows that changed since the greatest time it has
    seen, less `look_back`. That bound stays the same during a run, and over its resumptions. Rows that were taken
    with the same key and time are not taken again; at most 4,096 of them are remembered. Rows that change
    during a run are in the next one: the bound is never later than the time when the run before began, by the server's
    clock. Do not sort by the time of change: rows would move while pages are asked for. A row that changes twice
    within the precision of that time is taken once; rows that are removed are not noticed. Without `key`,
    only rows that are later than the greatest time are taken, and those of that same time that come later are missed.
    To `merge`, set `repeat`.

    **A page that was taken before is refused** before its rows are taken again: an API that leads in a circle, or takes
    no notice of what asks for the page. A cursor that stays the same while the rows change (a scroll) is followed, but
    neither an interrupted run nor a later one can go on from it: `SourceChanged`.

    **Errors that come with status 200** are `ErrorPage`: what stands at `error_path`; without it, what looks like one
    beside a page without rows (`error`, `errors`, a `message` that does not say that all is well, `success` that is
    false, a `status` or `code` of 400 and more). Beside a page with rows it is told, and the rows are taken.

    **A POST** (`body`, `form` or `query`) is repeated like a GET when the connection breaks: it must do nothing but
    read.

    Paths are dotted: `data.rows`, `links.0.href`, `hits.-1.sort` (the last), `links[rel=next].href` (the first
    object of the list whose `rel` is `next`). Each page is held in memory as a whole.

    Args:
        url: of the first page. What it has after `?` is sent with each page.
        style: how pages are asked for: `offset` (rows to leave out), `page` (a number), `cursor` (given by each
            answer), `next_link` (a URL in each answer), `link_header` (a URL in its header, RFC 8288). Links may
            be relative, and lead to the host of `url` alone. They are followed by GET.
        preset: in place of a style: `socrata`, `ckan` (`datastore_search`), `openalex`. What is given besides goes
            first. In `socrata`, the secret `app_token` becomes the header.
        records: the dotted path of the array of rows; None: the answer is the array. `entities.*`: the elements of
            the object there are rows, each with its name in the field `_key`; `edges.*.node`: what each holds there.
        params: sent with each page.
        headers: sent with each request; kept nowhere, shown nowhere.
        secrets: parameters that are kept nowhere and shown nowhere, such as `api_key = "${API_KEY}"`.
        page_size: rows to ask for; None: what the API gives.
        size_param: the parameter for it; `limit` in the style `offset`.
        offset_param: `offset`.
        overlap: how many rows before the offset to ask for again (0 to 100): one less may be removed there
            without a row being missed. Default: 1 if there is a key.
        page_param: `page`.
        first_page: the number of the first page; None: 1, and where the API has a page 0 with other rows, or less rows
            than its total, that is an error.
        cursor_param: the parameter for the cursor.
        cursor_path: the dotted path of the next cursor; the last page has none, null, false or what is empty there.
            In a body of JSON it may be an array or an object (`hits.hits.-1.sort` for Elasticsearch's search_after).
        first_cursor: the cursor of the first page; None: it is asked for without one.
        more_path: the dotted path of a boolean that says whether there is more, where a cursor is given even so.
        end_cursors: what is no cursor but the end, besides; None: 0, -1, `null`, `None`, `false` and the like, as
            numbers or text; []: nothing.
        next_path: the dotted path of the next page's URL; or of an object with its `href`, and the `method`, `body` and
            `merge` of its request (STAC API).
        total_path: the dotted path of the number of rows on all pages. The styles `offset` and `page` fail if they
            cannot reach it. It may be a lower bound: only a page that is shorter than the one before it is the end
            when it is reached, else one more page is asked for.
        end_statuses: what the API answers for a page beyond the last one, such as `[404]`; not the first one.
        error_path: one or several dotted paths at which the API says what is wrong, with status 200: there must be
            nothing, null, false, 0 or what is empty. None: see above; []: no error is looked for. For GraphQL it
            is `errors`.
        on_error_page: `fail`; or `wait`: such an answer, and one that is no page, is asked for again for `deadline`
            seconds, as one with status 503 is.
        method: `GET`, or `POST`; None: POST if there is a body, form or query.
        body: what each request holds as JSON. What asks for a page is put into it, each at its dotted path
            (`offset_param = "page.from"`).
        form: the fields of a form, in place of that.
        query: a query of GraphQL, in place of that: what asks for a page is put into its variables. The style is
            `cursor` unless another is given, with Relay's names: `after`, `first`, and `pageInfo` beside `records`.
        variables: those of the query.
        paging_in: `query` puts what asks for a page into the query of the URL though there is a body.
        secrets_in: `body` puts the secrets there, each at its dotted path.
        page_format: `json`, `ndjson`, or `csv` (values are text, empty ones null; the first line has the names).
        columns: where rows are arrays: their names, or the dotted path of the names in the answer: texts, or objects
            with a `name`; `0` is the first row.
        oauth2: a table: `token_url`, `client_id`, `client_secret`; a `refresh_token` in place of client credentials;
            `scope`, `audience`, `params` (what else the server wants); `client_auth`: `basic`, or `body`. The token
            is kept in memory alone, renewed before it expires, and once for a request that is refused (401).
        key: the dotted paths of the fields that tell rows apart. A row that lacks one is unreadable.
        updated_at: a table: `field` is the dotted path of the time of change in a row; `param` the parameter that
            asks for the rows since a time, `template` its value, with `{}` for the time; `start` the time of
            the first run (None: without that parameter); `look_back` in seconds; `format` says how the field is
            written: `iso` (ISO 8601, without a zone in UTC), `date` (the same, asked for as a date), `seconds`,
            `milliseconds` (since 1970); `repeat`: rows within the look-back come again each time.
        max_page_bytes: how large an answer may be. None: a 16th of the memory that the job may take, 16 MiB at most,
            where each of its values counts for 16 bytes more.
        requests_per_second: no more than these; None: as fast as the server answers.
        deadline: for how many seconds a request is tried again when what went wrong may pass.
        read_timeout: the seconds after which a server that sends nothing hangs, or one whose answer has not begun with
            all of its headers.
        allow_private: whether redirects of an API at a public address may lead to addresses of private networks, this
            machine's among them; those of an API at a private address always may.

    Raises:
        ValueError: an argument is wrong. Nothing is asked before `pull`.
    """

    def __init__(
        self,
        url: str,
        *,
        style: Literal["offset", "page", "cursor", "next_link", "link_header"] | None = None,
        preset: Literal["socrata", "ckan", "openalex"] | None = None,
        records: str | None = None,
        params: Mapping[str, str | int | float | bool] | None = None,
        headers: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        page_size: int | None = None,
        size_param: str | None = None,
        offset_param: str | None = None,
        overlap: int | None = None,
        page_param: str | None = None,
        first_page: int | None = None,
        cursor_param: str | None = None,
        cursor_path: str | None = None,
        first_cursor: str | int | None = None,
        more_path: str | None = None,
        end_cursors: Sequence[str | int] | None = None,
        next_path: str | None = None,
        total_path: str | None = None,
        end_statuses: Sequence[int] | None = None,
        error_path: str | Sequence[str] | None = None,
        on_error_page: Literal["fail", "wait"] = "fail",
        method: Literal["GET", "POST"] | None = None,
        body: Mapping[str, Any] | None = None,
        form: Mapping[str, str | int | float | bool] | None = None,
        query: str | None = None,
        variables: Mapping[str, Any] | None = None,
        paging_in: Literal["query", "body"] | None = None,
        secrets_in: Literal["query", "body"] = "query",
        page_format: Literal["json", "ndjson", "csv"] = "json",
        columns: str | Sequence[str] | None = None,
        oauth2: Mapping[str, Any] | None = None,
        key: str | Sequence[str] | None = None,
        updated_at: Mapping[str, Any] | None = None,
        max_page_bytes: int | None = None,
        requests_per_second: float | None = None,
        deadline: float = 120.0,
        read_timeout: float = 30.0,
        allow_private: bool = False,
    ) -> None:
        self.url = urls.check(url)
        if "@" in urlsplit(url).netloc:
            raise ValueError("url: it holds a user or a password: put them into headers, as Authorization")
        arguments = completed(
            {
                "style": style,
                "preset": preset,
                "records": records,
                "params": dict(params or {}),
                "headers": dict(headers or {}),
                "secrets": dict(secrets or {}),
                "page_size": page_size,
                "size_param": size_param,
                "offset_param": offset_param,
                "overlap": overlap,
                "page_param": page_param,
                "first_page": first_page,
                "cursor_param": cursor_param,
                "cursor_path": cursor_path,
                "first_cursor": first_cursor,
                "more_path": more_path,
                "next_path": next_path,
                "total_path": total_path,
                "end_cursors": end_cursors,
                "end_statuses": end_statuses,
                "error_path": error_path,
                "on_error_page": on_error_page,
                "method": method,
                "body": body,
                "form": form,
                "query": query,
                "variables": variables,
                "paging_in": paging_in,
                "secrets_in": secrets_in,
                "page_format": page_format,
                "columns": columns,
                "key": key,
            }
        )
        self._times = Times.of(updated_at)
        self._key = arguments["key"] = key_of(arguments["key"])
        if self._times and self._times.look_back and not self._key and not self._times.repeat:
            raise ValueError("updated_at: look_back needs a key to tell rows apart by, or repeat = true")
        self._headers, self._secrets = arguments["headers"], arguments["secrets"]
        self._oauth2 = OAuth2.of(oauth2)
        if self._oauth2 is not None and any(name.lower() == "authorization" for name in self._headers):
            raise ValueError("oauth2: headers have an Authorization of their own; leave one of both out")
        self._hidden = hidden_of(self._headers, self._secrets) + (
            self._oauth2.secrets if self._oauth2 else []
        )
        self._style = style_of(arguments, self.url)
        requests = requests_of(arguments, self.url, self._style, self._times)
        self._page_size: int | None = arguments["page_size"]
        self._remembers = bool(self._key) and self._times is not None and not self._times.repeat
        if max_page_bytes is not None and max_page_bytes < 1:
            raise ValueError(f"max_page_bytes: {max_page_bytes} is not greater than 0")
        self._sieve = Sieve(self._key, self._style.shifts, self._times)
        self._judge = Judge(self._style, bool(self._key), self._sieve, self._page_size)
        self._asker = Asker(
            style=self._style,
            requests=requests,
            reading=reading_of(arguments, remembers=self._remembers),
            sieve=self._sieve,
            times=self._times,
            max_page_bytes=UNLIMITED.page if max_page_bytes is None else max_page_bytes,
            most=UNLIMITED.page if max_page_bytes is None else None,
            page_size=self._page_size,
        )
        self._bounded = False  # whether it was told what it may take
        self._web_arguments = (requests_per_second, deadline, read_timeout)
        self._allow_private = allow_private
        self._first_wait = 0.5
        self._waiting = Waiting()
        self._web()  # which checks them
        self._reached: tuple[int, int | None] = (0, None)

    def fingerprint(self) -> str:
        """Return what gives cursors their meaning: nothing secret, and no page size unless pages are numbered."""
        requests = self._asker.requests
        meaning: dict[str, Any] = {
            "pages": self.url,
            "style": self._style.name,
            "params": requests.params,
            "page_size": self._page_size if self._style.name == "page" else None,
            "records": self._asker.reading.records,
            "key": self._key,
            "updated_at": self._times and [self._times.field, self._times.param, self._times.format],
        }
        if requests.post:
            meaning["body"] = requests.body
        if self._asker.reading.page_format != "json":
            meaning["page_format"] = self._asker.reading.page_format
        return msgspec.json.encode(meaning).decode()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_asker": dataclasses.replace(self._asker, decoder=DECODER)}

    def declare(self, declared: Declarations) -> None:
        """Take what is declared of the rows' fields: decimals keep all digits; see `etl.records.TakesDeclared`."""
        self._asker = dataclasses.replace(self._asker, decoder=decoder(declared, UNLIMITED.record))

    def take_memory(self, memory: int | None) -> None:
        """Bound a page by what the job may take, unless the job says how large one may be; see `TakesMemory`."""
        self._bound(Bounds.of(memory))

    def _bound(self, bounds: Bounds) -> None:
        self._bounded = True
        if self._asker.most is not None:
            self._asker = dataclasses.replace(self._asker, max_page_bytes=bounds.page, most=bounds.page)

    def progress(self) -> float | None:
        """Return the share of the rows that has been read, 0 to 1; None: the API does not tell their number."""
        rows, total = self._reached
        return min(rows / total, 1.0) if total else None

    def leave(self) -> None:
        """Let a pull that waits for the server end; see `etl.records.Leaves`."""
        self._waiting.leave()

    def pull(self, cursor: Any) -> Iterator[Any]:
        """Yield rows and `Unreadable`s, with a `Mark` after each page; with a key, after each row.

        Args:
            cursor: that of an earlier mark; None: the beginning.

        Raises:
            ErrorPage: the API answered with an error, or with what is no page.
            SourceError: the API does not answer, or not with what was described.
            SourceChanged: the rows are not where they were when the cursor was taken.
        """
        if not self._bounded:
            self._bound(Bounds.here())
        place = PagePlace.of(cursor)
        if place.since is None and self._times is not None:
            place = replace(place, since=self._times.beginning())
        if place.stays:
            raise SourceChanged(f"{self._asker.requests.url}: {_STAYS}")
        ended = told = False
        waiting: PagePlace | None = None
        resumed = place.at is not None
        self._waiting.begin()
        with closing(self._web()) as web:
            while not ended:
                page, date = self._asker.ask(web, place)
                if cursor is None and place.at is None:
                    self._asker.see_no_page_before(web, page)
                if page.doubt and not told:
                    told = True
                    LOG.warning(
                        "%s: beside its %d rows, which are taken, it says %s: some may be missing. To end the run "
                        "there, let error_path name that path; [] says that it is no error",
                        page.where,
                        len(page.rows),
                        page.doubt,
                    )
                page, after, ended = self._judge.judge(page, place, web)
                if after.stays and place.at is not None:
                    if resumed and page.rows:  # whether these are the rows that come next, nobody knows
                        raise SourceChanged(f"{page.where}: {_STAYS}")
                    place = replace(place, stays=True)
                if waiting is not None:
                    yield replace(waiting, stays=place.stays).as_mark()
                place = yield from self._page(page, place, after, ended, date)
                resumed = False
                # whether its cursor says where it is, the next page shows: only then may a run go on from it
                waiting = place if self._style.may_stay and not ended else None
                if waiting is None:
                    yield place.as_mark()

    def _page(self, page: Page, place: PagePlace, after: PagePlace, ended: bool, date: str) -> Any:
        """Yield what is new on a page; returns the place where the pull goes on."""
        changes = None
        if self._times is not None and place.since is not None:
            changes = Pass(self._times, place.since, self._remembers)
            place = replace(place, since=changes.begin(date))
        sifting = self._sieve.sift(page, place, changes)
        base = place.as_cursor()
        while True:
            try:
                row = next(sifting)
            except StopIteration as end:
                keys = end.value
                break
            yield row.item
            if self._key:
                yield mark_within(base, row.taken, row.keys)
        self._reached = (after.rows + after.taken, page.total)
        if changes is None:
            return replace(after, keys=keys)
        if ended:  # the next pass begins with the first page
            return PagePlace(since=changes.ended())
        return replace(after, keys=keys, since=changes.page_ended())

    def _web(self) -> Web:
        requests_per_second, deadline, read_timeout = self._web_arguments

        def web(headers: Mapping[str, str], pace: float | None, tokens: Tokens | None) -> Web:
            return Web(
                headers=headers,
                requests_per_second=pace,
                deadline=deadline,
                read_timeout=read_timeout,
                secrets=self._hidden,
                first_wait=self._first_wait,
                tokens=tokens,
                allow_private=self._allow_private,
                waiting=self._waiting,
            )

        oauth2 = self._oauth2
        tokens = Tokens(oauth2, web(oauth2.headers, None, None)) if oauth2 is not None else None
        return web(self._headers, requests_per_second, tokens)
