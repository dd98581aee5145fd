"""One way through the content of a URL, from a byte onwards; where the connection breaks, it goes on there."""

from __future__ import annotations

from contextlib import closing

from etl.errors import SourceChanged, SourceCorrupt
from etl.sources.web_answers import Download, Trouble
from etl.sources.web_content import AGAIN, PIECE, Content, NoRanges
from etl.sources.web_version import Found
from sinks import checksum


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
        """Return up to `size` bytes as they come; none: the end. The deadline begins again with each call.

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
            return self._take(download, first, condition, ranged=bool(headers))
        except BaseException:
            download.close()
            raise

    def _take(self, download: Download, first: int, condition: str | None, *, ranged: bool) -> bool:
        content = self._content
        was_known = content.length
        found = content.found
        now = content.accept(download)
        compared = found is not None and content.found is not found and now.whole
        if download.status == 416:
            with closing(download):
                return self._past_the_end(now, was_known)
        if now.whole:
            if ranged:
                self._end = None
            if ranged and not compared and condition in (None, now.version.tag, now.version.modified):
                content.ranges = False
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
        first_of_body = content.seen.upto if compared else now.first
        if first_of_body > self.at:
            download.close()
            return self._attach()
        self._skip(download, first_of_body)
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
            f"shorter{promised}; {AGAIN}"
        )

    def _skip(self, download: Download, position: int) -> None:
        """Read up to where this leg is, and see that what it has read before is the same."""
        crc = 0
        compared = position <= self._begin < self.at
        while position < self.at:
            until = self._begin if position < self._begin else self.at
            piece = self._content.pace.read(download, min(PIECE, until - position), self._content.shown)
            if not piece:
                raise SourceChanged(
                    f"{self._content.shown}: it has become shorter than the {self.at} bytes that were read of it; "
                    f"{AGAIN}"
                )
            if position >= self._begin:
                crc = checksum.extend(crc, piece)
            position += len(piece)
        if compared and crc != self._crc:
            raise SourceChanged(
                f"{self._content.shown}: the {self.at - self._begin} bytes that were read are others, read again; "
                f"{AGAIN}"
            )
