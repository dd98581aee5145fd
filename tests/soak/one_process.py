"""Many runs in one process, which has to be one of its own: what it holds is counted before and after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import etl
from etl.errors import EtlError
from tests.soak.jobs import DATABASE, Content, Job, found
from tests.soak.running import held

RUNS, WARM = 10_000, 2_000


def many_without_a_warehouse(directory: Path, report: Path) -> None:
    """Run a job `RUNS` times, with one record more each; every seventh run fails, every thousandth rejects."""
    run = 0

    def pull(cursor: int | None = None) -> Any:
        for number in range(cursor or 0, run + 1):
            yield etl.Mark(number)
            yield {"number": number}
        yield etl.Mark(run + 1)
        if run % 7 == 2:
            raise RuntimeError("every seventh run fails")

    def reject(records: Any) -> Any:
        for record in records:
            yield etl.Reject(record, "a thousand") if record["number"] % 1000 == 0 else record

    checkpoint = directory / "job.checkpoint.json"
    job = etl.Pipeline("job", source=pull, transforms=[reject], sink={"type": "null"}, checkpoint=checkpoint)
    records, failed, before = 0, 0, {}
    for run in range(RUNS):
        try:
            records += job.run(handle_signals=False).records
        except EtlError:
            failed += 1
        if run == WARM:
            before = held() | {"checkpoint": checkpoint.stat().st_size}
    after = held() | {"checkpoint": checkpoint.stat().st_size}
    report.write_text(json.dumps({"records": records, "failed": failed, "before": before, "after": after}))


def many_into_duckdb(disposition: str, directory: Path, report: Path) -> None:
    """Run a job 24 times, where the ledger keeps five rows; compare its table each time."""
    from etl.warehouses.duckdb import ledger

    ledger.KEEP = 5
    job, after = Job(disposition, "reused_file"), []
    for run in range(24):
        content = Content(10 + 10 * run) if job.grows else Content(40, run)
        job.pipeline(directory, content).run(handle_signals=False)
        assert found(directory) == job.rows(content)
        after.append(held() | {"rows of the ledger": _rows(directory, ledger.QUALIFIED)})
    report.write_text(json.dumps({"before": after[12], "after": after[23]}))


def _rows(directory: Path, table: str) -> int:
    import duckdb

    with duckdb.connect(str(directory / DATABASE), read_only=True) as database:
        ((rows,),) = database.execute(f"SELECT count(*) FROM {table}").fetchall()
    return int(rows)
