"""The small form of `etl lab`, run once from the command line, with everything that comes out of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from etl.lab.strategies import all_strategies, select

pytestmark = pytest.mark.volume


def lab(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "etl", "lab", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def done(directory: Path) -> subprocess.CompletedProcess[str]:
    (directory / "files").mkdir()
    return lab(
        "--quick", "--lines", 30_000, "--part-bytes", "1MB", "--directory", directory / "files",
        "--json", directory / "lab.json", "--picture", directory / "lab.svg",
    )  # fmt: skip


@pytest.fixture(scope="module")
def report(done: subprocess.CompletedProcess[str], directory: Path) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads((directory / "lab.json").read_bytes())
    return report


def test_each_strategy_writes_all_of_the_stream(report: dict[str, Any]) -> None:
    assert [outcome["strategy"] for outcome in report["outcomes"]] == [s.name for s in select([])]
    for outcome in report["outcomes"]:
        assert (outcome["status"], outcome["written_bytes"]) == ("done", 3_000_000), outcome


def test_the_files_that_stay_hold_all_of_it(report: dict[str, Any]) -> None:
    keeps = {strategy.name: strategy.keeps for strategy in all_strategies()}
    for outcome in report["outcomes"]:
        assert outcome["kept_bytes"] == (3_000_000 if keeps[outcome["strategy"]] else None), outcome


def test_the_disk_used_is_all_or_a_part_or_nothing(report: dict[str, Any]) -> None:
    used = {outcome["strategy"]: outcome["disk_bytes"] for outcome in report["outcomes"]}
    assert 3_000_000 <= used["big_file (drop)"] < 4_000_000
    assert used["reused_file (drop)"] < 2_200_000
    assert used["null"] == used["dev_null"] == 0


def test_the_names_of_the_fields_hold_their_units(report: dict[str, Any]) -> None:
    assert report["stream_bytes"] == 3_000_000
    assert report["outcomes"][0].keys() >= {
        "seconds",
        "bytes_per_second",
        "peak_page_cache_bytes",
        "peak_working_set_bytes",
        "failed_charges",
        "oom_kills",
        "disk_bytes",
    }
    assert report["outcomes"][0]["samples"][0].keys() >= {
        "seconds",
        "written_bytes",
        "page_cache_bytes",
        "working_set_bytes",
    }


def test_a_sink_says_by_which_method_it_wrote(report: dict[str, Any]) -> None:
    methods = {outcome["strategy"]: outcome["method"] for outcome in report["outcomes"]}
    assert methods["big_file (keep)"] == "keep (asked for)"
    assert not methods["big_file (drop)"].startswith("keep (asked for)")


def test_the_table_has_a_row_for_each(done: subprocess.CompletedProcess[str]) -> None:
    begins = [line.split("  ")[0] for line in done.stdout.splitlines()]
    assert [begin for begin in begins if begin in {s.name for s in all_strategies()}] == [
        strategy.name for strategy in select([])
    ]


def test_nothing_is_left_where_it_wrote(done: subprocess.CompletedProcess[str], directory: Path) -> None:
    assert list((directory / "files").iterdir()) == []


def test_the_svg_is_one_and_names_each_strategy(report: dict[str, Any], directory: Path) -> None:
    texts = {element.text for element in ElementTree.parse(directory / "lab.svg").iter()}
    shown = {outcome["strategy"] for outcome in report["outcomes"] if outcome["samples"]}
    assert shown <= texts


def test_the_png_is_one_and_describes_each_strategy(report: dict[str, Any], directory: Path) -> None:
    done = lab("--redraw", directory / "lab.json", "--picture", directory / "lab.png")
    assert done.returncode == 0, done.stderr
    picture = (directory / "lab.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert picture.endswith(b"IEND\xaeB`\x82")
    for outcome in report["outcomes"]:
        assert outcome["strategy"].encode() in picture


@pytest.mark.parametrize("more", [["--quick"], ["--redraw", "lab.json"]])
def test_without_matplotlib_a_picture_is_refused_before_anything_is_done(
    report: dict[str, Any], directory: Path, tmp_path: Path, more: list[str]
) -> None:
    script = "import sys; sys.modules['matplotlib'] = None; from etl.cli import main; main()"
    arguments = ["lab", *more, "--json", tmp_path / "lab.json", "--picture", tmp_path / "lab.svg"]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False, cwd=directory
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'etl-sinks[lab]'" in done.stderr
    assert list(tmp_path.iterdir()) == []
