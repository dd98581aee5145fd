"""What a job file took out of the environment, and is shown and stored nowhere: known by its value.

A name tells little: `appid`, `hapikey` and `sid` are keys for one server and plain numbers for another. So the value
of each `${…}` is hidden wherever it comes up, also as URLs, JSON, HTML, Python and the header of Basic authentication
write it, and where a text was cut within it. What is not hidden: see `_is_secret`.

The values are those of the process, not of one job: a log, a traceback and a terminal are the process's too.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import logging
import re
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property

HIDDEN = "***"

# Shorter ones are hidden where their name says that they are secret, and never below the second number: what stands in
# any text (`true`, `eu`, `100`) would make all of it unreadable.
LEAST, LEAST_NAMED = 8, 4
# As much of a secret at the very end of a text was cut there, rather than being a word that a secret begins with.
_CUT = 12

# Parts of names that are said of secrets alone; a sort key and a country code are called otherwise than these.
_NAMED = re.compile(
    r"(?:^|[-_.])(?:(?:api|app|access|auth|private|secret|account|client|consumer|license|subscription|h?api)?key|token|"
    r"\w*secret|pass|password|passwd|passphrase|pwd|auth|authorization|credentials?|sig|signature|jwt|bearer|cookie|"
    r"apitoken|accesstoken)$",
    re.IGNORECASE,
)
_SECRET_TABLES = frozenset({"headers", "secrets", "storage", "oauth2", "credentials"})
# Keys that name a place or a thing: what a message is about.
_PLACES = frozenset(
    {
        "bucket",
        "columns",
        "database",
        "dataset",
        "directory",
        "file_column",
        "format",
        "function",
        "location",
        "name",
    }
    | {
        "path",
        "paths",
        "prefix",
        "project",
        "region",
        "schema",
        "style",
        "table",
        "template",
        "transforms",
        "type",
    }
    | {"updated_at", "uri", "user_project"}
)
_REGIONS = frozenset({"location", "region"})
_PARTS = re.compile(r"[.\[\]\"]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
# A number or a moment, which stands in records and cursors as well.
_PLAIN = re.compile(
    r"[-+]?\d{1,13}(?:\.\d+)?|\d{4}-\d\d(?:-\d\d)?(?:[T ]\d\d:?\d\d(?::?\d\d(?:\.\d+)?)?(?:Z|[-+]\d\d:?\d\d)?)?"
)
_ROUNDS = 100_000  # of PBKDF2: what a digest of a short secret costs whoever guesses it; some 30 ms

_LOGGERS = ("etl", "etl.sources", "etl.warehouses", "etl.warehouses.bigquery", "sinks.retry")


@dataclass(frozen=True)
class Secret:
    """A value, and what is known of it.

    Attributes:
        value: the text.
        variable: the environment variable that it came out of.
        named: whether its name says that it is a secret, and so no part of what a source is.
    """

    value: str
    variable: str
    named: bool

    def __repr__(self) -> str:
        return f"Secret(${{{self.variable}}})"

    @cached_property
    def digest(self) -> str:
        """What tells this value from another one of the variable, and does not tell the value."""
        salt = f"etl-sinks {self.variable}".encode()
        return hashlib.pbkdf2_hmac("sha256", self.value.encode(), salt, _ROUNDS, 6).hex()

    @cached_property
    def encoded(self) -> dict[str, str]:
        """What stands for the value within Base64, by its alphabet and what stands before it."""
        found = {}
        for name, alphabet in (("b", b"+/"), ("u", b"-_")):
            for before in range(3):
                text = base64.b64encode(b"\0" * before + self.value.encode(), alphabet).decode()
                whole = (before + len(self.value.encode())) * 8 // 6  # what the bytes after it cannot change
                found[f"{name}{before}"] = text[(0, 2, 3)[before] : whole]
        return {name: text for name, text in found.items() if len(text) > LEAST_NAMED}

    @cached_property
    def beginning(self) -> str:
        """A regular expression for the first characters."""
        return "".join(_written(character) for character in self.value[:LEAST])


@dataclass(frozen=True, slots=True)
class Found:
    """Where a text holds a secret.

    Attributes:
        start: the offset of the first character.
        end: the offset after the last one.
        secret: the secret.
        encoding: the key of `Secret.encoded`; empty: it is no Base64.
        whole: whether all of it is there: a text may be cut within it.
    """

    start: int
    end: int
    secret: Secret
    encoding: str = ""
    whole: bool = True


_secrets: dict[str, Secret] = {}  # by value
_latest: dict[str, Secret] = {}  # by variable
_pattern: re.Pattern[str] | None = None
_order: list[tuple[Secret, str]] = []
_lock = threading.Lock()


def keep(value: str, variable: str, *, key: str, text: str, start: int) -> None:
    """Remember what a variable put into a job file, unless it is no secret.

    Args:
        value: what it is.
        variable: its name.
        key: the path of the key in the file, such as `source.params.appid`.
        text: what stands there, with the values of the variables.
        start: where in the text the value begins.
    """
    named = _is_named(variable, key, text, start)
    if value and _is_secret(value, key, text, start, named=named):
        global _pattern
        with _lock:
            before = _secrets.get(value)
            secret = Secret(value, variable, named or (before is not None and before.named))
            _secrets[value] = _latest[variable] = secret
            # The longest first: one may begin another.
            ordered = sorted(_secrets.values(), key=lambda each: -len(each.value))
            alternatives = []
            _order[:] = []
            for each in ordered:
                edge = r"(?<!\w)" if len(each.value) < LEAST else ""
                forms = [("", f"{edge}{each.beginning}")]
                forms += [(name, re.escape(form)) for name, form in each.encoded.items()]
                for name, form in forms:
                    _order.append((each, name))
                    alternatives.append(f"({form})")
            _pattern = re.compile("|".join(alternatives))
            for name in _LOGGERS:
                logging.getLogger(name).addFilter(_hide_in_log)


def secret_of(variable: str) -> Secret | None:
    """Return what a variable put into a job file last; None: no secret."""
    return _latest.get(variable)


def any_known() -> bool:
    """Say whether anything is to be hidden."""
    return _pattern is not None


def hide(text: str) -> str:
    """Return a text as it may be shown or stored: each secret in it is `***`."""
    if _pattern is None:
        return text
    shown, end = [], 0
    for found in find(text):
        shown += [text[end : found.start], HIDDEN]
        end = found.end
    return "".join([*shown, text[end:]]) if shown else text


def find(text: str) -> Iterator[Found]:
    """Yield where a text holds secrets, in order."""
    pattern, at = _pattern, 0
    while pattern is not None and (match := pattern.search(text, at)):
        found = _followed(text, match.start(), match)
        if found is None:
            at = match.start() + 1
        else:
            yield found
            at = found.end


def _followed(text: str, start: int, match: re.Match[str]) -> Found | None:
    """Return the secret that begins at `start`, if it goes on as it should."""
    secret, encoding = _order[(match.lastindex or 1) - 1]
    if encoding:
        return Found(start, match.end(), secret, encoding)
    for each in sorted(_secrets.values(), key=lambda each: -len(each.value)):
        end = start
        for count, character in enumerate(each.value):
            one = _character(character).match(text, end)
            if one is None:
                cut = text.startswith(("…", "..."), end) or (end == len(text) and count >= _CUT)
                if cut and count >= LEAST:
                    return Found(start, end, each, whole=False)
                break
            end = one.end()
        else:
            if len(each.value) >= LEAST or not text[end : end + 1].isalnum():
                return Found(start, end, each)
    return None


@cache
def _character(character: str) -> re.Pattern[str]:
    return re.compile(_written(character))


def _written(character: str) -> str:
    """Return a regular expression for a character as URLs, JSON, HTML and Python may write it."""
    percent = "".join(rf"%(?:25)*(?i:{byte:02x})" for byte in character.encode("utf-8", "surrogatepass"))
    forms = {re.escape(character), percent}
    escaped = {json.dumps(character)[1:-1], repr(character)[1:-1], html.escape(character)}
    forms |= {re.escape(form) for form in escaped}
    if not (character.isascii() and character.isalnum()):
        forms |= {
            f"&#(?i:x0*{ord(character):x});",
            f"&#0*{ord(character)};",
            rf"\\+u(?i:{ord(character):04x})",
        }
    if character in "'\"\\":
        forms.add(rf"\\+{re.escape(character)}")
    if character == " ":
        forms.add(r"\+")
    # The longest first: `&` is how `&amp;` begins.
    return f"(?:{'|'.join(sorted(forms, key=len, reverse=True))})"


def _is_named(variable: str, key: str, text: str, start: int) -> bool:
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
    return bool(_SECRET_TABLES & above) or any(_NAMED.search(_CAMEL.sub("_", name)) for name in names)


def _is_secret(value: str, key: str, text: str, start: int, *, named: bool) -> bool:
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


def _hide_in_log(record: logging.LogRecord) -> bool:
    """Hide secrets in what the library logs, wherever that goes."""
    message = record.getMessage()
    if (shown := hide(message)) != message:
        record.msg, record.args = shown, ()
    if record.exc_info and record.exc_info[1]:
        record.exc_text = hide("".join(traceback.format_exception(record.exc_info[1])).rstrip())
    return True


def hide_in(error: BaseException) -> None:
    """Hide secrets in an error and those that led to it, so that no traceback shows them."""
    if _pattern is None:
        return
    chain = list(_chain(error, set()))
    for each in chain:
        each.args = tuple(hide(arg) if isinstance(arg, str) else arg for arg in each.args)
        if isinstance(each, OSError) and isinstance(each.filename, str):
            each.filename = hide(each.filename)
        if notes := getattr(each, "__notes__", None):
            notes[:] = [hide(note) for note in notes]
    for each in chain:
        if (cause := _replaced(each.__cause__)) is not each.__cause__:
            each.__cause__ = cause
        if (context := _replaced(each.__context__)) is not each.__context__:
            each.__context__ = context


def _replaced(error: BaseException | None) -> BaseException | None:
    """Return the error, or where its text is made of something else than its arguments, another one in its place."""
    if error is None or (text := str(error)) == (shown := hide(text)):
        return error
    other = RuntimeError(f"{type(error).__name__}: {shown}").with_traceback(error.__traceback__)
    other.__cause__, other.__context__ = error.__cause__, error.__context__
    return other


def _chain(error: object, seen: set[int]) -> Iterator[BaseException]:
    if isinstance(error, BaseException) and id(error) not in seen:
        seen.add(id(error))
        yield error
        for other in (error.__cause__, error.__context__, *error.args):
            yield from _chain(other, seen)
        if isinstance(error, BaseExceptionGroup):
            for other in error.exceptions:
                yield from _chain(other, seen)


@contextmanager
def hidden_in_errors() -> Iterator[None]:
    """Hide secrets in what is raised within."""
    try:
        yield
    except BaseException as error:
        hide_in(error)
        raise
