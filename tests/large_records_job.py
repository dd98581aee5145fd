"""A job of large records that compress well, a process of its own.

python -m tests.large_records_job DISPOSITION FORMAT RECORDS BYTES DIRECTORY [KILLED_AT]

Records of BYTES of text each come out of a generator; every tenth has the key of the one before it. With KILLED_AT the
process is killed when it has written its checkpoint for that many times, before or after that. It ends with 2, and the
error on standard error, where the job fails.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import etl
from etl.errors import EtlError
from etl.progress import Notice


def pipeline(directory: Path, disposition: str, format: str, records: int, size: int) -> etl.Pipeline:
    """Define the job."""

    def pull(cursor: int | None = None) -> Iterator[dict[str, Any] | etl.Mark]:
        for number in range(cursor or 0, records):
            yield etl.Mark(number)
            yield {"id": key(number), "number": number, "text": chr(ord("a") + number % 26) * size}

    warehouse: dict[str, Any] = {
        "type": "duckdb",
        "path": str(directory / "w.duckdb"),
        "table": "t",
        "disposition": disposition,
    }
    if disposition == "merge":
        warehouse |= {"key": ["id"]}
    return etl.Pipeline(
        "large",
        source=pull,
        sink={"type": "reused_file", "path": str(directory / f"large.{format}")},
        warehouse=warehouse,
        format=format,
        checkpoint=directory / "large.checkpoint.json",
    )


def key(number: int) -> int:
    """Return the id of a record."""
    return number - 1 if number % 10 == 9 else number


def kill_at(job: etl.Pipeline, change: int) -> None:
    """Kill this process at a change of the checkpoint: before it is made if that is odd, after it if it is even."""
    store: Any = job.store
    swap, left = store.swap, change

    def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if not left and change % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        done = swap(*args, **kwargs)
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    store.swap = dying


def main() -> None:
    """Run it."""
    disposition, format_, records, size, directory, *killed_at = sys.argv[1:]
    job = pipeline(Path(directory), disposition, format_, int(records), int(size))
    if killed_at:
        kill_at(job, int(killed_at[0]))

    def listen(event: etl.progress.Event) -> None:
        if isinstance(event, Notice):
            sys.stdout.write(f"{event.message}\n")

    try:
        job.run(listeners=[listen])
    except EtlError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
