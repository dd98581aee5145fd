"""Kill the process at every call that changes a file, load the same plans again, and compare with the truth."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from etl.checkpoint import Plan, replace
from etl.warehouses.duckdb import warehouse as module
from tests import forks
from tests.tracing import killing_at, strace
from tests.warehouses import every_kind
from tests.warehouses.conftest import Loader

CALLS = "pwrite64,write,fsync,fdatasync,ftruncate,unlink,rename"


def fill_new(folder: Path, *rests: str) -> None:
    """Load two plans into a table that is not there yet; with a word, close the file after each as when it is idle."""
    module.IDLE_SECONDS = 600.0  # not on a thread of its own, whose calls would come at any time
    loader = Loader(folder)
    loader.warehouse.identity(draw=True)
    first = loader.part([{"id": n, "new": None} for n in range(500)])
    second = loader.part([{"id": n, "s": {"x": n}, "new": "x"} for n in range(500, 1000)])
    third = loader.part([{"id": n, "s": {"y": [n]}} for n in range(1000, 1500)])
    for plan in (loader.plan(first), loader.plan(second, third)):
        loader.warehouse.load(loader.job, plan)
        if rests:
            module.IDLE_SECONDS = 0.0
            loader.warehouse._let_go()
            module.IDLE_SECONDS = 600.0
            assert loader.warehouse._session is None
    close(loader)


def close(loader: Loader) -> None:
    loader.warehouse.close()
    sys.stdout.write("closed\n")
    sys.stdout.flush()


def opened(folder: Path, disposition: str) -> tuple[Loader, Plan]:
    """Return what loads, and the plan that the table holds already when those below begin, which put in other rows."""
    module.IDLE_SECONDS = 600.0
    options = {"disposition": "merge", "key": ["id"], "updated_at": "v"} if disposition == "merge" else {}
    loader = Loader(folder, **options)
    return loader, loader.plan(loader.part([{"id": n, "v": 1} for n in range(500)]))


def fill(folder: Path, disposition: str, *_: str) -> None:
    loader, first = opened(folder, disposition)
    loader.warehouse.load(loader.job, first)
    loader.warehouse.close()


def merge(folder: Path, disposition: str, *rewrite: str) -> None:
    loader, _ = opened(folder, disposition)
    parts = [loader.part([{"id": n, "v": v, "new": "x" * v} for n in range(250, 750)]) for v in (3, 2)]
    plan = loader.plan(*parts)
    if rewrite:
        with loader.warehouse._using("load") as session:
            session.load(loader.job, plan, rewrite=True)
    else:
        loader.warehouse.load(loader.job, plan)
    close(loader)


def refresh(folder: Path, disposition: str, *empty: str) -> None:
    loader, _ = opened(folder, disposition)
    loader.job = replace(loader.job, refresh="r1")
    plans = [loader.plan(loader.part([{"id": n, "v": v} for n in range(1000)])) for v in (7, 8)]
    loader.warehouse.begin_refresh(loader.job)
    for plan in () if empty else plans:
        loader.warehouse.load(loader.job, plan)
    loader.warehouse.finish_refresh(loader.job)
    close(loader)


def fill_every_kind(folder: Path) -> None:
    """Make a table of every kind by hand, with tables around it."""
    with duckdb.connect(str(folder / "w.duckdb")) as connection:
        for statements in (every_kind.BEFORE, every_kind.TABLE, every_kind.REFERRING, every_kind.ROWS):
            connection.execute(statements)


def refresh_every_kind(folder: Path) -> None:
    module.IDLE_SECONDS = 600.0
    loader = Loader(folder)
    records = [{"id": n, "day": "2024-01-01", "country": "de", "int": n} for n in range(40)]
    parts = [records[:20], [{**record, "price": "1.50"} for record in records[20:]]]
    plans = [loader.plan(loader.part(part)) for part in parts]
    if loader.warehouse.latest(loader.job) is None:
        loader.warehouse.check_refresh(loader.job)
    loader.job = replace(loader.job, refresh="r1")
    loader.warehouse.begin_refresh(loader.job)
    for plan in plans:
        loader.warehouse.load(loader.job, plan)
    loader.warehouse.finish_refresh(loader.job)
    close(loader)


# What is called, its arguments, and the number and sum of the table's values when it is done.
CHANGES: dict[str, tuple[Callable[..., None], tuple[str, ...], tuple[int, int | None]]] = {
    "merge": (merge, ("merge",), (750, 1750)),
    "merge by a new table": (merge, ("merge", "rewrite"), (750, 1750)),
    "refresh": (refresh, ("append",), (2000, 15000)),
    "empty refresh": (refresh, ("append", "empty"), (0, None)),
}
OLD = (500, 500)
EVERY_KIND = ((40, 780, 20), (2, 3), [(1, 1), (1, 2)])
CONTENT = "SELECT count(*), sum(v) FROM t"
TRUTH = "SELECT count(*), count(DISTINCT id), sum(id), count(new), count(s.x), count(s.y) FROM t"


def run(
    folder: Path,
    *trace: str,
    change: Callable[..., None] = fill_new,
    arguments: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    return forks.run(change, folder, *arguments, under=trace)


def calls_on_the_database(
    folder: Path, change: Callable[..., None] = fill_new, arguments: Sequence[str] = ()
) -> list[tuple[str, int]]:
    """Return the calls of one run that concern the database's files, each with its number in its thread."""
    log = folder.with_suffix(".strace")
    result = run(folder, *strace(log, CALLS, "-y"), change=change, arguments=arguments)
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
@pytest.mark.parametrize("rests", [(), ("rests",)], ids=["open all the time", "closed between loads"])
def test_killed_at_any_write_the_same_plans_give_the_same_table(tmp_path, rests):
    points = calls_on_the_database(tmp_path / "counted", arguments=rests)
    calls = {call for call, _ in points}
    assert "pwrite64" in calls or "write" in calls
    assert "fsync" in calls or "fdatasync" in calls

    def killed_and_repeated(point: tuple[str, int]) -> tuple[object, ...]:
        call, number = point
        folder = tmp_path / f"{call}-{number}"
        killed = run(folder, *strace(Path("/dev/null"), call, killing_at(call, number)), arguments=rests)
        repeated = run(folder, arguments=rests)
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
@pytest.mark.parametrize("what", CHANGES)
def test_killed_at_any_write_the_table_holds_the_old_rows_or_the_new_ones(tmp_path, what):
    change, arguments, new = CHANGES[what]
    filled = tmp_path / "filled"
    assert run(filled, change=fill, arguments=arguments).stderr == ""
    assert content(filled) == OLD
    counted = tmp_path / "counted"
    shutil.copytree(filled, counted)
    points = calls_on_the_database(counted, change, arguments)
    assert content(counted) == new

    def killed_and_repeated(point: tuple[str, int]) -> tuple[object, ...]:
        call, number = point
        folder = tmp_path / f"{call}-{number}"
        shutil.copytree(filled, folder)
        trace = strace(Path("/dev/null"), call, killing_at(call, number))
        killed = run(folder, *trace, change=change, arguments=arguments)
        between = content(folder)
        errors = [run(folder, change=change, arguments=arguments).stderr for _ in range(2)]
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


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_killed_at_any_write_of_a_refresh_all_tables_keep_their_form_and_have_the_old_rows_or_the_new_ones(
    tmp_path,
):
    filled, counted = tmp_path / "filled", tmp_path / "counted"
    assert run(filled, change=fill_every_kind).stderr == ""
    old = form_and_rows(filled)
    shutil.copytree(filled, counted)
    points = calls_on_the_database(counted, refresh_every_kind)
    new = form_and_rows(counted)
    assert new == (old[0], EVERY_KIND)

    def killed_and_repeated(point: tuple[str, int]) -> tuple[object, ...]:
        call, number = point
        folder = tmp_path / f"{call}-{number}"
        shutil.copytree(filled, folder)
        killed = run(
            folder, *strace(Path("/dev/null"), call, killing_at(call, number)), change=refresh_every_kind
        )
        between = form_and_rows(folder)
        repeated = run(folder, change=refresh_every_kind)
        after = form_and_rows(folder)
        shutil.rmtree(folder)
        return point, "closed" in killed.stdout, between in (old, new), repeated.stderr, after == new

    with ThreadPoolExecutor(2) as executor:
        results = list(executor.map(killed_and_repeated, points))
    assert len(results) > 40
    assert not [result for result in results if result[1:] != (False, True, "", True)]


def form_and_rows(folder: Path) -> tuple[object, ...]:
    """Return the form of all tables, and the rows of the one that is refreshed and of those that refer to it.

    DuckDB 2.0.0 cannot replay what changed a table with checks while it may load extensions by itself; a job may not.
    """
    settings: dict[str, str | bool | int | float | list[str]] = {
        "autoload_known_extensions": False,
        "autoinstall_known_extensions": False,
    }
    with duckdb.connect(str(folder / "w.duckdb"), read_only=True, config=settings) as connection:
        rows = connection.execute("SELECT count(*), sum(id), count(price) FROM t").fetchall()[0]
        orders = connection.execute("SELECT count(*), sum(t) FROM orders").fetchall()[0]
        lines = connection.execute("SELECT orders, t FROM lines ORDER BY ALL").fetchall()
        return every_kind.described(connection), (rows, orders, lines)
