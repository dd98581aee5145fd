"""The content of a URL as a file that is read in order, or, by ranges, in any order."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, SupportsIndex

from etl.errors import SourceError
from etl.sources.identity import Seen, Trace
from etl.sources.place import Version
from etl.sources.stored import Stored
from etl.sources.web import Web
from etl.sources.web_answers import Download
from etl.sources.web_checksums import Checksums
from etl.sources.web_content import Content, NoRanges, Pace
from etl.sources.web_leg import Leg

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

LOG = logging.getLogger("etl.sources")

# Read of a connection at once.
_PIECE = 1 << 16
# What is skipped costs less, up to here, than another request.
_SKIPPED = 1 << 18
# Windows, in bytes: the first after a jump; the largest that is held in memory; all that are held.
_FIRST_WINDOW = 1 << 16
_LARGEST_WINDOW = 1 << 20
_HELD = 8 << 20
# After so many bytes in a row, windows are streamed, each as large as what was read in a row before it.
_IN_A_ROW = 2 << 20
# What is stored of a server that sends no ranges.
STORED_BYTES = 1 << 30


class HttpFile(io.BufferedIOBase):
    """A binary file over one URL, flat in memory. Not for several threads at once.

    Reading begins with one request for the whole, which is read as it comes. A seek goes on with ranges: windows
    that begin small and double as long as reading goes on in a row, so that little is asked for that is not
    read. Windows are held, up to 8 MiB of them, as zip and Parquet come back to what lies beside.

    A connection that breaks, hangs or is too slow is made again, and reading goes on where it was: with `Range`
    and `If-Range` where a strong ETag or a date tells that the bytes are still the same; else from the beginning,
    and what was read before is skipped and compared. A body that ends with its connection, without a length or
    chunks, cannot be told from one that was cut.

    Where it is read from its end, and the server sends no ranges, it is stored in a temporary file, as far as that may
    be large.

    Args:
        web: makes the requests.
        url: what is read.
        seen: what earlier runs read of it; it is moved on.
        least_speed: the bytes a second that the server must send, over `window` seconds; 0: any.
        window: over how many seconds that is measured.
        patience: after how many slow seconds in a row to give up.
        at_random: it will probably be read from its end: ask for a first window, not for the whole.
        sha256: what the whole content should have; then it is read front to back, in any case.
        stored_bytes: how large the temporary file may be.
    """

    def __init__(
        self,
        web: Web,
        url: str,
        *,
        seen: Seen,
        least_speed: float,
        window: float,
        patience: float,
        at_random: bool = False,
        sha256: bytes | None = None,
        stored_bytes: int = STORED_BYTES,
    ) -> None:
        super().__init__()
        pace = Pace(least_speed=least_speed, window=window, patience=patience)
        self._content = Content(web, url, seen, pace)
        self._content.first_answer = self._look_at_headers
        self._checksums = Checksums()
        self._trace = Trace(seen)
        self._content_type = ""
        self._in_order = sha256 is not None
        if sha256 is not None:
            self._checksums.expect("the .sha256 file beside", "sha256", sha256)
        self._stored_bytes = stored_bytes
        self._stored: Stored | None = None
        self._by_windows = at_random and not self._in_order
        self._leg: Leg | None = None
        self._held: list[tuple[int, bytes]] = []  # windows, the one used last at the end
        self._ahead = b""  # what came and was not read
        self._at = 0  # the byte after it
        self._row_began = 0  # since where reading goes on in a row

    @property
    def length(self) -> int | None:
        """How many bytes it has; None: not known yet."""
        return self._content.length

    def version(self) -> Version:
        """Return what it is, after the first request has been made.

        Raises:
            SourceError: it cannot be had.
        """
        self.peek(1)
        assert self._content.found is not None
        return self._content.found.version

    @property
    def content_type(self) -> str:
        """What the server says that it is."""
        return self._content_type

    def is_tsv(self) -> bool:
        """Say whether its Content-Type is that of tab-separated values (IANA, text/tab-separated-values)."""
        return self._content_type.partition(";")[0].strip().lower() == "text/tab-separated-values"

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be sought in; a server without ranges makes that an error when it is done."""
        return True

    def tell(self) -> int:
        """Return where the next byte is."""
        return self._at - len(self._ahead)

    def peek(self, size: int = 1, /) -> bytes:
        """Return the next bytes, `size` or more if there are as many, without taking them."""
        self._check_open()
        while len(self._ahead) < size and (piece := self._next(size - len(self._ahead))):
            self._ahead += piece
        return self._ahead

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next `size` bytes, less at the end alone; without a size, the rest."""
        self._check_open()
        if size is None or size < 0:
            size = (1 << 62) if self.length is None else max(self.length - self.tell(), 0)
        if len(self._ahead) >= size:
            taken, self._ahead = self._ahead[:size], self._ahead[size:]
            return taken
        parts, self._ahead = [self._ahead], b""
        wanted = size - len(parts[0])
        while wanted and (piece := self._next(wanted)):
            parts.append(piece[:wanted])
            self._ahead = piece[wanted:]
            wanted -= len(parts[-1])
        return b"".join(parts)

    def read1(self, size: int = -1, /) -> bytes:
        """Return some of the next bytes."""
        self._check_open()
        if not self._ahead:
            self._ahead = self._next(1)
        return self.read(len(self._ahead) if size < 0 else min(size, len(self._ahead)))

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Take what has come already, so that a slow server's gzip is not waited for by the half MiB."""
        with memoryview(buffer).cast("B") as view:
            some = self.read1(len(view))
            view[: len(some)] = some
        return len(some)

    def seek(self, offset: SupportsIndex, whence: int = io.SEEK_SET, /) -> int:
        """Go to a byte; from the end takes the length, and a server that sends ranges."""
        self._check_open()
        target = int(offset)
        if whence == io.SEEK_CUR:
            target += self.tell()
        elif whence == io.SEEK_END:
            target += self._from_its_end()
        if target < 0:
            raise ValueError(f"a seek to {target}, before the beginning")
        begin = self._at - len(self._ahead)
        if begin <= target <= self._at:
            self._ahead = self._ahead[target - begin :]
        else:
            self._ahead = b""
            self._at = self._row_began = target
        return target

    def finish(self) -> None:
        """Compare the checksums, where it was read front to back; reads what is left of it.

        Raises:
            SourceCorrupt: it is not what the server, or the `.sha256` file, says.
        """
        if self._checksums.to_compare:
            self._ahead = b""
            while self._next(_PIECE):
                pass
            self._checksums.compare(self._content.shown)
        elif self._in_order:
            raise self._out_of_order()

    def close(self) -> None:
        """Let the connection go."""
        if self._leg is not None:
            self._leg.close()
            self._leg = None
        if self._stored is not None:
            self._stored.close()
        self._held.clear()
        super().close()

    def _look_at_headers(self, download: Download) -> None:
        self._checksums.expect_told(download.headers)
        self._content_type = download.headers.get("Content-Type", "")

    def _next(self, wanted: int) -> bytes:
        """Return what comes next, `wanted` bytes or less or more; nothing: the end."""
        at = self._at
        if self._content.length is not None and at >= self._content.length:
            return b""
        piece = self._held_at(at)
        if not piece:
            try:
                piece = self._fetched(at, wanted)
            except NoRanges:
                self._store()
                piece = self._fetched(at, wanted)
        self._at += len(piece)
        return piece

    def _fetched(self, at: int, wanted: int) -> bytes:
        """Return what is not held."""
        if self._stored is not None:
            return self._stored.read(at, max(wanted, _PIECE))
        if self._leg is None or not self._within_reach(self._leg, at):
            self._jump(at, wanted)
            if piece := self._held_at(at):
                return piece
        piece = self._on(at, wanted)
        self._keep_the_head(at, piece)
        return piece

    def _store(self) -> None:
        """Store the whole content: what is read from now on is read of the file."""
        if self._leg is not None:
            self._leg.close()
            self._leg = None
        self._held.clear()
        self._content.at_random = False  # where the connection breaks, it is read again up to there
        shown = self._content.shown
        self._stored = stored = Stored(shown, self._stored_bytes)
        stored.see_that_it_fits(self._content.length or 0)
        LOG.info(
            "%s: the server does not send ranges: the file is stored in %s while it is read",
            shown,
            stored.directory,
        )
        leg = Leg(self._content, 0)
        try:
            self._content.length = stored.fill(self._pieces(leg))
        finally:
            leg.close()

    def _pieces(self, leg: Leg) -> Iterator[bytes]:
        while piece := leg.read(_LARGEST_WINDOW):
            self._taken_in(leg.at - len(piece), piece)
            yield piece

    def _on(self, at: int, wanted: int) -> bytes:
        """Read on from the open leg; skips up to `at`."""
        while (leg := self._leg) is not None:
            begin = leg.at
            piece = leg.read(max(wanted, _PIECE) if begin == at else min(at - begin, _PIECE))
            self._taken_in(begin, piece)
            if begin == at and piece:
                return piece
            if not piece:
                self._leg = None
                if self._content.length is None or begin < self._content.length:
                    self._jump(at, wanted)
                    return self._held_at(at) or self._on(at, wanted)
        return b""

    def _taken_in(self, position: int, data: bytes) -> None:
        self._checksums.add(position, data)
        self._trace.add(position, data)

    def _keep_the_head(self, at: int, piece: bytes) -> None:
        """Hold what stands at the beginning: who looks there first often comes back."""
        if at == 0:
            self._held.append((0, piece))
        elif at < _FIRST_WINDOW and self._held and self._held[-1][0] == 0 and len(self._held[-1][1]) == at:
            self._held[-1] = (0, self._held[-1][1] + piece)

    def _within_reach(self, leg: Leg, at: int) -> bool:
        far = _SKIPPED if self._content.ranges is not False and not self._in_order else at
        return leg.at <= at <= leg.at + far

    def _jump(self, at: int, wanted: int) -> None:
        """Open a leg at another place, or hold a window of it."""
        if self._leg is not None:
            self._leg.close()
        behind, self._leg = self._leg, None
        if self._in_order:
            if behind is not None or self._content.found is not None:
                raise self._out_of_order()
            self._leg = Leg(self._content, 0)
        elif self._content.ranges is False:
            if self._content.at_random:
                raise NoRanges
            self._leg = Leg(self._content, at)
        elif at == 0 and self._content.found is None and not self._by_windows:
            self._leg = Leg(self._content, 0)
        elif (in_a_row := at - self._row_began) >= _IN_A_ROW:
            self._leg = Leg(self._content, at, at + 2 * in_a_row)
        else:
            self._hold(at, wanted)

    def _hold(self, at: int, wanted: int) -> None:
        """Fetch a window and hold it; or go on reading, from a server that sends no ranges."""
        before = next((len(data) for begin, data in self._held if begin + len(data) == at), 0)
        size = min(max(2 * before, _FIRST_WINDOW), _LARGEST_WINDOW)
        if self._content.length is not None:
            size = min(max(size, wanted), self._content.length - at)
        leg = Leg(self._content, at, at + size)
        parts: list[bytes] = []
        got = 0
        while got < size and (piece := leg.read(size - got)):
            parts.append(piece)
            got += len(piece)
        if self._content.ranges is False:
            self._leg = leg
        else:
            leg.close()
        data = b"".join(parts)
        self._taken_in(at, data)
        self._held.append((at, data))
        while len(self._held) > 1 and sum(len(held) for _, held in self._held) > _HELD:
            del self._held[0]

    def _held_at(self, at: int) -> bytes:
        """Return what is held from `at` on, to the end of its window."""
        for number in range(len(self._held) - 1, -1, -1):
            begin, data = self._held[number]
            if begin <= at < begin + len(data):
                self._held.append(self._held.pop(number))
                return data[at - begin :]
        return b""

    def _from_its_end(self) -> int:
        """Return the length, as somebody wants to read from there."""
        if self._in_order:
            raise self._out_of_order()
        if self._content.found is None:
            self.peek(1)
        self._content.at_random = self._stored is None
        if self._content.length is None and self._content.ranges is None:
            self._held.clear()
            self._jump_for_length()
        length = self._content.length
        held = self._stored is not None or (length is not None and len(self._held_at(0)) >= length)
        if length is None or (self._content.ranges is False and not held):
            self._store()
            length = self._content.length
        assert length is not None
        return length

    def _jump_for_length(self) -> None:
        """Ask for one byte: the answer tells the length of the whole."""
        if self._leg is not None:
            self._leg.close()
            self._leg = None
        leg = Leg(self._content, 0, 1)
        leg.read(1)
        leg.close()

    def _out_of_order(self) -> SourceError:
        return SourceError(
            f"{self._content.shown}: its SHA-256 can be compared only when it is read front to back, and zip and "
            "Parquet files are not: leave `checksum` out"
        )

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("the file is closed")
