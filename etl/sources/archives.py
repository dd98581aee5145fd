"""Archives: what they have in common; and zip files, whose members are entered in any order."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import IO, ClassVar, NamedTuple, Protocol

from etl.sources import compressions, zip_directory, zip_members, zip_methods
from etl.sources.bounds import UNLIMITED
from etl.sources.refusals import Damaged, Refused
from sinks import checksum


class Member(NamedTuple):
    """A file of an archive.

    Attributes:
        name: its path in the archive.
        open: opens it, to be read once, before the next one is asked for; None: it is a link, and has no content.
    """

    name: str
    open: Callable[[], AbstractContextManager[IO[bytes]]] | None


class Archive(Protocol):
    """Hands out the members of an archive, in its own order.

    Attributes:
        kind: what it is, for messages.
        at_random: whether `members` may be asked for more than once, and passing one over costs nothing.
        leading: while a member is handed out, a crc32c of the names and contents before it, or of what tells them.
    """

    kind: ClassVar[str]
    at_random: ClassVar[bool]
    leading: int

    def members(self) -> Iterator[Member | None]:
        """Yield the members, no directories; None now and then, where it takes long to come to the next one.

        Raises:
            Damaged: it cannot be read.
        """
        ...


@contextmanager
def opened(file: IO[bytes], most: int = UNLIMITED.directory) -> Iterator[zipfile.ZipFile]:
    """Open a zip file.

    Args:
        file: it can `seek`.
        most: how much memory its directory may take, which is held as a whole.

    Raises:
        Damaged: it is none, or cut short: its directory is at its end.
        Refused: it has too many members.
    """
    try:
        zip_directory.see_that_it_fits(file, most)
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError) as error:
        file.seek(0)
        raise _without_directory(error, file.read(4)) from error
    with archive:
        yield archive


class Zip:
    """The members of a zip file.

    Args:
        archive: the file.
        window: how many bytes a decompressor may hold of what it has written.
    """

    kind: ClassVar[str] = "zip file"
    at_random: ClassVar[bool] = True

    def __init__(self, archive: zipfile.ZipFile, window: int = UNLIMITED.window) -> None:
        self._archive = archive
        self._window = window
        self.leading = 0

    def members(self) -> Iterator[Member]:
        """Yield the members.

        Raises:
            Refused: two have the same name, so that a cursor could not tell them apart.
        """
        found = set()
        self.leading = 0
        for info in self._archive.infolist():
            if info.is_dir():
                continue
            if info.filename in found:
                raise Refused(
                    "zip", f"two of its members are called {info.filename!r}", "unpack it, or pack it again"
                )
            found.add(info.filename)
            yield Member(info.filename, partial(self._opened, info))
            told = f"{info.filename}\0{info.CRC}\0{info.file_size}\0"
            self.leading = checksum.extend(self.leading, told.encode("utf-8", "surrogateescape"))

    def _opened(self, info: zipfile.ZipInfo) -> AbstractContextManager[IO[bytes]]:
        """Open a member.

        Raises:
            Damaged: it is not where the directory says, or not whole.
            Refused: it is encrypted, or packed by a method that Python does not know.
        """
        zip_methods.see_that_it_can_be_read(info)
        try:
            if info.compress_type in zip_members.METHODS:
                return zip_members.opened(self._archive, info, self._window)
            return self._archive.open(info)
        except (zipfile.BadZipFile, RuntimeError, OSError, ValueError) as error:
            raise compressions.damaged(error, "zip") from error


def _without_directory(error: Exception, head: bytes) -> Damaged:
    """Say what is wrong with a zip file that cannot be opened."""
    if compressions.compression_of(head) != "zip":
        return Damaged(
            f"it is no zip file, as `compression` says it is: it begins with {head!r}",
            "Leave `compression` out, or correct it",
        )
    if isinstance(error, zipfile.BadZipFile) and "not a zip file" in str(error):
        return Damaged(
            "it is no whole zip file: it is cut short, for its directory, which stands at the end, is not there",
            "Fetch it again, or wait until its writer is done",
        )
    return compressions.damaged(error, "zip")
