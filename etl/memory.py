"""What the control group says about memory, and the byte budget that follows from it.

Control groups (cgroups) version 1 and 2 are read, as are machines that mount both. A group is found as the
kernel tells it: `/proc/self/cgroup` names the process's group, `/proc/self/mountinfo` says where its
hierarchy is mounted and which group is the root of that mount (cgroups(7)). Everywhere else nothing is known:
`read` returns None.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

MIB = 1024 * 1024

# The budget. A serial loop with DuckDB's memory_limit at 64 MiB finishes in a group of 128 MiB, where Python
# with its modules and the parts in transit take the other half.
WAREHOUSE_USUAL = 64 * MIB  # down to this an embedded warehouse gets a quarter of the limit, below it a half
# DuckDB 2.0's reader of NDJSON reserves 32 MiB for each thread at once: measured, an insert out of a file fails
# with a memory_limit of 32 MiB and one thread, or 64 MiB and two, and succeeds with 40 and one, 128 and two.
WAREHOUSE_LEAST = 48 * MIB
WAREHOUSE_MOST = 1024 * MIB  # more makes no load faster: it would only be cache of the database file
# Without a limit the memory is most likely somebody else's, and DuckDB fills what it gets with cached blocks.
WAREHOUSE_UNLIMITED = 256 * MIB
BYTES_A_THREAD = 128 * MIB  # DuckDB's guide asks for 125 MB a thread (duckdb.org, Performance: Environment)
THREADS_MOST = 4
# A part in transit costs about three times its size: the page cache of two (one is written, one is loaded), and
# what DuckDB writes for it. Measured, a group of 128 MiB, 3 M records of 115 bytes: parts of 2, 4 and 8 MiB peak
# at 83, 86 and 101 MiB; parts of 16 MiB at the limit, with 21,000 failed charges and half the speed.
PARTS_IN_LIMIT = 16
PART_LEAST = 1 * MIB
PART_UNLIMITED = 64 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a control group is charged with, in bytes; its groups below are counted in.

    Attributes:
        limit: the smallest limit that holds for it, its own or that of a group above; None: unlimited, or
            more than the machine has.
        usage: all that it is charged with: anonymous memory, page cache, kernel memory.
        file: its page cache, with shared memory and tmpfs.
        inactive_file: the part of the page cache that the kernel takes back first.
        anonymous: the memory of its processes that no file stands behind.
        dirty: the part of the page cache that waits to be written.
    """

    limit: int | None
    usage: int
    file: int
    inactive_file: int
    anonymous: int
    dirty: int

    @property
    def working_set(self) -> int:
        """The usage less what is freed first: what the kubelet compares with the limit to evict a pod."""
        return max(0, self.usage - self.inactive_file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much memory and how many threads the pieces of one job may take.

    Attributes:
        limit: what the job as a whole may be charged with, in bytes; None: nobody set a limit.
        warehouse: what an embedded warehouse may take, in bytes.
        threads: how many threads an embedded warehouse may run.
        part_bytes: how large a part may get, in bytes, so that the two in transit (one being written, one being
            loaded) and what their load costs stay within a quarter of the limit.
    """

    limit: int | None
    warehouse: int
    threads: int
    part_bytes: int = PART_UNLIMITED


def budget(memory: int | None = None, *, root: Path = Path("/")) -> Budget:
    """Divide the memory there is.

    Args:
        memory: what the job may take, in bytes; None: what the control group allows. Where the control group
            allows less, less it is: the kernel kills for that one.
        root: where `/proc` and `/sys` are.
    """
    found = read(root)
    limits = [limit for limit in (memory, found.limit if found else None) if limit is not None]
    limit = min(limits, default=None)
    if limit is None:
        warehouse, part_bytes = WAREHOUSE_UNLIMITED, PART_UNLIMITED
    else:
        warehouse = min(max(limit // 4, WAREHOUSE_USUAL), limit // 2, WAREHOUSE_MOST)
        warehouse = max(warehouse, WAREHOUSE_LEAST)
        part_bytes = max(limit // PARTS_IN_LIMIT, PART_LEAST)
    # One processor stays with the transforms, which run while the part before loads.
    threads = max(1, min(processors(root) - 1, THREADS_MOST, warehouse // BYTES_A_THREAD))
    return Budget(limit=limit, warehouse=warehouse, threads=threads, part_bytes=part_bytes)


def read(root: Path = Path("/")) -> Memory | None:
    """Read what this process's control group says now; about 0.2 ms.

    Args:
        root: where `/proc` and `/sys` are.

    Returns:
        None where there is no control group that counts memory: no Linux, or the root group of version 2.
    """
    groups = _groups(root, "memory")
    if groups is None:
        return None
    own = groups.directories[0]
    stat = _pairs(own / "memory.stat")
    usage = _number(own / ("memory.usage_in_bytes" if groups.version == 1 else "memory.current"))
    if usage is None:
        return None
    if groups.version == 1:
        # The kernel's own sum over the groups above, which a container may not see; "no limit" is a number of
        # the size of the address space, and goes with what exceeds the machine.
        limits = [stat.get("hierarchical_memory_limit")]
        limits += [_number(directory / "memory.limit_in_bytes") for directory in groups.directories]
        names = ("total_cache", "total_inactive_file", "total_rss", "total_dirty")
    else:
        # Above `memory.high` a process is not killed but throttled to a crawl: it is a limit all the same.
        limits = [
            _number(directory / name)
            for directory in groups.directories
            for name in ("memory.max", "memory.high")
        ]
        names = ("file", "inactive_file", "anon", "file_dirty")
    machine = _pairs(root / "proc/meminfo").get("MemTotal:", 0) * 1024
    real = [limit for limit in limits if limit is not None and (not machine or limit < machine)]
    file, inactive_file, anonymous, dirty = (stat.get(name, 0) for name in names)
    return Memory(
        limit=min(real, default=None),
        usage=usage,
        file=file,
        inactive_file=inactive_file,
        anonymous=anonymous,
        dirty=dirty,
    )


def resident(root: Path = Path("/")) -> int | None:
    """Return the resident memory of this process, in bytes; None where `/proc` does not say."""
    try:
        pages = int((root / "proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def processors(root: Path = Path("/")) -> int:
    """Return how many processors this process may keep busy, by affinity and quota; at least 1."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    groups = _groups(root, "cpu")
    for directory in groups.directories if groups else ():
        if groups and groups.version == 1:
            quota = _number(directory / "cpu.cfs_quota_us")
            period = _number(directory / "cpu.cfs_period_us")
        else:
            words = (_text(directory / "cpu.max") or "max").split()
            quota, period = (int(words[0]), int(words[1])) if words[0] != "max" else (None, None)
        if quota and quota > 0 and period:
            count = min(count, quota // period)
    return max(1, count)


class _Groups(NamedTuple):
    version: int
    directories: list[Path]  # this process's group, then those above it, as far as they can be seen


def _groups(root: Path, controller: str) -> _Groups | None:
    """Find the directories of this process's group; version 1 goes first where it has the controller."""
    lines = (_text(root / "proc/self/cgroup") or "").splitlines()
    paths = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))  # version 2 has no name: ""
    for version, name in ((1, controller), (2, "")):
        for point, top in _mounts(root, version, controller) if name in paths else ():
            directories = _between(point, top, paths[name])
            if directories:
                return _Groups(version, directories)
    return None


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
