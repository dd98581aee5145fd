"""What Google's clients raise: which of it may pass by itself, and what it means in words.

A status is looked at, never a message: 408, 429 and 5xx, and connections that break, are tried again (Cloud
Storage documentation, "Retry strategy"; BigQuery documentation, "Error messages"); all others are not.
"""

from __future__ import annotations

import re

PASSING = frozenset({408, 429, 500, 502, 503, 504})


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that an error of Google's clients or of requests stands for; None: no answer."""
    code = getattr(error, "code", None)  # google.api_core.exceptions
    if code is None:
        code = getattr(getattr(error, "response", None), "status_code", None)
    try:
        return None if code is None or callable(code) else int(code)
    except (TypeError, ValueError):
        return None


def passing(error: BaseException) -> bool:
    """Say whether the same request may succeed when it is sent again."""
    import google.auth.exceptions

    status = status_of(error)
    if status is not None:
        return status in PASSING
    if isinstance(error, google.auth.exceptions.GoogleAuthError) and error.retryable:
        return True
    return unanswered(error)


def unanswered(error: BaseException) -> bool:
    """Say whether the request got no whole answer: nobody knows whether the server did what it was asked."""
    import http.client

    import google.auth.exceptions
    import requests
    import urllib3.exceptions

    broken = (
        requests.exceptions.ConnectionError,
        requests.exceptions.Timeout,
        requests.exceptions.ChunkedEncodingError,
        requests.exceptions.ContentDecodingError,
        urllib3.exceptions.HTTPError,
        http.client.HTTPException,
        google.auth.exceptions.TransportError,
        ConnectionError,
        TimeoutError,
    )
    return isinstance(error, broken)


def known(error: BaseException) -> bool:
    """Say whether it is one of what Google's clients raise when a request fails; anything else is a mistake here."""
    import google.api_core.exceptions
    import google.auth.exceptions
    import requests

    kinds = (
        google.api_core.exceptions.GoogleAPIError,
        google.auth.exceptions.GoogleAuthError,
        requests.exceptions.RequestException,
    )
    return isinstance(error, kinds) or unanswered(error)


def without_secrets(said: str) -> str:
    """Return the text without upload ids: the one that knows one may write to its object for a week."""
    return re.sub(r"(upload_id=)[^&\s'\")]+", r"\1(hidden)", said)


def words(error: BaseException) -> str:
    """Return the server's own words where it has some, or the cause; the rest of what a client says is the request."""
    try:
        said = str(error.response.json()["error"]["message"])  # type: ignore[attr-defined]
    except (AttributeError, KeyError, TypeError, ValueError):
        cause = getattr(error.args[0] if error.args else None, "reason", None)  # of urllib3's MaxRetryError
        said = str(cause if isinstance(cause, Exception) else getattr(error, "message", "") or error)
    return without_secrets(" ".join(said.split()))[:500]


def explain(error: BaseException, what: str, *, needs: str = "") -> str:
    """Say in one line what went wrong, and what to do about it.

    Args:
        error: what the client raised.
        what: what was tried, and where: "write to gs://bucket/object".
        needs: the permissions that it takes: "storage.objects.create".
    """
    return f"cannot {what}: {_reason(error, needs)}"


def _reason(error: BaseException, needs: str) -> str:
    import google.auth.exceptions

    said = words(error) or type(error).__name__
    if isinstance(error, google.auth.exceptions.DefaultCredentialsError):
        return (
            f"no Google credentials can be used ({said}): run `gcloud auth application-default login`, or let "
            "GOOGLE_APPLICATION_CREDENTIALS name a key file, or run where a service account is attached"
        )
    if isinstance(error, google.auth.exceptions.RefreshError):
        return (
            f"the Google credentials are not accepted ({said}): log in again, or look at the service account"
        )
    status = status_of(error)
    if status == 401:
        return f"the credentials are not accepted ({said}): log in again, or look at the service account"
    if status == 403:
        wanted = f" {needs}" if needs else " it"
        return f"permission denied ({said}); give the account{wanted}"
    if status == 404:
        return f"it does not exist ({said}); make it, or fix its name"
    if status is not None:
        again = "; it was tried again until the deadline: run again later" if status in PASSING else ""
        return f"the server said {status} ({said}){again}"
    if unanswered(error):
        return (
            f"no answer ({said}); it was tried again until the deadline: look at the network, the proxy and "
            "the host, and run again"
        )
    return f"{type(error).__name__}: {said}"
