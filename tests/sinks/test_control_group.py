"""What the control group says, out of fixture trees and out of the real kernel."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from etl.lab.fresh_group import FreshGroup
from sinks.control_group import Gauge, Memory, Pressure, find, read, read_group
from tests.control_groups import MIB, UNLIMITED_V1, V1_MOUNTS, V2_MOUNTS, Tree, real_group


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


HERE = Memory(
    limit=None,
    usage=100 * MIB,
    file=60 * MIB,
    inactive_file=40 * MIB,
    anonymous=30 * MIB,
    dirty=5 * MIB,
    active_file=12 * MIB,
    shmem=8 * MIB,
    writeback=2 * MIB,
    kernel=9 * MIB,
    swap=4 * MIB,
    swap_limit=16 * MIB,
    peak=110 * MIB,
    failed_charges=7,
    oom_kills=3,
)


def limit(tree: Tree) -> int | None:
    found = read(tree.root)
    assert found is not None
    assert found.usage == 100 * MIB
    return found.limit


def test_version_1_is_read(tree: Tree) -> None:
    tree.process("5:cpu,cpuacct:/\n4:memory:/job\n0::/", V1_MOUNTS.format(top="/"))
    tree.v1("/job", 128 * MIB)
    directory = str(tree.root / "sys/fs/cgroup/memory/job")
    assert read(tree.root) == replace(HERE, limit=128 * MIB, version=1, directory=directory)


def test_version_2_is_read(tree: Tree) -> None:
    tree.process("0::/job", V2_MOUNTS.format(top="/"))
    tree.v2("/job", 128 * MIB)
    directory = str(tree.root / "sys/fs/cgroup/job")
    assert read(tree.root) == replace(HERE, limit=128 * MIB, version=2, directory=directory)


def test_the_working_set_is_the_usage_less_the_inactive_files() -> None:
    assert HERE.working_set == 60 * MIB


def test_what_a_disk_stands_behind_can_be_taken_back_and_tmpfs_cannot() -> None:
    assert HERE.reclaimable == 52 * MIB


def test_on_a_hybrid_machine_the_version_that_has_the_memory_controller_is_read(tree: Tree) -> None:
    mounts = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n" + V1_MOUNTS.format(top="/")
    tree.process("4:memory:/job\n0::/other", mounts)
    tree.v1("/job", 64 * MIB)
    (tree.root / "sys/fs/cgroup/unified/other").mkdir(parents=True)
    assert limit(tree) == 64 * MIB


def test_the_number_of_version_1_for_unlimited_is_no_limit(tree: Tree) -> None:
    tree.process("4:memory:/job", V1_MOUNTS.format(top="/"))
    tree.v1("/job", UNLIMITED_V1)
    assert limit(tree) is None


def test_the_word_of_version_2_for_unlimited_is_no_limit(tree: Tree) -> None:
    tree.process("0::/job", V2_MOUNTS.format(top="/"))
    tree.v2("/job", "max")
    assert limit(tree) is None


def test_a_limit_above_the_memory_of_the_machine_is_no_limit(tree: Tree) -> None:
    tree.process("0::/job", V2_MOUNTS.format(top="/"))
    tree.v2("/job", 16 * 1024 * MIB)
    assert limit(tree) is None


def test_the_smallest_limit_up_the_hierarchy_counts(tree: Tree) -> None:
    tree.process("0::/kubepods/pod/job", V2_MOUNTS.format(top="/"))
    tree.v2("/kubepods/pod/job", 512 * MIB)
    tree.v2("/kubepods/pod", 256 * MIB)
    tree.v2("/kubepods", 1024 * MIB)
    assert limit(tree) == 256 * MIB


def test_in_version_1_a_limit_above_what_a_container_sees_counts(tree: Tree) -> None:
    tree.process("4:memory:/", V1_MOUNTS.format(top="/"))
    tree.v1("", UNLIMITED_V1, hierarchical=96 * MIB)
    assert limit(tree) == 96 * MIB


def test_being_throttled_is_a_limit_too(tree: Tree) -> None:
    tree.process("0::/job", V2_MOUNTS.format(top="/"))
    tree.v2("/job", 128 * MIB, high=100 * MIB)
    assert limit(tree) == 100 * MIB


def test_a_private_namespace_shows_the_own_group_as_the_root(tree: Tree) -> None:
    tree.process("0::/", V2_MOUNTS.format(top="/"))
    tree.v2("", 128 * MIB)
    assert limit(tree) == 128 * MIB


def test_a_mount_of_a_single_group_is_entered_below_its_own_root(tree: Tree) -> None:
    tree.process("4:memory:/docker/abc/job", V1_MOUNTS.format(top="/docker/abc"))
    tree.v1("/job", 128 * MIB)
    assert limit(tree) == 128 * MIB


def test_a_mount_from_another_namespace_is_read_at_its_root(tree: Tree) -> None:
    tree.process("4:memory:/", V1_MOUNTS.format(top="/../.."))
    tree.v1("", 128 * MIB)
    assert limit(tree) == 128 * MIB


def test_a_group_outside_of_the_namespace_is_read_at_the_mount(tree: Tree) -> None:
    tree.process("0::/../elsewhere", V2_MOUNTS.format(top="/"))
    tree.v2("", 128 * MIB)
    assert limit(tree) == 128 * MIB


def test_a_mount_point_with_a_space_in_it_is_found(tree: Tree) -> None:
    tree.process("0::/job", r"31 23 0:28 / /my\040groups rw - cgroup2 cgroup2 rw")
    tree.v2("/job", 128 * MIB)
    (tree.root / "sys/fs/cgroup").rename(tree.root / "my groups")
    assert limit(tree) == 128 * MIB


def test_the_root_group_of_version_2_counts_nothing(tree: Tree) -> None:
    tree.process("0::/", V2_MOUNTS.format(top="/"))
    tree.write("sys/fs/cgroup/memory.stat", "anon 1")
    assert read(tree.root) is None


def test_without_control_groups_nothing_is_known(tmp_path: Path) -> None:
    assert read(tmp_path) is None


def test_the_numbers_are_of_the_group_whose_limit_holds(tree: Tree) -> None:
    tree.process("0::/pod/job", V2_MOUNTS.format(top="/"))
    tree.v2("/pod/job", "max")
    tree.v2("/pod", 256 * MIB)
    tree.write("sys/fs/cgroup/pod/memory.current", 250 * MIB)
    found = read(tree.root)
    assert found is not None
    assert (found.limit, found.usage) == (256 * MIB, 250 * MIB)


def test_of_equal_limits_that_of_the_own_group_is_read(tree: Tree) -> None:
    tree.process("4:memory:/pod/job", V1_MOUNTS.format(top="/"))
    tree.v1("/pod/job", 128 * MIB, hierarchical=128 * MIB)
    tree.v1("/pod", 128 * MIB)
    found = read(tree.root)
    assert found is not None
    assert found.directory.endswith("/pod/job")


def test_pressure_is_read_where_the_kernel_tells_it(tree: Tree) -> None:
    tree.process("0::/job", V2_MOUNTS.format(top="/"))
    tree.v2("/job", "max")
    lines = "some avg10=12.50 avg60=3.00 avg300=0.10 total=5\nfull avg10=2.25 avg60=1.00 avg300=0.00 total=3"
    tree.write("sys/fs/cgroup/job/memory.pressure", lines)
    found = read(tree.root)
    assert found is not None
    assert found.pressure == Pressure(some_avg10=12.5, full_avg10=2.25)


def test_an_older_kernel_of_version_2_tells_the_pieces_of_its_own_memory(tree: Tree) -> None:
    tree.process("0::/job", V2_MOUNTS.format(top="/"))
    tree.v2("/job", "max")
    tree.write("sys/fs/cgroup/job/memory.stat", "kernel_stack 1000\npercpu 200\nslab 30\nslab_reclaimable 4")
    found = read(tree.root)
    assert found is not None
    assert found.kernel == 1230


def test_what_a_kernel_does_not_tell_is_left_open(tree: Tree) -> None:
    tree.process("0::/job", V2_MOUNTS.format(top="/"))
    tree.write("sys/fs/cgroup/job/memory.current", 5 * MIB)
    found = read(tree.root)
    assert found is not None
    assert (found.limit, found.peak, found.pressure, found.oom_kills) == (None, None, None, 0)


def test_any_group_is_read_with_its_own_limit_and_numbers(tree: Tree) -> None:
    tree.v2("/pod", 64 * MIB)
    tree.v2("/pod/job", 128 * MIB)
    directory = tree.root / "sys/fs/cgroup/pod/job"
    expected = replace(HERE, limit=128 * MIB, version=2, directory=str(directory))
    assert read_group(directory, 2, root=tree.root) == expected


def test_reading_a_group_that_is_gone_is_an_error(tree: Tree) -> None:
    with pytest.raises(FileNotFoundError, match="gone"):
        read_group(tree.root / "sys/fs/cgroup/gone", 2, root=tree.root)


def test_the_groups_of_another_process_are_found(tree: Tree) -> None:
    tree.process("0::/job", V2_MOUNTS.format(top="/"))
    tree.v2("/job", "max")
    tree.v2("/other", "max")
    tree.write("proc/4711/cgroup", "0::/other")
    point = tree.root / "sys/fs/cgroup"
    assert find("memory", tree.root, process=4711) == (2, [point / "other", point])
    assert find("memory", tree.root, process=4712) is None


def test_where_version_1_does_not_count_failed_charges_they_are_unknown(tree: Tree) -> None:
    tree.process("5:memory:/job", V1_MOUNTS.format(top="/"))
    tree.v1("/job", 128 * MIB)
    tree.write("sys/fs/cgroup/memory/job/memory.memsw.limit_in_bytes", 128 * MIB)
    found = read(tree.root)
    assert found is not None
    assert found.failed_charges is None


def test_swap_without_a_limit_is_what_the_machine_has(tree: Tree) -> None:
    tree.process("4:memory:/job", V1_MOUNTS.format(top="/"))
    tree.v1("/job", 128 * MIB)
    tree.write("sys/fs/cgroup/memory/job/memory.memsw.limit_in_bytes", UNLIMITED_V1)
    found = read(tree.root)
    assert found is not None
    assert found.swap_limit == 64 * MIB


@pytest.mark.parametrize("version", [1, 2])
def test_a_gauge_follows_the_group(tree: Tree, version: int) -> None:
    if version == 1:
        tree.process("4:memory:/job", V1_MOUNTS.format(top="/"))
        tree.v1("/job", 128 * MIB)
        usage = "sys/fs/cgroup/memory/job/memory.usage_in_bytes"
    else:
        tree.process("0::/job", V2_MOUNTS.format(top="/"))
        tree.v2("/job", 128 * MIB)
        usage = "sys/fs/cgroup/job/memory.current"
    with Gauge(tree.root) as gauge:
        assert (gauge.limit, gauge.usage(), gauge.working_set()) == (128 * MIB, 100 * MIB, 60 * MIB)
        tree.write(usage, 120 * MIB)
        assert (gauge.usage(), gauge.working_set()) == (120 * MIB, 80 * MIB)


def test_without_control_groups_a_gauge_knows_nothing(tmp_path: Path) -> None:
    with Gauge(tmp_path) as gauge:
        assert (gauge.limit, gauge.usage(), gauge.working_set()) == (None, None, None)


def test_a_closed_gauge_knows_nothing(tree: Tree) -> None:
    tree.process("0::/job", V2_MOUNTS.format(top="/"))
    tree.v2("/job", 128 * MIB)
    gauge = Gauge(tree.root)
    gauge.close()
    gauge.close()
    assert (gauge.usage(), gauge.working_set()) == (None, None)


def in_group(group: FreshGroup, script: str, *arguments: object) -> list[str]:
    """Run Python in a control group; return the words that it printed."""
    start = "import os, sys; from pathlib import Path; from sinks import control_group\n"
    command = group.inside([sys.executable, "-c", start + script, *map(str, arguments)])
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_the_limit_of_a_real_control_group_is_read() -> None:
    with real_group(200 * MIB) as group:
        found = in_group(
            group,
            "held = bytearray(32 << 20); now = control_group.read()\n"
            "print(now.limit, now.usage >= 32 << 20, now.anonymous >= 32 << 20, now.peak >= now.usage)\n"
            "print(now.directory)",
        )
        assert found == [str(200 * MIB), "True", "True", "True", str(group.path)]


def test_what_a_real_group_says_from_within_is_what_it_says_from_outside() -> None:
    with real_group(204 * MIB) as group:
        [within] = in_group(group, "print(control_group.read().peak)")
        assert int(within) <= (group.memory().peak or 0)
        assert (group.memory().limit, group.memory().directory) == (204 * MIB, str(group.path))


def test_the_group_of_a_real_process_is_found() -> None:
    with real_group() as group:
        command = group.inside(["sh", "-c", "echo ready; read line"])
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            groups = find("memory", process=process.pid)
            assert groups is not None
            assert (groups.version, groups.directories[0]) == (group.version, group.path)


def test_written_pages_show_up_as_dirty_page_cache_of_a_real_group(tmp_path: Path) -> None:
    with real_group(201 * MIB) as group:
        found = in_group(
            group,
            f"before = control_group.read(); os.chdir({str(tmp_path)!r})\n"
            "file = open('file', 'wb'); file.write(bytes(24 << 20)); file.flush()\n"
            "now = control_group.read(); print((now.file - before.file) >> 20, now.reclaimable >= 24 << 20)\n"
            "os.ftruncate(file.fileno(), 0)",
        )
        assert found == ["24", "True"]


def test_charges_beyond_a_real_limit_are_counted(tmp_path: Path) -> None:
    with real_group(40 * MIB) as group:
        found = in_group(
            group,
            f"os.chdir({str(tmp_path)!r}); file = open('file', 'wb')\n"
            "for _ in range(64): file.write(bytes(1 << 20))\n"
            "now = control_group.read(); print(now.failed_charges > 0, now.oom_kills)\n"
            "os.ftruncate(file.fileno(), 0)",
        )
        assert found == ["True", "0"]


def test_a_gauge_sees_what_a_real_group_is_charged_with() -> None:
    with real_group(202 * MIB) as group:
        found = in_group(
            group,
            "gauge = control_group.Gauge(); before = gauge.usage(); held = bytearray(32 << 20)\n"
            "grown = gauge.usage() - before >> 20; print(gauge.limit, 31 <= grown <= 34)\n"
            "print(gauge.usage() >= gauge.working_set() >= 32 << 20)",
        )
        assert found == [str(202 * MIB), "True", "True"]


def test_a_gauge_of_a_group_that_is_gone_knows_nothing() -> None:
    with real_group() as other, real_group() as group:
        found = in_group(
            group,
            "gauge = control_group.Gauge(); print(gauge.usage() > 0)\n"
            "Path(sys.argv[1]).write_text(str(os.getpid())); Path(sys.argv[2]).rmdir()\n"
            "print(gauge.usage(), gauge.working_set())",
            other.path / "cgroup.procs",
            group.path,
        )
        assert found == ["True", "None", "None"]
