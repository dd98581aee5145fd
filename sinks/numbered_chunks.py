"""A file for each part: `job-000001.ndjson`, `job-000002.ndjson` and so on."""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from sinks.base import SealedPart
from sinks.errors import PartLost, SinkOccupied
from sinks.local_files import OpenFile, explained, names, sync_directory, unlink, uri
from sinks.page_cache import Policy, transit
from sinks.parts import FilePart, LocalSink, Part, check, check_places

NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class NumberedChunks(LocalSink):
    """Writes each part to a file of its own, which never changes once it has its name.

    A part is written under a temporary name in the same directory and gets its own when it is sealed, in
    one step that never replaces a file: of two processes that race for a number only one gets it.

    Args:
        path: `out/job.ndjson` gives `out/job-000001.ndjson` and so on; of several suffixes all are kept.
        keep: whether chunks outlive their release; if not, they are deleted then.
        policy: how the page cache is kept small: "auto" as suits the file system, "write_behind", "fdatasync",
            "direct", "uncached", or "keep": not at all.
        private: whether others may not read the chunks (0600), whatever the umask lets them read; the group may where
            the umask lets it write.
    """

    slots: int | None = None

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        keep: bool = True,
        policy: Policy = "auto",
        private: bool = False,
    ) -> None:
        super().__init__(path, policy)
        self.keep = keep
        self.private = private
        self.lasting = keep
        number = r"-(\d{6}|[1-9]\d{6,})"
        self._chunks = re.compile(self._pattern(number))
        self._held: int | None = None  # how many bytes its chunks take; None: nobody has asked yet
        self._open_chunks = re.compile(rf"\.{self._pattern(number)}\.[0-9a-f]{{16}}\.open")

    def occupied_by(self) -> str | None:
        """Return the path of a chunk that exists, or None."""
        return next((str(path) for path, _ in names(self.path.parent, self._chunks)), None)

    def recover(
        self,
        sealed: Sequence[SealedPart],
        last: SealedPart | None,
        *,
        epoch: int = 0,  # noqa: ARG002 - it counts on shared storage alone
    ) -> None:
        """Keep the chunks up to `last` (with `keep=False`: those in `sealed`), delete all others.

        Raises:
            SinkOccupied: those after `last` are another job's: `last` is not what was sealed.
            PartLost: a part of `sealed` is missing or damaged.
            SinkError: anything else.
        """
        check_places(sealed, [self._chunk(part.sequence) for part in sealed], self)
        for part in sealed:
            check(part, whole=True, in_transit=not self._durable)
        self._abort_open()
        highest = last.sequence if last else 0
        wanted = {part.sequence for part in sealed}
        # Chunks are listed before temporary files, and deleted after them. So whatever a half-dead process
        # was about to name over a chunk listed here is gone before the chunk is, and its attempt fails.
        chunks = names(self.path.parent, self._chunks)
        if self.keep and last and any(number > highest for _, number in chunks):
            self._check_own(last)
        gone = [unlink(path) for path, _ in names(self.path.parent, self._open_chunks)]
        gone += [
            unlink(path) for path, number in chunks if number > highest or not (self.keep or number in wanted)
        ]
        if any(gone):
            # Should the job end without another part, nothing else would keep a stray chunk from coming back.
            sync_directory(self.path.parent)
        self._held = None
        self._start(last)

    def open_part(self, sequence: int, *, epoch: int = 0) -> Part:  # noqa: ARG002
        """Open part `sequence` under a temporary name.

        Raises:
            SinkOccupied: a chunk of that number exists, and is not part of the job as it was recovered.
            SinkFull: there is no space.
            SinkError: anything else.
        """
        self._expect(sequence)
        self._current = _Chunk(self, sequence, self._chunk(sequence))
        return self._current

    def release(self, part: SealedPart) -> None:
        """Delete the chunk with `keep=False`; otherwise do nothing."""
        if not self.keep:
            transit.leave(self._chunk(part.sequence))
            # Not synced: if the name comes back after a power cut, `recover` deletes it.
            if unlink(self._chunk(part.sequence)) and self._held is not None:
                self._held -= part.bytes

    def close(self) -> None:
        """Abort a part that is open still."""
        self._abort_open()

    def _check_own(self, last: SealedPart) -> None:
        """Make sure that chunks that are about to be deleted are not those of another job, begun here since.

        Where the last one was moved away, there is nothing to compare.
        """
        path = self._chunk(last.sequence)
        if not os.path.lexists(path):
            return
        try:
            check(replace(last, uri=uri(path)), whole=True)
        except PartLost as error:
            raise SinkOccupied(
                f"{path} is not what this job wrote, and what comes after it is not known to the job: another one "
                "writes here. Move that away, or choose another path"
            ) from error

    def _chunk(self, sequence: int) -> Path:
        return self.path.with_name(self._name(f"-{sequence:06d}"))

    def _held_bytes(self) -> int:
        if self._held is None:  # looked up once: with each part it would take longer
            self._held = 0
            for path, _ in names(self.path.parent, self._chunks):
                with explained("look at", path), suppress(FileNotFoundError):
                    self._held += path.stat().st_size
        return self._held

    def _left(self, sealed: SealedPart | None) -> None:
        super()._left(sealed)
        if sealed and self._held is not None:
            self._held += sealed.bytes

    def __reduce__(self) -> tuple[partial[NumberedChunks], tuple[()]]:
        return partial(
            NumberedChunks, self.path, keep=self.keep, policy=self.policy, private=self.private
        ), ()


class _Chunk(FilePart):
    def __init__(self, sink: NumberedChunks, sequence: int, path: Path) -> None:
        if os.path.lexists(path):  # would fail at the seal; better before the work than after it
            raise SinkOccupied(f"{path} exists already; move it away, or choose another path")
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.open")
        self._identity: tuple[int, ...] = ()
        super().__init__(sink, sequence, OpenFile.create(self._temporary, private=sink.private))

    def _uri(self) -> str:
        return uri(self._path)

    def _finish(self, sealed: SealedPart) -> None:  # noqa: ARG002
        self._store()
        with explained("look at", self._temporary):
            self._identity = _identity(os.fstat(self._file.descriptor))
        self._writer.close()
        self._file.close()
        _name(self._temporary, self._path)
        unlink(self._temporary)
        if self._durable:
            sync_directory(self._path.parent)

    def _undo(self) -> None:
        self._writer.abandon()
        self._file.close()
        transit.leave(self._temporary)
        unlink(self._temporary)
        with explained("look at", self._path):
            try:
                ours = _identity(self._path.lstat()) == self._identity
            except FileNotFoundError:
                return
        if ours:  # named, but the directory could not be synced
            transit.leave(self._path)
            unlink(self._path)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """Tell a file apart from another at its path, even where the inode's number was given out again."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _name(temporary: Path, path: Path) -> None:
    """Give the file its name `path`, and never replace what stands there.

    Raises:
        SinkOccupied: something does.
        SinkError: anything else.
    """
    with explained("create", path):
        try:
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
        else:
            return
    # Without hard links: reserve the name by creating it, which one process alone can do, then replace it.
    OpenFile.create(path).close()
    try:
        with explained("rename", temporary):
            temporary.replace(path)
    except BaseException:
        unlink(path)
        raise
