"""A memory cgroup that is made for one process: it counts, it limits, and it goes away."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from etl.lab import fresh_group
from etl.lab.fresh_group import FreshGroup, GroupFiles, NoFreshGroup

MIB = 2**20

WRITE = "import sys; f = open(sys.argv[1], 'wb'); [f.write(bytes(2**20)) for _ in range(int(sys.argv[2]))]"
ALLOCATE = "held = [bytearray(b'x' * 2**20) for _ in range({})]"


needs_groups = pytest.mark.usefixtures("groups")


@pytest.fixture
def groups() -> None:
    try:
        FreshGroup().remove()
    except NoFreshGroup as error:
        pytest.skip(str(error))


def run(group: FreshGroup, code: str, *arguments: object) -> int:
    command = [sys.executable, "-S", "-c", code, *map(str, arguments)]
    return subprocess.run(command, preexec_fn=group.join, check=False).returncode


@needs_groups
def test_what_a_process_writes_is_counted(tmp_path: Path) -> None:
    with FreshGroup() as group:
        assert run(group, WRITE, tmp_path / "file", 32) == 0
        assert group.memory().file >= 32 * MIB
        assert group.memory().working_set < group.memory().usage
        assert (group.peak() or 0) >= 32 * MIB


@needs_groups
def test_without_a_limit_nothing_fails(tmp_path: Path) -> None:
    with FreshGroup() as group:
        assert run(group, WRITE, tmp_path / "file", 32) == 0
        assert (group.failed_charges(), group.oom_kills()) == (0, 0)


@needs_groups
def test_a_limit_holds_for_a_writer_and_what_it_cost_is_counted(tmp_path: Path) -> None:
    with FreshGroup(limit=32 * MIB) as group:
        assert run(group, WRITE, tmp_path / "file", 64) == 0
        assert group.memory().usage <= 32 * MIB
        assert group.failed_charges() > 0
        assert group.oom_kills() == 0


@needs_groups
def test_a_process_that_takes_more_than_the_limit_is_killed_and_counted() -> None:
    with FreshGroup(limit=32 * MIB) as group:
        assert run(group, ALLOCATE.format(64)) == -signal.SIGKILL
        assert group.oom_kills() == 1


@needs_groups
def test_the_group_is_gone_afterwards_and_may_be_removed_again() -> None:
    with FreshGroup() as group:
        assert group.path.is_dir()
    assert not group.path.exists()
    group.remove()


@needs_groups
def test_it_cannot_be_read_when_it_is_gone() -> None:
    group = FreshGroup()
    group.remove()
    with pytest.raises(OSError, match="No such file"):
        group.memory()


def test_a_place_where_none_can_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_group, "_places", lambda: iter([(tmp_path / "nowhere", 1)]))
    with pytest.raises(NoFreshGroup, match=r"No such file or directory \(.*nowhere\)\. Run this as root"):
        FreshGroup()


def test_a_directory_that_is_no_cgroup_is_refused_and_left_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cgroup.subtree_control").write_text("cpu\n")
    monkeypatch.setattr(fresh_group, "_places", lambda: iter([(tmp_path, 2)]))
    with pytest.raises(NoFreshGroup):
        FreshGroup(limit=MIB)
    assert [path.name for path in tmp_path.iterdir()] == ["cgroup.subtree_control"]


def test_the_files_of_version_2_are_read(tmp_path: Path) -> None:
    for name, text in {
        "memory.current": f"{50 * MIB}\n",
        "memory.stat": f"anon {9 * MIB}\nfile {40 * MIB}\ninactive_file {30 * MIB}\nfile_dirty 4096\nshmem 0\n",
        "memory.peak": f"{60 * MIB}\n",
        "memory.events": "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n",
    }.items():
        (tmp_path / name).write_text(text)
    group = GroupFiles(tmp_path, version=2)
    memory = group.memory()
    assert (memory.usage, memory.working_set) == (50 * MIB, 20 * MIB)
    assert (memory.file, memory.anonymous, memory.dirty) == (40 * MIB, 9 * MIB, 4096)
    assert (group.peak(), group.failed_charges(), group.oom_kills()) == (60 * MIB, 7, 1)


def test_before_linux_5_19_version_2_tells_no_peak(tmp_path: Path) -> None:
    assert GroupFiles(tmp_path, version=2).peak() is None
