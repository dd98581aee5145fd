"""The daily quota of a table: never more jobs in 24 hours than the budget, whatever is asked of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.quota import DAY, SPAN, Operations, Quota


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def run(budget: int, days: float, seconds_a_job: float) -> list[float]:
    """Submit a job whenever the quota allows it, and return when each was submitted."""
    clock = Clock()
    quota = Quota(budget, clock)
    began, submitted, operations = clock.now, [], ()
    while clock.now - began < days * DAY:
        interval = quota.interval(operations)
        if interval is None:
            clock.now += max(quota.free_in(operations), 1)
            continue
        if submitted and clock.now < submitted[-1] + interval:
            clock.now = submitted[-1] + interval
            continue
        submitted.append(clock.now)
        operations = quota.noted(operations, 1)
        clock.now += seconds_a_job
    return submitted


def most_in_a_day(times: list[float]) -> int:
    return max(sum(1 for other in times if time <= other < time + DAY) for time in times)


@pytest.mark.parametrize("seconds_a_job", [0.5, 20, 100])
@pytest.mark.parametrize("budget", [1, 10, 140])
def test_no_24_hours_see_more_jobs_than_the_budget(budget: int, seconds_a_job: float) -> None:
    assert most_in_a_day(run(budget, 3, seconds_a_job)) <= budget


def test_most_of_the_budget_can_be_used_in_a_day() -> None:
    assert most_in_a_day(run(140, 3, 1)) >= 100


def test_the_first_half_of_the_budget_needs_no_waiting() -> None:
    clock = Clock()
    quota = Quota(1400, clock)
    assert quota.interval(quota.noted((), 700)) == 0


def test_the_interval_grows_as_the_budget_is_used_up() -> None:
    quota = Quota(1400, Clock())
    intervals = [quota.interval(quota.noted((), used)) or 0 for used in range(700, 1400, 50)]
    assert intervals == sorted(intervals)
    assert intervals[-1] > DAY / 60


def test_jobs_count_no_more_after_a_day_and_the_span_they_were_noted_in() -> None:
    clock = Clock()
    quota = Quota(10, clock)
    operations = quota.noted((), 10)
    assert quota.interval(operations) is None
    clock.now += quota.free_in(operations)
    assert quota.used(operations) == 0
    assert quota.interval(operations) == 0


@given(st.lists(st.tuples(st.floats(0, 3600), st.integers(1, 5)), max_size=300))
def test_what_is_noted_does_not_grow_with_the_number_of_jobs(steps: list[tuple[float, int]]) -> None:
    clock = Clock()
    quota = Quota(1400, clock)
    operations: Operations = ()
    for seconds, count in steps:
        clock.now += seconds
        operations = quota.noted(operations, count)
    assert len(operations) <= DAY // SPAN + 2
