"""Refused records: each becomes a dead letter of the open part, or ends the run, as `on_error` says."""

from __future__ import annotations

from typing import Any

from etl import formats
from etl.dead_letters import DeadLetters
from etl.errors import RecordError, SchemaMismatch
from etl.job import Settings
from etl.lease import Lease
from etl.reader import Reader
from etl.records import Record, Unreadable
from etl.shown import shown
from sinks import SealedPart

# How much of a record a message shows, in characters.
MOST_SHOWN = 300


class Rejects:
    """Takes what the source, the transforms, the format and the warehouse refuse, and decides what becomes of it.

    What it takes belongs to the part that is open: it is sealed, committed or aborted with that.

    Args:
        job: the job; its `on_error` decides.
        lease: the checkpoint, which says that something may have been written.
        rejected: how many records the job has rejected so far, in earlier runs.
        reader: knows which record was taken last.
        may_judge: whether records that do not fit the table can be found one by one (see `etl.judging`).
    """

    def __init__(
        self, job: Settings, lease: Lease, rejected: int, reader: Reader, *, may_judge: bool
    ) -> None:
        self._job = job
        self._lease = lease
        self._reader = reader
        self._may_judge = may_judge
        self.forget(rejected)

    def forget(self, rejected: int) -> None:
        """Count from `rejected` again: parts that are not loaded were given up, with their dead letters."""
        self._letters = DeadLetters(self._job.rejects, self._job.max_rejects, rejected)

    # ------------------------------------------------------------------ who refuses

    def unreadable(self, found: Unreadable, number: int) -> None:
        """Refuse what the source could not decode.

        Raises:
            RecordError: the job keeps no dead letters. So do the methods below; all raise what `DeadLetters.add` does.
        """
        self.refuse_numbered(found.raw, found.reason, "source", number)

    def raised(self, record: Any, reason: str, origin: str) -> None:
        """Refuse a record at which a transform raised, in a job that keeps dead letters."""
        self._add(record, reason, origin, self._reader.number)

    def unencodable(self, record: Record, reason: str, number: int | None = None, /) -> None:
        """Refuse a record that the format cannot encode; see `etl.formats.Refuse`.

        Raises:
            SchemaMismatch: it may be an earlier one that does not fit the table.
        """
        number = self._reader.number if number is None else number
        if self._may_judge and isinstance(self._job.format, formats.TakesTypes):
            # The one that came first decided what fits; the table may say that it is the other one.
            raise SchemaMismatch(f"record {number}: cannot be encoded: {reason}")
        self.refuse_numbered(record, f"cannot be encoded: {reason}", "format", number)

    def refuse(self, record: Record, reason: str, origin: str) -> None:
        """Refuse the record that was taken last."""
        self.refuse_numbered(record, reason, origin, self._reader.number)

    def refuse_numbered(self, record: Any, reason: str, origin: str, number: int) -> None:
        """Refuse the record of this number, which others may have followed."""
        if self._job.on_error == "reject":
            self._add(record, reason, origin, number)
            return
        raise RecordError(
            f"record {number} (position: {self._reader.position}): {reason}; the record: {_shown(record)}. "
            'Fix it and run again, or set on_error = "reject"'
        )

    def _add(self, record: Any, reason: str, origin: str, number: int) -> None:
        self._lease.note_output()
        self._letters.add(record, reason, origin, number)

    # ------------------------------------------------------------------ the letters of the open part

    @property
    def count(self) -> int:
        """How many records of the open part were refused."""
        return self._letters.count

    def begin(self, sequence: int, epoch: int) -> None:
        """Begin the letters of part `sequence`; a file is made only when there is one."""
        self._letters.begin(sequence, epoch)

    def seal(self) -> SealedPart | None:
        """Make the letters of this part durable; None: there are none."""
        return self._letters.seal()

    def commit(self) -> None:
        """Count the letters of this part as the job's: they are in the checkpoint."""
        self._letters.commit()

    def abort(self) -> None:
        """Leave no trace of the letters of this part."""
        self._letters.abort()


def _shown(record: Any) -> str:
    text = shown(record)
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "…"
