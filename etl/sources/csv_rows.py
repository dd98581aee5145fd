r"""CSV (RFC 4180): rows to records, with the exact byte at which each row begins.

Lines end in `\n` or `\r\n`; quoted fields hold delimiters, doubled quotes and line ends; blank lines are skipped.
A row that is no row of the table (its number of fields, a value that does not fit its column) is one unreadable
record, and so is what follows a quote that is never closed.

The inner loops work on a block of rows and on whole columns. Only where a block holds something wrong is it gone
through row by row, to say what.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from etl.errors import SourceError
from etl.sources import csv_head, csv_types
from etl.sources.csv_head import Options
from etl.sources.decoding import Stream
from etl.sources.lines import Blocks
from etl.sources.place import Place, unreadable

# What one row may take at most, in bytes: it is held in memory several times over.
LONGEST_ROW = 16 << 20


def read(stream: Stream, place: Place, options: Options, *, block: int) -> Iterator[list[Any]]:
    """Decode CSV; yields lists of records, each with a mark at its end.

    Args:
        stream: the content, at `place`.
        place: moved on with what was read.
        options: how CSV is read.
        block: how many bytes to decode at once.
    """
    # a row that is too long is to be met by the check below, before csv's own limit, which it can go on from
    csv_head.raise_field_limit(2 * LONGEST_ROW)
    blocks = Blocks(stream, place, block, LONGEST_ROW)
    csv_head.read_head(blocks, place, options)
    if place.columns is None:
        return
    table = _Table(place, options)
    while lines := blocks.take():
        rows = _Rows(lines, blocks, place, options)
        batch = table.records(rows)
        assert place.offset is not None
        place.record += len(batch)
        place.offset += rows.bytes
        place.line += rows.lines
        batch.append(place.mark())
        del rows
        yield batch
        del batch  # the memory is used again for the next one


class _Rows:
    """The rows that begin in a block of lines; the last one may end in a later block, the rest of which is given back.

    Attributes:
        rows: fields; or what is wrong with the row.
        ends: for each row, the number of lines up to its end; None: each row is one line.
        bytes: the size of the rows.
        lines: the number of lines (line ends) in them.
        broken: whether there are bytes in them that are no text.
    """

    def __init__(self, lines: bytes, blocks: Blocks, place: Place, options: Options) -> None:
        self._blocks = blocks
        self._place = place
        self._encoding = options.encoding
        self._format: dict[str, Any] = {"delimiter": place.delimiter, "strict": True}
        self._taken: list[bytes] = []
        self.broken = False
        self.rows: list[list[str] | csv.Error] = []
        self.ends: list[int] | None = None
        text = self._text(lines)
        if b'"' in lines or not self._plain(text):
            self._with_care(text)
        self.bytes = sum(map(len, self._taken))
        self.lines = sum(taken.count(b"\n") for taken in self._taken)

    def _plain(self, text: str) -> bool:
        """Read rows that have no quotes: each is a line, and no loop is needed to know where they end."""
        try:
            self.rows.extend(csv.reader(io.StringIO(text, newline="\n"), **self._format))
        except csv.Error:
            self.rows.clear()
            return False
        return True

    def _with_care(self, text: str) -> None:
        """Read rows one by one, up to the end of the one that holds the block's last line."""
        wanted = self._taken[0].count(b"\n") + (not self._taken[0].endswith(b"\n"))
        reader = csv.reader(self._lines(text), **self._format)
        rows, ends = self.rows, []
        read = 0
        while read < wanted:
            try:
                for row in reader:
                    rows.append(row)
                    ends.append(read := reader.line_num)
                    if read >= wanted:
                        break
                else:
                    break
            except csv.Error as error:
                rows.append(error)
                ends.append(read := reader.line_num)
        self.ends = ends
        self._give_back(read)

    def _lines(self, text: str) -> Iterator[str]:
        yield from io.StringIO(text, newline="\n")
        while lines := self._blocks.take():
            if sum(map(len, self._taken)) > LONGEST_ROW:
                raise SourceError(
                    f"{self._place.on_line(0, 0)}: a row that begins in this line or soon after is longer than "
                    f"{LONGEST_ROW >> 20} MiB: close the quote, or set `format`"
                )
            yield from io.StringIO(self._text(lines), newline="\n")

    def _text(self, lines: bytes) -> str:
        self._taken.append(lines)
        try:
            return lines.decode(self._encoding)
        except UnicodeDecodeError:
            self.broken = True
            return lines.decode(self._encoding, "surrogateescape")

    def _give_back(self, read: int) -> None:
        """Give the lines back that come after the first `read`: they lie in the block taken last."""
        *whole, last = self._taken
        end = 0
        for _ in range(read - sum(taken.count(b"\n") for taken in whole)):
            end = last.find(b"\n", end) + 1 or len(last)
        if end < len(last):
            self._blocks.give_back(last[end:])
            self._taken[-1] = last[:end]

    def numbered(self) -> Iterator[tuple[list[str] | csv.Error, int, int, bytes]]:
        """Yield each row with the lines and the bytes before it, and its bytes."""
        lines = b"".join(self._taken).split(b"\n")
        start = size = 0
        for number, row in enumerate(self.rows):
            end = self.ends[number] if self.ends is not None else number + 1
            raw = b"\n".join(lines[start:end])
            yield row, start, size, raw
            start, size = end, size + len(raw) + 1


class _Table:
    """Makes records of rows: the columns' names, and what converts them.

    Args:
        place: names columns and inferred types.
        options: names declared types, which come first, and null words.
    """

    def __init__(self, place: Place, options: Options) -> None:
        self._names = place.columns or []
        self._place = place
        self._encoding = options.encoding
        types = {**place.types, **options.types}
        self._types = [types.get(name, "string") for name in self._names]
        self._inferred = [name not in options.types for name in self._names]
        self._converters = [csv_types.converter(type_, options.nulls) for type_ in self._types]

    def records(self, rows: _Rows) -> list[Any]:
        """Return a record, or an `Unreadable`, for each row that is not blank."""
        if not rows.broken:
            try:
                return self._convert(rows.rows)
            except (ValueError, TypeError):  # TypeError: what stands for a row is an error
                pass
        return [self._one(*numbered) for numbered in rows.numbered() if numbered[0] != []]

    def _convert(self, rows: Any) -> list[Any]:
        """Convert whole columns; raises ValueError when anything is unusual."""
        names = self._names
        columns = zip(*rows, strict=True)
        converted = [convert(column) for convert, column in zip(self._converters, columns, strict=True)]
        return [dict(zip(names, row)) for row in zip(*converted)]  # noqa: B905 - the lengths were checked above

    def _one(self, row: list[str] | csv.Error, lines: int, size: int, raw: bytes) -> Any:
        where = self._place.on_line(lines, size)
        raw = raw.removesuffix(b"\r")
        if isinstance(row, csv.Error):
            return unreadable(raw, where, f"no CSV row ({row}){_HINTS.get(str(row).partition(' ')[0], '')}")
        try:
            raw.decode(self._encoding)
        except UnicodeDecodeError as error:
            return unreadable(
                raw, where, f"no valid {self._encoding} ({raw[error.start]:#04x} at its byte {error.start})"
            )
        text = raw.decode(self._encoding)
        if len(row) != len(self._names):
            return unreadable(
                text, where, f"{len(row)} fields where the table has {len(self._names)} columns"
            )
        try:
            return self._convert([row])[0]
        except ValueError:
            return unreadable(text, where, self._misfit(row))

    def _misfit(self, row: list[str]) -> str:
        """Say which value does not fit its column."""
        for name, type_, inferred, convert, value in zip(
            self._names, self._types, self._inferred, self._converters, row, strict=True
        ):
            try:
                convert([value])
            except ValueError:
                shown = value if len(value) <= 100 else value[:99] + "…"
                why = f"column {name!r} is {type_} and {shown!r} does not fit"
                if not inferred:
                    return why
                return (
                    f"{why}; the type was inferred from the first rows, declare another one: "
                    f'types = {{ {name} = "string" }}'
                )
        raise AssertionError(row)  # never reached: one of them did not fit


_HINTS = {
    "unexpected": ": a quote is not closed",
    "new-line": ": a carriage return stands within the line",
}
