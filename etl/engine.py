"""The loop over parts, which reads like the way of the data.

    source ──▶ transforms ──▶ encoder ──▶ sink ──▶ checkpoint ──▶ warehouse ──▶ release

One part is pulled and encoded on this thread while the one before it loads on another; the hand-over is
bounded. The checkpoint is written by this thread alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, suppress
from typing import Any

from etl import formats, judging, progress, refreshes, words
from etl.admission import Admission, json_columns, known_types, table_columns
from etl.checkpoint import SMALLEST_PART, Checkpoint, Part, State, replace
from etl.clearing import Clearing
from etl.dead_letters import DeadLetters
from etl.errors import (
    CheckpointError,
    CheckpointFull,
    Fenced,
    RecordError,
    SchemaMismatch,
    SinkFailed,
    StillLoading,
)
from etl.housekeeping import Housekeeping
from etl.job import Counts, Settings
from etl.judging import Judge, Taken
from etl.lease import Lease
from etl.loading import OUT_OF_QUOTA, Loading
from etl.own_output import OwnOutput
from etl.part_sizes import PartSizes
from etl.publishing import Publishing
from etl.reader import Reader
from etl.records import Record, Unreadable, describe
from etl.repeating import repeated
from etl.shapes import MOST_KEYS, WideObjects
from etl.transforms import Stages
from etl.warehouses.base import Job, KeepsLedger
from sinks import PartWriter, SealedPart, SinkError, SinkFull, TakesFacts, UploadLost

# How often a run looks at its clock and says how far it is, when its records are slow.
TICK_SECONDS = 1.0

# Between two looks at the clock while records are collected to be judged.
JUDGED_AT_ONCE = 100

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
        self._clearing = clearing
        self._publishing = Publishing(settings, lease, emit)
        self.counts = Counts()
        self._loading = Loading(settings, lease, emit, self.counts, clearing)
        self._sizes = PartSizes(settings, lease, self._loading, self.counts, emit)
        self._dead_letters = DeadLetters(
            settings.rejects, settings.max_rejects, lease.document.state.totals.rejected
        )
        self._reader = Reader(settings.source, lease.document.state.position, self._unreadable, self._tick)
        self._stages = Stages(settings.transforms, settings.on_error, self._reject)
        self._began_at = lease.document.state.position.number
        self._part_began = 0.0
        self._pressed = 0  # the working set at which the open part was cut; 0: it was not
        self._hygiene = Housekeeping(settings.pipeline, emit)
        self._own_output = OwnOutput(settings.source)
        self._table = table_columns(settings, lease.document)
        self._wide = WideObjects(self._is_wide, json_columns(settings, lease.document))
        self._lost = 0  # how often the part got lost on its way
        self._tries = judging.tries(settings)
        self._judge: Judge | None = None
        self._widened: Admission | None = None  # of a part that has to be begun again with a wider schema
        self._open_part = (0, 0)  # the records and the bytes of the part that is being written
        self.stopped: str | None = None

    def stop(self, reason: str) -> None:
        """Cut the part here, and end the run once it is committed and loaded. Safe from signal handlers.

        Args:
            reason: the name of a signal, or whatever tells the caller why.
        """
        self.stopped = reason
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
                except SchemaMismatch as error:
                    if not pull or not self._begin_judging(error):
                        raise
            if self.stopped is None:
                self._leave(finished=True)
            else:
                self._leave_early()
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self._loading.close()

    def _go_through(self, *, pull: bool) -> None:
        """Write parts until the source's end or `stop`; where records may be judged, all of them are loaded, too."""
        with self._nudged():
            self._loading.advance()
            while pull and not (self._reader.exhausted or self.stopped):
                if (reason := self._loading.make_room(lambda: self.stopped is not None)) is not None:
                    self.stop(reason)
                self._write_part()
                if self._reader.unavailable is not None:
                    raise self._reader.unavailable
        self._reader.close()
        if self._tries is not None:
            self._loading.drain()

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

    def _leave_early(self) -> None:
        """Leave a run that was stopped: a load that does not need this process goes on without it."""
        if self._loading.under_way:
            self._notice(f"{self.stopped}: what was taken is kept, and is being loaded")
        self._loading.leave()
        self._leave(finished=self._reader.exhausted)

    # ------------------------------------------------------------------ one part

    def _write_part(self) -> None:
        """Pull, transform, encode, write, seal and commit the next part; without space, try a smaller one."""
        document = self._lease.document
        sequence = document.state.sequence + 1
        writer: PartWriter | None = None
        admission: Admission | None = None
        self._dead_letters.begin(sequence, document.epoch)
        self._reader.begin_slice()
        if self.stopped is not None:
            return
        self._part_began = time.monotonic()
        self._open_part = 0, 0
        self._pressed = 0
        try:
            writer = self._job.sink.open_part(sequence, epoch=document.epoch)
            self._describe(
                writer, epoch=document.epoch, part=sequence, first_position=document.state.position
            )
            admission = self._widened or Admission(
                self._job,
                document,
                self._table,
                self._refuse_record,
                self._wide,
                judged=self._judge is not None,
            )
            records = (
                self._encode(writer, admission)
                if self._judge is None
                else self._encode_judged(writer, admission, self._judge)
            )
            letters = self._dead_letters.seal()
            self._publishing.sealed(self._job.rejects, letters)
            self._describe(writer, records=records, last_position=self._reader.position)
            sealed = writer.seal() if records else None
            self._own_output.see(sink=sealed, rejects=letters)
            self._publishing.sealed(self._job.sink, sealed)
            if sealed is None:
                writer.abort()
            if sealed is not None:
                self._lease.document = self._hygiene.noted(writer, self._lease.document)
            self._commit(sequence, records, sealed, letters, admission)
            self._publishing.settled()
        except (formats.SchemaWidened, SinkFull, CheckpointFull, UploadLost) as error:
            self._roll_back(writer)
            self._reader.open(document.state.position)
            if isinstance(error, formats.SchemaWidened):
                # its gate knows the columns that the format has learned
                self._widened = admission if admission and admission.gate else None
                if str(error):
                    self._notice(str(error))
            elif isinstance(error, UploadLost):
                self._pull_again(sequence, error)
            else:
                self._sizes.shrink(error, writer.bytes if writer is not None else None)
            return
        except SinkError as error:
            self._roll_back(writer)
            raise SinkFailed(
                f"job {self._job.pipeline!r}, part {sequence} (position: {document.state.position}): {error}"
            ) from error
        except BaseException as error:
            if not isinstance(error, CheckpointError):
                self._abort(writer)
            raise
        self._publishing.publish()
        self._widened = None
        self._lost = 0
        if self._pressed and sealed is not None:
            self._sizes.relieve(sealed, self._pressed)
        else:
            self._sizes.grow()

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

    def _encode(self, writer: PartWriter, admission: Admission) -> int:
        """Write one slice of the source into `writer`; return how many records it became."""
        part_bytes = self._lease.document.part_bytes
        count = 0
        batch_bytes = min(formats.BATCH_BYTES, part_bytes)
        # Closed here: a generator that an error leaves behind would end later, and take from the source then.
        with closing(self._stages.run(self._reader)) as outputs:
            admitted = admission.of(outputs, self._reader.end_slice)
            with closing(
                self._job.format.encode(admitted, writer.write, self._refuse, batch_bytes)
            ) as counts:
                for count in counts:
                    if writer.bytes >= part_bytes:
                        self._reader.end_slice("bytes")
                    self._open_part = count, writer.bytes
                    self._tick()
        return count

    def _encode_judged(self, writer: PartWriter, admission: Admission, judge: Judge) -> int:
        """Write those records of one slice of the source that the warehouse takes; return how many they are."""
        most = min(self._lease.document.part_bytes, judging.MOST_BYTES)
        taken: list[Taken] = []
        size = 0
        with closing(self._stages.run(self._reader)) as outputs:
            for record in admission.of(outputs, self._reader.end_slice):
                taken.append(Taken(record, self._reader.number))
                size += judging.weight(record)
                if size >= most:
                    self._reader.end_slice("bytes")
                self._open_part = len(taken), size
                if not len(taken) % JUDGED_AT_ONCE:
                    self._tick()
        self._loading.drain()  # the table must be what the part will find

        def refuse(one: Taken, reason: str, origin: str) -> None:
            self._refused(one.record, reason, origin, one.number)

        tried = judge.fitting(Job.of(self._lease.document, self._job.fingerprint), taken, refuse)
        if tried is None:
            return 0
        admission.tried = tried.part
        writer.write(tried.data)
        return tried.part.records

    def _commit(
        self,
        sequence: int,
        records: int,
        sealed: SealedPart | None,
        letters: SealedPart | None,
        admission: Admission,
    ) -> None:
        """Store the part and the position after it in one step; then let loading go on."""
        document = self._lease.document
        state, rejected = document.state, self._dead_letters.count
        size = sealed.bytes if sealed else 0
        after = State(
            sequence=sequence if sealed or letters else state.sequence,
            position=self._reader.position,
            tail=sealed or state.tail,
            dead_letters_tail=letters or state.dead_letters_tail,
            totals=replace(
                state.totals,
                records=state.totals.records + records,
                bytes=state.totals.bytes + size,
                parts=state.totals.parts + (1 if sealed else 0),
                rejected=state.totals.rejected + rejected,
                ignored=state.totals.ignored + admission.ignored,
            ),
        )
        if after == state:
            return
        if self._job.warehouse is None:
            # Where nothing is loaded, a sealed part is the result.
            document = replace(document.committed(after, None), loaded=after)
            if sealed and document.parts_schema is None:
                document = self._with_schema(document)
        else:
            part = None
            if sealed:
                part = Part.of(
                    sealed, records, after, admission.fields, admission.types, admission.partitions
                )
            document = document.committed(after, part)
        if sealed and admission.columns is not None:
            document = replace(document, columns=admission.columns)
        document = self._publishing.noted(document, sealed, letters)
        self._loading.advance(document)
        self._dead_letters.commit()
        self.counts.records += records
        self.counts.bytes += size
        self.counts.rejected += rejected
        self.counts.ignored += admission.ignored
        if sealed:
            self.counts.parts += 1
            self._emit(
                progress.PartSealed(
                    pipeline=self._job.pipeline,
                    sequence=sequence,
                    uri=sealed.uri,
                    records=records,
                    bytes=size,
                    cut=self._reader.cut or "end",
                )
            )
        self._open_part = 0, 0
        self._tell()

    def _with_schema(self, document: Checkpoint) -> Checkpoint:
        """Keep the schema of the first part, which all others get, on whichever machine they are written."""
        if not isinstance(self._job.format, formats.KeepsSchema):
            return document
        if untold := self._job.format.untold:
            self._notice(
                f"the first part has no value in {', '.join(map(repr, untold))}: that is text in all parts, and other "
                "values are refused"
            )
        return replace(document, parts_schema=self._job.format.kept())

    def _nudged(self) -> AbstractContextManager[None]:
        """Let `_tick` be called now and then, also when records are slow, or none of them survives."""
        seconds = self._job.part_seconds
        interval = TICK_SECONDS if seconds is None else min(TICK_SECONDS, seconds)
        return repeated(self._reader.nudge, interval, "etl-nudge")

    def _tick(self) -> None:
        """Between two records: cut a part that is old, let loading go on, say how far the run is."""
        seconds = self._job.part_seconds
        if seconds is not None and time.monotonic() - self._part_began >= seconds:
            self._reader.end_slice("seconds")
        self._loading.advance_if_done()
        if self._reader.cut is None and self._open_part[1] >= SMALLEST_PART:
            self._pressed = self._job.governor.pressed() or 0
            if self._pressed:
                self._reader.end_slice("memory")
        self._tell()

    # ------------------------------------------------------------------ rejects

    def _reject(self, record: Any, reason: str, origin: str) -> None:
        self._dead_letters.add(record, reason, origin, self._reader.number)

    def _unreadable(self, found: Unreadable, number: int) -> None:
        self._refused(found.raw, found.reason, "source", number)

    def _refuse(self, record: Record, reason: str) -> None:
        if self._tries is not None and isinstance(self._job.format, formats.TakesTypes):
            # The one that came first decided what fits; the table may say that it is the other one.
            raise SchemaMismatch(f"record {self._reader.number}: cannot be encoded: {reason}")
        self._refuse_record(record, f"cannot be encoded: {reason}", "format")

    def _refuse_record(self, record: Record, reason: str, origin: str) -> None:
        self._refused(record, reason, origin, self._reader.number)

    def _refused(self, record: Any, reason: str, origin: str, number: int) -> None:
        if self._job.on_error == "reject":
            self._dead_letters.add(record, reason, origin, number)
            return
        raise RecordError(
            f"record {number} (position: {self._reader.position}): {reason}; the record: {_shown(record)}. "
            'Fix it and run again, or set on_error = "reject"'
        )

    # ------------------------------------------------------------------ trouble

    def _abort(self, writer: PartWriter | None) -> None:
        """Leave no trace of the open part.

        One that is sealed may be in the checkpoint already, whatever went wrong after that: it is left to
        the next run, whose `recover` knows.
        """
        if writer is not None and writer.sealed is None:
            writer.abort()
            self._dead_letters.abort()

    def _roll_back(self, writer: PartWriter | None) -> None:
        """Leave no trace of a part that is not in the checkpoint, open or sealed.

        What a half-dead process finds in its way is its successor's: that must not be cleaned up.
        """
        self._lease.check()
        document = self._lease.document
        if writer is not None:
            writer.abort()
        self._dead_letters.abort()
        sealed = [part.sealed for part in document.outstanding]
        for sink, parts, last in (
            (self._job.sink, sealed, document.state.tail),
            (self._job.rejects, [], document.state.dead_letters_tail),
        ):
            self._clearing.recover(sink, parts, last, epoch=document.epoch)
        self._publishing.settled()

    def _fail(self, error: BaseException) -> None:
        """Leave a failed run in order: load what is sealed, and say that the end was clean.

        After `Fenced` nothing is touched but what this process made and nobody knows of, after any other trouble with
        the checkpoint it is not known, and who interrupts a run twice is in a hurry. A second error here must not hide
        the first.
        """
        try:
            if isinstance(error, Fenced):
                self._publishing.withdraw()
            self._reader.close()
            if isinstance(error, SchemaMismatch):
                self._give_up_sealed()
            if isinstance(error, Exception) and not isinstance(error, CheckpointError):
                self._leave(finished=False, failure=error)
        except Exception as other:
            if isinstance(other, Fenced) and not isinstance(error, Fenced):
                self._publishing.withdraw()
            error.add_note(f"and while the run was being ended: {describe(other)}")
            if not isinstance(other, CheckpointError):
                with suppress(CheckpointError):
                    self._lease.write(self._lease.document.failing(describe(error)))

    def _begin_judging(self, error: SchemaMismatch) -> bool:
        """Pull again what is not loaded, and try each part from here on before it is sealed; False: that is no help.

        A refusal by the encoder comes while a load may be under way, which may fail in the same way.
        """
        if self._tries is None or self._judge is not None:
            return False
        with suppress(SchemaMismatch):
            self._loading.drain()
        before = self._lease.document
        self._lease.write(before.rewound())
        self._roll_back(None)
        document = self._lease.document
        self.counts.give_up(before.state.totals, document.state.totals)
        self._began_at = min(self._began_at, document.state.position.number)
        self._dead_letters = DeadLetters(
            self._job.rejects, self._job.max_rejects, document.state.totals.rejected
        )
        self._widened = None
        self._table = table_columns(self._job, document)
        types = known_types(self._job.source, self._job.transforms)
        self._judge = Judge(self._job, self._tries, types, self._wide, self._loading.call)
        self._loading.resume()
        self._reader.open(document.state.position)
        what, _, _remedy = str(error).partition("; ")
        self._notice(
            f"records that do not fit the table become dead letters: {what}. What is not loaded is pulled again from "
            f"{document.state.position}; until this run ends, each part is tried before it is written, and holds "
            f"{words.size(judging.MOST_BYTES)} of records at most"
        )
        return True

    def _give_up_sealed(self) -> None:
        """Let the records of parts that a warehouse refuses be pulled again, through a transform that was fixed.

        Only where a ledger tells that none of them is loaded.
        """
        warehouse: object = self._job.warehouse
        if isinstance(warehouse, KeepsLedger):
            self._lease.write(self._lease.document.rewound())
            self._roll_back(None)

    def _is_wide(self, field: str) -> None:
        self._notice(
            f"the objects in the field {field!r} have more than {MOST_KEYS} different keys, which are data and no "
            f'columns: it is loaded as JSON. Declare it so: [warehouse.schema] {field} = "JSON"'
        )

    def _notice(self, message: str) -> None:
        self._emit(progress.Notice(pipeline=self._job.pipeline, message=message))

    def _tell(self) -> None:
        counts, (records, size) = self.counts, self._open_part
        share = getattr(self._job.source, "progress", None)
        self._emit(
            progress.Progress(
                pipeline=self._job.pipeline,
                taken=self._reader.number - self._began_at,
                records=counts.records + records,
                bytes=counts.bytes + size,
                rejected=counts.rejected + self._dead_letters.count,
                sealed=counts.parts,
                loaded=counts.loaded,
                fraction=share() if share is not None else None,
            )
        )


def _shown(record: Any) -> str:
    text = repr(record)
    return text if len(text) <= 300 else text[:300] + "…"
