"""Is the first line of a CSV file its header, a title that has as many fields by chance, or a row already?"""

from __future__ import annotations

from collections.abc import Sequence

from etl.errors import SourceError
from etl.sources import csv_types
from etl.sources.place import Place


def may_be_header(row: Sequence[str]) -> bool:
    """Say whether fields look like names: each another, none of them a number, a date or nothing."""
    if len(set(row)) < len(row) or not all(name.strip() for name in row):
        return False
    return all(csv_types.infer([name]) == "string" and ":" not in name for name in row)


def see_that_it_is_no_title(place: Place, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """See that the names of a file are not in its second line.

    They may be where the first line does not look like names, the second does, and below it are numbers or dates in a
    column: without that line, it would be no text.

    Args:
        place: the header, for messages.
        header: the first line.
        rows: those that follow.

    Raises:
        SourceError: nobody can say which of them it is.
    """
    rows = [row for row in rows if len(row) == len(header)]
    if len(rows) < 2 or not may_be_header(rows[0]):
        return
    plain = may_be_header(header) and not any(name.startswith(" ") for name in header)
    columns = [_present(column) for column in zip(*rows[1:], strict=True)]
    no_text = [bool(column) and csv_types.infer(column) != "string" for column in columns]
    if any(no_text) if not plain else len(rows) > 2 and len(header) > 1 and all(no_text):
        raise SourceError(
            f"{place.on_line(0, 0)}: it may be a title, as the line behind it looks like the header; if it is, say "
            "skip_lines = 1; if it names the columns, say skip_lines = 1 and header = [names], and skip_lines = 2 "
            "where the line behind it holds units"
        )


def see_that_it_is_no_row(place: Place, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """See that a file has a header: its first row would be lost as the names of its columns.

    It has none where the first field is a number or a date as those below it, or any is a date among dates. Numbers
    that stand further right may be names, of years and quantiles; so may 0, 1, 2 …, as pandas calls what has no name.

    Args:
        place: the header, for messages.
        header: the first line.
        rows: those that follow.

    Raises:
        SourceError: the first line is a row, as it looks.
    """
    rows = [row for row in rows if len(row) == len(header)]
    if not rows or list(header) == [str(number) for number in range(len(header))]:
        return
    for number, (name, column) in enumerate(zip(header, zip(*rows, strict=True), strict=True)):
        type_ = csv_types.infer([name]) if name.strip() else "string"
        if type_ not in (("integer", "float", "date", "timestamp") if number == 0 else ("date", "timestamp")):
            continue
        if (below := _present(column)) and csv_types.fit(below, type_):
            raise SourceError(
                f"{place.on_line(0, 0)}: it is a row as those below it, as it looks, and no header: {name!r} is a "
                f"{_CALLED.get(type_, 'number')}, as are the others of its column; if there is no header, say header = "
                "false or header = [names]; if it is one, say skip_lines = 1 and header = [names]"
            )


def _present(column: Sequence[str]) -> list[str]:
    return [text for text in column if text not in csv_types.WORDS]


_CALLED = {"date": "date", "timestamp": "time"}
