"""A daily quota of a table: how much of it the last 24 hours have seen, and how long to wait before the next job.

BigQuery counts each load, copy and query job against its table, failed ones too, and each partition that it writes to;
DML it does not count ("Quotas and limits", Standard tables, Partitioned tables). The counts are kept in the checkpoint,
in spans of ten minutes, so that they outlast machines and do not grow.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Operations = tuple[tuple[int, int], ...]

DAY = 24 * 3600
SPAN = 600


class Quota:
    """Paces jobs, so that no 24 hours see more of them than the budget.

    The first half of the budget may be spent at once. After that the interval stretches, until with an empty
    budget there is nothing but to wait for the oldest jobs to be a day old.

    Args:
        budget: how many jobs, or partitions that they change, there may be in 24 hours.
        clock: the time in seconds since 1970.
    """

    def __init__(self, budget: int, clock: Callable[[], float] = time.time) -> None:
        self.budget = budget
        self._clock = clock

    def used(self, operations: Operations) -> int:
        """Return how many jobs the last 24 hours have seen."""
        return sum(count for _, count in self._recent(operations))

    def noted(self, operations: Operations, count: int) -> Operations:
        """Return `operations` with `count` more that are submitted now, without those that are past."""
        span = int(self._clock()) // SPAN * SPAN
        counts = dict(self._recent(operations))
        counts[span] = counts.get(span, 0) + count
        return tuple(sorted(counts.items()))

    def interval(self, operations: Operations, cost: int = 1) -> float | None:
        """Return the seconds that should lie between the last job and the next; None: the budget does not allow it.

        Args:
            operations: what was noted.
            cost: what the next job takes of the budget.

        With `left` of the budget left, jobs spaced by DAY / left, of what is left then, never use it up: the sum of
        DAY / k over k = 1 … left is more than a day. The factor lets the first half of the budget go at once.
        """
        left = self.budget - self.used(operations)
        if left < cost:
            return None
        return DAY * cost / left * max(0.0, 1 - 2 * left / self.budget)

    def free_in(self, operations: Operations, cost: int = 1) -> float:
        """Return the seconds until so many of the oldest jobs count no more that the next may come; 0: it may now."""
        left = self.budget - self.used(operations)
        for span, count in self._recent(operations):
            if left >= cost:
                return 0.0
            left += count
            if left >= cost:
                return max(0.0, span + SPAN + DAY - self._clock())
        return 0.0

    def _recent(self, operations: Operations) -> Operations:
        now = self._clock()
        return tuple((span, count) for span, count in operations if span + SPAN + DAY > now)
