"""One way through the content of a URL, from a byte onwards; where the connection breaks, it goes on there."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

from etl.errors import SourceChanged, SourceCorrupt, SourceError, SourceMissing, SourceUnavailable
from etl.sources.place import Version
from etl.sources.web import Web
from etl.sources.web_answers import Download, Trouble
from etl.sources.web_version import Found, changed
from sinks import checksum

_PIECE = 1 << 16
_AGAIN = "fetch it anew: start the job with another name and table, or with --full-refresh"


class NoRanges(SourceError):
    """The server does not send ranges, where they are needed: whoever reads stores the content."""


class Pace:
    """Notices a server that sends, but too slowly; only the time spent waiting for it counts.

    Args:
        least_speed: the bytes a second that it must send; 0: any.
        window: over how many seconds.
        patience: after how many slow seconds in a row to give up.
    """

    def __init__(self, *, least_speed: float, window: float, patience: float) -> None:
        self._least_speed = least_speed
        self._window = window
        self._patience = patience
        self._slow = 0.0
        self.begin()

    def begin(self) -> None:
        """Begin a window, on a connection that was just made."""
        self._seconds = 0.0
        self._bytes = 0

    def read(self, download: Download, size: int, what: str) -> bytes:
        """Read from `download`, and look at the clock.

        Raises:
            Trouble: the connection is slow; another may be faster.
            SourceUnavailable: none was for so long.
        """
        if self._seconds >= self._window:  # before the next piece: none that came is lost
            self._judge(download, what)
        begun = time.monotonic()
        piece = download.read(size)
        self._seconds += time.monotonic() - begun
        self._bytes += len(piece)
        return piece

    def _judge(self, download: Download, what: str) -> None:
        speed = self._bytes / self._seconds
        if speed >= self._least_speed:
            self._slow = 0.0
        else:
            self._slow += self._seconds
            download.close()
            said = f"the server sends {speed:.0f} bytes a second, less than `least_speed` ({self._least_speed:.0f})"
            if self._slow >= self._patience:
                raise SourceUnavailable(
                    f"{what}: {said}, on each new connection; run again when it is faster"
                )
            raise Trouble(said)
        self.begin()


class Content:
    """What is known of the content of one URL, whoever of its legs found it out.

    Args:
        web: makes the requests.
        url: where the content is.
        known: what it was when an earlier run read it; None: none did.
        pace: how slow it may come.
    """

    def __init__(self, web: Web, url: str, known: Version | None, pace: Pace) -> None:
        self.web = web
        self.url = url
        self.shown = web.shown(url)
        self.pace = pace
        self.found: Found | None = None
        self.length: int | None = None
        self.ranges: bool | None = None  # whether the server sends ranges; None: it was not asked yet
        self.at_random = False  # whether it is read from its end, as zip and Parquet are
        self.first_answer: Callable[[Download], object] = lambda _: None
        self._known = known

    def accept(self, download: Download) -> Found:
        """Take in what an answer says.

        Raises:
            SourceChanged: it is about another content.
            SourceMissing: there is none.
        """
        if download.status in (204, 205):
            raise SourceMissing(
                f"{self.shown}: the server said {download.status}: it has no content there; correct the URL, or see "
                "whether it comes later"
            )
        now = Found.of(download)
        before = self.found
        why = ""
        if before is None:
            why = changed(self._known, now.version) if self._known is not None else ""
        else:
            why = changed(before.version, now.version)
            # an answer of 206 to If-Range need not repeat it (section 15.3.7)
            if not why and now.coding != before.coding and (now.whole or now.coding):
                why = f"it was sent with Content-Encoding {before.coding!r} and is with {now.coding!r}"
        if not why and download.status == 412:
            why = "the server says so (412)"
        if why and now.version.tag and before is not None and now.version.tag == before.version.tag:
            raise SourceCorrupt(f"{self.shown}: {why}, with the same ETag; tell whoever runs the server")
        if why:
            raise SourceChanged(f"{self.shown}: it is not what it was: {why}; {_AGAIN}")
        if now.coding not in ("", "identity", "gzip", "x-gzip", "zstd"):
            raise SourceError(
                f"{self.shown}: sent with Content-Encoding {now.coding!r}, which was not asked for and is not "
                "read; fetch it by other means"
            )
        if before is None and download.status != 412:
            self.found = now
            self.first_answer(download)
        self.length = self.length if now.version.length is None else now.version.length
        return now


class Leg:
    """Reads a content from `begin` to `end`, or to its own end.

    Args:
        content: what is read.
        begin: the first byte.
        end: the byte after the last; None: read on to the content's end.
    """

    def __init__(self, content: Content, begin: int, end: int | None = None) -> None:
        self._content = content
        self._begin = begin
        self._end = end
        self._crc = 0
        self._download: Download | None = None
        self._attached_at = begin
        self.at = begin

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes as they come; none: the end. The deadline begins anew with each call.

        Raises:
            SourceError: they cannot be had; one of its kinds says why.
        """
        trouble: Trouble | None = None
        if self._download is not None:  # spares the machinery of retrying, for every piece but a few
            try:
                return self._piece(size)
            except Trouble as error:
                trouble = error

        def attempt() -> bytes:
            nonlocal trouble
            before, trouble = trouble, None
            if before is not None:
                raise before
            return self._piece(size)

        return self._content.web.trying(attempt, self._content.url)

    def close(self) -> None:
        """Let the connection go. May be repeated."""
        download, self._download = self._download, None
        if download is not None:
            download.close()

    def _piece(self, size: int) -> bytes:
        try:
            while True:
                if self._end is not None:
                    size = min(size, self._end - self.at)
                if size == 0 or self.at == self._content.length:
                    self.close()
                    return b""
                if self._download is None and not self._attach():
                    return b""
                assert self._download is not None
                piece = self._content.pace.read(self._download, size, self._content.shown)
                if piece:
                    self._crc = checksum.extend(self._crc, piece)
                    self.at += len(piece)
                    return piece
                self._ended()
        except BaseException:
            self.close()
            raise

    def _ended(self) -> None:
        """Judge the end of a body that was as long as its own answer promised, if that promised a length."""
        answered = self._download
        self.close()
        length = self._content.length
        ranged = answered is not None and answered.status == 206
        if ranged and self.at > self._attached_at:
            return  # a server may answer with less of a range than it was asked for; the rest is asked for next
        if length is None and not ranged:
            # Chunks, the last one too; or no length at all, where an end cannot be told from a broken connection.
            self._content.length = self.at
        elif length is None or self.at < length:
            raise Trouble(f"the content ended after {self.at} of {length or 'more'} bytes")

    def _attach(self) -> bool:
        """Ask for the content from here on; False: there is nothing more."""
        content = self._content
        found = content.found
        condition = found.condition if found is not None else None
        # Where nothing tells whether the bytes are the same ones, they are read again, and compared.
        first = self.at if condition is not None or self.at == self._begin else self._begin
        if content.ranges is False:
            first, self._end = 0, None
        headers = {}
        if first or self._end is not None:
            headers["Range"] = f"bytes={first}-{'' if self._end is None else self._end - 1}"
            if condition is not None:
                headers["If-Range"] = condition
        download = content.web.attempt(content.url, headers=headers, also=(412, 416))
        try:
            return self._take(download, first, ranged=bool(headers))
        except BaseException:
            download.close()
            raise

    def _take(self, download: Download, first: int, *, ranged: bool) -> bool:
        content = self._content
        was_known = content.length
        now = content.accept(download)
        if download.status == 416:
            with closing(download):
                return self._past_the_end(now, was_known)
        if now.whole:
            if ranged:
                content.ranges = False
                self._end = None
                if content.at_random and self.at:
                    raise NoRanges
            if self.at == self._begin and content.length is not None and content.length < self.at:
                download.close()
                return False  # nobody has read up to here
        elif not ranged or now.first != first:
            asked = f"bytes {first} and on" if ranged else "all of it"
            raise SourceCorrupt(
                f"{content.shown}: asked for {asked}, the server sends {download.headers.get('Content-Range')!r} "
                f"({download.headers.get('Content-Type')!r}); it does not do what it says: fetch it by other means"
            )
        else:
            content.ranges = True
        content.pace.begin()
        self._skip(download, now.first)
        self._download = download
        self._attached_at = self.at
        return True

    def _past_the_end(self, now: Found, was_known: int | None) -> bool:
        """Judge an answer of 416: there is nothing from here on."""
        total = now.version.length
        if self.at == self._begin and total is not None and total < self.at:
            return False  # nobody has read up to here
        if total == self.at:
            self._content.length = self.at
            return False
        promised = "" if was_known is None else f", or never had the {was_known} bytes that were promised"
        raise SourceChanged(
            f"{self._content.shown}: there is nothing from byte {self.at} on, the server says (416): it became "
            f"shorter{promised}; {_AGAIN}"
        )

    def _skip(self, download: Download, position: int) -> None:
        """Read up to where this leg is, and see that what it has read before is the same."""
        crc = 0
        compared = position <= self._begin < self.at
        while position < self.at:
            until = self._begin if position < self._begin else self.at
            piece = self._content.pace.read(download, min(_PIECE, until - position), self._content.shown)
            if not piece:
                raise SourceChanged(
                    f"{self._content.shown}: it has become shorter than the {self.at} bytes that were read of it; "
                    f"{_AGAIN}"
                )
            if position >= self._begin:
                crc = checksum.extend(crc, piece)
            position += len(piece)
        if compared and crc != self._crc:
            raise SourceChanged(
                f"{self._content.shown}: the {self.at - self._begin} bytes that were read are others, read again; "
                f"{_AGAIN}"
            )
