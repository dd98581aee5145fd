"""Disturb and stop a job on Google Cloud at every request that it makes, before and after the server saw it.

It is killed at every one that changes something.

The table, the loads and the bucket must be the truth each time, record by record. A killed job's disk is lost, too: the
next process starts on an empty one.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from etl.testing.fault_proxy import Answer, CutRequest, Delay, Drop, Fault, Kill, Stop, Truncate
from etl.testing.fault_proxy.faults import When
from tests import disks, google_jobs
from tests.crash_points import changes, tried
from tests.google import GoogleServers
from tests.google_jobs import FENCED, Case, assert_exactly_once, case

pytestmark = pytest.mark.slow

# The requests of one job are dealt out to the test runner's processes.
SHARES = 2

CHUNKS = {"type": "numbered_chunks", "path": "out/job.ndjson", "keep": False}

JOBS = {
    "gcs_stream": {},
    "gcs_stream_kept": {"sink": google_jobs.KEPT},
    "file_sink_without_staging": {"sink": CHUNKS},
    "file_sink_with_staging": {"sink": CHUNKS, "staging": True},
}

# Of a process that is killed and whose disk is lost, "after" one request and "before" the next leave the same behind,
# but for what its other threads had sent. So the cases of the jobs with files, which are alike, are one of the two.
KILLED = [
    ("gcs_stream", "before"),
    ("gcs_stream", "after"),
    ("gcs_stream_kept", "after"),
    pytest.param("file_sink_without_staging", "before", marks=disks.needs_root),
    pytest.param("file_sink_without_staging", "after", marks=disks.needs_root),
    pytest.param("file_sink_with_staging", "after", marks=disks.needs_root),
]

STOPPED = [
    ("gcs_stream", "before"),
    ("gcs_stream", "after"),
    ("gcs_stream_kept", "before"),
    pytest.param("file_sink_without_staging", "after", marks=disks.needs_root),
]


def cases(
    servers: GoogleServers, directory: Path, job: str, share: int, make: type[Kill | Stop], when: When
) -> Iterator[tuple[Case, Fault]]:
    """Give a case for each request at which the job is to be killed or stopped; the last one is not struck."""
    options = {"of": changes} if make is Kill else {}
    for nth in count(1 + share, SHARES):
        with case(servers, directory, **JOBS[job]) as made:
            fault = make(made.pid, when=when)
            made.disturb(nth, fault, **options)
            yield made, fault
        if not fault.happened.is_set():
            tried(f"{make.__name__.lower()} {when} a request of {job}, {share + 1}/{SHARES}", nth // SHARES)
            return


def test_the_job_has_parts_and_plans_enough_to_be_worth_disturbing(google_servers, tmp_path):
    with case(google_servers, tmp_path) as made:
        made.finish()
        assert_exactly_once(made)
        assert len(google_jobs.loads(made)) >= 3
        assert len([seen for seen in made.storage.log if "uploadType=resumable" in seen.path]) >= 6


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize(("job", "when"), KILLED)
def test_killed_at_any_request_the_job_goes_on_elsewhere_exactly_once(
    google_servers, tmp_path, job, when, share
):
    for made, _ in cases(google_servers, tmp_path, job, share, Kill, when):
        made.start().join()
        made.finish()
        assert_exactly_once(made)


# A run is disturbed at every tenth request, beginning with another one each time.
APART = 10


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        (Drop, {"when": "before"}),
        (Drop, {"when": "after"}),
        (Delay, {"seconds": 0.1}),
        (Answer, {"status": 408}),
        (Answer, {"status": 429}),
        (Answer, {"status": 500}),
        (Answer, {"status": 503}),
        (Answer, {"status": 503, "when": "after"}),
        (Truncate, {"bytes": 5}),
        (CutRequest, {"bytes": 5}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "-".join(map(str, value.values())),
)
def test_disturbed_at_any_request_the_run_gets_through(google_servers, tmp_path, fault, options):
    for first in range(1, APART + 1):
        with case(google_servers, tmp_path, hurries=True) as made:
            faults = [fault(**options) for _ in range(20)]
            for number, each in enumerate(faults):
                made.counter.at(first + number * APART, each)
            made.finish()
            assert_exactly_once(made)
            struck = sum(each.happened.is_set() for each in faults)
            assert struck >= 4, "the job made hardly any request"
            assert struck < len(faults), "requests at the end were not disturbed"


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize(("job", "when"), STOPPED)
def test_a_zombie_that_wakes_up_is_fenced_and_changes_nothing(google_servers, tmp_path, job, when, share):
    for made, fault in cases(google_servers, tmp_path, job, share, Stop, when):
        zombie = made.start()
        while not fault.happened.wait(0.01) and zombie.is_alive():
            pass
        made.finish()
        if fault.happened.is_set():
            requests = made.counter.count
            os.kill(made.pid(), signal.SIGCONT)
            zombie.join()
            ended = zombie.exitcode == 0 and made.counter.count == requests  # it had nothing left to do
            assert zombie.exitcode == FENCED or ended, made.said("first")
        assert sorted(google_jobs.loaded(made)) == sorted(google_jobs.EXPECTED)
        made.finish("third")  # what the zombie's open part left behind is cleared by who holds the job
        assert_exactly_once(made)


@disks.needs_root
@pytest.mark.parametrize("disk", ["first", "third"])
def test_killed_between_burning_an_id_and_giving_its_plan_up_the_job_goes_on(google_servers, tmp_path, disk):
    """On the machine that has the parts, too: they look as if nothing had been given up."""
    with case(google_servers, tmp_path, sink=CHUNKS) as made:
        made.counter.at(1, Kill(made.pid), of=lambda head: head.path.startswith("/upload/bigquery/"))
        made.start("first").join()
        burnt = Kill(lambda: made.pid(1), when="after")
        made.counter.at(
            1, burnt, of=lambda head: head.method == "POST" and head.path.startswith("/bigquery/")
        )
        made.start("second").join()
        assert burnt.happened.wait(60)
        made.finish(disk)
        assert_exactly_once(made)
