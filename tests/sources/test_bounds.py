"""What a source holds at once is a share of the memory: in a container of 128 MiB each input is read, or named.

None of these may end in the kernel's hands. Each is read by a process in a control group of its own.
"""

from __future__ import annotations

import bz2
import json
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from etl.sources import Files
from etl.sources.bounds import Bounds
from tests.bounded import pull
from tests.control_groups import MIB

LIMIT = 128 * MIB
X = b"x" * MIB
GOOD = b'{"a":1}\n'
WIDE = [b"x\0" * MIB] * 40
ZEROS = [bytes(MIB)] * 60
HEAD = GOOD * 1000  # more than is looked at to tell what a file is
BOUND = r"max_record_bytes \(it is 4194304\)"
ROW = r"max_record_bytes \(it is 1048576\)"

Pieces = Iterable[bytes]


def plain(path: Path, pieces: Pieces) -> None:
    with path.open("wb") as file:
        file.writelines(pieces)


def compressed(make: Callable[[], Any], times: int = 1) -> Callable[[Path, Pieces], None]:
    """Write what one compressor after the other makes of a content."""

    def write(path: Path, pieces: Pieces) -> None:
        for _ in range(times):
            one = make()
            pieces = [*[one.compress(piece) for piece in pieces], one.flush()]
        plain(path, pieces)

    return write


def zipped(method: int) -> Callable[[Path, Pieces], None]:
    def write(path: Path, pieces: Pieces) -> None:
        with zipfile.ZipFile(path, "w", method) as archive, archive.open("a.ndjson", "w") as member:
            for piece in pieces:
                member.write(piece)

    return write


def of_members(path: Path, pieces: Pieces) -> None:
    """Write a zip file of a million members; one header is enough for all of them."""
    number = 1_000_000
    local = b"PK\x03\x04" + struct.pack("<5H3I2H", 20, 0, 0, 0, 33, 0, 0, 0, 12, 0) + b"000000000000"
    entry = b"PK\x01\x02" + struct.pack("<6H3I5H2I", 20, 20, 0, 0, 0, 33, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0)
    directory = b"".join(entry + b"%012d" % each for each in range(number))
    end64 = struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, number, number, len(directory), len(local))
    locator = b"PK\x06\x07" + struct.pack("<IQI", 0, len(local) + len(directory), 1)
    end = b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    plain(path, [*pieces, local, directory, b"PK\x06\x06", end64, locator, end])


GZIP = compressed(lambda: zlib.compressobj(1, zlib.DEFLATED, 31))
NESTED = compressed(lambda: zlib.compressobj(1, zlib.DEFLATED, 31), 4)
ZSTD = compressed(lambda: zstandard.ZstdCompressor(1).compressobj())
XZ = compressed(lambda: lzma.LZMACompressor(preset=0))
BZIP2 = compressed(lambda: bz2.BZ2Compressor(1))
ROWS = {"records": "rows"}


@pytest.mark.parametrize(
    ("name", "write", "pieces", "options", "said"),
    [
        # a line that is too long is one record, and the next one is read
        ("a.ndjson", plain, [GOOD, b'{"a":"', *[X] * 60, b'"}\n', GOOD], {}, rf"line 2 \(byte 8\).*{BOUND}.*\n2 r"),
        ("b.ndjson", plain, [GOOD, b'{"a":[', b"[]," * (8 * MIB), b"1]}\n", GOOD], {}, rf"line 2 .*{BOUND}.*\n2 r"),
        ("c.ndjson", plain, [GOOD, b'{"a":[', b"[]," * MIB, b"1]}\n", GOOD], {}, r"2097154 values.*max_re.*\n2 r"),
        ("d.ndjson", plain, [GOOD, b'{"', *[X] * 60, b'":1}\n', GOOD], {}, rf"line 2 .*{BOUND}.*\n2 records"),
        ("e.ndjson", plain, [GOOD, b'{"a":', b"1" * (3 * MIB), b"}\n", GOOD], {}, r"line 2 .*no JSON.*\n2 records"),
        ("f.ndjson", plain, [GOOD, b"[" * (3 * MIB), b"\n", GOOD], {}, r"line 2 .*\n2 records"),
        ("g.ndjson", plain, [b"\xff\xfe", *["{}\n".encode("utf-16-le"), *WIDE]], {}, rf"line 2 .*{BOUND}"),
        # where what is too long ends is not known otherwise
        ("a.json", plain, [b'[{"a":1},{"a":"', *[X] * 60, b'"}]'], {}, rf"after 1: .*element 2 \(byte 9\).*{BOUND}"),
        ("b.json", plain, [b'{\n"a":1}\n{\n"a":"', *[X] * 60, b'"}'], {}, rf"after 1: .*byte 8.*{BOUND}"),
        ("a.json-seq", plain, [b'\x1e{"a":1}\n\x1e{"a":"', *[X] * 60, b'"}'], {}, rf"after 1: .*byte 9.*{BOUND}"),
        ("a.csv", plain, [b"a,b\n1,2\n1,", *[X] * 15, b"\n"], {}, rf"after 1: .*line 3 \(byte 8\).*{ROW}"),
        ("b.csv", plain, [b"a,b\n1,2\n1,", b"," * (15 * MIB), b"\n"], {}, rf"after 1: .*line 3 \(byte 8\).*{ROW}"),
        ("c.csv", plain, [b'a,b\n1,2\n1,"x\n', b"1,2\n" * (4 * MIB)], {}, rf"line 2 .*{ROW}.*a quote is not closed"),
        ("d.csv", plain, [b"a", *[X] * 15, b",b\n1,2\n"], {}, rf"after 0: .*line 1 \(byte 0\).*{ROW}"),
        # what is passed over is held nowhere, but for names and numbers
        ("c.json", plain, [b'{"k":["', *[X] * 80, b'"],"rows":[{"a":1}]}'], ROWS, "^1 records"),
        ("d.json", plain, [b'{"', *[X] * 60, b'":1,"rows":[{"a":1}]}'], ROWS, rf"a name \(byte 1\).*{BOUND}"),
        ("e.json", plain, [b'{"k":', b"1" * (30 * MIB), b',"rows":[]}'], ROWS, rf"a number \(byte 5\).*{BOUND}"),
        ("f.json", plain, [b'{"k":', b"[" * MIB, b"]" * MIB, b',"rows":[{"a":1}]}'], ROWS, "^1 records"),
        # what shrank to nothing
        *[
            (f"a.ndjson.{number}", write, [HEAD, *ZEROS], {}, rf"line 1001 .*{BOUND}.*\n1000 records")
            for number, write in enumerate((GZIP, NESTED, ZSTD, XZ, BZIP2))
        ],
        ("a.zip", zipped(zipfile.ZIP_DEFLATED), [HEAD, *ZEROS], {}, rf"line 1001 .*{BOUND}"),
        ("b.zip", zipped(zipfile.ZIP_BZIP2), [HEAD, *ZEROS], {}, rf"line 1001 .*{BOUND}"),
        ("c.zip", zipped(zipfile.ZIP_LZMA), [HEAD, *ZEROS], {}, rf"line 1001 .*{BOUND}"),
        ("b.ndjson.gz", GZIP, [HEAD, *[b"\n" * MIB] * 20], {}, "^1000 records"),
        ("d.zip", of_members, [], {}, "1000000 members.*give the job more memory"),
    ],
    ids=lambda value: value if isinstance(value, str) and value[1:2] == "." else "",
)  # fmt: skip
def test_in_a_small_container_each_input_is_read_or_named(
    tmp_path: Path,
    name: str,
    write: Callable[[Path, Pieces], None],
    pieces: Pieces,
    options: dict[str, Any],
    said: str,
) -> None:
    write(tmp_path / name, pieces)
    out, peak = pull(LIMIT, Files, tmp_path / name, settle=0, **options)
    assert re.search(said, out, re.DOTALL), out
    assert peak < LIMIT


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.ndjson", b'{"a":"%s"}' % (X * 8)),
        ("a.json", b'[{"a":"%s"}]' % (X * 8)),
        ("a.csv", b"a,b\n1,%s\n" % (X * 5)),
        ("b.ndjson", b'{"a":[%s1]}' % (b"[]," * (1 << 20))),
    ],
)
def test_with_the_key_raised_and_enough_memory_the_same_record_is_read(
    tmp_path: Path, name: str, text: bytes
) -> None:
    (tmp_path / name).write_bytes(text)
    out, _ = pull(LIMIT, Files, tmp_path / name, settle=0)
    assert (raise_to := re.search(r"raise max_record_bytes \(it is (\d+)\)", out)), out
    assert int(raise_to[1]) < len(text) * 17
    out, _ = pull(640 * MIB, Files, tmp_path / name, settle=0, max_record_bytes=40 * MIB)
    assert out == "1 records\n"


@pytest.mark.parametrize("limit", [None, *(32 * MIB << power for power in range(10))])
def test_each_bound_is_a_share_and_no_more_than_it_was(limit: int | None) -> None:
    found, most = Bounds.of(limit), Bounds()
    assert all(0 < getattr(found, name) <= getattr(most, name) for name in most.__struct_fields__)
    if limit is not None:
        assert 6 * found.record <= limit // 5
        assert 35 * found.row <= limit // 3
        assert 5 * found.page <= limit // 3
    assert Bounds.of(limit, record=5).record == Bounds.of(limit, record=5).row == 5


def test_the_job_tells_its_memory_to_the_source(tmp_path: Path) -> None:
    import etl

    (tmp_path / "a.ndjson").write_bytes(GOOD + b'{"a":"' + 2 * X + b'"}\n' + GOOD)

    def result(name: str, memory: int) -> etl.Result:
        return etl.Pipeline(
            name,
            source={"type": "files", "paths": [str(tmp_path / "a.ndjson")]},
            sink={"type": "numbered_chunks", "path": str(tmp_path / f"{name}.ndjson")},
            checkpoint=tmp_path / f"{name}.json",
            on_error="reject",
            memory=memory,
        ).run(handle_signals=False)

    assert (result("small", 32 * MIB).records, result("small", 32 * MIB).rejects) == (2, 0)
    letters = next(tmp_path.glob("small-rejects*")).read_text()
    assert "longer than 1 MiB" in json.loads(letters)["reason"]
    assert result("large", 128 * MIB).records == 3
