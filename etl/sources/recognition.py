"""What a content is, by its first bytes: the format that it is read as, or why it is not read.

The content decides, then what the job or the name says. What is plainly something else is refused, and told what it
is: taken for CSV, anything makes rows.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from etl.sources import encodings
from etl.sources.csv_options import Options
from etl.sources.encodings import Reading
from etl.sources.kinds import BY_SUFFIX, KINDS, TEXTS_BY_SUFFIX
from etl.sources.markup import refuse_markup
from etl.sources.refusals import Refused

Format = Literal["ndjson", "csv", "json", "json-seq", "parquet"]

# How much of a content is looked at.
HEAD_BYTES = 4096

_PARQUET = b"PAR1"  # apache/parquet-format, README: File format
_BLANK = " \t\r\n"
_SEPARATOR = "\x1e"  # before each text of a sequence (RFC 7464)
_BY_SUFFIX: dict[str, Format] = {
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".geojsonl": "ndjson",  # GDAL's driver GeoJSONSeq
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".parquet": "parquet",
}
_COMPRESSED = {".gz", ".gzip", ".zst", ".zstd", ".bz2", ".xz", *BY_SUFFIX}
NAMES: dict[Format, str] = {
    "ndjson": "NDJSON",
    "csv": "CSV",
    "json": "JSON",
    "json-seq": "a JSON text sequence",
    "parquet": "Parquet",
}

_JSON_BEGINS = re.compile(r'\{\s*("(?:[^"\\]|\\.)*"\s*:|\})|\[\s*([\[{\]"\d]|-\d|true\b|false\b|null\b)')
_JSON_PART = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)

# Characters that no text is made of; the separators of ASCII (0x1C to 0x1F), its escape and end of file may be.
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x19]")
# Those of ISO 6429 as well, which is what ASCII becomes that is taken for EBCDIC.
_ALL_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x19\x80-\x84\x86-\x9f]")
_LAYOUT_ONLY = re.compile(r"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f]")
# More than one in so many is "mostly": text has none, what is compressed or encrypted one in ten.
_CONTROLS_ONE_IN = 20


class Recognised(NamedTuple):
    """What a content is, and how its text is read."""

    format: Format
    reading: Reading


UTF8 = Reading("utf-8", 0, False)


def recognise(head: bytes, name: str, said: Format | None, options: Options) -> Recognised:
    """Tell what a content is.

    Args:
        head: its first bytes, decompressed.
        name: the end of the path.
        said: the format, if the job says one.
        options: how CSV is read, and the encoding.

    Raises:
        Refused: it is of a kind that is not read, or plainly something else than it is called.
    """
    head = head[:HEAD_BYTES]
    reading = encodings.reading(head, options.encoding)
    _refuse_what_is_no_text(head, reading, name, said, delimiter=options.delimiter)
    if reading.in_stream:
        head = encodings.decoded(head, reading).encode("utf-8", "replace")
    format_ = _format_of(name, head, said, as_lines=options.header is not True)
    if format_ in ("ndjson", "json", "json-seq") and reading.encoding not in ("utf-8", "ascii"):
        reading = reading._replace(in_stream=True)
    return Recognised(format_, reading)


def _refuse_what_is_no_text(
    head: bytes, reading: Reading, name: str, said: Format | None, *, delimiter: str | None = None
) -> None:
    """Refuse what is neither text nor Parquet.

    Args:
        head: the first bytes, decompressed.
        reading: how they are read as text.
        name: the end of the path.
        said: the format, if the job says one. In CSV that is called so control characters may stand, but no zeros:
            RFC 4180 has neither, and zeros are what binary data are made of.
        delimiter: what the job says that separates fields; it may be a control character.

    Raises:
        Refused: it is no text, or none in that encoding.
    """
    if head.startswith(_PARQUET):
        return
    text = encodings.decoded(head, reading)
    is_shifted = reading.in_stream and not reading.encoding.startswith("utf")
    controls = _ALL_CONTROLS if is_shifted else _CONTROLS
    is_text = _is_text(text.replace(delimiter, "") if delimiter else text, controls)
    if said == "csv" and "\ufffd" not in text:
        is_text = "\x00" not in text
    whole = is_text and "\ufffd" not in text
    begins = head[reading.mark :].lstrip(_BLANK.encode())
    for kind in KINDS:
        found = head.startswith(kind.magic, kind.at) or (kind.at == 0 and begins.startswith(kind.magic))
        if found and not (kind.wordy and whole):
            raise Refused(kind.name, f"it is {kind.name}, which is not read", kind.advice)
    if not whole or _LAYOUT_ONLY.search(text):
        _refuse_compressed(head, name)
    if is_text:
        return
    guessed = None if reading.mark or reading.in_stream else encodings.guessed(head)
    if guessed is not None:
        raise Refused(
            guessed,
            f"it is text in {guessed}, without a byte order mark that says so",
            f'set encoding = "{guessed}"',
        )
    if reading.encoding not in ("utf-8", "ascii"):
        raise Refused(
            "binary",
            f"it is no text in {reading.encoding}: in place of characters it has zeros or control characters",
            "set the right `encoding`, or leave it out; if it is no text at all, name the right file",
        )
    if "\x00" not in text and "\ufffd" not in text:
        raise Refused(
            "binary",
            "it has more control characters than a text has",
            'if they separate its fields, set `delimiter`; if it is CSV all the same, set format = "csv"; if it is '
            "no text, name the right file",
        )
    raise Refused(
        "binary",
        "it is binary: it has zeros or control characters at its beginning, as no text has, and is of no kind that "
        "is known here",
        "make it NDJSON, CSV or Parquet, or name the right file",
    )


def _is_text(text: str, controls: re.Pattern[str]) -> bool:
    """Say whether there are few control characters, and none in the first line, where columns have their names."""
    if controls.search(text.lstrip(_BLANK).partition("\n")[0]):
        return False
    return "\x00" not in text and len(controls.findall(text)) * _CONTROLS_ONE_IN <= len(text)


def _refuse_compressed(head: bytes, name: str) -> None:
    """Refuse what is compressed in a way that has no sign of its own, and is no text."""
    if len(head) >= 2 and head[0] & 0x0F == 8 and head[0] >> 4 <= 7 and (head[0] << 8 | head[1]) % 31 == 0:
        # RFC 1950, section 2.2
        try:
            zlib.decompressobj().decompress(head, 64)
        except zlib.error:
            pass
        else:
            raise Refused(
                "zlib",
                "it is compressed with zlib, which is not read",
                "unpack it (python -c 'import sys, zlib; sys.stdout.buffer.write(zlib.decompress(sys.stdin.buffer."
                "read()))'), or write it with gzip",
            )
    kind = BY_SUFFIX.get(Path(name).suffix.lower())
    if kind is not None:
        raise Refused(kind.name, f"it is {kind.name}, which is not read", kind.advice)


def _format_of(name: str, head: bytes, said: Format | None, *, as_lines: bool = False) -> Format:
    """Tell the format by the job, else by the name, else by the first bytes.

    Args:
        name: the end of the path.
        head: the first bytes, in UTF-8 or an encoding that writes ASCII as ASCII does.
        said: what the job says.
        as_lines: the job names the columns of CSV by itself, so that it may want JSON as a text.

    Raises:
        Refused: the content is plainly something else.
    """
    named = _format_by_name(name)
    text = head.decode("utf-8", "replace").lstrip("\ufeff" + _BLANK)
    kind: Format = said or named or _guessed(text, name)
    is_sequence = text.startswith(_SEPARATOR)
    text = text.lstrip(_BLANK + _SEPARATOR)
    if head.startswith(_PARQUET):
        if (said or named or "parquet") != "parquet":
            raise _mismatch(said, kind, "Parquet", 'set format = "parquet", or leave `format` out')
        return "parquet"
    refuse_markup(text, as_csv=said == "csv")
    if (
        said is None
        and text
        and not _JSON_BEGINS.match(text)
        and (other := TEXTS_BY_SUFFIX.get(suffix_of(name)))
    ):
        advice = f'{other.advice}; if it is CSV all the same, set format = "csv"'
        raise Refused(other.name, f"it is {other.name}, which is not read", advice)
    if kind == "parquet":
        raise _mismatch(
            said,
            kind,
            "something else, which does not begin with PAR1",
            "set the right `format`, or name the right file",
        )
    if kind == "csv" and is_sequence and _JSON_BEGINS.match(text):
        raise _mismatch(said, kind, NAMES["json-seq"], 'set format = "json-seq"')
    if kind == "csv" and (said or named):
        _refuse_json(text, said, as_lines=as_lines)
    elif kind == "ndjson":
        _refuse_what_is_no_ndjson(text, said)
    return kind


def _mismatch(said: Format | None, kind: Format, found: str, advice: str) -> Refused:
    by = "`format` says that it is" if said else "its name says that it is"
    return Refused(found, f"{by} {NAMES[kind]}, and its content is {found}", advice)


def _format_by_name(name: str) -> Format | None:
    return _BY_SUFFIX.get(suffix_of(name))


def suffix_of(name: str) -> str:
    """Return the end of a name that tells the format, without those of compressions; empty: there is none."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    while suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _guessed(text: str, name: str) -> Format:
    if text.startswith(_SEPARATOR):
        return "json-seq"
    if text.startswith("["):
        return "json"
    return "ndjson" if text.startswith("{") or suffix_of(name) == ".json" else "csv"


def _refuse_json(text: str, said: Format | None, *, as_lines: bool) -> None:
    """Refuse JSON that is called CSV, unless it is lines of it that the job wants as a text."""
    if not _JSON_BEGINS.match(text):
        return
    end = _first_value(text)
    lines = end is not None and text[end:].strip(_BLANK) != ""
    if end is not None:
        if not text[end:].lstrip(" \t\r").startswith("\n") and lines:
            return  # a delimiter, or more of a field
        try:
            msgspec.json.decode(text[:end].encode())
        except (msgspec.DecodeError, RecursionError):
            return
    if said and as_lines and lines:
        return
    if text.startswith("{") and lines:
        raise _mismatch(said, "csv", "JSON, an object on each line", 'set format = "ndjson"')
    found = "one JSON object" if text.startswith("{") else "one JSON array"
    raise _mismatch(
        said,
        "csv",
        found,
        'if it is an error that the server tells, correct the request; else set format = "json", and '
        "`records` where its rows are within",
    )


def _refuse_what_is_no_ndjson(text: str, said: Format | None) -> None:
    """Refuse an array that is called NDJSON, and a text of which no line looks like JSON."""
    if text.startswith("[") and _JSON_BEGINS.match(text):
        end = _first_value(text)
        if text[1:].lstrip(_BLANK).startswith("{") and (end is None or not text[end:].strip(_BLANK)):
            raise _mismatch(said, "ndjson", "one JSON array", 'set format = "json"')
    if said is None and text and not any(_is_like_json(line) for line in text.splitlines()):
        raise Refused(
            "text",
            f"its name says that it is JSON, and it holds none: it begins with {text.splitlines()[0][:40]!r}",
            'if it is CSV, set format = "csv"; if it is an error that the server tells, correct the request',
        )


def _is_like_json(line: str) -> bool:
    line = line.strip(_BLANK + _SEPARATOR)
    if line.startswith(("{", "[")):
        return True
    try:
        msgspec.json.decode(line.encode())
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _first_value(text: str) -> int | None:
    """Return where the first value ends, which begins with a bracket; None: not in here."""
    depth = 0
    for part in _JSON_PART.finditer(text):
        if part[0] in "[{":
            depth += 1
        elif part[0] in "]}":
            depth -= 1
            if depth == 0:
                return part.end()
    return None
