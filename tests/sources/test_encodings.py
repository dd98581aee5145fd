"""Text in any encoding: told by its mark, or by the job; decoded in the stream where ASCII is not written as such."""

from __future__ import annotations

import codecs
import gzip
import io
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pulling import assert_resumes_everywhere, last_cursor, pull, small_blocks, taken, write

from etl.errors import SourceChanged, SourceError
from etl.records import Mark
from etl.sources import Files, encodings
from etl.sources.encodings import Reading, Utf8

NAMES = ["Zoë", "Łódź", "東京", "𝄞🎼", "a\u2028b", '"quoted", and\nmore', ""]
RECORDS = [{"n": number, "name": NAMES[number % len(NAMES)]} for number in range(40)]
CONTENT = {
    "a.csv": "n,name\r\n"
    + "".join(
        f'{record["n"]},"{str(record["name"]).replace(chr(34), chr(34) * 2)}"\r\n' for record in RECORDS
    ),
    "a.ndjson": "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS),
    "a.json": json.dumps(RECORDS, ensure_ascii=False, indent=1),
}
ORDERS = ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]
MARKED = [*ORDERS, "gb18030"]
MARK = "\ufeff"


def read(path: Path, block: int, **options: Any) -> Files:
    return small_blocks(Files(path, null=[], **options), block)


@pytest.mark.parametrize("name", CONTENT)
@pytest.mark.parametrize("encoding", MARKED)
def test_utf_16_and_32_are_read_by_their_mark_and_go_on_at_every_mark(
    tmp_path: Path, name: str, encoding: str
) -> None:
    path = write(tmp_path / name, (MARK + CONTENT[name]).encode(encoding))
    source = read(path, 50)
    assert taken(source) == RECORDS
    assert len([item for item in pull(source) if isinstance(item, Mark)]) > 10
    assert_resumes_everywhere(source)


@pytest.mark.parametrize("name", CONTENT)
@pytest.mark.parametrize("encoding", ORDERS)
def test_without_a_mark_the_job_says_it_and_the_error_says_what_to_say(
    tmp_path: Path, name: str, encoding: str
) -> None:
    path = write(tmp_path / name, CONTENT[name].encode(encoding))
    with pytest.raises(SourceError, match=f'text in {encoding}, without .*set encoding = "{encoding}"'):
        pull(Files(path))
    assert taken(read(path, 1000, encoding=encoding)) == RECORDS
    # RFC 2781, section 4.3, leaves the order to the reader
    assert taken(read(path, 1000, encoding=encoding[:6])) == RECORDS


@pytest.mark.parametrize("name", CONTENT)
def test_a_mark_that_was_written_twice_is_no_text(tmp_path: Path, name: str) -> None:
    source = read(write(tmp_path / name, (MARK + MARK + CONTENT[name]).encode()), 50)
    assert taken(source) == RECORDS
    assert_resumes_everywhere(source)


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16-be"])
@pytest.mark.parametrize("marked", ["utf-8", "utf-16-le"])
def test_a_mark_counts_more_than_what_the_job_says(tmp_path: Path, marked: str, encoding: str) -> None:
    """https://encoding.spec.whatwg.org, section 6.1."""
    path = write(tmp_path / "a.csv", (MARK + CONTENT["a.csv"]).encode(marked))
    assert taken(read(path, 1000, encoding=encoding)) == RECORDS


@pytest.mark.parametrize("encoding", ["utf-8-sig", "UTF8", "utf_8_sig", "UTF-8", "U8", "cp65001"])
@pytest.mark.parametrize("mark", [MARK, ""])
def test_each_name_of_utf_8_allows_a_mark(tmp_path: Path, encoding: str, mark: str) -> None:
    path = write(tmp_path / "a.csv", mark + CONTENT["a.csv"])
    source = read(path, 100, encoding=encoding)
    assert taken(source) == RECORDS
    assert_resumes_everywhere(source)
    assert source.fingerprint() == read(path, 100).fingerprint()


# Where bytes of ASCII are other characters, or stand within them: Python's codecs, "Standard Encodings"; HZ, RFC 1843;
# ISO 2022, RFC 1468; EBCDIC, IBM's CDRA; UTF-7, RFC 2152
TEXTS = {
    "utf-7": "Zoë",
    "hz": "东京",
    "iso2022_jp": "東京",
    "iso2022_kr": "서울",
    "cp037": "Zoë",
    "cp500": "Zoë",
    "cp273": "Zoë",
    "cp1026": "Şişli",
    "shift_jis": "表ソ",
    "cp932": "表ソ",
    "big5": "功",
    "gb18030": "東京 𝄞",
    "gbk": "東京",
    "euc_jp": "東京",
    "cp949": "서울",
    "johab": "서울",
    "koi8-r": "Пётр",
    "cp1251": "Пётр",
    "cp1252": "Zoë €",
    "latin-1": "Zoë",
    "mac_roman": "Zoë",
    "cp437": "Zoë",
    "ascii": "Zoe",
}


@pytest.mark.parametrize("encoding", TEXTS)
@pytest.mark.parametrize("name", ["a.csv", "a.ndjson"])
def test_any_encoding_is_read_and_gone_on_with(tmp_path: Path, encoding: str, name: str) -> None:
    records = [{"n": number, "name": f'{TEXTS[encoding]} "{number}"'} for number in range(9)]
    if name == "a.csv":
        text = "n,name\n" + "".join(f'{row["n"]},"{TEXTS[encoding]} ""{row["n"]}"""\n' for row in records)
    else:
        text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    source = read(write(tmp_path / name, text.encode(encoding)), 30, encoding=encoding)
    assert taken(source) == records
    assert_resumes_everywhere(source)


class Pieces(io.BytesIO):
    """Hands out no more than `piece` bytes at once."""

    def __init__(self, data: bytes, piece: int) -> None:
        super().__init__(data)
        self._piece = piece

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, self._piece))


@pytest.mark.parametrize("encoding", [*TEXTS, *ORDERS])
def test_decoding_in_the_stream_does_not_depend_on_where_it_is_cut(encoding: str) -> None:
    text = (TEXTS.get(encoding, "Zoë 𝄞") + "\n") * 40
    data = text.encode(encoding)

    for size in (1, 2, 3, 7):
        reader = Utf8(Pieces(data, size), Reading(encoding, 0, True))
        assert b"".join(iter(partial(reader.read, 5), b"")).decode() == text


def test_lines_of_ebcdic_end_with_nel(tmp_path: Path) -> None:
    """The Unicode Standard, section 5.8: what z/OS writes at the end of a line is U+0085."""
    data = "n,name\x851,Zoë\x852,b\x85".encode("cp037")
    assert b"\x15" in data
    path = write(tmp_path / "a.csv", data)
    assert taken(Files(path, encoding="cp037")) == [{"n": 1, "name": "Zoë"}, {"n": 2, "name": "b"}]


def test_it_is_decoded_within_a_compression(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv.gz", gzip.compress((MARK + CONTENT["a.csv"]).encode("utf-16-le")))
    source = read(path, 50)
    assert taken(source) == RECORDS
    assert_resumes_everywhere(source)
    assert taken(source, last_cursor(source)) == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            "n\n".encode("utf-16-le") + b"\x00\xd8" + "1\n".encode("utf-16-le"),
            "no valid utf-16-le at its byte 6 ",
        ),
        (
            "n\n".encode("utf-16-le") + b"\x00\xdc" + "1\n".encode("utf-16-le"),
            "no valid utf-16-le at its byte 6 ",
        ),
        ("n\n1\n".encode("utf-16-le") + b"1", "cut short: it ends in the middle of a character of utf-16-le"),
        ("n\n1\n".encode("utf-16-le") + b"\x3d\xd8", "cut short: it ends in the middle of a character"),
    ],
)
@pytest.mark.parametrize("before", [0, 2 * encodings._STEP - 3, 300_000])
def test_half_a_character_is_a_named_error(tmp_path: Path, data: bytes, said: str, before: int) -> None:
    """A lone surrogate is none (The Unicode Standard, D91), wherever the pieces are cut."""
    head, rest = data[:4], data[4:]
    filling = "1\n".encode("utf-16-le") * (before // 4)
    said = said.replace("byte 6", f"byte {6 + len(filling)}")
    path = write(tmp_path / "a.csv", codecs.BOM_UTF16_LE + head + filling + rest)
    with pytest.raises(SourceError, match=rf"a\.csv: it is {said}"):
        pull(Files(path))


@pytest.mark.parametrize(
    ("data", "encoding", "said"),
    [
        (b"n,name\n1,a\n", "utf-16", "not utf-16, as `encoding` says"),
        (b"n,name\n1,a\n", "utf-32-be", "not utf-32-be, as `encoding` says"),
        (b"n,name\n1,a\n", "cp037", "no text in cp037: .*set the right `encoding`"),
        ("n\n1\n".encode("cp037"), "utf-8", "control characters|no valid utf-8"),
        ("東京".encode("utf-16-le"), "utf-16", "do not tell which utf-16"),
    ],
)
def test_an_encoding_that_it_is_not_in_is_an_error(
    tmp_path: Path, data: bytes, encoding: str, said: str
) -> None:
    with pytest.raises(SourceError, match=said):
        pull(Files(write(tmp_path / "a.csv", data), encoding=encoding, settle=0))


@pytest.mark.parametrize(
    ("line", "said"), [("straße,b", '"cp1252" or "latin-1"'), ("Пётр,Москва", "cp1251 or koi8-r")]
)
def test_a_header_in_another_encoding_is_told_which_it_may_be(tmp_path: Path, line: str, said: str) -> None:
    data = line.encode("cp1251" if "М" in line else "cp1252") + b"\n1,2\n"
    with pytest.raises(SourceError, match=f"the header is no valid utf-8 .*set `encoding`.*{said}"):
        pull(Files(write(tmp_path / "a.csv", data)))


@pytest.mark.parametrize(
    "encoding", ["rot13", "base64", "zlib", "idna", "punycode", "unicode_escape", "undefined"]
)
def test_what_is_no_encoding_of_text_is_refused(encoding: str) -> None:
    with pytest.raises(ValueError, match="is no encoding of text files"):
        Files("a", encoding=encoding)


def test_a_file_in_utf_16_grows_as_one_in_utf_8_does(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", (MARK + "n\n1\n").encode("utf-16-le"))
    source = Files(path)
    cursor = last_cursor(source)
    write(path, path.read_bytes() + "2\n".encode("utf-16-le"))
    assert taken(source, cursor) == [{"n": 2}]
    write(path, path.read_bytes()[:8])
    with pytest.raises(SourceChanged, match="shorter"):
        pull(source, cursor)
