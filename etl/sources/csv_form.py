r"""How the text of one CSV file is divided into rows, and what the `csv` module must be told, or spared, for it.

The module knows delimiters of one character, and no comments. A longer delimiter is given to it as a character that no
text holds: a surrogate by itself, which no encoding can stand for (Unicode 16.0, section 3.9, D75). `\N`, which MySQL
and PostgreSQL write for null, is protected in the same way where backslashes escape, and so is a carriage return
that ends no line: Python's own writer does not quote it.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from typing import Any

from etl.sources.csv_options import Options
from etl.sources.place import Place

# What stands for a longer delimiter, for `\N`, and for a carriage return within a line; bytes that are no text are
# decoded to others (PEP 383: DC80 to DCFF).
DELIMITER = "\ud800"
NULL = "\ud801"
RETURN = "\ud802"
NULL_WORD = r"\N"

_WITHIN_A_LINE = re.compile(r"\r(?!\n|\Z)")
_USUAL = re.compile(rb"[^\n]*\n|[^\n]+")
_LINES = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


class Form:
    """How rows are found in a text.

    Args:
        place: says how this file is divided.
        options: how CSV is read.

    Attributes:
        format: arguments for `csv.reader`.
        delimiter: what separates fields.
    """

    def __init__(self, place: Place, options: Options) -> None:
        assert place.delimiter is not None
        self.delimiter = place.delimiter
        quote = options.quote if place.quote is None else place.quote
        quote = '"' if quote is None else quote
        self._encoding = options.encoding
        self._any_line_end = place.line_end is not None
        self._escape = options.escape
        self.comment = options.comment
        self.keeps_nulls = options.escape == "\\" and (options.nulls is None or NULL_WORD in options.nulls)
        self._long = len(self.delimiter) > 1
        self.format: dict[str, Any] = {
            "delimiter": DELIMITER if self._long else self.delimiter,
            "quotechar": quote or None,
            "quoting": csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
            "escapechar": options.escape,
            "skipinitialspace": options.skip_initial_space,
            "strict": True,
        }
        signs = [sign for sign in (quote, options.escape, options.comment) if sign]
        self._signs = [sign.encode(options.encoding, "replace") for sign in signs]

    def is_plain(self, lines: bytes) -> bool:
        """Say whether each line is a row: nothing in them is quoted, escaped or a comment."""
        return not any(sign in lines for sign in self._signs)

    def prepared(self, text: str) -> str:
        """Return a text as the `csv` module can read it with `format`; what begins it begins a line."""
        if not self._any_line_end and "\r" in text and text.count("\r") != text.count("\r\n"):
            text = _WITHIN_A_LINE.sub(RETURN, text)
        return self._in_short(text)

    def _in_short(self, text: str) -> str:
        """Put one character in the place of a longer delimiter and of null."""
        if self.keeps_nulls and NULL_WORD in text:
            text = self._nulls.sub(NULL, text)
        return text.replace(self.delimiter, DELIMITER) if self._long else text

    @cached_property
    def _nulls(self) -> re.Pattern[str]:
        delimiter = re.escape(self.delimiter)
        return re.compile(rf"(?:(?<={delimiter})|(?<=[\r\n])|\A)\\N(?={delimiter}|[\r\n]|\Z)")

    def restored(self, row: list[str]) -> list[str]:
        """Return the fields of a row as they stand in the text."""
        if any(RETURN in field for field in row):
            row = [field.replace(RETURN, "\r") for field in row]
        if self._long and any(DELIMITER in field for field in row):
            row = [field.replace(DELIMITER, self.delimiter) for field in row]
        if self.keeps_nulls and any(NULL in field for field in row):
            row = [field if field == NULL else field.replace(NULL, "N") for field in row]
        return row

    def restores(self, text: str) -> bool:
        """Say whether rows of a text that is prepared may need to be restored."""
        return self._long or self.keeps_nulls or RETURN in text

    def lines(self, text: str) -> Iterator[str]:
        """Return the lines of a text, each with its end."""
        return io.StringIO(text, newline="" if self._any_line_end else "\n")

    def reader(self, text: str) -> Iterator[list[str]]:
        """Read the rows of a text that is prepared."""
        return csv.reader(self.lines(text), **self.format)

    def count(self, lines: bytes) -> int:
        """Return the number of line ends."""
        return count(lines, any_line_end=self._any_line_end)

    def is_ended(self, lines: bytes) -> bool:
        """Say whether the last line has an end."""
        return lines.endswith((b"\n", b"\r") if self._any_line_end else b"\n")

    def split(self, lines: bytes) -> list[bytes]:
        """Return lines, each with its end."""
        return split(lines, any_line_end=self._any_line_end)

    def pieces(self, line: str) -> list[list[str]]:
        """Read a line as several rows, each of which ends in a carriage return by itself.

        Raises:
            csv.Error: they are none.
        """
        return list(csv.reader(io.StringIO(self._in_short(line), newline=""), **self.format))

    def unquoted(self, line: str) -> list[str]:
        """Read a line as a row in which quotes are text."""
        return line.rstrip("\r\n").split(self.delimiter)


def count(lines: bytes, *, any_line_end: bool) -> int:
    """Return the number of line ends."""
    if not any_line_end:
        return lines.count(b"\n")
    return lines.count(b"\n") + lines.count(b"\r") - lines.count(b"\r\n")


def split(lines: bytes, *, any_line_end: bool) -> list[bytes]:
    """Return lines, each with its end."""
    if any_line_end:
        return _LINES.findall(lines)
    return [line + b"\n" for line in lines[:-1].split(b"\n")] if lines.endswith(b"\n") else _unended(lines)


def first(lines: bytes, number: int, *, any_line_end: bool) -> bytes:
    """Return the first lines, so many of them, each with its end; the others are not looked at."""
    end = 0
    for found in islice((_LINES if any_line_end else _USUAL).finditer(lines), number):
        end = found.end()
    return lines[:end]


def _unended(lines: bytes) -> list[bytes]:
    *whole, last = lines.split(b"\n")
    return [*(line + b"\n" for line in whole), *([last] if last else [])]
