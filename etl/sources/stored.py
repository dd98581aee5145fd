"""A content that is stored for as long as it is read: where it has to be read from its end and cannot be sought in."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from etl.errors import SourceError
from sinks import control_group
from sinks.errors import SinkError
from sinks.local_files import OpenFile
from sinks.page_cache import FileReader, choose, open_for_writing

# Of what is free on the disk, others need some; of a file system that is memory, a job may take a quarter.
_OF_DISK, _OF_MEMORY = 2, 4


class Stored:
    """A file without a name in the directory for temporary files, which is gone with this process.

    What is written to it and read of it is not left in the page cache.

    Args:
        shown: what is stored, for messages.
        most: how many bytes it may take.

    Raises:
        SourceError: no file can be made.
    """

    def __init__(self, shown: str, most: int) -> None:
        self._shown = shown
        self.directory = Path(tempfile.gettempdir())
        try:
            descriptor, name = tempfile.mkstemp(prefix="etl-", dir=self.directory)
            self._file = OpenFile(descriptor, Path(name))
            Path(name).unlink()
            self._most = min(most, _room(descriptor))
        except OSError as error:
            raise SourceError(
                f"{shown}: it has to be stored to be read, and no file can be made in {self.directory} "
                f"({error.strerror}): set TMPDIR to a directory on a disk"
            ) from error
        self._reader: FileReader | None = None

    def see_that_it_fits(self, size: int) -> None:
        """See that there is room for so many bytes.

        Raises:
            SourceError: there is not.
        """
        if size > self._most:
            raise SourceError(
                f"{self._shown}: it has to be read from its end, as zip and Parquet files are, and the server does "
                f"not send ranges: it would have to be stored, and is larger than the {self._most:,} bytes that may "
                f"be in {self.directory}: free some there, set TMPDIR to a directory on a larger disk, raise "
                "`stored_bytes`, or fetch it whole and read it with the source `files`"
            )

    def fill(self, pieces: Iterable[bytes]) -> int:
        """Store the content; returns its length in bytes.

        Raises:
            SourceError: it does not fit, or cannot be written. What `pieces` raises goes through.
        """
        size = 0
        try:
            with open_for_writing(self._file) as writer:
                for piece in pieces:
                    size += len(piece)
                    self.see_that_it_fits(size)
                    writer.write(piece)
        except SinkError as error:
            raise SourceError(f"{self._shown}: it has to be stored to be read: {error}") from error
        self._reader = FileReader(self._file, 0, size)
        return size

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes from `offset` on, `size` at most."""
        assert self._reader is not None
        self._reader.seek(offset)
        return self._reader.read(size)

    def close(self) -> None:
        """Free the space. May be repeated."""
        with suppress(SinkError):
            (self._reader or self._file).close()


def _room(descriptor: int) -> int:
    """Return how many bytes a file may take where this one is."""
    disk = os.fstatvfs(descriptor)
    free = disk.f_bavail * disk.f_frsize
    if not choose(descriptor, "auto").memory:
        return free // _OF_DISK
    found = control_group.read()
    limit = found.limit if found else None
    return free // _OF_MEMORY if limit is None else min(free, limit) // _OF_MEMORY
