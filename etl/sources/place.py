"""Where a pull of files is: the file, and how far it has been read. The JSON form of it is the cursor."""

from __future__ import annotations

from typing import Any

import msgspec

from etl.errors import SourceError
from etl.records import Mark, Unreadable
from etl.sources.identity import Seen

# Enough of a broken record to mend it by; a dead letter holds no more of it.
_RAW_CHARACTERS = 8192


class Version(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What tells one content of a file from another, as whoever keeps the file says it; None: it does not say.

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
        member: the member of a zip file; None: the file itself.
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
        seen: what was read of it, up to this place or a little further; None: that is not known.
        types: the types of columns, by name, as this CSV file or one before it showed them first; `unknown`, where
            they have held nothing yet.
        split: how the first CSV file that was read is divided; None: there was none, or it has one column.
        within: the containers of a JSON document around this place, the innermost last; see `json_records`.
    """

    file: str
    entry: int = 0
    member: str | None = None
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
                "another version: start the job anew with another name and table, or give another "
                "one to --from"
            ) from error

    def begin(self, member: str | None) -> None:
        """Go to the beginning of a member, or of the file itself."""
        self.member = member
        self.offset = self.line = self.record = self.row_group = 0
        self.columns = self.delimiter = self.quote = self.line_end = None
        self.within = []

    def nothing_was_there(self) -> bool:
        """Say whether the file had no bytes when it was read: what is there now is begun with."""
        return self.done and self.seen is not None and not self.seen.upto

    def known(self) -> dict[str, Any]:
        """Return what a place in the next file is made with: what the files so far have shown of all."""
        return {"types": self.types, "split": self.split}

    def mark(self) -> Mark:
        """Make a mark of this place."""
        return Mark(msgspec.to_builtins(self))

    def on_line(self, lines: int, size: int) -> str:
        """Name a line for people: `lines` and `size` bytes after this place."""
        return f"{self}, line {self.line + lines + 1} (byte {(self.offset or 0) + size})"


def unreadable(raw: bytes | str, where: str, why: str) -> Unreadable:
    """Make an `Unreadable` of what was found; bytes that are no text are escaped."""
    text = raw if isinstance(raw, str) else raw[:_RAW_CHARACTERS].decode(errors="backslashreplace")
    return Unreadable(text[:_RAW_CHARACTERS], f"{where}: {why}")
