"""Zip files and tar archives: members are files of their own, those that are data, of one table.

The forms are those of POSIX.1-2024 (pax: ustar, pax), GNU tar's manual ("Basic Tar Format") and PKWARE's APPNOTE.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import zstandard
from http_sources import serving
from place_servers import SERVERS
from pulling import assert_resumes_everywhere, ndjson, pull, small_blocks, taken, write

from etl.errors import SourceChanged, SourceError
from etl.records import Mark
from etl.sources import Files

RECORDS = [{"n": number, "text": "x" * (number % 50)} for number in range(300)]
LONG = "directory/" * 30 + "é" * 60 + ".ndjson"


def zipped(members: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def tarred(members: Mapping[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


PACK = {
    "zip": zipped,
    "tar": tarred,
    "tar.gz": lambda members: gzip.compress(tarred(members)),
    "tar.zst": lambda members: zstandard.compress(tarred(members)),
}


@pytest.fixture(params=PACK)
def pack(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    def write_archive(members: Mapping[str, bytes]) -> Path:
        return write(tmp_path / f"a.{request.param}", PACK[request.param](members))

    return write_archive


A = b"id,name\n1,a\n2,b\n"
B = b"id,name\n3,c\n"
OTHER = b"stop_id,stop_name\n7,x\n"

# What is in the archive, and the ids that come out.
READ: dict[str, tuple[dict[str, bytes], list[int]]] = {
    "one table": ({"a.csv": A, "b.csv": B}, [1, 2, 3]),
    "a README beside": ({"README.txt": b"About the data\n\nid: a number\n", "a.csv": A}, [1, 2]),
    "a README with a line that looks like columns": ({"a.csv": A, "readme": b"id,name\nx,y\n"}, [1, 2]),
    "a licence": ({"LICENSE": b"MIT\n", "LICENCE.txt": b"MIT", "a.csv": A, "COPYING": b"GPL"}, [1, 2]),
    "licenses that are data": ({"licenses.csv": A}, [1, 2]),
    "papers": ({"a.csv": A, "codebook.pdf": b"%PDF-1.7\n", "notes.md": b"# a\n", "x.html": b"<p>"}, [1, 2]),
    "metadata": ({"a.csv": A, "meta.xml": b"<meta>\n</meta>\n", "a.xsd": b"<schema/>"}, [1, 2]),
    "a data package": ({"datapackage.json": b'{"name":"x"}', "a.csv": A}, [1, 2]),
    "what systems leave": (
        {"Thumbs.db": b"\xd0\xcf", "d/.DS_Store": b"\0", "__MACOSX/._a.csv": b"\0\5", "d/a.csv": A},
        [1, 2],
    ),
    "what Spark leaves": (
        {"_SUCCESS": b"", "_committed_1": b"{}", "part-0.csv": A, "._a.crc": b"crc"},
        [1, 2],
    ),
    "pictures and checksums": ({"a.csv": A, "a.PNG": b"\x89PNG", "a.csv.md5": b"0  a.csv\n"}, [1, 2]),
    "a table that is called .txt": ({"stops.txt": A, "feed.txt": B}, [1, 2, 3]),
    "compressed members": ({"a.csv.gz": gzip.compress(A), "b.csv.zst": zstandard.compress(B)}, [1, 2, 3]),
    "columns that came later": ({"2023.csv": A, "2024.csv": b"id,name,more\n3,c,d\n"}, [1, 2, 3]),
    "an empty member": ({"a.csv": A, "b.csv": b"", "c.csv": b"id,name\n", "d.csv": B}, [1, 2, 3]),
    "objects of different keys": ({"a.ndjson": b'{"id":1,"x":1}\n', "b.json": b'[{"id":2,"y":1}]'}, [1, 2]),
    "a long name": ({LONG: b'{"id":1}\n', "b.ndjson": b'{"id":2}\n'}, [1, 2]),
    "an archive in an archive": ({"in.tar.gz": gzip.compress(tarred({"a.csv": A})), "b.csv": B}, [1, 2, 3]),
}


@pytest.mark.parametrize("case", READ)
def test_members_that_are_data_of_one_table_are_read(pack: Any, case: str) -> None:
    members, ids = READ[case]
    source = Files(pack(members))
    assert [record["id"] for record in taken(source)] == ids
    assert_resumes_everywhere(source)


def test_archives_are_read_at_other_places_and_over_http(tmp_path: Path) -> None:
    for name, make in PACK.items():
        data = make({"a.csv": A, "README": b"?", "b.csv": B})
        with SERVERS["memory"](tmp_path) as place:
            place.put(f"a.{name}", data)
            assert [record["id"] for record in taken(place.files(f"a.{name}"))] == [1, 2, 3]
            assert_resumes_everywhere(place.files(f"a.{name}"))
        with serving(data, f"/a.{name}") as (_, made):
            assert [record["id"] for record in taken(made())] == [1, 2, 3]
            assert_resumes_everywhere(made())


# What is in the archive, and what the refusal says.
REFUSED: dict[str, tuple[dict[str, bytes], str]] = {
    "two tables": ({"routes.txt": A, "stops.txt": OTHER}, r"routes\.txt.*stops\.txt.*`members`"),
    "two tables that share a key": (
        {"people.csv": A, "orders.csv": b"id,amount,day\n1,2,3\n"},
        r"people\.csv \(CSV: id, name\); orders\.csv \(CSV: id, amount, day\); choose",
    ),
    "a table and two columns of it": (
        {"train.csv": b"id,a,b,c,d,e,f,g,y\n1,1,1,1,1,1,1,1,1\n", "sample.csv": b"id,y\n1,0\n"},
        r"train\.csv.*sample\.csv",
    ),
    "one without a header": ({"a.csv": A, "b.csv": b"3,c\n4,d\n"}, r"one has no header: a\.csv.*b\.csv"),
    "two formats": ({"a.csv": A, "a.ndjson": b'{"id":1}\n'}, r"a\.csv \(CSV.*a\.ndjson \(JSON"),
    "objects of two kinds": ({"a.json": b'[{"id":1}]', "b.json": b'[{"stop":2}]'}, r"a\.json.*b\.json"),
    "one whose header cannot be read": (
        {"a.csv": A, "b.csv": b"Data Source,World Development Indicators,\n\nCountry,Code,2020\n"},
        r"a\.csv.*b\.csv \(CSV with a header that cannot be read: .*\); choose",
    ),
    "World Bank's zip files": (
        {
            "API_SP.csv": b'"Data Source","WDI",\n\n"Country","1960",\n',
            "Metadata.csv": b'"Code","Region",\n"ABW","L",\n',
        },
        # of a tar archive, which is streamed, the first member is met before the second
        r"API_SP\.csv( \(CSV .*: \"Data Source\",\"WDI\",\); Metadata\.csv .*members = |.*has no name)",
    ),
    "headers that cannot be read": (
        {"a.csv": b"a,,\n1,2,3\n", "b.csv": b"a,,\n1,2,3\n"},
        r"a\.csv.*has no name",
    ),
    "what is not read": (
        {"a.csv": A, "b.dat": bytes(range(256))},
        r"a\.csv.*b\.dat \(binary\).*choose",
    ),
    "nothing that is read": ({"b.dat": bytes(range(256)) * 20}, r"member b\.dat\): it is binary"),
    "no data at all": (
        {"meta.xml": b"<a/>", "README": b""},
        r"no member is data.*meta\.xml, README; name the",
    ),
    "a zip in an archive": ({"in.zip": zipped({"a.csv": A})}, r"in\.zip\).*zip file inside of another"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_one_table_is_refused(pack: Any, case: str) -> None:
    members, said = REFUSED[case]
    with pytest.raises(SourceError, match=said):
        taken(Files(pack(members)))


def test_a_zip_of_different_tables_is_refused_before_its_first_record(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", zipped({"a.csv": A, "b.csv": OTHER}))
    with pytest.raises(SourceError, match=r"different tables.*\"a\.csv\"$"):
        next(Files(path).pull(None))


def test_a_tar_of_different_tables_is_refused_before_the_first_row_of_the_second(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", tarred({"a.csv": A, "b.csv": OTHER}))
    found: list[Any] = []
    with pytest.raises(SourceError, match=r"different tables.*start the job over"):
        found.extend(item for item in Files(path).pull(None) if isinstance(item, dict))
    assert not found or found == [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]


MIXED = {
    "gtfs/routes.txt": OTHER,
    "gtfs/a.csv": A,
    "b.csv": B,
    "README.csv.txt": A,
    "meta.xml": A,
    "_c.csv": A,
}


@pytest.mark.parametrize(
    ("members", "ids"),
    [
        ("*.csv", [1, 2, 3]),
        ("gtfs/*.csv", [1, 2]),
        ("b.csv", [3]),
        (["b.csv", "a.*"], [1, 2, 3]),
        ("meta.xml", [1, 2]),
        (["*.csv", "README.csv.txt"], [1, 2, 3, 1, 2]),
        ("_c.csv", [1, 2]),
        ("_*", [1, 2]),
    ],
)
def test_a_job_chooses_members(pack: Any, members: Any, ids: list[int]) -> None:
    source = Files(pack(MIXED), members=members)
    assert [record["id"] for record in taken(source)] == ids
    assert_resumes_everywhere(source)


def test_members_that_a_job_names_need_one_column_in_common(pack: Any) -> None:
    path = pack({"a.csv": A, "b.csv": b"id,amount,day\n3,2,3\n", "c.csv": OTHER})
    assert [record["id"] for record in taken(Files(path, members=["a.csv", "b.csv"]))] == [1, 2, 3]
    with pytest.raises(SourceError, match="different tables"):
        taken(Files(path, members="*.csv"))


@pytest.mark.parametrize("members", ["*.tsv", "c.csv", "*.xml"])
def test_a_choice_that_fits_no_member_is_an_error(pack: Any, members: str) -> None:
    with pytest.raises(SourceError, match=rf"no member is called {re.escape(members)}: gtfs/routes\.txt, "):
        taken(Files(pack(MIXED), members=members))


@pytest.mark.parametrize("members", ["", [], [""], 3])
def test_a_choice_that_is_none_is_refused(members: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        Files("a.zip", members=members)


def test_members_that_are_left_out_are_told_of_in_one_line(
    pack: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "etl.sources")
    path = pack({"README.txt": b"x", "a.csv": A, **{f"{number}.xml": b"" for number in range(9)}})
    taken(Files(path))
    said = "README.txt, 0.xml, 1.xml, 2.xml, 3.xml and 5 more; `members` names those to read"
    assert caplog.messages == [f"{path}: left out, as no data by their names: {said}"]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_each_form_of_tar_is_read(tmp_path: Path, form: int) -> None:
    names = ["a.ndjson", "d" * 90 + "/" + "b" * 90 + ".ndjson"]
    if form != tarfile.USTAR_FORMAT:
        names.append(LONG)
    data = tarred({name: ndjson(RECORDS) for name in names}, form)
    source = small_blocks(Files(write(tmp_path / "data", data)), 2000)
    items = pull(source)
    assert [item for item in items if isinstance(item, dict)] == RECORDS * len(names)
    members = {item.cursor.get("member") for item in items if isinstance(item, Mark)}
    assert members == {*names, None}
    assert_resumes_everywhere(source)


def test_a_tar_of_version_7_is_told_by_its_checksum(tmp_path: Path) -> None:
    data = bytearray(tarred({"a.ndjson": ndjson(RECORDS)}, tarfile.USTAR_FORMAT))
    data[257:512] = bytes(255)
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    assert taken(Files(write(tmp_path / "a", bytes(data)))) == RECORDS


def test_what_is_no_file_in_a_tar_is_no_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "etl.sources")
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, kind in [
            (".", tarfile.DIRTYPE),
            ("./a.csv", tarfile.REGTYPE),
            ("./b.csv", tarfile.SYMTYPE),
            ("./pipe", tarfile.FIFOTYPE),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "a.csv"
            info.size = len(A) if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(A))
    source = Files(write(tmp_path / "a.tar", file.getvalue()))
    assert [record["id"] for record in taken(source)] == [1, 2]
    assert "b.csv" in caplog.text
    assert_resumes_everywhere(source)


def test_archives_put_one_behind_the_other_are_read_as_one(tmp_path: Path) -> None:
    data = tarred({"a.csv": A}) + tarred({"b.csv": B})
    source = Files(write(tmp_path / "a.tar", data))
    assert [record["id"] for record in taken(source)] == [1, 2, 3]
    assert_resumes_everywhere(source)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("cut", [100, 512, 600, 5_000, 10_000, 10_752])
def test_a_tar_that_is_cut_short_is_a_named_error(tmp_path: Path, cut: int, packed: bool) -> None:
    whole = tarred({"a.ndjson": ndjson(RECORDS), "b.ndjson": ndjson(RECORDS)})
    end = len(whole.rstrip(b"\0"))
    data = whole[: max(end - cut + 600, 600)].rstrip(b"\0")
    path = write(tmp_path / "a.tar", gzip.compress(data) if packed else data)
    with pytest.raises(SourceError, match=r"a\.tar.*cut short"):
        taken(Files(path))


def test_a_damaged_header_of_a_tar_is_a_named_error(tmp_path: Path) -> None:
    data = bytearray(tarred({"a.csv": A, "b.csv": B}))
    data[1024] ^= 1
    with pytest.raises(SourceError, match=r"a\.tar.*damaged header"):
        taken(Files(write(tmp_path / "a.tar", bytes(data))))


def test_two_members_of_one_name_in_a_tar_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", tarred({"a.csv": A}) + tarred({"./a.csv": B}))
    with pytest.raises(SourceError, match=r"two of its members are called 'a\.csv'"):
        taken(Files(path))


def test_a_tar_member_with_holes_is_refused(tmp_path: Path) -> None:
    data = bytearray(tarred({"a.csv": A}, tarfile.GNU_FORMAT))
    data[156:157] = tarfile.GNUTYPE_SPARSE
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    with pytest.raises(SourceError, match=r"a\.csv is stored with holes"):
        taken(Files(write(tmp_path / "a.tar", bytes(data))))


def test_a_member_that_is_gone_from_a_tar_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", tarred({"a.csv": A}))
    with pytest.raises(
        SourceChanged,
        match=r"member b\.csv\) is not what it was: the member is not there any more; the file's members are: a",
    ):
        taken(Files(path), {"file": str(path), "member": "b.csv", "offset": 0})


def test_members_before_the_cursor_are_compared_with_those_after_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", tarred({"a.csv": A, "b.csv": B, "c.csv": OTHER}))
    with pytest.raises(SourceError, match=r"a\.csv, b\.csv \(CSV: id, name\); c\.csv"):
        taken(Files(path), {"file": str(path), "member": "b.csv", "offset": 0})
