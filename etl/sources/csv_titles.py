"""Is the first line of a CSV file its header, or a title that has as many fields by chance?"""

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
    plain = may_be_header(header) and not any(name.startswith(" ") for name in header)
    if plain or len(rows) < 2 or not may_be_header(rows[0]):
        return
    columns = (
        [text for text in column if text not in csv_types.WORDS] for column in zip(*rows[1:], strict=True)
    )
    if any(column and csv_types.infer(column) != "string" for column in columns):
        raise SourceError(
            f"{place.on_line(0, 0)}: it may be a title, as the line behind it looks like the header; if it is, say "
            "skip_lines = 1; if it names the columns, say skip_lines = 1 and header = [names]"
        )
