"""A small `/proc` and `/sys` below a temporary folder, and real control groups, for tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl.errors import NoFreshGroup
from etl.lab.fresh_group import FreshGroup

MIB = 1024 * 1024
UNLIMITED_V1 = 9223372036854771712

V1_MOUNTS = "\n".join(
    [
        "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw",
        "34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
        "35 31 0:32 {top} /sys/fs/cgroup/memory rw,relatime shared:7 - cgroup cgroup rw,memory",
        "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
    ]
)
V2_MOUNTS = "31 23 0:28 {top} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"


class Tree:
    """Files as the kernel would show them: a group of 100 MiB, 60 of them page cache."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/meminfo", "MemTotal:       8388608 kB\nMemFree:  1 kB\nSwapTotal:  65536 kB\n")

    def write(self, path: str, text: str | int) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    def process(self, groups: str, mounts: str) -> None:
        self.write("proc/self/cgroup", groups)
        self.write("proc/self/mountinfo", mounts)

    def v1(self, group: str, limit: int, hierarchical: int = UNLIMITED_V1) -> None:
        path = f"sys/fs/cgroup/memory{group}"
        files = {
            "limit_in_bytes": limit,
            "memsw.limit_in_bytes": limit + 16 * MIB if limit < UNLIMITED_V1 else limit,
            "usage_in_bytes": 100 * MIB,
            "max_usage_in_bytes": 110 * MIB,
            "kmem.usage_in_bytes": 9 * MIB,
            "failcnt": 7,
            "oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3",
            "stat": f"cache 1\nrss 1\nhierarchical_memory_limit {hierarchical}\ntotal_cache {60 * MIB}\n"
            f"total_rss {30 * MIB}\ntotal_shmem {8 * MIB}\ntotal_dirty {5 * MIB}\ntotal_writeback {2 * MIB}\n"
            f"total_swap {4 * MIB}\ninactive_file 1\ntotal_inactive_file {40 * MIB}\n"
            f"total_active_file {12 * MIB}",
        }
        for name, text in files.items():
            self.write(f"{path}/memory.{name}", text)

    def v2(self, group: str, limit: int | str, high: int | str = "max") -> None:
        path = f"sys/fs/cgroup{group}"
        files = {
            "max": limit,
            "high": high,
            "current": 100 * MIB,
            "peak": 110 * MIB,
            "swap.current": 4 * MIB,
            "swap.max": 16 * MIB if limit != "max" else "max",
            "events": "low 0\nhigh 0\nmax 7\noom 4\noom_kill 3\noom_group_kill 0",
            "stat": f"anon {30 * MIB}\nfile {60 * MIB}\nkernel {9 * MIB}\nshmem {8 * MIB}\n"
            f"file_dirty {5 * MIB}\nfile_writeback {2 * MIB}\ninactive_file {40 * MIB}\n"
            f"active_file {12 * MIB}",
        }
        for name, text in files.items():
            self.write(f"{path}/memory.{name}", text)


def real_group(limit: int | None = None) -> FreshGroup:
    """Make a control group with a limit in bytes; skip the test where there can be none."""
    try:
        return FreshGroup(limit)
    except NoFreshGroup as error:
        pytest.skip(str(error))
