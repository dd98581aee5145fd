"""One file that grows: a part is a range of its bytes."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from sinks import locks
from sinks.base import SealedPart
from sinks.errors import PartLost, SinkError, SinkOccupied
from sinks.local_files import OpenFile, explained, locate, names, sync_directory, unlink, uri
from sinks.own_files import open_existing, see
from sinks.page_cache import Policy
from sinks.parts import FilePart, LocalSink, Part, check, check_places


class BigFile(LocalSink):
    """Writes all parts one behind the other into one file.

    The file is locked (flock, exclusive) from the first use until `close`; the kernel drops the lock with
    the process. What follows the last sealed byte is cut off when the job is resumed.

    Args:
        path: the file.
        policy: how the page cache is kept small: "auto" as suits the file system, "write_behind", "fdatasync",
            "direct", "uncached", or "keep": not at all.
    """

    slots: int | None = None
    lasting: bool = True

    def __init__(self, path: str | os.PathLike[str], *, policy: Policy = "auto") -> None:
        super().__init__(path, policy)
        self._file: OpenFile | None = None
        self._ours = False  # whether this job made the file
        self._marks = re.compile(rf"\.{re.escape(self.path.name)}\.after-(\d+)-\d+-[0-9a-f]{{8}}")
        self._after: tuple[Path, int] | None = None  # the mark that stands beside the file, and of which part
        self._end = 0  # the offset after the last sealed byte

    def occupied_by(self) -> str | None:
        """Return the path if the file exists and is not empty, or None."""
        with explained("look at", self.path):
            try:
                return str(self.path) if self.path.stat().st_size else None
            except FileNotFoundError:
                return None

    def recover(
        self,
        sealed: Sequence[SealedPart],
        last: SealedPart | None,
        *,
        epoch: int = 0,  # noqa: ARG002 - it counts on shared storage alone
    ) -> None:
        """Check the ranges of `sealed`, then cut the file back to the end of `last`.

        A file that is gone while nothing of it waits to be loaded is begun again from offset 0: it went with
        its machine. An empty file beside it, named after `last`, says so until a part after `last` is
        committed; without it a crash in between would look like a file that somebody cut.

        Raises:
            SinkOccupied: another process has the file, or it is not the one that `last` is in.
            PartLost: a part of `sealed` is damaged, or the file is shorter than it was.
            SinkError: anything else.
        """
        check_places(sealed, [self.path] * len(sealed), self)
        file = self._file or self._open(create=False)
        marks = [path for path, _ in names(self.path.parent, self._marks)]
        for path in marks:  # another user's would have the file cut
            with explained("trust", path):
                see(path)
        mark = self._mark(last) if last else None
        end = 0
        if file is not None:
            if sealed or mark not in marks:
                end = self._check(file, sealed, last)
            self._abort_open()
            if file.size != end:
                file.truncate(end)
                # Should the job end without another part, nothing else would keep the tail from coming back.
                file.sync()
        elif sealed:
            raise PartLost(f"{self.path} is missing; put it back, or its parts must be written again")
        elif mark is not None and mark not in marks:
            OpenFile.create(mark).close()
            sync_directory(mark.parent)
            marks.append(mark)
        for path in marks:
            if path != mark:
                unlink(path)
        # Known from here on: to list the directory at each release would take longer with each file in it.
        self._after = (mark, last.sequence) if last and mark and mark in marks else None
        self._ours = self._ours or last is None
        self._end = end
        self._start(last)

    def open_part(self, sequence: int, *, epoch: int = 0) -> Part:  # noqa: ARG002
        """Open part `sequence` at the end of the file.

        Raises:
            SinkOccupied: another process has the file, or it holds what this sink did not write.
            SinkFull: there is no space.
            SinkError: anything else.
        """
        self._expect(sequence)
        file = self._file
        if file is None:
            file = self._open(create=True)
            assert file is not None
            if file.size:
                self.close()
                raise SinkOccupied(
                    f"{self.path} is not empty, and this sink did not write it; move it away, choose another "
                    "path, or `recover` the job that it belongs to"
                )
            self._end = 0
        self._current = _Range(self, sequence, file, self._end)
        return self._current

    def release(self, part: SealedPart) -> None:
        """Keep the part: the file is the result. What is released was committed, so no mark is needed."""
        if self._after is not None and self._after[1] < part.sequence:
            unlink(self._after[0])
            self._after = None

    def close(self) -> None:
        """Close the file, which drops its lock; remove it if this job made it and nothing is in it."""
        self._abort_open()
        file, self._file = self._file, None
        if file is not None:
            if self._ours and not file.size and file.in_place:
                unlink(self.path)
            self._ours = False
            file.close()

    def _moved(self, path: Path) -> Path:  # noqa: ARG002 - a link to the file may have another name
        return self.path

    def _check(self, file: OpenFile, sealed: Sequence[SealedPart], last: SealedPart | None) -> int:
        """Check that this is the job's file with the parts in it, and return where the last one ends."""
        if last is None:
            return 0
        location = locate(last.uri)
        end = location.end or 0
        if location.path != self.path:
            raise SinkOccupied(f"{self.path} exists, but the job wrote {location.path}; use that path again")
        if file.size < end:
            raise PartLost(
                f"{self.path} has {file.size:,} bytes where {end:,} were sealed: somebody cut it; put it back, "
                "or move it away to begin a new file"
            )
        for part in (*sealed, last):  # the last one too: what follows it is about to be cut off
            check(part, whole=False)
        return end

    def _mark(self, last: SealedPart) -> Path:
        """Return the path whose existence says that all of the file was written after `last`."""
        name = f".{self.path.name}.after-{last.sequence}-{last.bytes}-{last.crc32c:08x}"
        return self.path.with_name(name)

    def _open(self, *, create: bool) -> OpenFile | None:
        """Open and lock the file; None: it does not exist, and is not to be created."""
        for _ in range(10):  # it may be created or unlinked by another process between two steps
            file = self._existing()
            if file is None:
                if not create:
                    return None
                with suppress(SinkOccupied):  # somebody else created it in between
                    OpenFile.create(self.path).close()
                    self._ours = True
                    file = self._existing()
            if file is not None and self._lock(file):
                self._file = file
                return file
        raise SinkOccupied(f"{self.path} cannot be held: it comes and goes, or is a symbolic link to nothing")

    def _existing(self) -> OpenFile | None:
        with explained("open", self.path):
            try:
                return locks.opened(partial(open_existing, self.path, os.O_RDWR), self.path)
            except FileNotFoundError:
                return None

    def _lock(self, file: OpenFile) -> bool:
        """Lock the file; return False if it lost its name in the meantime, and so protects nothing."""
        with explained("lock", self.path):
            locked = locks.lock(file)
        if not locked:
            raise SinkOccupied(
                f"{self.path} is open in another process, or in another sink of this one: one job at a "
                f"time; wait until it ends (`fuser {self.path}` names it), or choose another path"
            )
        return file.in_place

    def _wrote(self, end: int) -> None:
        """Note that everything up to the offset `end` is sealed."""
        self._end = end

    def _held_bytes(self) -> int:
        return self._end

    def __reduce__(self) -> tuple[partial[BigFile], tuple[()]]:
        return partial(BigFile, self.path, policy=self.policy), ()


class _Range(FilePart):
    def __init__(self, sink: BigFile, sequence: int, file: OpenFile, start: int) -> None:
        super().__init__(sink, sequence, file, start)
        self._sink = sink
        self._first = start

    def _uri(self) -> str:
        return uri(self._file.path, self._first, self._first + self.bytes)

    def _finish(self, sealed: SealedPart) -> None:
        self._store()
        if not self._file.in_place:
            raise SinkError(
                f"{self._file.path} was moved or replaced while part {self.sequence} was written; put it "
                "back and run again"
            )
        sync_directory(self._file.path.parent)
        self._sink._wrote(self._first + sealed.bytes)

    def _undo(self) -> None:
        self._writer.abandon()
        self._file.truncate(self._first)
