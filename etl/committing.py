"""The swap that makes a part count: the checkpoint gets the part and the position after it in one step."""

from __future__ import annotations

from dataclasses import dataclass

from etl import formats, progress
from etl.admission import Admission
from etl.checkpoint import Checkpoint, Part, State, replace
from etl.job import Counts, Settings
from etl.lease import Lease
from etl.loading import Loading
from etl.open_part import OpenPart
from etl.publishing import Publishing
from etl.records import Position
from etl.rejects import Rejects
from sinks import SealedPart


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """A slice of the source that was written.

    Attributes:
        sequence: the number of its part.
        records: how many records the part holds.
        sealed: the part; None: no record of the slice survived.
        letters: its dead letters; None: there are none.
        position: the source's position after it.
        cut: why it ended.
    """

    sequence: int
    records: int
    sealed: SealedPart | None
    letters: SealedPart | None
    position: Position
    cut: str

    @property
    def bytes(self) -> int:
        """The size of the part."""
        return self.sealed.bytes if self.sealed else 0


class Committing:
    """Commits parts, and counts them.

    Args:
        job: the job.
        lease: the checkpoint.
        loading: writes it, and goes on with what is sealed.
        publishing: notes what readers are to be told.
        rejects: knows how many records of the part were refused.
        counts: where parts are counted.
        open_part: is told that it is committed.
        emit: takes the events.
    """

    def __init__(
        self,
        job: Settings,
        lease: Lease,
        loading: Loading,
        publishing: Publishing,
        rejects: Rejects,
        counts: Counts,
        open_part: OpenPart,
        emit: progress.Listener,
    ) -> None:
        self._job = job
        self._lease = lease
        self._loading = loading
        self._publishing = publishing
        self._rejects = rejects
        self._counts = counts
        self._open_part = open_part
        self._emit = emit

    def commit(self, written: Written, admission: Admission) -> None:
        """Store the part and the position after it in one step; then let loading go on.

        Args:
            written: what is sealed.
            admission: what is known of its records.

        Raises:
            CheckpointError: the checkpoint cannot be written.
            Exception: what `Loading.advance` raises; the part is committed then.
        """
        document, rejected = self._lease.document, self._rejects.count
        after = self._after(document.state, written, admission, rejected)
        if after == document.state:
            return
        document = self._with_part(document, after, written, admission)
        document = self._publishing.noted(document, written.sealed, written.letters)
        self._loading.advance(document)
        self._rejects.commit()
        self._counts.records += written.records
        self._counts.bytes += written.bytes
        self._counts.rejected += rejected
        self._counts.ignored += admission.ignored
        if written.sealed:
            self._counts.parts += 1
            self._emit(
                progress.PartSealed(
                    pipeline=self._job.pipeline,
                    sequence=written.sequence,
                    uri=written.sealed.uri,
                    records=written.records,
                    bytes=written.bytes,
                    cut=written.cut,
                )
            )
        self._open_part.committed()

    def _after(self, state: State, written: Written, admission: Admission, rejected: int) -> State:
        """Return the job's state after a part."""
        return State(
            sequence=written.sequence if written.sealed or written.letters else state.sequence,
            position=written.position,
            tail=written.sealed or state.tail,
            dead_letters_tail=written.letters or state.dead_letters_tail,
            totals=replace(
                state.totals,
                records=state.totals.records + written.records,
                bytes=state.totals.bytes + written.bytes,
                parts=state.totals.parts + (1 if written.sealed else 0),
                rejected=state.totals.rejected + rejected,
                ignored=state.totals.ignored + admission.ignored,
            ),
        )

    def _with_part(
        self, document: Checkpoint, after: State, written: Written, admission: Admission
    ) -> Checkpoint:
        """Return the checkpoint with the part, and with what the part pins for those after it."""
        sealed = written.sealed
        if self._job.warehouse is None:
            # Where nothing is loaded, a sealed part is the result.
            document = replace(document.committed(after, None), loaded=after)
            if sealed and document.parts_schema is None:
                document = self._with_schema(document)
        else:
            part = None
            if sealed:
                part = Part.of(
                    sealed, written.records, after, admission.fields, admission.types, admission.partitions
                )
            document = document.committed(after, part)
        if sealed and admission.columns is not None:
            document = replace(document, columns=admission.columns)
        return document

    def _with_schema(self, document: Checkpoint) -> Checkpoint:
        """Keep the schema of the first part, which all others get, on whichever machine they are written."""
        if not isinstance(self._job.format, formats.KeepsSchema):
            return document
        untold, widened = (
            ", ".join(map(repr, names)) for names in (self._job.format.untold, self._job.format.widened)
        )
        told = [
            f"the first part has no value in {untold}: that is text in all parts, and other values are refused"
            if untold
            else "",
            f"the first record lacks {widened}, or has an integer where others have fractions: the columns hold all "
            "records of the first part, and later parts get the same"
            if widened
            else "",
        ]
        if message := "; ".join(filter(None, told)):
            self._emit(progress.Notice(pipeline=self._job.pipeline, message=message))
        return replace(document, parts_schema=self._job.format.kept())
