"""Clearing up behind a job: parts are released, and what a run left is removed; what the storage keeps is told once.

A bucket's retention policy, a hold, or an account that may not delete keep an object from being deleted. That is no
reason to stop: what is loaded is loaded, and nothing that no plan names is ever loaded. A later run deletes it.
"""

from __future__ import annotations

from collections.abc import Sequence

from etl import progress
from sinks import NotDeleted, SealedPart, Sink

# After so many refusals in a row nothing more is released in this run: it is the bucket, or the account, that refuses,
# and each time costs a request. The next run's `recover` looks at what may be deleted by then.
MOST_REFUSED = 10


class Clearing:
    """Releases and removes what a run no longer needs; all parts of a run use the same one.

    Args:
        pipeline: the job's name.
        emit: takes the events.
    """

    def __init__(self, pipeline: str, emit: progress.Listener) -> None:
        self._pipeline = pipeline
        self._emit = emit
        self._told = False
        self._refused = 0

    def recover(
        self, sink: Sink, sealed: Sequence[SealedPart], last: SealedPart | None, *, epoch: int
    ) -> None:
        """Make a sink as it was when `last` was sealed, as `Sink.recover`, whatever cannot be deleted.

        Raises:
            sinks.SinkError: as `Sink.recover`, but for `NotDeleted`.
        """
        try:
            sink.recover(sealed, last, epoch=epoch)
        except NotDeleted as error:
            self._tell(error)

    def release(self, sink: Sink, part: SealedPart) -> None:
        """Release a part, as `Sink.release`, or leave it where it cannot be deleted.

        Raises:
            sinks.SinkError: as `Sink.release`, but for `NotDeleted`.
        """
        if self._refused >= MOST_REFUSED:
            return
        try:
            sink.release(part)
        except NotDeleted as error:
            self._refused += 1
            self._tell(error)
        else:
            self._refused = 0

    def _tell(self, error: NotDeleted) -> None:
        if not self._told:
            self._told = True
            message = f"{error}. The job goes on, and a later run deletes what may be deleted by then"
            self._emit(progress.Notice(pipeline=self._pipeline, message=message))
