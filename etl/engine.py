"""The loop over parts, which reads like the way of the data.

    source ──▶ transforms ──▶ encoder ──▶ sink ──▶ checkpoint ──▶ warehouse ──▶ release

One part is pulled and encoded on this thread while the one before it loads on another; the hand-over is
bounded. The checkpoint is written by this thread alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from etl import formats, progress
from etl.checkpoint import Checkpoint, Lease, Part, Plan, State, replace
from etl.dead_letters import DeadLetters
from etl.errors import (
    CheckpointError,
    CheckpointFull,
    EtlError,
    LoadMismatch,
    NoSpace,
    RecordError,
    SinkFailed,
)
from etl.records import Reader, Record, Stages, Transform, Unreadable
from etl.shapes import Fields, Shapes
from etl.warehouses.base import Job, Warehouse
from sinks import PartWriter, SealedPart, Sink, SinkError, SinkFull

# Below this a part is not cut smaller: a checkpoint and a load for each would cost more than they carry.
SMALLEST_PART = 64 * 1024

# How often a run looks at its clock and says how far it is, when its records are slow.
TICK_SECONDS = 1.0

# One part loads while another, sealed, waits: more would only pile up on the disk.
HANDED_OVER = 2


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the engine needs of a job, resolved: instances in place of names, defaults filled in."""

    pipeline: str
    source: Any
    transforms: Sequence[Transform]
    format: formats.Format
    sink: Sink
    rejects: Sink
    warehouse: Warehouse | None
    fingerprint: dict[str, str]
    on_error: Literal["fail", "reject"]
    max_rejects: int | None
    part_bytes: int
    part_records: int | None
    part_seconds: float | None


@dataclass(kw_only=True)
class Counts:
    """What this run has done so far."""

    records: int = 0
    bytes: int = 0
    rejected: int = 0
    parts: int = 0
    loaded: int = 0


class Engine:
    """Runs one job from the state of its checkpoint to the source's end, or until it is stopped.

    Args:
        settings: the job.
        lease: the checkpoint, acquired for this process.
        emit: takes the events.
    """

    def __init__(self, settings: Settings, lease: Lease, emit: Callable[[progress.Event], None]) -> None:
        self._job = settings
        self._lease = lease
        self._emit = emit
        self._loads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="etl-load")
        self._load: tuple[Plan, Future[tuple[int, float]]] | None = None
        self._dead_letters = DeadLetters(
            settings.rejects, settings.max_rejects, lease.document.state.totals.rejected
        )
        self._reader = Reader(settings.source, lease.document.state.position, self._unreadable, self._tick)
        self._stages = Stages(settings.transforms, settings.on_error, self._reject)
        self._began_at = lease.document.state.position.number
        self._part_began = 0.0
        self._open_part = (0, 0)  # the records and the bytes of the part that is being written
        self.counts = Counts()
        self.stopped: str | None = None

    def stop(self, reason: str) -> None:
        """Cut the part here, and end the run once it is committed and loaded. Safe from signal handlers.

        Args:
            reason: the name of a signal, or whatever tells the caller why.
        """
        self.stopped = reason
        self._reader.end_slice(reason)

    def run(self) -> None:
        """Run until the source's end or `stop`; then everything is committed, loaded and released.

        Raises:
            Fenced: another process has taken the job over; nothing was cleaned up.
            EtlError: the run failed; what is committed stays, the open part left no trace.
        """
        try:
            with self._nudged():
                self._advance(self._lease.document, wait=False)
                while not (self._reader.exhausted or self.stopped):
                    self._make_room()
                    self._write_part()
            self._leave(finished=self._reader.exhausted)
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self._reader.close()
            self._loads.shutdown(wait=True)

    def _leave(self, *, finished: bool) -> None:
        """Load what is sealed, and note that the run ended in order."""
        if self.stopped is not None and self._load is not None:
            self._notice(
                f"{self.stopped}: what was taken is kept, and is being loaded; once more stops at once"
            )
        while self._load is not None:
            self._advance(self._lease.document, wait=True)
        self._lease.write(self._lease.document.left(finished=finished))

    # ------------------------------------------------------------------ one part

    def _write_part(self) -> None:
        """Pull, transform, encode, write, seal and commit the next part; without space, try a smaller one."""
        document = self._lease.document
        sequence = document.state.sequence + 1
        writer: PartWriter | None = None
        self._dead_letters.begin(sequence, document.epoch)
        self._reader.begin_slice()
        if self.stopped is not None:
            return
        self._part_began = time.monotonic()
        self._open_part = 0, 0
        try:
            writer = self._job.sink.open_part(sequence, epoch=document.epoch)
            shapes = Shapes() if self._job.warehouse is not None else None
            records = self._encode(writer, shapes)
            letters = self._dead_letters.seal()
            sealed = writer.seal() if records else None
            if sealed is None:
                writer.abort()
            self._commit(sequence, records, sealed, letters, shapes.fields() if shapes else None)
        except (formats.SchemaWidened, SinkFull, CheckpointFull) as error:
            self._roll_back(writer)
            self._reader.open(document.state.position)
            if not isinstance(error, formats.SchemaWidened):
                self._shrink(error, writer)
            return
        except SinkError as error:
            # What a half-dead process finds in its way is its successor's: that must not be cleaned up.
            self._lease.check()
            self._abort(writer)
            raise self._sink_failed(error, sequence) from error
        except BaseException as error:
            if not isinstance(error, CheckpointError):
                self._abort(writer)
            raise
        self._grow()

    def _encode(self, writer: PartWriter, shapes: Shapes | None) -> int:
        """Write one slice of the source into `writer`; return how many records it became."""
        part_bytes = self._lease.document.part_bytes
        count = 0
        outputs = self._stages.run(self._reader)
        if self._job.part_records is not None:
            outputs = self._limited(outputs, self._job.part_records)
        if shapes is not None:
            outputs = shapes.note(outputs)
        batch_bytes = min(formats.BATCH_BYTES, part_bytes)
        for count in self._job.format.encode(outputs, writer.write, self._refuse, batch_bytes):
            if writer.bytes >= part_bytes:
                self._reader.end_slice("bytes")
            self._open_part = count, writer.bytes
            self._tick()
        return count

    def _limited(self, records: Iterator[Record], limit: int) -> Iterator[Record]:
        for count, record in enumerate(records, 1):
            if count == limit:
                self._reader.end_slice("records")
            yield record

    def _commit(
        self,
        sequence: int,
        records: int,
        sealed: SealedPart | None,
        letters: SealedPart | None,
        fields: Fields | None,
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
            ),
        )
        if after == state:
            return
        if self._job.warehouse is None:
            # Where nothing is loaded, a sealed part is the result.
            document = replace(document.committed(after, None), loaded=after)
        else:
            part = Part(sealed=sealed, records=records, after=after, fields=fields) if sealed else None
            document = document.committed(after, part)
        self._advance(document, wait=False)
        self._dead_letters.commit()
        self.counts.records += records
        self.counts.bytes += size
        self.counts.rejected += rejected
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

    @contextmanager
    def _nudged(self) -> Iterator[None]:
        """Let `_tick` be called now and then, also when records are slow, or none of them survives."""
        seconds = self._job.part_seconds
        interval = TICK_SECONDS if seconds is None else min(TICK_SECONDS, seconds)
        done = threading.Event()

        def nudge() -> None:
            while not done.wait(interval):
                self._reader.nudge()

        thread = threading.Thread(target=nudge, name="etl-nudge", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _tick(self) -> None:
        """Between two records: cut a part that is old, let loading go on, say how far the run is."""
        seconds = self._job.part_seconds
        if seconds is not None and time.monotonic() - self._part_began >= seconds:
            self._reader.end_slice("seconds")
        if self._load is not None and self._load[1].done():
            self._advance(self._lease.document, wait=False)
        self._tell()

    # ------------------------------------------------------------------ loading

    def _make_room(self) -> None:
        """Wait until the sink has a place for the next part, and the hand-over is not full."""
        slots = self._job.sink.slots
        most = HANDED_OVER if slots is None else min(HANDED_OVER, slots)
        while len(self._lease.document.outstanding) >= most:
            self._advance(self._lease.document, wait=True)

    def _advance(self, document: Checkpoint, *, wait: bool) -> None:
        """Acknowledge the load that is done, plan what is sealed, in one write; release; start the next load.

        Args:
            document: the checkpoint with what is to be written besides.
            wait: wait for the load that is under way.
        """
        loaded: tuple[Plan, float] | None = None
        if self._load is not None and (wait or self._load[1].done()):
            plan, future = self._load
            self._load = None
            rows, seconds = future.result()
            if rows != plan.records:
                raise LoadMismatch(
                    f"plan {plan.id} of job {self._job.pipeline!r} holds {plan.records} records, the warehouse "
                    f"took {rows}; compare the table with the parts: {', '.join(p.sealed.uri for p in plan.parts)}"
                )
            loaded = plan, seconds
            document = document.acknowledged(plan)
        if self._load is None and not document.plans and document.sealed and self._job.warehouse:
            plan = Plan.of(self._job.warehouse.destination, self._job.format.name, document.sealed)
            document = document.planned(plan)
        if document is not self._lease.document:
            self._lease.write(document)
        if loaded is not None:
            self._release(*loaded)
        if self._load is None and document.plans and self._job.warehouse:
            job = Job(pipeline=self._job.pipeline, fingerprint=self._job.fingerprint)
            plan = document.plans[0]
            self._load = plan, self._loads.submit(_timed_load, self._job.warehouse, job, plan)

    def _release(self, plan: Plan, seconds: float) -> None:
        for part in plan.parts:
            try:
                self._job.sink.release(part.sealed)
            except SinkError as error:
                raise self._sink_failed(error, part.sequence) from error
        self.counts.loaded += len(plan.parts)
        self._emit(
            progress.PlanLoaded(
                pipeline=self._job.pipeline,
                plan=plan.id,
                sequence=plan.after.sequence,
                parts=len(plan.parts),
                records=plan.records,
                seconds=seconds,
            )
        )

    # ------------------------------------------------------------------ rejects

    def _reject(self, record: Any, reason: str, origin: str) -> None:
        self._dead_letters.add(record, reason, origin, self._reader.number)

    def _unreadable(self, found: Unreadable, number: int) -> None:
        self._refused(found.raw, found.reason, "source", number)

    def _refuse(self, record: Record, reason: str) -> None:
        self._refused(record, f"cannot be encoded: {reason}", "format", self._reader.number)

    def _refused(self, record: Any, reason: str, origin: str, number: int) -> None:
        if self._job.on_error == "reject":
            self._dead_letters.add(record, reason, origin, number)
            return
        raise RecordError(
            f"record {number} (position: {self._reader.position}): {reason}; the record: {_shown(record)}. "
            'Mend it and run again, or set on_error = "reject"'
        )

    # ------------------------------------------------------------------ trouble

    def _shrink(self, error: Exception, writer: PartWriter | None) -> None:
        """Without space: free what can be freed, and make parts smaller; at the smallest, give up."""
        before = self._lease.document.part_bytes
        freed = self._load is not None
        if self._load is not None:
            self._advance(self._lease.document, wait=True)
        written = writer.bytes if writer is not None else before
        smallest = min(SMALLEST_PART, self._job.part_bytes)
        after = max(smallest, min(before, written) // 2)
        if before <= smallest and not freed:
            raise NoSpace(
                f"job {self._job.pipeline!r}: not even a part of {smallest} bytes fits: {error}. What is loaded "
                "stays; free space and run again, or use a sink that needs less: reused_file with slots = 1 "
                "(one part at a time), numbered_chunks with keep = false, gcs_stream (no local disk)"
            ) from error
        self._lease.write(replace(self._lease.document, part_bytes=after))
        self._notice(f"no space left ({error}): going on with parts of {after} bytes in place of {before}")

    def _grow(self) -> None:
        """Let parts that were made smaller grow back, by a quarter a part; written with the next commit."""
        document = self._lease.document
        if document.part_bytes < self._job.part_bytes:
            grown = min(self._job.part_bytes, document.part_bytes * 5 // 4)
            self._lease.document = replace(document, part_bytes=grown)

    def _abort(self, writer: PartWriter | None) -> None:
        """Leave no trace of the open part.

        One that is sealed may be in the checkpoint already, whatever went wrong after that: it is left to
        the next run, whose `recover` knows.
        """
        if writer is not None and writer.sealed is None:
            writer.abort()
            self._dead_letters.abort()

    def _roll_back(self, writer: PartWriter | None) -> None:
        """Leave no trace of a part that is surely not in the checkpoint, open or sealed."""
        document = self._lease.document
        if writer is not None:
            writer.abort()
        self._dead_letters.abort()
        self._job.sink.recover([part.sealed for part in document.outstanding], document.state.tail)
        self._job.rejects.recover([], document.state.dead_letters_tail)

    def _fail(self, error: BaseException) -> None:
        """Leave a failed run in order: load what is sealed, and say that the end was clean.

        After `Fenced` nothing is touched, after any other trouble with the checkpoint it is not known, and
        whoever interrupts a run twice is in a hurry. A second error here must not hide the first.
        """
        if isinstance(error, CheckpointError) or not isinstance(error, Exception):
            return
        try:
            self._leave(finished=False)
        except (EtlError, SinkError) as other:
            error.add_note(f"and while the run was being ended: {other}")

    def _sink_failed(self, error: SinkError, sequence: int) -> SinkFailed:
        return SinkFailed(
            f"job {self._job.pipeline!r}, part {sequence} (position: {self._lease.document.state.position}): {error}"
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


def _timed_load(warehouse: Warehouse, job: Job, plan: Plan) -> tuple[int, float]:
    began = time.perf_counter()
    rows = warehouse.load(job, plan)
    return rows, time.perf_counter() - began


def _shown(record: Any) -> str:
    text = repr(record)
    return text if len(text) <= 300 else text[:300] + "…"
