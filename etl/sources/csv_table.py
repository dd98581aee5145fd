"""Records out of the rows of CSV: names, types, and what is wrong with a row that is no row of the table."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from etl.records import Unreadable
from etl.sources import csv_columns, encodings
from etl.sources.csv_columns import UNKNOWN
from etl.sources.csv_form import NULL, NULL_WORD, Form
from etl.sources.csv_options import Options
from etl.sources.place import Place, unreadable

Row = list[str] | csv.Error


class Rows(Protocol):
    """Rows, and where each stands.

    Attributes:
        rows: fields; or what is wrong with the row.
        broken: whether there are bytes in them that are no text.
        spanning: the numbers of those rows that lie on several lines, by `rows`.
    """

    rows: list[Row]
    broken: bool
    spanning: Sequence[int]

    def numbered(self) -> Iterator[tuple[Row, int, int, bytes]]:
        """Yield each row with the lines and the bytes before it, and its bytes."""

    def cut(self, size: int) -> None:
        """Give back what comes after the first `size` bytes."""


class Table:
    """Makes records of rows: the columns' names, and what converts them.

    Args:
        place: names columns and inferred types.
        options: names declared types, which come first, and null words.
        form: how rows are found in a text.
    """

    def __init__(self, place: Place, options: Options, form: Form) -> None:
        self._names = place.columns or []
        self._place = place
        self._form = form
        self._encoding = options.encoding
        self._readings = [
            csv_columns.reading(name, place.types.get(name, UNKNOWN), options) for name in self._names
        ]
        if form.keeps_nulls:  # then the word itself is a text: it was written with two backslashes
            self._readings = [
                csv_columns.Reading(known.type, (known.nulls - {NULL_WORD}) | {NULL}, known.by)
                for known in self._readings
            ]
        self._converters = [known.converter() for known in self._readings]
        self._unknown = [number for number, known in enumerate(self._readings) if known.type == UNKNOWN]
        # of one column of text, it may be a value
        self._header = self._names if options.header is True and len(self._names) > 1 else None
        self._all_text = all(known.type == "string" for known in self._readings)
        self._trusts_quotes = options.quote is not None or options.delimiter is not None

    def shows_a_value(self, rows: Sequence[Row]) -> bool:
        """Say whether a column that was empty so far holds something in these rows."""
        if not self._unknown:
            return False
        width = len(self._names)
        fit = [row for row in rows if type(row) is list and len(row) == width]
        if not fit:
            return False
        columns = list(zip(*fit, strict=True))
        return any(not self._readings[number].nulls.issuperset(columns[number]) for number in self._unknown)

    def records(self, rows: Rows) -> list[Any]:
        """Return a record, or an `Unreadable`, for each row that is not blank; the rows are cut before the latter.

        Not where it is the first one.
        """
        doubtful = self._doubtful(rows)
        if not rows.broken and not doubtful and not (self._all_text and self._header in rows.rows):
            try:
                return self._convert(rows.rows)
            except (ValueError, TypeError):  # TypeError: what stands for a row is an error
                pass
        found: list[Any] = []
        for number, (row, lines, size, raw) in enumerate(rows.numbered()):
            if row == []:
                continue
            where = self._place.on_line(lines, size)
            if number in doubtful:
                made = [unreadable(raw.rstrip(b"\r\n"), where, _SEVERAL_ROWS)]
            else:
                made = self._one(row, where, raw)
            if found and type(made[0]) is Unreadable and type(found[0]) is not Unreadable:
                rows.cut(size)
                break
            found += made
        return found

    def _convert(self, rows: Any) -> list[Any]:
        """Convert whole columns; raises ValueError when anything is unusual."""
        names = self._names
        columns = zip(*rows, strict=True)
        converted = [convert(column) for convert, column in zip(self._converters, columns, strict=True)]
        return [dict(zip(names, row)) for row in zip(*converted)]  # noqa: B905 - the lengths were checked above

    def _doubtful(self, rows: Rows) -> frozenset[int]:
        """Return the numbers of rows in which a quote that is text has eaten others, whose fields fit by chance.

        Then each of its lines is a row by itself: as many fields, and no text where none belongs. With two columns of
        text that says nothing.
        """
        if self._trusts_quotes or not rows.spanning:
            return frozenset()
        width = len(self._names)
        if width < 2 or (width == 2 and all(known.type in ("string", UNKNOWN) for known in self._readings)):
            return frozenset()
        wanted = set(rows.spanning)
        return frozenset(
            number
            for number, (row, _, _, raw) in enumerate(rows.numbered())
            if number in wanted and type(row) is list and len(row) == width and self._are_rows(raw)
        )

    def _are_rows(self, raw: bytes) -> bool:
        lines = [line.decode(self._encoding, "replace") for line in self._form.split(raw)]
        found = [self._form.unquoted(line) for line in lines]
        if any(len(fields) != len(self._names) for fields in found):
            return False
        try:
            self._convert(found)
        except ValueError:
            return False
        return True

    def _one(self, row: Row, where: str, raw: bytes) -> list[Any]:
        ended, raw = raw, raw.removesuffix(b"\n").removesuffix(b"\r")
        if isinstance(row, csv.Error):
            hint = _NOT_CLOSED if str(row).startswith("unexpected end") else ""
            if b'\\"' in raw and self._form.format["escapechar"] is None:
                hint += _ESCAPED
            return [unreadable(raw, where, f"no CSV row ({row}){hint}")]
        try:
            text = raw.decode(self._encoding)
        except UnicodeDecodeError as error:
            return [
                unreadable(
                    raw,
                    where,
                    f"no valid {self._encoding} ({raw[error.start]:#04x} at its byte {error.start}); if all of the "
                    f"file is in another encoding, {encodings.advice(raw)}",
                )
            ]
        if row == self._header:
            return [unreadable(text, where, _HEADER_AGAIN)]
        if len(row) != len(self._names):
            said = f"{len(row)} fields where the table has {len(self._names)} columns"
            return self._lines_within(ended) or [unreadable(text, where, said + self._remedy(text))]
        try:
            return self._convert([row])
        except ValueError:
            return [unreadable(text, where, self._misfit(row))]

    def _remedy(self, text: str) -> str:
        """Say which option may fix a row that has another number of fields."""
        form = self._form.format
        quote, delimiter = form["quotechar"], form["delimiter"]
        if quote and not form["skipinitialspace"] and f"{delimiter} {quote}" in text:
            return _BLANK_BEFORE_QUOTE
        if quote and form["escapechar"] is None and f"\\{quote}" in text:
            return _ESCAPED
        return _COMMENT if self._form.comment is None and text.startswith(("#", "%")) else ""

    def _lines_within(self, raw: bytes) -> list[Any]:
        r"""Read a row in which others end in `\r` by itself, if each of them is one of the table.

        No row with `\r` in its fields has as many fields as several: what fits by this does not fit by that.
        """
        if b"\r" not in raw.removesuffix(b"\n").removesuffix(b"\r"):
            return []
        try:
            rows = [row for row in self._form.pieces(raw.decode(self._encoding)) if row]
        except (csv.Error, UnicodeDecodeError):
            return []
        if any(len(row) != len(self._names) for row in rows):
            return []
        try:
            return self._convert([self._form.restored(row) for row in rows])
        except ValueError:
            return []

    def _misfit(self, row: list[str]) -> str:
        """Say which value does not fit its column."""
        for name, known, convert, value in zip(
            self._names, self._readings, self._converters, row, strict=True
        ):
            try:
                convert([value])
            except ValueError:
                shown = value if len(value) <= 100 else value[:99] + "…"
                why = f"column {name!r} is {known.type} and {shown!r} does not fit"
                if known.by == "types":
                    return why
                if known.by == "declared":
                    return f'{why}; to have its text as it stands, say types = {{ {_key(name)} = "string" }}'
                advice = f'declare another one: types = {{ {_key(name)} = "string" }}'
                if csv_columns.is_a_number(value):
                    advice += ', or "decimal", which keeps all digits'
                advice += "; if rows were loaded already, into a new table"
                return f"{why}; the type was inferred from the first rows, {advice}"
        raise AssertionError(row)  # never reached: one of them did not fit


def _key(name: str) -> str:
    """Write the key of a TOML table."""
    bare = name.replace("-", "").replace("_", "")
    return (
        name
        if bare.isascii() and bare.isalnum()
        else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    )


_NOT_CLOSED = ': a quote is not closed; where quotes are text, say quote = ""'
_ESCAPED = '; where backslashes take the meaning from quotes, say escape = "\\\\"'
_BLANK_BEFORE_QUOTE = "; where blanks stand between delimiter and quote, say skip_initial_space = true"
_COMMENT = "; if it is a comment, say with `comment` what such lines begin with"
_HEADER_AGAIN = (
    'the row is the header again, as where files were put together; on_error = "reject" leaves such rows out'
)
_SEVERAL_ROWS = (
    "a quoted field goes over several lines, each of which would be a row by itself: its quote may be text; say "
    'quote = "" if it is, or quote = \'"\' if the field has these lines'
)
