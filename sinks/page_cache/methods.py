"""The ways to write a file without leaving it in the page cache.

Each method writes bytes at an offset (`put`), and at the end of each window sees to it that what lies behind
is neither dirty nor cached (`behind`). Which one works depends on the file system; the writer tries them in
order and looks at what they do (`choice`, `writer`).
"""

from __future__ import annotations

import mmap
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import ClassVar

from sinks.local_files import OpenFile
from sinks.page_cache import kernel
from sinks.page_cache.kernel import NOT_SUPPORTED, WAIT_AFTER, WAIT_BEFORE, WRITE, Unsupported

# The disk is given what was written in pieces of this size. Measured, 64 MiB limit, windows of 4 and 8 MiB: 2.8 and
# 3.0 GB/s with pieces of 0.5 or 1 MiB, 2.0 and 2.2 GB/s with pieces of 2 MiB or of a whole window.
PIECE = 1024 * 1024

# What direct I/O must be aligned to: the largest logical block of a disk, and a page.
BLOCK = max(4096, kernel.PAGE)


@contextmanager
def _or_unsupported(call: str) -> Iterator[None]:
    """Turn an OSError that says "not supported" into Unsupported; all others are errors of the data."""
    try:
        yield
    except OSError as error:
        if error.errno in NOT_SUPPORTED:
            raise Unsupported(f"{call} is not supported here ({error.strerror})") from error
        raise


class Keep:
    """Plain writes: the kernel keeps what it likes. The base of all others.

    Args:
        file: where to write; its descriptor is open for reading too.
        clean: the offset in bytes up to which nothing is dirty or cached.
    """

    name: ClassVar[str] = "keep"
    gathers: ClassVar[int] = 256 * 1024  # bytes; smaller writes are slower with every method
    catches_up: ClassVar[bool] = True  # whether it cleans up what was written before it
    waits_for_disk: ClassVar[bool] = False  # whether `put` returns when the bytes are there

    def __init__(self, file: OpenFile, clean: int) -> None:
        self._file = file
        self._first = clean
        self._clean = clean

    def put(self, data: memoryview, position: int) -> int:
        """Write `data` at the offset `position`; return how many bytes were taken.

        Raises:
            Unsupported: the method does not work here; another one is to put the same bytes (again).
            OSError: the file is not to be trusted any more.
        """
        return os.pwrite(self._file.descriptor, data, position)

    def behind(self, end: int) -> int:  # noqa: ARG002
        """Clean up behind the writer, who has written everything up to `end`, for the second time in a window.

        Returns:
            the offset up to which nothing is dirty or cached now.

        Raises:
            Unsupported: the method does not work here.
            OSError: the file is not to be trusted any more.
        """
        return self._clean

    def settle(self) -> None:
        """Wait for what is under way, and leave the descriptor as it was found.

        Raises:
            OSError: the file is not to be trusted any more.
        """

    def _forget(self, end: int) -> None:
        with _or_unsupported("fadvise"):
            # From the first byte on: a page that was busy the last time goes now; it costs a microsecond.
            kernel.forget(self._file.descriptor, self._first, end)


class Early(Keep, ABC):
    """Has the disk begin with what was written long before anybody waits for it: the base of those that wait."""

    def __init__(self, file: OpenFile, clean: int) -> None:
        super().__init__(file, clean)
        self._begun = clean  # up to here writeback was begun

    def put(self, data: memoryview, position: int) -> int:
        """Write `data`, and begin the writeback of each full piece; as `Keep.put`."""
        count = super().put(data, position)
        if position + count - self._begun >= PIECE:
            self._begin(position + count)
        return count

    def _begin(self, end: int) -> None:
        """Begin the writeback up to `end`, without waiting."""
        self._start_writing(self._begun, end)
        self._begun = end

    @abstractmethod
    def _start_writing(self, start: int, end: int) -> None:
        """Ask the kernel to begin the writeback of a byte range.

        Raises:
            Unsupported: it does not do that here.
            OSError: the file is not to be trusted any more.
        """


class WriteBehind(Early):
    """Begins the writeback of a window, waits for that of the one before, and drops it.

    Two windows are cached at the most. As Borg and PostgreSQL (`checkpoint_flush_after`) do it.
    """

    name = "write_behind"

    def __init__(self, file: OpenFile, clean: int) -> None:
        super().__init__(file, clean)
        self._window = clean  # where the window that is being written begins

    def behind(self, end: int) -> int:
        """Begin the writeback up to `end`, wait for the window before; as `Keep.behind`."""
        self._begin(end)
        with _or_unsupported("sync_file_range"):
            flags = WAIT_BEFORE | WRITE | WAIT_AFTER
            kernel.sync_file_range(self._file.descriptor, self._clean, self._window, flags)
        self._forget(self._window)
        self._clean, self._window = self._window, end
        return self._clean

    def _start_writing(self, start: int, end: int) -> None:
        with _or_unsupported("sync_file_range"):
            kernel.sync_file_range(self._file.descriptor, start, end, WRITE)


class Uncached(WriteBehind):
    """Writes with RWF_DONTCACHE (Linux 6.14), and waits for the window before.

    The flag alone does not bound the cache: on a fast writer 222 MiB piled up. Writes that are not aligned
    leave pages behind, and go without it.
    """

    name = "uncached"

    def put(self, data: memoryview, position: int) -> int:
        """Write `data` past the page cache; as `Keep.put`."""
        if position % BLOCK or len(data) % BLOCK:
            return super().put(data, position)
        with _or_unsupported("RWF_DONTCACHE"):
            return os.pwritev(self._file.descriptor, [data], position, kernel.RWF_DONTCACHE)


class FlushBehind(Early):
    """Calls fdatasync for each window in a thread of its own, while the next one is being written.

    Works where sync_file_range does nothing or does not exist: overlayfs, network file systems. There writeback is
    begun by POSIX_FADV_DONTNEED, which does that for dirty pages (mm/fadvise.c), and reaches the file below.
    """

    name = "fdatasync"

    def __init__(self, file: OpenFile, clean: int) -> None:
        super().__init__(file, clean)
        self._thread: ThreadPoolExecutor | None = None
        self._flushing: tuple[Future[None], int] | None = None

    def behind(self, end: int) -> int:
        """Wait for the flush that is under way, begin the one up to `end`; as `Keep.behind`."""
        self._wait()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sinks-flush")
        self._flushing = self._thread.submit(self._flush, end), end
        return self._clean

    def _start_writing(self, start: int, end: int) -> None:
        with _or_unsupported("fadvise"):
            kernel.forget(self._file.descriptor, start, end)

    def settle(self) -> None:
        """Wait for the flush that is under way; as `Keep.settle`."""
        try:
            self._wait()
        finally:
            if self._thread is not None:
                self._thread.shutdown()
                self._thread = None

    def _wait(self) -> None:
        if self._flushing is not None:
            flushed, end = self._flushing
            flushed.result()  # an error stays in it: the one that asks again hears of it again
            self._flushing, self._clean = None, end

    def _flush(self, end: int) -> None:
        with _or_unsupported("fdatasync"):
            getattr(os, "fdatasync", os.fsync)(self._file.descriptor)
        self._forget(end)


class Direct(Keep):
    """Writes with O_DIRECT out of an aligned buffer; what is not aligned goes through the page cache.

    The only way on an overlay that is mounted `volatile`, where no sync does anything.
    """

    name = "direct"
    catches_up = False
    waits_for_disk = True
    gathers = 1024 * 1024  # each write waits for the disk: few large ones

    def __init__(self, file: OpenFile, clean: int) -> None:
        super().__init__(file, clean)
        self._aligned: mmap.mmap | None = None
        self._flags: int | None = None  # those of the descriptor before it was made direct

    def put(self, data: memoryview, position: int) -> int:
        """Write whole blocks of `data` straight to the disk, or what stands before them; as `Keep.put`."""
        before = -position % BLOCK
        length = min(len(data) - len(data) % BLOCK, self.gathers)
        if before or not length:
            self._restore()
            return super().put(data[: before or len(data)], position)
        if self._aligned is None:
            self._aligned = mmap.mmap(-1, self.gathers)  # anonymous: begins on a page
        self._aligned[:length] = data[:length]
        with _or_unsupported("O_DIRECT"), memoryview(self._aligned) as aligned:
            self._switch()
            return os.pwrite(self._file.descriptor, aligned[:length], position)

    def behind(self, end: int) -> int:
        """Drop what other methods and unaligned writes left behind; as `Keep.behind`."""
        self._forget(end)
        self._clean = end
        return end

    def settle(self) -> None:
        """Make the descriptor what it was; as `Keep.settle`."""
        self._restore()
        if self._aligned is not None:
            self._aligned.close()
            self._aligned = None

    def _switch(self) -> None:
        import fcntl

        if self._flags is None:
            flags = fcntl.fcntl(self._file.descriptor, fcntl.F_GETFL)
            fcntl.fcntl(self._file.descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
            self._flags = flags

    def _restore(self) -> None:
        import fcntl

        if self._flags is not None:
            with suppress(OSError):  # it was set by the same call
                fcntl.fcntl(self._file.descriptor, fcntl.F_SETFL, self._flags)
            self._flags = None


# What a method gathers divides this, and this divides a window.
GATHERS_MOST = Direct.gathers

METHODS: dict[str, type[Keep]] = {
    method.name: method for method in (WriteBehind, FlushBehind, Direct, Uncached, Keep)
}
