"""Clients of Google's services, with the credentials that Google's libraries find by themselves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sinks import google_errors
from sinks.errors import SinkError
from sinks.hurry import SLICE, Hurry
from sinks.retry import Retry

# The bytes a second with which Google's answers must come, over the seconds of the timeout for reading.
LEAST_SPEED = 1024.0

C = TypeVar("C")

# Anonymous memory that importing the clients takes, measured, for `NeedsMemory`: what both import, and the rest.
_MIB = 1024 * 1024
_SHARED = {"Google's libraries": 16 * _MIB}
STORAGE_NEEDS = {**_SHARED, "google-cloud-storage": 2 * _MIB}
BIGQUERY_NEEDS = {**_SHARED, "google-cloud-bigquery": 14 * _MIB}


def checked(client: C | None, method: str) -> C | None:
    """Return a client that was handed over.

    Args:
        client: a client, or None.
        method: what a client of that kind has.

    Raises:
        ValueError: it is none.
    """
    if client is not None and not hasattr(client, method):
        raise ValueError(f"client: expected a client object, in Python alone, found {client!r}")
    return client


class _Watch:
    """Looks after the connections of a client; as `sinks.connections.Guard`."""

    least_speed = LEAST_SPEED

    def __init__(self, hurry: Hurry) -> None:
        self.look = hurry.look

    def may_connect(self, address: str, *, proxied: bool) -> None:
        """Let it connect: where Google's services are is not the job's to say."""

    connected = may_connect


def watched(client: C, hurry: Hurry) -> C:
    """Let every wait of a client that was just made have a deadline: requests' own counts from byte to byte.

    Args:
        client: of Cloud Storage or BigQuery.
        hurry: cuts its waits short.
    """
    from sinks.connections import guard_session

    session: Any = client._http  # type: ignore[attr-defined]  # of which Google publishes no types
    guard_session(session, _Watch(hurry))
    guard_session(session._auth_request.session, _Watch(hurry))  # asks for tokens
    return client


def made(
    make: Callable[[], C], *, service: str, emulator: str, deadline: float, hurry: Hurry | None = None
) -> C:
    """Make a client; sends no request to its service.

    Args:
        make: makes it with the Application Default Credentials, or without any for an emulator.
        service: what it is a client of, for messages.
        emulator: the environment variable that leads to an emulator, for messages.
        deadline: how long to look for credentials, in seconds. The metadata server of a virtual machine is asked
            last, and google.auth waits for it as it sees fit, whatever it is told.
        hurry: cuts the wait short; None: nothing does.

    Raises:
        SinkError: there are no credentials, or they were not found by then.
        HurriedAway: there is no time to look for them.
    """
    hurry = hurry or Hurry(deadline)
    found: list[C] = []
    failed: list[Exception] = []

    def look() -> None:
        try:
            found.append(Retry(deadline=deadline).call(make, passing=google_errors.passing))
        except Exception as error:  # raised below, in the thread that asked
            failed.append(error)

    thread = threading.Thread(target=look, name="google-credentials", daemon=True)
    thread.start()
    began = time.monotonic()
    while thread.is_alive() and (seconds := time.monotonic() - began) < deadline:
        hurry.look(seconds)
        thread.join(min(SLICE, deadline - seconds))
    if found:
        return found[0]
    if not failed:
        raise SinkError(
            f"cannot reach {service}: no Google credentials were found in {deadline:g} s; run `gcloud auth "
            "application-default login`, or let GOOGLE_APPLICATION_CREDENTIALS name a key file"
        )
    error = failed[0]
    if google_errors.known(error):
        raise SinkError(google_errors.explain(error, f"reach {service}")) from error
    if isinstance(error, (OSError, ValueError)):
        raise SinkError(
            f"cannot reach {service}: {error}; look at {emulator} and GOOGLE_APPLICATION_CREDENTIALS"
        ) from error
    raise error
