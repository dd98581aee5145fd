"""The loop over parts, which reads like the way of the data.

    source ──▶ transforms ──▶ encoder ──▶ sink ──▶ checkpoint ──▶ warehouse ──▶ release

One part is pulled and encoded on this thread while the one before it loads on another; the hand-over is
bounded. The checkpoint is written by this thread alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from etl import formats, judging, progress, words
from etl.admission import Admission, json_columns, known_types, table_columns
from etl.checkpoint import Checkpoint
from etl.clearing import Clearing
from etl.committing import Committing, Written
from etl.ending import Ending
from etl.errors import (
    CheckpointError,
    CheckpointFull,
    PartTooLarge,
    SchemaMismatch,
    SinkFailed,
    WarehouseError,
)
from etl.housekeeping import Housekeeping
from etl.job import Counts, Settings
from etl.judging import Judge
from etl.lease import Lease
from etl.loading import Loading
from etl.open_part import OpenPart
from etl.own_output import OwnOutput
from etl.part_sizes import PartSizes
from etl.publishing import Publishing
from etl.reader import Reader
from etl.rejects import Rejects
from etl.shapes import MOST_KEYS, WideObjects
from etl.undoing import Undoing
from etl.warehouses.base import HoldsRecords, KeepsLedger
from etl.writing import Writing
from sinks import PartWriter, SealedPart, SinkError, SinkFull, TakesFacts, UploadLost
from sinks.hurry import HurriedAway

# How often one part is pulled again because what was written of it got lost on its way. Each time costs the whole part;
# what is lost so often is not lost by chance.
MOST_LOST = 5


class Engine:
    """Runs one job from the state of its checkpoint to the source's end, or until it is stopped.

    Args:
        settings: the job.
        lease: the checkpoint, acquired for this process.
        emit: takes the events.
        clearing: releases parts, and clears up.
    """

    def __init__(
        self, settings: Settings, lease: Lease, emit: Callable[[progress.Event], None], clearing: Clearing
    ) -> None:
        self._job = settings
        self._lease = lease
        self._emit = emit
        state = lease.document.state
        self.counts = Counts()
        self._publishing = Publishing(settings, lease, emit)
        self._loading = Loading(settings, lease, emit, self.counts, clearing)
        self._sizes = PartSizes(settings, lease, self._loading, self.counts, emit)
        self._hygiene = Housekeeping(settings.pipeline, emit)
        self._own_output = OwnOutput(settings.source)
        # What it calls while it pulls needs it, and is made below.
        self._reader = Reader(
            settings.source,
            state.position,
            lambda found, number: self._rejects.unreadable(found, number),
            lambda: self._open_part.tick(),
        )
        self._tries = judging.tries(settings)
        self._rejects = Rejects(
            settings, lease, state.totals.rejected, self._reader, may_judge=self._tries is not None
        )
        self._open_part = OpenPart(settings, self._reader, self._loading, self._rejects, self.counts, emit)
        self._writing = Writing(settings, lease, self._reader, self._loading, self._rejects, self._open_part)
        self._committing = Committing(
            settings,
            lease,
            self._loading,
            self._publishing,
            self._rejects,
            self.counts,
            self._open_part,
            emit,
        )
        self._undoing = Undoing(settings, lease, clearing, self._publishing, self._rejects)
        self._ending = Ending(
            settings,
            lease,
            self._reader,
            self._loading,
            self._publishing,
            self._undoing,
            self._hygiene,
            emit,
        )
        self._table = table_columns(settings, lease.document)
        self._wide = WideObjects(self._is_wide, json_columns(settings, lease.document))
        self._widened: Admission | None = None  # of a part that has to be begun again with a wider schema
        self._lost = 0  # how often the part got lost on its way
        self._most_records: int | None = None  # of a part, once one took more memory than the warehouse has

    @property
    def stopped(self) -> str | None:
        """What ends the run before the source's end; None: nothing does."""
        return self._ending.stopped

    def stop(self, reason: str) -> None:
        """Cut the part here, and end the run once it is committed and loaded. Safe from signal handlers.

        Args:
            reason: the name of a signal, or whatever tells the caller why.
        """
        self._ending.stopped = reason
        self._reader.leave(reason)
        self._loading.let_go()

    def run(self, *, pull: bool = True) -> None:
        """Run until the source's end or `stop`; then everything is committed, loaded and released.

        Args:
            pull: whether there is anything to do but to leave.

        Raises:
            Fenced: another process has taken the job over; nothing was cleaned up.
            EtlError: the run failed; what is committed stays, the open part left no trace.
        """
        try:
            self._publishing.begin()
            while True:
                try:
                    self._go_through(pull=pull)
                    break
                except (SchemaMismatch, PartTooLarge) as error:
                    if not pull or not (self._begin_judging(error) or self._pull_fewer(error)):
                        raise
            self._ending.leave()
        except HurriedAway as error:
            if self.stopped is None:
                raise
            self._notice(f"{self.stopped}: {error}")
            with suppress(Exception):  # the source's, which matters no more
                self._reader.close()
        except BaseException as error:
            self._ending.fail(error)
            raise
        finally:
            self._loading.close()

    def _go_through(self, *, pull: bool) -> None:
        """Write parts until the source's end or `stop`; where records may be judged, all of them are loaded, too."""
        with self._open_part.nudged():
            self._loading.advance()
            while pull and not (self._reader.exhausted or self._reader.unfinished or self.stopped):
                if (reason := self._loading.make_room(lambda: self.stopped is not None)) is not None:
                    self.stop(reason)
                self._write_part()
                if self._reader.unavailable is not None:
                    raise self._reader.unavailable
        self._reader.close()
        if self._tries is not None or isinstance(self._job.warehouse, KeepsLedger):
            self._loading.drain()

    # ------------------------------------------------------------------ one part

    def _write_part(self) -> None:
        """Pull, transform, encode, write, seal and commit the next part; without space, try a smaller one."""
        document = self._lease.document
        sequence = document.state.sequence + 1
        writer: PartWriter | None = None
        admission: Admission | None = None
        self._rejects.begin(sequence, document.epoch)
        self._reader.begin_slice()
        if self.stopped is not None:
            return
        self._open_part.begin()
        try:
            writer = self._job.sink.open_part(sequence, epoch=document.epoch)
            self._describe(
                writer, epoch=document.epoch, part=sequence, first_position=document.state.position
            )
            admission = self._widened or self._admission(document)
            sealed = self._filled(writer, admission, sequence)
        except HurriedAway:
            with suppress(HurriedAway):
                self._undoing.abort(writer)
            raise
        except (formats.SchemaWidened, SinkFull, CheckpointFull, UploadLost, judging.TooMany) as error:
            self._undoing.roll_back(writer)
            self._reader.open(document.state.position)
            if isinstance(error, formats.SchemaWidened):
                # its gate knows the columns that the format has learned
                self._widened = admission if admission and admission.gate else None
                if str(error):
                    self._notice(str(error))
            elif isinstance(error, UploadLost):
                self._pull_again(sequence, error)
            elif not isinstance(error, judging.TooMany):
                self._sizes.shrink(error, writer.bytes if writer is not None else None)
            return
        except SinkError as error:
            self._undoing.roll_back(writer)
            raise SinkFailed(
                f"job {self._job.pipeline!r}, part {sequence} (position: {document.state.position}): {error}"
            ) from error
        except BaseException as error:
            if not isinstance(error, CheckpointError):
                self._undoing.abort(writer)
            raise
        self._publishing.publish()
        self._widened = None
        self._lost = 0
        if self._open_part.pressed and sealed is not None:
            self._sizes.relieve(sealed, self._open_part.pressed)
        else:
            self._sizes.grow()

    def _filled(self, writer: PartWriter, admission: Admission, sequence: int) -> SealedPart | None:
        """Write a slice of the source, seal it and its dead letters, and commit both; None: no record survived."""
        records = self._writing.write(writer, admission)
        letters = self._rejects.seal()
        self._publishing.sealed(self._job.rejects, letters)
        position = self._reader.position
        self._describe(writer, records=records, last_position=position)
        sealed = writer.seal() if records else None
        self._own_output.see(sink=sealed, rejects=letters)
        self._publishing.sealed(self._job.sink, sealed)
        if sealed is None:
            writer.abort()
        else:
            self._lease.document = self._hygiene.noted(writer, self._lease.document)
        written = Written(
            sequence=sequence,
            records=records,
            sealed=sealed,
            letters=letters,
            position=position,
            cut=self._reader.cut or "end",
        )
        self._committing.commit(written, admission)
        self._publishing.settled()
        return sealed

    def _admission(self, document: Checkpoint) -> Admission:
        """Return what lets records into the next part."""
        return Admission(
            self._job,
            document,
            self._table,
            self._rejects.refuse,
            self._wide,
            judged=self._writing.judge is not None,
            most_records=self._most_records,
        )

    def _pull_again(self, sequence: int, error: UploadLost) -> None:
        """Let a part that got lost on its way be pulled again, unless that has been tried often enough.

        Raises:
            SinkFailed: it has.
        """
        self._lost += 1
        place = f"part {sequence} (position: {self._lease.document.state.position})"
        if self._lost > MOST_LOST:
            raise SinkFailed(
                f"job {self._job.pipeline!r}, {place} was lost on its way {self._lost} times in a row, the last time: "
                f"{error}. What was taken before it is kept; look at what stands between this machine and the storage "
                "(a proxy, a load balancer), and run again"
            ) from error
        self._notice(f"{place} is pulled again: {error}")

    def _describe(self, writer: PartWriter, **facts: object) -> None:
        """Let an object say which part of which job it is, to people who find it in a bucket."""
        if isinstance(writer, TakesFacts):
            writer.describe(
                {"pipeline": self._job.pipeline, **{name: str(value) for name, value in facts.items()}}
            )

    def _begin_judging(self, error: WarehouseError) -> bool:
        """Pull again what is not loaded, and try each part from here on before it is sealed; False: that is no help.

        A refusal by the encoder comes while a load may be under way, which may fail in the same way.
        """
        if self._tries is None or self._writing.judge is not None:
            return False
        with suppress(SchemaMismatch, PartTooLarge):
            self._loading.drain()
        document = self._give_up_waiting()
        types = known_types(self._job.source, self._job.transforms)
        self._writing.judge = Judge(self._job, self._tries, types, self._wide, self._loading.call)
        self._reader.open(document.state.position)
        what, _, _remedy = str(error).partition("; ")
        self._notice(
            f"records that do not fit the table become dead letters: {what}. What is not loaded is pulled again from "
            f"{document.state.position}; until this run ends, each part is tried before it is written, and holds "
            f"{words.size(judging.MOST_BYTES)} of records at most"
        )
        return True

    def _pull_fewer(self, error: WarehouseError) -> bool:
        """Pull again what is not loaded, in parts of half the records, after one took too much memory; False: no help.

        Once a part has a single record, no smaller one can be made.

        Raises:
            PartTooLarge: one record takes too much; it says how much memory that needs, where that is known.
        """
        plans = self._lease.document.plans
        warehouse: object = self._job.warehouse
        if not isinstance(error, PartTooLarge) or not plans or not isinstance(warehouse, KeepsLedger):
            return False
        if (records := plans[0].records) < 2:
            held = self._writing.held.get(plans[0].after.sequence)
            if held is None or not isinstance(warehouse, HoldsRecords):
                return False
            raise PartTooLarge(
                f"one record of {words.size(held)} takes more memory than there is: give the job "
                f"{words.size(warehouse.memory_for(held))} (`memory`, and its control group), or split it in a "
                f"transform: {error}"
            ) from error
        self._most_records = records // 2
        document = self._give_up_waiting()
        self._reader.open(document.state.position)
        what, _, _remedy = str(error).partition("; ")
        self._notice(
            f"{records:,} records take more memory at once than there is: {what}. What is not loaded is pulled again "
            f"from {document.state.position}; until this run ends, a part holds {self._most_records:,} at most"
        )
        return True

    def _give_up_waiting(self) -> Checkpoint:
        """Give up the parts that are not loaded; return the checkpoint, where the reader is to be opened."""
        before = self._lease.document
        self._undoing.give_up_waiting()
        document = self._lease.document
        self.counts.give_up(before.state.totals, document.state.totals)
        self._open_part.pulled_again_from(document.state.position.number)
        self._rejects.forget(document.state.totals.rejected)
        self._widened = None
        self._table = table_columns(self._job, document)
        self._loading.resume()
        return document

    def _is_wide(self, field: str) -> None:
        self._notice(
            f"the objects in the field {field!r} have more than {MOST_KEYS} different keys, which are data and no "
            f'columns: it is loaded as JSON. Declare it so: [warehouse.schema] {field} = "JSON"'
        )

    def _notice(self, message: str) -> None:
        self._emit(progress.Notice(pipeline=self._job.pipeline, message=message))
