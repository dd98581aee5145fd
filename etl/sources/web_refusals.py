"""What a server says when it refuses, whether it is trusted, and what may be sent to it."""

from __future__ import annotations

import http.client
import re
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from etl.sources import urls

if TYPE_CHECKING:
    import requests

_WORDS_BYTES = 2048


def words_of(response: requests.Response, secrets: Sequence[str]) -> str:
    """Return the beginning of what a server says about an error, if it is text, without secrets."""
    if not re.match(
        r"(text/plain|(text|application)/\S*(json|xml))\b", response.headers.get("Content-Type", "")
    ):
        return ""
    import requests
    import urllib3.exceptions

    try:
        said = response.raw.read(_WORDS_BYTES, decode_content=True)
    except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError):
        return ""
    plain = re.sub(r"<[^>]*>", " ", said.decode(errors="replace"))
    text = urls.hide(" ".join(plain.split()), secrets)
    return f" ({text[:200]})" if text else ""


def is_header_value(value: Any) -> bool:
    """Say whether it can be sent as the value of a header: one line of Latin-1."""
    try:
        return (
            isinstance(value, str)
            and not re.search(r"[\r\n\0]", value)
            and bool(value.encode("latin-1") or True)
        )
    except UnicodeEncodeError:
        return False


def untrusted(error: BaseException | None, depth: int = 0) -> bool:
    """Say whether the server's certificate is what is wrong; the clients wrap that several times."""
    if not isinstance(error, BaseException) or depth > 8:
        return False
    within = (*error.args[:1], getattr(error, "reason", None), error.__cause__)
    return isinstance(error, ssl.SSLCertVerificationError) or any(
        untrusted(other, depth + 1) for other in within if isinstance(other, BaseException)
    )
