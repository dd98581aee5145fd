"""The page-cache benchmark in a quick form: it runs, its figures are sane, and it leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import cache_picture, cache_report
from benchmarks.cache_runs import Case, Run
from benchmarks.places import Place
from tests.control_groups import real_group

MIB = 2**20
REPOSITORY = Path(__file__).resolve().parents[1]
PLACE = Place(name="directory", title="ext4", directory=Path("/nowhere"), file_system="ext4", made="by hand")


def command(directory: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.page_cache", "--directory", str(directory), *options]


@pytest.fixture
def on_a_disk(tmp_path):
    """A directory on a disk, for a user who may mount and make groups."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount file systems")
    real_group().remove()
    kind = subprocess.run(["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True, check=True)
    if kind.stdout.strip() in ("tmpfs", "overlayfs"):
        pytest.skip(f"{tmp_path} is on {kind.stdout.strip()}; an overlay needs another file system below")
    return tmp_path


@pytest.mark.volume
@pytest.mark.slow
def test_plain_fills_the_page_cache_and_ours_does_not(on_a_disk):
    file = on_a_disk / "result.json"
    quick = ["--bytes", "96MiB", "--read", "64MiB", "--buffers", "1MiB", "--runs", "1", "--growth", "0"]
    places = ["--places", "directory,ext4-loop,overlayfs", "--json", str(file)]
    said = subprocess.run(
        command(on_a_disk / "work", *quick, *places, "--markdown", str(on_a_disk / "result.md")),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    runs = json.loads(file.read_text())["runs"]
    found = {
        tuple(run["case"][key] for key in ("place", "what", "limit", "method")): run
        for run in runs
        if run["case"]["buffer"] == MIB
    }
    # A loop device is not to be had in every container; the other two are.
    for place in {run["case"]["place"] for run in runs} | {"directory", "overlayfs"}:
        plain, ours = (found[place, "write", None, method] for method in ("plain", "auto"))
        assert plain["cache"] >= 90 * MIB
        assert ours["cache"] <= 24 * MIB
        assert 4 * MIB <= ours["seen"] <= 24 * MIB
        assert ours["chosen"] == ("fdatasync" if place == "overlayfs" else "write_behind")
        plain, ours = (found[place, "write", 64 * MIB, method] for method in ("plain", "auto"))
        assert plain["failed_charges"] > 0
        assert ours["failed_charges"] == 0
        assert ours["working_set"] < 64 * MIB
        plain, ours = (found[place, "read", None, method] for method in ("plain", "auto"))
        assert plain["cache"] >= 60 * MIB
        assert ours["cache"] <= 32 * MIB  # the readahead of the disk is in it, 8 MiB and more on some
    assert "| overlayfs |" in (on_a_disk / "result.md").read_text()


@pytest.mark.volume
@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_benchmark_leaves_nothing_behind(on_a_disk, stop):
    work = on_a_disk / "work"
    endless = ["--bytes", "16MiB", "--runs", "100000", "--places", "ext4-loop"]
    with subprocess.Popen(
        command(work, *endless), cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = iter(process.stdout)
        if any("skipped" in line for line in (next(lines), next(lines), next(lines))):
            pytest.skip("no loop device can be had here")
        process.send_signal(stop)
        process.stdout.read()
        assert process.wait() == 1
    assert list(work.iterdir()) == []
    devices = subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=False).stdout
    assert str(work) not in devices


def runs(ours: int, failed: int, seconds: float) -> list[Run]:
    """Plain takes 2 s and fills everything; ours as told."""
    found = []
    for limit in (None, 64 * MIB):
        for method, cache, charges, took in (("plain", 1 << 30, 99, 2.0), ("auto", ours, failed, seconds)):
            case = Case(
                place="directory", what="write", method=method, bytes=1 << 30, buffer=MIB, limit=limit
            )
            counted = charges if limit else 0
            found.append(Run(case=case, seconds=took, cache=cache, working_set=cache, failed_charges=counted))
    return found


def test_what_keeps_the_promises_is_reached_and_what_breaks_them_is_missed():
    kept = cache_report.targets(cache_report.rows(runs(16 * MIB, 0, 1.0), [PLACE]))
    broken = cache_report.targets(cache_report.rows(runs(25 * MIB, 1, 3.0), [PLACE]))
    assert [target.reached for target in kept] == [True] * 4
    assert [target.reached for target in broken] == [False] * 4
    assert "0 of 4 reached" in cache_report.verdicts(broken)
    assert "MISSED   ext4                 plain 1,024 MiB    25.0 MiB" in cache_report.verdicts(broken)


def test_the_worst_run_counts_for_memory_and_the_middle_one_for_speed():
    three = [*runs(16 * MIB, 0, 1.0), *runs(20 * MIB, 0, 0.5), *runs(8 * MIB, 0, 9.0)]
    peak, _, speed, _ = cache_report.targets(cache_report.rows(three, [PLACE]))
    assert peak.ours == "20.0 MiB"
    assert speed.ours.startswith("2.00 times")


def test_the_picture_comes_out_the_same_each_time(tmp_path):
    pytest.importorskip("matplotlib")
    table = cache_report.rows(runs(16 * MIB, 0, 1.0), [PLACE])
    for name in ("one.svg", "two.svg"):
        cache_picture.draw(table, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
