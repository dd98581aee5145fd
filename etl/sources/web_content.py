"""What is known of the content of one URL, and whether an answer is about it."""

from __future__ import annotations

import time
from collections.abc import Callable

from etl.errors import SourceChanged, SourceCorrupt, SourceError, SourceMissing, SourceUnavailable
from etl.sources.identity import Seen
from etl.sources.place import Version
from etl.sources.web import Web
from etl.sources.web_answers import Download, Trouble
from etl.sources.web_version import Found, changed
from sinks import checksum

# Read of a connection at once.
PIECE = 1 << 16
AGAIN = (
    'run again with on_changed = "restart" (`http`), which reads it again from its beginning; or start the job over, '
    "with another name and table, or with --full-refresh"
)
# So many servers behind one name may each have a tag or a date of its own for one content.
_MOST_ALIKE = 16


class NoRanges(Exception):
    """The server does not send ranges, where they are needed; `HttpFile`, which stores the content then, catches it."""


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
    """What is known of the content of one URL, whichever of its legs found it out.

    Args:
        web: makes the requests.
        url: where the content is.
        seen: what was read of it, by this run and those before.
        pace: how slow it may come.
    """

    def __init__(self, web: Web, url: str, seen: Seen, pace: Pace) -> None:
        self.web = web
        self.url = url
        self.shown = web.shown(url)
        self.pace = pace
        self.found: Found | None = None
        self.length: int | None = None
        self.ranges: bool | None = None  # whether the server sends ranges; None: it was not asked yet
        self.at_random = False  # whether it is read from its end, as zip and Parquet are
        self.first_answer: Callable[[Download], object] = lambda _: None
        self.seen = seen
        self._alike: list[Version] = []  # what else is said of the same bytes

    def accept(self, download: Download) -> Found:
        """Take in what an answer says.

        Where it says that this is another content, which servers behind one name may say of the same bytes, those
        that were read are read again, and compared: of this answer, where it is the whole.

        Raises:
            SourceChanged: it is about another content.
            SourceMissing: there is none.
            Trouble: it could not be compared; another attempt may.
        """
        if download.status in (204, 205):
            raise SourceMissing(
                f"{self.shown}: the server said {download.status}: it has no content there; correct the URL, or see "
                "whether it comes later"
            )
        now = Found.of(download)
        before = self.found
        why = "" if before is None else self._difference(before, now, download)
        if why and before is not None:
            self._compare(before, now, download, why)
        if now.coding not in ("", "identity", "gzip", "x-gzip", "zstd"):
            raise SourceError(
                f"{self.shown}: sent with Content-Encoding {now.coding!r}, which was not asked for and is not "
                "read; fetch it by other means"
            )
        if before is None and download.status != 412:
            self.first_answer(download)
        if (before is None or why) and download.status != 412:
            self.found = now
            self._alike.append(now.version)
        self.length = self.length if now.version.length is None else now.version.length
        return now

    def _difference(self, before: Found, now: Found, download: Download) -> str:
        """Say in which way an answer is about another content; empty: it is not."""
        why = changed(before.version, now.version)
        if why and any(not changed(alike, now.version) for alike in self._alike):
            why = ""
        # an answer of 206 to If-Range need not repeat it (section 15.3.7)
        if not why and now.coding != before.coding and (now.whole or now.coding):
            why = f"it was sent with Content-Encoding {before.coding!r} and is with {now.coding!r}"
        if not why and download.status == 412:
            why = "the server says so (412)"
        return why

    def _compare(self, before: Found, now: Found, download: Download, why: str) -> None:
        """Compare what was read with what an answer holds that is said to be another content."""
        one, other = before.version, now.version
        if other.tag and other.tag == one.tag:
            raise SourceCorrupt(f"{self.shown}: {why}, with the same ETag; tell those who run the server")
        seen = self.seen
        other_length = None not in (one.length, other.length) and one.length != other.length
        if (
            seen.apart
            or other_length
            or self.at_random
            or download.status not in (200, 206)
            or before.coding != now.coding
            or len(self._alike) >= _MOST_ALIKE
        ):
            raise SourceChanged(f"{self.shown}: it is not what it was: {why}; {AGAIN}")
        whole = download if now.whole else self._whole(other)
        try:
            crc = position = 0
            self.pace.begin()
            while position < seen.upto:
                piece = self.pace.read(whole, min(PIECE, seen.upto - position), self.shown)
                if not piece:
                    break
                crc = checksum.extend(crc, piece)
                position += len(piece)
        finally:
            if whole is not download:
                whole.close()
        if position < seen.upto or crc != seen.crc:
            raise SourceChanged(
                f"{self.shown}: it is not what it was: {why}, and the {seen.upto} bytes that were read are others; "
                f"{AGAIN}"
            )

    def _whole(self, version: Version) -> Download:
        """Ask for all of a content, of whichever server behind the name has that version of it."""
        for _ in range(_MOST_ALIKE):
            download = self.web.attempt(self.url)
            if not changed(version, Found.of(download).version):
                return download
            download.close()
        raise Trouble("each answer is said to be another content")
