"""Kill the process at every call that changes a file, load the same plans again, and compare with the truth."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

CALLS = "pwrite64,write,fsync,fdatasync,ftruncate,unlink,rename"
RUN = """
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from conftest import Loader

loader = Loader(Path(sys.argv[2]))
first = loader.part([{"id": n, "new": None} for n in range(500)])
second = loader.part([{"id": n, "s": {"x": n}, "new": "x"} for n in range(500, 1000)])
third = loader.part([{"id": n, "s": {"y": [n]}} for n in range(1000, 1500)])
print("loading", flush=True)
for plan in (loader.plan(first), loader.plan(second, third)):
    loader.warehouse.load(loader.job, plan)
loader.warehouse.close()
print("closed", flush=True)
"""
# What a table holds already when the scripts below begin, into which they put other rows.
HEAD = """
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from conftest import Loader

from etl.checkpoint import replace

options = {"disposition": "merge", "key": ["id"], "updated_at": "v"} if sys.argv[3] == "merge" else {}
loader = Loader(Path(sys.argv[2]), **options)
first = loader.plan(loader.part([{"id": n, "v": 1} for n in range(500)]))
"""
FILL = (
    HEAD
    + """
loader.warehouse.load(loader.job, first)
loader.warehouse.close()
"""
)
MERGE = (
    HEAD
    + """
rewrite = len(sys.argv) > 4
parts = [loader.part([{"id": n, "v": v, "new": "x" * v} for n in range(250, 750)]) for v in (3, 2)]
plan = loader.plan(*parts)
if rewrite:
    loader.warehouse._session.load(loader.job, plan, rewrite=True)
else:
    loader.warehouse.load(loader.job, plan)
loader.warehouse.close()
print("closed", flush=True)
"""
)
REFRESH = (
    HEAD
    + """
loader.job = replace(loader.job, refresh="r1")
plans = [loader.plan(loader.part([{"id": n, "v": v} for n in range(1000)])) for v in (7, 8)]
loader.warehouse.begin_refresh(loader.job)
for plan in plans if len(sys.argv) == 4 else ():
    loader.warehouse.load(loader.job, plan)
loader.warehouse.finish_refresh(loader.job)
loader.warehouse.close()
print("closed", flush=True)
"""
)
# The script, its arguments, and the number and sum of the table's values when it is done.
SCRIPTS = {
    "merge": (MERGE, ("merge",), (750, 1750)),
    "merge by a new table": (MERGE, ("merge", "rewrite"), (750, 1750)),
    "refresh": (REFRESH, ("append",), (2000, 15000)),
    "empty refresh": (REFRESH, ("append", "empty"), (0, None)),
}
OLD = (500, 500)
CONTENT = "SELECT count(*), sum(v) FROM t"
TRUTH = "SELECT count(*), count(DISTINCT id), sum(id), count(new), count(s.x), count(s.y) FROM t"


def run(
    folder: Path, *trace: str, script: str = RUN, arguments: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", script, str(Path(__file__).parent), str(folder), *arguments]
    return subprocess.run([*trace, *command], capture_output=True, text=True, timeout=600, check=False)


def calls_on_the_database(
    folder: Path, script: str = RUN, arguments: Sequence[str] = ()
) -> list[tuple[str, int]]:
    """Return the calls of one run that concern the database's files, each with its number in its thread."""
    log = folder.with_suffix(".strace")
    trace = ("strace", "-f", "-y", "-e", f"trace={CALLS}", "-o", str(log))
    result = run(folder, *trace, script=script, arguments=arguments)
    assert result.returncode == 0, result.stderr
    counts: Counter[tuple[str, str]] = Counter()
    found: set[tuple[str, int]] = set()
    for line in log.read_text(errors="replace").splitlines():
        match = re.match(r"(\d+) +(\w+)\((.*)", line)
        if match and match[2] in CALLS.split(","):
            counts[match[1], match[2]] += 1
            if "w.duckdb" in match[3]:
                found.add((match[2], counts[match[1], match[2]]))
    return sorted(found)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_killed_at_any_write_the_same_plans_give_the_same_table(tmp_path):
    points = calls_on_the_database(tmp_path / "counted")
    calls = {call for call, _ in points}
    assert "pwrite64" in calls or "write" in calls
    assert "fsync" in calls or "fdatasync" in calls

    def killed_and_repeated(point: tuple[str, int]) -> tuple[object, ...]:
        call, number = point
        folder = tmp_path / f"{call}-{number}"
        inject = f"inject={call}:signal=SIGKILL:when={number}"
        killed = run(folder, "strace", "-f", "-e", f"trace={call}", "-e", inject, "-o", "/dev/null")
        repeated = run(folder)
        with duckdb.connect(str(folder / "w.duckdb"), read_only=True) as connection:
            rows = connection.execute(TRUTH).fetchall()
            ledger = connection.execute('SELECT count(*), sum("rows"), max(loads) FROM _etl_loads').fetchall()
        shutil.rmtree(folder)
        return point, "closed" in killed.stdout, repeated.stderr, rows, ledger

    with ThreadPoolExecutor(2) as executor:
        results = list(executor.map(killed_and_repeated, points))
    truth = [(1500, 1500, 1124250, 500, 500, 500)]
    wrong = [result for result in results if result[2:] != ("", truth, [(2, 1500, 2)])]
    assert not wrong
    assert not any(survived for _, survived, *_ in results)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.parametrize("what", SCRIPTS)
def test_killed_at_any_write_the_table_holds_the_old_rows_or_the_new_ones(tmp_path, what):
    script, arguments, new = SCRIPTS[what]
    filled = tmp_path / "filled"
    assert run(filled, script=FILL, arguments=arguments).stderr == ""
    assert content(filled) == OLD
    counted = tmp_path / "counted"
    shutil.copytree(filled, counted)
    points = calls_on_the_database(counted, script, arguments)
    assert content(counted) == new

    def killed_and_repeated(point: tuple[str, int]) -> tuple[object, ...]:
        call, number = point
        folder = tmp_path / f"{call}-{number}"
        shutil.copytree(filled, folder)
        inject = f"inject={call}:signal=SIGKILL:when={number}"
        trace = ("strace", "-f", "-e", f"trace={call}", "-e", inject, "-o", "/dev/null")
        killed = run(folder, *trace, script=script, arguments=arguments)
        between = content(folder)
        errors = [run(folder, script=script, arguments=arguments).stderr for _ in range(2)]
        after = content(folder)
        shutil.rmtree(folder)
        return point, "closed" in killed.stdout, between in (OLD, new), errors, after

    with ThreadPoolExecutor(2) as executor:
        results = list(executor.map(killed_and_repeated, points))
    assert len(results) > 5
    assert not [result for result in results if result[1:] != (False, True, ["", ""], new)]


def content(folder: Path) -> tuple[object, ...]:
    """Return what the table holds; this opens the database as a reader does, and recovers nothing for good."""
    with duckdb.connect(str(folder / "w.duckdb"), read_only=True) as connection:
        return connection.execute(CONTENT).fetchall()[0]
