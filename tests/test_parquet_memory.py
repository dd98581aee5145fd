"""Records are gathered for Parquet by their bytes: what a job takes stays flat, whatever their sizes and order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak")

JOB = """
import sys
import pyarrow.parquet
import etl

def resident():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

make = eval(sys.argv[1])
before = resident()
etl.Pipeline(
    "job",
    source=make,
    sink={"type": "numbered_chunks", "path": sys.argv[2] + "/out/part.parquet"},
    checkpoint=sys.argv[2] + "/job.json",
    memory=128 << 20,
).run(handle_signals=False)
print((resident() - before) >> 20)
"""

# What a run may take besides what Python has before it, in MiB: of 128, half is left to a warehouse.
MOST = 110

RECORDS = {
    "large ones": "({'id': n, 't': chr(65 + n) * (5 << 20)} for n in range(40))",
    "tiny ones, then large ones": (
        "({'id': n} if n < 20_100 else {'id': n, 't': f'{n:100000}'} for n in range(22_100))"
    ),
    "lists of many items": "({'id': n, 'l': list(range(100_000))} for n in range(100))",
    "lists of many objects": (
        "({'id': n, 'l': [{'a': i, 'b': 'x'} for i in range(10_000)]} for n in range(100))"
    ),
    "bytes": "({'id': n, 'b': bytes([n]) * 3_000_000} for n in range(100))",
    "text beside what JSON has not": "({'t': chr(65 + n) * 3_000_000, 'i': 2**70} for n in range(100))",
    "few fields, then many": (
        "({'id': n} if n < 60_000 else {f'field {i}': n for i in range(500)} for n in range(60_002))"
    ),
}


def taken(directory: Path, records: str) -> int:
    """Return how many MiB a job takes that runs in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-c", JOB, f"lambda: {records}", str(directory)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return int(ran.stdout)


@pytest.mark.parametrize("case", RECORDS)
def test_what_is_gathered_is_bounded_by_its_bytes(tmp_path: Path, case: str) -> None:
    assert taken(tmp_path, RECORDS[case]) < MOST


def test_a_record_that_is_larger_than_the_bound_takes_six_times_its_size_at_most(tmp_path: Path) -> None:
    records = "({'id': n, 't': 'x' * ((60 << 20) if n % 4 == 1 else 9)} for n in range(9))"
    assert taken(tmp_path, records) < 6 * 60
