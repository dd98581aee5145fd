"""The byte budget, out of fixture trees and with the real warehouse."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from etl.memory import MIB, budget, processors, resident
from tests.control_groups import V1_MOUNTS, V2_MOUNTS, Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_without_proc_the_resident_memory_is_unknown(tmp_path: Path) -> None:
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


def test_the_smallest_processor_quota_up_the_hierarchy_counts(tree: Tree) -> None:
    tree.process("0::/pod/job", V2_MOUNTS.format(top="/"))
    tree.write("sys/fs/cgroup/pod/job/cpu.max", "max 100000")
    tree.write("sys/fs/cgroup/pod/cpu.max", "100000 100000")
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
