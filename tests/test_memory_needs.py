"""What a job needs: with exactly that much it runs to its end in a real control group, with less nothing is begun."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import memory
from benchmarks.memory_job import SMALL, pipeline
from benchmarks.memory_table import LARGE, Cell
from etl.errors import NotEnoughMemory
from tests.control_groups import MIB, real_group

ROOT = Path(__file__).parent.parent
NEEDS = {
    ("duckdb", "ndjson"): 96 * MIB,
    ("duckdb", "parquet"): 128 * MIB,
    ("none", "ndjson"): 32 * MIB,
    ("none", "parquet"): 64 * MIB,
}
CASES = [(*job, needed) for job, needed in NEEDS.items()]


def run(directory: Path, limit: int, *job: str | int) -> tuple[int, str, int]:
    """Run a job of the benchmark in a control group; return its exit code, its error, and how often it was killed."""
    with real_group(limit) as group:
        command = [sys.executable, "-m", "benchmarks.memory_job", *map(str, job), str(directory)]
        done = subprocess.run(
            group.inside(command), cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
        )
        return done.returncode, done.stderr, group.memory().oom_kills


@pytest.mark.slow
@pytest.mark.parametrize(("warehouse", "format_", "needed"), CASES)
def test_with_what_it_needs_a_job_runs_to_its_end(
    tmp_path: Path, warehouse: str, format_: str, needed: int
) -> None:
    assert run(tmp_path, needed, warehouse, format_, 400_000, SMALL) == (0, "", 0)


@pytest.mark.parametrize(("warehouse", "format_", "needed"), CASES)
def test_with_less_a_job_is_refused_with_that_number_before_anything_is_begun(
    tmp_path: Path, warehouse: str, format_: str, needed: int
) -> None:
    code, error, kills = run(tmp_path, needed - 8 * MIB, warehouse, format_, 10, SMALL)
    assert (code, kills, list(tmp_path.iterdir())) == (2, 0, [])
    assert f"NotEnoughMemory: job 'memory': it has {needed // MIB - 8} MiB of memory and " in error
    assert f"needs {needed // MIB} MiB: 24 MiB for Python and this library, " in error


def test_a_job_that_says_itself_how_much_it_may_take_is_held_to_that(tmp_path: Path) -> None:
    job = pipeline(tmp_path, warehouse="duckdb", format="parquet", records=10, size=SMALL, memory=112 * MIB)
    with pytest.raises(
        NotEnoughMemory, match=r'needs 128 MiB: .*or set format = "ndjson", with which it needs 96 MiB'
    ):
        job.run()


@pytest.mark.slow
@pytest.mark.parametrize("limit", [96 * MIB, 128 * MIB])
def test_records_of_1_mib_are_loaded_or_refused_by_name(tmp_path: Path, limit: int) -> None:
    assert run(tmp_path, limit, "duckdb", "ndjson", 100, LARGE) == (0, "", 0)


@pytest.mark.slow
def test_four_times_the_records_take_5_percent_more_memory_at_most(tmp_path: Path) -> None:
    real_group().remove()  # where none can be made, the test is skipped
    small, large = (
        memory.run(
            Cell(warehouse="duckdb", format="ndjson", limit=128 * MIB, records=count, size=SMALL),
            300,
            tmp_path,
        )
        for count in (400_000, 1_600_000)
    )
    assert small.exit_code == large.exit_code == 0
    assert large.anonymous < 1.05 * small.anonymous
    assert large.charged < small.charged + 8 * MIB
