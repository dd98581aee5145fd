"""What a job file took out of the environment, and is shown and stored nowhere: known by its value.

A name tells little: `appid`, `hapikey` and `sid` are keys for one server and plain numbers for another. So the value
of each `${…}` is hidden wherever it comes up, also as URLs, JSON, HTML, Python and the header of Basic authentication
write it, and where a text was cut within it. What is not hidden: see `etl.secret_rules`.

The values are those of the process, not of one job: a log, a traceback and a terminal are the process's too.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

from etl import secret_writing
from etl.secret_rules import LEAST, LEAST_NAMED, is_named, is_secret, parts

HIDDEN = "***"

# As much of a secret at the very end of a text was cut there, rather than being a word that a secret begins with.
_CUT = 12
# ASCII letters and digits are written as they are in each encoding but Base64, unless somebody goes out of their way.
_RUN = re.compile(r"[0-9A-Za-z]+")
_LEAST_RUN = 3
_ODD = re.compile(r"%(?:25)*(?:3\d|[46][1-9A-Fa-f]|[57][\dAa])|\\u00[3-7]|&#")
_ROUNDS = 100_000  # of PBKDF2: what a digest of a short secret costs whoever guesses it; some 30 ms

# The library's, and what it asks servers with.
_LOGGERS = (
    *("etl", "etl.sources", "etl.warehouses", "etl.warehouses.bigquery", "sinks.retry"),
    *("urllib3.connectionpool", "urllib3.util.retry"),
)


@dataclass(frozen=True)
class Secret:
    """A value, and what is known of it.

    Attributes:
        value: the text.
        variable: the environment variable that it came out of; with `.<number>`, if it is a part of its value.
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
        return secret_writing.beginning(self.value[:LEAST])

    @cached_property
    def pieces(self) -> tuple[tuple[str, re.Pattern[str]], ...]:
        """What it is made of, and how each piece may be written."""
        return tuple(secret_writing.pieces(self.value))


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


@dataclass(frozen=True, slots=True)
class _Search:
    """What finds secrets in a text.

    Attributes:
        pattern: finds how one begins, or one in Base64; each alternative is a group.
        groups: for each, the secret and the key of its encoding.
        secrets: all, the longest first: one may begin another.
        probes: one of these stands in each text that holds one, unless `_ODD` finds something; looking for them takes a
            hundredth of the time, and each mark of a source is looked through. None: there is no such text.
    """

    pattern: re.Pattern[str]
    groups: tuple[tuple[Secret, str], ...]
    secrets: tuple[Secret, ...]
    probes: tuple[str, ...] | None

    def may_hold(self, text: str) -> bool:
        """Say whether a text may hold a secret; no: it holds none."""
        return (
            self.probes is None
            or any(probe in text for probe in self.probes)
            or _ODD.search(text) is not None
        )


_secrets: dict[str, Secret] = {}  # by value
_latest: dict[str, Secret] = {}  # by variable
_search: _Search | None = None  # exchanged as a whole: other threads look for secrets meanwhile
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
    # The file of a secret often ends with a new line, which a server leaves away where it tells what it was sent.
    start, value = start + len(value) - len(value.lstrip()), value.strip()
    named, found = is_named(variable, key, text, start), []
    if is_secret(value, key, text, start, named=named):
        found.append(Secret(value, variable, named))
    # What stands in it is known by itself, too: a server tells the password of a URL, and not the URL.
    for number, (part, at, called) in enumerate(parts(value)):
        called = called or is_named("", key, value, at)
        if part != value and is_secret(part, key, value, at, named=called):
            found.append(Secret(part, f"{variable}.{number}", called))
    with _lock:
        before = {each.value for each in _secrets.values() if each.named}
        _remember(replace(each, named=each.named or each.value in before) for each in found)


def known() -> list[Secret]:
    """Return all secrets, for another process that goes on with what is known here."""
    return list(_secrets.values())


def learn(secrets: Iterable[Secret]) -> None:
    """Take what `known` returned in another process."""
    with _lock:
        _remember(secrets)


def _remember(secrets: Iterable[Secret]) -> None:
    global _search
    for secret in secrets:
        _secrets[secret.value] = _latest[secret.variable] = secret
    ordered = sorted(_secrets.values(), key=lambda each: -len(each.value))
    groups, alternatives = [], []
    for each in ordered:
        edge = r"(?<!\w)" if len(each.value) < LEAST else ""
        forms = [("", f"{edge}{each.beginning}")]
        forms += [(name, re.escape(form)) for name, form in each.encoded.items()]
        for name, form in forms:
            groups.append((each, name))
            alternatives.append(f"({form})")
    if ordered:
        runs = [max(_RUN.findall(each.value[:LEAST]), key=len, default="") for each in ordered]
        encoded = [form for each in ordered for form in each.encoded.values()]
        probes = (*runs, *encoded) if min(map(len, runs)) >= _LEAST_RUN else None
        _search = _Search(re.compile("|".join(alternatives)), tuple(groups), tuple(ordered), probes)
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_hide_in_log)


def secret_of(variable: str) -> Secret | None:
    """Return what a variable put into a job file last; None: no secret."""
    return _latest.get(variable)


def any_known() -> bool:
    """Say whether anything is to be hidden."""
    return _search is not None


def hide(text: str) -> str:
    """Return a text as it may be shown or stored: each secret in it is `***`."""
    if _search is None:
        return text
    shown, end = [], 0
    for found in find(text):
        shown += [text[end : found.start], HIDDEN]
        end = found.end
    return "".join([*shown, text[end:]]) if shown else text


def find(text: str) -> Iterator[Found]:
    """Yield where a text holds secrets, in order."""
    search, at = _search, 0
    if search is None or not search.may_hold(text):
        return
    while match := search.pattern.search(text, at):
        found = _followed(text, match, search)
        if found is None:
            at = match.start() + 1
        else:
            yield found
            at = found.end


def _followed(text: str, match: re.Match[str], search: _Search) -> Found | None:
    """Return the secret that begins at a match, if it goes on as it should."""
    start = match.start()
    secret, encoding = search.groups[(match.lastindex or 1) - 1]
    if encoding:
        return Found(start, match.end(), secret, encoding)
    for each in search.secrets:
        end, count = start, 0
        for piece, written in each.pieces:
            one = written.match(text, end)
            if one is None:
                cut = text.startswith(("…", "..."), end) or (end == len(text) and count >= _CUT)
                if cut and count >= LEAST:
                    return Found(start, end, each, whole=False)
                break
            end, count = one.end(), count + len(piece)
        else:
            if len(each.value) >= LEAST or not text[end : end + 1].isalnum():
                return Found(start, end, each)
    return None


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
    if _search is None:
        return
    chain = list(_chain(error, set()))
    for each in chain:
        each.args = tuple(hide(arg) if isinstance(arg, str) else arg for arg in each.args)
        if isinstance(each, OSError):  # whose text is made of these
            for name in ("strerror", "filename", "filename2"):
                if isinstance(part := getattr(each, name), str):
                    setattr(each, name, hide(part))
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
