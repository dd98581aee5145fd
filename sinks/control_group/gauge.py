"""The control group's fullness, told often and cheaply."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from sinks.control_group.files import ROOT
from sinks.control_group.groups import find
from sinks.control_group.memory import STAT, USAGE, smallest_limit

_STAT_BYTES = 16 * 1024  # `memory.stat` has 1 to 3 KiB


class Gauge:
    """Tells again and again, and cheaply, how full the control group is, for those who must stay below its limit.

    The group is looked for once, its files stay open; may be used from several threads. Where there is no
    control group, or when it is gone (the process was moved and its old group removed), every answer is None.

    Args:
        root: where `/proc` and `/sys` are.

    Attributes:
        limit: the smallest limit that holds, in bytes, as it was when the gauge was made; None: no limit.
    """

    limit: int | None

    def __init__(self, root: Path = ROOT) -> None:
        self.limit = None
        self._usage = self._stat = -1
        groups = find("memory", root)
        if groups is None:
            return
        self.limit, group = smallest_limit(groups, root)
        self._inactive_file = b"\n%s " % STAT[groups.version]["inactive_file"].encode()
        with suppress(OSError):
            self._usage = os.open(group / USAGE[groups.version], os.O_RDONLY | os.O_CLOEXEC)
            self._stat = os.open(group / "memory.stat", os.O_RDONLY | os.O_CLOEXEC)

    def usage(self) -> int | None:
        """Return all that the group is charged with now, in bytes; about 2 µs."""
        try:
            return int(os.pread(self._usage, 32, 0))
        except (OSError, ValueError):
            return None

    def working_set(self) -> int | None:
        """Return the usage less the inactive page cache, in bytes, as `Memory.working_set`; about 50 µs."""
        usage = self.usage()
        if usage is None:
            return None
        try:
            stat = b"\n" + os.pread(self._stat, _STAT_BYTES, 0)
            inactive = int(stat.partition(self._inactive_file)[2].partition(b"\n")[0])
        except (OSError, ValueError):
            return None
        return max(0, usage - inactive)

    def close(self) -> None:
        """Close the group's files; every answer after this is None. May be repeated."""
        for descriptor in (self._usage, self._stat):
            if descriptor >= 0:
                os.close(descriptor)
        self._usage = self._stat = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
