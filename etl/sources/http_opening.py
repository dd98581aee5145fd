"""How the content of a URL is opened, and seen to be data."""

from __future__ import annotations

import io
from typing import Literal
from urllib.parse import unquote, urlsplit

from etl.errors import SourceError, SourceMissing
from etl.sources import decoding, urls
from etl.sources.compressions import compression_of
from etl.sources.content import Content
from etl.sources.error_pages import MOST_BYTES, error_in
from etl.sources.http_file import HttpFile
from etl.sources.identity import Seen
from etl.sources.place import Place
from etl.sources.recognition import suffix_of
from etl.sources.refusals import Damaged
from etl.sources.web import Web
from etl.sources.web_checksums import sha256_of

Checksum = Literal["none", "sha256"]

# A connection that is slower than that, in bytes a second, over so many seconds, is made again: curl's own
# suggestion for --speed-time is 30 s, and a modem of 1995 was faster.
LEAST_SPEED = 1024.0
_SPEED_SECONDS = 30.0

_SHA256_BYTES = 1 << 20
_AT_RANDOM = (".parquet", ".zip")
_AS_JSON = (".json", ".ndjson", ".jsonl")
_HEAD_BYTES = 4096


class ErrorPage(Exception):
    """A server sends an error in place of data, with status 200; says what, and of which URL."""


class Opening:
    """Opens URLs, and looks at what they begin with.

    Args:
        content: how it is decoded.
        checksum: what it is compared with.
        least_speed: the bytes a second that a server must send.
        patience: for how many seconds a slow one is asked again.
        stored_bytes: how large a temporary file may be.
        header: whether the first line of CSV names its columns.
        skips: whether a URL is left out that is not there.
    """

    def __init__(
        self,
        content: Content,
        *,
        checksum: Checksum,
        least_speed: float,
        patience: float,
        stored_bytes: int,
        header: bool,
        skips: bool,
    ) -> None:
        self._content = content
        self._checksum = checksum
        self._least_speed = least_speed
        self._patience = patience
        self._stored_bytes = stored_bytes
        self._header = header
        self._skips = skips
        self.speed_seconds = _SPEED_SECONDS

    def open(self, web: Web, url: str, place: Place | None, seen: Seen) -> HttpFile:
        """Open a URL; the first request has been made when this returns.

        Args:
            web: makes the requests.
            url: what is opened.
            place: where its reading is; None: it is to be compared, and nothing else.
            seen: what was read of it; it is moved on.

        Raises:
            SourceMissing: it is not there; nor, where the run is to wait for it, is its `.sha256` file.
        """
        name = unquote(urlsplit(url).path)
        sha256 = None
        if self._checksum == "sha256" and place is not None:
            beside = urls.beside(url, ".sha256")
            try:
                text = web.fetch(beside, limit=_SHA256_BYTES).body.decode("utf-8", "replace")
            except SourceMissing as error:
                if self._skips:
                    self._see_that_it_is_missing_too(web, url, error)
                raise
            sha256 = sha256_of(text, name.rpartition("/")[2], web.shown(beside))
        file = HttpFile(
            web,
            url,
            seen=seen,
            least_speed=self._least_speed,
            window=self.speed_seconds,
            patience=self._patience,
            at_random=name.lower().endswith(_AT_RANDOM)
            or self._content.format == "parquet"
            or self._content.compression == "zip",
            sha256=sha256,
            stored_bytes=self._stored_bytes,
        )
        try:
            file.version()
        except BaseException:
            file.close()
            raise
        return file

    def refuse_errors(self, file: HttpFile, place: Place) -> None:
        """See that what a server sends is no error, as far as its beginning tells; that is not taken.

        Raises:
            ErrorPage: it is one.
        """
        text, whole = _text(file)
        said = ""
        if "html" in file.content_type.lower() and text.lstrip().startswith("<"):
            said = "a page (text/html): a login or an error, perhaps; look at it in a browser"
        elif whole:
            suffix = suffix_of(place.file.partition("?")[0])
            found = error_in(
                text,
                file.content_type,
                known=place.types if self._header else None,
                json=(self._content.format or suffix) in (*_AS_JSON, "json", "ndjson"),
            )
            said = f"an error: {found[:200]!r}" if found else ""
        if said:
            raise ErrorPage(f"{place.file}: the server says 200, and sends, in place of data, {said}")

    def _see_that_it_is_missing_too(self, web: Web, url: str, error: SourceMissing) -> None:
        """Keep a content that lacks nothing but its checksum from being skipped."""
        try:
            web.open(url).close()
        except SourceMissing:
            return
        raise SourceError(
            f"{error}; the file itself is there. Leave `checksum` out, or name the URLs that have one"
        ) from error


def _text(file: HttpFile) -> tuple[str, bool]:
    """Return the beginning of a content as text, and whether that is all of it; no more than an error may take."""
    head = file.peek(_HEAD_BYTES + 1)
    compression = compression_of(head[:16])
    if compression == "none":
        lines = [line.strip() for line in head.split(b"\n", 2)]
        many = len(lines) > 1 and lines[0].startswith(b"{") and lines[1].startswith(b"{")
        if len(head) > _HEAD_BYTES and head.lstrip().startswith(b"{") and not many:
            head = file.peek(MOST_BYTES + 1)
            return head.decode("utf-8", "replace"), len(head) <= MOST_BYTES
        return head.decode("utf-8", "replace"), len(head) <= _HEAD_BYTES
    if compression == "zip" or file.length is None or file.length > MOST_BYTES:
        return "", False
    packed = io.BufferedReader(io.BytesIO(file.peek(file.length)))
    try:
        with decoding.decompressed(packed, None) as stream:
            unpacked = stream.peek(MOST_BYTES + 1)
    except Damaged:
        return "", False  # which is told by its reader
    return unpacked.decode("utf-8", "replace"), len(unpacked) <= MOST_BYTES
