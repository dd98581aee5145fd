"""Print the speed of the main job against DuckDB reading the file by itself, and its memory against the data.

make bench        1 M events for the speed, 1 M and 5 M for the memory; some two minutes
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import duckdb

from benchmarks.measured import Measured, measure

MIB = 1 << 20


def run(what: str, data: Path, directory: Path) -> Measured:
    """Run one of the jobs of `benchmarks.events` on `data` in a process and a directory of its own."""
    with tempfile.TemporaryDirectory(dir=directory) as work:
        measured = measure([sys.executable, "-m", "benchmarks.events", what, str(data), work])
        with duckdb.connect(f"{work}/events.duckdb", read_only=True) as warehouse:
            [(rows, first, last)] = warehouse.execute(
                "SELECT count(*), min(id), max(id) FROM events"
            ).fetchall()
        print(
            f"  {what:<9} {measured.seconds:6.2f} s   {rows:>9,} rows ({first} to {last})   "
            f"resident {measured.resident / MIB:4.0f} MiB"
            + (f"   page cache {measured.cache / MIB:4.0f} MiB" if measured.cache is not None else "")
            + (f"   charged {measured.charged / MIB:4.0f} MiB" if measured.charged is not None else "")
        )
        return measured


def make(count: int, directory: Path) -> Path:
    """Make `count` events once; they are read here, so that their page cache is charged to nobody measured."""
    data = directory / f"events-{count}.ndjson.gz"
    if not data.exists():
        print(f"making {count:,} events …")
        measure([sys.executable, "-m", "benchmarks.events", "make", str(count), str(data)])
    with data.open("rb") as file:
        while file.read(MIB):
            pass
    return data


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=Path("build/bench"))
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)

    data = make(options.events, options.directory)
    print(f"\nspeed: {options.events:,} nested events, NDJSON gzip, {options.runs} runs in turn")
    times: dict[str, list[Measured]] = {"native": [], "pipeline": [], "loop": []}
    for _ in range(options.runs):
        for what, measured in times.items():
            measured.append(run(what, data, options.directory))
    middle = {what: statistics.median(m.seconds for m in measured) for what, measured in times.items()}
    print(
        f"\n  pipeline / DuckDB alone:     {middle['native'] / middle['pipeline']:.2f} of its speed (floor: 0.40)"
    )
    print(f"  bare serial loop / DuckDB:   {middle['native'] / middle['loop']:.2f}")

    print("\nmemory: the same job on five times the data")
    small = run("pipeline", data, options.directory)
    large = run("pipeline", make(5 * options.events, options.directory), options.directory)
    print(f"\n  resident:    {large.resident / small.resident:.2f} times")
    if small.cache and large.cache:
        print(f"  page cache:  {large.cache / small.cache:.2f} times")
    if small.charged and large.charged:
        print(f"  charged:     {large.charged / small.charged:.2f} times")


if __name__ == "__main__":
    main()
