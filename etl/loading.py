"""The hand-over of sealed parts to the warehouse: one load at a time, on a thread of its own.

The checkpoint is written by the thread of the run alone: it acknowledges a load when it next comes by.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from etl import progress
from etl.checkpoint import Checkpoint, Lease, Plan
from etl.errors import LoadMismatch
from etl.job import Counts, Settings
from etl.warehouses.base import Job, Warehouse

# One part loads while another, sealed, waits: more would only pile up on the disk.
HANDED_OVER = 2


class Loading:
    """Plans what is sealed, loads it, acknowledges and releases it.

    Args:
        job: the job; without a warehouse there is nothing to do.
        lease: the checkpoint.
        emit: takes the events.
        counts: where loaded parts are counted.
    """

    def __init__(
        self, job: Settings, lease: Lease, emit: Callable[[progress.Event], None], counts: Counts
    ) -> None:
        self._job = job
        self._lease = lease
        self._emit = emit
        self._counts = counts
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="etl-load")
        self._load: tuple[Plan, Future[tuple[int, float]]] | None = None

    @property
    def under_way(self) -> bool:
        """Whether a load has been begun and is not acknowledged."""
        return self._load is not None

    def make_room(self) -> None:
        """Wait until the sink has a place for the next part, and the hand-over is not full."""
        slots = self._job.sink.slots
        most = HANDED_OVER if slots is None else min(HANDED_OVER, slots)
        while len(self._lease.document.outstanding) >= most:
            self.advance(wait=True)

    def drain(self) -> None:
        """Wait until everything that is sealed is loaded, acknowledged and released."""
        while self.under_way:
            self.advance(wait=True)

    def advance(self, document: Checkpoint | None = None, *, wait: bool = False) -> None:
        """Acknowledge the load that is done, plan what is sealed, in one write; release; begin the next load.

        Args:
            document: the checkpoint with what is to be written besides; it is written even if the load failed.
            wait: wait for the load that is under way.

        Raises:
            Exception: what the load raised.
            sinks.SinkError: a part cannot be released.
            CheckpointError: the checkpoint cannot be written.
        """
        document = document or self._lease.document
        loaded: tuple[Plan, float] | None = None
        if self._load is not None and (wait or self._load[1].done()):
            plan, future = self._load
            error = future.exception()
            self._load = None
            if error is not None:
                self._write(document)
                raise error
            rows, seconds = future.result()
            if rows != plan.records:
                raise LoadMismatch(
                    f"plan {plan.id} of job {self._job.pipeline!r} holds {plan.records} records, the warehouse "
                    f"took {rows}; compare the table with the parts: {', '.join(p.sealed.uri for p in plan.parts)}"
                )
            loaded = plan, seconds
            document = document.acknowledged(plan)
        warehouse = self._job.warehouse
        if self._load is None and not document.plans and document.sealed and warehouse:
            plan = Plan.of(warehouse.destination, self._job.format.name, document.sealed)
            document = document.planned(plan)
        self._write(document)
        if loaded is not None:
            self._release(*loaded)
        if self._load is None and document.plans and warehouse:
            job = Job(pipeline=self._job.pipeline, fingerprint=self._job.fingerprint)
            plan = document.plans[0]
            self._load = plan, self._thread.submit(_timed, warehouse, job, plan)

    def advance_if_done(self) -> None:
        """Advance if the load that is under way has ended; cheap."""
        if self._load is not None and self._load[1].done():
            self.advance()

    def close(self) -> None:
        """Wait for the load that is under way, whatever interrupts: its warehouse is closed after that."""
        while True:
            try:
                self._thread.shutdown(wait=True)
            except KeyboardInterrupt:
                continue  # a database that is closed under a load takes the interpreter with it
            return

    def _write(self, document: Checkpoint) -> None:
        if document is not self._lease.document:
            self._lease.write(document)

    def _release(self, plan: Plan, seconds: float) -> None:
        for part in plan.parts:
            self._job.sink.release(part.sealed)
        self._counts.loaded += len(plan.parts)
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


def _timed(warehouse: Warehouse, job: Job, plan: Plan) -> tuple[int, float]:
    began = time.perf_counter()
    rows = warehouse.load(job, plan)
    return rows, time.perf_counter() - began
