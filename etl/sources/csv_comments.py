"""Lines of CSV that are comments: passed over where the job names their sign, and never taken for the header."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence

from etl.errors import SourceError
from etl.sources.csv_form import Form
from etl.sources.csv_options import Options
from etl.sources.csv_titles import may_be_header
from etl.sources.place import Place

# What comments begin with in tables that are found in the field: R and gnuplot, TeX and Matlab, C++.
SIGNS = ("#", "%", "//")
# A header all the same, as in BED and VCF files (samtools/hts-specs): `#chrom`, and a share that is called `%`.
_NAME = re.compile(r"#\w[\w .()/-]*|%.*")


class Lines(Iterator[str]):
    """Hands lines to `csv.reader` without the comments, which begin with a sign outside of rows.

    Args:
        lines: the lines.
        sign: what comments begin with; None: there are none.

    Attributes:
        between: whether a row begins with the next line; to be set after each row.
        passed: how many comments were passed over.
        handed: how many lines were handed out.
        began: how many lines stand before the row that is being read, comments among them.
    """

    def __init__(self, lines: Iterable[str], sign: str | None) -> None:
        self._lines = iter(lines)
        self._sign = sign
        self.between = True
        self.passed = self.handed = self.began = 0

    def __next__(self) -> str:
        line = next(self._lines)
        if self.between:
            while self._sign is not None and line.startswith(self._sign):
                self.passed += 1
                line = next(self._lines)
            self.between = False
            self.began = self.handed + self.passed
        self.handed += 1
        return line


def leading(lines: Sequence[str], options: Options) -> int:
    """Return how many lines stand before the first that is no comment, if one of them is a comment."""
    signs = SIGNS if options.comment is None else (options.comment,)
    last = 0
    for number, line in enumerate(lines, 1):
        if line.startswith(signs):
            last = number
        elif line.strip("\r\n"):
            return last
    return last if options.comment is not None else 0


def before_header(text: str, place: Place, form: Form, options: Options) -> int:
    """Return how many lines to pass over before the header: comments are none.

    Args:
        text: the file's beginning.
        place: where that is, for messages.
        form: how rows are found in it.
        options: how CSV is read.

    Raises:
        SourceError: the job does not name the comments' sign, and nobody can say whether a line is one, or the header.
    """
    if options.comment is None and (options.header is not True or not text.lstrip("\r\n").startswith(SIGNS)):
        return 0
    lines = list(form.lines(text))
    number = leading(lines, options)
    if not number or options.comment is not None:
        return number
    comment = form.unquoted(lines[number - 1])
    if number == 1 and not options.types.keys().isdisjoint(comment):
        return 0  # the job knows it for the header
    try:
        first = next(filter(None, form.reader(form.prepared("".join(lines[number:])))), [])
    except csv.Error:
        first = []
    first = form.restored(first)
    if len(comment) != len(first) and len(first) > 1:
        return number
    if number == 1 and _NAME.fullmatch(comment[0]) and not may_be_header(first) and may_be_header(comment):
        return 0
    sign = next(sign for sign in SIGNS if lines[number - 1].startswith(sign))
    raise SourceError(
        f"{place.on_line(number - 1, 0)}: it begins with {sign!r}, as comments do, and has as many fields as a header "
        f'would; if it is a comment, say comment = "{sign}"; if it names the columns, say skip_lines = '
        f"{number} and header = [names]"
    )
