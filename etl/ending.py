"""How a run ends: at the source's end, stopped before it, or failed. What is sealed is loaded in each case."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from etl import progress, refreshes
from etl.errors import CheckpointError, Fenced, PartTooLarge, SchemaMismatch, StillLoading
from etl.housekeeping import Housekeeping
from etl.job import Settings
from etl.lease import Lease
from etl.loading import OUT_OF_QUOTA, Loading
from etl.publishing import Publishing
from etl.reader import Reader
from etl.records import describe
from etl.undoing import Undoing
from sinks.hurry import HurriedAway


@contextmanager
def before_it_begins() -> Iterator[None]:
    """Interrupt a run that was stopped while it waited for what does not answer, before it had begun to pull."""
    try:
        yield
    except HurriedAway as error:
        raise KeyboardInterrupt(str(error)) from error


# What a run says that ended before a record which its writer may be about to end.
UNFINISHED = "an unfinished record"


class Ending:
    """Leaves a run in order, and notes in the checkpoint how it ended.

    Args:
        job: the job.
        lease: the checkpoint.
        reader: is closed where the run failed, and knows whether the source's end was reached.
        loading: loads what is sealed.
        publishing: names what counts.
        undoing: gives up what a warehouse refuses.
        hygiene: says how the page cache was kept small.
        emit: takes the events.

    Attributes:
        stopped: what ends the run before the source's end; None: nothing does. Set by signal handlers, too.
    """

    def __init__(
        self,
        job: Settings,
        lease: Lease,
        reader: Reader,
        loading: Loading,
        publishing: Publishing,
        undoing: Undoing,
        hygiene: Housekeeping,
        emit: progress.Listener,
    ) -> None:
        self._job = job
        self._lease = lease
        self._reader = reader
        self._loading = loading
        self._publishing = publishing
        self._undoing = undoing
        self._hygiene = hygiene
        self._emit = emit
        self.stopped: str | None = None

    def leave(self) -> None:
        """Leave a run that did not fail.

        Raises:
            EtlError: what is sealed cannot be loaded, or the checkpoint cannot be written.
        """
        if self.stopped is None:
            if (unfinished := self._reader.unfinished) is not None:
                self.stopped = UNFINISHED
                self._notice(str(unfinished))
            self._leave(finished=unfinished is None)
            return
        if self._loading.under_way:
            self._notice(f"{self.stopped}: what was taken is kept, and is being loaded")
        self._loading.leave()  # a load that does not need this process goes on without it
        self._leave(finished=self._reader.exhausted)

    def fail(self, error: BaseException) -> None:
        """Leave a failed run in order: load what is sealed, and say that the end was clean.

        After `Fenced` nothing is touched but what this process made and nobody knows of, after any other trouble with
        the checkpoint it is not known, and who interrupts a run twice is in a hurry. A second error here must not hide
        the first, unless it explains it.

        Raises:
            Fenced: another process has taken the job over, which is why the run failed: it met what that one did.
        """
        try:
            if isinstance(error, Fenced):
                self._publishing.withdraw()
            self._reader.close()
            if isinstance(error, (SchemaMismatch, PartTooLarge)):
                self._undoing.give_up_refused()
            if isinstance(error, Exception) and not isinstance(error, CheckpointError):
                self._leave(finished=False, failure=error)
        except Exception as other:
            if isinstance(other, Fenced) and not isinstance(error, Fenced):
                self._publishing.withdraw()
                other.add_note(f"before that was known: {describe(error)}")
                raise other from error
            error.add_note(f"and while the run was being ended: {describe(other)}")
            if not isinstance(other, CheckpointError):
                with suppress(CheckpointError):
                    self._lease.write(self._lease.document.failing(describe(error)))

    def _leave(self, *, finished: bool, failure: Exception | None = None) -> None:
        """Load what is sealed, and note that the run ended in order.

        Args:
            finished: whether the source's end was reached.
            failure: why the run ends before that; None: it did not fail.
        """
        self._loading.drain()
        waiting = self._lease.document.outstanding
        if waiting and (seconds := self._loading.wait_for_quota()):
            self.stopped = self.stopped or OUT_OF_QUOTA
            self._notice(
                f"the daily quota of the table is used up: {len(waiting)} sealed parts wait; the next run, in "
                f"{seconds / 3600:.1f} hours or later, loads them. Larger parts (part_bytes) take fewer loads"
            )
        finished = finished and not waiting and self._exchanged()
        self._publishing.publish(now=True)
        document = self._lease.document.left(finished=finished, stopped=self.stopped or "")
        self._lease.write(document if failure is None else document.failing(describe(failure)))
        self._hygiene.tell(at_end=True)

    def _exchanged(self) -> bool:
        """End the refresh that is under way, all of which is loaded; False: it goes on without this process."""
        try:
            refreshes.exchange(self._job, self._lease, self._emit, self._loading.call)
        except StillLoading as error:
            self.stopped = self.stopped or "refresh"
            self._notice(str(error))
            return False
        finally:
            self._loading.note_operations()
        return True

    def _notice(self, message: str) -> None:
        self._emit(progress.Notice(pipeline=self._job.pipeline, message=message))
