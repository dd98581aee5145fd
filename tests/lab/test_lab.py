"""`etl lab`: every strategy writes the same, is measured, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from etl.cli import main
from etl.lab import experiment, fresh_group
from etl.lab.experiment import Experiment
from etl.lab.report import Report
from etl.lab.strategies import select
from etl.lab.stream import Stream
from tests.control_groups import real_group

pytestmark = pytest.mark.volume

MIB = 2**20
SMALL = Stream(lines=20_000, line_bytes=100, part_bytes=MIB)
ETL = [sys.executable, "-m", "etl"]
MEMORY = Path("/dev/shm")


def lab(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*ETL, "lab", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def groups() -> set[Path]:
    """Return the groups made for experiments that exist now, wherever they may have been made."""
    return {path for place, _ in fresh_group._places() for path in place.glob("etl-*")}


def command_lines() -> list[str]:
    """Return those of all processes."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            lines.append(path.read_text(errors="replace"))
    return lines


@pytest.fixture
def needs_groups() -> None:
    real_group().remove()


@pytest.fixture
def no_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_group, "_places", lambda: iter(()))


@pytest.mark.usefixtures("needs_groups")
def test_the_limit_holds_and_what_it_costs_a_plain_file_is_counted(tmp_path: Path) -> None:
    stream = Stream(lines=640_000, line_bytes=100, part_bytes=MIB)
    strategies = select(["naive_big_file", "big_file (drop)"])
    report = Experiment(stream=stream, strategies=strategies, limit=32 * MIB, directory=tmp_path).run()
    plain, sink = report.outcomes
    assert report.measured_in == "fresh cgroup"
    assert plain.failed_charges
    assert sink.failed_charges == 0
    assert (plain.peak_charged_bytes or 0) <= 32 * MIB
    assert (sink.peak_page_cache_bytes or 0) < (plain.peak_page_cache_bytes or 0)


@pytest.mark.usefixtures("needs_groups")
@pytest.mark.skipif(not MEMORY.is_dir(), reason="there is no file system in memory")
def test_a_strategy_that_the_kernel_kills_is_a_row_and_no_failure() -> None:
    before = set(MEMORY.glob("etl-lab-*"))
    arguments = ("--quick", "--lines", 600_000, "--directory", MEMORY, "--json", "-")
    done = lab(*arguments, "--only", "naive_big_file", "--only", "dev_null")
    killed, control = json.loads(done.stdout)["outcomes"]
    assert done.returncode == 0, done.stderr
    assert (killed["status"], killed["oom_kills"], killed["seconds"]) == ("killed", 1, None)
    assert control["status"] == "done"
    assert "killed: by the kernel, at the limit of 32 MiB of its cgroup" in done.stderr
    assert set(MEMORY.glob("etl-lab-*")) == before


def test_a_strategy_that_fails_is_a_row_and_a_failure(tmp_path: Path) -> None:
    command = [*ETL, "lab", "--quick", "--directory", str(tmp_path), "--json", "-"]
    command += ["--only", "naive_big_file", "--only", "big_file (drop)", "--only", "null"]
    limited = ["sh", "-c", 'ulimit -f 4096; exec "$@"', "sh", *command]
    done = subprocess.run(limited, capture_output=True, text=True, timeout=600, check=False)
    plain, sink, null = json.loads(done.stdout)["outcomes"]
    assert done.returncode == 1
    assert (plain["status"], sink["status"], null["status"]) == ("failed", "failed", "done")
    assert "File too large" in plain["reason"]
    assert sink["reason"].startswith("cannot write")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_groups")
def test_where_no_group_can_be_made_its_own_is_measured_and_that_is_said(tmp_path: Path) -> None:
    arguments = [
        "lab",
        "--quick",
        "--lines",
        "20000",
        "--directory",
        str(tmp_path),
        "--only",
        "naive_big_file",
    ]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "measured without a fresh cgroup" in done.stderr
    assert "no memory cgroup can be made here" in done.stderr


@pytest.mark.usefixtures("no_groups")
def test_in_its_own_group_no_limit_of_ours_is_claimed(tmp_path: Path) -> None:
    strategies = select(["naive_big_file"])
    report = Experiment(stream=SMALL, strategies=strategies, limit=MIB, directory=tmp_path).run()
    [outcome] = report.outcomes
    assert report.measured_in != "fresh cgroup"
    assert report.limit_bytes != MIB
    assert (outcome.status, outcome.kept_bytes) == ("done", SMALL.length)


def test_where_caches_cannot_be_dropped_that_strategy_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "DROP_CACHES", tmp_path / "drop_caches")
    strategies = select(["naive_drop_caches"])
    report = Experiment(stream=SMALL, strategies=strategies, limit=None, directory=tmp_path).run()
    assert report.outcomes[0].status == "skipped"
    assert "only root" in report.outcomes[0].reason


def test_caches_are_dropped_while_it_writes_and_clean_ones_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = tmp_path / "drop_caches"
    switch.touch()
    monkeypatch.setattr(experiment, "DROP_CACHES", switch)
    monkeypatch.setattr(experiment, "DROPPED_EVERY", 0.01)
    strategies = select(["naive_drop_caches", "null"])
    report = Experiment(stream=SMALL, strategies=strategies, limit=None, directory=tmp_path).run()
    assert [outcome.strategy for outcome in report.outcomes] == ["naive_drop_caches", "null"]
    assert switch.read_text() == "1\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_it_leaves_no_file_no_group_and_no_process(tmp_path: Path, number: signal.Signals) -> None:
    before = groups()
    command = [*ETL, "lab", "--lines", "50000000", "--only", "naive_big_file", "--directory", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 120
        while not any(path.stat().st_size for path in tmp_path.glob("*/files/*")):
            assert process.poll() is None
            assert time.monotonic() < until
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 75
    assert said.endswith("interrupted\n")
    assert list(tmp_path.iterdir()) == []
    assert not [group for group in groups() - before if f"etl-{process.pid}-" in group.name]
    assert not [line for line in command_lines() if str(tmp_path) in line]


def test_without_room_on_the_disk_it_says_what_it_needs_and_writes_nothing(tmp_path: Path) -> None:
    done = lab("--lines", 10**13, "--only", "big_file", "--directory", tmp_path)
    assert done.returncode == 1
    assert "big_file (keep) needs 909.5 TiB in" in done.stderr
    assert "--lines" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nothing"], "no strategy is called 'nothing'; there are: naive_big_file, "),
        (["--picture", "lab.gif"], "the name must end in .svg or .png"),
        (["--picture", "nowhere/lab.svg"], "its directory does not exist"),
        (["--json", "nowhere/lab.json"], "its directory does not exist"),
        (["--line-bytes", "20"], "20 is not in the range x>=40"),
        (["--part-bytes", "100"], "a part has 64 KiB at least, not 100 bytes"),
        (["--limit", "much"], "--limit: expected a size"),
        (
            ["--limit", "16MiB"],
            "--limit: 16 MiB are too little, the process alone takes 15 MiB; give it 24 MiB or",
        ),
        (["--directory", "nowhere"], "Directory 'nowhere' does not exist"),
        (["--json", "a.svg", "--picture", "./a.svg"], "these are not all different files"),
        (["--redraw", __file__, "--json", __file__], "these are not all different files"),
        (
            ["--redraw", __file__, "--quick", "--line-bytes", "100"],
            "so --line-bytes, --quick would do nothing",
        ),
        (["--redraw", __file__], "is not what `etl lab --json` writes"),
    ],
)
def test_a_wrong_command_line_is_said_before_anything_is_done(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(main, ["lab", *arguments])
    assert done.exit_code == 2
    assert message in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_json_that_cannot_be_written_is_said_in_words(tmp_path: Path) -> None:
    arguments = ("--quick", "--lines", 1000, "--only", "null", "--directory", tmp_path)
    done = lab(*arguments, "--json", "/dev/full")
    assert done.returncode == 1
    assert "--json /dev/full cannot be written: No space left on device; choose another" in done.stderr
    assert "null" in done.stdout


@pytest.mark.skipif(not MEMORY.is_dir(), reason="there is no file system in memory")
def test_a_directory_in_memory_is_noted_once_and_each_reason_is_told_once() -> None:
    only = ("--only", "null", "--only", "big_file (drop)")
    done = lab("--quick", "--limit", "64MiB", "--lines", 300_000, "--directory", MEMORY, *only)
    assert done.stderr.count("note: /dev/shm is on tmpfs, which is memory") == 1
    assert (done.stdout + done.stderr).count("which is memory: it is charged to this job") == 1


def test_a_report_survives_being_stored() -> None:
    report = Report(
        lines=1, line_bytes=100, stream_bytes=100, part_bytes=MIB, limit_bytes=None, measured_in="nothing",
        kernel=os.uname().release, file_system=None, python="3",
    )  # fmt: skip
    assert Report.from_json(report.to_json(), "here") == report
