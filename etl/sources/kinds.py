"""Kinds of content that are not read here: what bytes each begins with, and what can be done about it."""

from __future__ import annotations

from typing import NamedTuple

_TO_PARQUET = "make it Parquet, NDJSON or CSV first, with the program that wrote it"
_UNPACK = "unpack it, or compress it with gzip, zstd, bzip2 or xz"
_DUMP = "load it into a database, and write its tables as CSV or Parquet"
_NO_TABLE = "it holds no records: name the right file, or leave it out"


class Kind(NamedTuple):
    """One kind.

    Attributes:
        magic: the bytes that tell it.
        name: what it is called, as in "it is …".
        advice: what to do next.
        at: where the bytes stand.
        wordy: the bytes could begin a text as well, so that they count only where the rest is none.
    """

    magic: bytes
    name: str
    advice: str
    at: int = 0
    wordy: bool = False


# Compressions without a sign of their own, or that may lack it, by the end of a file's name: RFC 7932; snappy's
# format_description.txt; lz4_Block_format.md; RFC 1951.
BY_SUFFIX = {
    ".br": Kind(
        b"",
        "compressed with brotli, as its name says",
        "unpack it (brotli -d), or compress it with gzip, zstd, bzip2 or xz",
    ),
    ".snappy": Kind(b"", "compressed with snappy, as its name says", _UNPACK),
    ".sz": Kind(b"", "compressed with snappy, as its name says", _UNPACK),
    ".lz4": Kind(b"", "compressed with lz4, as its name says", _UNPACK),
    ".deflate": Kind(b"", "compressed with deflate, as its name says", _UNPACK),
    ".lzo": Kind(b"", "compressed with lzo, as its name says", _UNPACK),
}

# Texts that are no table and have no sign of their own, by the end of a file's name (IANA, media types; RFC 9512).
TEXTS_BY_SUFFIX = {
    ".yaml": Kind(b"", "YAML, as its name says", _TO_PARQUET),
    ".yml": Kind(b"", "YAML, as its name says", _TO_PARQUET),
    ".toml": Kind(b"", "TOML, as its name says", _TO_PARQUET),
    ".ini": Kind(b"", "settings (INI), as its name says", _NO_TABLE),
    ".sql": Kind(b"", "SQL, as its name says", _DUMP),
    ".md": Kind(b"", "Markdown, a document, as its name says", _NO_TABLE),
    ".rst": Kind(b"", "reStructuredText, a document, as its name says", _NO_TABLE),
    ".tex": Kind(b"", "TeX, a document, as its name says", _NO_TABLE),
}

KINDS = (
    # Tables. Avro 1.11, "Object Container Files"; ORC v1, "File Tail"; Arrow columnar format, "IPC File Format" and
    # "Encapsulated message format"; feather.fbs (version 1); Parquet's Encryption.md; SQLite, "The Database Header";
    # DuckDB, "Storage Versions"; HDF5 File Format 3.0, II.A; netCDF classic format; NEP 1 (numpy.lib.format).
    Kind(b"Obj\x01", "Avro", _TO_PARQUET),
    Kind(
        b"ORC",
        "ORC",
        "make it Parquet: pyarrow.parquet.write_table(pyarrow.orc.read_table(OLD), NEW)",
        wordy=True,
    ),
    Kind(
        b"ARROW1\x00\x00",
        "an Arrow IPC file (Feather)",
        "make it Parquet: pyarrow.parquet.write_table(pyarrow.feather.read_table(OLD), NEW)",
    ),
    Kind(
        b"\xff\xff\xff\xff",
        "an Arrow IPC stream",
        "make it Parquet: pyarrow.parquet.write_table(pyarrow.ipc.open_stream(OLD).read_all(), NEW)",
    ),
    Kind(
        b"FEA1",
        "Feather, version 1",
        "make it Parquet: pyarrow.parquet.write_table(pyarrow.feather.read_table(OLD), NEW)",
        wordy=True,
    ),
    Kind(b"PARE", "Parquet with an encrypted footer", "decrypt it where its keys are", wordy=True),
    Kind(
        b"SQLite format 3\x00",
        "an SQLite database",
        "write its table as CSV: sqlite3 -header -csv FILE 'SELECT * FROM …' > NEW.csv",
    ),
    Kind(
        b"DUCK", "a DuckDB database", "write its table as Parquet: COPY … TO 'NEW.parquet'", at=8, wordy=True
    ),
    Kind(b"\x89HDF\r\n\x1a\n", "HDF5", _TO_PARQUET),
    Kind(b"CDF\x01", "netCDF", _TO_PARQUET),
    Kind(b"CDF\x02", "netCDF", _TO_PARQUET),
    Kind(b"CDF\x05", "netCDF", _TO_PARQUET),
    Kind(b"\x93NUMPY", "a NumPy array", _TO_PARQUET),
    Kind(b"GRIB", "GRIB", _TO_PARQUET, wordy=True),
    Kind(b"MATLAB 5.0 MAT-file", "a MATLAB file", _TO_PARQUET),
    Kind(b"RDX2\nX\n", "R data", _TO_PARQUET),
    Kind(b"RDX3\nX\n", "R data", _TO_PARQUET),
    Kind(b"X\n\x00\x00\x00", "R data (RDS)", _TO_PARQUET),
    Kind(b"$FL2", "an SPSS file", _TO_PARQUET, wordy=True),
    Kind(b"$FL3", "an SPSS file", _TO_PARQUET, wordy=True),
    Kind(b"<stata_dta>", "a Stata file", _TO_PARQUET),
    Kind(b"HEADER RECORD*******LIB", "a SAS transport file", _TO_PARQUET),
    Kind(b"\xc2\xea\x81\x60\xb3\x14\x11\xcf\xbd\x92\x08\x00", "a SAS table", _TO_PARQUET, at=12),
    Kind(b"\x00\x01\x00\x00Standard ", "a Microsoft Access database", _TO_PARQUET),
    # Python's pickletools.py: PROTO and the number of the protocol; from 4 on a frame follows.
    Kind(b"\x80\x02", "a Python pickle", _TO_PARQUET),
    Kind(b"\x80\x03", "a Python pickle", _TO_PARQUET),
    Kind(b"\x80\x04\x95", "a Python pickle", _TO_PARQUET),
    Kind(b"\x80\x05\x95", "a Python pickle", _TO_PARQUET),
    # Archives and compressions. lz4_Frame_format.md 1.6.3; snappy's framing_format.txt; 7zFormat.txt; RAR 5.0 archive
    # format; ncompress; lzip's manual; lzop; the Cabinet format [MS-CAB]; ar(5); LZMA SDK, lzma-specification.txt.
    Kind(b"\x04\x22\x4d\x18", "compressed with lz4", _UNPACK),
    Kind(b"\x02\x21\x4c\x18", "compressed with lz4", _UNPACK),
    Kind(b"\xff\x06\x00\x00sNaPpY", "compressed with snappy", _UNPACK),
    Kind(b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    Kind(b"Rar!\x1a\x07", "a rar archive", _UNPACK),
    Kind(b"\x1f\x9d", "compressed with compress (.Z)", _UNPACK),
    Kind(b"LZIP\x01", "compressed with lzip", _UNPACK),
    Kind(b"\x89LZO\x00\r\n\x1a\n", "compressed with lzop", _UNPACK),
    Kind(b"MSCF\x00\x00\x00\x00", "a cabinet file", _UNPACK),
    Kind(b"!<arch>\n", "an ar archive", _UNPACK),
    Kind(b"\x5d\x00\x00", "compressed with lzma (without a checksum)", _UNPACK),
    # Documents. ISO 32000-2, 7.5.2; [MS-CFB], 2.2; Rich Text Format 1.9.1.
    Kind(b"%PDF-", "PDF", "write its tables as CSV, or fetch the data that it was made of"),
    Kind(
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "an old Microsoft Office file",
        "save it as CSV or as .xlsx, if it is a table",
    ),
    Kind(b"{\\rtf", "RTF, a document", "save it as plain text, if it is a table"),
    Kind(b"%!PS", "PostScript, a document", _NO_TABLE),
    # Texts that are no table. RFC 2557, as Excel saves pages; SYLK, whose first record is Excel's own; RFC 7468;
    # RFC 5545; YAML 1.2, 6.8.1; what mysqldump, pg_dump and sqlite3 write first.
    Kind(b"MIME-Version:", "MHTML, a page with its pictures", "save its table as CSV or as .xlsx"),
    Kind(b"ID;PWXL", "SYLK, of a spreadsheet", "save it as CSV or as .xlsx"),
    Kind(b"-----BEGIN ", "a key, a certificate or encrypted", "decrypt it, or name the right file"),
    Kind(b"BEGIN:VCALENDAR", "a calendar (iCalendar)", _TO_PARQUET),
    Kind(b"BEGIN:VCARD", "a list of addresses (vCard)", _TO_PARQUET),
    Kind(b"%YAML", "YAML", _TO_PARQUET),
    Kind(b"#!/", "a script", _NO_TABLE),
    Kind(b"-- MySQL dump", "SQL, a dump of a database", _DUMP),
    Kind(b"-- MariaDB dump", "SQL, a dump of a database", _DUMP),
    Kind(b"--\n-- PostgreSQL database dump", "SQL, a dump of a database", _DUMP),
    Kind(b"PRAGMA foreign_keys=OFF;", "SQL, a dump of a database", _DUMP),
    Kind(b"PGDMP", "a dump of PostgreSQL", _DUMP),
    # Pictures, sound, programs: what is put among data by mistake.
    Kind(b"\x89PNG\r\n\x1a\n", "a picture (PNG)", _NO_TABLE),
    Kind(b"\xff\xd8\xff", "a picture (JPEG)", _NO_TABLE),
    Kind(b"GIF87a", "a picture (GIF)", _NO_TABLE, wordy=True),
    Kind(b"GIF89a", "a picture (GIF)", _NO_TABLE, wordy=True),
    Kind(b"II*\x00", "a picture (TIFF)", _NO_TABLE),
    Kind(b"MM\x00*", "a picture (TIFF)", _NO_TABLE),
    Kind(b"RIFF", "a RIFF file, of a picture or sound", _NO_TABLE, wordy=True),
    Kind(b"\x7fELF", "a program (ELF)", _NO_TABLE),
    Kind(b"MZ", "a program (Windows)", _NO_TABLE, wordy=True),
    # A pointer to what is not here (git-lfs, docs/spec.md).
    Kind(
        b"version https://git-lfs.github.com/spec/v1\n",
        "a pointer of Git LFS, not the file itself",
        "fetch the file: git lfs pull; from GitHub, its download URL begins with https://media.githubusercontent.com/media/",
    ),
)
