"""When memory is short, the part is cut early, loaded, and its pages are dropped."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from etl.governor import Governor
from sinks.control_group import Gauge
from tests import jobs
from tests.control_groups import real_group

MIB = 1 << 20
pytestmark = pytest.mark.slow

LIMIT = 512 * MIB


def test_without_a_limit_memory_is_never_short() -> None:
    assert Governor(Gauge(Path("/nowhere"))).pressed() is None


# A job whose transform takes hold of memory up to 91 % of the limit, and lets it go after some records.
HOG = f"""
import json, sys
from pathlib import Path
import etl
from etl import progress
from sinks.control_group import Gauge
from tests import jobs
from tests.control_groups import real_group

gauge, held = Gauge(), []

def pull(cursor=None):
    for number in range(cursor or 0, 60_000):
        if number % 100 == 0:
            yield etl.Mark(number)
        yield {{"number": number, "text": "x" * 200}}

def hog(records):
    for record in records:
        if record["number"] == 20_000:
            held.append(bytearray(b"x") * (int({LIMIT} * 0.91) - gauge.working_set()))
        if record["number"] == 40_000:
            held.clear()
        yield record

events = []
job = {{"source": pull, "transforms": [hog], "part_bytes": 4 << 20, "memory": 128 << 20}}
result = jobs.pipeline(Path(sys.argv[1]), jobs.SINKS[sys.argv[2]], **job).run(listeners=[events.append])
print(json.dumps({{
    "counted": result.cut_for_memory,
    "told": [[event.bytes, event.working_set] for event in events if isinstance(event, progress.MemoryPressed)],
    "cuts": [event.cut for event in events if isinstance(event, progress.PartSealed)],
}}))
"""


@pytest.mark.parametrize("sink", ["reused_file", "numbered_chunks"])
def test_near_the_limit_a_part_is_cut_early_and_nothing_is_lost(tmp_path: Path, sink: str) -> None:
    with real_group(LIMIT) as group:
        done = subprocess.run(
            group.inside([sys.executable, "-c", HOG, str(tmp_path), sink]),
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        kills = group.memory().oom_kills
    assert done.returncode == 0, done.stderr
    assert kills == 0
    found = json.loads(done.stdout)
    assert found["counted"] == len(found["told"]) == found["cuts"].count("memory") >= 1
    for size, working_set in found["told"]:
        assert size < 4 * MIB
        assert working_set >= 0.9 * LIMIT
    # What was not the part's is taken for granted: the job does not go on in crumbs.
    assert found["counted"] <= 5
    assert sorted(jobs.loaded(tmp_path)) == list(range(60_000))
