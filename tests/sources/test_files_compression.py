"""gzip, zip and zstd: all their members, and what is cut short or damaged."""

from __future__ import annotations

import gzip
import io
import re
import sys
import zipfile
from pathlib import Path

import pytest
import zstandard
from pulling import assert_resumes_everywhere, compress, ndjson, small_blocks, taken, write

from etl.errors import SourceChanged, SourceError
from etl.sources import Files
from etl.sources.compressions import ZstdFrames

RECORDS = [{"n": number, "text": "x" * (number % 50)} for number in range(5_000)]
DATA = ndjson(RECORDS)


def packed(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


@pytest.fixture(params=["isal", "stdlib"])
def gzip_library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "stdlib":
        monkeypatch.setitem(sys.modules, "isal", None)


def test_all_members_of_a_gzip_file_are_read(tmp_path: Path, gzip_library: None) -> None:
    lines = DATA.splitlines(keepends=True)
    members = [b"".join(lines[start : start + 700]) for start in range(0, len(lines), 700)]
    path = write(tmp_path / "a", b"".join(map(gzip.compress, members)) + gzip.compress(b""))
    assert taken(Files(path)) == RECORDS


def test_zeros_after_a_gzip_file_are_padding(tmp_path: Path, gzip_library: None) -> None:
    path = write(tmp_path / "a", gzip.compress(DATA) + bytes(512))
    assert taken(Files(path)) == RECORDS


def test_anything_else_after_a_gzip_file_is_a_named_error(tmp_path: Path, gzip_library: None) -> None:
    path = write(tmp_path / "a.gz", gzip.compress(DATA) + b"and more than a header")
    with pytest.raises(SourceError, match=r"a\.gz: it is no whole gzip file.*[0-9]+ records of it were read"):
        taken(Files(path))


@pytest.mark.parametrize("cut", [1, 5, 8, 9, 3_000])
def test_a_truncated_gzip_is_a_named_error(tmp_path: Path, gzip_library: None, cut: int) -> None:
    path = write(tmp_path / "a.gz", gzip.compress(DATA)[:-cut])
    with pytest.raises(SourceError, match=r"a\.gz: it is cut short .*[0-9]+ records of it were read\. Fetch"):
        taken(Files(path))


def test_the_records_before_the_cut_are_given(tmp_path: Path) -> None:
    whole = gzip.compress(DATA)
    pulling = small_blocks(Files(write(tmp_path / "a.gz", whole[: len(whole) // 2])), 4096).pull(None)
    found = []
    with pytest.raises(SourceError) as raised:
        found.extend(item for item in pulling if isinstance(item, dict))
    assert found == RECORDS[: len(found)]
    assert f"{len(found)} records" in str(raised.value)
    assert len(found) > 1_000


def test_a_flipped_bit_is_a_named_error(tmp_path: Path, gzip_library: None) -> None:
    data = bytearray(gzip.compress(DATA))
    data[-6] ^= 1
    with pytest.raises(SourceError, match=r"a\.gz: it is damaged: the checksum"):
        taken(Files(write(tmp_path / "a.gz", bytes(data))))


def test_all_frames_of_a_zstd_file_are_read_and_those_to_skip_are_skipped(tmp_path: Path) -> None:
    to_skip = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    data = to_skip + compress(DATA, "zstd") + to_skip + zstandard.compress(b"")
    assert taken(Files(write(tmp_path / "a", data))) == RECORDS


@pytest.mark.parametrize("cut", [1, 100, 3_000])
def test_a_truncated_zstd_is_a_named_error(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "a.zst", zstandard.compress(DATA)[:-cut])
    with pytest.raises(SourceError, match=r"a\.zst: it is cut short"):
        taken(Files(path))


def test_something_after_a_zstd_file_is_a_named_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zst", zstandard.compress(DATA) + b"something else")
    with pytest.raises(SourceError, match=r"a\.zst: it is no whole zstd file"):
        taken(Files(path))


def test_zstd_that_shrank_to_nearly_nothing_takes_bounded_memory() -> None:
    whole = 100 << 20
    reader = ZstdFrames(
        io.BytesIO(zstandard.compress(b'{"a":"the same over and over"}\n' * (whole // 31))),
        zstandard.ZstdDecompressor().decompressobj,
    )
    most = read = 0
    while data := reader.read(1 << 16):
        read += len(data)
        most = max(most, len(reader._output))
    assert read == whole // 31 * 31
    assert most <= 2 * (128 << 10)  # a block is no larger (RFC 8878, section 3.1.1.2.3)


def test_members_of_a_zip_file_are_files_of_their_own_in_its_order(tmp_path: Path) -> None:
    data = packed(
        **{
            "b.jsonl": b'{"n":1,"text":"one"}\n',
            "directory/": b"",
            "directory/a.ndjson": b'{"n":2}\n',
            "__MACOSX/._a.ndjson": b"\x00\x01",
            ".hidden": b"?",
            "c.ndjson.gz": gzip.compress(b'{"n":3}\n'),
            "d.json.zst": zstandard.compress(b'[{"n":4}]'),
            "empty": b"",
        }
    )
    source = Files(write(tmp_path / "a.zip", data))
    assert [record["n"] for record in taken(source)] == [1, 2, 3, 4]
    assert_resumes_everywhere(source)


def test_a_zip_file_without_members_holds_no_records(tmp_path: Path) -> None:
    assert taken(Files(write(tmp_path / "a.zip", packed()))) == []


def test_a_truncated_zip_is_a_named_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", packed(data=DATA)[:-100])
    with pytest.raises(SourceError, match=r"a\.zip: it is no whole zip file.*0 records"):
        taken(Files(path))


def test_a_damaged_zip_member_is_a_named_error(tmp_path: Path) -> None:
    data = bytearray(packed(**{"data.ndjson": DATA}))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(SourceError, match=r"a\.zip \(member data\.ndjson\): it is damaged: the checksum"):
        taken(Files(write(tmp_path / "a.zip", bytes(data))))


def test_a_zip_member_that_is_gone_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", packed(one=DATA, two=DATA))
    source = Files(path)
    middle = {"file": str(path), "member": "two", "offset": 0}
    assert taken(source, middle) == RECORDS
    write(path, packed(one=DATA))
    with pytest.raises(
        SourceChanged, match=r"member two\) is not there any more; the file's members are: one"
    ):
        taken(source, middle)


def test_two_zip_members_of_one_name_are_refused(tmp_path: Path) -> None:
    data = packed(abc=DATA, abd=DATA).replace(b"abd", b"abc")
    with pytest.raises(SourceError, match="two of its members are called 'abc'"):
        taken(Files(write(tmp_path / "a.zip", data)))


def test_an_encrypted_zip_member_is_a_named_error(tmp_path: Path) -> None:
    data = bytearray(packed(a=b"n\n1\n"))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(SourceError, match="encrypted"):
        taken(Files(write(tmp_path / "a.zip", bytes(data))))


def test_a_compression_that_is_asked_for_must_be_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gz", DATA)
    assert taken(Files(path)) == RECORDS
    with pytest.raises(SourceError, match=re.escape("a.gz: it is no gzip file, as `compression` says")):
        taken(Files(path, compression="gzip"))


def test_a_compressed_file_that_became_shorter_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gz", gzip.compress(DATA))
    with pytest.raises(SourceChanged, match="shorter"):
        taken(Files(path), {"file": str(path), "offset": len(DATA) + 10, "record": 5_000, "line": 5_000})
