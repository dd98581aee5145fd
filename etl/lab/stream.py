"""What every strategy writes: the same lines, cheap to make, so that the writing is what is measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from etl.errors import ConfigError
from etl.words import size

LINES_IN_BATCH = 1000
LEAST_LINE_BYTES = 40
LEAST_PART_BYTES = (
    64 * 1024
)  # below that the opening of files is what is measured; and millions of them pile up

_HEAD, _TAIL = b'{"line":%012d,"text":"', b'"}\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A stream of JSON lines of one length, in batches, in parts.

    The first line of a batch carries its number in the stream, the others their place in the batch: they are
    made once, and a batch costs next to nothing.

    Args:
        lines: how many.
        line_bytes: the length of each, in bytes, with its newline.
        part_bytes: how large a numbered file, a reused file or a part of a sink gets, in bytes.

    Raises:
        ConfigError: a number is too small.
    """

    lines: int
    line_bytes: int
    part_bytes: int

    def __post_init__(self) -> None:
        if self.lines < 1:
            raise ConfigError(f"{self.lines:,} lines are too few: write one at least")
        if self.line_bytes < LEAST_LINE_BYTES:
            raise ConfigError(f"a line has {LEAST_LINE_BYTES} bytes at least, not {self.line_bytes}")
        if self.part_bytes < LEAST_PART_BYTES:
            raise ConfigError(f"a part has {size(LEAST_PART_BYTES)} at least, not {self.part_bytes:,} bytes")

    @property
    def length(self) -> int:
        """The length of the whole stream, in bytes."""
        return self.lines * self.line_bytes

    @property
    def lines_in_part(self) -> int:
        """How many lines a part has; the last one has the rest."""
        return max(1, self.part_bytes // self.line_bytes)

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return -(-self.lines // self.lines_in_part)

    def batches(self, part: int) -> Iterator[list[bytes]]:
        """Yield part `part`, counted from 0, as lists of lines."""
        rest = [self._line(place) for place in range(1, LINES_IN_BATCH)]
        for start, count in self._starts(part):
            yield [self._line(start), *rest[: count - 1]]

    def blocks(self, part: int) -> Iterator[bytes]:
        """Yield part `part`, counted from 0, as the same bytes with the lines of a batch in one piece."""
        rest = b"".join(self._line(place) for place in range(1, LINES_IN_BATCH))
        for start, count in self._starts(part):
            yield self._line(start) + rest[: (count - 1) * self.line_bytes]

    def _starts(self, part: int) -> Iterator[tuple[int, int]]:
        """Yield the number of each batch's first line, and how many lines it has."""
        first = part * self.lines_in_part
        end = min(first + self.lines_in_part, self.lines)
        for start in range(first, end, LINES_IN_BATCH):
            yield start, min(LINES_IN_BATCH, end - start)

    def _line(self, number: int) -> bytes:
        head = _HEAD % number
        return head + b"x" * (self.line_bytes - len(head) - len(_TAIL)) + _TAIL
