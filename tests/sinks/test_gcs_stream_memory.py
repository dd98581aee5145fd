"""A part of any size takes two chunks of memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from etl.testing.gcs_server import GcsServer
from tests.sinks.conftest import BUCKET

MIB = 1 << 20
SCRIPT = f"""
import resource
from sinks import GcsStream

sink = GcsStream("{BUCKET}", prefix="job", chunk_bytes={MIB})
block = bytes(100_003)

def write(sequence, size):
    with sink.open_part(sequence, epoch=1) as part:
        while part.bytes < size:
            part.write(block)
    return part.sealed

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

write(1, 4 * {MIB})
before = peak()
sealed = write(2, 200 * {MIB})
print(peak() - before, sealed.bytes)
"""


def test_a_part_of_200_mib_takes_no_more_memory_than_one_of_4(tmp_path: Path) -> None:
    with GcsServer(tmp_path / "gcs", md5=False) as server:
        server.create_bucket(BUCKET)
        environment = {**os.environ, **server.environment()}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
        )
    grown, size = map(int, done.stdout.split())
    assert size >= 200 * MIB
    assert grown < 4 * MIB
