"""Workbooks, written by hand: the least that ECMA-376 and OpenDocument ask for; and OLE's directory ([MS-CFB], 2.6)."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from typing import Any
from xml.sax.saxutils import escape

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_ODF = "urn:oasis:names:tc:opendocument:xmlns"
# Styles of cells, by the numbers of formats that are built in (ECMA-376, part 1, 18.8.30): plain, a date, a date
# and a time, a time, a duration.
_FORMATS = (0, 14, 22, 21, 46)

Rows = Sequence[Sequence[Any]]


class Error(str):
    """An error of a formula, such as `#N/A`."""


def zipped(members: Mapping[str, str | bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def xlsx(sheets: Mapping[str, Rows] | Rows, *, hidden: Sequence[str] = (), extra: str = "") -> bytes:
    """Write a workbook; `extra` is put behind the rows of each sheet, as it is."""
    if not isinstance(sheets, Mapping):
        sheets = {"Sheet1": sheets}
    names = list(sheets)
    state = dict.fromkeys(hidden, ' state="hidden"')
    numbered = list(enumerate(names, 1))
    listed = "".join(
        f'<sheet name="{escape(name)}" sheetId="{at}"{state.get(name, "")} r:id="rId{at}"/>'
        for at, name in numbered
    )
    related = "".join(
        f'<Relationship Id="rId{at}" Type="{_RELATIONS}/worksheet" Target="worksheets/sheet{at}.xml"/>'
        for at, _ in numbered
    )
    styles = "".join(f'<xf numFmtId="{number}"/>' for number in _FORMATS)
    return zipped(
        {
            "docProps/app.xml": "<Properties/>",
            "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_RELATIONS}"><sheets>{listed}</sheets></workbook>',
            "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">{related}</Relationships>',
            "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}"><cellXfs>{styles}</cellXfs></styleSheet>',
            **{
                f"xl/worksheets/sheet{at}.xml": f'<worksheet xmlns="{_MAIN}"><sheetData>{_rows(sheets[name])}{extra}'
                "</sheetData></worksheet>"
                for at, name in numbered
            },
            "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" '
            f'Type="{_RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
            "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types"/>',
        }
    )


def _rows(rows: Rows) -> str:
    return "".join(
        f'<row r="{number}">' + "".join(_cell(number, at, value) for at, value in enumerate(row)) + "</row>"
        for number, row in enumerate(rows, 1)
    )


def _cell(row: int, column: int, value: Any) -> str:
    where = f"{chr(65 + column)}{row}"
    if value is None:
        return f'<c r="{where}" s="1"/>'
    if isinstance(value, Error):
        return f'<c r="{where}" t="e"><v>{value}</v></c>'
    if isinstance(value, str):
        return f'<c r="{where}" t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>'
    if isinstance(value, bool):
        return f'<c r="{where}" t="b"><v>{int(value)}</v></c>'
    style, number = 0, value
    if isinstance(value, datetime):
        style, number = 2, (value - datetime(1899, 12, 30)).total_seconds() / 86400
    elif isinstance(value, date):
        style, number = 1, (value - date(1899, 12, 30)).days
    elif isinstance(value, time):
        style, number = 3, (value.hour * 3600 + value.minute * 60 + value.second) / 86400
    return f'<c r="{where}" s="{style}"><v>{number!r}</v></c>'


def ods(sheets: Mapping[str, Rows], *, extra: str = "") -> bytes:
    """Write an OpenDocument spreadsheet; `extra` is put behind the rows of each sheet, as it is."""

    def cell(value: Any) -> str:
        tag = "table:table-cell office:value-type"
        if value is None:
            return "<table:table-cell/>"
        if isinstance(value, str):
            return f'<{tag}="string"><text:p>{escape(value)}</text:p></table:table-cell>'
        if isinstance(value, bool):
            return f'<{tag}="boolean" office:boolean-value="{str(value).lower()}"/>'
        if isinstance(value, date):
            return f'<{tag}="date" office:date-value="{value.isoformat()}"/>'
        if isinstance(value, time):
            return f'<{tag}="time" office:time-value="{value:PT%HH%MM%SS}"/>'
        return f'<{tag}="float" office:value="{value!r}"/>'

    tables = "".join(
        f'<table:table table:name="{escape(name)}">'
        + "".join(f"<table:table-row>{''.join(map(cell, row))}</table:table-row>" for row in rows)
        + f"{extra}</table:table>"
        for name, rows in sheets.items()
    )
    spaces = " ".join(f'xmlns:{name}="{_ODF}:{name}:1.0"' for name in ("office", "table", "text"))
    return zipped(
        {
            "mimetype": "application/vnd.oasis.opendocument.spreadsheet",
            "META-INF/manifest.xml": f'<manifest:manifest xmlns:manifest="{_ODF}:manifest:1.0"/>',
            "content.xml": f"<office:document-content {spaces}><office:body><office:spreadsheet>{tables}"
            "</office:spreadsheet></office:body></office:document-content>",
        }
    )


def xls(sheets: Mapping[str, Rows]) -> bytes:
    """Write a workbook of Excel 97."""
    import xlwt

    book = xlwt.Workbook()
    formats = {date: "YYYY-MM-DD", datetime: "YYYY-MM-DD HH:MM:SS", time: "HH:MM:SS"}
    styles = {kind: xlwt.easyxf(num_format_str=form) for kind, form in formats.items()}
    for name, rows in sheets.items():
        sheet = book.add_sheet(name)
        for at, row in enumerate(rows):
            for column, value in enumerate(row):
                if value is not None:
                    sheet.write(at, column, value, styles.get(type(value), xlwt.Style.default_style))
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def ole(*streams: str) -> bytes:
    """Write as much of an OLE file as names its streams: its signature, and a directory."""
    entries = b""
    for name in ("Root Entry", *streams):
        written = name.encode("utf-16-le") + b"\0\0"
        entries += (written.ljust(64, b"\0") + struct.pack("<H", len(written))).ljust(128, b"\0")
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".ljust(512, b"\0") + entries.ljust(512, b"\0")
