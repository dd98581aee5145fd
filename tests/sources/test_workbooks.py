"""Workbooks: a sheet is a table, its values are what they are; what looks like one and is none is refused by name.

ECMA-376 (xlsx), OpenDocument 1.3 (ods), [MS-XLS] (xls), through calamine.
"""

from __future__ import annotations

import gzip
import io
import re
import sys
import tarfile
import zipfile
from collections.abc import Callable
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import pytest
from http_sources import serving
from place_servers import SERVERS
from pulling import assert_resumes_everywhere, taken, write
from workbooks import Error, Rows, ods, ole, xls, xlsx, zipped

from etl.errors import SourceError
from etl.records import Declared
from etl.sources import Files, workbook

WRITERS: dict[str, Callable[[Any], bytes]] = {"xlsx": xlsx, "ods": ods, "xls": xls}
HEADER = ["id", "name"]
TABLE = [HEADER, [1, "a"], [2, "b"]]
RECORDS = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
NOON = datetime(2024, 1, 2, 12, 30)


def read(tmp_path: Path, data: bytes, **options: Any) -> list[Any]:
    return taken(Files(write(tmp_path / "a.xlsx", data), **options))


@pytest.mark.parametrize("kind", WRITERS)
def test_a_sheet_is_read_and_resumed_at_every_mark(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbook, "_ROWS", 7)
    rows = [["n", "text"], *([number, f"é {number}"] for number in range(40))]
    source = Files(write(tmp_path / "data", WRITERS[kind]({"Sheet1": rows})))
    assert taken(source) == [{"n": number, "text": f"é {number}"} for number in range(40)]
    assert_resumes_everywhere(source)


# The cells of one column, and what they become.
COLUMNS: dict[str, tuple[list[Any], list[Any]]] = {
    "whole numbers": ([1.0, 20.0, -3], [1, 20, -3]),
    "numbers": ([1.0, 2.5, 1e-7], [1.0, 2.5, 1e-7]),
    "numbers beyond what a double counts by ones": ([1e20, 2.0], [1e20, 2.0]),
    "the largest that it counts": ([float(2**53 - 1)], [2**53 - 1]),
    "booleans": ([True, False], [True, False]),
    "dates": ([date(2024, 2, 29), date(1999, 12, 31)], [date(2024, 2, 29), date(1999, 12, 31)]),
    "dates and times": ([NOON, datetime(2024, 1, 3)], [NOON, datetime(2024, 1, 3)]),
    "a date among dates and times": ([date(2024, 1, 3), NOON], [datetime(2024, 1, 3), NOON]),
    "times of day": ([time(12, 30), time(1, 2, 3)], [time(12, 30), time(1, 2, 3)]),
    "text": (["a", " b ", "NA"], ["a", " b ", "NA"]),
    "text that looks like something": (["007", "1.50", "TRUE"], ["007", "1.50", "TRUE"]),
    "text among numbers": ([1.0, 2.5, "n/k"], ["1", "2.5", "n/k"]),
    "text among dates": ([date(2024, 1, 2), "soon"], ["2024-01-02", "soon"]),
    "booleans among numbers": ([True, 2.0], ["true", "2"]),
    "null words among numbers": ([1.0, "NA", "NULL"], [1, None, None]),
    "an empty cell": ([1.0, None, 3.0], [1, None, 3]),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("case", COLUMNS)
def test_values_are_what_the_cells_of_their_column_hold(tmp_path: Path, kind: str, case: str) -> None:
    cells, values = COLUMNS[case]
    rows = [["id", "v"], *([number, cell] for number, cell in enumerate(cells))]
    found = read(tmp_path, WRITERS[kind]({"Sheet1": rows}))
    assert [record["v"] for record in found] == values
    assert [type(record["v"]) for record in found] == [type(value) for value in values]


def test_errors_of_formulas_are_null_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "etl.sources")
    rows = [HEADER, [1, Error("#N/A")], [Error("#DIV/0!"), "b"]]
    assert read(tmp_path, xlsx(rows)) == [{"id": 1, "name": None}, {"id": None, "name": "b"}]
    assert "2 cells hold errors of formulas, such as #N/A: they are null" in caplog.text


# The rows of a sheet, the options, and what comes out, in tuples.
SHEETS: dict[str, tuple[Rows, dict[str, Any], list[tuple[Any, ...]]]] = {
    "empty rows and columns at the end": (
        [[*HEADER, None, None], [1, "a", None], [None, None], [2, "b"], [None, None, None, None]],
        {},
        [("id", "name"), (1, "a"), (2, "b")],
    ),
    "empty rows above and an empty column before": (
        [[], [], [None, *HEADER], [None, 1, "a"]],
        {},
        [("id", "name"), (1, "a")],
    ),
    "a title": ([["All of them"], [], HEADER, [1, "a"]], {"skip_lines": 1}, [("id", "name"), (1, "a")]),
    "no header": ([[1, "a"], [2, "b"]], {"header": False}, [("column_1", "column_2"), (1, "a"), (2, "b")]),
    "names of the job": (TABLE, {"header": ["x", "y"], "skip_lines": 1}, [("x", "y"), (1, "a"), (2, "b")]),
    "years as names": ([["id", 2023, 2024.0], [1, 2, 3]], {}, [("id", "2023", "2024"), (1, 2, 3)]),
    "a header alone": ([HEADER], {}, []),
    "nothing": ([], {}, []),
    "null words of the job": (
        [HEADER, [1, "none"], ["none", "b"]],
        {"null": ["none"]},
        [("id", "name"), (1, None), (None, "b")],
    ),
    "numbers that are null": (
        [["x"], [1], [-999], [2.5]],
        {"null": ["-999"]},
        [("x",), (1.0,), (None,), (2.5,)],
    ),
    "a footer": ([HEADER, [1, "a"], [], ["Source: x"], []], {"skip_footer": 1}, [("id", "name"), (1, "a")]),
    "declared types": (
        [["id", "x", "day"], [1.0, 2.5, date(2024, 1, 2)], [2.0, 3.0, None]],
        {"types": {"id": "string", "x": "float", "day": "date"}},
        [("id", "x", "day"), ("1", 2.5, "2024-01-02"), ("2", 3.0, None)],
    ),
}


@pytest.mark.parametrize("case", SHEETS)
def test_a_sheet_is_the_table_in_it(tmp_path: Path, case: str) -> None:
    rows, options, (*expected,) = SHEETS[case]
    found = read(tmp_path, xlsx(rows), **options)
    names = expected.pop(0) if expected else ()
    assert found == [dict(zip(names, values, strict=True)) for values in expected]


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        ([["id", None], [1, "a"]], {}, r"a\.xlsx, sheet 'Sheet1', row 1: column B has values, and no name"),
        ([[], ["id", "id"], [1, 2]], {}, r"row 2: the header names 'id' more than once"),
        ([["Title"], HEADER, [1, "a"]], {}, r"row 1: column B has values.*set skip_lines"),
        (TABLE, {"header": ["x"]}, r"`header` names 1 columns, and 2 hold something"),
        (TABLE, {"types": {"z": "integer"}}, r"`types` names 'z', which the sheet does not have.*id, name"),
        (TABLE, {"sheet": "Other"}, r"no sheet 'Other'; it has: Sheet1; correct `sheet`"),
        (TABLE, {"sheet": 2}, r"no sheet 2; it has: Sheet1"),
        (TABLE, {"format": "ndjson"}, r"a workbook, and `format` says that it is ndjson: leave `format` out"),
    ],
)
def test_a_sheet_that_is_no_table_is_a_named_error(
    tmp_path: Path, rows: Rows, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(SourceError, match=said):
        read(tmp_path, xlsx(rows), **options)


def test_a_value_that_does_not_fit_its_declared_type_is_unreadable(tmp_path: Path) -> None:
    found = read(tmp_path, xlsx([HEADER, ["x", "a"], [2, "b"]]), types={"id": "integer"})
    raw, reason = found[0]
    assert "'x'" in raw
    assert reason.endswith("a.xlsx, sheet 'Sheet1', row 2: column 'id': 'x' is none of its type")
    assert found[1] == {"id": 2, "name": "b"}


OTHER = [["x"], [7]]
HIDDEN = {"Secret": OTHER, "Empty": [], "People": TABLE, "Notes": OTHER}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    ("sheet", "records"),
    [(None, RECORDS), ("People", RECORDS), (2, RECORDS), ("Notes", [{"x": 7}]), (3, [{"x": 7}])],
)
def test_a_sheet_is_chosen_by_name_or_number(tmp_path: Path, kind: str, sheet: Any, records: Any) -> None:
    data = WRITERS[kind]({"Empty": [], "People": TABLE, "Notes": OTHER})
    assert read(tmp_path, data, sheet=sheet) == records


def test_the_first_sheet_that_is_shown_is_read_and_the_others_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "etl.sources")
    data = xlsx(HIDDEN, hidden=["Secret"])
    assert read(tmp_path, data) == RECORDS
    said = "the sheet 'People'; it has others: Empty, Notes; `sheet` names the one to read"
    assert said in caplog.text
    assert read(tmp_path, data, sheet="Secret") == [{"x": 7}]


def test_columns_that_the_warehouse_declares_are_as_it_declares_them(tmp_path: Path) -> None:
    rows = [["code", "amount", "day", "n"], [7.0, 0.1, date(2024, 1, 2), 3.0], ["007", 2.0, None, None]]
    declared = {"code": "STRING", "amount": "NUMERIC", "day": "DATE", "n": "INTEGER"}
    source = Files(write(tmp_path / "a.xlsx", xlsx(rows)))
    source.declare(lambda name: Declared(type=declared[name]))
    assert [[str(value) for value in record.values()] for record in taken(source)] == [
        ["7", "0.1", "2024-01-02", "3"],
        ["007", "2", "None", "None"],
    ]


def test_a_later_workbook_or_table_that_shares_no_column_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.xlsx", xlsx(TABLE))
    write(tmp_path / "b.csv", "id,more\n3,c\n")
    write(tmp_path / "c.xlsx", xlsx([["id", "x"], [4, 5]]))
    found = taken(Files(tmp_path))
    assert [record["id"] for record in found] == [1, 2, 3, 4]
    assert_resumes_everywhere(Files(tmp_path))
    for name, data in {"d.csv": b"x,y\n1,2\n", "e.xlsx": xlsx([["z"], [1]])}.items():
        write(tmp_path / name, data)
        with pytest.raises(SourceError, match=rf"{name}.*none of which the files before it have"):
            taken(Files([tmp_path / "a.xlsx", tmp_path / name]))


@pytest.mark.parametrize("sheet", [0, -1, "", 1.5, True])
def test_a_sheet_that_is_neither_name_nor_number_is_refused(sheet: Any) -> None:
    with pytest.raises(ValueError, match="sheet"):
        Files("a.xlsx", sheet=sheet)


def test_workbooks_are_read_wherever_other_files_are(tmp_path: Path) -> None:
    data = xlsx(TABLE)
    tarred = io.BytesIO()
    with tarfile.open(fileobj=tarred, mode="w") as archive:
        info = tarfile.TarInfo("a.xlsx")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    for name, packed in {
        "a.xlsx.gz": gzip.compress(data),
        "a.zip": zipped({"a.xlsx": data, "b.xls": xls({"S": TABLE}), "README": ""}),
        "a.tar": tarred.getvalue(),
    }.items():
        source = Files(write(tmp_path / name, packed))
        assert taken(source) == (RECORDS * 2 if name == "a.zip" else RECORDS)
        assert_resumes_everywhere(source)


def test_workbooks_are_read_at_other_places_and_over_http(tmp_path: Path) -> None:
    with SERVERS["memory"](tmp_path) as place:
        place.put("a.ods", ods({"S": TABLE}))
        assert_resumes_everywhere(place.files("a.ods"))
    with serving(xlsx(TABLE), "/a.xlsx") as (_, made):
        assert taken(made()) == RECORDS
        assert_resumes_everywhere(made())


ROWS = "<table:table-row table:number-rows-repeated='1000000'>"
CELLS = "<table:table-cell table:number-columns-repeated='16000'"


def test_empty_cells_that_are_repeated_take_no_memory(tmp_path: Path) -> None:
    assert read(tmp_path, ods({"S": TABLE}, extra=f"{ROWS}{CELLS}/></table:table-row>")) == RECORDS


# What is no workbook, and what is said of it.
REFUSED: dict[str, tuple[bytes, str]] = {
    "docx": (zipped({"[Content_Types].xml": "", "word/document.xml": ""}), "a Word document"),
    "pptx": (zipped({"ppt/presentation.xml": "", "[Content_Types].xml": ""}), "a PowerPoint presentation"),
    "another package": (zipped({"[Content_Types].xml": "", "a.csv": "a\n1\n"}), "package of Office Open XML"),
    "odt": (zipped({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": ""}), "a document"),
    "epub": (
        zipped({"mimetype": "application/epub+zip", "a.txt": "a\n"}),
        r"a document \(application/epub\+zip",
    ),
    "jar": (zipped({"META-INF/MANIFEST.MF": "", "a.json": "{}"}), "a Java archive"),
    "kmz": (zipped({"doc.kml": "", "files/a.csv": "a\n1\n"}), "a KMZ file"),
    "numbers": (zipped({"Index/Document.iwa": "", "a.csv": "a\n1\n"}), "Apple's iWork"),
    "doc": (ole("WordDocument"), "an old Word document"),
    "ppt": (ole("PowerPoint Document"), "an old PowerPoint presentation"),
    "msg": (ole("__properties_version1.0"), "an Outlook message"),
    "another OLE file": (ole("Contents"), "an OLE file.*no workbook"),
    "encrypted": (ole("EncryptionInfo", "EncryptedPackage"), "with a password: save it without one"),
    "an xls that is cut short": (xls({"S": TABLE})[:2000], "workbook"),
    "an OLE file of zeros": (ole("Workbook"), "a workbook that cannot be read"),
    "a sheet that is no XML": (
        xlsx(TABLE, extra='<row r="9"><c r="A9"><v>1</row>'),
        "a workbook that cannot be read",
    ),
    "a stray cell": (
        xlsx(TABLE, extra='<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'),
        "17,179,869,184",
    ),
    "cells that are repeated": (
        ods(
            {"S": TABLE},
            extra=f"{ROWS}{CELLS} office:value-type='float' office:value='1'/></table:table-row>",
        ),
        "16,000,048,000 cells",
    ),
    "a zip in a gzip": (gzip.compress(zipped({"a.csv": "a\n1\n"})), "a zip file inside of another"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_workbook_is_refused_by_name(tmp_path: Path, case: str) -> None:
    data, said = REFUSED[case]
    with pytest.raises(SourceError, match=rf"a\.bin: it is .*{said}"):
        taken(Files(write(tmp_path / "a.bin", data)))


@pytest.mark.parametrize("name", ["xlsx", "xls"])
def test_a_workbook_is_refused_by_name_where_the_package_is_missing(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(SourceError, match=re.escape("pip install 'etl-sinks[excel]'")):
        read(tmp_path, WRITERS[name]({"S": TABLE}))


def test_a_workbook_that_memory_does_not_hold_is_refused(tmp_path: Path) -> None:
    large = zipped({"[Content_Types].xml": "", "xl/workbook.xml": b"\0" * (65 << 20)})
    with pytest.raises(SourceError, match="a workbook of 65 MiB, and 64 MiB is what one may take"):
        read(tmp_path, large)
    smaller = zipped({"[Content_Types].xml": "", "xl/workbook.xml": b"\0" * (33 << 20)})
    for data in (smaller, gzip.compress(smaller)):
        source = Files(write(tmp_path / "a.xlsx", data))
        source.take_memory(128 << 20)
        with pytest.raises(
            SourceError, match=r"33.* MiB, and 32 MiB is what one may take .*save its sheet as CSV"
        ):
            taken(source)


def test_a_damaged_workbook_is_a_named_error(tmp_path: Path) -> None:
    data = bytearray(xlsx(TABLE))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        at = archive.getinfo("xl/worksheets/sheet1.xml").header_offset
    data[at + 70] ^= 0xFF
    with pytest.raises(SourceError, match=r"a\.xlsx: it is a workbook that (is damaged|cannot be read)"):
        read(tmp_path, bytes(data))
