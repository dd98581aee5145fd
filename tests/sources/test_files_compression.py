"""gzip, bzip2, xz, zstd and zip: all their members, one within another, and what is cut short or damaged."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import sys
import tracemalloc
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zstandard
from pulling import assert_resumes_everywhere, compress, ndjson, small_blocks, taken, write

from etl.errors import SourceChanged, SourceError
from etl.sources import Files
from etl.sources.compressions import ZstdFrames, layer

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


def compressed(compression: str, data: bytes = DATA) -> bytes:
    """Compress in one piece, with a checksum."""
    if compression == "zstd":
        return zstandard.ZstdCompressor(write_checksum=True).compress(data)
    return {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}[compression](data)


STREAMED = ["gzip", "bzip2", "xz", "zstd"]
# Where a byte is changed, what is put at the end, how much is cut off; and what is told, with the next step. bzip2
# and xz keep their checksums within, and their libraries tell nothing else of them.
FAULTS = {
    "cut": (
        0,
        b"",
        20,
        r"it is cut short \(the {} data end before they are whole\).*or wait until its writer",
    ),
    "cut by a byte": (0, b"", 1, "it is cut short"),
    "cut to its head": (0, b"", -11, "it is cut short"),
    "something after it": (
        0,
        b"something else",
        0,
        "it is no whole {} file: what follows its last member is neither {} nor padding.*cut off",
    ),
    "the same, once more, cut": (0, b"again", 0, "it is cut short"),
    "changed in the middle": (1000, b"", 0, "it is (no whole {} file: it is )?damaged"),
}
CHECKSUMS = {"gzip": -6, "zstd": -2}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("compression", STREAMED)
def test_each_fault_of_each_compression_is_told_by_name(tmp_path: Path, compression: str, fault: str) -> None:
    changed, after, cut, said = FAULTS[fault]
    data = bytearray(compressed(compression))
    if changed:
        data[changed : changed + 4] = bytes(byte ^ 0x55 for byte in data[changed : changed + 4])
    if after == b"again":
        after = compressed(compression)[:-30]
    whole = bytes(data) + after
    path = write(tmp_path / "a", whole[: len(whole) - cut] if cut >= 0 else whole[:-cut])
    with pytest.raises(SourceError, match=rf"{path}: ({said.format(compression, compression)})") as raised:
        taken(Files(path))
    assert "records of it were read" in str(raised.value)


@pytest.mark.parametrize("compression", CHECKSUMS)
def test_a_checksum_that_does_not_fit_is_told_as_such(tmp_path: Path, compression: str) -> None:
    data = bytearray(compressed(compression))
    data[CHECKSUMS[compression]] ^= 1
    with pytest.raises(SourceError, match=r"it is damaged: the checksum or length.*does not fit.*in doubt"):
        taken(Files(write(tmp_path / "a", bytes(data))))


@pytest.mark.parametrize("compression", STREAMED)
def test_each_member_is_read_and_zeros_are_padding(tmp_path: Path, compression: str) -> None:
    half = DATA.index(b"\n", len(DATA) // 2) + 1
    parts = [compressed(compression, part) for part in (b"", DATA[:half], b"", DATA[half:])]
    padding = b"" if compression == "zstd" else bytes(8)
    source = small_blocks(Files(write(tmp_path / "a", padding.join([*parts, b""]))), 50_000)
    assert taken(source) == RECORDS
    assert_resumes_everywhere(source)


NESTED = {
    "gzip in gzip": ["gzip", "gzip"],
    "zstd in gzip": ["zstd", "gzip"],
    "gzip in zstd": ["gzip", "zstd"],
    "bzip2 in xz": ["bzip2", "xz"],
    "four": ["gzip", "bzip2", "xz", "zstd"],
}


@pytest.mark.parametrize("nested", NESTED)
def test_what_was_compressed_twice_is_read(tmp_path: Path, nested: str, gzip_library: None) -> None:
    data = DATA
    for compression in NESTED[nested]:
        data = compressed(compression, data)
    source = small_blocks(Files(write(tmp_path / "a.gz", data)), 50_000)
    assert taken(source) == RECORDS
    assert_resumes_everywhere(source)
    with pytest.raises(SourceError, match="it is cut short"):
        taken(Files(write(tmp_path / "a.gz", data[:-20])))


def test_no_more_than_four_times(tmp_path: Path) -> None:
    data = DATA
    for _ in range(5):
        data = gzip.compress(data)
    with pytest.raises(SourceError, match="compressed more than 4 times over: unpack it"):
        taken(Files(write(tmp_path / "a.gz", data)))


def test_a_fault_within_is_told_of_what_it_is_in(tmp_path: Path) -> None:
    data = gzip.compress(compressed("xz")[:-20])
    with pytest.raises(SourceError, match=r"it is cut short \(the xz data"):
        taken(Files(write(tmp_path / "a.gz", data)))


@pytest.mark.parametrize(("compression", "most"), [("bzip2", 6 << 20), ("xz", 10 << 20)])
def test_what_shrank_to_nearly_nothing_takes_bounded_memory(compression: Any, most: int) -> None:
    """What is held is xz's dictionary of 8 MiB, or bzip2's block."""
    whole = 24 << 20
    data = compressed(compression, bytes(whole))
    tracemalloc.start()
    with layer(io.BytesIO(data), compression).opened as reader:
        read = sum(len(piece) for piece in iter(partial(reader.read, 1 << 16), b""))
        peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read == whole
    assert peak < most


def test_an_xz_of_the_largest_usual_size_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.xz", lzma.compress(DATA, preset=9))
    assert taken(Files(path)) == RECORDS


def zstd_frame(window_log: int, **options: Any) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(window_log=window_log, compression_level=1, **options)
    frame = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return bytes(frame.compress(DATA) + frame.flush())


@pytest.mark.parametrize(("window_log", "size"), [(28, "256 MiB"), (30, "1024 MiB")])
def test_a_zstd_window_that_is_too_large_is_named(tmp_path: Path, window_log: int, size: str) -> None:
    """RFC 8878, section 3.1.1.1.2: a decoder may refuse what takes more memory than it wants to give."""
    advice = re.escape(f"zstd -d --long={window_log} -c FILE | zstd > NEW")
    with pytest.raises(SourceError, match=f"a window of {size} .*128 MiB may be held.*{advice}"):
        taken(Files(write(tmp_path / "a.zst", zstd_frame(window_log))))


def test_what_a_window_may_take_is_a_share_of_a_small_container(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "a.zst", zstd_frame(27))
    assert taken(Files(path)) == RECORDS
    xz = write(tmp_path / "a.xz", lzma.compress(DATA, preset=9))

    def small(name: Path) -> Files:
        source = Files(name)
        source.take_memory(128 << 20)
        return source

    with pytest.raises(SourceError, match="a window of 128 MiB in memory, and 21 MiB may be held"):
        taken(small(path))
    with pytest.raises(
        SourceError, match=r"its xz data need a window in memory, and 21 MiB may be held.*xz -6"
    ):
        taken(small(xz))
    assert taken(small(write(tmp_path / "b.zst", zstd_frame(23)))) == RECORDS


def test_a_zstd_dictionary_that_is_not_there_is_named(tmp_path: Path) -> None:
    samples = [b"abc%d hello %d" % (number, number * 7) for number in range(2000)]
    dictionary = zstandard.train_dictionary(1024, samples)
    data = zstandard.ZstdCompressor(dict_data=dictionary).compress(DATA)
    with pytest.raises(
        SourceError, match=f"a dictionary .number {dictionary.dict_id()}.*zstd -d -D DICTIONARY"
    ):
        taken(Files(write(tmp_path / "a.zst", data)))


# APPNOTE 6.3.10, 4.4.5
@pytest.mark.parametrize(
    ("method", "name"),
    [(1, "Shrink"), (6, "Implode"), (9, "Deflate64"), (93, "zstd"), (98, "PPMd"), (77, "none that")],
)
def test_a_zip_method_that_python_does_not_know_is_named(tmp_path: Path, method: int, name: str) -> None:
    data = bytearray(packed(**{"a.csv": b"n\n1\n"}))
    data[8:10] = method.to_bytes(2, "little")
    at = data.index(b"PK\x01\x02") + 10
    data[at : at + 2] = method.to_bytes(2, "little")
    with pytest.raises(
        SourceError, match=rf"member a\.csv\): it is packed by zip's method {method} \({name}"
    ):
        taken(Files(write(tmp_path / "a.zip", bytes(data))))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_methods_that_python_knows_are_read(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("a.ndjson", DATA)
    source = small_blocks(Files(tmp_path / "a.zip"), 50_000)
    assert taken(source) == RECORDS
    assert_resumes_everywhere(source)


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
        SourceChanged,
        match=r"member two\) is not what it was: the member is not there any more; the file's members are: one",
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
    for compression in ("gzip", "bzip2", "xz", "zstd", "zip"):
        with pytest.raises(SourceError, match=rf"a\.gz: it is no {compression} file, as `compression` says"):
            taken(Files(path, compression=compression))  # type: ignore[arg-type]
        whole = write(tmp_path / "whole", compress(DATA, compression, "a.ndjson"))
        assert taken(Files(whole, compression=compression)) == RECORDS  # type: ignore[arg-type]
    with pytest.raises(SourceError, match="it is gzip, and `compression` says that it is not: leave"):
        taken(Files(write(tmp_path / "a.gz", gzip.compress(DATA)), compression="none"))


def test_a_compressed_file_that_became_shorter_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gz", gzip.compress(DATA))
    with pytest.raises(SourceChanged, match="shorter"):
        taken(Files(path), {"file": str(path), "offset": len(DATA) + 10, "record": 5_000, "line": 5_000})
