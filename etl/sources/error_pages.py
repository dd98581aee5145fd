"""Answers with status 200 that tell of an error, where a table should be: a JSON object, a sentence.

XML, HTML, and JSON that is called CSV are told by the content's own recognition; see `PAGES`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from http import HTTPStatus
from typing import Any

import msgspec

# What recognition calls that which a server may send in place of data.
PAGES = frozenset({"HTML", "XML", "one JSON object", "one JSON array"})

# How much of an answer may be an error's words, in bytes; a stack of calls may stand among them.
MOST_BYTES = 64 << 10

_FAULTS = frozenset(
    {"error", "errors", "errorcode", "errormessage", "errortype", "errordescription", "exception", "fault"}
)
# `information` and `note` are Alpha Vantage's.
_WORDS = frozenset(
    {"message", "msg", "detail", "details", "title", "reason", "description", "information", "note"}
)
_STATES = frozenset({"status", "code", "statuscode", "success", "ok", "httpstatus", "result"})
# What stands beside them: RFC 9457 (problem details), RFC 6749 (section 5.2), JSON:API, Spring Boot, AWS, GitHub.
_BESIDE = frozenset(
    {
        "data",
        "documentationurl",
        "erroruri",
        "help",
        "hint",
        "id",
        "instance",
        "links",
        "meta",
        "method",
        "moreinfo",
    }
    | {
        "path",
        "requestid",
        "resource",
        "retryafter",
        "source",
        "stack",
        "stacktrace",
        "timestamp",
        "trace",
        "traceid",
    }
    | {"type", "url", "version"}
)
_TROUBLE = re.compile(
    r"\b(errors?|exceed(ed|s)?|denied|forbidden|unauthori[sz]ed|not found|unavailable|try(ing)? again|retry|"
    r"too many|busy|time[d]?[ -]?out|invalid|fail(ed|s|ure)|quota|limit|maintenance|expired|not allowed|not permitted|"
    r"overloaded|"
    r"\d+ (api )?(calls|requests) (per|a) \w+|"
    r"no (data|results?|records?|rows|matches)|please|cannot|can't|could not|unable|sorry|missing|required)\b",
    re.IGNORECASE,
)
_PHRASES = frozenset(status.phrase.lower() for status in HTTPStatus if status >= 400)
# A delimiter without a blank after it: a table. Sentences have commas too.
_TABLE = re.compile(r"[,;|](?! )|\t")
_MOST_LINES = 3
# How programs say that they failed: Python, Java and those like it; ERDDAP.
_OF_A_PROGRAM = re.compile(
    r"Error \{$|Traceback \(most recent call last\)|([a-z_$][\w$]*\.)+\w*(Error|Exception)\b", re.MULTILINE
)


def error_in(text: str, content_type: str, *, known: Collection[str] | None, json: bool) -> str:
    """Return what a whole answer says, if it tells of an error; else nothing.

    Args:
        text: the answer.
        content_type: the header that says what it is.
        known: the columns of the CSV files before it, whose header its first line must be; None: it has none.
        json: whether it is called JSON or NDJSON.
    """
    text = text.lstrip("\ufeff").strip()
    if not text:
        return ""
    said = " ".join(text.split())
    if text.startswith("{"):
        try:
            value = msgspec.json.decode(text.encode())
        except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
            return ""
        is_problem = content_type.partition(";")[0].strip().lower() == "application/problem+json"
        return said if is_problem or _tells_an_error(value) else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if text.startswith("["):
        return said if _is_list_of_errors(text) else ""
    if _OF_A_PROGRAM.match(text):
        return lines[-1] if text.startswith("Traceback") else said
    if text.startswith("<") or len(lines) > _MOST_LINES:
        return ""
    if not json and _is_table_of_errors(lines, known):
        return said
    if json:
        return said if not any(line.startswith("{") for line in lines) and " " in said else ""
    if known:
        names = {name.strip().strip('"') for name in re.split(r"[,;|\t]", lines[0])}
        # that it has no column of those before may have other reasons, which are told by its reader
        return said if names.isdisjoint(known) and _is_sentence(lines, least_words=2) else ""
    return said if _is_sentence(lines, least_words=3) else ""


def _tells_an_error(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    fields = {re.sub(r"[^a-z]", "", str(name).lower()): of for name, of in value.items()}
    if (
        len(value) == 1
        and isinstance(inner := next(iter(value.values())), dict)
        and not fields.keys() & _FAULTS
    ):
        return _tells_an_error(inner)  # under the name of what was asked for, as Yahoo's are
    if not fields.keys() <= _FAULTS | _WORDS | _STATES | _BESIDE:
        return False
    if any(fields.get(name) for name in _FAULTS):
        return True
    if any(isinstance(of, list) and of for name, of in fields.items() if name not in ("links", *_WORDS)):
        return False  # rows
    words = [of for name, of in fields.items() if name in _WORDS]
    failed = any(_is_failure(of) for name, of in fields.items() if name in _STATES)
    return bool(words) and (failed or any(isinstance(of, str) and _TROUBLE.search(of) for of in words))


def _is_list_of_errors(text: str) -> bool:
    """Say whether it is a JSON array of one error, as Salesforce's answers are."""
    try:
        value = msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return False
    if not (isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict) and len(value[0]) > 1):
        return False
    return _tells_an_error(value[0])


def _is_table_of_errors(lines: list[str], known: Collection[str] | None) -> bool:
    """Say whether it is CSV with the names of an error alone, or nothing but JSON's null."""
    names = {re.sub(r"[^a-z]", "", name.lower()) for name in re.split(r"[,;|\t]", lines[0])}
    if lines == ["null"]:
        return True
    return (
        min(len(lines), len(names)) > 1
        and known is not None
        and "error" in names
        and names <= _FAULTS | _WORDS | _STATES
    )


def _is_failure(state: Any) -> bool:
    if isinstance(state, str):
        return state.lower() in ("error", "fail", "failed", "failure") or (
            state.isdecimal() and 400 <= int(state[:4]) < 600
        )
    return state is False or (type(state) is int and 400 <= state < 600)


def _is_sentence(lines: list[str], *, least_words: int) -> bool:
    """Say whether a few lines are words to people, and no header of a table."""
    first = lines[0].strip('"')
    if re.sub(r"^(http )?(error )?:?\s*\d{3}:?\s+", "", first.lower()).rstrip(".!") in _PHRASES:
        return True
    words = first.split()
    if _TABLE.search(first):
        return False
    in_trouble = _TROUBLE.search(first) is not None
    if re.match(r"error\b\s*[:!-]", first, re.IGNORECASE):
        return True
    ends = first.endswith((".", "!", "?"))
    if len(lines) > 1:
        return ends and len(words) > least_words
    titled = all(word[0].isupper() or not word[0].isalpha() for word in words) and not first.isupper()
    return (len(words) >= least_words and (ends or (in_trouble and not (titled and "," in first)))) or (
        in_trouble and len(words) > 1 and "," not in first
    )
