"""A memory cgroup that is made for one process: it counts, it limits, and it goes away."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from etl.errors import NoFreshGroup
from etl.lab import fresh_group
from etl.lab.fresh_group import FreshGroup
from tests.control_groups import real_group

MIB = 2**20

WRITE = "import sys; f = open(sys.argv[1], 'wb'); [f.write(bytes(2**20)) for _ in range(int(sys.argv[2]))]"
ALLOCATE = "held = [bytearray(b'x' * 2**20) for _ in range({})]"


def run(group: FreshGroup, code: str, *arguments: object) -> int:
    command = [sys.executable, "-S", "-c", code, *map(str, arguments)]
    return subprocess.run(group.inside(command), check=False).returncode


def test_what_a_process_writes_is_counted(tmp_path: Path) -> None:
    with real_group() as group:
        assert run(group, WRITE, tmp_path / "file", 32) == 0
        assert group.memory().file >= 32 * MIB
        assert group.memory().working_set < group.memory().usage
        assert (group.memory().peak or 0) >= 32 * MIB


def test_without_a_limit_nothing_fails(tmp_path: Path) -> None:
    with real_group() as group:
        assert run(group, WRITE, tmp_path / "file", 32) == 0
        assert (group.memory().failed_charges, group.memory().oom_kills) == (0, 0)


def test_a_limit_holds_for_a_writer_and_what_it_cost_is_counted(tmp_path: Path) -> None:
    with real_group(32 * MIB) as group:
        assert run(group, WRITE, tmp_path / "file", 64) == 0
        found = group.memory()
        assert found.usage <= 32 * MIB == found.limit
        assert (found.failed_charges or 0) > 0
        assert found.oom_kills == 0


def test_a_process_that_takes_more_than_the_limit_is_killed_and_counted() -> None:
    with real_group(32 * MIB) as group:
        assert run(group, ALLOCATE.format(64)) == -signal.SIGKILL
        assert group.memory().oom_kills == 1


def test_the_group_is_gone_afterwards_and_may_be_removed_again() -> None:
    with real_group() as group:
        assert group.path.is_dir()
    assert not group.path.exists()
    group.remove()


def test_it_cannot_be_read_when_it_is_gone() -> None:
    group = real_group()
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
