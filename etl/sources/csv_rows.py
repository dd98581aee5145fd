r"""CSV (RFC 4180): rows to records, with the exact byte at which each row begins.

Lines end in `\n` or `\r\n`, or as on the Macintosh in `\r`; quoted fields hold delimiters, doubled quotes and line
ends; blank lines are skipped. A row that is no row of the table (its number of fields, a value that does not fit its
column) is one unreadable record, and so is what follows a quote that is never closed.

The inner loops work on a block of rows and on whole columns. Only where a block holds something wrong is it gone
through row by row, to say what.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from etl.errors import SourceError
from etl.field_types import FieldTypes
from etl.sources import csv_columns, csv_head
from etl.sources.bounds import UNLIMITED, too_long
from etl.sources.csv_comments import Lines
from etl.sources.csv_form import Form
from etl.sources.csv_lines import CsvBlocks, find_line_end
from etl.sources.csv_options import Options
from etl.sources.csv_table import Row, Table
from etl.sources.decoding import Stream
from etl.sources.lines import LineTooLong
from etl.sources.place import Place


def read(
    stream: Stream,
    place: Place,
    options: Options,
    *,
    block: int,
    longest: int = UNLIMITED.row,
    tabs: bool = False,
    tell: Callable[[str], None] = lambda _said: None,
    describe: Callable[[FieldTypes], None] = lambda _types: None,
) -> Iterator[list[Any]]:
    """Decode CSV; yields lists of records, each with a mark at its end.

    Args:
        stream: the content, at `place`.
        place: moved on with what was read.
        options: how CSV is read.
        block: how many bytes to decode at once.
        longest: how long a row may be, in bytes.
        tabs: whether the file's name or its Content-Type says that it is divided by tabs.
        tell: takes what was found out about the file, in words.
        describe: takes what is known of the fields' types.

    Raises:
        SourceError: a row is longer than it may be, or the header is no good.
    """
    # a row that is too long is to be met by the check below, before csv's own limit, which it can go on from
    csv_head.raise_field_limit(2 * longest + block)
    if place.columns is None:
        find_line_end(stream, place, options)
    blocks = CsvBlocks(stream, place, block, longest, options.skip_footer)
    try:
        yield from _records(blocks, place, options, tabs=tabs, tell=tell, describe=describe)
    except LineTooLong as error:
        raise SourceError(str(error)) from error


def _records(
    blocks: CsvBlocks,
    place: Place,
    options: Options,
    *,
    tabs: bool,
    tell: Callable[[str], None],
    describe: Callable[[FieldTypes], None],
) -> Iterator[list[Any]]:
    csv_head.read_head(blocks, place, options, tabs=tabs, tell=tell)
    if place.columns is None:
        blocks.see_that_all_was_taken()
        return
    describe(csv_columns.said_to_be_text(place.columns, options))
    form = Form(place, options)
    table = Table(place, options, form)
    while lines := blocks.take():
        rows = _Rows(lines, blocks, place, form, options.encoding)
        if table.shows_a_value(rows.rows):
            ahead = csv_head.take_sample(blocks, rows.bytes)
            blocks.give_back(ahead)
            csv_head.infer([*rows.rows, *csv_head.sampled(ahead, form, options)], place, options)
            del ahead
            table = Table(place, options, form)
        batch = table.records(rows)
        place.record += len(batch)
        for taken in rows.taken:
            place.advance(taken)
        place.line += rows.lines
        batch.append(place.mark())
        del rows
        yield batch
        del batch  # the memory is used again for the next one
    blocks.see_that_all_was_taken()


class _Rows:
    """The rows that begin in a block of lines; the last one may end in a later block, the rest of which is given back.

    Attributes:
        rows: fields; or what is wrong with the row.
        ends: for each row, the number of lines up to its end; None: each row is one line.
        begins: for each row, the number of lines before it, where there may be comments; None: the row before it ends
            there.
        spanning: the numbers of the rows that lie on several lines.
        taken: the lines that they stand in, one after the other.
        bytes: the size of the rows.
        lines: the number of lines (line ends) in them.
        broken: whether there are bytes in them that are no text.
    """

    def __init__(self, lines: bytes, blocks: CsvBlocks, place: Place, form: Form, encoding: str) -> None:
        self._blocks = blocks
        self._place = place
        self._form = form
        self._encoding = encoding
        self.taken: list[bytes] = []
        self.broken = self._restores = False
        self.rows: list[Row] = []
        self.ends: list[int] | None = None
        self.begins: list[int] | None = None
        self.spanning: Sequence[int] = ()
        text = self._text(lines)
        if not form.is_plain(lines) or not self._plain(text):
            self._with_care(text)
            self._hold_what_is_open()
        if self._restores:
            self.rows = [form.restored(row) if type(row) is list else row for row in self.rows]
        self.bytes = sum(map(len, self.taken))
        self.lines = sum(map(form.count, self.taken))

    def _plain(self, text: str) -> bool:
        """Read rows that have no quotes: each is a line, and no loop is needed to know where they end."""
        try:
            self.rows.extend(self._form.reader(text))
        except csv.Error:
            self.rows.clear()
            return False
        return True

    def _with_care(self, text: str) -> None:
        """Read rows one by one, up to the end of the one that holds the block's last line."""
        if self._form.comment is None:
            self._read(text)
        else:
            self._read_between_comments(text, self._form.comment)

    def _wanted(self) -> int:
        return self._form.count(self.taken[0]) + (not self._form.is_ended(self.taken[0]))

    def _read(self, text: str) -> None:
        wanted = self._wanted()
        reader = csv.reader(self._lines(text, lambda: True), **self._form.format)
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
        if read > len(rows):
            self.spanning = [
                number
                for number, (begin, end) in enumerate(zip([0, *ends], ends, strict=False))
                if end - begin > 1
            ]
        self._give_back(read)

    def _read_between_comments(self, text: str, sign: str) -> None:
        wanted = self._wanted()
        lines: Lines = Lines(self._lines(text, lambda: not lines.between), sign)
        reader = csv.reader(lines, **self._form.format)
        ends: list[int] = []
        begins: list[int] = []
        row: Row | None
        while lines.handed + lines.passed < wanted:
            lines.between = True
            try:
                row = next(reader, None)
            except csv.Error as error:
                row = error
            if row is None:
                break
            self.rows.append(row)
            begins.append(lines.began)
            ends.append(lines.handed + lines.passed)
        self.ends, self.begins = ends, begins
        self.spanning = [
            number for number, (begin, end) in enumerate(zip(begins, ends, strict=True)) if end - begin > 1
        ]
        self._give_back(max(lines.handed + lines.passed, wanted))

    def _lines(self, text: str, goes_on: Callable[[], bool]) -> Iterator[str]:
        yield from self._form.lines(text)
        while goes_on() and (lines := self._blocks.take()):
            if sum(map(len, self.taken)) > self._blocks.longest:
                raise SourceError(
                    f"{self._place.on_line(0, 0)}: a row that begins in this line or soon after is "
                    f"{too_long(self._blocks.longest)}. If a quote is not closed, close it, or, where quotes are text, "
                    'say quote = ""'
                )
            yield from self._form.lines(self._text(lines))

    def _text(self, lines: bytes) -> str:
        self.taken.append(lines)
        try:
            text = lines.decode(self._encoding)
        except UnicodeDecodeError:
            self.broken = True
            text = lines.decode(self._encoding, "surrogateescape")
        text = self._form.prepared(text)
        self._restores = self._restores or self._form.restores(text)
        return text

    def _give_back(self, read: int) -> None:
        """Give the lines back that come after the first `read`: they lie in the block taken last."""
        *whole, last = self.taken
        read -= sum(map(self._form.count, whole))
        rest = b"".join(self._form.split(last)[read:]) if read < self._form.count(last) else b""
        if rest:
            self._blocks.give_back(rest)
            self.taken[-1] = last[: -len(rest)]

    def _hold_what_is_open(self) -> None:
        """Leave a last row for later whose quote is not closed, where more of it may come."""
        last = self.rows[-1] if self.rows else None
        if not isinstance(last, csv.Error) or not csv_head.is_open(last) or not self._blocks.may_grow():
            return
        assert self.ends is not None
        self.rows.pop()
        self.ends.pop()
        begin = self.begins.pop() if self.begins is not None else ([0, *self.ends])[-1]
        self.spanning = [number for number in self.spanning if number < len(self.rows)]
        self.taken = [b"".join(self._form.split(b"".join(self.taken))[:begin])]
        self._blocks.hold()

    def numbered(self) -> Iterator[tuple[Row, int, int, bytes]]:
        """Yield each row with the lines and the bytes before it, and its bytes, its line end among them."""
        lines = self._form.split(b"".join(self.taken))
        last = size = 0
        for number, row in enumerate(self.rows):
            end = self.ends[number] if self.ends is not None else number + 1
            start = self.begins[number] if self.begins is not None else last
            size += sum(map(len, lines[last:start]))
            raw = b"".join(lines[start:end])
            yield row, start, size, raw
            last, size = end, size + len(raw)

    def cut(self, size: int) -> None:
        """Give back what comes after the first `size` bytes; `rows` and what tells where they end stay."""
        lines = b"".join(self.taken)
        self._blocks.give_back(lines[size:])
        self.taken = [lines[:size]]
        self.bytes = size
        self.lines = self._form.count(self.taken[0])
