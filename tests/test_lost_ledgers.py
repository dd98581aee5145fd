"""What becomes of a job in DuckDB where its checkpoint, its table, its rows or its ledger are lost."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest

import etl
from etl.errors import WarehouseError
from etl.verification import WRONG, compare
from etl.warehouses.base import Audits, Job

RECORDS = 6
MORE = 9
REFUSED = "would be loaded a second time"


def pull(cursor: Any = None) -> Any:
    for n in range(cursor or 0, int(Path("records").read_text())):
        yield {"id": n}
        yield etl.Mark(n + 1)


def job(name: str = "job", disposition: str = "append") -> etl.Pipeline:
    return etl.Pipeline(
        name,
        source=pull,
        sink={"type": "reused_file", "path": f"{name}.ndjson"},
        warehouse={
            "type": "duckdb",
            "path": "w.duckdb",
            "table": "t",
            "disposition": disposition,
            **({"key": ["id"]} if disposition == "merge" else {}),
        },
        part_records=2,
    )


def change(statement: str) -> None:
    with duckdb.connect("w.duckdb") as database:
        database.execute(statement)


def rows() -> list[int]:
    with duckdb.connect("w.duckdb", read_only=True) as database:
        return sorted(n for (n,) in database.execute("SELECT id FROM t").fetchall())


LOSSES: dict[str, Any] = {
    "checkpoint": lambda: Path("job.checkpoint.json").unlink(),
    "table": lambda: change("DROP TABLE t"),
    "rows": lambda: change("DELETE FROM t"),
    "ledger": lambda: change("DROP TABLE _etl_loads"),
    "rows of the ledger": lambda: change("DELETE FROM _etl_loads"),
    "another table in its place": lambda: change("DROP TABLE t; CREATE TABLE t AS SELECT 77 AS id"),
    "an older checkpoint": lambda: shutil.copy("older.json", "job.checkpoint.json"),
    "an older database": lambda: shutil.copy("older.duckdb", "w.duckdb"),
}

ALL = list(range(MORE))
# What the next run leaves in the table; a text: it is refused.
CELLS: list[tuple[tuple[str, ...], Any]] = [
    ((), ALL),
    (("checkpoint",), ALL),
    (("table",), ALL),
    (
        ("rows",),
        list(range(RECORDS, MORE)),
    ),  # the ledger says that they were loaded: `etl verify` misses them
    (("ledger",), REFUSED),
    (("rows of the ledger",), REFUSED),
    (("another table in its place",), [*range(RECORDS, MORE), 77]),  # the same
    (("an older checkpoint",), ALL),
    (("an older database",), ALL),
    (("checkpoint", "table"), ALL),
    (("checkpoint", "rows"), list(range(RECORDS, MORE))),
    (("checkpoint", "ledger"), REFUSED),
    (("table", "ledger"), ALL),
    (("rows", "ledger"), ALL),
    (("rows", "rows of the ledger"), ALL),
    (("an older checkpoint", "ledger"), REFUSED),
    (("an older checkpoint", "an older database"), ALL),
    (("an older database", "ledger"), REFUSED),
    (("checkpoint", "table", "ledger"), ALL),
    (("checkpoint", "rows", "ledger"), ALL),
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loaded(disposition: str = "append") -> None:
    """Load two records, take copies, and load the rest."""
    Path("records").write_text("2")
    job(disposition=disposition).run()
    shutil.copy("w.duckdb", "older.duckdb")
    shutil.copy("job.checkpoint.json", "older.json")
    Path("records").write_text(str(RECORDS))
    job(disposition=disposition).run()
    Path("records").write_text(str(MORE))


@pytest.mark.parametrize(("lost", "expected"), CELLS, ids=[", ".join(lost) or "nothing" for lost, _ in CELLS])
def test_whatever_is_lost_nothing_is_loaded_twice(lost: tuple[str, ...], expected: Any) -> None:
    loaded()
    for each in lost:
        LOSSES[each]()
    if expected == REFUSED:
        before = rows()
        with pytest.raises(WarehouseError, match=REFUSED):
            job().run()
        assert rows() == before
        change("DELETE FROM t")  # the next step that the message names
        job().run()
        assert rows() == ALL
        return
    job().run()
    assert rows() == expected
    assert verified() == (expected == ALL)


def verified() -> bool:
    """Say whether verification finds nothing wrong."""
    pipeline, document = job(), job().read_checkpoint()
    warehouse: object = pipeline.warehouse
    assert document is not None
    assert isinstance(warehouse, Audits)
    assert pipeline.warehouse is not None
    pipeline.warehouse.open(etl.pipeline.memory.budget(None))
    try:
        audit = warehouse.audit(Job.of(document, pipeline.fingerprint))
    finally:
        pipeline.warehouse.close()
    return not [finding for finding in compare(document, audit) if finding.kind in WRONG]


@pytest.mark.parametrize("disposition", ["merge", "replace"])
@pytest.mark.parametrize("lost", [lost for lost, _ in CELLS if "ledger" in "".join(lost)], ids=", ".join)
def test_what_is_merged_or_replaced_begins_again(lost: tuple[str, ...], disposition: str) -> None:
    loaded(disposition)
    for each in lost:
        LOSSES[each]()
    job(disposition=disposition).run()
    assert rows() == ALL


def test_a_table_that_others_filled_is_no_sign_of_a_lost_ledger() -> None:
    with duckdb.connect("w.duckdb") as database:
        database.execute("CREATE TABLE t AS SELECT 77 AS id")
    Path("records").write_text("2")
    job().run()
    assert rows() == [0, 1, 77]
    job("other").run()
    assert rows() == [0, 0, 1, 1, 77]


def test_a_table_that_another_job_made_again_is_loaded_again() -> None:
    loaded()
    LOSSES["table"]()
    job("other").run()
    job().run()
    assert rows() == sorted([*ALL, *ALL])
