"""Where a pull of files is: the file, and how far it has been read. The JSON form of it is the cursor."""

from __future__ import annotations

import copy
from typing import Any

import msgspec

from etl.errors import SourceError
from etl.records import Mark, Unreadable
from etl.sources.identity import Seen

# Enough of a broken record to fix it by; a dead letter holds no more of it.
_RAW_CHARACTERS = 8192
# What was taken after a mark is looked at as a whole before reading goes on: as much as one line may take.
_MOST_AHEAD = 64 << 20


class Version(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What tells one content of a file from another, as its keeper says it; None: it does not say.

    Attributes:
        tag: a word that is another one for every other content, such as a strong ETag (RFC 9110, section 8.8.3).
        weak_tag: a word that is another one for contents that mean something else, such as a weak ETag.
        modified: when it was changed, as its keeper writes it.
        length: its size in bytes.
        inode: of a file on this machine, the number by which its file system knows it.
    """

    tag: str | None = None
    weak_tag: str | None = None
    modified: str | None = None
    length: int | None = None
    inode: int | None = None


class Split(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the fields of the first CSV file of a job are divided; the others must be divided like it.

    Attributes:
        file: its name, as messages have it.
        delimiter: what separates its fields.
    """

    file: str
    delimiter: str


class Place(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A place between two records of a file; it moves on while the file is read.

    Attributes:
        file: the path, as it was listed.
        entry: which of the source's paths listed it, from 0.
        member: the member of an archive; None: the file itself.
        leading: a crc32c of what stands before the member in its archive.
        offset: the bytes before this place, decompressed, and in UTF-8 where the text is in an encoding that does not
            write ASCII as such; None: the file is not entered in the middle.
        line: the line ends before this place.
        record: the records before this place, the unreadable ones too.
        row_group: the row groups of a Parquet file before this place.
        done: the file was read to its end.
        columns: the names of a CSV file's columns, once they are known.
        delimiter: what separates them.
        quote: what stands around fields; nothing: quotes are text; None: as the job says, or else `"`.
        line_end: a carriage return, where lines may end in one by itself; None: they do not.
        version: what the file was when it was read, where its keeper tells; None: it is not compared.
        seen: what was read of it; None: that is not known.
        ahead: where the records end that may have been taken after this place, in bytes; 0: it is not known.
        ahead_crc: the crc32c of the bytes before that, which goes on from that of `seen`.
        types: the types of columns, by name, as this CSV file or one before it showed them first; `unknown`, where
            they have held nothing yet.
        split: how the first CSV file that was read is divided; None: there was none, or it has one column.
        within: the containers of a JSON document around this place, the innermost last; see `json_records`.
    """

    file: str
    entry: int = 0
    member: str | None = None
    leading: int = 0
    offset: int | None = None
    line: int = 0
    record: int = 0
    row_group: int = 0
    done: bool = False
    columns: list[str] | None = None
    delimiter: str | None = None
    quote: str | None = None
    line_end: str | None = None
    version: Version | None = None
    seen: Seen | None = None
    ahead: int = 0
    ahead_crc: int = 0
    types: dict[str, str] = {}
    split: Split | None = None
    within: list[str] = []

    def __str__(self) -> str:
        return self.file if self.member is None else f"{self.file} (member {self.member})"

    @classmethod
    def of(cls, cursor: Any) -> Place | None:
        """Read a cursor; None stays None.

        Raises:
            SourceError: it is none of this source.
        """
        if cursor is None:
            return None
        try:
            return msgspec.convert(cursor, cls)
        except msgspec.ValidationError as error:
            raise SourceError(
                f"{str(cursor)[:160]} is no cursor of files ({error}); it was made by another source or "
                "another version: start the job over with another name and table, or give another "
                "one to --from"
            ) from error

    def begin(self, member: str | None) -> None:
        """Go to the beginning of a member, or of the file itself."""
        self.member = member
        self.offset = self.line = self.record = self.row_group = 0
        self.columns = self.delimiter = self.quote = self.line_end = None
        self.within = []
        self.leading = self.ahead = self.ahead_crc = 0
        self.seen = Seen(of="text")

    def advance(self, data: bytes) -> None:
        """Move on behind what comes next in the text."""
        assert self.offset is not None
        self.offset += len(data)
        if self.seen is not None and self.seen.of != "file":
            self.seen.add(data)

    def seen_of_file(self) -> Seen:
        """Return what is known of the file's own bytes; it is moved on when more of them are read."""
        if self.seen is None or self.seen.of == "text":
            return Seen()
        if self.seen.of == "file":
            return self.seen
        own = copy.copy(self.seen)
        own.of = "file"
        return own

    def nothing_was_there(self) -> bool:
        """Say whether the file had no bytes when it was read: what is there now is begun with."""
        return self.done and self.seen is not None and not self.seen.upto

    def known(self) -> dict[str, Any]:
        """Return what a place in the next file is made with: what the files so far have shown of all."""
        return {"types": self.types, "split": self.split}

    def mark(self) -> Mark:
        """Make a mark of this place."""
        return PlaceMark(self)

    def on_line(self, lines: int, size: int) -> str:
        """Name a line for people: `lines` and `size` bytes after this place."""
        return f"{self}, line {self.line + lines + 1} (byte {(self.offset or 0) + size})"


class PlaceMark(Mark):
    """A mark of a place, which moves on while the records after it are handed out.

    Args:
        place: where it is now.
    """

    __slots__ = ("_place",)

    def __init__(self, place: Place) -> None:
        super().__init__(msgspec.to_builtins(place))
        self._place = place

    def cursor_within(self) -> Any:
        """Return the cursor, with what tells the bytes of the records that are handed out."""
        place, was = self._place, self.cursor
        if (
            place.seen is None
            or place.seen.of == "file"
            or place.offset is None
            or place.member != was.get("member")
        ):
            return was
        if not 0 < place.offset - (was["offset"] or 0) <= _MOST_AHEAD:
            return was
        return {**was, "ahead": place.offset, "ahead_crc": place.seen.crc}


def first_unreadable(records: list[Any]) -> int:
    """Return how many records stand before one that could not be decoded, if it is not the first one; else 0.

    A block is handed out up to there, so that what is corrected comes after a mark.
    """
    return next((number for number, record in enumerate(records) if type(record) is Unreadable), 0)


def unreadable(raw: bytes | str, where: str, why: str) -> Unreadable:
    """Make an `Unreadable` of what was found; bytes that are no text are escaped."""
    text = raw if isinstance(raw, str) else raw[:_RAW_CHARACTERS].decode(errors="backslashreplace")
    return Unreadable(text[:_RAW_CHARACTERS], f"{where}: {why}")
