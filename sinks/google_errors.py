"""What Google's clients raise: which of it may pass by itself, and what it means in words.

Statuses and reasons are looked at, never a message: 408, 429 and 5xx, rate limits that come with 403, and connections
that break, are tried again (Cloud Storage documentation, "Retry strategy", "HTTP status and error codes for JSON";
BigQuery documentation, "Error messages"); all others are not. A message only decides which next step is told.
"""

from __future__ import annotations

import re

PASSING = frozenset({408, 429, 500, 502, 503, 504})

# Refusals (403) that pass, too.
PASSING_REASONS = frozenset({"rateLimitExceeded", "userRateLimitExceeded"})

# What a refusal says besides its status, and what to do about it; the first that is found counts.
_STEPS = (
    (
        re.compile(r"vpcServiceControls|VPC Service Controls"),
        "a perimeter of VPC Service Controls is in the way: run inside it, or have the account let in (an ingress or "
        "egress rule); who administers it finds the request by the identifier",
    ),
    (
        re.compile(r"Cloud KMS|cloudkms|KMS key", re.IGNORECASE),
        "the key of Cloud KMS cannot be used: enable its version, and give the service account that is named (of "
        "BigQuery, or of Cloud Storage) roles/cloudkms.cryptoKeyEncrypterDecrypter on it",
    ),
    (
        re.compile(r"retentionPolicyNotMet|retention policy|retention period", re.IGNORECASE),
        "the bucket's retention policy keeps the object: wait until its time is over, or use a bucket without one",
    ),
    (
        re.compile(
            r"objectUnderActiveHold|active (event-based |temporary )?hold|under active", re.IGNORECASE
        ),
        "a hold keeps the object: release it, or use a bucket without default holds",
    ),
    (
        re.compile(r"accountDisabled|billing account|billing has not been enabled", re.IGNORECASE),
        "the project's billing is off: enable billing for it",
    ),
)

# What a token server refuses, and what to do about it.
_LOG_IN = "log in again, or look at the service account"
_TOKEN_STEPS = (
    (
        re.compile(r"Invalid JWT Signature", re.IGNORECASE),
        "its key was deleted, or is another account's: make a new key",
    ),
    (
        re.compile(r"short-lived token|iat and exp|reasonable timeframe", re.IGNORECASE),
        "the clock of this machine is wrong: set it (by NTP), and run again",
    ),
    (
        re.compile(r"account not found|account.{0,20}(deleted|disabled)", re.IGNORECASE),
        "the service account is gone or disabled: enable it, or use another one",
    ),
    (
        re.compile(r"expired or revoked|invalid_rapt|reauth"),
        "run `gcloud auth application-default login` again",
    ),
)


def step_of(said: str) -> str | None:
    """Say what to do about a refusal that says more than its status or reason does; None: it does not.

    Args:
        said: its reason and its message.
    """
    return next((step for pattern, step in _STEPS if pattern.search(said)), None)


def reason_of(error: BaseException) -> str:
    """Return the reason that a Google service gives for refusing a request; empty: none."""
    errors = getattr(error, "errors", None)  # google.api_core.exceptions
    if not errors:
        try:
            errors = error.response.json()["error"]["errors"]  # type: ignore[attr-defined]
        except (AttributeError, KeyError, TypeError, ValueError):
            return ""
    first = errors[0] if isinstance(errors, (list, tuple)) and errors else None
    return str(first.get("reason") or "") if isinstance(first, dict) else ""


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

    if isinstance(error, google.auth.exceptions.GoogleAuthError):
        return _token_may_come(error)
    status = status_of(error)
    if status is not None:
        return status in PASSING or reason_of(error) in PASSING_REASONS
    return unanswered(error)


def _token_may_come(error: BaseException) -> bool:
    """Say whether credentials that could not be renewed may be renewed later.

    google.auth says so of some answers, and not of others that are no better: a metadata server that does not answer,
    the page of a proxy in the token server's place. What a token server refuses, it says in JSON (RFC 6749, section
    5.2); that is for good.
    """
    import google.auth.exceptions

    if getattr(error, "retryable", False):
        return True
    said = error.args[0] if error.args else ""
    if isinstance(said, google.auth.exceptions.TransportError):  # of the metadata server
        return _token_may_come(said)
    answer = error.args[1] if len(error.args) > 1 else None
    if isinstance(error, google.auth.exceptions.TransportError):
        status = getattr(answer, "status", None)
        return status is None or status in PASSING
    if not isinstance(error, google.auth.exceptions.RefreshError):
        return False
    refusal = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(refusal, dict):  # as Google's other services say it
        return refusal.get("code") in PASSING
    return answer is None and isinstance(said, str) and (not said.strip() or said.lstrip().startswith("<"))


def unanswered(error: BaseException) -> bool:
    """Say whether the request got no whole answer: nobody knows whether the server did what it was asked."""
    import http.client

    import google.auth.exceptions
    import requests
    import urllib3.exceptions

    if isinstance(error, google.auth.exceptions.TransportError):
        return _token_may_come(error)
    broken = (
        requests.exceptions.ConnectionError,
        requests.exceptions.Timeout,
        requests.exceptions.ChunkedEncodingError,
        requests.exceptions.ContentDecodingError,
        requests.exceptions.JSONDecodeError,  # of an answer with status 200
        urllib3.exceptions.HTTPError,
        http.client.HTTPException,
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
    except Exception:  # the body may be no JSON, may break off, or be read already (RuntimeError)
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
    if isinstance(error, google.auth.exceptions.GoogleAuthError) and passing(error):
        return (
            f"no token for the Google credentials ({said}); it was tried again until the deadline: look at the "
            "network, the proxy and the token server (or the metadata server), and run again"
        )
    if isinstance(error, google.auth.exceptions.RefreshError):
        what = next((step for pattern, step in _TOKEN_STEPS if pattern.search(said)), _LOG_IN)
        return f"the Google credentials are not accepted ({said}): {what}"
    status = status_of(error)
    if status == 401:
        return f"the credentials are not accepted ({said}): log in again, or look at the service account"
    if (
        status is not None
        and status not in PASSING
        and (step := step_of(f"{reason_of(error)} {said}")) is not None
    ):
        return f"it is refused ({said}); {step}, and run again"
    if status == 403:
        wanted = f" {needs}" if needs else " it"
        return f"permission denied ({said}); give the account{wanted}"
    if status == 404:
        return f"it does not exist ({said}); make it, or fix its name"
    if status == 400 and "user project" in said:  # the reason is `required` alone, and a download has none
        return (
            f"the bucket lets the requester pay, and no project was named ({said}); name the one that pays: "
            'user_project = "my-project"'
        )
    if status is not None:
        again = "; it was tried again until the deadline: run again later" if status in PASSING else ""
        return f"the server said {status} ({said}){again}"
    if unanswered(error):
        return (
            f"no answer ({said}); it was tried again until the deadline: look at the network, the proxy and "
            "the host, and run again"
        )
    return f"{type(error).__name__}: {said}"
