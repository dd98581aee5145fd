"""Errors that an API answers with status 200: under a path that the job names, or beside a page without rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from etl.sources.paging.paths import lookup

# How much of it a message shows, in characters.
_SHOWN = 300

# What APIs call an error, where they answer one in place of rows.
_NAMES = (
    "error",
    "errors",
    "Error",
    "Errors",
    "error_message",
    "errorMessage",
    "error_description",
    "errorMessages",
    "fault",
    "exception",
)
_MESSAGES = ("message", "Message", "msg", "detail", "remark")
_SAYS_NO = ("success", "ok", "Success")
# What programs write where there is no error.
_NOTHING = ("", "0", "null", "none", "nil", "false", "no", "ok", "undefined")
_STATES = ("status", "code", "statusCode", "status_code")
_FAILED = re.compile(r"error|fail(ed|ure)?|denied|forbidden|unauthorized", re.IGNORECASE)
_LEAST_ERROR_STATUS = 400
_MOST_ERROR_STATUS = 599
# What is said beside a page without rows when all is well.
_WELL = re.compile(
    r"\b(ok(ay)?|success\w*|succeeded|complete[d]?|done|empty|end of \w+|nothing found|"
    r"no (\w+ ){0,3}(found|available|left|match\w*)|"
    r"(no|0|zero) (more |further |new )?(\w+ )?(results?|records?|rows?|data|items?|entries|matches|documents?|pages?)|"
    r"(results?|records?|rows?|data|items?|entries|list) (was |were )?(found|fetched|retrieved|returned|loaded))\b",
    re.IGNORECASE,
)


# What says that a search did not look everywhere.
_GAVE_UP = ("timed_out", "_shards.failed", "responseHeader.partialResults", "incomplete_results")

# What stands in a row that is no row but an error, besides those.
_OF_ERRORS = {
    *_NAMES,
    *_MESSAGES,
    *_SAYS_NO,
    *_STATES,
    "errorCode",
    "error_code",
    "type",
    "title",
    "timestamp",
    "path",
}


def said_under(document: Any, paths: Sequence[str]) -> tuple[str, Any] | None:
    """Return what stands at the first of the paths where there is something, with the path.

    Missing, null, false, 0 and what is empty are nothing.
    """
    for path in paths:
        if found := lookup(document, path):
            return path, found
    return None


def says_something(found: Any) -> bool:
    """Say whether there is more than null, written as text perhaps, or than an object of nothing else."""
    if isinstance(found, str):
        return found.strip().lower() not in _NOTHING
    if isinstance(found, dict):
        return any(map(says_something, found.values()))
    return bool(found)


def says_well(document: Any) -> bool:
    """Say whether an answer without rows says that there are none, and that nothing is wrong."""
    if not isinstance(document, dict) or said_beside(document, None) is not None:
        return False
    words = [document.get(name) for name in _MESSAGES]
    return not document or any(isinstance(one, str) and _WELL.search(one) for one in words)


def said_beside(document: Any, records: str | None) -> tuple[str, Any] | None:
    """Return what looks like an error beside a page without rows, with its path; None: nothing does.

    Looked at are the names beside the rows, and those of the whole answer.

    Args:
        document: the answer.
        records: the path of the rows.
    """
    for prefix, table in _tables(document, records):
        flags = [name for name in _NAMES if table.get(name) is True]
        for name in _NAMES:
            if says_something(found := table.get(name)) and found is not True:
                return prefix + name, found
        refused = flags + [name for name in _SAYS_NO if table.get(name) is False]
        refused += [name for name in _STATES if _is_failure(table.get(name))]
        for name in _MESSAGES:
            found = table.get(name)
            if isinstance(found, str) and found and (refused or not _WELL.search(found)):
                return prefix + name, found
        if refused:
            return prefix + refused[0], table[refused[0]]
    return None


def said_as_row(rows: Sequence[Any]) -> tuple[str, Any] | None:
    """Return an error that stands in place of the only row of a page, with its name; None: there is none."""
    if len(rows) == 1 and isinstance(row := rows[0], dict) and row.keys() <= _OF_ERRORS:
        for name in (*_NAMES, *(("errorCode", "error_code") if row.keys() & set(_MESSAGES) else ())):
            if says_something(found := row.get(name)):
                return name, row if name not in _NAMES else found
    return None


def said_at_the_end(rows: Sequence[Any]) -> tuple[str, Any] | None:
    """Return an error in place of the last of several rows, which have other names than it; None: there is none.

    So a server says that it failed when it has sent rows already (ClickHouse, "HTTP interface", of exceptions).
    """
    first, last = rows[0], rows[-1]
    if isinstance(first, dict) and isinstance(last, dict) and first.keys().isdisjoint(last.keys()):
        return said_as_row([last])
    return None


def doubt_beside(document: Any) -> tuple[str, Any] | None:
    """Return what is said beside rows that may mean that some of them are missing, with its path; None: nothing.

    That is an error, Overpass' `remark` (its documentation, "Commands", of timeouts), and that a search gave up
    (Elasticsearch, "Search API": `timed_out`, `_shards.failed`; Solr: `partialResults`; GitHub: `incomplete_results`).
    """
    if not isinstance(document, dict):
        return None
    for name in (*_NAMES, "remark"):
        if isinstance(found := document.get(name), (str, dict, list)) and says_something(found):
            return name, found
    for path in _GAVE_UP:
        if (found := lookup(document, path)) and (found is True or type(found) is int):
            return path, found
    return None


def words(found: Any, hide: Callable[[str], str]) -> str:
    """Return an error as a message shows it: the messages of a list of errors, else its JSON, shortened.

    Args:
        found: the error.
        hide: takes secrets out of it; before it is cut, as half a secret would not be found.
    """
    listed = found if isinstance(found, list) else [found]
    messages = [
        one["message"] if isinstance(one, dict) and isinstance(one.get("message"), str) else one
        for one in listed
    ]
    text = "; ".join(
        one if isinstance(one, str) else msgspec.json.encode(one, enc_hook=str).decode() for one in messages
    )
    text = " ".join(hide(text).split())
    return text[:_SHOWN] + ("…" if len(text) > _SHOWN else "")


def _tables(document: Any, records: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    path = ""
    for name in (records or "").split(".")[:-1]:
        path += name
        if isinstance(table := lookup(document, path), dict):
            yield f"{path}.", table
        path += "."
    if isinstance(document, dict):
        yield "", document


def _is_failure(value: Any) -> bool:
    if isinstance(value, str):
        if not value.isdecimal():
            return _FAILED.fullmatch(value) is not None
        value = int(value) if len(value) <= len(str(_MOST_ERROR_STATUS)) else 0
    return isinstance(value, int) and _LEAST_ERROR_STATUS <= value <= _MOST_ERROR_STATUS
