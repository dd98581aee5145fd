"""Kill jobs that replace and merge on Google Cloud after every request that changes something, and stop them at some.

Until the exchange whoever reads the table that is replaced finds the old content, all of it, and the new one after it;
the job then goes on elsewhere to exactly the new one. As in `tests.test_google_crashes`, "after" one request and
"before" the next leave the same behind.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import pytest

from etl.testing.fault_proxy import Kill, Stop
from tests import google_jobs
from tests import refresh_jobs as jobs
from tests.crash_points import EXHAUSTIVE, changes, tried
from tests.google import TIMEOUT, GoogleServers
from tests.google_jobs import FENCED, NEW, Case, objects

pytestmark = pytest.mark.slow

# The requests of one job are dealt out to so many tests, each of which ends in good time on a busy machine, too.
SHARES = 4

# How far apart those requests are. Refreshes that are asked for differ from those of `replace` in how they begin and
# end alone; `make test-exhaustive` kills them at every request.
APART = {"full refresh": 3, "merge refreshed": 4}
OLD = NEW - 1


def apart(way: str) -> int:
    """Return how far apart the requests are at which the job is killed."""
    return 1 if EXHAUSTIVE else APART.get(way, 1)


@contextmanager
def case(servers: GoogleServers, directory: Path, way: str) -> Iterator[Case]:
    """Make a case whose table holds the old content."""
    with google_jobs.case(servers, directory, way=way) as made:
        rows = ", ".join(str(row) for row in jobs.expected(way, OLD))
        with closing(servers.bigquery_client()) as client:
            client.query(
                f"CREATE TABLE `{made.table}` (number INT64, changed INT64, place INT64, text STRING)"
            ).result()
            client.query(f"INSERT INTO `{made.table}` (number, changed, place) VALUES {rows}").result()
        yield made


def found(case: Case) -> list[jobs.Row]:
    with closing(case.servers.bigquery_client()) as client:
        rows = client.list_rows(case.table, timeout=TIMEOUT)
        return sorted((row["number"], row["changed"], row["place"]) for row in rows)


def new_content(way: str) -> list[jobs.Row]:
    return jobs.expected(way, *((OLD, NEW) if way == "merge" else (NEW,)))


def assert_done(case: Case) -> None:
    """Compare the table, the dead letters, the bucket and the dataset with the truth."""
    assert found(case) == new_content(case.way)
    root = case.servers.gcs.root / case.bucket
    letters = jobs.lines([root / name for name in objects(case, "etl/job-rejects/")])
    once = list(range(7, jobs.RECORDS, 20))
    # A run that was killed when it had done all there is to do is replaced by the one after it.
    places = sorted(letter["record"]["place"] for letter in letters)
    assert places == once or (case.way == "replace" and places == sorted(once * 2))
    assert objects(case, "parts/") == []
    with closing(case.servers.bigquery_client()) as client:
        names = {each.table_id for each in client.list_tables(case.dataset, timeout=TIMEOUT)}
    assert names == {google_jobs.TABLE} | ({"_etl_loads"} if case.way.startswith("merge") else set())


def go_on(case: Case) -> None:
    """Run the job to its end, as whoever starts it again would."""
    checkpoint = case.servers.gcs.root / case.bucket / "etl/job.json"
    noted = checkpoint.exists() and json.loads(checkpoint.read_bytes())["refresh"]
    case.finish(asks=not noted and found(case) == jobs.expected(case.way, OLD))


@pytest.mark.parametrize("way", jobs.WAREHOUSES)
def test_the_job_makes_requests_enough_to_be_worth_killing(google_servers, tmp_path, way):
    with case(google_servers, tmp_path, way) as made:
        made.finish(asks=True)
        assert_done(made)
        assert made.counter.count > 30


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("way", jobs.WAREHOUSES)
def test_killed_after_any_request_the_job_goes_on_elsewhere(google_servers, tmp_path, way, share):
    for points, nth in enumerate(count(1 + share * apart(way), SHARES * apart(way))):
        with case(google_servers, tmp_path, way) as made:
            kill = Kill(made.pid, when="after")
            made.disturb(nth, kill, of=changes)
            made.start().join()
            if way in jobs.IN_ONE_STEP:
                assert found(made) in (jobs.expected(way, OLD), new_content(way))
            go_on(made)
            assert_done(made)
        if not kill.happened.is_set():
            tried(f"kill after a request of {way}, {share + 1}/{SHARES}", points)
            return


@pytest.mark.parametrize("way", ["replace", "merge"])
def test_a_zombie_that_wakes_up_changes_nothing(google_servers, tmp_path, way):
    for points, nth in enumerate(count(2, 7)):
        with case(google_servers, tmp_path, way) as made:
            stop = Stop(made.pid, when="before")
            made.disturb(nth, stop)
            zombie = made.start()
            while not stop.happened.wait(0.01) and zombie.is_alive():
                pass
            made.finish()
            if stop.happened.is_set():
                requests = made.counter.count
                os.kill(made.pid(), signal.SIGCONT)
                zombie.join()
                ended = zombie.exitcode == 0 and made.counter.count == requests  # it had nothing left to do
                assert zombie.exitcode == FENCED or ended, made.said("first")
            assert found(made) == new_content(way)
        if not stop.happened.is_set():
            tried(f"stop before every seventh request of {way}", points)
            return
