"""What the first bytes of a CSV file say: its delimiter, its columns, and the types of those."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import msgspec

from etl.errors import SourceError
from etl.sources import csv_types, encodings
from etl.sources.belonging import see_that_it_belongs
from etl.sources.lines import Blocks
from etl.sources.place import Place

SAMPLE_BYTES = 1 << 20
SAMPLE_ROWS = 10_000
_SNIFFED_ROWS = 100
_DELIMITERS = ",;\t|"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How CSV is read; `Files` documents each."""

    types: Mapping[str, str]
    delimiter: str | None
    header: bool | Sequence[str]
    nulls: frozenset[str]
    encoding: str
    skip_lines: int


def read_head(blocks: Blocks, place: Place, options: Options) -> None:
    """Find what `place` does not say yet: delimiter, columns (the header line is taken), types.

    A file that was entered in the middle has all of it from the cursor, and nothing is read.

    Raises:
        SourceError: the header is no good, or lacks a column that `types` names.
    """
    if place.columns is not None and all(name in place.types for name in place.columns):
        return
    taken = []
    size = 0
    while size < SAMPLE_BYTES and (block := blocks.take()):
        taken.append(block)
        size += len(block)
    sample = b"".join(taken)
    if place.columns is None and options.skip_lines:
        before = _bytes_of(sample, options.skip_lines)
        _pass(sample[:before], place)
        sample = sample[before:]
    text = sample.decode(options.encoding, "replace")
    if place.delimiter is None:
        place.delimiter = options.delimiter or _sniff(text)
    reader = csv.reader(io.StringIO(text, newline="\n"), delimiter=place.delimiter, strict=True)
    if place.columns is None and (first := _first_row(reader, place)):
        header = 0
        if options.header is True:
            header = _bytes_of(sample, reader.line_num)
            _check_text(sample[:header], place, options)
            place.columns = _named(first, place)
            _pass(sample[:header], place)
            first = []
            see_that_it_belongs(
                str(place),
                place.columns,
                place.types,
                "If it has no header, give it one, or name the columns of all in the job: "
                "header = [names] (with skip_lines = 1, where all have one). ",
            )
        elif options.header is False:
            place.columns = [f"column_{number}" for number in range(1, len(first) + 1)]
            _check_number(place)
        else:
            place.columns = list(options.header)
        _check_declared(place, options)
        rows = [first, *_rows(reader)]
        sample = sample[header:]
    else:
        rows = _rows(reader)
    blocks.give_back(sample)
    _infer(rows, place, options)


def _pass(lines: bytes, place: Place) -> None:
    """Move on behind lines that hold no records."""
    assert place.offset is not None
    place.line += lines.count(b"\n")
    place.offset += len(lines)


def raise_field_limit(limit: int) -> None:
    """Let fields be as long as `limit` characters.

    The limit is one of the whole process: the `csv` module has no other. It is never lowered.
    """
    if csv.field_size_limit() < limit:
        csv.field_size_limit(limit)


def _first_row(reader: Any, place: Place) -> list[str]:
    """Return the first row that is not blank; an empty list: there is none."""
    try:
        return next(filter(None, reader), [])
    except csv.Error as error:
        raise SourceError(
            f"{place.on_line(0, 0)}: the header cannot be read ({error}): is this CSV, with lines ended by \\n? "
            "Mend the line, or set `format`"
        ) from error


def _rows(reader: Any) -> list[list[str]]:
    """Return rows for a sample, up to one that cannot be read: it is met again, and named, by the reading itself."""
    rows: list[list[str]] = []
    with suppress(csv.Error):
        rows.extend(islice(reader, SAMPLE_ROWS))
    return rows


def _sniff(text: str) -> str:
    """Return the delimiter with which most rows have as many fields as the first, and that more than one."""

    def score(delimiter: str) -> tuple[float, int]:
        reader = csv.reader(io.StringIO(text, newline="\n"), delimiter=delimiter, strict=True)
        widths: list[int] = []
        with suppress(csv.Error):
            widths.extend(len(row) for row in islice(filter(None, reader), _SNIFFED_ROWS))
        if not widths or widths[0] == 1:
            return (0, 0)
        return (widths.count(widths[0]) / len(widths), widths[0])

    return max(_DELIMITERS, key=score)


def _named(header: list[str], place: Place) -> list[str]:
    where = place.on_line(0, 0)
    advice = "name each column in the file's first line, once; or set header = [names], and skip_lines = 1"
    if "" in header:
        raise SourceError(f"{where}: column {header.index('') + 1} of the header has no name; {advice}")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise SourceError(f"{where}: the header names {', '.join(map(repr, twice))} more than once; {advice}")
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


def _infer(rows: list[list[str]], place: Place, options: Options) -> None:
    """Add to the types of `place` those of columns that no file before has shown: declared, or inferred."""
    columns = place.columns or []
    rows = [row for row in rows if len(row) == len(columns) and row]
    if not rows:
        return  # the file that brings the first row shows them
    for name, values in zip(columns, zip(*rows, strict=True), strict=True):
        if name not in place.types:
            type_ = options.types.get(name) or csv_types.infer(values, options.nulls)
            place.types = {**place.types, name: type_}


def _bytes_of(sample: bytes, lines: int) -> int:
    """Return the number of bytes that the first `lines` lines take."""
    end = 0
    for _ in range(lines):
        end = sample.find(b"\n", end) + 1 or len(sample)
    return end
