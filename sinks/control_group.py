"""What the control group (cgroup) says of this process's memory and processors, versions 1 and 2.

A group is found as the kernel tells it: `/proc/self/cgroup` names the process's group,
`/proc/self/mountinfo` says where its hierarchy is mounted and which group is the root of that mount
(cgroups(7)); machines that mount both versions are understood. What the files mean is told in the kernel's
Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst. Everywhere else nothing is known: `read`
returns None.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import NamedTuple, Self

ROOT = Path("/")

# The names of `memory.stat`, in the order of the fields of `Memory`. Version 1 sums up the groups below in
# `total_…` only; version 2 always does.
_FIELDS = ("anonymous", "file", "active_file", "inactive_file", "shmem", "dirty", "writeback")
_STAT = {
    1: tuple(f"total_{n}" for n in ("rss", "cache", "active_file", "inactive_file", "shmem", "dirty", "writeback")),
    2: ("anon", "file", "active_file", "inactive_file", "shmem", "file_dirty", "file_writeback"),
}  # fmt: skip
_USAGE = {1: "memory.usage_in_bytes", 2: "memory.current"}
_INACTIVE_FILE = {1: b"total_inactive_file ", 2: b"inactive_file "}
_UNLIMITED = 1 << 62  # version 1 writes the largest multiple of a page that fits 63 bits
_STAT_BYTES = 16 * 1024  # `memory.stat` has 1 to 3 KiB


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

    It is the group whose limit holds, so that limit and usage can be compared: this process's own, unless a
    group above it has a smaller limit. Without any limit it is the own one.

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


class Groups(NamedTuple):
    """The control groups that a process is in.

    Attributes:
        version: 1 or 2.
        directories: the process's group, then those above it, as far as they can be seen.
    """

    version: int
    directories: list[Path]


def read(root: Path = ROOT) -> Memory | None:
    """Read what this process's control group says now; about 0.3 ms.

    Args:
        root: where `/proc` and `/sys` are.

    Returns:
        None where there is no control group that counts memory: no Linux, or the root group of version 2.
    """
    groups = find("memory", root)
    if groups is None:
        return None
    version, (own, *_) = groups
    stat = _pairs(own / "memory.stat")
    limit, group = _limit(groups, stat, root)
    usage = _number(group / _USAGE[version])
    if usage is None:
        return None
    if group != own:
        stat = _pairs(group / "memory.stat")
    rest = _rest_of_version_1(group, stat) if version == 1 else _rest_of_version_2(group, stat)
    swap = _pairs(root / "proc/meminfo").get("SwapTotal:", 0) * 1024
    return Memory(
        limit=limit,
        usage=usage,
        **{field: stat.get(name, 0) for field, name in zip(_FIELDS, _STAT[version], strict=True)},
        kernel=rest.kernel,
        swap=rest.swap,
        swap_limit=swap if rest.swap_limit is None else min(rest.swap_limit, swap),
        peak=rest.peak,
        failed_charges=rest.failed_charges,
        oom_kills=rest.oom_kills,
        pressure=_pressure(group) if version == 2 else None,
        version=version,
        directory=str(group),
    )


class Gauge:
    """Tells again and again, and cheaply, how full the control group is, for whoever must stay below its limit.

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
        self.limit, group = _limit(groups, _pairs(groups.directories[0] / "memory.stat"), root)
        self._inactive_file = _INACTIVE_FILE[groups.version]
        with suppress(OSError):
            self._usage = os.open(group / _USAGE[groups.version], os.O_RDONLY | os.O_CLOEXEC)
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
            inactive = int(stat.partition(b"\n" + self._inactive_file)[2].partition(b"\n")[0])
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


def processor_quota(root: Path = ROOT) -> float | None:
    """Return how many processors' time the control groups allow this process; None: as many as there are."""
    groups = find("cpu", root)
    quotas = []
    for directory in groups.directories if groups else ():
        if groups and groups.version == 1:
            quota = _number(directory / "cpu.cfs_quota_us")
            period = _number(directory / "cpu.cfs_period_us")
        else:
            words = (_text(directory / "cpu.max") or "max").split()
            quota, period = (int(words[0]), int(words[1])) if words[0] != "max" else (None, None)
        if quota and quota > 0 and period:
            quotas.append(quota / period)
    return min(quotas, default=None)


def find(controller: str, root: Path = ROOT) -> Groups | None:
    """Find this process's groups for `controller`, such as "memory"; version 1 goes first where it has it.

    Args:
        controller: the name that version 1 has for it; version 2 has one group for all.
        root: where `/proc` and `/sys` are.
    """
    lines = (_text(root / "proc/self/cgroup") or "").splitlines()
    paths = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))  # version 2 has no name: ""
    for version, name in ((1, controller), (2, "")):
        for point, top in _mounts(root, version, controller) if name in paths else ():
            directories = _between(point, top, paths[name])
            if directories:
                return Groups(version, directories)
    return None


def _limit(groups: Groups, stat: dict[str, int], root: Path) -> tuple[int | None, Path]:
    """Return the smallest limit that holds, and the group that is known to have it; else the own group.

    Args:
        groups: of this process.
        stat: what `memory.stat` of the own group says.
        root: where `/proc` is.
    """
    own = groups.directories[0]
    if groups.version == 1:
        # The kernel's own minimum over the groups above, which a container may not see. "No limit" is a number
        # of the size of the address space, and goes with what exceeds the machine.
        names, found = ["memory.limit_in_bytes"], [(stat.get("hierarchical_memory_limit"), own)]
    else:
        # Above `memory.high` a process is not killed but throttled to a crawl: it is a limit all the same.
        names, found = ["memory.max", "memory.high"], []
    # Where two are equal the first counts: the own one, and a group that is seen before one that is not.
    found = [(_number(group / name), group) for group in groups.directories for name in names] + found
    machine = _pairs(root / "proc/meminfo").get("MemTotal:", 0) * 1024
    limits = [(limit, group) for limit, group in found if limit is not None and not 0 < machine <= limit]
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
    limit, with_swap = (
        _number(group / "memory.limit_in_bytes"),
        _number(group / "memory.memsw.limit_in_bytes"),
    )
    unlimited = limit is None or with_swap is None or with_swap >= _UNLIMITED
    return _Rest(
        kernel=_number(group / "memory.kmem.usage_in_bytes") or 0,
        swap=stat.get("total_swap", 0),
        swap_limit=None if unlimited else max(0, (with_swap or 0) - (limit or 0)),
        peak=_number(group / "memory.max_usage_in_bytes"),
        failed_charges=None if with_swap == limit and not unlimited else _number(group / "memory.failcnt"),
        oom_kills=_pairs(group / "memory.oom_control").get("oom_kill", 0),
    )


def _rest_of_version_2(group: Path, stat: dict[str, int]) -> _Rest:
    events = _pairs(group / "memory.events")
    kernel = sum(stat.get(name, 0) for name in ("kernel_stack", "pagetables", "percpu", "slab"))
    return _Rest(
        kernel=stat.get("kernel", kernel),  # the sum itself is told from Linux 5.18 on
        swap=_number(group / "memory.swap.current") or 0,
        swap_limit=_number(group / "memory.swap.max"),
        peak=_number(group / "memory.peak"),
        failed_charges=events.get("max", 0) + events.get("high", 0),
        oom_kills=events.get("oom_kill", 0),
    )


def _pressure(group: Path) -> Pressure | None:
    """Read lines such as `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` (Documentation/accounting/psi.rst)."""
    found = dict(re.findall(r"^(some|full) avg10=([0-9.]+)", _text(group / "memory.pressure") or "", re.M))
    if "some" not in found:
        return None
    return Pressure(some_avg10=float(found["some"]), full_avg10=float(found.get("full", 0)))


def _mounts(root: Path, version: int, controller: str) -> Iterator[tuple[Path, str]]:
    """Yield where the hierarchy is mounted, and which group is the root of that mount (proc(5))."""
    for line in (_text(root / "proc/self/mountinfo") or "").splitlines():
        left, _, right = line.partition(" - ")
        fields, (kind, *_, options) = left.split(), right.split()
        if kind == ("cgroup" if version == 1 else "cgroup2") and (
            version == 2 or controller in options.split(",")
        ):
            top, point = (re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), text) for text in fields[3:5])
            yield root / point.lstrip("/"), top


def _between(point: Path, top: str, path: str) -> list[Path]:
    """List the directories from group `path` up to the mount `point`, whose root is group `top`."""
    try:
        below = PurePosixPath(path).relative_to(top)
    except ValueError:
        # The mount was made in another cgroup namespace than the path is told for (a container engine's bind
        # mount): its root is the best there is, and in a container it is the right one.
        below = PurePosixPath()
    own = point / below if ".." not in below.parts else point
    while own != point and not own.is_dir():
        own = own.parent
    return [own, *(parent for parent in own.parents if parent.is_relative_to(point))] if own.is_dir() else []


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def _number(path: Path) -> int | None:
    text = (_text(path) or "").strip()
    return int(text) if text.lstrip("-").isdigit() else None  # version 2 writes "max" for no limit


def _pairs(path: Path) -> dict[str, int]:
    """Read lines of a name, a number, and perhaps a unit."""
    pairs = {}
    for line in (_text(path) or "").splitlines():
        words = line.split()
        if len(words) >= 2 and words[1].isdigit():
            pairs[words[0]] = int(words[1])
    return pairs
