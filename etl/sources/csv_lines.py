"""The lines of a CSV file in blocks: which bytes end one, and which lines at the end are no rows."""

from __future__ import annotations

import re

from etl.sources.csv_form import split
from etl.sources.csv_options import Options
from etl.sources.decoding import Stream
from etl.sources.lines import Blocks, LineTooLong
from etl.sources.place import Place

# Where the first line of a file ends is looked for in so many bytes.
_PEEKED = 1 << 16
# So many times more lines end in a carriage return, where a header of another system was put before them.
_MANY = 10
_LINE_END = re.compile(rb"\r\n|\n|\r")


def find_line_end(stream: Stream, place: Place, options: Options) -> None:
    r"""Find out whether lines end in `\r` by itself, as they did on the Macintosh: the first line tells.

    Elsewhere a `\r` within a line is none of its own: it may be dirt in a text.
    """
    head = stream.peek(_PEEKED)
    ended = len(head) < _PEEKED
    quote = re.escape(
        (options.quote if options.quote is not None else '"').encode(options.encoding, "replace")
    )
    escape = re.escape((options.escape or "").encode(options.encoding, "replace"))
    patterns = [escape + b"."] if escape else []
    if quote:
        patterns.append(quote + b"[^" + quote + b"]*(?:" + quote + b"|$)")
    bare = re.sub(b"|".join(patterns), b"", head, flags=re.DOTALL) if patterns else head
    first = re.search(rb"\r\n|\n|\r", bare)
    if first is None:
        return
    if first[0] == b"\r":
        if first.end() < len(bare) or (ended and b"\n" not in head and not stream.grows()):
            place.line_end = "\r"
    elif bare.count(b"\r") - bare.count(b"\r\n") > _MANY * bare.count(b"\n"):
        place.line_end = "\r"


class CsvBlocks(Blocks):
    """Hands a CSV file out in blocks of whole lines.

    Where it is cut follows from where a block begins alone, so that a pull from any mark makes the same blocks.

    Args:
        stream: what is read, from where it stands.
        place: where that is; says how lines end.
        size: how large a block is, in bytes, unless a line is longer.
        longest: how long a line may be, in bytes.
        footer: how many of the last lines are not handed out; blank ones are not counted.
    """

    def __init__(self, stream: Stream, place: Place, size: int, longest: int, footer: int) -> None:
        super().__init__(stream, place, size, longest)
        self._any_line_end = place.line_end is not None
        self._footer = footer

    def take(self) -> bytes:
        """Return the next lines; see `Blocks.take`."""
        if not self._footer:
            return super().take()
        block = b""
        while more := self._more(block):
            block += more
            lines = split(block, any_line_end=self._any_line_end)
            written = [number for number, line in enumerate(lines) if line.strip()]
            if len(written) > self._footer:
                kept = written[-self._footer]
                self.give_back(b"".join(lines[kept:]))
                return b"".join(lines[:kept])
        self.give_back(block)  # the one that looked ahead gives back what is before it, and asks again
        return b""

    def _more(self, block: bytes) -> bytes:
        """Return the lines after a block; where they cannot be had, it is given back."""
        try:
            return super().take()
        except LineTooLong:
            self.give_back(block)
            raise

    def _cut(self, block: bytes, end: int, *, ended: bool) -> int:
        if not self._any_line_end:
            return super()._cut(block, end, ended=ended)
        # a carriage return at the end may be half of \r\n
        return max(block.rfind(b"\r", 0, end - (not ended)), block.rfind(b"\n", 0, end)) + 1

    def _first(self, block: bytes, begin: int, end: int, *, ended: bool) -> int:
        if not self._any_line_end:
            return super()._first(block, begin, end, ended=ended)
        found = _LINE_END.search(block, begin - 1, end)
        if found is None or (found[0] == b"\r" and found.end() == end and not ended):
            return 0
        return found.end()
