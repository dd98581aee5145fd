"""What a zip file or an OLE file is, that is no archive of data: a workbook, a document, a program.

By ECMA-376 (Office Open XML), part 2: `[Content_Types].xml` and one folder for each kind; OpenDocument 1.3, part 2,
section 3.3, and EPUB 3.3, section 4.2: a member `mimetype`; [MS-CFB], [MS-XLS] and [MS-OFFCRYPTO]: the streams that an
OLE file holds.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from contextlib import suppress
from typing import NamedTuple

from etl.sources import archives
from etl.sources.bounds import Bounds, shown
from etl.sources.compressions import Readable
from etl.sources.refusals import Refused

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

MIB = 1 << 20
# A sheet is held as a rectangle, of so many bytes for each cell, full or not.
_CELL_BYTES = 32
_PIECE = 1 << 20

_SPREADSHEETS = ("application/vnd.oasis.opendocument.spreadsheet",)
_DOCUMENTS = {
    "word/": "a Word document",
    "ppt/": "a PowerPoint presentation",
    "visio/": "a Visio drawing",
    "META-INF/MANIFEST.MF": "a Java archive",
    "AndroidManifest.xml": "an Android package",
    "doc.kml": "a KMZ file of places",
    "Index/Document.iwa": "a document of Apple's iWork (Numbers, Pages, Keynote)",
    "index.apxl": "a document of Apple's iWork",
}
_OLE_STREAMS = {
    "WordDocument": "an old Word document",
    "PowerPoint Document": "an old PowerPoint presentation",
    "VisioDocument": "an old Visio drawing",
    "__properties_version1.0": "an Outlook message",
}
_CELL = re.compile(rb'<(?:\w+:)?c\s[^>]*?\br="([A-Z]{1,3})([0-9]{1,7})"([^>]*)>')
# OpenDocument 1.3, part 3, 9.1: cells and rows that are the same as the one before are not written again, but counted.
_REPEATED = re.compile(
    rb"<table:(?:(table)|(table-row)|(?:covered-)?(table-cell))(?=[\s/>])([^>]*)>|</table:(?:(table)|(table-row))>"
)
_TIMES = re.compile(rb"number-(?:rows|columns)-repeated=[\"']([0-9]{1,9})[\"']")
# [MS-XLS] 2.4.90: the record 0x0200, 14 bytes long: first row, row after the last, first column, column after the last.
_DIMENSIONS = re.compile(rb"\x00\x02\x0e\x00(....)(....)(..)(..)\x00\x00", re.DOTALL)


class Extent(NamedTuple):
    """How large the sheets of a workbook are.

    Attributes:
        cells: what the largest rectangle holds that a sheet needs.
        errors: how many cells hold an error, where that can be told.
    """

    cells: int
    errors: int


def held(file: Readable, bounds: Bounds) -> bytes:
    """Read a workbook into memory: a zip file or an OLE file at its beginning.

    Args:
        file: the workbook.
        bounds: how large it may be, unpacked too.

    Raises:
        Damaged: it is none, or too large.
    """
    most = bounds.workbook
    data = file.read(most + 1)
    if len(data) > most:
        raise too_large(f"more than {shown(most)}", most)
    if data.startswith(OLE):
        see_that_it_is_a_workbook(data)
        return data
    with archives.opened(io.BytesIO(data), bounds.directory) as opened:
        if not is_workbook(opened):
            raise Refused(
                "zip", "it is a zip file inside of another archive or compression", "unpack the outer one"
            )
        if (size := unpacked(opened)) > most:
            raise too_large(shown(size), most)
    return data


def is_workbook(archive: zipfile.ZipFile) -> bool:
    """Say whether a zip file is a workbook.

    Raises:
        Refused: it is something else that is no archive of data.
    """
    names = archive.namelist()
    mimetype = ""
    if "mimetype" in names:
        # whatever a damaged member raises: then it is a member as others
        with suppress(Exception), archive.open("mimetype") as file:
            mimetype = file.read(200).decode("ascii", "replace").strip()
    if mimetype in _SPREADSHEETS or mimetype == _SPREADSHEETS[0] + "-template":
        return True
    if mimetype.startswith(("application/vnd.", "application/epub")):
        raise _refused(f"a document ({mimetype})")
    packaged = "[Content_Types].xml" in names
    if packaged and any(name.startswith("xl/") for name in names):
        return True
    for name, what in _DOCUMENTS.items():
        found = any(each.startswith(name) for each in names) if name.endswith("/") else name in names
        if found and (packaged or not name.endswith("/")):
            raise _refused(what)
    if packaged:
        raise _refused("a package of Office Open XML, but no workbook")
    return False


def see_that_it_is_a_workbook(ole: bytes) -> None:
    """See that an OLE file is a workbook.

    Raises:
        Refused: it is something else, or encrypted.
    """
    if _has_stream(ole, "EncryptedPackage"):
        raise encrypted()
    for name, what in _OLE_STREAMS.items():
        if _has_stream(ole, name):
            raise _refused(what)
    if not (_has_stream(ole, "Workbook") or _has_stream(ole, "Book")):
        raise _refused("an OLE file (of an old Office program, perhaps), but no workbook")


def extent(data: bytes) -> Extent:
    """Look through the sheets of a workbook: it would take memory for each cell up to the last one.

    Raises:
        zipfile.BadZipFile: it is damaged.
    """
    if data.startswith(OLE):
        cells = 0
        for match in _DIMENSIONS.finditer(data):
            top, bottom, left, right = struct.unpack("<IIHH", b"".join(match.groups()))
            if top <= bottom <= 1 << 16 and left <= right <= 1 << 8:
                cells = max(cells, (bottom - top) * (right - left))
        return Extent(cells, 0)
    cells = errors = 0
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            if info.filename.startswith("xl/worksheets/") and info.filename.endswith(".xml"):
                found = _sheet_extent(archive, info)
                cells, errors = max(cells, found.cells), errors + found.errors
            elif info.filename == "content.xml":
                cells = max(cells, _tables_cells(archive, info))
    return Extent(cells, errors)


def most_cells(most: int) -> int:
    """Return how many cells the rectangle of a sheet may have, where a workbook may have so many bytes."""
    return 2 * most // _CELL_BYTES


def unpacked(archive: zipfile.ZipFile) -> int:
    """Return how many bytes the members of a zip file have."""
    return sum(info.file_size for info in archive.infolist())


def too_large(what: str, most: int) -> Refused:
    """Return the error for a workbook that is too large, where it may have `most` bytes."""
    return Refused(
        "workbook",
        f"it is a workbook of {what}, and {shown(most)} is what one may take here, as it is held in memory",
        "save its sheet as CSV, or give the job more memory: a workbook may take a fourth of it, 64 MiB at most",
    )


def encrypted() -> Refused:
    """Return the error for a workbook with a password."""
    return Refused("workbook", "it is a workbook, or a document, with a password", "save it without one")


def _sheet_extent(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Extent:
    rows = columns = errors = 0
    rest = b""
    with archive.open(info) as sheet:
        while piece := sheet.read(_PIECE):
            text = rest + piece
            end = 0
            for match in _CELL.finditer(text):
                end = match.end()
                column = 0
                for letter in match[1]:
                    column = column * 26 + letter - 64
                columns = max(columns, column)
                rows = max(rows, int(match[2]))
                errors += b't="e"' in match[0]
            rest = text[max(end, len(text) - 512) :]
    return Extent(rows * columns, errors)


def _tables_cells(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> int:
    """Return how many cells the rectangle of the largest OpenDocument table has, up to its last cell with a value."""
    most = rows = columns = above = times = width = at = 0
    rest = b""
    with archive.open(info) as content:
        while piece := content.read(_PIECE):
            text = rest + piece
            end = 0
            for match in _REPEATED.finditer(text):
                end = match.end()
                table, row, cell, attributes, table_ends, row_ends = match.groups()
                found = _TIMES.search(attributes or b"")
                count = int(found[1]) if found else 1
                if table:
                    rows = columns = above = 0
                elif row:
                    times, width, at = count, 0, 0
                    if attributes.endswith(b"/"):
                        above += count
                elif cell:
                    at += count
                    width = at if b"value-type" in attributes else width
                elif row_ends:
                    above += times
                    rows, columns = (above if width else rows), max(columns, width)
                elif table_ends:
                    most = max(most, rows * columns)
            rest = text[max(end, len(text) - 1024) :]
    return most


def _has_stream(ole: bytes, name: str) -> bool:
    """Say whether the directory of an OLE file has an entry of that name: they stand at multiples of 128 bytes."""
    written = name.encode("utf-16-le") + b"\0\0"
    length = struct.pack("<H", len(written))
    at = ole.find(written)
    while at >= 0:
        if at % 128 == 0 and ole[at + 64 : at + 66] == length:
            return True
        at = ole.find(written, at + 2)
    return False


def _refused(what: str) -> Refused:
    return Refused(
        what,
        f"it is {what}, which is not read",
        "name the file that holds the records, or save its table as CSV",
    )
