"""The benchmark of gcs_stream in a quick form: it runs, and the memory is as promised. Speed is not asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gcs_stream import GROWTH_MOST, MEMORY_MOST, Run, markdown, targets
from benchmarks.one_upload import flights, lines

MIB = 1 << 20
REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.mark.volume
@pytest.mark.slow
def test_the_benchmark_runs_and_a_worker_takes_no_more_memory_than_promised(tmp_path: Path) -> None:
    quick = ["--bytes", "20MiB", "--rounds", "1", "--small", "10MiB", "--large", "60MiB"]
    places = ["--directory", f"{tmp_path}/work", "--json", f"{tmp_path}/runs.json"]
    places += ["--markdown", f"{tmp_path}/report.md"]
    said = subprocess.run(
        [sys.executable, "-m", "benchmarks.gcs_stream", *quick, *places],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert said.stderr == ""
    runs = json.loads((tmp_path / "runs.json").read_text())
    assert [run["what"] for run in runs["speed"]] == ["encode", "bare", "stream"]
    assert all(abs(run["bytes"] - 20 * MIB) < 1000 for run in runs["speed"])
    assert {run["what"] for run in runs["memory"]} >= {"stream"}
    for small, large in zip(runs["memory"][::2], runs["memory"][1::2], strict=True):
        assert large["bytes"] > 5 * small["bytes"]
        assert large["peak"] - large["imported"] <= MEMORY_MOST
        assert abs(large["peak"] - small["peak"]) <= GROWTH_MOST
    assert "resident memory of gcs_stream" in (tmp_path / "report.md").read_text()
    assert list((tmp_path / "work").iterdir()) == []


def test_the_records_are_about_as_long_as_those_of_the_main_job() -> None:
    records = flights()
    assert 165 <= len(lines(records)) / len(records) <= 185


def runs(what: str, *speeds: float, beyond: int = 20) -> list[Run]:
    return [
        Run(what=what, bytes=int(speed * MIB), seconds=1.0, imported=100 * MIB, peak=(100 + beyond) * MIB)
        for speed in speeds
    ]


def test_the_slower_of_the_two_is_what_the_speed_is_held_against() -> None:
    speed = [*runs("encode", 500, 500, 500), *runs("bare", 1000, 1000, 1000), *runs("stream", 350, 450, 400)]
    [ratio] = targets(speed, [])
    assert ratio.reached
    assert ratio.found.startswith("0.80 times encoding alone (rounds: 0.70, 0.80, 0.90); 0.40 times sending")
    [ratio] = targets([*runs("encode", 900), *runs("bare", 600), *runs("stream", 450)], [])
    assert not ratio.reached
    assert ratio.found.startswith("0.75 times sending alone")


def test_more_memory_for_more_output_is_a_target_missed() -> None:
    speed = [*runs("encode", 1), *runs("bare", 1), *runs("stream", 1)]
    small, large = runs("stream", 10, beyond=20), runs("stream", 1000, beyond=41)
    _, most, same = targets(speed, [*small, *large])
    assert (most.reached, same.reached) == (False, False)
    assert same.found == "+21.0 MiB"
    assert "1 of 3 targets reached" in markdown([*targets(speed, [*small, *large])], [])
