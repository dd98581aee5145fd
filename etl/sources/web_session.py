"""How a session of requests is set up, and what a server's headers ask for."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import requests

    from sinks.connections import Guard

# Headers that hold no secret, whose values may be in a message.
_OPEN = frozenset(
    {"accept", "accept-language", "cache-control", "content-type", "from", "origin", "pragma", "referer"}
    | {"user-agent", "x-requested-with"}
)


def open_session(
    headers: Mapping[str, str], *, guard: Guard, own_credentials: bool = False
) -> requests.Session:
    """Open a session of one connection a host, without retries of its own.

    Args:
        headers: those of all requests; they are not sent by the session itself.
        guard: watches its connections.
        own_credentials: whether requests bring credentials besides those.
    """
    import requests
    from requests.adapters import HTTPAdapter

    from sinks.connections import guard_session

    session = requests.Session()
    # `Web` follows redirects itself: requests would read the whole body of each, however large, to look at the next
    session.get_redirect_target = lambda resp: None  # type: ignore[method-assign]  # noqa: ARG005 - requests names it
    session.headers.clear()
    session.headers.update({"User-Agent": user_agent(), "Accept": "*/*"})
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=1, max_retries=0))
    guard_session(session, guard)
    # requests knows REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE, which go first, but not OpenSSL's own variables
    bundle = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    if bundle:
        session.verify = bundle
    if own_credentials or any(name.lower() == "authorization" for name in headers):
        # else ~/.netrc would replace it
        session.auth = lambda request: request
    return session


def user_agent() -> str:
    """Return what this library calls itself."""
    try:
        return f"etl-sinks/{version('etl-sinks')}"
    except PackageNotFoundError:  # it is used out of a folder
        return "etl-sinks"


def waits_for(headers: Mapping[str, str]) -> float:
    """Return the seconds that a server asks to wait (`Retry-After`, RFC 9110, section 10.2.3); 0: it does not.

    A date is compared with the server's own clock, where it tells it.
    """
    asked = headers.get("Retry-After", "").strip()
    if asked.isascii() and asked.isdigit():
        return float(asked)
    until = moment(asked)
    if until is None:
        return 0.0
    now = moment(headers.get("Date", "")) or datetime.fromtimestamp(time.time(), tz=UTC)
    return max((until - now).total_seconds(), 0.0)


def moment(text: str) -> datetime | None:
    """Read a date of HTTP; None: it is none."""
    try:
        read = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError):
        return None
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def secrets_of(headers: Mapping[str, str]) -> Iterator[str]:
    """Yield what no message may hold: the values of headers, and what follows `Bearer` or `Basic` in them."""
    for name, value in headers.items():
        if name.lower() not in _OPEN:
            yield value.strip()
            yield from (word for word in re.split(r"[\s,;=]+", value) if len(word) >= 8)
