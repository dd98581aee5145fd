"""`etl doctor` in real control groups, on real file systems, and where there is nothing to be seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from etl import config
from etl.commands.doctor import Diagnosis, diagnose
from etl.lab.fresh_group import FreshGroup
from etl.places import look
from tests.control_groups import MIB, V2_MOUNTS, Tree, real_group
from tests.disks import disk, mounted, needs_root

JOB = """
name = "numbers"
{more}

[source]
type = "files"
paths = "*.ndjson"

[sink]
type = "{sink}"
path = "{out}/job.ndjson"

[warehouse]
type = "duckdb"
path = "{database}"
table = "numbers"
"""


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    tree = Tree(tmp_path / "root")
    tree.process("0::/job", V2_MOUNTS.format(top="/"))
    return tree


def write_job(
    *, sink: str = "reused_file", out: Any = "out", database: Any = "numbers.duckdb", more: str = ""
) -> Path:
    path = Path("job.toml")
    path.write_text(JOB.format(sink=sink, out=out, database=database, more=more))
    return path


def doctor(*words: Any, group: FreshGroup | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command, in a control group if one is given."""
    command = [sys.executable, "-m", "etl", "doctor", *map(str, words)]
    if group is not None:
        command = group.inside(command)
    return subprocess.run(command, capture_output=True, text=True, check=False)


def check(job: str) -> str:
    """Return what `etl check` says on standard error."""
    command = [sys.executable, "-m", "etl", "check", job]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def of_job(tree: Tree, **words: Any) -> Diagnosis:
    return diagnose(config.read(write_job(**words)), root=tree.root)


def test_a_real_group_with_a_limit_is_well(tmp_path: Path) -> None:
    write_job()
    with real_group(128 * MIB) as group:
        done = doctor("job.toml", group=group)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"control group version {group.version}, limit 128 MiB\n" in done.stdout
    assert f"read in {group.path} " in " ".join(done.stdout.split())
    assert "working set" in done.stdout
    assert "reused_file: as it is; takes 2 parts of 8 MiB at most" in done.stdout
    assert "of 128 MiB: parts of 8 MiB, 64 MiB and 1 thread for an embedded warehouse" in done.stdout


def test_json_tells_the_same() -> None:
    write_job()
    with real_group(129 * MIB) as group:
        text = doctor("job.toml", group=group).stdout
        found = json.loads(doctor("job.toml", "--json", group=group).stdout)
    assert (found["memory"]["limit"], found["budget"]["limit"]) == (129 * MIB, 129 * MIB)
    assert 0 < found["memory"]["working_set"] <= found["memory"]["usage"]
    assert [place["role"] for place in found["places"]] == ["sink", "warehouse", "checkpoint", "rejects"]
    for place in found["places"]:
        assert f"{place['role']} {Path(place['path']).relative_to(Path.cwd())}" in " ".join(text.split())
        assert f"{place['directory']}: {place['file_system']}" in " ".join(text.split())
    assert [advice["sink"] for advice in found["advice"]] == ["reused_file"]
    assert found["problems"] == []
    assert text.count("\nwarning ") == len(found["warnings"])


def test_nothing_is_written() -> None:
    write_job()
    before = Path().stat().st_mtime_ns
    done = doctor("job.toml")
    assert done.returncode == 0
    assert (Path().stat().st_mtime_ns, list(Path().iterdir())) == (before, [Path("job.toml")])


def test_without_a_job_the_path_and_the_temporary_directory_are_looked_at(tmp_path: Path) -> None:
    found = json.loads(doctor("--path", "not/yet/made", "--json").stdout)
    here, temporary = found["places"]
    assert (here["path"], here["directory"]) == (str(tmp_path / "not/yet/made"), str(tmp_path))
    assert temporary["role"] == "temporary"
    assert [advice["sink"] for advice in found["advice"]] == ["reused_file", "numbered_chunks"]


def test_without_control_groups_it_says_so(tmp_path: Path) -> None:
    found = diagnose(root=tmp_path)
    assert (found.memory, found.budget.limit, found.problems) == (None, None, ())
    assert any(text.startswith("no memory limit is set") for text in found.warnings)


def test_a_wrong_job_file_and_two_ways_of_asking_are_misconfigured() -> None:
    write_job(sink="big_fil")
    assert doctor("job.toml").returncode == 2
    assert doctor("job.toml", "--path", ".").returncode == 2


@needs_root
def test_a_read_only_disk_will_not_work(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "tmpfs", "size=4m", "ro") as place:
        write_job(out=place)
        done = doctor("job.toml")
    assert done.returncode == 1
    words = " ".join(done.stdout.split())
    assert f"problem sink: {place} is on a file system that is mounted read-only" in words


def test_a_directory_of_somebody_else_will_not_work(tree: Tree) -> None:
    [place] = diagnose(path=Path("/proc/self/here"), root=tree.root).places[:1]
    assert place.obstacle is not None
    assert "may not be written by this user" in place.obstacle


@needs_root
def test_a_directory_that_this_user_may_not_even_look_into_will_not_work(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    os.seteuid(65534)
    try:
        place = look(tmp_path / "closed/job", "path")
    finally:
        os.seteuid(0)
    assert place.obstacle is not None
    assert place.obstacle.endswith("may not be written by this user (uid 65534)")


def test_a_file_in_the_way_will_not_work(tree: Tree) -> None:
    Path("out").write_text("")
    [problem] = of_job(tree).problems
    assert problem.startswith(f"sink: {Path.cwd()}/out is in the way: it is not a directory; ")


def test_a_directory_in_the_place_of_a_file_will_not_work(tree: Tree) -> None:
    Path("numbers.duckdb").mkdir()
    [problem] = of_job(tree).problems
    assert problem.startswith(f"warehouse: {Path.cwd()}/numbers.duckdb is a directory")


@needs_root
def test_an_output_that_stays_does_not_fit_memory(tree: Tree) -> None:
    tree.v2("/job", 128 * MIB)
    with disk(Path.cwd(), "tmpfs") as place:
        found = of_job(tree, sink="numbered_chunks", out=place)
        assert [text.split(";")[0] for text in found.problems] == [
            f"sink: {place}/job.ndjson grows on tmpfs, which is memory that is charged to the job and cannot be "
            "dropped"
        ]
        assert found.advice[0].sink == "reused_file"


@needs_root
def test_a_database_does_not_fit_memory(tree: Tree) -> None:
    tree.v2("/job", 128 * MIB)
    with disk(Path.cwd(), "tmpfs") as place:
        [problem] = of_job(tree, database=place / "numbers.duckdb").problems
    assert problem.startswith("warehouse: ")


@needs_root
def test_parts_in_transit_fit_memory_with_a_warning(tree: Tree) -> None:
    tree.v2("/job", 128 * MIB)
    with disk(Path.cwd(), "tmpfs") as place:
        found = of_job(tree, out=place)
    assert found.problems == ()
    assert any(text.startswith(f"sink: {place} is on tmpfs, which is memory: ") for text in found.warnings)


@needs_root
def test_an_output_on_a_small_tmpfs_that_the_limit_has_room_for_is_a_warning(tree: Tree) -> None:
    tree.v2("/job", 128 * MIB)
    with mounted(Path("small").absolute(), "tmpfs", "size=16m") as place:
        found = of_job(tree, sink="big_file", out=place)
    assert found.problems == ()
    assert any("gone when the container ends" in text for text in found.warnings)


@needs_root
def test_the_layer_of_a_container_is_named(tree: Tree) -> None:
    with disk(Path.cwd(), "overlayfs") as place:
        found = of_job(tree, out=place)
        assert found.places[0].methods[0] == "fdatasync"
    assert any("is on overlayfs, the container's own layer" in text for text in found.warnings)


@needs_root
def test_a_layer_that_is_mounted_volatile_is_named(tree: Tree) -> None:
    with disk(Path.cwd(), "volatile") as place:
        found = of_job(tree, out=place)
        assert found.places[0].volatile
    assert any("is mounted volatile: no sync does anything there" in text for text in found.warnings)


@needs_root
def test_a_full_disk_will_not_work(tree: Tree) -> None:
    with mounted(Path("small").absolute(), "tmpfs", "size=2m") as place:
        (place / "file").write_bytes(bytes(2 * MIB - 64 * 1024))
        [problem] = of_job(tree, out=place).problems
    assert problem.startswith(f"sink: 64 KiB are free in {place}; ")


@needs_root
def test_few_files_are_counted(tree: Tree) -> None:
    with mounted(Path("small").absolute(), "tmpfs", "size=8m,nr_inodes=60") as place:
        found = of_job(tree, out=place)
    assert found.places[0].inodes is not None
    assert any("more can be made" in text for text in found.warnings)


@needs_root
def test_with_little_disk_what_takes_little_is_better_than_what_the_job_has(tree: Tree) -> None:
    with disk(Path.cwd(), "ext4") as place:  # of 400 MiB
        found = of_job(tree, sink="big_file", out=place)
    assert [each.sink for each in found.advice] == ["reused_file", "big_file"]


def test_with_room_the_sink_that_the_job_has_is_the_first(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.advice.LITTLE_DISK", 1)
    assert [each.sink for each in of_job(tree, sink="big_file").advice] == ["big_file", "reused_file"]


def test_the_parts_are_not_larger_than_the_job_wants_them(tree: Tree) -> None:
    assert of_job(tree, more='part_bytes = "1MiB"').budget.part_bytes == MIB


@pytest.mark.parametrize(
    ("name", "text", "warning"),
    [
        ("memory.current", 150 * MIB, "the working set is 86% of the limit"),
        ("memory.events", "max 3\noom_kill 2", "2 times the kernel killed a process"),
        ("memory.swap.max", 64 * MIB, "there is swap (4 MiB are in it, 64 MiB may be)"),
        (
            "memory.pressure",
            "some avg10=41.00 avg60=3.00",
            "tasks here waited for memory 41 % of the last ten",
        ),
        ("memory.max", "max", "no memory limit is set"),
        (
            "memory.max",
            127 * MIB,
            "DuckDB's library alone (64 MiB) is charged to the container that touches it",
        ),
    ],
)
def test_what_may_end_badly_is_told(tree: Tree, name: str, text: str | int, warning: str) -> None:
    tree.v2("/job", 128 * MIB)
    tree.write(f"sys/fs/cgroup/job/{name}", text)
    assert any(each.startswith(warning) for each in of_job(tree).warnings)


def test_a_limit_with_room_for_the_library_of_duckdb_is_not_warned_of(tree: Tree) -> None:
    tree.v2("/job", 128 * MIB)
    assert not [each for each in of_job(tree).warnings if "DuckDB" in each or "warehouse" in each]


def test_a_job_that_gives_itself_too_little_is_refused_by_doctor_check_and_run(tree: Tree) -> None:
    Path("1.ndjson").write_text('{"n": 1}\n')
    lack = "it has 95 MiB of memory and needs 96 MiB: 24 MiB for Python and this library"
    assert any(each.startswith(f"memory: {lack}") for each in of_job(tree, more='memory = "95MiB"').problems)
    for command in ("check", "run"):
        words = [sys.executable, "-m", "etl", command, "job.toml"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert lack in done.stderr
    assert not Path("job.checkpoint.json").exists()


def test_without_a_warehouse_nothing_is_said_about_one(tree: Tree) -> None:
    tree.v2("/job", 64 * MIB)
    Path("1.ndjson").write_text('{"n": 1}\n')
    job = write_job(sink="big_file", more='memory = "64MiB"')
    job.write_text(job.read_text().partition("[warehouse]")[0])
    warnings = diagnose(config.read(job), root=tree.root).warnings
    assert not [each for each in warnings if "DuckDB" in each or "warehouse" in each]
    assert "budget   of 64 MiB: parts of 4 MiB\n" in doctor("job.toml").stdout
    assert "memory      64 MiB; 32 MiB are needed\n" in check("job.toml")


def test_more_memory_than_there_is_cannot_be_had_by_asking(tree: Tree) -> None:
    tree.v2("/job", 128 * MIB)
    found = of_job(tree, more='memory = "1GiB"')
    assert found.budget.limit == 128 * MIB
    assert (
        "the job's `memory` is 1 GiB, but its control group allows 128 MiB: that one counts" in found.warnings
    )


def test_a_job_that_writes_nothing_needs_no_disk(tree: Tree) -> None:
    Path("job.toml").write_text('[source]\ntype = "files"\npaths = "*.csv"\n[sink]\ntype = "null"\n')
    found = diagnose(config.read("job.toml"), root=tree.root)
    assert [place.role for place in found.places] == ["checkpoint", "rejects"]
    assert [each.reason for each in found.advice] == ["it takes no local disk"]
