"""One job of the memory benchmark, a process of its own.

python -m benchmarks.memory_job WAREHOUSE FORMAT RECORDS BYTES DIRECTORY

WAREHOUSE is `duckdb` or `none`: then the parts are dropped. RECORDS of about BYTES each come out of a generator. It
ends with 0; with 2, and the error on standard error, where the job is refused or fails.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import etl
from etl.errors import EtlError

SMALL = 64  # bytes; a record of that size has four fields, a larger one is a number and a text


def pipeline(
    directory: Path, *, warehouse: str, format: str, records: int, size: int, memory: int | None = None
) -> etl.Pipeline:
    """Define the job; nothing is written before it runs."""

    def pull(cursor: int | None = None) -> Iterator[dict[str, Any] | etl.Mark]:
        for number in range(cursor or 0, records):
            if size > SMALL or number % 1000 == 0:
                yield etl.Mark(number)
            yield large(number, size) if size > SMALL else small(number)

    table = {"type": "duckdb", "path": str(directory / "job.duckdb"), "table": "records"}
    return etl.Pipeline(
        "memory",
        source=pull,
        sink={"type": "null"}
        if warehouse == "none"
        else {"type": "reused_file", "path": str(directory / f"job.{format}")},
        warehouse=None if warehouse == "none" else table,
        format=format,
        checkpoint=directory / "job.checkpoint.json",
        memory=memory,
    )


def small(number: int) -> dict[str, Any]:
    """Make a record of about 64 bytes."""
    name = f"name {number * 7919 % 1_000_003}"
    return {"id": number, "name": name, "value": number * 0.25, "kind": "abcdef"[number % 6]}


def large(number: int, size: int) -> dict[str, Any]:
    """Make a record of a number and a text of `size` bytes."""
    return {"id": number, "text": chr(ord("a") + number % 26) * size}


def main() -> None:
    """Run it."""
    warehouse, format_, records, size, directory = sys.argv[1:]
    job = pipeline(Path(directory), warehouse=warehouse, format=format_, records=int(records), size=int(size))
    try:
        done = job.run()
    except EtlError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
    if done.records != int(records):
        sys.exit(f"{done.records:,} records were written")


if __name__ == "__main__":
    main()
