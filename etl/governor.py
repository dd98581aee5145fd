"""Watches how near the job is to the limit of its control group, and says when a part should be cut early.

What the kernel does at the limit is slow (it takes back page cache, page by page, in the way of those who
allocates), and what the kubelet does before it is worse: it evicts the pod by the working set.
"""

from __future__ import annotations

from sinks.control_group import Gauge

# Shares of the limit. Above the first one a part is cut; when that did not help, not again before the working set
# has grown by the second one: whatever fills the memory then is not the part.
NEAR = 0.90
MORE = 0.02


class Governor:
    """Says when the working set is near the limit.

    Args:
        gauge: reads the control group; one without a limit is never near it.
    """

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self.limit = gauge.limit
        self._threshold = int(gauge.limit * NEAR) if gauge.limit is not None else 0

    def pressed(self) -> int | None:
        """Return the working set in bytes if it is near the limit, else None; some 2 µs far from it."""
        if self.limit is None:
            return None
        near = int(self.limit * NEAR)
        usage = self._gauge.usage()
        if usage is None or usage < near:
            self._threshold = near
            return None
        working_set = self._gauge.working_set() or 0
        if working_set < near:
            self._threshold = near
        return working_set if working_set >= self._threshold else None

    def working_set(self) -> int | None:
        """Return the working set now, in bytes; None: unknown."""
        return self._gauge.working_set()

    def relieved(self) -> None:
        """Hear that all was done that could be: what is left now is taken for granted."""
        if self.limit is not None:
            working_set = self._gauge.working_set() or 0
            self._threshold = max(int(self.limit * NEAR), working_set + int(self.limit * MORE))
