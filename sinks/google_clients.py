"""Clients of Google's services, with the credentials that Google's libraries find by themselves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from sinks import google_errors
from sinks.errors import SinkError
from sinks.retry import Retry

C = TypeVar("C")


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


def made(make: Callable[[], C], *, service: str, emulator: str, deadline: float) -> C:
    """Make a client; sends no request to its service.

    Args:
        make: makes it with the Application Default Credentials, or without any for an emulator.
        service: what it is a client of, for messages.
        emulator: the environment variable that leads to an emulator, for messages.
        deadline: how long to look for credentials, in seconds. The metadata server of a virtual machine is asked
            last, and google.auth waits for it as it sees fit, whatever it is told.

    Raises:
        SinkError: there are no credentials, or they were not found by then.
    """
    found: list[C] = []
    failed: list[Exception] = []

    def look() -> None:
        try:
            found.append(Retry(deadline=deadline).call(make, passing=google_errors.passing))
        except Exception as error:  # raised below, in the thread that asked
            failed.append(error)

    thread = threading.Thread(target=look, name="google-credentials", daemon=True)
    thread.start()
    thread.join(deadline)
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
