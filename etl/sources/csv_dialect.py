"""What divides the fields of a CSV file, found by evidence in its first rows, and said with its reason.

In this order: the delimiter that gives each row as many fields, more than one; what the file's name or its Content-Type
says; decimal commas, which leave the comma no other use; fewer blanks after it; a tab, which stands in no text; more
fields. Where no delimiter divides all rows alike: the one that does it with the most of them.

TSV by name or type (IANA, text/tab-separated-values) has no quotes: they are text, unless its rows are only alike with
them. A file that is called otherwise and is divided by tabs has them, as spreadsheets write it.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from etl.sources import csv_types
from etl.sources.csv_options import Options

TAB = "\t"
_ROWS = 100
_USUAL = ",;\t|"
# Taken where they divide all rows alike and no usual one does.
_RARE = "^~\x01\x1f"
# Never taken, as times and names have them; but told, where they divide all rows alike and nothing else does.
_IN_TEXT = ": "
_DECIMAL_COMMA = re.compile(r"\s*[+-]?(?:[0-9]+|[0-9]{1,3}(?:[. ][0-9]{3})+),[0-9]+\s*")
_TSV = re.compile(r"\.(?:tsv|tab)(?:\.(?:gz|gzip|bz2|xz|zst|zstd))*$", re.IGNORECASE)
_NAMES = {TAB: "tabs", "\x01": r"'\x01'", "\x1f": r"'\x1f'"}


class Found(NamedTuple):
    """What divides the fields.

    Attributes:
        delimiter: what separates them.
        quote: what stands around them; nothing: quotes are text; None: as the job says, or `"`.
        why: the reason, for people.
        divides: whether rows have more than one field by it.
        perhaps: what else may divide them, so that nobody can say; None: nothing.
        aligned: whether it does so in runs, as blanks do that put fields below each other.
    """

    delimiter: str
    quote: str | None
    why: str
    divides: bool
    perhaps: str | None = None
    aligned: bool = False


@dataclass(frozen=True)
class _Look:
    """The first rows, as one delimiter divides them."""

    delimiter: str
    rows: list[list[str]]

    @property
    def width(self) -> int:
        return len(self.rows[0]) if self.rows else 0

    @property
    def is_uniform(self) -> bool:
        return self.width > 1 and all(len(row) == self.width for row in self.rows)

    @property
    def share(self) -> tuple[float, int]:
        """How many of the rows have as many fields as the first, and how many those are."""
        if self.width < 2:
            return (0, 0)
        return (sum(len(row) == self.width for row in self.rows) / len(self.rows), self.width)

    @property
    def blanks(self) -> float:
        """How many fields begin with a blank, in proportion, other than the first of a row."""
        later = [field for row in self.rows for field in row[1:]]
        return sum(field.startswith(" ") for field in later) / len(later) if later else 0

    @property
    def has_decimal_commas(self) -> bool:
        """Whether a column holds numbers with a decimal comma, in each row behind the first."""
        columns = zip(*self.rows[1:], strict=True) if self.is_uniform else ()
        return any(all(map(_DECIMAL_COMMA.fullmatch, column)) for column in columns)


def find(text: str, options: Options, *, tabs: bool, before: str | None) -> Found:
    """Find what divides the fields of a file.

    Args:
        text: its first lines.
        options: how CSV is read.
        tabs: whether its name or its Content-Type says that it is divided by tabs.
        before: what divides those of the files before it; None: it is the first.
    """
    if options.delimiter is not None:
        tabs = tabs and options.delimiter == TAB
        return Found(options.delimiter, _quote(text, options, tabs=tabs), "as the job says", True)
    looks = [_look(text, delimiter, options) for delimiter in _USUAL]
    if tabs:
        quote = _quote(text, options, tabs=True)
        look = _look(text, TAB, options, quote)
        if look.width > 1:
            return Found(TAB, quote, "as it is called, or its Content-Type says", True)
    uniform = [look for look in looks if look.is_uniform]
    if not uniform:
        uniform = [look for delimiter in _RARE if (look := _look(text, delimiter, options)).is_uniform]
    if uniform:
        look, why = _best(uniform, before)
        rows = len(look.rows)
        alike = f"each of the first {rows} rows has" if rows > 1 else "its only row has"
        return Found(look.delimiter, None, f"{alike} {look.width} fields{why}", True)
    best = max(looks, key=lambda look: look.share)
    share, width = best.share
    if not width:
        perhaps = _perhaps(text, options)
        aligned = perhaps is None and _are_aligned(text, options)
        return Found(
            _USUAL[0], None, "no delimiter divides the first row", False, " " if aligned else perhaps, aligned
        )
    why = f"{round(share * len(best.rows))} of the first {len(best.rows)} rows have {width} fields, as the first"
    return Found(best.delimiter, None, why, True)


def is_tsv(name: str) -> bool:
    """Say whether a file is called tab-separated values: `.tsv`, as IANA registers it, or `.tab`."""
    return _TSV.search(name) is not None


def named(delimiter: str) -> str:
    """Name a delimiter, for a message."""
    return _NAMES.get(delimiter) or (f"'{delimiter}'" if delimiter.isprintable() else repr(delimiter))


def _best(looks: list[_Look], before: str | None) -> tuple[_Look, str]:
    """Return what divides best of those that divide all rows alike, and the reason that there was besides."""
    if len(looks) == 1:
        return looks[0], ""
    others = " and ".join(named(look.delimiter) for look in looks)
    decimal = any(look.has_decimal_commas for look in looks if look.delimiter != ",")
    least = min(look.blanks for look in looks)
    rules: Sequence[tuple[str, Callable[[_Look], bool]]] = (
        ("the files before it are divided so", lambda look: look.delimiter == before),
        ("the comma is that of numbers", lambda look: look.delimiter != "," or not decimal),
        ("there are fewer blanks behind it", lambda look: look.blanks == least),
        ("a tab stands in no text", lambda look: look.delimiter == TAB),
        ("those are more", lambda look: look.width == max(other.width for other in looks)),
    )
    for why, holds in rules:
        kept = [look for look in looks if holds(look)]
        if kept and len(kept) < len(looks):
            looks = kept
            if len(looks) == 1:
                return looks[0], f" ({others} divide them alike; {why})"
    return looks[0], f" ({others} divide them alike: say `delimiter`)"


def _perhaps(text: str, options: Options) -> str | None:
    """Return what may divide rows that seem to have one field: into three or more, or into numbers below the names."""
    for sign in _IN_TEXT:
        look = _look(text, sign, options)
        below = [field for row in look.rows[1:] for field in row]
        numbers = bool(below) and all(csv_types.fit([field], "float") for field in below)
        if look.is_uniform and len(look.rows) > 1 and (look.width > 2 or numbers):
            return sign
    return None


def _are_aligned(text: str, options: Options) -> bool:
    """Say whether runs of blanks put fields below each other: as many in each row, and three, or numbers in one."""
    if options.quote is None and '"' in text:
        return False
    lines = [line for line in text.splitlines() if line.strip()][:_ROWS]
    if options.comment:
        lines = [line for line in lines if not line.startswith(options.comment)]
    rows = [line.split() for line in lines]
    if (
        len(rows) < 2
        or len({len(row) for row in rows}) > 1
        or not any("  " in line.strip() for line in lines)
    ):
        return False
    columns = list(zip(*rows[1:], strict=True))
    return len(columns) > 2 or (
        len(columns) > 1 and any(csv_types.fit(column, "float") for column in columns)
    )


def _look(text: str, delimiter: str, options: Options, quote: str | None = None) -> _Look:
    quote = options.quote if quote is None else quote
    quote = '"' if quote is None else quote
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quotechar=quote or None,
        quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        escapechar=options.escape,
        skipinitialspace=options.skip_initial_space,
        strict=True,
    )
    rows: list[list[str]] = []
    comment = options.comment
    with suppress(csv.Error):
        rows += islice((row for row in reader if row and not (comment and row[0].startswith(comment))), _ROWS)
    return _Look(delimiter, rows)


def _quote(text: str, options: Options, *, tabs: bool) -> str | None:
    """Say what stands around the fields of a file divided by tabs, as its name says; None: what is usual.

    Without quotes, unless all names are within such, or its rows have as many fields each only with them.
    """
    if not tabs or options.quote is not None:
        return None
    bare = _look(text, TAB, options, "")
    names = bare.rows[0] if bare.rows else []
    if names and all(len(name) > 1 and name[0] == name[-1] == '"' for name in names):
        return None
    if not bare.is_uniform and _look(text, TAB, options, '"').is_uniform:
        return None
    return ""
