"""The writer: gathers small writes, keeps the window, and holds a method to its word."""

from __future__ import annotations

import errno
import os
import time
import weakref
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from sinks.base import Data, Hygiene
from sinks.checksum import flat
from sinks.errors import SinkError
from sinks.local_files import OpenFile, explained, make_directory, sync_directory
from sinks.own_files import resolved
from sinks.page_cache import kernel, transit
from sinks.page_cache.choice import Choice, Policy, check_policy, choose, window
from sinks.page_cache.kernel import Unsupported
from sinks.page_cache.methods import GATHERS_MOST, METHODS, PIECE, Keep

# The first windows are looked at, then one in so many: a look costs 0.2 ms.
LOOKS_AT_FIRST = 4
LOOKS_EVERY = 8

# A method that was seen to work is given up after so many looks in a row at which it did not: while others sync
# the whole machine, the kernel's flusher may hold the pages of a window for a moment.
STRIKES = 2

# Those that have a window in the page cache now, or may have one soon.
_writing: weakref.WeakSet[FileWriter] = weakref.WeakSet()


def open_for_writing(
    file: str | os.PathLike[str] | OpenFile,
    position: int = 0,
    *,
    policy: Policy = "auto",
    memory: int | None = None,
    without: Collection[str] = (),
) -> FileWriter:
    """Open a file for writing from the byte `position` on.

    Args:
        file: a path, whose file is created if need be, and cut at `position`; or a file that is open
            already (for reading too), which stays as it is and its opener's to close.
        position: the offset in bytes of the first write.
        policy: how the page cache is kept small. "auto": as suits the file system. "write_behind",
            "fdatasync", "direct" (O_DIRECT), "uncached" (RWF_DONTCACHE): that way, and where it does not work
            the next best. "keep": not at all.
        memory: what the job may be charged with, in bytes, which the window follows; None: what the control
            group allows.
        without: the methods that were seen not to work in this place (`FileWriter.useless`).

    Raises:
        SinkError: it cannot be opened.
        ValueError: there is no such policy, or the memory is no number of bytes; nothing was touched.
    """
    check_policy(policy)
    if memory is not None and (not isinstance(memory, int) or memory <= 0):
        raise ValueError(f"memory is {memory!r}; it must be a number of bytes, or None")
    if isinstance(file, OpenFile):
        return FileWriter(file, position, policy=policy, memory=memory, without=without)
    path = Path(file).absolute()
    make_directory(path.parent)
    with explained("open", path):
        try:
            opened = OpenFile.existing(path)
        except FileNotFoundError:
            opened = OpenFile.create(resolved(path))
    opened.truncate(position)
    return FileWriter(opened, position, policy=policy, memory=memory, without=without, owned=True)


class FileWriter:
    """Writes bytes one after the other. As a context manager it syncs and closes at the end.

    After any error it is poisoned for good: what is in the file then is unknown, and every later call
    raises. `fsync` in particular is never tried again, because Linux reports a failed writeback only once.

    Args:
        file: where to write.
        position: the offset in bytes of the first write.
        policy: as in `open_for_writing`.
        memory: as in `open_for_writing`.
        without: as in `open_for_writing`.
        owned: whether to close `file`, and to make its name durable in `sync`.
    """

    def __init__(
        self,
        file: OpenFile,
        position: int = 0,
        *,
        policy: Policy = "auto",
        memory: int | None = None,
        without: Collection[str] = (),
        owned: bool = False,
    ) -> None:
        transit.leave(file.descriptor)
        self._file = file
        self._owned = owned
        self._named = not owned
        self._choice: Choice = choose(file.descriptor, policy)
        self._reason = self._choice.reason
        self._falls: list[str] = []
        self._useless: set[str] = set()
        self._methods = [name for name in self._choice.methods if name not in without or name == "keep"]
        self._method = self._make(position)
        self._memory = memory
        self._window = 0
        self._boundary = 0  # the offset where the window ends; 0: it has not begun
        self._windows = 0
        self._proven = False  # whether the method was seen to work
        self._strikes = 0  # looks in a row at which it did not
        self._clean = position  # the offset up to which nothing is dirty or cached, as far as was seen
        self._start = position
        self._written = position
        self._buffer = bytearray()  # what is gathered: its first `_gathered` bytes
        self._gathered = 0
        self._peak = 0
        self._waited = 0.0
        self._poisoned = False
        self._closed = False

    @property
    def position(self) -> int:
        """The offset in bytes where the next write goes."""
        return self._written + self._gathered

    @property
    def hygiene(self) -> Hygiene:
        """How the file is written, and what that took so far."""
        return Hygiene(
            method=self._method.name,
            reason=self._reason,
            window=self._window,
            peak=self._peak,
            waited=self._waited,
        )

    @property
    def keeps(self) -> bool:
        """Whether the file is written plainly, and the kernel keeps of it what it likes."""
        return self._method.name == "keep"

    @property
    def useless(self) -> frozenset[str]:
        """The methods that did not work for this file."""
        return frozenset(self._useless)

    @property
    def choice(self) -> Choice:
        """What was known of the place before the first byte."""
        return self._choice

    def write(self, data: Data) -> int:
        """Take `data`, which is copied or written before the call returns; return its length in bytes.

        Raises:
            SinkFull: there is no space.
            SinkError: anything else, or an error before.
        """
        self._check()
        data = flat(data)
        # What is put ends where the next piece begins on a block: direct I/O asks for it, and pages that are
        # written in two pieces cannot be dropped in between.
        gathers = self._method.gathers
        room = gathers - self.position % gathers
        if len(data) < room:
            self._gather(data)
            return len(data)
        with memoryview(data) as view:
            done = 0
            if self._gathered:
                self._gather(view[:room])
                self._flush()
                done = room
            whole = len(view) - (self._written + len(view) - done) % gathers
            if whole > done:
                self._put(view[done:whole])
                done = whole
            self._gather(view[done:])
        return len(data)

    def flush(self) -> None:
        """Write what is still in memory into the file; others see it then, and a power cut undoes it.

        Raises:
            SinkFull: there is no space.
            SinkError: anything else, or an error before.
        """
        self._check()
        self._flush()
        with self._poisoning("write back"):
            try:
                self._method.settle()
            except Unsupported as reason:
                self._fall(str(reason))

    def hand_over(self) -> None:
        """Write what is still in memory into the file, and leave it in the page cache for who reads it next.

        For a file that is read soon in this process, and truncated or deleted then: it need never touch the
        disk. A power cut may undo any of it.

        Raises:
            SinkFull: there is no space.
            SinkError: anything else, or an error before.
        """
        self.flush()
        self._look()
        with self._poisoning("look at"):
            transit.enter(self._file.descriptor)
        self._end_window()

    def sync(self) -> None:
        """Write what is still in memory, make all of it durable, and drop it from the page cache.

        Raises:
            SinkFull: there is no space.
            SinkError: anything else, or an error before.
        """
        self.flush()
        if self._windows == 0 or self.keeps:
            self._look()
        with self._poisoning("sync"):
            self._file.sync()
            if not self._named:
                sync_directory(self._file.path.parent)
                self._named = True
            if not self.keeps:
                self._leave_nothing()
        self._end_window()

    def _leave_nothing(self) -> None:
        """Drop what is durable now, and begin again from here."""
        with suppress(OSError):  # advice; whether it is taken is seen at once
            kernel.forget(self._file.descriptor, self._start, self._written)
        self._is_gone(self._start, self._written)
        self._start = self._clean = self._written
        self._method = self._make(self._written)

    def close(self) -> None:
        """Write what is still in memory and close the file, if it is this writer's. May be repeated.

        Raises:
            SinkFull: there is no space.
            SinkError: anything else, or an error before; the file is closed all the same.
        """
        if self._closed:
            return
        try:
            self.flush()
        except BaseException:
            self.abandon()
            raise
        self._leave()
        if self._owned:
            self._file.close()

    def abandon(self) -> None:
        """Drop what is still in memory and close the file, if it is this writer's; never raises."""
        with suppress(OSError, SinkError, Unsupported):
            self._method.settle()  # nothing may go on with a descriptor that is closed
        self._leave()
        if self._owned:
            with suppress(SinkError):
                self._file.close()

    def _leave(self) -> None:
        self._closed = True
        self._buffer, self._gathered = bytearray(), 0
        self._end_window()

    def _check(self) -> None:
        if self._poisoned:
            raise SinkError(
                f"an earlier write or sync of {self._file.path} failed, so what it holds is unknown; "
                "abort the part and write it again"
            )
        if self._closed:
            raise ValueError(f"{self._file.path} is closed for writing")

    @contextmanager
    def _poisoning(self, action: str) -> Iterator[None]:
        """Whatever is raised within, the file is not to be trusted any more."""
        began = time.perf_counter()
        try:
            with explained(action, self._file.path):
                yield
        except BaseException:
            self._poisoned = True
            raise
        finally:
            self._waited += time.perf_counter() - began

    # ------------------------------------------------------------------ writing

    def _gather(self, data: Data) -> None:
        """Copy `data` behind what is gathered; into the same memory each time, which the processor has at hand."""
        end = self._gathered + len(data)
        if end > len(self._buffer):
            # Not resized: a traceback may hold a view of it.
            larger = bytearray(max(end, self._method.gathers))
            larger[: self._gathered] = self._buffer[: self._gathered]
            self._buffer = larger
        self._buffer[self._gathered : end] = data
        self._gathered = end

    def _flush(self) -> None:
        if self._gathered:
            with memoryview(self._buffer) as view:
                gathered, self._gathered = view[: self._gathered], 0
                self._put(gathered)

    def _put(self, data: Data) -> None:
        if not self._boundary:
            _writing.add(self)
            self._window = window(self._memory, len(_writing))
            self._next_window()
        with memoryview(data) as view:
            done = 0
            while done < len(view):
                # In pieces, so that the disk has its first one while the next is copied.
                piece = min(PIECE, self._boundary - self._written)
                done += self._put_some(view[done : done + piece])
                if self._written == self._boundary:
                    self._behind()
                    self._next_window()

    def _put_some(self, view: memoryview) -> int:
        began = time.perf_counter()
        try:
            with explained("write to", self._file.path):
                while True:
                    try:
                        count = self._method.put(view, self._written)
                        break
                    except Unsupported as reason:
                        self._fall(str(reason))
                if not count:  # must not be for a file; better an error than a loop without end
                    raise OSError(errno.EIO, "no byte was taken")
        except BaseException:
            self._poisoned = True
            raise
        self._written += count
        if self._method.waits_for_disk:
            self._waited += time.perf_counter() - began
        return count

    # ------------------------------------------------------------------ the window

    def _next_window(self) -> None:
        end = self._written + self._window
        self._boundary = end - end % GATHERS_MOST

    def _end_window(self) -> None:
        """Nothing waits to be written any more: others may have larger windows."""
        self._boundary = 0
        _writing.discard(self)

    def _behind(self) -> None:
        """A window is full: clean up behind it, and see whether that worked."""
        self._windows += 1
        with self._poisoning("write back"):
            while not self.keeps:
                looks = self._windows <= LOOKS_AT_FIRST or self._windows % LOOKS_EVERY == 0 or self._strikes
                if looks:
                    self._look()
                try:
                    clean = self._method.behind(self._written)
                except Unsupported as reason:
                    self._fall(str(reason))
                    continue
                if not looks or self._is_gone(self._clean, clean):
                    self._clean = clean
                elif not self._strikes:
                    continue  # with the next method
                return

    def _is_gone(self, start: int, end: int) -> bool:
        """See whether a range that should not be cached is not; if it stays, go on with the next method."""
        if end <= start:
            return True
        left = kernel.resident(self._file.descriptor, start, end) or 0
        # A page that is busy stays, and goes with the next window; half of them is no accident.
        if left * 2 <= end - start:
            self._proven, self._strikes = True, 0
            return True
        self._strikes += 1
        if not self._proven or self._strikes >= STRIKES:
            self._fall(f"it had no effect: {left:,} of {end - start:,} bytes stayed cached")
        return False

    def _look(self) -> None:
        """Note how much of the file is cached now, when it is at its most."""
        seen = kernel.resident(self._file.descriptor, self._clean, self._written)
        self._peak = max(self._peak, seen or 0)

    def _fall(self, reason: str) -> None:
        """Go on with the next method, because `reason`."""
        with suppress(Unsupported):
            self._method.settle()
        name = self._methods.pop(0)
        if not METHODS[self._methods[0]].catches_up:
            self._clean = self._written  # what was left behind is the kernel's to write back
        self._method = self._make(self._clean)
        self._proven, self._strikes = False, 0
        self._useless.add(name)
        self._falls.append(f"{name}: {reason}")
        self._reason = "; ".join(self._falls)

    def _make(self, clean: int) -> Keep:
        return METHODS[self._methods[0]](self._file, clean)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abandon()
            return
        try:
            self.sync()
            self.close()
        except BaseException:
            self.abandon()
            raise
