"""How large a part may become: smaller where disk or memory are short, and larger again step by step."""

from __future__ import annotations

from contextlib import suppress

from etl import progress
from etl.checkpoint import replace
from etl.errors import NoSpace
from etl.job import SMALLEST_PART, Counts, Settings
from etl.lease import Lease
from etl.loading import Loading
from etl.words import size
from sinks import SealedPart, SinkError, page_cache
from sinks.local_files import locate


class PartSizes:
    """Keeps the size of parts in the checkpoint, where the next run finds it.

    Args:
        job: the job.
        lease: the checkpoint.
        loading: what has room again when it was loaded.
        counts: where parts are counted that were cut early.
        emit: takes the events.
    """

    def __init__(
        self, job: Settings, lease: Lease, loading: Loading, counts: Counts, emit: progress.Listener
    ) -> None:
        self._job = job
        self._lease = lease
        self._loading = loading
        self._counts = counts
        self._emit = emit
        self._smallest = min(SMALLEST_PART, job.part_bytes)

    def shrink(self, error: Exception, written: int | None) -> None:
        """Without space: free what can be freed, and make parts smaller.

        Args:
            error: what ended the part.
            written: how many bytes it had; None: it was not begun.

        Raises:
            NoSpace: parts are as small as they can be, and nothing was freed.
        """
        before = self._lease.document.part_bytes
        waiting = len(self._lease.document.outstanding)
        self._loading.drain()
        freed = len(self._lease.document.outstanding) < waiting
        after = max(self._smallest, min(before, before if written is None else written) // 2)
        if before <= self._smallest and not freed:
            raise NoSpace(
                f"job {self._job.pipeline!r}: not even a part of {size(self._smallest)} fits: {error}. What is loaded "
                "stays; free space and run again, or use a sink that needs less: reused_file with slots = 1 "
                "(one part at a time), numbered_chunks with keep = false"
            ) from error
        self._lease.write(replace(self._lease.document, part_bytes=after))
        self._emit(
            progress.Notice(
                pipeline=self._job.pipeline,
                message=f"no space left ({error}): going on with parts of {size(after)} in place of {size(before)}",
            )
        )

    def relieve(self, sealed: SealedPart, pressed: int) -> None:
        """Short of memory: load what was cut early, drop its pages, and make parts smaller for a while.

        Args:
            sealed: the part.
            pressed: the working set at which it was cut, in bytes.
        """
        governor, document = self._job.governor, self._lease.document
        self._counts.cut_for_memory += 1
        self._lease.document = replace(document, part_bytes=max(self._smallest, document.part_bytes // 2))
        if sealed.is_local:
            with suppress(
                SinkError
            ):  # loaded and deleted by now; else it was synced before, or is made again
                page_cache.drop(locate(sealed.uri).path)
            self._loading.drain()
        governor.relieved()
        self._emit(
            progress.MemoryPressed(
                pipeline=self._job.pipeline,
                sequence=document.state.sequence,
                bytes=sealed.bytes,
                working_set=pressed,
                after=governor.working_set(),
                limit=governor.limit or 0,
            )
        )

    def grow(self) -> None:
        """Let parts that were made smaller grow back, by a quarter a part; written with the next commit."""
        document = self._lease.document
        if document.part_bytes < self._job.part_bytes:
            grown = min(self._job.part_bytes, document.part_bytes * 5 // 4)
            self._lease.document = replace(document, part_bytes=grown)
