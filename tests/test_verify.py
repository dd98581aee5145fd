"""`etl verify`: what is missing, twice or unknown is told, and the exit code says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from etl.checkpoint import Checkpoint, State, Totals
from etl.verification import compare
from etl.warehouses.base import Audit, Loaded
from tests import jobs

JOB = """
name = "job"
transforms = ["tests.jobs:transform"]
part_bytes = "16KiB"
[source]
function = "tests.jobs:pull"
[sink]
type = "reused_file"
path = "out/job.ndjson"
[warehouse]
type = "duckdb"
path = "warehouse.duckdb"
table = "numbers"
"""


def etl(directory: Path, *arguments: str, more: str = "") -> subprocess.CompletedProcess[str]:
    (directory / "job.toml").write_text(JOB + more)
    return subprocess.run(
        [sys.executable, "-m", "etl", *arguments, "job.toml"],
        cwd=directory,
        env={"PYTHONPATH": str(Path(__file__).parent.parent), "PATH": ""},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def done(tmp_path: Path) -> Path:
    assert etl(tmp_path, "run").returncode == 0
    return tmp_path


def change(directory: Path, statement: str) -> None:
    with duckdb.connect(str(directory / jobs.WAREHOUSE)) as warehouse:
        warehouse.execute(statement)


def test_a_job_that_is_right_is_said_to_be(done: Path) -> None:
    found = etl(done, "verify")
    assert found.returncode == 0, found.stdout + found.stderr
    assert "once" in found.stdout
    assert f"{len(jobs.expected()):,} rows" in found.stdout


def test_a_job_that_merges_says_so(tmp_path: Path) -> None:
    more = 'disposition = "merge"\nkey = ["number"]\n'
    assert etl(tmp_path, "run", more=more).returncode == 0
    assert f"{len(jobs.expected()):,} records in " in (said := etl(tmp_path, "verify", more=more).stdout)
    assert " loads, merged by key\n" in said


def test_a_job_that_changed_since_it_was_loaded_is_not_compared(done: Path) -> None:
    found = etl(done, "verify", more='disposition = "merge"\nkey = ["number"]\n')
    assert (found.returncode, "it loaded into duckdb:" in found.stderr) == (2, True)


def test_rows_that_were_deleted_are_missing(done: Path) -> None:
    change(done, "DELETE FROM numbers WHERE number < 5")
    found = etl(done, "verify")
    assert found.returncode == 1
    assert "missing: main.numbers holds" in found.stdout
    assert ": 5 were deleted or lost" in found.stdout


def test_rows_that_came_from_elsewhere_are_told(done: Path) -> None:
    change(done, "INSERT INTO numbers (number) SELECT range FROM range(7)")
    found = etl(done, "verify")
    assert found.returncode == 1
    assert "7 came from somewhere else" in found.stdout


def test_a_table_that_is_gone_is_missing(done: Path) -> None:
    change(done, "DROP TABLE numbers")
    found = etl(done, "verify")
    assert found.returncode == 1
    assert "there is no table main.numbers" in found.stdout


def test_the_findings_are_told_as_json(done: Path) -> None:
    change(done, "DELETE FROM numbers")
    found = json.loads(etl(done, "verify", "--json").stdout)
    assert found["right"] is False
    assert [finding["kind"] for finding in found["findings"]] == ["missing"]


def test_a_job_that_never_ran_has_nothing_that_could_be_wrong(tmp_path: Path) -> None:
    assert etl(tmp_path, "verify").returncode == 0


def test_a_checkpoint_that_was_put_back_is_behind_the_loads(done: Path) -> None:
    (done / "job.checkpoint.json").unlink()
    found = etl(done, "verify")
    assert found.returncode == 1
    assert "was an older copy of it put back?" in found.stdout


def document(records: int, sequence: int, loads: int = 2) -> Checkpoint:
    state = State(sequence=sequence, totals=Totals(records=records))
    return Checkpoint(pipeline="job", loaded=state, loads=loads)


def audit(*loads: Loaded, table_rows: int | None = None) -> Audit:
    rows = sum(load.rows for load in loads)
    return Audit(
        loads=loads,
        loads_ever=None,
        rows_ever=None,
        other_rows=0,
        table="t",
        table_rows=rows if table_rows is None else table_rows,
    )


def load(plan: str, first: int, last: int, rows: int = 10, attempt: int = 0) -> Loaded:
    return Loaded(plan=plan, job=f"{plan}_a{attempt}", first=first, last=last, rows=rows)


def test_a_plan_that_was_loaded_twice_is_found() -> None:
    loads = load("a", 1, 2), load("b", 3, 3), load("b", 3, 3, attempt=1)
    findings = compare(document(20, 3), audit(*loads))
    assert [finding.kind for finding in findings] == ["twice"]
    assert "plan b was loaded 2 times (b_a0, b_a1): 10 rows too many" in findings[0].text


def test_parts_that_two_plans_loaded_are_found() -> None:
    findings = compare(document(20, 4), audit(load("a", 1, 3), load("b", 2, 4)))
    assert [finding.kind for finding in findings] == ["twice"]
    assert "parts 2 to 3 were loaded by a_a0 and by b_a0" in findings[0].text


def test_a_load_whose_rows_are_missing_too_is_found_with_its_parts() -> None:
    findings = compare(document(30, 5, loads=3), audit(load("a", 1, 2), load("c", 5, 5)))
    assert [finding.kind for finding in findings] == ["forgotten", "missing"]
    assert "no load took parts 3 to 4" in findings[0].text
    assert "10 were deleted or lost" in findings[1].text


def test_a_load_that_the_warehouse_has_forgotten_is_no_fault_if_its_rows_are_there() -> None:
    findings = compare(document(30, 5, loads=3), audit(load("a", 1, 2), load("c", 5, 5), table_rows=30))
    assert [finding.kind for finding in findings] == ["forgotten"]
