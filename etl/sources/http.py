"""Files on web servers: NDJSON, CSV, JSON or Parquet; plain, gzip, zip or zstd."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Unpack, get_args
from urllib.parse import unquote, urlsplit

import msgspec

from etl.errors import SourceChanged, SourceError, SourceMissing, SourceRefused, SourceUnavailable
from etl.records import Restart
from etl.sources import urls as urls_
from etl.sources.changes import NOT_READ_ON, OnChanged, Verdict, may_grow, stepping
from etl.sources.content import Content, one_of
from etl.sources.content_options import ContentOptions
from etl.sources.content_source import ContentSource
from etl.sources.error_pages import PAGES
from etl.sources.http_again import is_as_it_was, judge
from etl.sources.http_file import STORED_BYTES, HttpFile
from etl.sources.http_opening import LEAST_SPEED, Checksum, ErrorPage, Opening
from etl.sources.identity import Seen
from etl.sources.origin import Origin
from etl.sources.place import Place
from etl.sources.refusals import Damaged, Refused, Replaced
from etl.sources.share import Share
from etl.sources.url_patterns import Moment, Named, Patterns, open_ended
from etl.sources.web import MISSING, READ_TIMEOUT, Web
from etl.sources.web_session import secrets_of
from etl.sources.web_version import told

LOG = logging.getLogger("etl.sources")

OnMissing = Literal["fail", "skip", "wait"]
OnErrorPage = Literal["fail", "wait", "read"]

_CLOCKS_DIFFER = timedelta(days=1)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Http(ContentSource):
    """Reads records out of files on web servers, and goes on where it was: after a stop, and when URLs came.

    The content is streamed. A connection that breaks, hangs or is too slow is made again and goes
    on at its byte, tried for `deadline` seconds since the last byte came. A server without ranges is read again
    from the beginning, and what was read is skipped. A content that changes while it is read, or between two runs,
    is `SourceChanged`, never a mixture of both. Told by its ETag or date another content, the bytes that were read
    are compared, as servers behind one name may each have tags of their own; told nothing, too: the first and last
    64 KiB at least, all of them up to 8 MiB. Of a text that was not read to its end these are the bytes before the
    cursor. A zip or Parquet file that was read is known by its tag, date and length alone.

    The order is that of `urls`. A later run goes on after the URL that was read last, which it asks for again with
    a condition (`If-None-Match`, `If-Modified-Since`): where it is another content, see `on_changed`; what plain
    NDJSON or CSV has grown by is taken. URLs before it, and those left out, are not asked for again.

    Plain NDJSON and CSV and Parquet are entered by a range, gzip, zstd and JSON within them are read again up to
    the cursor. zip and Parquet are read by ranges; of a server that sends none they are stored in a temporary file
    (`stored_bytes`).

    A body that is shorter or longer than its Content-Length is an error; one without a length and chunks ends when
    the connection does, so that a cut cannot be seen unless its format (gzip, JSON, Parquet) shows it. A checksum
    that comes with the content (`Content-MD5`, `x-goog-hash`) is compared where the content is read front to
    back in one run: not for zip and Parquet, nor for a plain file that a later run entered in its middle. Records
    are handed on before it is known: `SourceCorrupt` says that they are in doubt.

    URLs stand in cursors and messages, without user, password, and parameters such as `token`, `api_key` and
    `signature`. Headers never do: a secret is best kept there.

    Args:
        urls: one or several: URLs, or patterns. `{01..31}` counts, padded as it is written, the leftmost slowest;
            `{date}`, or `{date:%Y-%m}` in a format of strftime, and `{hour}` or `{hour:02}` go from `start` to
            `end` or now, in UTC, slowest of all. An hour, day or month that is not over yet is left to a later run.
        headers: sent with each request, to no other host that a redirect leads to: credentials, say.
        start: the first date or hour.
        end: the last one; a date means the whole day.
        on_missing: what to do about a URL that is not there (`missing_statuses`). `fail`: stop with an error.
            `skip`: leave it out, for good. `wait`: end the run here, in order; the next one begins with it.
        missing_statuses: what says that a URL is not there. Amazon's S3, and what stands before it, say 403 of
            what is not there to those who may not list the bucket: `[403, 404, 410]`.
        on_changed: what to do about the URL that was read last where it is not what it was: it is asked for again
            by each run, with a condition, and by its bytes where the server tells nothing. `fail`: stop with an
            error. `restart`: read it again from its beginning; the records that were taken of it stay. That is for
            jobs that merge by a key: one URL that is written again each day, say. URLs before it are not asked for.
        on_error_page: what to do about an answer with status 200 that is an error in place of data: JSON that tells of
            one, HTML, XML, a sentence. `fail`: stop with an error, before it. `wait`: end the run here, in order; the
            next one begins with it. `read`: take it for data.
        checksum: `sha256`: a file beside each URL, whose name ends in `.sha256`, says what its content has; then
            each content is read front to back, even when only its rest is wanted.
        file_column: the name of a column for the URL that a record came from, without credentials; of a member,
            `https://…/a.zip/b.csv`.
        hive_partitions: make columns of the parts of a URL's path that are called `name=value`, as `Files` does.
        requests_per_second: no more than these; None: one after the other, as fast as they are answered.
        deadline: for how many seconds a request is tried again.
        read_timeout: after how many seconds a server that sends nothing hangs, or one whose answer has not begun with
            all of its headers.
        allow_private: whether the redirects of a URL at a public address may lead to addresses of private networks,
            this machine's among them; those of a URL at a private address always may.
        least_speed: the bytes a second that a server must send, over 30 s; 0: any.
        stored_bytes: how large a zip or Parquet file may be, in bytes, of a server that sends no ranges: it is stored
            in the directory for temporary files (`TMPDIR`) while it is read, and in no case takes more than half of
            what is free there.
        content: how the content is decoded; see `etl.sources.content_options.ContentOptions`. What a server compresses
            on its own, although it was not asked to, is decompressed as well.

    Raises:
        ValueError: an argument is wrong. Nothing is read before `pull`.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        *,
        headers: Mapping[str, str] | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        on_missing: OnMissing = "fail",
        missing_statuses: Sequence[int] = MISSING,
        on_changed: OnChanged = "fail",
        on_error_page: OnErrorPage = "fail",
        checksum: Checksum = "none",
        file_column: str | None = None,
        hive_partitions: bool = False,
        requests_per_second: float | None = None,
        deadline: float = 120.0,
        read_timeout: float = READ_TIMEOUT,
        allow_private: bool = False,
        least_speed: float = LEAST_SPEED,
        stored_bytes: int = STORED_BYTES,
        **content: Unpack[ContentOptions],
    ) -> None:
        self.urls = [urls] if isinstance(urls, str) else list(urls)
        if not self.urls:
            raise ValueError("urls: name at least one URL")
        self._patterns = Patterns(self.urls, start, end)
        super().__init__(Content(**content), on_changed)
        self._origin = Origin(file_column, hive_partitions=hive_partitions)
        self._on_missing: OnMissing = one_of("on_missing", on_missing, get_args(OnMissing))
        self._on_error_page: OnErrorPage = one_of("on_error_page", on_error_page, get_args(OnErrorPage))
        self._checksum: Checksum = one_of("checksum", checksum, get_args(Checksum))
        if self._checksum == "sha256" and (
            self._content.format == "parquet" or self._content.compression == "zip"
        ):
            raise ValueError(
                "checksum: it is compared front to back, and zip and Parquet are not read like that"
            )
        if not least_speed >= 0:
            raise ValueError(f"least_speed: {least_speed} bytes a second is less than 0")
        for status in missing_statuses:
            if not 400 <= status < 500:
                raise ValueError(f"missing_statuses: {status} is no HTTP status from 400 to 499")
        self._missing = tuple(missing_statuses)
        self._headers = dict(headers or {})
        self._requests_per_second = requests_per_second
        self._deadline = deadline
        self._read_timeout = read_timeout
        self._allow_private = allow_private
        if stored_bytes < 0:
            raise ValueError(f"stored_bytes: {stored_bytes} is less than 0")
        self._opening = Opening(
            self._content,
            checksum=self._checksum,
            least_speed=least_speed,
            patience=deadline,
            stored_bytes=stored_bytes,
            # what has no header has no names of columns in its first line
            header=content.get("header", True) is True and not content.get("skip_lines"),
            skips=self._on_missing == "skip",
        )
        self._first_wait = 0.5
        self._now: Callable[[], datetime] = _utc_now
        self._web().close()  # tells what is wrong with the headers and the numbers

    def fingerprint(self) -> str:
        """Return what gives cursors their meaning: the first URL, without credentials, and how it is decoded.

        The rest may grow: URLs at the end of the list, or the end of the slowest range of the only one. That the
        cursor's URL is still there is seen when it is looked for.
        """
        first = urls_.without_credentials(self.urls[0])
        if len(self.urls) == 1:
            first = open_ended(first)
        return msgspec.json.encode({"http": first, **self._content.fingerprint()}).decode()

    def pull(self, cursor: Any) -> Iterator[Any]:
        """Yield records, `Unreadable`s, and a `Mark` after each block, at the beginning and end of each URL.

        Args:
            cursor: that of an earlier mark; None: the beginning.

        Raises:
            SourceError: a content cannot be had or read; one of its kinds says why.
            SourceChanged: a content is not what it was when the cursor was taken.
        """
        self._waiting.begin()
        self._content.begin()
        with closing(self._web()) as web, closing(self._batches(web, Place.of(cursor))) as batches:
            for batch in batches:
                yield from batch
                # freed before the next is decoded, into the same memory, still in the processor's cache
                del batch

    def _web(self) -> Web:
        return Web(
            headers=self._headers,
            requests_per_second=self._requests_per_second,
            deadline=self._deadline,
            read_timeout=self._read_timeout,
            secrets=[*secrets_of(self._headers)],
            missing=self._missing,
            first_wait=self._first_wait,
            allow_private=self._allow_private,
            waiting=self._waiting,
        )

    def _batches(self, web: Web, at: Place | None) -> Generator[list[Any], None, None]:
        now = self._now()
        progress = self._progress = Share(self._patterns.count(now))
        known = {} if at is None else at.known()
        behind = at
        # an hour that is over by the clock of the machine before may not be over by this one's
        for named in self._patterns.expand(now + _CLOCKS_DIFFER):
            resumed = None
            if behind is not None:
                if (named.entry, urls_.without_credentials(named.url)) != (behind.entry, behind.file):
                    progress.passed(1)
                    continue
                resumed, behind = behind, None
            elif named.over > now:
                return
            after = yield from self._url(web, named, resumed, known, progress)
            if after is None:
                return
            known = after
        if behind is not None:
            raise SourceChanged(
                f"the cursor is at {behind}, which `urls`, `start` and `end` do not stand for any more (it is "
                f"{now:%Y-%m-%d %H:%M} UTC here): put them back, or start the job over with another name and table"
            )

    def _url(
        self, web: Web, named: Named, resumed: Place | None, known: dict[str, Any], progress: Share
    ) -> Generator[list[Any], None, dict[str, Any] | None]:
        """Read one URL; returns what is known of CSV after it, None to end the run here."""
        shown = urls_.without_credentials(named.url)
        place = resumed or Place(file=shown, entry=named.entry, offset=0, **known)
        if place.done and not self._is_to_be_read(web, named.url, place):
            progress.passed(1)
            return place.known()
        if place.nothing_was_there():
            place = Place(file=shown, entry=named.entry, offset=0, **place.known())
        seen = place.seen_of_file()
        upto = seen.upto
        try:
            file = self._opening.open(web, named.url, place, seen)
        except SourceMissing:
            # where a cursor is in it, even at its beginning, records may have been taken since
            if resumed is not None or self._on_missing == "fail":
                raise
            if self._on_missing == "wait":
                LOG.info(
                    "%s is not there yet: the run ends before it, and the next one begins with it", shown
                )
                return None
            LOG.info("%s is not there: left out, for good", shown)
        else:
            with file:
                progress.reads(file, 1, lambda: file.length)
                try:
                    if self._on_error_page != "read":
                        self._opening.refuse_errors(file, place)
                    verdict = yield from self._judged(web, named.url, file, place, upto)
                    if place.seen is None or (place.offset == 0 and place.member is None):
                        place.seen = seen
                    if verdict.state != "changed" and not (place.done and verdict.state == "same"):
                        yield from self._records(file, place, named.url)
                        if file.length == 0:
                            LOG.warning(
                                "%s: the server says 200 and sends nothing (0 bytes): no record is taken of it, and it "
                                "counts as read",
                                shown,
                            )
                        place.seen = seen
                except Replaced as error:
                    verdict = Verdict("changed", str(error))
                except ErrorPage as page:
                    self._at_error_page(
                        shown, urls_.hide(str(page), urls_.credentials_of(named.url)), page, web
                    )
                    return None
                place.version = file.version()
            if verdict.state == "changed":
                yield [self._again(place, verdict.why)]
                return (yield from self._url(web, named, None, place.known(), progress))
        progress.passed(1)
        place.done = True
        yield [place.mark()]
        return place.known()

    def _records(self, file: HttpFile, place: Place, url: str) -> Generator[list[Any], None, None]:
        place.done, place.version = False, file.version()
        path = urlsplit(url).path
        try:
            name = f"{unquote(path)}.tsv" if file.is_tsv() else unquote(path)
            batches = self._content.read(file, place, name, self._reached)  # type: ignore[arg-type]  # it reads and seeks, which is what is asked of it
            yield from self._origin.added(batches, place, path)
        except Damaged as error:
            told = error.told(place, "Look whether it is whole where it comes from")
            if (
                isinstance(error, Refused)
                and error.kind in PAGES
                and not place.record
                and self._on_error_page != "read"
            ):
                raise ErrorPage(told) from error
            raise SourceError(told) from error
        file.finish()

    def _reached(self, share: float) -> None:
        if self._progress is not None:
            self._progress.reached(share)

    def _is_to_be_read(self, web: Web, url: str, place: Place) -> bool:
        """Ask whether a URL that was read to its end is another one by now, or may be."""
        was = place.version
        if was is None:
            return False  # it was left out, for good
        if not told(was, was):
            return True
        try:
            return not is_as_it_was(web, url, was)
        except (SourceMissing, SourceRefused) as error:
            LOG.info("%s; it was read to its end, and is not needed any more", error)
            return False

    def _judged(
        self, web: Web, url: str, file: HttpFile, place: Place, upto: int
    ) -> Generator[list[Any], None, Verdict]:
        """Say what became of a content; only a plain text that was read to its end may have grown."""
        now = file.version()
        if place.version is None:
            return Verdict("same")  # nothing was read of it
        # what is to be compared with a SHA-256 is read front to back, once
        with (
            nullcontext(file)
            if self._checksum == "none"
            else self._opening.open(web, url, None, Seen()) as compared
        ):
            verdict = yield from stepping(judge(compared, place, upto, now), place)
        if verdict.state == "grown" and not may_grow(file, place, self._content.compression):  # type: ignore[arg-type]  # it can peek
            return Verdict("changed", NOT_READ_ON)
        return verdict

    def _again(self, place: Place, why: str) -> Restart:
        """Take a URL from its beginning that is not what it was, if the job says so."""
        self._may_restart(place, why)
        fresh = Place(file=place.file, entry=place.entry, offset=0, **place.known())
        return Restart(fresh.mark().cursor)

    def _at_error_page(self, shown: str, said: str, page: ErrorPage, web: Web) -> None:
        """Fail, or end the run before a URL in place of which the server tells of an error."""
        said = web.hidden(said)
        if self._on_error_page == "fail":
            raise SourceUnavailable(
                f"{said}; run again when the server gives it: the job goes on with this URL. With "
                'on_error_page = "wait" a run ends before it, in order; with "read" it is taken for data'
            ) from page
        LOG.info("%s; the run ends before %s, and the next one begins with it", said, shown)
