"""Records that are large and compress well, in a real control group of 128 MiB: each job ends with the right table."""

from __future__ import annotations

import signal
import subprocess
import sys
from itertools import product
from pathlib import Path

import duckdb
import pytest

from tests.control_groups import MIB, real_group
from tests.large_records_job import key

ROOT = Path(__file__).parent.parent
FORMATS = ("ndjson", "ndjson.gz", "parquet")
DISPOSITIONS = ("append", "merge", "replace")


def run(
    directory: Path, *job: str | int, limit: int = 128 * MIB, killed_at: int | None = None
) -> tuple[int, str, str]:
    """Run the job in a control group; return its exit code, what it said, and its error."""
    last = [] if killed_at is None else [killed_at]
    with real_group(limit) as group:
        command = [sys.executable, "-m", "tests.large_records_job", *map(str, [*job, directory, *last])]
        done = subprocess.run(
            group.inside(command), cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
        )
        assert not group.memory().oom_kills
    return done.returncode, done.stdout, done.stderr


def table(directory: Path) -> list[tuple[int, int, int, int]]:
    with duckdb.connect(str(directory / "w.duckdb"), read_only=True) as connection:
        return connection.execute(
            "SELECT id, number, length(text), ord(text) FROM t ORDER BY number"
        ).fetchall()


def expected(disposition: str, records: int, size: int) -> list[tuple[int, int, int, int]]:
    rows = [(key(number), number, size, ord("a") + number % 26) for number in range(records)]
    return (
        sorted({row[0]: row for row in rows}.values(), key=lambda row: row[1])
        if disposition == "merge"
        else rows
    )


@pytest.mark.slow
@pytest.mark.parametrize(("format_", "disposition"), list(product(FORMATS, DISPOSITIONS)))
def test_records_of_1_mib_are_all_in_the_table(tmp_path: Path, format_: str, disposition: str) -> None:
    code, _, error = run(tmp_path, disposition, format_, 300, MIB)
    assert (code, error) == (0, "")
    assert table(tmp_path) == expected(disposition, 300, MIB)


# With text of 4 MiB two are in a part, which is given up, and pulled again one by one.
@pytest.mark.slow
@pytest.mark.parametrize(("format_", "disposition"), [("ndjson.gz", "append"), ("ndjson", "merge")])
def test_killed_while_parts_are_given_up_each_record_is_in_the_table_once(
    tmp_path: Path, format_: str, disposition: str
) -> None:
    records, size = 4, 4 * MIB
    whole = tmp_path / "whole"
    whole.mkdir()
    code, said, error = run(whole, disposition, format_, records, size)
    assert (code, error) == (0, "")
    assert "take more memory at once than there is" in said
    kills = 0
    for change in range(2, 20):
        directory = tmp_path / str(change)
        directory.mkdir()
        code, *_ = run(directory, disposition, format_, records, size, killed_at=change)
        if code != -signal.SIGKILL:
            break
        kills += 1
        assert run(directory, disposition, format_, records, size)[::2] == (0, "")
        assert table(directory) == expected(disposition, records, size), change
    assert kills >= 8
