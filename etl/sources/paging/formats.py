"""Pages that are no JSON document of objects: NDJSON, CSV, and rows that are arrays, with the names from the answer."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from etl.errors import ErrorPage, SourceError
from etl.sources.error_pages import MOST_BYTES, error_in
from etl.sources.json_decoder import Decoder
from etl.sources.paging import answers
from etl.sources.paging.paths import elements, lookup, parted
from etl.sources.paging.place import digest, holds

PAGE_FORMATS = ("json", "ndjson", "csv")

_DELIMITERS = ",;\t|"
_LONGEST_FIELD = 16 << 20
# How many characters of an answer a message shows, and how many names are known again.
_SHOWN = 200
_NAMES = 64


def decode(body: bytes, page_format: str, where: str, hide: Callable[[str], str], decoder: Decoder) -> Any:
    """Decode a whole answer; of NDJSON and CSV it is the list of rows.

    NDJSON is a JSON value a line; blank lines are skipped. CSV (RFC 4180, UTF-8) is a list of lists, the first of which
    is the header; its delimiter is that of `,`, `;`, tab and `|` which parts the header most often. Its values stay
    text, an empty one is null.

    Args:
        body: its bytes.
        page_format: one of `PAGE_FORMATS`.
        where: names the page, for the message.
        hide: takes secrets out of what is shown of it.
        decoder: decodes JSON; the rows are still to be settled.

    Raises:
        ErrorPage: it is not in that format.
    """
    if page_format == "json":
        return answers.decode(body, where, hide, decoder)
    if page_format == "ndjson":
        return [
            answers.decode(line, f"{where}, line {number}", hide, decoder)
            for number, line in enumerate(body.removeprefix(answers.BOM).split(b"\n"), 1)
            if line.strip()
        ]
    return _csv(body, where, hide)


def _csv(body: bytes, where: str, hide: Callable[[str], str]) -> list[list[str | None]]:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ErrorPage(
            f"{where}: the answer is no CSV in UTF-8 ({body[error.start]:#04x} at its byte {error.start}): ask the API "
            "for UTF-8, or for JSON"
        ) from error
    if said := _other_than_csv(text):
        raise ErrorPage(
            f"{where}: the answer is no CSV but {hide(said)[:_SHOWN]!r}: the API says that something is wrong, or "
            "gives JSON (page_format)"
        )
    if text.lstrip().startswith("<"):
        raise ErrorPage(
            f"{where}: the answer is no CSV but begins with {hide(text)[:80]!r}: the URL is that of a page for people, "
            "or of an error"
        )
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_FIELD))
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
        return [[value or None for value in row] for row in reader if row]
    except csv.Error as error:
        raise ErrorPage(
            f"{where}: the answer is no CSV that can be read ({error}): look at it, or ask the API for JSON"
        ) from error


def _other_than_csv(text: str) -> str:
    """Return an answer that is a sentence or JSON, shortened; else nothing."""
    said = " ".join(text[:MOST_BYTES].split())
    if text.lstrip()[:1] in ("{", "["):
        with suppress(msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            if isinstance(msgspec.json.decode(text.encode()), (dict, list)):
                return said
    return said if len(text) <= MOST_BYTES and error_in(text, "", known=None, json=False) else ""


def known_by(
    rows: Sequence[Sequence[str | None]], known: bytes, where: str, hide: Callable[[str], str]
) -> bytes:
    """Return digests of the names in the first line of CSV, by which those of the next page are known.

    Args:
        rows: the page, the line of names too.
        known: the digests of the pages before; empty: there are none.
        where: names the page, for the message.
        hide: takes secrets out of what is shown of it.

    Raises:
        ErrorPage: none of the names is one of those before.
    """
    names = [digest(name) for name in (rows[0] if rows else [])[:_NAMES]]
    if known and names and not any(holds(known, name) for name in names):
        raise ErrorPage(
            f"{where}: its first line, {hide(str(rows[0]))[:_SHOWN]}, has none of the names of the columns of the "
            "pages before it: it is an error, or its rows come without them. If no page has a line of names, "
            "name them in `columns`"
        )
    return b"".join(names)


def _delimiter(text: str) -> str:
    def width(delimiter: str) -> int:
        with suppress(csv.Error):
            lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
            return len(next(filter(None, lines), []))
        return 0

    return max(_DELIMITERS, key=width)


def named(document: Any, rows: Sequence[Any], columns: str | Sequence[str], where: str) -> list[Any]:
    """Make objects of rows that are arrays; a row that has not as many values as there are names stays as it is.

    Args:
        document: the answer.
        rows: its rows; where the names are one of them, that is left out.
        columns: the names, or the path of the names in the answer: a list of texts, or of objects that have a `name`
            (else an `id`); `fields.*.title` takes other texts.
        where: names the page, for the message.

    Raises:
        SourceError: there are no names, or one is there twice.
    """
    found: Any = list(columns)
    if isinstance(columns, str):
        base, every, rest = parted(columns)
        found = lookup(document, base) if base else document
        if every and (among := elements(found)) is not None:
            found = [lookup(one, rest) if rest else one for _, one in among]
    if not rows and not found:
        return []
    names = [_name(one) for one in found] if isinstance(found, list) else []
    if not names or not all(isinstance(name, str) and name for name in names):
        raise SourceError(f"{where}: there is no list of names at columns = {columns!r}: name another path")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SourceError(
            f"{where}: columns names {', '.join(map(repr, twice))} more than once: list names of your own in `columns`"
        )
    return [
        dict(zip(names, row, strict=True)) if isinstance(row, list) and len(row) == len(names) else row
        for row in rows
        if row is not found
    ]


def _name(one: Any) -> Any:
    return one.get("name", one.get("id")) if isinstance(one, dict) else one
