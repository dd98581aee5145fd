"""Many runs of a job, most of them killed: its table is exact, and nothing that is kept grows with the runs.

`make soak` does the same for a quarter of an hour.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import etl
from etl.errors import EtlError
from etl.warehouses.duckdb import ledger
from tests.soak.accounts import problems
from tests.soak.jobs import DATABASE, JOBS, Content, Job, found
from tests.soak.running import MEMORY, held, soak


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """Return a directory where a sync takes no time: what is killed here is a process, not the machine."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        yield Path(directory)


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_a_job_that_is_killed_again_and_again_stays_exact_and_keeps_nothing(job, in_memory):
    soaked = soak(job, in_memory / "job", 1, rounds=14)
    assert soaked.compared >= 2
    assert problems(soaked) == []


@pytest.mark.slow
def test_ten_thousand_runs_in_one_process_leave_it_as_it_was(in_memory):
    """One record each; every seventh run fails after it, and every thousandth rejects it."""
    run = 0

    def pull(cursor: int | None = None):
        for number in range(cursor or 0, run + 1):
            yield etl.Mark(number)
            yield {"number": number}
        yield etl.Mark(run + 1)
        if run % 7 == 2:
            raise RuntimeError("every seventh run fails")

    def reject(records):
        for record in records:
            yield etl.Reject(record, "a thousand") if record["number"] % 1000 == 0 else record

    checkpoint = in_memory / "job.checkpoint.json"
    job = etl.Pipeline("job", source=pull, transforms=[reject], sink={"type": "null"}, checkpoint=checkpoint)
    records, failed, held_after, checkpoints = 0, 0, {}, {}
    for run in range(10_000):
        try:
            records += job.run(handle_signals=False).records
        except EtlError:
            failed += 1
        if run in (500, 9_999):
            held_after[run] = held()
            checkpoints[run] = checkpoint.stat().st_size
    assert (records, failed) == (9_990, 1_429)
    assert checkpoints[9_999] <= checkpoints[500] + 100
    assert held_after[9_999]["descriptors"] == held_after[500]["descriptors"]
    assert held_after[9_999]["threads"] == held_after[500]["threads"]
    assert held_after[9_999]["resident"] <= held_after[500]["resident"] + 4 * 2**20
    rejected = [path.name for path in in_memory.iterdir() if path.name != "job.checkpoint.json"]
    assert len(rejected) == 10


@pytest.mark.parametrize("disposition", ["append", "merge", "replace"])
def test_runs_into_duckdb_leave_their_process_and_the_ledger_as_they_were(
    disposition, in_memory, monkeypatch
):
    monkeypatch.setattr(ledger, "KEEP", 5)
    job, after = Job(disposition, "reused_file"), {}
    for run in range(24):
        content = Content(10 + 10 * run) if job.grows else Content(40, run)
        job.pipeline(in_memory, content).run()
        assert found(in_memory) == job.rows(content)
        after[run] = {**held(), "rows of the ledger": rows_of_the_ledger(in_memory)}
    for name in ("descriptors", "threads", "rows of the ledger"):
        assert after[23][name] == after[12][name]


def rows_of_the_ledger(directory: Path) -> int:
    import duckdb

    with duckdb.connect(str(directory / DATABASE), read_only=True) as database:
        ((rows,),) = database.execute(f"SELECT count(*) FROM {ledger.QUALIFIED}").fetchall()
    return int(rows)
