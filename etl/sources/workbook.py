"""A sheet of a workbook (xlsx, xlsb, xls, ods) as records, through `python-calamine`.

A workbook is held in memory, and so is bounded (`Bounds.workbook`). `workbook_columns` says what its values
become. Rows and columns that are empty are left out.
"""

from __future__ import annotations

import io
import logging
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from etl.errors import SourceError
from etl.sources import office
from etl.sources.belonging import repeated, see_that_it_belongs, shown
from etl.sources.bounds import UNLIMITED
from etl.sources.csv_columns import UNKNOWN
from etl.sources.csv_options import Options
from etl.sources.hidden import shortened
from etl.sources.place import Place, unreadable
from etl.sources.refusals import Damaged, Refused
from etl.sources.workbook_columns import EMPTY, Column, letters_of, text_of

LOG = logging.getLogger("etl.sources")

_ROWS = 500  # made records of at once


class _Sheet(NamedTuple):
    """A sheet.

    Attributes:
        where: what to call it.
        rows: goes through its rows, as often as it is called.
    """

    where: str
    rows: Callable[[], Iterator[list[Any]]]


def checked(sheet: str | int | None) -> str | int | None:
    """Return the sheet that a job names; ValueError: it is none."""
    if sheet is None or (isinstance(sheet, str) and sheet) or (type(sheet) is int and sheet > 0):
        return sheet
    raise ValueError(f"sheet: {sheet!r} is neither the name of a sheet nor its number, from 1")


def read(
    data: bytes, place: Place, options: Options, sheet: str | int | None, most: int = UNLIMITED.workbook
) -> Iterator[list[Any]]:
    """Read the records of a sheet; yields lists of them, each with a mark at its end.

    Args:
        data: the workbook.
        place: how many records were read before; moved on.
        options: how CSV is read; `header`, `skip_lines`, `skip_footer`, `types` and null words mean the same here.
        sheet: which one: its name, or its number from 1; None: the first one that is shown and not empty.
        most: how many bytes a workbook may have.

    Raises:
        Damaged: it cannot be read; `Refused`: it is too large, or no package is installed that reads it.
        SourceError: it has no such sheet, or the header is no good.
    """
    begins = place.offset == 0
    place.offset = None
    extent = _extent(data)
    if extent.cells > office.most_cells(most):
        raise office.too_large(
            f"a sheet that reaches over {extent.cells:,} cells, empty ones among them", most
        )
    sheet_read = _sheet(_opened(data), place, sheet, tell=begins)
    if sheet_read is None:
        return
    if begins and extent.errors:
        LOG.info("%s: %d cells hold errors of formulas, such as #N/A: they are null", place, extent.errors)
    table = _Table(sheet_read, options, place)
    batch: list[Any] = []
    for record in islice(table.records(), place.record, None):
        batch.append(record)
        if len(batch) == _ROWS:
            yield _marked(batch, place)
            batch = []
    yield _marked(batch, place)


def _marked(batch: list[Any], place: Place) -> list[Any]:
    place.record += len(batch)
    return [*batch, place.mark()]


def _extent(data: bytes) -> office.Extent:
    try:
        return office.extent(data)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        RuntimeError,
        ValueError,
    ) as error:
        raise Damaged(f"it is a workbook that is damaged ({error})") from error


def _opened(data: bytes) -> Any:
    try:
        import python_calamine
    except ImportError as error:
        raise Refused(
            "workbook",
            "it is a workbook, and the package that reads such is not installed",
            "pip install 'etl-sinks[excel]', or save the sheet as CSV",
        ) from error
    try:
        return python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(data))
    except python_calamine.PasswordError as error:
        raise office.encrypted() from error
    except BaseException as error:
        raise _broken(error) from error


def _broken(error: BaseException) -> BaseException:
    """Return what to raise for an error of the package, whose panics are no `Exception`s."""
    if isinstance(error, Exception) or type(error).__name__ == "PanicException":
        return Damaged(
            f"it is a workbook that cannot be read ({' '.join(str(error).split())[:200]})",
            "Open it where it was made, and save it again, or as CSV",
        )
    return error


def _sheet(workbook: Any, place: Place, wanted: str | int | None, *, tell: bool) -> _Sheet | None:
    """Return the sheet that is read; None: no sheet holds anything."""
    names: list[str] = workbook.sheet_names
    if wanted is not None:
        number = names.index(wanted) if wanted in names else wanted - 1 if isinstance(wanted, int) else -1
        if not 0 <= number < len(names):
            raise SourceError(
                f"{place}: the workbook has no sheet {wanted!r}; it has: {shortened(names)}; correct `sheet`"
            )
        return _Sheet(f"{place}, sheet {names[number]!r}", _rows(workbook, number))
    shown = [number for number, about in enumerate(workbook.sheets_metadata) if _is_shown(about)]
    for number in shown:
        rows = _rows(workbook, number)
        if not any(any(cell != EMPTY for cell in row) for row in rows()):
            continue
        others = [names[other] for other in shown if other != number]
        if others and tell:
            LOG.info(
                "%s: read of the workbook is the sheet %r; it has others: %s; `sheet` names the one to read",
                place,
                names[number],
                shortened(others),
            )
        return _Sheet(f"{place}, sheet {names[number]!r}", rows)
    return None


def _is_shown(about: Any) -> bool:
    from python_calamine import SheetTypeEnum, SheetVisibleEnum

    return bool(about.typ == SheetTypeEnum.WorkSheet and about.visible == SheetVisibleEnum.Visible)


def _rows(workbook: Any, number: int) -> Callable[[], Iterator[list[Any]]]:
    try:
        sheet = workbook.get_sheet_by_index(number)
    except BaseException as error:
        raise _broken(error) from error
    rows: Callable[[], Iterator[list[Any]]] = sheet.iter_rows
    return rows


class _Table:
    """Makes records of the rows of a sheet.

    Args:
        sheet: it is gone through once to see what its columns are.
        options: how it is read.
        place: what it is of.
    """

    def __init__(self, sheet: _Sheet, options: Options, place: Place) -> None:
        self._where = sheet.where
        self._rows = sheet.rows
        self._options = options
        self._above = options.skip_lines
        columns: list[Column] = []
        header: list[Any] | None = None
        for number, cells in self._numbered():
            if options.header is True and header is None:
                header, self._above = cells, number
                continue
            columns += [Column(options) for _ in cells[len(columns) :]]
            for column, cell in zip(columns, cells, strict=False):
                column.see(cell)
        if header is not None:
            columns += [Column(options) for _ in header[len(columns) :]]
            for column, cell in zip(columns, header, strict=False):
                column.used = column.used or cell != EMPTY
        self._columns = [(at, column) for at, column in enumerate(columns) if column.used]
        names = self._named(header)
        self._check_declared(names, place)
        for (_, column), name in zip(self._columns, names, strict=True):
            column.decide(name)
        if options.header is True:
            see_that_it_belongs(self._where, names, place.types)
        place.types = {**dict.fromkeys(names, UNKNOWN), **place.types}

    def records(self) -> Iterator[Any]:
        """Yield a record, or an `Unreadable`, for each row that holds something."""
        for number, cells in self._numbered():
            try:
                yield {column.name: column.value(cells[at]) for at, column in self._columns}
            except ValueError as error:
                yield unreadable(str(cells), f"{self._where}, row {number}", str(error))

    def _numbered(self) -> Iterator[tuple[int, list[Any]]]:
        """Yield the rows below the header that hold something and are no footer, with their numbers from 1."""
        held: deque[tuple[int, list[Any]]] = deque()
        for number, cells in enumerate(self._rows(), 1):
            if number > self._above and any(cell != EMPTY for cell in cells):
                held.append((number, cells))
                if len(held) > self._options.skip_footer:
                    yield held.popleft()

    def _named(self, header: list[Any] | None) -> list[str]:
        said = self._options.header
        if said is False:
            return [f"column_{number}" for number in range(1, len(self._columns) + 1)]
        if not isinstance(said, bool):
            if self._columns and len(said) != len(self._columns):
                raise SourceError(
                    f"{self._where}: `header` names {len(said)} columns, and {len(self._columns)} hold something; "
                    "name each of these"
                )
            return list(said)[: len(self._columns)]
        names = [text_of(header[at]) for at, _ in self._columns] if header is not None else []
        where = f"{self._where}, row {self._above}"
        advice = (
            "name each column in one cell of this row, once; where a title stands above the header, set skip_lines to "
            "the number of rows above it; or set header = [names], and skip_lines to the rows before the first record"
        )
        if "" in names:
            letters = letters_of(self._columns[names.index("")][0])
            raise SourceError(f"{where}: column {letters} has values, and no name in the header; {advice}")
        if twice := repeated(names):
            raise SourceError(f"{where}: the header names {shown(twice)} more than once; {advice}")
        return names

    def _check_declared(self, names: list[str], place: Place) -> None:
        unknown = sorted(set(self._options.types).difference(names, place.types))
        if unknown and names:
            raise SourceError(
                f"{self._where}: `types` names {', '.join(map(repr, unknown))}, which the sheet does not have; its "
                f"columns are: {', '.join(names)}"
            )
