"""What the control group says, out of fixture trees and out of the real kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from etl.memory import MIB, Memory, budget, processors, read, resident

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
    """A small `/proc` and `/sys` below a temporary folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/meminfo", "MemTotal:       8388608 kB\nMemFree:  1 kB\n")

    def write(self, path: str, text: str | int) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    def process(self, groups: str, mounts: str) -> None:
        self.write("proc/self/cgroup", groups)
        self.write("proc/self/mountinfo", mounts)

    def v1(self, group: str, limit: int, hierarchical: int = UNLIMITED_V1) -> None:
        path = f"sys/fs/cgroup/memory{group}"
        self.write(f"{path}/memory.limit_in_bytes", limit)
        self.write(f"{path}/memory.usage_in_bytes", 100 * MIB)
        self.write(
            f"{path}/memory.stat",
            f"cache 1\nrss 1\nhierarchical_memory_limit {hierarchical}\ntotal_cache {60 * MIB}\n"
            f"total_rss {30 * MIB}\ntotal_dirty {5 * MIB}\ntotal_inactive_file {40 * MIB}",
        )

    def v2(self, group: str, limit: int | str, high: int | str = "max") -> None:
        path = f"sys/fs/cgroup{group}"
        self.write(f"{path}/memory.max", limit)
        self.write(f"{path}/memory.high", high)
        self.write(f"{path}/memory.current", 100 * MIB)
        self.write(
            f"{path}/memory.stat",
            f"anon {30 * MIB}\nfile {60 * MIB}\nfile_dirty {5 * MIB}\ninactive_file {40 * MIB}",
        )


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def expected(limit: int | None) -> Memory:
    return Memory(
        limit=limit,
        usage=100 * MIB,
        file=60 * MIB,
        inactive_file=40 * MIB,
        anonymous=30 * MIB,
        dirty=5 * MIB,
    )


def test_version_1_is_read(tree: Tree) -> None:
    tree.process("5:cpu,cpuacct:/\n4:memory:/job\n0::/", V1_MOUNTS.format(top="/"))
    tree.v1("/job", 128 * MIB)
    assert read(tree.root) == expected(128 * MIB)


def test_version_2_is_read(tree: Tree) -> None:
    tree.process("0::/job", V2_MOUNTS.format(top="/"))
    tree.v2("/job", 128 * MIB)
    assert read(tree.root) == expected(128 * MIB)


def test_the_working_set_is_the_usage_less_the_inactive_files() -> None:
    assert expected(None).working_set == 60 * MIB


def test_on_a_hybrid_machine_the_version_that_has_the_memory_controller_is_read(tree: Tree) -> None:
    mounts = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n" + V1_MOUNTS.format(top="/")
    tree.process("4:memory:/job\n0::/other", mounts)
    tree.v1("/job", 64 * MIB)
    (tree.root / "sys/fs/cgroup/unified/other").mkdir(parents=True)
    assert read(tree.root) == expected(64 * MIB)


def test_the_number_of_version_1_for_unlimited_is_no_limit(tree: Tree) -> None:
    tree.process("4:memory:/job", V1_MOUNTS.format(top="/"))
    tree.v1("/job", UNLIMITED_V1)
    assert read(tree.root) == expected(None)


def test_the_word_of_version_2_for_unlimited_is_no_limit(tree: Tree) -> None:
    tree.process("0::/job", V2_MOUNTS.format(top="/"))
    tree.v2("/job", "max")
    assert read(tree.root) == expected(None)


def test_a_limit_above_the_memory_of_the_machine_is_no_limit(tree: Tree) -> None:
    tree.process("0::/job", V2_MOUNTS.format(top="/"))
    tree.v2("/job", 16 * 1024 * MIB)
    assert read(tree.root) == expected(None)


def test_the_smallest_limit_up_the_hierarchy_counts(tree: Tree) -> None:
    tree.process("0::/kubepods/pod/job", V2_MOUNTS.format(top="/"))
    tree.v2("/kubepods/pod/job", 512 * MIB)
    tree.v2("/kubepods/pod", 256 * MIB)
    tree.v2("/kubepods", 1024 * MIB)
    assert read(tree.root) == expected(256 * MIB)


def test_in_version_1_a_limit_above_what_a_container_sees_counts(tree: Tree) -> None:
    tree.process("4:memory:/", V1_MOUNTS.format(top="/"))
    tree.v1("", UNLIMITED_V1, hierarchical=96 * MIB)
    assert read(tree.root) == expected(96 * MIB)


def test_being_throttled_is_a_limit_too(tree: Tree) -> None:
    tree.process("0::/job", V2_MOUNTS.format(top="/"))
    tree.v2("/job", 128 * MIB, high=100 * MIB)
    assert read(tree.root) == expected(100 * MIB)


def test_a_private_namespace_shows_the_own_group_as_the_root(tree: Tree) -> None:
    tree.process("0::/", V2_MOUNTS.format(top="/"))
    tree.v2("", 128 * MIB)
    assert read(tree.root) == expected(128 * MIB)


def test_a_mount_of_a_single_group_is_entered_below_its_own_root(tree: Tree) -> None:
    tree.process("4:memory:/docker/abc/job", V1_MOUNTS.format(top="/docker/abc"))
    tree.v1("/job", 128 * MIB)
    assert read(tree.root) == expected(128 * MIB)


def test_a_mount_from_another_namespace_is_read_at_its_root(tree: Tree) -> None:
    tree.process("4:memory:/", V1_MOUNTS.format(top="/../.."))
    tree.v1("", 128 * MIB)
    assert read(tree.root) == expected(128 * MIB)


def test_a_group_outside_of_the_namespace_is_read_at_the_mount(tree: Tree) -> None:
    tree.process("0::/../elsewhere", V2_MOUNTS.format(top="/"))
    tree.v2("", 128 * MIB)
    assert read(tree.root) == expected(128 * MIB)


def test_a_mount_point_with_a_space_in_it_is_found(tree: Tree) -> None:
    tree.process("0::/job", r"31 23 0:28 / /my\040groups rw - cgroup2 cgroup2 rw")
    tree.v2("/job", 128 * MIB)
    (tree.root / "sys/fs/cgroup").rename(tree.root / "my groups")
    assert read(tree.root) == expected(128 * MIB)


def test_the_root_group_of_version_2_counts_nothing(tree: Tree) -> None:
    tree.process("0::/", V2_MOUNTS.format(top="/"))
    tree.write("sys/fs/cgroup/memory.stat", "anon 1")
    assert read(tree.root) is None


def test_without_control_groups_nothing_is_known(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    assert resident(tmp_path) is None


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells it")
def test_resident_memory_is_that_of_this_process() -> None:
    found = resident()
    assert found is not None
    assert 5 * MIB < found < 4096 * MIB


def test_a_limit_of_128_mib_leaves_64_to_the_warehouse(tree: Tree) -> None:
    tree.process("0::/job", V2_MOUNTS.format(top="/"))
    tree.v2("/job", 128 * MIB)
    found = budget(root=tree.root)
    assert (found.limit, found.warehouse, found.threads) == (128 * MIB, 64 * MIB, 1)


@pytest.mark.parametrize("limit", [2**n * MIB for n in range(5, 16)])
def test_parts_in_transit_take_a_quarter_of_the_limit(tmp_path: Path, limit: int) -> None:
    assert 3 * budget(limit, root=tmp_path).part_bytes <= limit // 4


@pytest.mark.parametrize("limit", [2**n * MIB for n in range(5, 16)])
def test_each_thread_of_the_warehouse_has_the_memory_that_duckdb_wants(tmp_path: Path, limit: int) -> None:
    found = budget(limit, root=tmp_path)
    assert found.threads == 1 or found.warehouse // found.threads >= 125_000_000


def test_without_a_limit_the_budget_is_still_bounded(tmp_path: Path) -> None:
    found = budget(root=tmp_path)
    assert (found.limit, found.warehouse, found.part_bytes) == (None, 256 * MIB, 64 * MIB)


def test_the_job_cannot_have_more_than_its_control_group(tree: Tree) -> None:
    tree.process("0::/job", V2_MOUNTS.format(top="/"))
    tree.v2("/job", 128 * MIB)
    assert budget(1024 * MIB, root=tree.root).limit == 128 * MIB
    assert budget(96 * MIB, root=tree.root).limit == 96 * MIB


def test_a_processor_quota_is_respected(tree: Tree) -> None:
    tree.process("0::/job", V2_MOUNTS.format(top="/"))
    tree.write("sys/fs/cgroup/job/cpu.max", "50000 100000")
    assert processors(tree.root) == 1


def test_without_a_quota_all_processors_of_the_affinity_count(tree: Tree) -> None:
    tree.process("5:cpu,cpuacct:/", V1_MOUNTS.format(top="/"))
    tree.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", -1)
    tree.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", 100000)
    assert processors(tree.root) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("limit", [48 * MIB, 64 * MIB])
def test_duckdb_reads_a_part_with_the_least_that_the_budget_gives(tmp_path: Path, limit: int) -> None:
    duckdb = pytest.importorskip("duckdb")
    given = budget(limit, root=tmp_path)
    part = tmp_path / "part.ndjson"
    part.write_text('{"a": 1, "b": "some text"}\n' * 20_000)
    settings = {"memory_limit": f"{given.warehouse}B", "threads": given.threads}
    with duckdb.connect(str(tmp_path / "warehouse.duckdb"), config=settings) as connection:
        connection.execute("CREATE TABLE t (a BIGINT, b VARCHAR)")
        connection.execute("INSERT INTO t SELECT * FROM read_json(?)", [str(part)])
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (20_000,)


def test_the_limit_of_a_real_control_group_is_read(tmp_path: Path) -> None:
    controllers = Path("/sys/fs/cgroup/memory")
    group = controllers / f"etl-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(200 * MIB))
    except OSError as error:
        pytest.skip(f"no memory control group can be made here: {error}")
    script = (
        "import os, sys; from pathlib import Path; from etl import memory;"
        "Path(sys.argv[1], 'cgroup.procs').write_text(str(os.getpid()));"
        "held = bytearray(32 << 20); now = memory.read();"
        "print(now.limit, now.usage >= 32 << 20, now.anonymous >= 32 << 20)"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, str(group)], capture_output=True, text=True, check=True
        )
    finally:
        group.rmdir()
    assert done.stdout.split() == [str(200 * MIB), "True", "True"]
