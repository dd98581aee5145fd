"""Jobs that end at one of several points, to be gone on with in another place.

    python -m tests.moved_jobs DIRECTORY

makes a folder for each sink and each point, in which a job has come to that point.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import duckdb
import fsspec  # noqa: F401 - loaded once, not in each of the processes below

import etl
from etl.checkpoint import Checkpoint, Plan, decode
from etl.stores.local import LocalStore
from etl.warehouses.base import Job
from etl.warehouses.duckdb import DuckDB
from tests.jobs import SINKS, lines

FILES = 3
KINDS = ("reused_file", "numbered_chunks", "numbered_chunks_not_kept", "big_file")
IN_A_FILE = 40
NUMBERS = range(FILES * IN_A_FILE)


class Dying(LocalStore):
    """A store that ends its process, with no chance to clean up, before or after a certain swap."""

    def __init__(self, path: Path, point: str) -> None:
        super().__init__(path)
        self._point = POINTS[point]

    def swap(self, data: bytes, expected: str | None) -> str:
        new = decode(data, self.uri)
        found = self.read()
        old = decode(found[0], self.uri) if found else Checkpoint.new(new.pipeline)
        if self._point("before", old, new):
            os._exit(0)
        version = super().swap(data, expected)
        if self._point("after", old, new):
            os._exit(0)
        return version


class Stuck(DuckDB):
    """Ends only the first loads, so that parts wait behind the next one."""

    def __init__(self, path: Path, loads: int) -> None:
        super().__init__(path, table="numbers")
        self._loads = loads

    def load(self, job: Job, plan: Plan) -> int:
        if not self._loads:
            threading.Event().wait()
        self._loads -= 1
        return super().load(job, plan)


# How many loads end, where not all do.
STUCK = {"killed with its first part sealed": 0, "killed with a part sealed": 1}

POINTS: dict[str, Any] = {
    "finished": lambda *_: False,
    "killed with its first part sealed": lambda when, _, new: when == "after" and new.sealed,
    "killed with its first plan": lambda when, _, new: when == "after" and new.plans,
    "killed with a part sealed": lambda when, _, new: when == "after" and new.sealed and new.loads,
    "killed with a plan": lambda when, _, new: when == "after" and new.plans and new.loads,
    "killed after the load": lambda when, old, new: when == "before" and new.loads > max(old.loads, 1),
}


def rejecting(records: Any) -> Any:
    """Reject every tenth record."""
    for record in records:
        yield etl.Reject(record, "a seven") if record["number"] % 10 == 7 else record


def fill(folder: Path, files: int = FILES) -> None:
    """Write the source's files."""
    (folder / "in").mkdir(parents=True, exist_ok=True)
    for file in range(files):
        records = [{"number": file * IN_A_FILE + n, "text": "x" * 50} for n in range(IN_A_FILE)]
        (folder / "in" / f"{file}.ndjson").write_text("".join(json.dumps(each) + "\n" for each in records))


def job(folder: Path | str, kind: str = "reused_file", **changes: Any) -> etl.Pipeline:
    """Define the job on a folder, by paths that begin as that is written."""
    definition: dict[str, Any] = {
        "source": {"type": "files", "paths": f"{folder}/in/*.ndjson"},
        "transforms": [rejecting],
        "sink": {**SINKS[kind], "path": f"{folder}/{SINKS[kind]['path']}"},
        "warehouse": {"type": "duckdb", "path": f"{folder}/w.duckdb", "table": "numbers"},
        "checkpoint": f"{folder}/job.json",
        "part_records": 30,
    }
    return etl.Pipeline("job", **{**definition, **changes})


def table(path: Path | str) -> list[tuple[Any, ...]]:
    """Return what the table holds."""
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute("FROM numbers ORDER BY number").fetchall()


TRUTH = [(number, "x" * 50) for number in NUMBERS if number % 10 != 7]
LETTERS = [number for number in NUMBERS if number % 10 == 7]


def letters(folder: Path) -> list[int]:
    """Return the numbers of the records that were rejected."""
    return [letter["record"]["number"] for letter in lines(list(folder.glob("job-rejects-*.ndjson")))]


if __name__ == "__main__":
    for sink in KINDS:
        for point in POINTS:
            if not (child := os.fork()):
                folder = Path(sys.argv[1]) / sink / point
                fill(folder)
                changes = {"warehouse": Stuck(folder / "w.duckdb", STUCK[point])} if point in STUCK else {}
                store = Dying(folder / "job.json", point)
                job(folder, sink, checkpoint=store, **changes).run(handle_signals=False)
                os._exit(0 if point == "finished" else 1)
            assert os.waitpid(child, 0)[1] == 0, (sink, point)
