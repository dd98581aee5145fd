"""The content of one file, wherever it is: decompressed, decoded, from a place to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, get_args

import msgspec

from etl.field_types import FieldTypes, merged
from etl.records import Declarations, nobody
from etl.sources import (
    archives,
    csv_options,
    csv_rows,
    decoding,
    encodings,
    json_content,
    json_decoder,
    json_layout,
    json_path,
    member_heads,
    office,
    parquet,
    recognition,
    workbook,
)
from etl.sources.archives import Archive
from etl.sources.bounds import Bounds
from etl.sources.compressions import Compression, Readable, compression_of
from etl.sources.csv_dialect import is_tsv
from etl.sources.decoding import Stream
from etl.sources.encodings import Utf8
from etl.sources.entering import enter
from etl.sources.identity import Seen
from etl.sources.member_walk import Walk
from etl.sources.members import Shape, checked_members
from etl.sources.place import Place
from etl.sources.recognition import HEAD_BYTES, UTF8, Format, Recognised
from etl.sources.refusals import Refused, Replaced
from etl.sources.tar import Tar, is_tar

# Decoded at once. Small enough for the records of a block to stay in the processor's cache: with 128 KiB, nested
# events take a tenth more time, flights out of CSV a quarter.
_BLOCK_BYTES = 32 << 10
# Of 900 kB at most (bzip2's manual, section 2): its checksum comes after it.
_BLOCK_OF_BZIP2 = 1 << 20
# What a workbook may begin with: a zip file; OLE's compound file ([MS-CFB], section 2.2).
_WORKBOOKS = (b"PK\x03\x04", office.OLE)

# So many files are told of what was found out about them.
_TOLD = 20


class Content:
    """How the content of files is decoded; `ContentOptions` documents the arguments.

    Attributes:
        field_types: what the files that were read since `begin` say of the types of their fields.

    Raises:
        ValueError: an argument is wrong.
    """

    def __init__(
        self,
        *,
        format: Format | None = None,
        compression: Compression | None = None,
        members: str | Sequence[str] | None = None,
        sheet: str | int | None = None,
        types: Mapping[str, str] | None = None,
        delimiter: str | None = None,
        header: bool | Sequence[str] = True,
        null: Sequence[str] | None = None,
        encoding: str = "utf-8",
        records: str | None = None,
        skip_lines: int = 0,
        quote: str | None = None,
        escape: str | None = None,
        comment: str | None = None,
        skip_footer: int = 0,
        skip_initial_space: bool = False,
        max_record_bytes: int | None = None,
    ) -> None:
        self.format = one_of("format", format, get_args(Format))
        self.compression = one_of("compression", compression, get_args(Compression))
        self._options = csv_options.checked(
            types=types,
            delimiter=delimiter,
            header=header,
            null=null,
            encoding=encoding,
            skip_lines=skip_lines,
            quote=quote,
            escape=escape,
            comment=comment,
            skip_footer=skip_footer,
            skip_initial_space=skip_initial_space,
        )
        self._chosen = checked_members(members)
        self._sheet = workbook.checked(sheet)
        if format not in (None, "csv") and (said := self._options.said()):
            raise ValueError(f"{', '.join(said)}: for CSV, and format is {format!r}")
        self._records = json_path.checked(records)
        if records is not None and format in ("csv", "parquet"):
            raise ValueError(f"records is the path of rows in JSON, and format is {format!r}")
        self.told: list[str] = []
        self._envelopes: set[str] = set()
        self._block_bytes = _BLOCK_BYTES
        if max_record_bytes is not None and max_record_bytes < 1:
            raise ValueError(f"max_record_bytes: {max_record_bytes} is not greater than 0")
        self._most_of_record = max_record_bytes
        self._bounds: Bounds | None = None
        self.field_types: FieldTypes = {}

    def begin(self) -> None:
        """Forget what was said of fields: a pull begins."""
        self.field_types = {}

    def take_memory(self, memory: int | None) -> None:
        """Bound what is held by what the job may take; see `etl.records.TakesMemory`."""
        self._bounds = Bounds.of(memory, record=self._most_of_record)

    @property
    def bounds(self) -> Bounds:
        """What of a content may be held at once."""
        return self._bounds or Bounds.here(record=self._most_of_record)

    def _describe(self, types: FieldTypes) -> None:
        """Note what a file says of its fields, beside what those before it said."""
        self.field_types = merged(self.field_types, types)

    def fingerprint(self) -> dict[str, Any]:
        """Return what gives cursors their meaning. Types and null words do not: changing them fixes a job."""
        options = self._options
        return {
            "format": self.format,
            "compression": self.compression,
            "delimiter": options.delimiter,
            "header": options.header,
            "encoding": options.encoding,
            **options.fingerprint(),
            **({"records": self._records} if self._records else {}),
            **({"members": self._chosen} if self._chosen else {}),
            **({"sheet": self._sheet} if self._sheet is not None else {}),
        }

    def declare(self, declared: Declarations) -> None:
        """Take what was declared of fields elsewhere; see `etl.records.TakesDeclared`."""
        self._options = msgspec.structs.replace(self._options, declared=declared)

    def __getstate__(self) -> dict[str, Any]:
        options = msgspec.structs.replace(self._options, declared=nobody)
        return {**self.__dict__, "_options": options, "_bounds": None}

    def _tell(self, said: str) -> None:
        if len(self.told) < _TOLD:
            self.told.append(said)

    def read(
        self,
        file: IO[bytes],
        place: Place,
        name: str,
        advance: Callable[[float], None],
        grows: Callable[[], bool] = decoding.never,
    ) -> Iterator[list[Any]]:
        """Decode a file from `place` to its end; yields lists of records with marks, the last one excepted.

        Args:
            file: a binary file at its beginning that can `peek`; where it is plain, zip or Parquet, `seek` too.
            place: where to begin; moved on with what was read.
            name: what tells the format when nothing else does: the end of the path.
            advance: told the share of the file that has been read, where it is not read from front to back.
            grows: says, at its end, whether more of it may come.

        Raises:
            Unended: the last record may be half of one, and was not taken.
            Damaged: it cannot be decoded; `Refused`: it is of a kind that is not read.
            Replaced: it is not what it was when `place` was taken.
            SourceChanged: it has fewer rows than it had, or none begins at `place`.
            SourceError: it cannot be read for another reason.
            OSError: what `file` raised.
        """
        head = decoding.first_bytes(file)
        if head and (self.compression or compression_of(head)) == "zip":
            with archives.opened(file, self.bounds.directory) as opened:
                if office.is_workbook(opened):
                    file.seek(0)
                    yield from self._workbook(file, place, member=False)
                else:
                    yield from self._members(archives.Zip(opened, self.bounds.window), place, None, 0)
        else:
            with decoding.decompressed(file, self.compression, window=self.bounds.window) as stream:
                stream.grows = grows
                yield from self._content(stream, place, name, file, advance)

    def _members(
        self, archive: Archive, place: Place, within: str | None, leading: int
    ) -> Iterator[list[Any]]:
        if place.member == within and place.offset != 0:
            raise Replaced(f"it is a {archive.kind}, and was none")
        return Walk(
            archive, place, within, leading, self._chosen, self._shape, self._content, self.bounds
        ).read()

    def _shape(self, stream: Stream, place: Place, name: str) -> Shape | None:
        head = stream.peek(member_heads.HEAD_BYTES)
        if not head or is_tar(head):
            return None
        member = Place(file=place.file, member=name)
        if head.startswith(_WORKBOOKS):
            return member_heads.shape_of("workbook", head, member, self._options)
        try:
            found = recognition.recognise(head, name, self.format, self._options)
        except Refused as error:
            return Shape(error.kind, None)  # met again where it is read, unless it is refused among others
        head, encoding = head[found.reading.mark :], found.reading.encoding
        if found.reading.in_stream:
            head, encoding = encodings.decoded(head, found.reading._replace(mark=0)).encode(), "utf-8"
        options = msgspec.structs.replace(self._options, encoding=encoding)
        return member_heads.shape_of(found.format, head, member, options)

    def _expect_no_records(self, found: str) -> None:
        if self._records is not None:
            raise Refused(
                found,
                f"it is {found}, and `records` names the path of rows in JSON",
                "leave `records` out, or name the right file",
            )

    def _workbook(self, file: Readable, place: Place, *, member: bool) -> Iterator[list[Any]]:
        """Read a workbook, or refuse what looks like one: a zip file or an OLE file at its beginning."""
        bounds = self.bounds
        data = office.held(file, bounds)
        if place.offset or (place.member is not None and not member):
            raise Replaced("it is a workbook, and was none")
        if member:
            before, place.seen = place.seen, Seen(of="text")
            place.seen.add(data)
            if place.offset is None and before is not None and before.of == "text" and before != place.seen:
                raise Replaced("its bytes are others now")
        self._expect_no_records("a workbook")
        if self.format is not None:
            raise Refused(
                "workbook",
                f"it is a workbook, and `format` says that it is {self.format}",
                "leave `format` out",
            )
        yield from workbook.read(data, place, self._options, self._sheet, bounds.workbook)

    def _content(
        self,
        stream: Stream,
        place: Place,
        name: str,
        file: IO[bytes] | None,
        advance: Callable[[float], None] | None,
    ) -> Iterator[list[Any]]:
        """Read one content from `place` to its end; `file` is what it is read from, if that can be entered anywhere."""
        head = stream.peek(HEAD_BYTES)
        if is_tar(head):
            if place.offset == 0:
                place.seen = Seen(of="text")
                yield [place.mark()]
            within = None if file is not None else name
            yield from self._members(Tar(stream), place, within, stream.leading)
            return
        if file is not None and place.member is not None:
            raise Replaced("it is no archive, and was one")
        if head.startswith(_WORKBOOKS):
            yield from self._workbook(stream, place, member=file is None)
            return
        # before the first mark: what is refused may be another content when it is asked for again
        try:
            kind, reading = (
                recognition.recognise(head, name, self.format, self._options)
                if head
                else Recognised("ndjson", UTF8)
            )
        except Refused:
            if not stream.plain:
                stream.read(_BLOCK_OF_BZIP2)  # what is damaged is rubbish up to the checksum that says so
            raise
        if kind in ("csv", "parquet"):
            self._expect_no_records(recognition.NAMES[kind])
        if kind == "parquet" and file is not None:
            file.seek(0)  # it is not read from where it was looked at
        if place.offset == 0:
            if kind != "parquet":
                place.seen = Seen(of="text")
            yield [place.mark()]
        if not head and place.offset == 0:
            if place.ahead:
                raise Replaced("it holds nothing any more")
            place.offset = 0 if stream.plain else None
            return
        if kind == "parquet":
            if file is None or advance is None or not stream.plain:
                raise Refused(
                    "Parquet",
                    "it is Parquet within a compressed file",
                    "Parquet compresses itself: store it plain",
                )
            if place.offset:
                raise Replaced("it is Parquet, and was none")
            place.offset = None
            records = parquet.read(file, place, advance, self._describe)
        else:
            if reading.in_stream:
                text = Stream(Utf8(stream, reading), "none", (), plain=stream.plain)
                text.grows, stream, reading = stream.grows, text, UTF8
            head = stream.peek(HEAD_BYTES)
            if kind == "ndjson" and self.format is None:
                whole = len(head) < HEAD_BYTES
                kind = json_layout.layout(name, head, whole, records=self._records is not None)
            yield from enter(stream, place, json_content.separators(kind, head, self._records))
            if kind == "csv":
                options = msgspec.structs.replace(self._options, encoding=reading.encoding)
                records = csv_rows.read(
                    stream,
                    place,
                    options,
                    block=self._block_bytes,
                    longest=self.bounds.row,
                    tabs=is_tsv(name),
                    tell=self._tell,
                    describe=self._describe,
                )
            else:
                records = json_content.read(
                    stream,
                    place,
                    kind,
                    head,
                    self._records,
                    self._envelopes,
                    block=self._block_bytes,
                    decoder=json_decoder.decoder(self._options.declared, self.bounds.record),
                )
        yield from records
        if not stream.plain or kind == "json":
            place.offset = None  # it is not looked at again, as a plain file is that may grow


def one_of(what: str, word: Any, words: Sequence[str]) -> Any:
    """Return `word`, if it is None or one of `words`; else raise ValueError."""
    if word is not None and word not in words:
        raise ValueError(f"{what}: {word!r} is none of: {', '.join(words)}")
    return word
