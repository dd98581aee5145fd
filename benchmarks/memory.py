"""Run jobs of each format and warehouse in memory cgroups of their own, and say what they take as the data grows.

make bench-memory    all cells that have no result yet, one after the other; as root, hours on a busy machine

Each cell is kept in the JSON file as soon as it is done, so that an interrupted run goes on where it was. `--quick`
takes a tenth of the records.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import msgspec

from benchmarks.measured import SAMPLED_EVERY, Sampler
from benchmarks.memory_job import SMALL
from benchmarks.memory_table import LARGE, Cell, Outcome, render
from etl.lab.fresh_group import FreshGroup

MIB = 1 << 20
ROOT = Path(__file__).parent.parent
LIMITS = (64, 96, 128, 160, 256)  # MiB
FORMATS = ("ndjson", "ndjson.gz", "parquet")
WAREHOUSES = ("duckdb", "none")
RECORDS = (1_000_000, 20_000_000)
LARGE_RECORDS = 300


def cells(records: tuple[int, ...]) -> Iterator[Cell]:
    """Yield all cells, those first of which most is asked: NDJSON and Parquet into DuckDB in 128 MiB."""
    limits = sorted(LIMITS, key=lambda limit: (limit != 128, limit))
    for warehouse, limit, format_ in product(
        WAREHOUSES, limits, sorted(FORMATS, key=lambda name: "gz" in name)
    ):
        for count in records:
            yield Cell(warehouse=warehouse, format=format_, limit=limit * MIB, records=count, size=SMALL)
        yield Cell(warehouse=warehouse, format=format_, limit=limit * MIB, records=LARGE_RECORDS, size=LARGE)


def run(cell: Cell, timeout: float, below: Path) -> Outcome:
    """Run one cell to its end.

    Args:
        cell: what to run.
        timeout: end it after so many seconds.
        below: where its files are, while it runs.
    """
    with tempfile.TemporaryDirectory(dir=below.absolute()) as directory, FreshGroup(cell.limit) as group:
        job = [cell.warehouse, cell.format, str(cell.records), str(cell.size), directory]
        command = group.inside([sys.executable, "-m", "benchmarks.memory_job", *job])
        began = time.perf_counter()
        with Sampler(group.memory, SAMPLED_EVERY) as sampler:
            process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
            try:
                _, said = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                said = f"TimeoutExpired: not done after {timeout:g} s"
        memory = group.memory()
        error = said.strip().rpartition("\n")[2]
        return Outcome(
            cell=cell,
            seconds=round(time.perf_counter() - began, 1),
            exit_code=process.returncode,
            error=error if process.returncode else "",
            anonymous=sampler.anonymous,
            cache=sampler.cache,
            charged=memory.peak or 0,
            oom_kills=memory.oom_kills,
        )


def main() -> None:
    """Run what has no result yet, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/memory.json"))
    parser.add_argument("--markdown", type=Path, default=Path("benchmarks/results/memory.md"))
    parser.add_argument("--quick", action="store_true", help="a tenth of the records, in a table of its own")
    parser.add_argument("--only", default="", help="cells whose name has this text in it")
    parser.add_argument("--timeout", type=float, default=3600, help="of a cell, in seconds")
    parser.add_argument("--render", action="store_true", help="run nothing, write the table again")
    options = parser.parse_args()
    records = tuple(count // 10 for count in RECORDS) if options.quick else RECORDS
    build = Path("build")
    build.mkdir(exist_ok=True)
    done: dict[str, Outcome] = {}
    if options.json.exists():
        found = msgspec.json.decode(options.json.read_bytes(), type=list[Outcome])
        done = {outcome.cell.name: outcome for outcome in found}
    for cell in cells(records):
        if options.render or cell.name in done or options.only not in cell.name:
            continue
        outcome = done[cell.name] = run(cell, options.timeout, build)
        print(f"{cell.name}: {outcome}", flush=True)
        text = msgspec.json.format(msgspec.json.encode(list(done.values())), indent=1)
        options.json.write_bytes(text + b"\n")
        options.markdown.write_text(render(done.values(), list(cells(records))))
    options.markdown.write_text(render(done.values(), list(cells(records))))


if __name__ == "__main__":
    main()
