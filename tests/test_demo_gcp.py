"""`make demo-gcp` answers what `make demo` does, on some made-up flights."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.google import need_bigquery

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
HEADER = (
    "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,origin,"
    "dest,air_time,distance,hour,minute,time_hour"
)
# In this order, so that no two routes are equally busy.
WEIGHTS = {"ATL": 8, "ORD": 4, "SFO": 2, "LAX": 1}


def flights(count: int) -> Iterator[str]:
    """Yield lines as the package of the real flights has them; every 40th never left."""
    chance = random.Random(1)
    yield HEADER
    for number in range(count):
        month, day, hour = 1 + number * 12 // count, 1 + number % 28, chance.randrange(5, 23)
        origin = chance.choices(["EWR", "JFK", "LGA"], [7, 5, 3])[0]
        [destination] = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
        left = number % 40 != 7
        flown = (
            f"517,515,{chance.randrange(-15, 200)},830,819,{chance.randrange(-15, 200)}"
            if left
            else "NA,515,NA,NA,819,NA"
        )
        yield (
            f"2013,{month},{day},{flown},UA,{1 + number % 7000},N{number},{origin},{destination},"
            f"{227 if left else 'NA'},1400,{hour},15,2013-{month:02}-{day:02}T{hour:02}:00:00Z"
        )


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A directory with flights where the demos look for them."""
    (tmp_path / "demo").mkdir()
    with zipfile.ZipFile(tmp_path / "demo" / "flights.csv.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("flights.csv", "\n".join(flights(4000)) + "\n")
    return tmp_path


def run(directory: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *command], cwd=directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def tables(said: str) -> dict[str, list[str]]:
    """Return the tables of routes and months that a demo printed, as lines under their titles."""
    found = {}
    for title in ("the busiest routes", "the mean delay by month"):
        [text] = re.findall(rf"^{title}\n((?:  .*\n)+)", said, re.MULTILINE)
        found[title] = text.splitlines()
    return found


def test_both_demos_give_the_same_answers(sample: Path) -> None:
    need_bigquery()
    run(sample, "-m", "etl", "run", EXAMPLES / "flights.toml")
    here = run(sample, EXAMPLES / "flights_answers.py").stdout
    there = run(sample, EXAMPLES / "demo_gcp.py")
    assert tables(there.stdout) == tables(here)
    assert len(tables(here)["the mean delay by month"]) == 13  # twelve, and the names of the columns
    assert "3,900 rows" in there.stdout
    assert "all that was loaded is in the table, once" in there.stdout
    assert there.stdout.endswith("left in the bucket: flights/checkpoint.json\n")
    assert "Warning" not in there.stderr
    assert "Traceback" not in there.stderr
