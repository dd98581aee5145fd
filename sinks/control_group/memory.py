"""What a control group says of its memory.

What the files mean is told in the kernel's Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sinks.control_group.files import ROOT, number_of, pairs_of, text_of
from sinks.control_group.groups import Groups, find

USAGE = {1: "memory.usage_in_bytes", 2: "memory.current"}
# The names that `memory.stat` has for fields of `Memory`. Version 1 sums up the groups below in `total_…` only;
# version 2 always does.
STAT = {
    1: {
        "anonymous": "total_rss",
        "file": "total_cache",
        "active_file": "total_active_file",
        "inactive_file": "total_inactive_file",
        "shmem": "total_shmem",
        "dirty": "total_dirty",
        "writeback": "total_writeback",
    },
    2: {
        "anonymous": "anon",
        "file": "file",
        "active_file": "active_file",
        "inactive_file": "inactive_file",
        "shmem": "shmem",
        "dirty": "file_dirty",
        "writeback": "file_writeback",
    },
}
_UNLIMITED = 1 << 62  # version 1 writes the largest multiple of a page that fits 63 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """How much time is lost to waiting for memory (PSI), in percent of the last ten seconds.

    Attributes:
        some_avg10: at least one task waited.
        full_avg10: all of them did.
    """

    some_avg10: float
    full_avg10: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a control group is charged with, in bytes; its groups below are counted in.

    Attributes:
        limit: the smallest limit that holds, its own or that of a group above; None: unlimited, or more than
            the machine has.
        usage: all that it is charged with: anonymous memory, page cache, kernel memory.
        file: its page cache, with shared memory and tmpfs.
        inactive_file: the part of the page cache that the kernel takes back first.
        anonymous: the memory of its processes that no file stands behind.
        dirty: the part of the page cache that waits to be written.
        active_file: the part of the page cache that was used more than once.
        shmem: the part of the page cache that is tmpfs or shared memory: no disk stands behind it, so that it
            cannot be dropped.
        writeback: the part of the page cache that is being written.
        kernel: what the kernel itself holds for it: stacks, page tables, inodes.
        swap: what lies in swap, which is not in `usage`.
        swap_limit: how much may lie in swap beyond the limit, as far as the machine has any.
        peak: the most that `usage` ever was; None: this kernel does not tell.
        failed_charges: how often memory was wanted beyond the limit, so that the process had to wait until
            something was taken back, or was killed; None: it is not counted. Version 1 counts nothing when the
            limit with swap is the same (Linux 6.18: 0 against 14,808 for the same writes).
        oom_kills: how many of its processes the kernel has killed for want of memory.
        pressure: the time lost to waiting for memory; None: version 1, or a kernel without it.
        version: of the control groups, 1 or 2.
        directory: where the numbers were read.
    """

    limit: int | None
    usage: int
    file: int
    inactive_file: int
    anonymous: int
    dirty: int
    active_file: int = 0
    shmem: int = 0
    writeback: int = 0
    kernel: int = 0
    swap: int = 0
    swap_limit: int = 0
    peak: int | None = None
    failed_charges: int | None = 0
    oom_kills: int = 0
    pressure: Pressure | None = None
    version: int = 2
    directory: str = ""

    @property
    def working_set(self) -> int:
        """The usage less what is freed first: what the kubelet compares with the limit to evict a pod."""
        return max(0, self.usage - self.inactive_file)

    @property
    def reclaimable(self) -> int:
        """The page cache that a disk stands behind: the clean part can go at once, the rest once written."""
        return max(0, self.file - self.shmem)


def read(root: Path = ROOT) -> Memory | None:
    """Read what this process's control group says now; about 0.4 ms.

    It is the group whose limit holds, so that limit and usage can be compared: this process's own, unless a
    group above it has a smaller limit. Without any limit it is the own one.

    Args:
        root: where `/proc` and `/sys` are.

    Returns:
        None where there is no control group that counts memory: no Linux, or the root group of version 2.
    """
    groups = find("memory", root)
    if groups is None:
        return None
    _, group = smallest_limit(groups, root)
    with suppress(OSError):
        return read_group(group, groups.version, root=root)
    return None


def read_group(directory: Path, version: int, *, root: Path = ROOT) -> Memory:
    """Read what one control group says now, no matter who is in it; about 0.2 ms.

    Args:
        directory: of the group.
        version: of the control groups, 1 or 2.
        root: where `/proc` is.

    Raises:
        OSError: it is gone, or counts no memory, like the root group of version 2.
    """
    usage = int((directory / USAGE[version]).read_text())
    stat, machine = pairs_of(directory / "memory.stat"), pairs_of(root / "proc/meminfo")
    limit, _ = _smallest(Groups(version, [directory]), stat, machine)
    rest = _rest_of_version_1(directory, stat) if version == 1 else _rest_of_version_2(directory, stat)
    swap = machine.get("SwapTotal:", 0) * 1024
    return Memory(
        limit=limit,
        usage=usage,
        **{field: stat.get(name, 0) for field, name in STAT[version].items()},
        kernel=rest.kernel,
        swap=rest.swap,
        swap_limit=swap if rest.swap_limit is None else min(rest.swap_limit, swap),
        peak=rest.peak,
        failed_charges=rest.failed_charges,
        oom_kills=rest.oom_kills,
        pressure=_pressure(directory) if version == 2 else None,
        version=version,
        directory=str(directory),
    )


def smallest_limit(groups: Groups, root: Path = ROOT) -> tuple[int | None, Path]:
    """Return the smallest limit that holds, in bytes, and the group that is known to have it.

    Args:
        groups: of one process.
        root: where `/proc` is.

    Returns:
        None and the own group where there is no limit.
    """
    return _smallest(groups, pairs_of(groups.directories[0] / "memory.stat"), pairs_of(root / "proc/meminfo"))


def _smallest(groups: Groups, stat: dict[str, int], machine: dict[str, int]) -> tuple[int | None, Path]:
    """Return the smallest limit, and who has it, out of the own group's `memory.stat` and `/proc/meminfo`."""
    own = groups.directories[0]
    if groups.version == 1:
        # The kernel's own minimum over the groups above, which a container may not see. "No limit" is a number
        # of the size of the address space, and goes with what exceeds the machine.
        names, found = ["memory.limit_in_bytes"], [(stat.get("hierarchical_memory_limit"), own)]
    else:
        # Above `memory.high` a process is not killed but throttled to a crawl: it is a limit all the same.
        names, found = ["memory.max", "memory.high"], []
    # Where two are equal the first counts: the own one, and a group that is seen before one that is not.
    found = [(number_of(group / name), group) for group in groups.directories for name in names] + found
    most = machine.get("MemTotal:", 0) * 1024
    limits = [(limit, group) for limit, group in found if limit is not None and not 0 < most <= limit]
    return min(limits, key=lambda pair: pair[0], default=(None, own))


class _Rest(NamedTuple):
    """What the two versions tell in different files; `swap_limit` None: what the machine has."""

    kernel: int
    swap: int
    swap_limit: int | None
    peak: int | None
    failed_charges: int | None
    oom_kills: int


def _rest_of_version_1(group: Path, stat: dict[str, int]) -> _Rest:
    limit = number_of(group / "memory.limit_in_bytes")
    with_swap = number_of(group / "memory.memsw.limit_in_bytes")
    unlimited = limit is None or with_swap is None or with_swap >= _UNLIMITED
    return _Rest(
        kernel=number_of(group / "memory.kmem.usage_in_bytes") or 0,
        swap=stat.get("total_swap", 0),
        swap_limit=None if unlimited else max(0, (with_swap or 0) - (limit or 0)),
        peak=number_of(group / "memory.max_usage_in_bytes"),
        failed_charges=None if with_swap == limit and not unlimited else number_of(group / "memory.failcnt"),
        oom_kills=pairs_of(group / "memory.oom_control").get("oom_kill", 0),
    )


def _rest_of_version_2(group: Path, stat: dict[str, int]) -> _Rest:
    events = pairs_of(group / "memory.events")
    kernel = sum(stat.get(name, 0) for name in ("kernel_stack", "pagetables", "percpu", "slab"))
    return _Rest(
        kernel=stat.get("kernel", kernel),  # the sum itself is told from Linux 5.18 on
        swap=number_of(group / "memory.swap.current") or 0,
        swap_limit=number_of(group / "memory.swap.max"),
        peak=number_of(group / "memory.peak"),
        failed_charges=events.get("max", 0) + events.get("high", 0),
        oom_kills=events.get("oom_kill", 0),
    )


def _pressure(group: Path) -> Pressure | None:
    """Read lines such as `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` (Documentation/accounting/psi.rst)."""
    found = dict(re.findall(r"^(some|full) avg10=([0-9.]+)", text_of(group / "memory.pressure") or "", re.M))
    if "some" not in found:
        return None
    return Pressure(some_avg10=float(found["some"]), full_avg10=float(found.get("full", 0)))
