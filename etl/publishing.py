"""What readers of a job's parts and dead letters are told: which of them count.

Where a process that was fenced may write beside its successor, what lies in a place does not tell what was committed.
So a sink may name it (`sinks.Publishes`). What is to be named stands in the checkpoint, from the swap that commits it
(or that says that it is loaded) until it is named; the next run goes on with that, too.
"""

from __future__ import annotations

import time
from contextlib import suppress

from etl import progress
from etl.checkpoint import Checkpoint, replace
from etl.errors import CheckpointError
from etl.job import Settings
from etl.lease import Lease
from sinks import Discards, NotDeleted, Publishes, SealedPart, Sink, SinkError

# They are named when there are so many, or when the last ones were named so many seconds ago: each time is a small
# object, and who reads in the middle of a run sees what was named so far.
AT_ONCE = 100
SECONDS = 300.0


class Publishing:
    """Names what counts, and takes back what a process that was fenced has made.

    Args:
        job: the job.
        lease: the checkpoint.
        emit: takes the events.
    """

    def __init__(self, job: Settings, lease: Lease, emit: progress.Listener) -> None:
        self._job = job
        self._lease = lease
        self._emit = emit
        self._last = time.monotonic()
        self._uncommitted: list[tuple[Sink, SealedPart]] = []
        self._parts = job.sink if isinstance(job.sink, Publishes) and job.sink.lasting else None
        self._rejects = job.rejects if isinstance(job.rejects, Publishes) and job.rejects.lasting else None

    def begin(self) -> None:
        """Name what the run before could not; where nothing was ever named, all that counts.

        Raises:
            sinks.SinkError: it cannot be named.
        """
        document = self._lease.document
        parts, rejects = document.unpublished_parts, document.unpublished_rejects
        if parts is None and self._parts is not None:
            self._publish_all(self._parts, document.loaded.tail)
        if rejects is None and self._rejects is not None:
            self._publish_all(self._rejects, document.state.dead_letters_tail)
        self._lease.document = replace(
            document,
            unpublished_parts=None if self._parts is None else parts or (),
            unpublished_rejects=None if self._rejects is None else rejects or (),
        )
        self.publish(now=True)

    def _publish_all(self, sink: Publishes, last: SealedPart | None) -> None:
        if last is None:
            return  # nothing counts yet, and `recover` has taken back what was named
        try:
            sink.publish_all(last.sequence)
        except NotDeleted as error:  # a manifest of the same parts, which a run wrote that was killed
            self._emit(progress.Notice(pipeline=self._job.pipeline, message=str(error)))

    def sealed(self, sink: Sink, part: SealedPart | None) -> None:
        """Hear of a part that is not committed yet."""
        if part is not None:
            self._uncommitted.append((sink, part))

    def settled(self) -> None:
        """Hear that what was sealed is committed, or cleared away."""
        self._uncommitted.clear()

    def noted(self, document: Checkpoint, part: SealedPart | None, letters: SealedPart | None) -> Checkpoint:
        """Note in the checkpoint what counts from its next swap on."""
        if part is not None and self._job.warehouse is None and document.unpublished_parts is not None:
            document = replace(document, unpublished_parts=(*document.unpublished_parts, part))
        if letters is not None and document.unpublished_rejects is not None:
            document = replace(document, unpublished_rejects=(*document.unpublished_rejects, letters))
        return document

    def publish(self, *, now: bool = False) -> None:
        """Name what counts and is not given up any more; the checkpoint hears of it with its next change.

        Args:
            now: whatever there is; else when there is enough of it, or the last time is long ago.

        Raises:
            sinks.SinkError: it cannot be named.
        """
        document = self._lease.document
        parts, rejects = document.unpublished_parts or (), document.unpublished_rejects or ()
        # Dead letters of parts that are not loaded yet may be made again with them.
        final = [
            part for part in rejects if not document.outstanding or part.sequence <= document.loaded.sequence
        ]
        due = now or time.monotonic() - self._last >= SECONDS or max(len(parts), len(final)) >= AT_ONCE
        if not due:
            return
        self._last = time.monotonic()
        if parts and self._parts is not None:
            self._parts.publish(parts, epoch=document.epoch)
            self._lease.document = replace(self._lease.document, unpublished_parts=())
        if final and self._rejects is not None:
            self._rejects.publish(final, epoch=document.epoch)
            self._lease.document = replace(self._lease.document, unpublished_rejects=rejects[len(final) :])

    def withdraw(self) -> None:
        """After `Fenced`, delete what this process sealed last, if it was not committed.

        The swap that was to commit it may have landed, and its answer been lost: only what the successor's checkpoint
        and the manifest prove to be unknown is deleted. Where anything goes wrong it stays; the next run clears it.
        """
        with suppress(CheckpointError, SinkError):
            found = self._lease.successor() if self._uncommitted else None
            if found is None or found.life != self._lease.document.life:
                return
            for sink, part in self._uncommitted:
                if isinstance(sink, Discards) and self._is_unknown(found, sink, part):
                    sink.discard(part)

    def _is_unknown(self, found: Checkpoint, sink: Sink, part: SealedPart) -> bool:
        """Say whether a part cannot have been committed, or is of no use any more."""
        if found.knows(part):
            return False
        if found.state.sequence < part.sequence or not sink.lasting:
            return True  # never committed, or given up; or loaded
        unpublished = found.unpublished_parts if sink is self._job.sink else found.unpublished_rejects
        # Once committed, it is in the checkpoint until it is named.
        return unpublished is not None and isinstance(sink, Publishes) and not sink.published(part)
