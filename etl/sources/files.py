"""Files on this machine: NDJSON, CSV, a JSON array or Parquet; plain, gzip, zip or zstd."""

from __future__ import annotations

import codecs
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Any, Literal, get_args

import msgspec

from etl.errors import SourceChanged, SourceError
from etl.sources import csv_rows, csv_types, decoding, json_array, lines, parquet
from etl.sources.csv_head import Options
from etl.sources.decoding import Compression, Damaged, Stream
from etl.sources.listing import Listed, listing
from etl.sources.place import Place
from sinks.page_cache import open_guest

Format = Literal["ndjson", "csv", "json", "parquet"]

# Decoded at once. Small enough for the records of a block to stay in the processor's cache: with 128 KiB, nested
# events take a tenth more time, flights out of CSV a quarter.
_BLOCK_BYTES = 32 << 10
_HEAD = 4096
_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"

_BY_SUFFIX: dict[str, Format] = {
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
_COMPRESSED = {".gz", ".gzip", ".zst", ".zstd"}


class Files:
    """Reads records out of files, and goes on where it was: after a stop, and when files grew or came.

    The order is that of `paths`, and by name within a glob or a directory. A later run goes on after the file
    that was read last: it takes what a plain NDJSON or CSV file has grown by since (that one file, no other), and
    the files that come after it in order. Files whose names sort before it are not seen: name files so that
    new ones come last. Files that were read may be deleted.

    Plain files are entered with a seek. Compressed ones are decompressed up to the cursor. One JSON array and
    NDJSON are UTF-8. A Parquet file is read as it is, not out of gzip, zip or zstd, which cannot be entered in the
    middle.

    A record that cannot be decoded becomes a dead letter or stops the job, as its `on_error` says, with file, line
    and byte. A file that is cut short or damaged stops the job in any case. A file of no bytes holds no records.

    Args:
        paths: one or several: files, globs (`**` goes through directories), directories (the files in it, not
            in directories below). A glob that matches nothing is an error, an empty directory is none.
        format: `ndjson`, `csv`, `json` (one array of objects), `parquet`; None: as the file's name ends, or else
            as its first bytes look; a name that ends in `.json` may be both, an array and NDJSON.
        compression: `none`, `gzip`, `zip`, `zstd`; None: as the file's first bytes say, whatever its name is.
            The members of a zip file are files of their own, in its order.
        types: the types of CSV columns by name: `string`, `integer`, `float`, `boolean`, `date`, `timestamp`
            (`csv_types` says what each takes). The types of other columns are inferred from the first 10,000
            rows, or the first MiB, of the first file that has them. They may be changed while the job is under way.
        delimiter: what separates CSV fields; None: one of `,` `;` tab `|`, whichever fits the first rows.
        header: True: the first line of a CSV file names its columns. False: it does not; they are called
            `column_1`, `column_2` … A list: it does not, and these are their names.
        null: words that stand for a missing value in CSV columns of every type, `""` among them only if it is
            given. Mind `NA` where it means Namibia.
        encoding: of CSV: one that writes ASCII as ASCII does, such as `utf-8`, `latin-1`, `cp1252`.

    Raises:
        ValueError: an argument is wrong. Nothing is read before `pull`.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        format: Format | None = None,
        compression: Compression | None = None,
        types: Mapping[str, str] | None = None,
        delimiter: str | None = None,
        header: bool | Sequence[str] = True,
        null: Sequence[str] = ("", "NA", "N/A", "NULL", "null"),
        encoding: str = "utf-8",
    ) -> None:
        self.paths = _paths(paths)
        self.format = _one_of("format", format, get_args(Format))
        self.compression = _one_of("compression", compression, get_args(Compression))
        for name, type_ in (types or {}).items():
            _one_of(f"types: {name}", type_, csv_types.TYPES)
        if format not in (None, "csv") and (types or delimiter or header is not True):
            raise ValueError(f"types, delimiter and header are for CSV, and format is {format!r}")
        if isinstance(null, str):
            raise ValueError(f"null is a list of words, not {null!r}")  # noqa: TRY004 - as every wrong argument
        self._options = Options(
            types=dict(types or {}),
            delimiter=_delimiter(delimiter),
            header=_header(header),
            nulls=frozenset(null),
            encoding=_encoding(encoding),
        )
        self._block_bytes = _BLOCK_BYTES
        self._progress: _Progress | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_progress": None}

    def fingerprint(self) -> str:
        """Return what gives cursors their meaning. Types and null words do not: changing them mends a job."""
        options = self._options
        return msgspec.json.encode(
            {
                "files": self.paths,
                "format": self.format,
                "compression": self.compression,
                "delimiter": options.delimiter,
                "header": options.header,
                "encoding": options.encoding,
            }
        ).decode()

    def progress(self) -> float | None:
        """Return the share of the bytes on disk that has been read, 0 to 1; None: nothing is known.

        Of the pull that began last, from its thread. What earlier runs have read counts as read.
        """
        return None if self._progress is None else self._progress.share()

    def pull(self, cursor: Any) -> Iterator[Any]:
        """Yield records, `Unreadable`s, and a `Mark` after each block, at the beginning and end of each file.

        Args:
            cursor: that of an earlier mark; None: the beginning.

        Raises:
            SourceError: a file cannot be read, is damaged or cut short, or a path names nothing.
            SourceChanged: a file is not what it was when the cursor was taken.
        """
        with closing(self._batches(Place.of(cursor))) as batches:
            for batch in batches:
                yield from batch
                # freed before the next is decoded, into the same memory, still in the processor's cache: a sixth
                del batch

    def _batches(self, at: Place | None) -> Generator[list[Any], None, None]:
        before, ahead = listing(self.paths, at)
        progress = self._progress = _Progress(before, ahead)
        types = {} if at is None else at.types
        for listed in ahead:
            resumed = at if at is not None and (at.entry, at.file) == listed else None
            if resumed is None or not resumed.done or resumed.offset is not None:
                types = yield from self._file(listed, resumed, types, progress)
            else:
                progress.passed(listed)

    def _file(
        self, listed: Listed, resumed: Place | None, types: dict[str, str], progress: _Progress
    ) -> Generator[list[Any], None, dict[str, str]]:
        """Read one file; returns the types of CSV columns that are known after it."""
        place = resumed or Place(file=listed.path, entry=listed.entry, offset=0, types=types)
        place.done = False
        try:
            file = open_guest(listed.path)
        except OSError as error:
            raise SourceError(
                f"{listed.path} cannot be opened ({error.strerror}): it was there when the files were listed, or "
                "may not be read; put it back or mend its permissions, and run again"
            ) from error
        with file:
            progress.reads(file)
            try:
                if (self.compression or decoding.compression_of(decoding.first_bytes(file))) == "zip":
                    yield from self._archive(file, place)
                else:
                    with decoding.decompressed(file, self.compression) as stream:
                        yield from self._content(stream, place, listed.path, progress)
            except Damaged as error:
                raise SourceError(
                    f"{place}: {error}; {place.record} records of it were read. Mend the file or fetch it again, "
                    "and run again: the job goes on from its last checkpoint"
                ) from error
            except OSError as error:
                raise SourceError(
                    f"{place} cannot be read ({error.strerror or error}); {place.record} records of it were read. "
                    "Mend the cause, and run again: the job goes on from its last checkpoint"
                ) from error
        progress.passed(listed)
        place.done = True
        yield [place.mark()]
        return place.types

    def _archive(self, file: IO[bytes], place: Place) -> Iterator[list[Any]]:
        """Read the members of a zip file; `place` goes from one to the next."""
        with decoding.archive(file) as opened:
            infos = decoding.members(opened)
            names = [info.filename for info in infos]
            if place.member is not None and place.member not in names:
                raise SourceChanged(
                    f"{place} is not there any more; the file's members are: {', '.join(names)}; put it back, or "
                    "start the job anew with another name and table"
                )
            first = names.index(place.member) if place.member is not None else 0
            for info in infos[first:]:
                if info.filename != place.member:
                    place.begin(info.filename)
                with decoding.member(opened, info) as content, decoding.decompressed(content, None) as stream:
                    yield from self._content(stream, place, info.filename, None)
        place.begin(None)
        place.offset = None

    def _content(
        self, stream: Stream, place: Place, name: str, progress: _Progress | None
    ) -> Iterator[list[Any]]:
        """Read one content from `place` to its end."""
        if place.offset == 0:
            yield [place.mark()]
        head = stream.peek(_HEAD)
        kind = self.format or _format_of(name, head)
        if not head and place.offset == 0:
            records: Iterator[list[Any]] = iter(())
        elif kind == "parquet":
            if progress is None or stream.compression != "none":
                raise Damaged(
                    "it is Parquet within a compressed file; Parquet compresses itself: store it plain"
                )
            place.offset = None
            records = parquet.read(place, progress.reached)
        else:
            _enter(stream, place, head, b"," if kind == "json" else b"\n")
            if kind == "ndjson":
                records = lines.read(stream, place, block=self._block_bytes)
            elif kind == "csv":
                records = csv_rows.read(stream, place, self._options, block=self._block_bytes)
            else:
                records = json_array.read(stream, place, block=self._block_bytes)
        yield from records
        if stream.compression != "none" or (kind == "json" and head):
            place.offset = None  # it is not looked at again, as a plain file is that may grow


class _Progress:
    """How much of all the files has been read, in bytes on disk."""

    def __init__(self, before: Sequence[Listed], ahead: Sequence[Listed]) -> None:
        self._sizes = {listed.path: _size(listed.path) for listed in (*before, *ahead)}
        self._total = sum(self._sizes.values())
        self._passed = sum(self._sizes[listed.path] for listed in before)
        self._file: IO[bytes] | None = None
        self._reached = 0.0

    def reads(self, file: IO[bytes]) -> None:
        """Count what is read of `file`."""
        self._file = file
        self._reached = 0.0

    def reached(self, share: float) -> None:
        """Note how much of the file has been read, where it is not read through."""
        self._reached = share

    def passed(self, listed: Listed) -> None:
        """Count a file as a whole."""
        self._passed += self._sizes[listed.path]
        self._file = None

    def share(self) -> float | None:
        """Return the share, 0 to 1."""
        if not self._total:
            return None
        read: float = self._passed
        if self._file is not None and not self._file.closed:
            name: str = self._file.name
            read += self._reached * self._sizes[name] if self._reached else self._file.tell()
        return min(read / self._total, 1.0)


def _enter(stream: Stream, place: Place, head: bytes, separator: bytes) -> None:
    """Bring a text to `place`, and see that a record can begin there."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Damaged("it is UTF-16; make it UTF-8 (iconv -f utf-16 -t utf-8)")
    if place.offset == 0:
        if head.startswith(_BOM):
            stream.read(len(_BOM))
            place.offset = len(_BOM)
        return
    offset = place.offset or 0
    last = stream.enter(offset)
    if not last:
        raise SourceChanged(
            f"{place} has become shorter than the {offset} bytes that were read of it: it was replaced or cut; "
            "put it back, or start the job anew with another name and table"
        )
    what = "line" if separator == b"\n" else "element"
    follows = stream.peek(2)
    # the last line may lack its end, and get it when the file grows
    ended = separator == b"\n" and (not follows or follows[:1] == b"\n" or follows == b"\r\n")
    if last != separator and not ended and (place.line or place.record):
        raise SourceChanged(
            f"{place} has no {what} that begins at byte {offset}, where "
            "reading stopped: it was replaced, or its last line was written on after it had been read; put it "
            "back, or start the job anew with another name and table"
        )


def _format_of(name: str, head: bytes) -> Format:
    """Tell the format by a file's name, or else by its first bytes."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    while suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    if head.startswith(b"PAR1"):
        return "parquet"
    first = head.removeprefix(_BOM).lstrip(_BLANK)[:1]
    if first == b"[":
        return "json"
    return "ndjson" if first == b"{" or suffix == ".json" else "csv"


def _paths(paths: Any) -> list[str]:
    listed = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not listed:
        raise ValueError("paths: name at least one file, glob or directory")
    for path in listed:
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
            raise ValueError(f"paths: {path!r} is no path")
        if "://" in os.fspath(path):
            raise ValueError(f"paths: {os.fspath(path)!r} is a URI; Files reads files of this machine")
    return [os.fspath(path) for path in listed]


def _one_of(what: str, word: Any, words: Sequence[str]) -> Any:
    if word is not None and word not in words:
        raise ValueError(f"{what}: {word!r} is none of: {', '.join(words)}")
    return word


def _delimiter(delimiter: str | None) -> str | None:
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n' or not delimiter.isascii()):
        raise ValueError(
            f"delimiter: {delimiter!r} is not one character of ASCII other than a quote or line end"
        )
    return delimiter


def _header(header: bool | Sequence[str]) -> bool | list[str]:
    if isinstance(header, bool):
        return header
    if isinstance(header, str) or not header or len(set(header)) < len(header) or not all(header):
        raise ValueError(f"header: {header!r} is neither true, false, nor a list of different names")
    return list(header)


def _encoding(encoding: str) -> str:
    try:
        name = codecs.lookup(encoding).name
        ascii_as_ascii = 'a",;\t|\r\n'.encode(name) == b'a",;\t|\r\n'
    except (LookupError, TypeError) as error:
        raise ValueError(f"encoding: {encoding!r} is not known to Python") from error
    if not ascii_as_ascii:
        raise ValueError(f"encoding: {encoding!r} does not write ASCII as ASCII does; make the files UTF-8")
    return name


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0  # opening it will say why
