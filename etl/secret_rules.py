"""Which values of `${…}` are secrets: by where they stand in a job file, their length, and what they are called."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

# Shorter ones are hidden where their name says that they are secret, and never below the second number: what stands in
# any text (`true`, `eu`, `100`) would make all of it unreadable.
LEAST, LEAST_NAMED = 8, 4

# How names end that are said of secrets; and of keys that are none.
_NAMED = re.compile(
    r"(?:^|[-_.])(?:(?:api|app|access|auth|private|secret|account|client|consumer|license|subscription|h?api)?key|token|"
    r"\w*secret|pass|password|passwd|passphrase|pwd|auth|authorization|credentials?|sig|signature|jwt|bearer|cookie|"
    r"apitoken|accesstoken)$",
    re.IGNORECASE,
)
_NO_SECRET = re.compile(
    r"(?:sort|order|partition|cluster|group|shard|routing|row|primary|foreign|unique|natural|merge|cache|public)[-_.]?key$",
    re.IGNORECASE,
)
_SECRET_TABLES = frozenset({"headers", "secrets", "storage", "oauth2", "credentials"})
# Keys that name a place or a thing: what a message is about.
_PLACES = frozenset(
    {"bucket", "columns", "database", "dataset", "directory", "file_column", "format", "function"}
)
_PLACES |= {
    "location",
    "name",
    "path",
    "paths",
    "prefix",
    "project",
    "region",
    "schema",
    "style",
    "table",
    "template",
}
_PLACES |= {"transforms", "type", "updated_at", "uri", "user_project"}
_REGIONS = frozenset({"location", "region"})
_PARTS = re.compile(r"[.\[\]\"]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
# A number or a moment, which stands in records and cursors as well.
_PLAIN = re.compile(
    r"[-+]?\d{1,13}(?:\.\d+)?|\d{4}-\d\d(?:-\d\d)?(?:[T ]\d\d:?\d\d(?::?\d\d(?:\.\d+)?)?(?:Z|[-+]\d\d:?\d\d)?)?"
)

# What stands in a header before the credentials (RFC 9110, section 11.4), and the password, or the only name, of a URL.
_SCHEME = re.compile(r"(?:Bearer|Basic|Token|Api-?Key|Key)[ =]+(\S+)", re.IGNORECASE)
_USERINFO = re.compile(r"://(?:[^/?#@:\s]*:)?([^/?#@\s]+)@")
_PARAMETER = re.compile(r"[?&;][^?&;=#\s]+=([^?&;=#\s]+)")


def parts(value: str) -> Iterator[tuple[str, int, bool]]:
    """Yield what a value holds that may be told by itself, where it begins, and whether it is a secret for sure.

    That are credentials after their scheme, the password and the parameters of a URL.
    """
    for pattern, sure in ((_SCHEME, True), (_USERINFO, True), (_PARAMETER, False)):
        matches = filter(None, [pattern.fullmatch(value)]) if pattern is _SCHEME else pattern.finditer(value)
        for match in matches:
            yield unquote(match[1]), match.start(1), sure


def is_named(variable: str, key: str, text: str, start: int) -> bool:
    """Say whether a value is called a secret: by the variable, the key, a table above it, or a parameter of a URL."""
    parts = [part for part in _PARTS.split(key) if part]
    names = [variable]
    if parts[-1] != "key" or "params" in parts:  # which names the fields of a merge
        names += parts
    if parameter := re.search(r"[?&]([^?&=#]+)=[^?&=#]*$", text[:start]):
        names.append(parameter[1])
    if re.search(r"://[^/?#@]*$", text[:start]) and re.match(r"[^/?#]*@", text[start:]):
        return True  # the user, or the password, of a URL
    above = {part.lower() for part in parts[:-1]}
    words = [_CAMEL.sub("_", name) for name in names]
    return bool(_SECRET_TABLES & above) or any(
        _NAMED.search(word) and not _NO_SECRET.search(word) for word in words
    )


def is_secret(value: str, key: str, text: str, start: int, *, named: bool) -> bool:
    """Say whether the value of a variable is hidden.

    From 8 characters on it is, unless it stands where a job file names a place or a thing (a path, a bucket, a table,
    the host of a URL), or is a number or a moment. From 4 characters on it is, as a word of its own, if it is called a
    secret. Where a sink, a warehouse or a checkpoint is, is no secret, whatever it is called.
    """
    parts = [part for part in _PARTS.split(key) if part and not part.isdigit()]
    place = len(parts) < 2 or parts[1] in _PLACES
    if place and parts[0] != "source":
        return False
    if named:
        return len(value) >= LEAST_NAMED
    if len(value) < LEAST or _PLAIN.fullmatch(value) or parts[-1] in _REGIONS:
        return False
    begun = text[:start]
    return not (re.search(r"://[^/?#]*$", begun) or (place and not re.search(r"://[^?]*\?", begun)))
