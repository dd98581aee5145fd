"""Which partitions of a table the records of parts belong to: exactly how many, and roughly which.

A part may touch thousands, and a checkpoint holds thousands of parts. So a part keeps the number, and spans that cover
all of them; the partitions of several parts are then at most the sum of the numbers, and at most what the spans cover.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import msgspec

# A part keeps so many spans; those that are nearest to each other become one.
MOST_SPANS = 16

Spans = tuple[tuple[int, int], ...]


class Touched(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The partitions of one part.

    Attributes:
        count: how many there are.
        spans: the first and the last number of spans in which all of them are, in order.
    """

    count: int
    spans: Spans

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Touched:
        """Return these partitions, each given by its number."""
        ordered = sorted(set(numbers))
        spans = _joined([(number, number) for number in ordered])
        gaps = sorted((later[0] - one[1] for one, later in pairwise(spans)), reverse=True)
        if len(spans) > MOST_SPANS:
            spans = _joined(spans, within=gaps[MOST_SPANS - 1])
        return cls(count=len(ordered), spans=tuple(spans))


def together(parts: Iterable[Touched | None]) -> int:
    """Return how many partitions parts touch together, at most; None: a part that touches none."""
    known = [part for part in parts if part is not None]
    covered = _joined(sorted(span for part in known for span in part.spans))
    return min(sum(part.count for part in known), sum(last - first + 1 for first, last in covered))


def fitting(parts: Iterable[Touched | None], most: int) -> int:
    """Return how many parts, from the first, touch no more partitions together than `most`; at least one."""
    covered: list[tuple[int, int]] = []
    total = count = 0
    for count, part in enumerate(parts, 1):
        if part is None:
            continue
        total += part.count
        if not all(any(first <= a and b <= last for first, last in covered) for a, b in part.spans):
            covered = _joined(sorted([*covered, *part.spans]))
        if min(total, sum(last - first + 1 for first, last in covered)) > most:
            return max(1, count - 1)
    return max(1, count)


def _joined(spans: list[tuple[int, int]], within: int = 1) -> list[tuple[int, int]]:
    """Join spans, in order, that overlap or are no further apart than `within`."""
    joined: list[tuple[int, int]] = []
    for first, last in spans:
        if joined and first - joined[-1][1] <= within:
            joined[-1] = joined[-1][0], max(last, joined[-1][1])
        else:
            joined.append((first, last))
    return joined
