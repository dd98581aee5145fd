"""What the sinks here share: the life of an open part, their order, and the check of a sealed one."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from sinks import checksum, page_cache
from sinks.base import Data, Hygiene, PartContext, SealedPart, Whereabouts
from sinks.errors import PartLost, SinkError, SinkFull
from sinks.local_files import OpenFile, explained, locate, uri
from sinks.page_cache import Policy, open_for_writing, transit
from sinks.page_cache.choice import MEMORY, check_policy

# A file system that is memory may take this share of the limit: the parts in transit, and no more.
SHARE_IN_MEMORY = 4

# A part is rid of all of its pages, or nearly: what is more than this share was not cleaned up.
STAYED = 16


class Part(PartContext, ABC):
    """An open part: counts its bytes, keeps their checksum, and knows whether it is open, sealed or aborted.

    Args:
        sink: whose part it is; it can open no other until this one is sealed or aborted.
        sequence: its number.
        generation: as in `SealedPart`.
    """

    def __init__(self, sink: InOrder, sequence: int, *, generation: int = 0) -> None:
        self.sequence = sequence
        self._order: InOrder | None = sink
        self._generation = generation
        self._bytes = 0
        self._crc = 0
        self._failed = False
        self._aborted = False
        self._sealed: SealedPart | None = None

    @property
    def bytes(self) -> int:
        """The number of bytes written so far."""
        return self._bytes

    @property
    def sealed(self) -> SealedPart | None:
        """The sealed part, once `seal` has returned."""
        return self._sealed

    def write(self, data: Data) -> None:
        """Take `data`; as `PartWriter.write`."""
        self._check()
        data = checksum.flat(data)
        try:
            self._take(data)
            self._crc = self._checksum(data)
        except BaseException:  # an interrupt too: nobody knows how much was taken
            self._failed = True
            raise
        self._bytes += len(data)

    def seal(self) -> SealedPart:
        """Make the part durable; as `PartWriter.seal`. May be repeated."""
        if self._sealed is not None:
            return self._sealed
        self._check()
        sealed = SealedPart(
            sequence=self.sequence,
            uri=self._uri(),
            bytes=self._bytes,
            crc32c=self._crc,
            generation=self._generation,
        )
        try:
            self._finish(sealed)
        except BaseException:
            self._failed = True
            raise
        self._sealed = sealed
        self._leave(sealed)
        return sealed

    def abort(self) -> None:
        """Leave no trace of the part; as `PartWriter.abort`."""
        if self._sealed is None and not self._aborted:
            self._failed = True
            self._undo()
            self._aborted = True
            self._leave(None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None or not self._aborted:  # aborted inside of `with`: there is nothing to seal
            super().__exit__(kind, error, trace)

    def _check(self) -> None:
        if self._sealed is not None or self._aborted:
            raise RuntimeError(f"part {self.sequence} is {'aborted' if self._aborted else 'sealed'} already")
        if self._failed:
            raise SinkError(f"an earlier call on part {self.sequence} failed; abort it and write it again")

    def _leave(self, sealed: SealedPart | None) -> None:
        if self._order is not None:
            self._order._left(sealed)
            self._order = None

    @abstractmethod
    def _take(self, data: Data) -> None:
        """Write or copy `data`."""

    def _checksum(self, data: Data) -> int:
        """Return the CRC-32C of all that was written, of which `data` is the last."""
        return checksum.extend(self._crc, data)

    @abstractmethod
    def _uri(self) -> str:
        """Return the URI of what was written."""

    @abstractmethod
    def _finish(self, sealed: SealedPart) -> None:
        """Make the part durable under its URI."""

    @abstractmethod
    def _undo(self) -> None:
        """Take back everything; may be repeated, and after an error anywhere."""


class InOrder:
    """A sink's parts: opened one after the other, in ascending sequence."""

    def __init__(self) -> None:
        self._current: Part | None = None
        self._highest = 0

    def _expect(self, sequence: int) -> None:
        """Make sure that part `sequence` may be opened now.

        Raises:
            RuntimeError: another part is open.
            ValueError: the number is not greater than that of every sealed part.
        """
        if self._current is not None:
            raise RuntimeError(f"part {self._current.sequence} is still open: seal or abort it first")
        if sequence <= self._highest:
            raise ValueError(
                f"part {sequence} is out of order: the next one must be greater than {self._highest}"
            )

    def _abort_open(self) -> None:
        """Abort the part that is open, if there is one."""
        if self._current is not None:
            self._current.abort()
            self._current = None  # an interrupt may have kept a sealed part from leaving

    def _start(self, last: SealedPart | None) -> None:
        """Go on after `last`."""
        self._highest = last.sequence if last else 0

    def _left(self, sealed: SealedPart | None) -> None:
        """Note that the open part was sealed, or aborted (None)."""
        self._current = None
        if sealed:
            self._highest = sealed.sequence


class LocalSink(InOrder, ABC):
    """A sink that writes to the path it was given, which names a file; makes its directories when it writes.

    Args:
        path: the file's path; a relative one starts at the directory where the process is now.
        policy: how the page cache is kept small, as in `page_cache.open_for_writing`.

    Raises:
        ValueError: it names no file, or there is no such policy.
    """

    lasting: bool

    def __init__(self, path: str | os.PathLike[str], policy: Policy) -> None:
        super().__init__()
        name = os.fspath(path)
        if Path(name).name in ("", "..") or name.endswith(("/", "/.")) or "\0" in name:
            raise ValueError(
                f"{type(self).__name__}(path={name!r}): the path must name a file, such as 'out/job.ndjson'"
            )
        check_policy(policy)
        self.path = Path(name).absolute()
        self.policy = policy
        self._memory: int | None = None
        self._durable = True
        self._useless: frozenset[str] = frozenset()  # the methods that were seen not to work here
        self._why = ""
        self._suspect: FilePart | None = None  # the last part, if its method had no effect

    def whereabouts(self) -> Whereabouts:
        """Return its kind, and its path; as `OnThisMachine`."""
        kept = "" if self.lasting else ", not kept"
        return Whereabouts(f"{type(self).__name__}{kept}", (os.path.realpath(self.path),))

    def relocated(self, part: SealedPart) -> SealedPart:
        """Return a part under its URI beside this path; as `Relocates`."""
        was = locate(part.uri)
        return replace(part, uri=uri(self._moved(was.path), was.start if was.end else None, was.end))

    def _moved(self, path: Path) -> Path:
        """Return where a file of this sink is now: each is in the directory of the sink's path."""
        return self.path.with_name(path.name)

    def take_budget(self, *, memory: int | None, durable: bool) -> None:
        """Hear what the run may take; as `TakesBudget`."""
        self._memory = memory
        self._durable = durable or self.lasting

    def _look_again(self) -> None:
        """Where the method of the last part had no effect, see whether it has none still: then begin with its next.

        Once may be an accident: while others sync the whole machine, pages stay that would have gone.
        """
        part, self._suspect = self._suspect, None
        if part is None or part.sealed is None:
            return
        where = locate(part.sealed.uri)
        try:
            with page_cache.open_for_reading(where.path, where.start, where.start + part.bytes) as file:
                left = file.drop()
        except SinkError:
            return  # released by now
        if left * STAYED > part.bytes:
            self._useless |= part.useless
            self._why = part.hygiene.reason

    @abstractmethod
    def _held_bytes(self) -> int:
        """Return how many bytes this sink's sealed parts take on the disk now."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def _name(self, middle: str) -> str:
        """Return the path's name with something put in between its stem and all of its suffixes."""
        suffixes = "".join(self.path.suffixes)
        return f"{self.path.name.removesuffix(suffixes)}{middle}{suffixes}"

    def _pattern(self, middle: str) -> str:
        """Return a regular expression for what `_name` gives, where `middle` is one itself."""
        suffixes = "".join(self.path.suffixes)
        return f"{re.escape(self.path.name.removesuffix(suffixes))}{middle}{re.escape(suffixes)}"


class FilePart(Part):
    """An open part that is written to a local file.

    Args:
        sink: as in `Part`.
        sequence: as in `Part`.
        file: where to write.
        start: the offset in bytes of the part's first byte.
        generation: as in `SealedPart`.
    """

    def __init__(
        self, sink: LocalSink, sequence: int, file: OpenFile, start: int = 0, *, generation: int = 0
    ) -> None:
        super().__init__(sink, sequence, generation=generation)
        self._file = file
        self._place = sink
        sink._look_again()
        self._durable = sink._durable
        policy: Policy = sink.policy if self._durable else "keep"
        self._writer = open_for_writing(
            file, start, policy=policy, memory=sink._memory, without=sink._useless
        )
        self._held: int | None = None

    @property
    def hygiene(self) -> Hygiene:
        """How the page cache is kept small, and what that took."""
        found = self._writer.hygiene
        if not self._durable:
            return replace(found, reason="parts in transit need not touch the disk")
        return found if self.useless else replace(found, reason=self._place._why or found.reason)

    @property
    def useless(self) -> frozenset[str]:
        """The methods of keeping the page cache small that did not work for this part."""
        return self._writer.useless

    def _in_memory(self) -> bool:
        """Say whether what is written stays in memory: because the file system is that, or whatever is tried."""
        tried = self._writer.useless or self._place._useless
        return self._writer.choice.memory or (self._writer.keeps and bool(tried))

    def _take(self, data: Data) -> None:
        if self._place._memory is not None and self._in_memory():
            if self._held is None:
                self._held = self._place._held_bytes()
            self._check_memory(self._place._memory, self._held + self._bytes + len(data))
        self._writer.write(data)

    def _store(self) -> None:
        """Make what was written durable, where that is wanted."""
        if not self._durable:
            self._writer.hand_over()
            return
        self._writer.sync()
        self._place._suspect = self if self.useless else None

    def _check_memory(self, limit: int, size: int) -> None:
        """Refuse to fill memory in the belief that it is a disk."""
        if size <= limit // SHARE_IN_MEMORY:
            return
        kind = self._writer.choice.file_system
        where = f"{self._file.path} is on {kind}, " + (
            "which" if kind in MEMORY else "which behaves as if it"
        )
        said = (
            f"{where} is memory: it is charged to this job and cannot be dropped. With part {self.sequence} it would "
            f"hold {size:,} bytes; of the {limit:,} that the job may take, a quarter may go there"
        )
        if self._place.lasting:
            raise SinkError(f"{said}. Choose a path on a disk, or a sink that keeps no file: reused_file")
        raise SinkFull(f"{said}. Choose a path on a disk, or write smaller parts")


def check(part: SealedPart, *, whole: bool, in_transit: bool = False) -> None:
    """Make sure that a sealed part is on this machine as it was sealed; reads all of it.

    Args:
        part: the part, with a `file://` URI.
        whole: whether the file must hold nothing else.
        in_transit: whether it may be in the page cache alone, and is to stay there.

    Raises:
        PartLost: it is missing, or has another length or checksum.
        SinkError: it cannot be read.
    """
    location = locate(part.uri)
    if in_transit and location.path.exists():
        with explained("look at", location.path):
            transit.enter(location.path)  # before it is read: to drop it would begin to write it back
    with page_cache.open_for_reading(location.path, location.start, location.start + part.bytes) as file:
        with explained("look at", location.path):
            size = location.path.stat().st_size
        if whole and size != part.bytes:
            raise PartLost(
                f"part {part.sequence}, {part.uri}, has {size:,} bytes where {part.bytes:,} were sealed: "
                "somebody changed it; it must be written again"
            )
        crc = 0
        while data := file.read(checksum.BLOCK):
            crc = checksum.extend(crc, data)
    if crc != part.crc32c:
        raise PartLost(
            f"part {part.sequence}, {part.uri}, has the CRC-32C {crc:08x}, not {part.crc32c:08x} as it was sealed: "
            "somebody changed it, or the disk did; it must be written again, which the next run of a job does"
        )


def check_places(sealed: Sequence[SealedPart], places: Sequence[Path], sink: object) -> None:
    """Make sure that each part is where its sink would have put it.

    Raises:
        PartLost: the sink had another path when it wrote the part.
    """
    for part, place in zip(sealed, places, strict=True):
        if locate(part.uri).path != place:
            raise PartLost(
                f"part {part.sequence} is at {part.uri}, where {sink!r} does not write; give the sink the "
                "path that it had, or the part must be written again"
            )
