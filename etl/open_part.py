"""The part that is being written, watched between two records: it is cut when it is old, or when memory is short."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager

from etl import progress
from etl.job import SMALLEST_PART, Counts, Settings
from etl.loading import Loading
from etl.reader import Reader
from etl.rejects import Rejects
from etl.repeating import repeated

# How often a run looks at its clock and says how far it is, when its records are slow.
TICK_SECONDS = 1.0


class OpenPart:
    """Knows how large and how old the part is, and says how far the run is.

    Args:
        job: the job.
        reader: is told where the part ends.
        loading: goes on between two records.
        rejects: knows how many records of the part were refused.
        counts: what the parts before it hold.
        emit: takes the events.

    Attributes:
        pressed: the working set at which the part was cut, in bytes; 0: memory was not short.
    """

    def __init__(
        self,
        job: Settings,
        reader: Reader,
        loading: Loading,
        rejects: Rejects,
        counts: Counts,
        emit: progress.Listener,
    ) -> None:
        self._job = job
        self._reader = reader
        self._loading = loading
        self._rejects = rejects
        self._counts = counts
        self._emit = emit
        self._run_began_at = reader.number
        self._began = 0.0
        self._records = self._bytes = 0
        self.pressed = 0

    def begin(self) -> None:
        """Begin another part."""
        self._began = time.monotonic()
        self._records = self._bytes = 0
        self.pressed = 0

    def holds(self, records: int, size: int) -> None:
        """Note what the part holds by now; `size` is in bytes."""
        self._records, self._bytes = records, size

    def committed(self) -> None:
        """Say how far the run is: what the part held is among the counts."""
        self._records = self._bytes = 0
        self._tell()

    def pulled_again_from(self, number: int) -> None:
        """Say from now on how far the run is from this record, if it began after it."""
        self._run_began_at = min(self._run_began_at, number)

    def nudged(self) -> AbstractContextManager[None]:
        """Let the reader be nudged now and then, so that `tick` is called when records are slow, or none survives."""
        seconds = self._job.part_seconds
        interval = TICK_SECONDS if seconds is None else min(TICK_SECONDS, seconds)
        return repeated(self._reader.nudge, interval, "etl-nudge")

    def tick(self) -> None:
        """Between two records: cut a part that is old, let loading go on, say how far the run is."""
        seconds = self._job.part_seconds
        if seconds is not None and time.monotonic() - self._began >= seconds:
            self._reader.end_slice("seconds")
        self._loading.advance_if_done()
        if self._reader.cut is None and self._bytes >= SMALLEST_PART:
            self.pressed = self._job.governor.pressed() or 0
            if self.pressed:
                self._reader.end_slice("memory")
        self._tell()

    def _tell(self) -> None:
        counts = self._counts
        share = getattr(self._job.source, "progress", None)
        self._emit(
            progress.Progress(
                pipeline=self._job.pipeline,
                taken=self._reader.number - self._run_began_at,
                records=counts.records + self._records,
                bytes=counts.bytes + self._bytes,
                rejected=counts.rejected + self._rejects.count,
                sealed=counts.parts,
                loaded=counts.loaded,
                fraction=share() if share is not None else None,
            )
        )
