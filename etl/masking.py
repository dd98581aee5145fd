"""Cursors and definitions without secrets in them: what a checkpoint and a ledger keep names the variable instead.

A link to the next page holds the key that it was asked with. In its place stands `${API_KEY::}`, and what the variable
holds when the job goes on is put there again: on another machine, or after the key was exchanged. Where the name does
not say that it is a secret, it may be what the data are about (an account, a tenant): then a digest stands beside it,
and another value is refused rather than taken for the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus

import msgspec

from etl import secret_values
from etl.errors import SourceError
from etl.secret_values import Found, Secret

# A name, how the value is written, and its digest; `$${` stands for `${`, which a cursor may hold by itself.
_MASK = re.compile(r"\$\$\{|\$\{([A-Za-z_]\w*(?:\.\d+)?):([a-z0-9%+]*):([0-9a-f]*)\}")


def masked(cursor: Any) -> Any:
    """Return a cursor as it is stored: without secrets, and with all that it takes to put them back.

    Args:
        cursor: a JSON value, as a source gave it.

    Raises:
        SourceError: it holds a secret that is written in a way that cannot be put back.
    """
    return _mapped(cursor, _masked)


def masked_bytes(cursor: bytes) -> bytes:
    """Return a cursor in JSON as it is stored; see `masked`. Asked for each mark, of which most hold nothing."""
    if not secret_values.any_known() and b"${" not in cursor:
        return cursor
    text = cursor.decode()
    if "${" not in text and next(secret_values.find(text), None) is None:
        return cursor
    return msgspec.json.encode(masked(msgspec.json.decode(cursor)))


def given(cursor: Any) -> Any:
    """Return a cursor that a person gave, who may have it from where it is stored, as it is stored."""
    return _mapped(
        cursor, lambda text: _replaced(text, lambda found: _mask(found.secret, _encoding(text, found)))
    )


def filled(cursor: Any) -> Any:
    """Return a cursor as a source gave it, with the values that its variables have now.

    Raises:
        SourceError: the job file takes nothing from a variable any more, or the variable has another value now.
    """
    return _mapped(cursor, lambda text: _MASK.sub(_filled, text))


def named(text: str) -> str:
    """Return what a source or a destination is called as it is stored: it can be compared, and not be put back."""
    return _replaced(text, lambda found: _mask(found.secret, ""))


def named_all(texts: Mapping[str, str]) -> dict[str, str]:
    """Return a fingerprint as it is stored; see `named`. Where files are, is no secret."""
    return {key: named(text) if key in ("source", "destination") else text for key, text in texts.items()}


def _masked(text: str) -> str:
    return _replaced(text.replace("${", "$${"), lambda found: _mask(found.secret, _encoding(text, found)))


def _replaced(text: str, mask: Callable[[Found], str]) -> str:
    if not secret_values.any_known():
        return text
    parts, end = [], 0
    for found in secret_values.find(text):
        if found.whole:
            parts += [text[end : found.start], mask(found)]
            end = found.end
    return "".join([*parts, text[end:]])


def _mask(secret: Secret, encoding: str) -> str:
    return f"${{{secret.variable}:{encoding}:{'' if secret.named else secret.digest}}}"


def _encoding(text: str, found: Found) -> str:
    written, value = text[found.start : found.end], found.secret.value
    if found.encoding:
        return f"{found.encoding}{len(value.encode())}"
    if written == value:
        return ""
    for encoding, decode in (("%", unquote), ("+", unquote_plus)):
        if decode(written) == value:
            return encoding
    raise SourceError(
        f"a cursor of the source holds what ${{{found.secret.variable}}} stands for, written in another way, which "
        "must not be kept in the checkpoint: use another style of paging"
    )


def _filled(match: re.Match[str]) -> str:
    if match[0] == "$${":
        return "${"
    variable, encoding, digest = match.groups()
    secret = secret_values.secret_of(variable)
    variable = variable.partition(".")[0]
    if secret is None:
        raise SourceError(
            f"the checkpoint's position needs the value of the environment variable {variable}, which the job file put "
            "into its source when it was taken; let it do so again"
        )
    if digest and digest != secret.digest:
        raise SourceError(
            f"the checkpoint's position was taken with another value of the environment variable {variable}, and "
            "nobody can tell whether that is another key for the same data: give it that value back, or begin again "
            "under another name and table. A key that may be exchanged is put into a variable whose name says so: it "
            "ends in _KEY, _TOKEN, _SECRET or _PASSWORD"
        )
    if not encoding:
        return secret.value
    if encoding in "%+":
        return quote(secret.value, safe="") if encoding == "%" else quote_plus(secret.value)
    if encoding[2:] != str(len(secret.value.encode())):
        raise SourceError(
            f"the checkpoint's position holds the environment variable {variable} in Base64, and its value has "
            "another length now: begin again under another name, or from another position with --from"
        )
    return secret.encoded[encoding[:2]]


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mapped(item, change) for item in value]
    return value
