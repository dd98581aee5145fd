"""URLs: which are fetched, what of them may be shown, and who may be told what."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote, quote_plus, unquote_plus, urlsplit, urlunsplit

HIDDEN = "***"

# Names of parameters that are credentials in a URL: API keys, tokens, all of a signature (Amazon's X-Amz-…, Google's
# X-Goog-…; Azure's sig): a URL that is signed again, at another time, is the same one.
_CREDENTIAL = re.compile(
    r"^x-(?:amz|goog)-|(?:^|[-_.$])(?:key|apikey|appkey|token|apptoken|secret|sig|signature|credential|password|passwd|pwd|auth|"
    r"authorization|accesskeyid)$",
    re.IGNORECASE,
)
_SECRET = 6
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_PORTS = {"http": 80, "https": 443}


def check(url: str, what: str = "url") -> str:
    """Return `url`, if it is one of HTTP.

    Raises:
        ValueError: it is not; does not show its credentials.
    """
    shown = without_credentials(url) if isinstance(url, str) else url
    if not isinstance(url, str) or not re.match(r"https?://[^/?#\s]", url, re.IGNORECASE):
        raise ValueError(f"{what}: {shown!r} is no URL that begins with http:// or https://")
    if re.search(r"[\s\x00-\x1f]", url):
        raise ValueError(f"{what}: {shown!r} holds a space or a control character: write it as %20")
    try:
        parts = urlsplit(url)
        usable = parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"{what}: {shown!r} has no host, or a port that is none")
    return url


def without_credentials(url: str) -> str:
    """Return a URL as cursors and messages may hold it: no user, no password, no keys, tokens or signatures."""
    head, question, query = url.partition("?")
    head = re.sub(r"^([a-z]+://)[^/@]*@", r"\1", head, flags=re.IGNORECASE)
    if not question:
        return head
    query, hash_, fragment = query.partition("#")
    pairs = [_shown(pair) for pair in query.split("&")]
    return f"{head}?{'&'.join(pairs)}{hash_}{fragment}"


def is_secret(name: str) -> bool:
    """Say whether what is called so is a credential by its name."""
    return _shown(f"{name}=x") != f"{name}=x"


def credentials_of(url: str) -> list[str]:
    """Return what `without_credentials` leaves out of a URL, as it is written and as it is meant."""
    head, _, query = url.partition("#")[0].partition("?")
    found = [pair.partition("=")[2] for pair in query.split("&") if _shown(pair) != pair]
    if user := re.match(r"[a-z]+://[^/@:]*:([^/@]*)@", head, re.IGNORECASE):
        found.append(user[1])
    # what is shorter is no secret, and may stand in any text
    return [value for text in found for value in (text, unquote_plus(text)) if len(value) >= _SECRET]


def hide(text: str, secrets: Sequence[str]) -> str:
    """Return the text without the secrets, as they are and as a URL holds them."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        for written in dict.fromkeys((secret, quote(secret, safe=""), quote(secret), quote_plus(secret))):
            text = text.replace(written, HIDDEN)
    return text


def may_be_told(before: str, after: str) -> bool:
    """Say whether the server of `after` may be told what was meant for the one of `before`.

    It is the same host and port with the same protocol, or the same host with TLS in place of none.
    """
    one, other = urlsplit(before), urlsplit(after)
    if one.hostname != other.hostname:
        return False
    if (
        (one.scheme, other.scheme) == ("http", "https")
        and one.port in (None, 80)
        and other.port in (None, 443)
    ):
        return True
    return one.scheme == other.scheme and _port(one.scheme, one.port) == _port(other.scheme, other.port)


def beside(url: str, suffix: str) -> str:
    """Return the URL of a file beside that of `url`: its path with `suffix`."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path + suffix, fragment=""))


def _shown(pair: str) -> str:
    name, equals, value = pair.partition("=")
    words = _CAMEL.sub("_", name.replace("%24", "$"))
    return f"{name}={HIDDEN}" if equals and value and _CREDENTIAL.search(words) else pair


def _port(scheme: str, port: int | None) -> int | None:
    return port or _PORTS.get(scheme)
