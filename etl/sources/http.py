"""Files on web servers: NDJSON, CSV, JSON or Parquet; plain, gzip, zip or zstd."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Unpack, get_args
from urllib.parse import unquote, urlsplit

import msgspec

from etl.errors import SourceChanged, SourceError, SourceMissing
from etl.records import Declarations
from etl.sources import urls as urls_
from etl.sources.content import Content, ContentOptions, one_of
from etl.sources.http_file import STORED_BYTES, HttpFile
from etl.sources.origin import Origin
from etl.sources.place import Place
from etl.sources.refusals import Damaged
from etl.sources.share import Share
from etl.sources.url_patterns import Moment, Named, Patterns, open_ended
from etl.sources.waiting import Waiting
from etl.sources.web import MISSING, READ_TIMEOUT, Web
from etl.sources.web_checksums import sha256_of

LOG = logging.getLogger("etl.sources")

OnMissing = Literal["fail", "skip", "wait"]
Checksum = Literal["none", "sha256"]

# A connection that is slower than that, in bytes a second, over so many seconds, is made anew: curl's own
# suggestion for --speed-time is 30 s, and a modem of 1995 was faster.
LEAST_SPEED = 1024.0
_SPEED_SECONDS = 30.0

_SHA256_BYTES = 1 << 20
_CLOCKS_DIFFER = timedelta(days=1)
_AT_RANDOM = (".parquet", ".zip")
# Headers that hold no secret, whose values may be in a message.
_OPEN = frozenset(
    {"accept", "accept-language", "cache-control", "content-type", "from", "origin", "pragma", "referer"}
    | {"user-agent", "x-requested-with"}
)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Http:
    """Reads records out of files on web servers, and goes on where it was: after a stop, and when URLs came.

    The content is streamed. A connection that breaks, hangs or is too slow is made again and goes
    on at its byte, tried for `deadline` seconds since the last byte came. A server without ranges is read again
    from the beginning, and what was read is skipped. A content that changes while it is read, or between two runs,
    is `SourceChanged`, never a mixture of both: told by a strong ETag, else by a weak one, by Last-Modified and
    length, else, within a run, by comparing the bytes. A server that says nothing of these is not caught between two
    runs, nor between two ranges of a zip or Parquet file.

    The order is that of `urls`. A later run goes on after the URL that was read last; one that was read, or
    skipped, is not looked at again. Plain NDJSON and CSV and Parquet are entered by a range, gzip, zstd and
    JSON within them are read again up to the cursor. zip and Parquet are read by ranges; of a server that
    sends none they are stored in a temporary file (`stored_bytes`).

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
            what is not there to whoever may not list the bucket: `[403, 404, 410]`.
        checksum: `sha256`: a file beside each URL, whose name ends in `.sha256`, says what its content has; then
            each content is read front to back, even when only its rest is wanted.
        file_column: the name of a column for the URL that a record came from, without credentials; of a member,
            `https://…/a.zip/b.csv`.
        hive_partitions: make columns of the parts of a URL's path that are called `name=value`, as `Files` does.
        requests_per_second: no more than these; None: one after the other, as fast as they are answered.
        deadline: for how many seconds a request is tried again.
        read_timeout: after how many seconds a server that sends nothing hangs.
        least_speed: the bytes a second that a server must send, over 30 s; 0: any.
        stored_bytes: how large a zip or Parquet file may be, in bytes, of a server that sends no ranges: it is stored
            in the directory for temporary files (`TMPDIR`) while it is read, and in no case takes more than half of
            what is free there.
        content: how the content is decoded; see `etl.sources.content.ContentOptions`. What a server compresses on
            its own, although it was not asked to, is decompressed as well.

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
        checksum: Checksum = "none",
        file_column: str | None = None,
        hive_partitions: bool = False,
        requests_per_second: float | None = None,
        deadline: float = 120.0,
        read_timeout: float = READ_TIMEOUT,
        least_speed: float = LEAST_SPEED,
        stored_bytes: int = STORED_BYTES,
        **content: Unpack[ContentOptions],
    ) -> None:
        self.urls = [urls] if isinstance(urls, str) else list(urls)
        if not self.urls:
            raise ValueError("urls: name at least one URL")
        self._patterns = Patterns(self.urls, start, end)
        self._content = Content(**content)
        self._origin = Origin(file_column, hive_partitions=hive_partitions)
        self._on_missing: OnMissing = one_of("on_missing", on_missing, get_args(OnMissing))
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
        self._least_speed = least_speed
        if stored_bytes < 0:
            raise ValueError(f"stored_bytes: {stored_bytes} is less than 0")
        self._stored_bytes = stored_bytes
        self._speed_seconds = _SPEED_SECONDS
        self._first_wait = 0.5
        self._waiting = Waiting()
        self._now: Callable[[], datetime] = _utc_now
        self._progress: Share | None = None
        self._web().close()  # tells what is wrong with the headers and the numbers

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_progress": None}

    def fingerprint(self) -> str:
        """Return what gives cursors their meaning: the first URL, without credentials, and how it is decoded.

        The rest may grow: URLs at the end of the list, or the end of the slowest range of the only one. That the
        cursor's URL is still there is seen when it is looked for.
        """
        first = urls_.without_credentials(self.urls[0])
        if len(self.urls) == 1:
            first = open_ended(first)
        return msgspec.json.encode({"http": first, **self._content.fingerprint()}).decode()

    def progress(self) -> float | None:
        """Return the share of the URLs that has been read, 0 to 1; None: nothing is known.

        Of the pull that began last, from its thread. What earlier runs have read counts as read.
        """
        return None if self._progress is None else self._progress.share()

    @property
    def told(self) -> Sequence[str]:
        """What was found out about the first contents; see `etl.records.Tells`."""
        return self._content.told

    def declare(self, declared: Declarations) -> None:
        """Take what is declared of CSV's columns outside of the source; see `etl.records.TakesDeclared`."""
        self._content.declare(declared)

    def leave(self) -> None:
        """Let a pull that waits for a server end; see `etl.records.Leaves`."""
        self._waiting.leave()

    def pull(self, cursor: Any) -> Iterator[Any]:
        """Yield records, `Unreadable`s, and a `Mark` after each block, at the beginning and end of each URL.

        Args:
            cursor: that of an earlier mark; None: the beginning.

        Raises:
            SourceError: a content cannot be had or read; one of its kinds says why.
            SourceChanged: a content is not what it was when the cursor was taken.
        """
        self._waiting.begin()
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
            secrets=[*_secrets(self._headers)],
            missing=self._missing,
            first_wait=self._first_wait,
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
                if resumed.done:
                    progress.passed(1)
                    continue
            elif named.over > now:
                return
            after = yield from self._url(web, named, resumed, known, progress)
            if after is None:
                return
            known = after
        if behind is not None:
            raise SourceChanged(
                f"the cursor is at {behind}, which `urls`, `start` and `end` do not stand for any more (it is "
                f"{now:%Y-%m-%d %H:%M} UTC here): put them back, or start the job anew with another name and table"
            )

    def _url(
        self, web: Web, named: Named, resumed: Place | None, known: dict[str, Any], progress: Share
    ) -> Generator[list[Any], None, dict[str, Any] | None]:
        """Read one URL; returns what is known of CSV after it, None to end the run here."""
        shown = urls_.without_credentials(named.url)
        place = resumed or Place(file=shown, entry=named.entry, offset=0, **known)
        name = unquote(urlsplit(named.url).path)
        try:
            file = self._opened(web, named.url, name, place)
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
            file = None
        if file is not None:
            with file:
                progress.reads(file, 1, lambda: file.length)
                try:
                    called = f"{name}.tsv" if file.is_tsv() else name
                    batches = self._content.read(file, place, called, progress.reached)  # type: ignore[arg-type]  # it reads and seeks, which is what is asked of it
                    yield from self._origin.added(batches, place, urlsplit(named.url).path)
                except Damaged as error:
                    raise SourceError(
                        error.told(place, "Look whether it is whole where it comes from")
                    ) from error
                file.finish()
        progress.passed(1)
        place.done = True
        yield [place.mark()]
        return place.known()

    def _opened(self, web: Web, url: str, name: str, place: Place) -> HttpFile:
        """Open a URL, and see that it is what it was.

        Raises:
            SourceMissing: it is not there; nor, where the run is to wait for it, is its `.sha256` file.
        """
        sha256 = None
        if self._checksum == "sha256":
            beside = urls_.beside(url, ".sha256")
            try:
                text = web.fetch(beside, limit=_SHA256_BYTES).body.decode("utf-8", "replace")
            except SourceMissing as error:
                if self._on_missing == "skip":
                    self._see_that_it_is_missing_too(web, url, error)
                raise
            sha256 = sha256_of(text, name.rpartition("/")[2], web.shown(beside))
        file = HttpFile(
            web,
            url,
            known=place.version,
            least_speed=self._least_speed,
            window=self._speed_seconds,
            patience=self._deadline,
            at_random=name.lower().endswith(_AT_RANDOM)
            or self._content.format == "parquet"
            or self._content.compression == "zip",
            sha256=sha256,
            stored_bytes=self._stored_bytes,
        )
        try:
            place.version = file.version()
            if file.is_page():
                raise SourceError(
                    f"{web.shown(url)}: the server sends a page (text/html), not data: a login or an error, perhaps; "
                    "look at it in a browser, and correct the URL or the credentials"
                )
        except BaseException:
            file.close()
            raise
        return file

    def _see_that_it_is_missing_too(self, web: Web, url: str, error: SourceMissing) -> None:
        """Keep a content that lacks nothing but its checksum from being skipped."""
        try:
            web.open(url).close()
        except SourceMissing:
            return
        raise SourceError(
            f"{error}; the file itself is there. Leave `checksum` out, or name the URLs that have one"
        ) from error


def _secrets(headers: Mapping[str, str]) -> Iterator[str]:
    """Yield what no message may hold: the values of headers, and what follows `Bearer` or `Basic` in them."""
    for name, value in headers.items():
        if name.lower() not in _OPEN:
            yield value.strip()
            yield from (word for word in re.split(r"[\s,;=]+", value) if len(word) >= 8)
