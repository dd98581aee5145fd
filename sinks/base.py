"""The port of a sink: where parts are written.

A sink knows bytes and parts, nothing of records, cursors or warehouses. Data goes one way: a part is
opened, takes bytes, and is either sealed (durable when `seal` returns) or aborted (no trace left).
A sealed part stays until it is released, which its user does when it is loaded elsewhere, or never.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

Data = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedPart:
    """One sealed unit of output; a plain value that can be stored and sent to another machine.

    Attributes:
        sequence: the part's number within its job, from 1.
        uri: where its bytes are: `file:///out/job-000001.ndjson`, `file:///out/job.ndjson#0-4096` (bytes
            from the first offset up to, not including, the second), `gs://bucket/object`, `null://`.
        bytes: its length in bytes.
        crc32c: the CRC-32C (RFC 3720, appendix B.4) of its bytes.
        generation: what tells two contents of one URI apart: an object's generation, or the part's
            sequence number where one file is used again.
    """

    sequence: int
    uri: str
    bytes: int
    crc32c: int
    generation: int = 0

    @property
    def is_local(self) -> bool:
        """Whether it is a file on this machine, or a range of one, and goes with its disk."""
        return self.uri.startswith("file:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hygiene:
    """How a file was written, and what that took.

    Attributes:
        method: one of the names of `page_cache.Policy` but "auto".
        reason: why that one, in words.
        window: its size in bytes; 0: nothing was written yet.
        peak: the most bytes of the file that were seen in the page cache.
        waited: the seconds spent waiting for the disk.
    """

    method: str
    reason: str
    window: int = 0
    peak: int = 0
    waited: float = 0.0


@runtime_checkable
class Sink(Protocol):
    """Where parts are written.

    Called from one thread. Parts are opened one after the other, in ascending sequence; gaps are allowed.

    Attributes:
        slots: how many parts may exist that are not released, the open one counted; None: any number.
        lasting: whether parts outlive their release, so that the sink's output is a result by itself.
    """

    slots: int | None
    lasting: bool

    def occupied_by(self) -> str | None:
        """Say what stands where this sink would write (a path), or None; changes nothing.

        Asked before the first part that a job writes here: what is found then is not the job's own, and a job
        never overwrites what it did not write.
        """

    def recover(self, sealed: Sequence[SealedPart], last: SealedPart | None, *, epoch: int = 0) -> None:
        """Make the sink as it was when `last` was sealed; call it before the first part of a resumed job.

        Checks that every part of `sealed` is there in full, and clears away everything else that
        this job wrote and has no use for: parts that were open, parts after `last`, parts that were
        released but not yet deleted. May be repeated, and may be interrupted at any point and repeated.
        Never writes into a file that another process may have open, unless the sink holds its lock.

        Args:
            sealed: the parts that are sealed and not released, in order.
            last: the part that was sealed last, released or not; None: there has been none.
            epoch: the job's epoch; on shared storage, what a later epoch wrote is a successor's, and is left alone.

        Raises:
            PartLost: a part of `sealed` is missing or short. Nothing has been cleared away.
            NotDeleted: all is done, but what the storage does not let go is still there; the sink may be used, and
                the next `recover` tries again.
            SinkError: anything else.
        """

    def open_part(self, sequence: int, *, epoch: int = 0) -> PartWriter:
        """Open part `sequence` for writing.

        Args:
            sequence: the part's number, greater than that of every part before.
            epoch: the job's epoch; a sink on shared storage puts it into the part's name.

        Raises:
            SinkOccupied: something that this sink did not write stands in the way.
            SinkFull: there is no space.
            SinkError: anything else.
        """

    def release(self, part: SealedPart) -> None:
        """Say that `part` is not needed any more: free what it takes, unless the sink keeps its parts.

        May be repeated; a part that is gone already is released.

        Raises:
            NotDeleted: the storage does not let it go, now or ever.
            SinkError: anything else.
        """

    def close(self) -> None:
        """Release files and locks; remove what is only scratch. May be repeated.

        Not guaranteed to be called: `recover` cleans up after a process that was killed.
        """


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """What something is, and where on this machine; a plain value that can be stored.

    Attributes:
        what: what it is, but for where: stable text that does not change when its files are moved.
        paths: the paths that it names, absolute, with symbolic links resolved; a path may be a pattern.
    """

    what: str
    paths: tuple[str, ...]


@runtime_checkable
class OnThisMachine(Protocol):
    """What may name files of this machine: a sink, a source, a warehouse, a store; a second, optional protocol.

    So it can be recognised after its folder was moved, mounted elsewhere, or is reached by another path.
    """

    def whereabouts(self) -> Whereabouts | None:
        """Return what it is and which files it names; None: it names none of this machine. Changes nothing."""


@runtime_checkable
class Hurries(Protocol):
    """A sink, a warehouse or a store that waits for others, but not for long where the run is to end; optional."""

    def hurry(self, now: bool) -> None:
        """Let each wait that gets nowhere for some seconds raise `HurriedAway`; what makes progress goes on.

        Called from signal handlers and other threads: it must not wait for a lock.

        Args:
            now: whether there is no time; false as a run begins.
        """


@runtime_checkable
class Relocates(Protocol):
    """A sink whose sealed parts may have been moved with it; a second, optional protocol."""

    def relocated(self, part: SealedPart) -> SealedPart:
        """Return `part`, which this sink wrote where it was before, under the URI that it has where the sink is now.

        Its other attributes stay. Looks at nothing: `recover` checks that it is there.
        """


@runtime_checkable
class TakesBudget(Protocol):
    """A sink that goes easy on memory and disk, if it is told what it may take; a second, optional protocol."""

    def take_budget(self, *, memory: int | None, durable: bool) -> None:
        """Hear, before the first part of a run, what the run may take.

        Args:
            memory: what the job may be charged with, in bytes; None: there is no limit.
            durable: whether a sealed part must outlast a power cut. If not, the one that loads it holds the position
                before it, and has it made again when `recover` finds it missing or damaged; what is written is
                small, is read soon in this process, and is released then: it need never touch the disk.
        """


@runtime_checkable
class NeedsMemory(Protocol):
    """What needs memory whatever the data: a sink, a source, a format, a warehouse, a store; an optional protocol."""

    def least_memory(self) -> Mapping[str, int]:
        """Return what it needs at least, in bytes, by what needs it: a library, a buffer.

        Only what cannot be taken back counts: anonymous memory, as a control group has it, and not the page cache. What
        several of a job need under one name, such as a library, is counted once.
        """


class PartWriter(Protocol):
    """One open part. As a context manager it seals at the end, and aborts when an exception leaves it."""

    @property
    def bytes(self) -> int:
        """The number of bytes written so far."""

    @property
    def sealed(self) -> SealedPart | None:
        """The sealed part, once `seal` has returned."""

    def write(self, data: Data) -> None:
        """Take `data`; it is copied or written before the call returns, and durable only after `seal`.

        Raises:
            SinkFull: there is no space; the part can only be aborted.
            UploadLost: what was written is lost; the part can only be aborted, and may be written again.
            SinkError: anything else; the part can only be aborted.
        """

    def seal(self) -> SealedPart:
        """Make the part durable (file and directory are synced, or the object is final), and close it.

        Raises:
            SinkFull: the space ran out now; the part is not sealed and can only be aborted.
            UploadLost: what was written is lost; the same, and it may be written again.
            SinkError: anything else; the same.
        """

    def abort(self) -> None:
        """Leave no trace of the part. May be repeated, and after an error of any other method.

        After `seal` it does nothing.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class TakesFacts(Protocol):
    """A part that keeps some words about itself beside its bytes; a second, optional protocol."""

    def describe(self, facts: Mapping[str, str]) -> None:
        """Keep `facts` with the part, for people who look at it: which job, which records. Nothing is decided by them.

        Durable once `seal` has returned. May be repeated; later values replace earlier ones.

        Args:
            facts: short names in lower case, and values; a value may be cut to what the storage takes.
        """


@runtime_checkable
class ReportsHygiene(Protocol):
    """A part that says how it kept the page cache small; a second, optional protocol.

    Attributes:
        hygiene: what was done so far.
    """

    @property
    def hygiene(self) -> Hygiene:
        """How the page cache is kept small, and what that took so far."""


@runtime_checkable
class SeesEpochs(Protocol):
    """A sink whose parts tell in which epoch they were written; a second, optional protocol."""

    def latest_epoch(self) -> int:
        """Return the highest epoch of the parts that `recover` found last; 0: it found none. Asks nobody.

        One that is higher than the job's is a successor's; or it was lost with a checkpoint that was put back from an
        older copy, and its parts stay until the job's own epoch is higher.
        """


@runtime_checkable
class Discards(Protocol):
    """A sink whose parts no other process can mistake for its own; a second, optional protocol."""

    def discard(self, part: SealedPart) -> None:
        """Delete a part that was sealed and that nobody knows of: not even a process that was fenced leaves it behind.

        Deletes what was sealed and nothing else that may stand there by now. May be repeated.

        Raises:
            SinkError: it stays.
        """


@runtime_checkable
class Publishes(Protocol):
    """A sink that tells its readers which of its parts count; a second, optional protocol.

    Where a process that was fenced may write beside its successor, what lies there does not tell. `recover` withdraws
    what was published of parts after `last`.
    """

    def publish(self, parts: Sequence[SealedPart], *, epoch: int) -> None:
        """Name `parts`, which count from now on and follow those that were named. Durable on return; may be repeated.

        Raises:
            SinkError: they cannot be named.
        """

    def published(self, part: SealedPart) -> bool:
        """Say whether `part` was named.

        Raises:
            SinkError: nobody can say.
        """

    def publish_all(self, last: int) -> None:
        """Name what lies there up to part `last`, and nothing else, where nothing was named before. May be repeated.

        Raises:
            SinkError: it cannot be named.
        """


class PartContext:
    """What a context manager does with a part, for writers to inherit: seal at the end, abort on an error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abort()
            return
        try:
            self.seal()
        except BaseException:  # an interrupt leaves no half-sealed part behind either
            self.abort()
            raise

    def seal(self) -> SealedPart:
        """Seal the part; each writer defines it."""
        raise AssertionError  # never reached: writers override it

    def abort(self) -> None:
        """Abort the part; each writer defines it."""
        raise AssertionError  # never reached: writers override it
