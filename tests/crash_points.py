"""How many crash points the tests try: noted here by family, so that none is lost without being noticed.

A job is killed at each of its requests that changes something: one that only reads leaves nothing behind that was not
there before it. `make test-exhaustive` (`ETL_EXHAUSTIVE`) kills it at those that read, too.

On this machine alone the points are system calls that change a file.
"""

from __future__ import annotations

import os

from etl.testing.fault_proxy.messages import Head

EXHAUSTIVE = "ETL_EXHAUSTIVE" in os.environ

# The least that each family has; a test that tries fewer fails. It is an eighth less than was counted, as a run makes a
# few requests more or less: the writes of two parts are one where a load has ended by then.
LEAST = {
    "a load stopped at a call": 23,
    "big_file stopped at a call": 110,
    "kill after a request of file_sink_with_staging, 1/2": 22,
    "kill after a request of file_sink_with_staging, 2/2": 22,
    "kill after a request of file_sink_without_staging, 1/2": 17,
    "kill after a request of file_sink_without_staging, 2/2": 17,
    "kill after a request of full refresh, 1/4": 2,
    "kill after a request of full refresh, 2/4": 2,
    "kill after a request of full refresh, 3/4": 2,
    "kill after a request of full refresh, 4/4": 2,
    "kill after a request of gcs_stream, 1/2": 18,
    "kill after a request of gcs_stream, 2/2": 18,
    "kill after a request of gcs_stream_kept, 1/2": 16,
    "kill after a request of gcs_stream_kept, 2/2": 16,
    "kill after a request of merge refreshed, 1/4": 2,
    "kill after a request of merge refreshed, 2/4": 2,
    "kill after a request of merge refreshed, 3/4": 2,
    "kill after a request of merge refreshed, 4/4": 1,
    "kill after a request of merge, 1/4": 8,
    "kill after a request of merge, 2/4": 8,
    "kill after a request of merge, 3/4": 8,
    "kill after a request of merge, 4/4": 8,
    "kill after a request of replace, 1/4": 8,
    "kill after a request of replace, 2/4": 8,
    "kill after a request of replace, 3/4": 8,
    "kill after a request of replace, 4/4": 8,
    "kill before a request of file_sink_without_staging, 1/2": 17,
    "kill before a request of file_sink_without_staging, 2/2": 17,
    "kill before a request of gcs_stream, 1/2": 18,
    "kill before a request of gcs_stream, 2/2": 18,
    "misfits stopped at a call": 89,
    "numbered_chunks killed at a call": 88,
    "numbered_chunks stopped at a call": 111,
    "numbered_chunks_not_kept stopped at a call": 112,
    "reused_file stopped at a call": 105,
    "reused_file_one_slot stopped at a call": 108,
    "stop after a request of file_sink_without_staging, 1/2": 26,
    "stop after a request of file_sink_without_staging, 2/2": 26,
    "stop after a request of gcs_stream, 1/2": 26,
    "stop after a request of gcs_stream, 2/2": 26,
    "stop before a request of gcs_stream, 1/2": 26,
    "stop before a request of gcs_stream, 2/2": 26,
    "stop before a request of gcs_stream_kept, 1/2": 25,
    "stop before a request of gcs_stream_kept, 2/2": 26,
    "stop before every seventh request of merge": 9,
    "stop before every seventh request of replace": 8,
}


def changes(head: Head) -> bool:
    """Say whether a job is to be killed at a request."""
    return EXHAUSTIVE or head.method not in ("GET", "HEAD")


def tried(family: str, points: int) -> None:
    """Compare the crash points that were tried with those that are noted.

    Args:
        family: what was killed, and where.
        points: how many times; a family that is dealt out to several tests has them all, counted before that.

    Raises:
        AssertionError: they are fewer, or nobody noted how many there are.
    """
    assert points >= LEAST.get(family, points + 1), (
        f"{family}: {points} crash points were tried, and {LEAST.get(family, 'no number')} is noted in {__name__}: "
        "find out which are lost; if they are gone for good, note the new number"
    )
