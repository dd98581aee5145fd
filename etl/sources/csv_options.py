"""How a job says that CSV is read, and what of it makes no sense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from etl.records import Declarations, nobody
from etl.sources import csv_types, encodings

_LINE_ENDS = frozenset("\r\n")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How CSV is read; `etl.sources.content_options.ContentOptions` documents each.

    Attributes:
        nulls: the words that are null in columns of every type; None: those of `csv_types`, as the type has them.
        declared: tells what a field was declared as elsewhere; see `etl.records.TakesDeclared`.
    """

    types: Mapping[str, str]
    delimiter: str | None
    header: bool | Sequence[str]
    nulls: frozenset[str] | None
    encoding: str
    skip_lines: int
    quote: str | None = None
    escape: str | None = None
    comment: str | None = None
    skip_footer: int = 0
    skip_initial_space: bool = False
    declared: Declarations = nobody

    def words(self, *, text: bool) -> frozenset[str]:
        """Return the words that are null in a column, which is one of text or not."""
        if self.nulls is not None:
            return self.nulls
        return csv_types.EMPTY if text else csv_types.WORDS

    def fingerprint(self) -> dict[str, Any]:
        """Return what gives cursors their meaning and is said, of all that was not always known here."""
        said = {key: getattr(self, key) for key in _ADDED}
        return {key: value for key, value in said.items() if value or value == ""}

    def said(self) -> list[str]:
        """Return the names of the options that are said and mean nothing to other formats."""
        old = {"types": self.types, "delimiter": self.delimiter, "header": self.header is not True}
        return [*(key for key, value in old.items() if value), *self.fingerprint()]


_ADDED = ("skip_lines", "quote", "escape", "comment", "skip_footer", "skip_initial_space")


def checked(
    *,
    types: Mapping[str, str] | None,
    delimiter: str | None,
    header: bool | Sequence[str],
    null: Sequence[str] | None,
    encoding: str,
    skip_lines: int,
    quote: str | None,
    escape: str | None,
    comment: str | None,
    skip_footer: int,
    skip_initial_space: bool,
) -> Options:
    """Make options of what a job says.

    Raises:
        ValueError: it is wrong, or makes no sense together.
    """
    for name, type_ in (types or {}).items():
        if type_ not in csv_types.TYPES:
            raise ValueError(f"types: {name}: {type_!r} is none of: {', '.join(csv_types.TYPES)}")
    if isinstance(null, str):
        raise ValueError(f"null is a list of words, not {null!r}")  # noqa: TRY004 - as every wrong argument
    for key, number in (("skip_lines", skip_lines), ("skip_footer", skip_footer)):
        if number < 0:
            raise ValueError(f"{key}: {number} is no number of lines")
    _check_signs(delimiter=delimiter, quote=quote, escape=escape, comment=comment)
    return Options(
        types=dict(types or {}),
        delimiter=delimiter,
        header=_header(header),
        nulls=None if null is None else frozenset(null),
        encoding=encodings.known(encoding),
        skip_lines=skip_lines,
        quote=quote,
        escape=escape,
        comment=comment,
        skip_footer=skip_footer,
        skip_initial_space=skip_initial_space,
    )


def _check_signs(
    *, delimiter: str | None, quote: str | None, escape: str | None, comment: str | None
) -> None:
    """See that what divides rows does so in one way."""
    signs = {"delimiter": delimiter, "quote": quote, "escape": escape, "comment": comment}
    for key, sign in signs.items():
        longest = 8 if key in ("delimiter", "comment") else 1
        empty = sign == "" and key != "quote"
        if sign is not None and (empty or len(sign) > longest or not _LINE_ENDS.isdisjoint(sign)):
            raise ValueError(f"{key}: {sign!r} is not {_SIGNS[key]}, other than a line end")
    if delimiter in _IN_WORDS:
        raise ValueError(
            f'delimiter: {delimiter!r} is a name for a sign and no sign: in TOML a tab is "\\t", in double quotes'
        )
    quote = '"' if quote is None else quote
    used = [sign for sign in (quote, escape) if sign]
    if delimiter and any(sign in delimiter for sign in used):
        raise ValueError(f"delimiter: {delimiter!r} holds {' or '.join(used)}, which has another meaning")
    if escape and escape == quote:
        raise ValueError(
            f"escape: {quote!r} is the quote as well; leave it out: within quotes, a quote is doubled"
        )
    if comment and comment.startswith((*used, *([delimiter] if delimiter else []))):
        raise ValueError(f"comment: {comment!r} begins with what has another meaning")


# What is written for a sign by mistake, and divides no row.
_IN_WORDS = frozenset({r"\t", "tab", "TAB", "comma", "pipe", "space", r"\x01", r"\u0001", r"\001", "^A"})
_SIGNS = {
    "delimiter": "one to eight characters",
    "quote": 'a character, or "" for none',
    "escape": "a character",
    "comment": "one to eight characters",
}


def _header(header: bool | Sequence[str]) -> bool | list[str]:
    if isinstance(header, bool):
        return header
    if isinstance(header, str) or not header or len(set(header)) < len(header) or not all(header):
        raise ValueError(f"header: {header!r} is neither true, false, nor a list of different names")
    return list(header)
