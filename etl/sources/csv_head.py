"""What the first bytes of a CSV file say: what divides it, its columns, and the types of those."""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from etl.errors import SourceError
from etl.sources import csv_columns, csv_comments, csv_dialect, csv_form, csv_titles, encodings
from etl.sources.belonging import repeated, see_that_it_belongs, shown
from etl.sources.csv_columns import UNKNOWN
from etl.sources.csv_dialect import named
from etl.sources.csv_form import Form, count
from etl.sources.csv_options import Options
from etl.sources.lines import Blocks, LineTooLong
from etl.sources.place import Place, Split
from etl.sources.refusals import Unended

LOG = logging.getLogger("etl.sources")

SAMPLE_BYTES = 1 << 20
SAMPLE_ROWS = 10_000
# In so many characters it is found what divides the rows.
_DIVIDED = 1 << 17
# What Excel takes for the delimiter, and writes for no other program.
_SEPARATOR = re.compile(rb'"?sep=([\t\x20-\x21\x23-\x7e])"?(?=\r|\n|\Z)', re.IGNORECASE)


def read_head(
    blocks: Blocks, place: Place, options: Options, *, tabs: bool, tell: Callable[[str], None]
) -> None:
    """Find what `place` does not say yet: how the file is divided, columns (the header line is taken), types.

    A file that was entered in the middle has all of it from the cursor, and nothing is read.

    Args:
        blocks: the file, at its beginning.
        place: where that is; moved on behind what holds no records.
        options: how CSV is read.
        tabs: whether the file's name or its Content-Type says that it is divided by tabs.
        tell: takes what was found, in words.

    Raises:
        SourceError: the header is no good, or lacks a column that `types` names; or the file does not belong to those
            before it.
    """
    if place.columns is not None:
        return
    any_line_end = place.line_end is not None
    sample = take_sample(blocks, 0)
    if options.skip_lines:
        before = csv_form.first(sample, options.skip_lines, any_line_end=any_line_end)
        _pass(before, place)
        sample = sample[len(before) :]
    said, sample = _separator(sample, place)
    text = sample.decode(options.encoding, "replace")
    if place.delimiter is None:
        _divide(text, place, options, said=said, tabs=tabs, tell=tell)
    form = Form(place, options)
    if skipped := csv_comments.before_header(text, place, form, options):
        before = csv_form.first(sample, skipped, any_line_end=any_line_end)
        tell(f"{place}: comments before the header, up to line {place.line + skipped}, are passed over")
        _pass(before, place)
        sample = sample[len(before) :]
        text = sample.decode(options.encoding, "replace")
    rest = _Sample(form, form.prepared(text))
    first = _first_row(rest, place, blocks)
    rows: list[list[str]] = []
    if first:
        if options.header is True:
            header = csv_form.first(sample, rest.lines, any_line_end=any_line_end)
            _check_text(header, place, options)
            place.columns = _names(first, place)
            rows = rest.rows()
            if not any(
                name in place.types or name in options.types or options.declared(name) for name in first
            ):
                csv_titles.see_that_it_is_no_title(place, first, rows)
                if not place.types:
                    csv_titles.see_that_it_is_no_row(place, first, rows)
            _pass(header, place)
            sample = sample[len(header) :]
            first = []
            see_that_it_belongs(str(place), place.columns, place.types, _ADVICE)
        elif options.header is False:
            place.columns = [f"column_{number}" for number in range(1, len(first) + 1)]
            _check_number(place)
        else:
            place.columns = list(options.header)
        _check_declared(place, options)
    blocks.give_back(sample)
    if place.columns is not None:
        place.types = {**dict.fromkeys(place.columns, UNKNOWN), **place.types}
        infer([first, *(rows or rest.rows())], place, options)


def take_sample(blocks: Blocks, size: int) -> bytes:
    """Take lines for a sample; they are to be given back.

    A sample ends before a line that is too long, which is met again, and named, when it comes to be read.

    Args:
        blocks: the file.
        size: of what was taken for it already, in bytes.

    Raises:
        LineTooLong: the first line is.
    """
    taken: list[bytes] = []
    try:
        while size < SAMPLE_BYTES and (block := blocks.take()):
            taken.append(block)
            size += len(block)
    except LineTooLong:
        if not taken and not size:
            raise
    return b"".join(taken)


def sampled(sample: bytes, form: Form, options: Options) -> list[list[str]]:
    """Return the rows of a sample."""
    return _Sample(form, form.prepared(sample.decode(options.encoding, "replace"))).rows()


def infer(rows: list[Any], place: Place, options: Options) -> None:
    """Give types to those columns of `place` that have none yet: declared ones, or what their values say.

    Args:
        rows: of the file, what cannot be read among them.
        place: its types are replaced.
        options: how CSV is read.
    """
    columns = place.columns or []
    again = columns if options.header is True and len(columns) > 1 else []
    rows = [row for row in rows if type(row) is list and len(row) == len(columns) and row and row != again]
    if not rows:
        return  # the file, or the block, that brings the first row shows them
    types = dict(place.types)
    for name, values in zip(columns, zip(*rows, strict=True), strict=True):
        if types.get(name, UNKNOWN) == UNKNOWN:
            types[name] = csv_columns.infer(name, values, options)
    place.types = types


def is_open(error: csv.Error) -> bool:
    """Say whether what is wrong with a row is that its text ended before it did."""
    return str(error).startswith("unexpected end")


def raise_field_limit(limit: int) -> None:
    """Let fields be as long as `limit` characters.

    The limit is one of the whole process: the `csv` module has no other. It is never lowered.
    """
    if csv.field_size_limit() < limit:
        csv.field_size_limit(limit)


def _pass(lines: bytes, place: Place) -> None:
    """Move on behind lines that hold no records."""
    place.line += count(lines, any_line_end=place.line_end is not None)
    place.advance(lines)


def _separator(sample: bytes, place: Place) -> tuple[str | None, bytes]:
    """Take the line `sep=;` if it is the first one; returns what it says, and the rest of the sample."""
    match = _SEPARATOR.match(sample)
    if match is None:
        return None, sample
    line = csv_form.first(sample, 1, any_line_end=place.line_end is not None)
    _pass(line, place)
    return match[1].decode("ascii"), sample[len(line) :]


def _divide(
    text: str, place: Place, options: Options, *, said: str | None, tabs: bool, tell: Callable[[str], None]
) -> None:
    """Find what divides the fields, and see that the files before are divided so."""
    before = None if place.split is None or place.split.file == str(place) else place.split
    if said is not None and options.delimiter is None:
        found = csv_dialect.Found(said, None, "as its first line says", False)
    else:
        lines = text[:_DIVIDED].splitlines(keepends=True)
        if len(text) > _DIVIDED and len(lines) > 1:
            del lines[-1]  # it may be cut
        bare = "".join(lines[csv_comments.leading(lines, options) :])
        found = csv_dialect.find(bare, options, tabs=tabs, before=before.delimiter if before else None)
    if found.perhaps is not None:
        runs, together = ("runs of ", " and skip_initial_space = true") if found.aligned else ("", "")
        raise SourceError(
            f"{place}: it has one column, or columns divided by {runs}{named(found.perhaps)}, which divides all of its "
            f'first rows alike; say delimiter = "{found.perhaps}"{together}, or delimiter = "," if it is one column'
        )
    if options.delimiter is None and found.divides:
        if before is None:
            place.split = Split(file=str(place), delimiter=found.delimiter)
        elif found.delimiter != before.delimiter:
            raise SourceError(
                f"{place}: its fields are divided by {named(found.delimiter)} ({found.why}), those of {before.file} "
                f"by {named(before.delimiter)}; say which it is with `delimiter`, or load these files by two jobs"
            )
    elif before is not None and not found.divides and said is None:
        found = found._replace(delimiter=before.delimiter)
    place.delimiter, place.quote = found.delimiter, found.quote
    quote = options.quote if found.quote is None else found.quote
    quoted = f", quoted by {quote or chr(34)}" if quote != "" else ", quotes are text"
    divided = f"fields divided by {named(found.delimiter)}" if found.divides or said else "one column"
    tell(f"{place}: CSV, {divided} ({found.why}){quoted}")


class _Sample:
    """Reads the rows of a sample.

    Args:
        form: how rows are found.
        text: the sample, prepared.
    """

    def __init__(self, form: Form, text: str) -> None:
        self._form = form
        self._restores = form.restores(text)
        # Python's own lines are many times faster
        self._lines = None if form.comment is None else csv_comments.Lines(form.lines(text), form.comment)
        self._reader: Any = csv.reader(self._lines or form.lines(text), **form.format)

    @property
    def lines(self) -> int:
        """How many lines were read, comments among them."""
        read: int = self._reader.line_num
        return read if self._lines is None else read + self._lines.passed

    def __iter__(self) -> Iterator[list[str]]:
        for row in self._reader:
            if self._lines is not None:
                self._lines.between = True
            yield self._form.restored(row) if self._restores else row

    def rows(self) -> list[list[str]]:
        """Return rows; those that cannot be read are met again, and named, by the reading itself."""
        rows: list[list[str]] = []
        plain = self._lines is None and not self._restores
        while len(rows) < SAMPLE_ROWS:
            try:
                rows.extend(islice(self._reader if plain else self, SAMPLE_ROWS - len(rows)))
                break
            except csv.Error:
                if self._lines is not None:
                    self._lines.between = True
        return rows


def _first_row(sample: _Sample, place: Place, blocks: Blocks) -> list[str]:
    """Return the first row that is not blank; an empty list: there is none."""
    try:
        return next(filter(None, sample), [])
    except csv.Error as error:
        if is_open(error) and blocks.may_grow():
            raise Unended from error
        raise SourceError(
            f"{place.on_line(0, 0)}: the header cannot be read ({error}): is this CSV, with lines ended by \\n? "
            "Fix the line, or set `format`"
        ) from error


def _names(header: list[str], place: Place) -> list[str]:
    where = place.on_line(0, 0)
    advice = "name each column in the file's first line, once; or set header = [names], and skip_lines = 1"
    if "" in header:
        raise SourceError(f"{where}: column {header.index('') + 1} of the header has no name; {advice}")
    if twice := repeated(header):
        raise SourceError(f"{where}: the header names {shown(twice)} more than once; {advice}")
    return header


def _check_text(header: bytes, place: Place, options: Options) -> None:
    """See that the names of columns are text: what a row lacks is one unreadable record, but these are all rows'."""
    try:
        header.decode(options.encoding)
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{place.on_line(0, 0)}: the header is no valid {options.encoding} ({header[error.start]:#04x} at its byte "
            f"{error.start}); {encodings.advice(header)}"
        ) from error


def _check_declared(place: Place, options: Options) -> None:
    assert place.columns is not None
    unknown = sorted(set(options.types).difference(place.columns, place.types))
    if unknown:
        raise SourceError(
            f"{place}: `types` names {', '.join(map(repr, unknown))}, which the file does not have; "
            f"its columns are: {', '.join(place.columns)}"
        )


def _check_number(place: Place) -> None:
    """See that a file without names has as many columns as those before it: by nothing else are they told apart."""
    if place.columns and place.types and len(place.columns) != len(place.types):
        raise SourceError(
            f"{place}: its first row has {len(place.columns)} fields, and the files before it have "
            f"{len(place.types)} columns, without names (header = false); name the files that belong together, and "
            "load others by a job of their own"
        )


_ADVICE = (
    "If it has no header, give it one, or name the columns of all in the job: header = [names] (with skip_lines = 1, "
    "where all have one). "
)
