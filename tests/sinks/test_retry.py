"""The retry policy, and what it takes Google's errors for."""

from __future__ import annotations

import http.client
import time

import google.auth.exceptions
import pytest
import requests
from google.api_core import exceptions

from sinks import google_errors
from sinks.retry import Retry


class Failing:
    """Fails so many times, then returns how often it was called."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.calls


def test_what_passes_is_tried_again_with_growing_waits() -> None:
    waits: list[float] = []
    failing = Failing(*[exceptions.ServiceUnavailable("busy")] * 6)
    made = Retry(deadline=3600.0, first_wait=1.0, longest_wait=4.0)
    assert made.call(failing, passing=google_errors.passing, sleep=waits.append) == 7
    assert all(wait <= most for wait, most in zip(waits, (1.0, 2.0, 4.0, 4.0, 4.0, 4.0), strict=True))


def test_what_does_not_pass_is_raised_at_once() -> None:
    failing = Failing(exceptions.Forbidden("no"), exceptions.Forbidden("no"))
    with pytest.raises(exceptions.Forbidden):
        Retry().call(failing, passing=google_errors.passing)
    assert failing.calls == 1


def test_no_wait_goes_past_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        waits.append(seconds)
        now += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now)  # how long the machine takes is not counted
    failing = Failing(*[ConnectionError("broken")] * 10_000)
    made = Retry(deadline=60.0, first_wait=2.0, longest_wait=2.0)
    with pytest.raises(ConnectionError):
        made.call(failing, passing=google_errors.passing, sleep=sleep)
    assert failing.calls > 30
    assert 58.0 <= sum(waits) <= 60.0


def test_a_failed_attempt_says_how_long_to_wait_at_least() -> None:
    waits: list[float] = []
    failing = Failing(ConnectionError("30"), ConnectionError("7"))
    made = Retry(deadline=3600.0, first_wait=0.1, longest_wait=0.1)
    made.call(
        failing,
        passing=google_errors.passing,
        least_wait=lambda error: float(str(error)),
        sleep=waits.append,
    )
    assert waits == [30.0, 7.0]


def test_a_wait_that_is_asked_for_past_the_deadline_is_not_waited() -> None:
    waits: list[float] = []
    failing = Failing(ConnectionError("60"))
    with pytest.raises(ConnectionError, match="60"):
        Retry(deadline=60.0).call(
            failing, passing=google_errors.passing, least_wait=lambda _: 60.0, sleep=waits.append
        )
    assert (failing.calls, waits) == (1, [])


@pytest.mark.parametrize(
    "error",
    [
        exceptions.TooManyRequests("slow down"),
        exceptions.InternalServerError("oops"),
        exceptions.from_http_status(408, "late"),
        requests.exceptions.ReadTimeout("late"),
        requests.exceptions.ChunkedEncodingError("cut"),
        http.client.IncompleteRead(b""),
        ConnectionResetError("reset"),
        google.auth.exceptions.TransportError("no metadata server"),
        google.auth.exceptions.RefreshError("busy", retryable=True),
    ],
)
def test_these_may_pass(error: Exception) -> None:
    assert google_errors.known(error)
    assert google_errors.passing(error)


@pytest.mark.parametrize(
    "error",
    [
        exceptions.BadRequest("no"),
        exceptions.Unauthorized("no"),
        exceptions.NotFound("no"),
        exceptions.PreconditionFailed("no"),
        exceptions.Conflict("no"),
        google.auth.exceptions.RefreshError("revoked"),
        google.auth.exceptions.DefaultCredentialsError("none"),
    ],
)
def test_these_will_not_pass(error: Exception) -> None:
    assert google_errors.known(error)
    assert not google_errors.passing(error)


@pytest.mark.parametrize(
    "error", [ValueError("ours"), KeyError("ours"), RuntimeError("ours"), FileNotFoundError("ours")]
)
def test_a_mistake_of_ours_is_none_of_googles(error: Exception) -> None:
    assert not google_errors.known(error)
    assert not google_errors.passing(error)


def test_an_explanation_is_one_line_without_upload_ids() -> None:
    error = requests.exceptions.ConnectionError("PUT /upload?upload_id=SECRET&x=1\n  failed")
    said = google_errors.explain(error, "write gs://parts/object")
    assert said.startswith(
        "cannot write gs://parts/object: no answer (PUT /upload?upload_id=(hidden)&x=1 failed)"
    )
    assert "SECRET" not in said
    assert "\n" not in said
