"""The hand-over of sealed parts to the warehouse: one load at a time, on a thread of its own.

The checkpoint is written by the thread of the run alone: it acknowledges a load when it next comes by.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from operator import attrgetter
from typing import TypeVar

from etl import progress
from etl.checkpoint import Checkpoint, Part, Plan, replace
from etl.clearing import Clearing
from etl.errors import LoadFailed, LoadMismatch, StillLoading
from etl.job import Counts, Settings
from etl.lease import Lease
from etl.quota import Quota
from etl.warehouses.base import Job, LoadsByJobs, ModifiesPartitions, TellsChanges, Warehouse
from sinks import SealedPart

# One part loads while another, sealed, waits: more would only pile up on the disk.
HANDED_OVER = 2

# Where parts that wait take no room that is wanted for other things, as many may wait as a job takes (BigQuery
# documentation, "Quotas and limits", load jobs). Each is a line in the checkpoint.
MOST_WAITING = 10_000

# A caller that waits for the quota looks this often whether the run was stopped, in seconds.
LOOK_SECONDS = 1.0

# A plan may have had thousands of objects: they are deleted a few at a time, between batches of records.
RELEASED_AT_ONCE = 4

OUT_OF_QUOTA = "quota"

T = TypeVar("T")


class Loading:
    """Plans what is sealed, loads it, acknowledges and releases it.

    A warehouse whose loads are jobs gets a plan whenever it is idle and its daily quota allows it: what is sealed
    in the meantime goes with the next plan, up to as many parts as one job takes.

    Args:
        job: the job; without a warehouse there is nothing to do.
        lease: the checkpoint.
        emit: takes the events.
        counts: where loaded parts are counted.
        clearing: releases what is loaded.
    """

    def __init__(
        self,
        job: Settings,
        lease: Lease,
        emit: Callable[[progress.Event], None],
        counts: Counts,
        clearing: Clearing,
    ) -> None:
        self._job = job
        self._lease = lease
        self._emit = emit
        self._counts = counts
        self._clearing = clearing
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="etl-load")
        self._load: tuple[Plan, Future[tuple[int, float]]] | None = None
        warehouse: object = job.warehouse
        self._jobs = warehouse if isinstance(warehouse, LoadsByJobs) else None
        self._quota = Quota(self._jobs.daily_operations) if self._jobs else None
        self._partitioned = warehouse if isinstance(warehouse, ModifiesPartitions) else None
        self._operations = self._jobs.operations if self._jobs else 0  # those that are noted
        self._priced = (
            (0, 0),
            0,
        )  # the first and the last sealed part, and how many partitions their plan changes
        self._planned_at = float("-inf")
        self._over = False  # nothing more is begun: a load failed, or was left
        self._left = False
        self._loaded: deque[SealedPart] = deque()  # objects that are not released yet

    @property
    def under_way(self) -> bool:
        """Whether a load has been begun and is not acknowledged."""
        return self._load is not None

    def make_room(self, stopped: Callable[[], bool]) -> str | None:
        """Wait until the sink has a place for the next part, and the hand-over is not full.

        Args:
            stopped: whether the run is to end; then there is no more waiting for a quota.

        Returns:
            Why the run has to end here: `OUT_OF_QUOTA`; None: there is room.
        """
        while len(self._lease.document.outstanding) >= self._most():
            if self.under_way:
                self.advance(wait=True)
            elif self._begin_when_due(stopped):
                continue
            else:
                return None if stopped() else OUT_OF_QUOTA
        return None

    def drain(self) -> None:
        """Load everything that is sealed, now, and wait until it is acknowledged and released.

        Something is left when the quota is used up, or the load is left to go on by itself.
        """
        self._plan_now()
        while self.under_way:
            self.advance(wait=True)
            self._plan_now()
        while not self._over and self._loaded:
            self._release_some()

    def let_go(self) -> None:
        """Begin no other load of those that go on without this process, and wait for none. From any thread."""
        if self._jobs is not None and not self._left:
            self._left = self._over = True  # first: a signal may come in the middle of the next line
            self._jobs.leave()

    def leave(self) -> None:
        """Let a load that goes on without this process do so; the next run acknowledges it."""
        if self._jobs is not None and self.under_way:
            self.advance(wait=True)

    def wait_for_quota(self) -> float:
        """Return the seconds until the daily quota allows another load; 0: it does."""
        document = self._lease.document
        waits = 0.0
        if self._quota and self._jobs and self._jobs.operations_a_load:
            waits = self._quota.free_in(document.operations)
        if (changes := self._changes) is not None and document.sealed:
            waits = max(waits, changes.free_in(document.modifications, self._cost(document)))
        return waits

    def call(self, function: Callable[[], T]) -> T:
        """Call what waits for the warehouse on the thread of the loads, which no signal interrupts.

        `let_go` is called by signal handlers, and must not wait for what it has interrupted.

        Returns:
            What it returned.

        Raises:
            Exception: what it raised.
        """
        return self._thread.submit(function).result()

    def resume(self) -> None:
        """Go on after a load that failed, whose parts were given up."""
        self._over = self._left

    def note_operations(self) -> None:
        """Count the jobs that were submitted besides loads; written with the next change of the checkpoint."""
        if self._jobs is not None and self._quota is not None:
            more, self._operations = self._jobs.operations - self._operations, self._jobs.operations
            if more:
                document = self._lease.document
                self._lease.document = replace(
                    document, operations=self._quota.noted(document.operations, more)
                )

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
            document = self._noted(document)
            if error is not None:
                self._over = True
                if isinstance(error, LoadFailed):
                    document = document.failed(plan, str(error))
                self._write(document)
                if isinstance(error, StillLoading):
                    return
                raise error
            rows, seconds = future.result()
            if rows != plan.records:
                raise LoadMismatch(
                    f"plan {plan.id} of job {self._job.pipeline!r} holds {plan.records} records, the warehouse "
                    f"took {rows}; compare the table with the parts: {', '.join(p.sealed.uri for p in plan.parts)}"
                )
            loaded = plan, seconds
            document = document.acknowledged(plan)
        if self._may_plan(document) and self._due(document):
            document = self._planned(document)
        self._write(document)
        self._begin()
        if loaded is not None:
            self._release(*loaded)

    def advance_if_done(self) -> None:
        """Advance if the load that is under way has ended, or one that waited for the quota is due; cheap if not."""
        self._release_some()
        if self._load is not None:
            if self._load[1].done():
                self.advance()
        elif self._may_plan(self._lease.document) and self._due(self._lease.document):
            self.advance()

    def close(self) -> None:
        """Wait for the load that is under way, whatever interrupts: its warehouse is closed after that.

        One that goes on without this process is not waited for.
        """
        self.let_go()
        while True:
            try:
                self._thread.shutdown(wait=True)
            except KeyboardInterrupt:
                continue  # a database that is closed under a load takes the interpreter with it
            return

    def _most(self) -> int:
        """Return how many parts may wait: more where they take no room that is wanted for other things."""
        slots, waiting = self._job.sink.slots, self._lease.document.outstanding
        elsewhere = bool(waiting) and not waiting[0].sealed.is_local  # they are all in one place
        most = MOST_WAITING if self._jobs and (self._job.sink.lasting or elsewhere) else HANDED_OVER
        return most if slots is None else min(most, slots)

    def _may_plan(self, document: Checkpoint) -> bool:
        return not self._over and self._load is None and not document.plans and bool(document.sealed)

    def _due(self, document: Checkpoint, *, now: bool = False) -> bool:
        """Say whether the quota allows another load; with `now` though it is early, if it is not used up."""
        if self._quota is None or self._jobs is None:
            return True
        intervals: list[float | None] = []
        if self._jobs.operations_a_load:
            intervals.append(self._quota.interval(document.operations))
        if (changes := self._changes) is not None:
            intervals.append(changes.interval(document.modifications, self._cost(document)))
        waits = [interval for interval in intervals if interval is not None]
        if len(waits) < len(intervals):
            return False
        return now or time.monotonic() >= self._planned_at + max(waits, default=0.0)

    @property
    def _changes(self) -> Quota | None:
        """The quota of partitions that a day's loads may change; None: there is none."""
        most = self._partitioned.daily_modifications if self._partitioned else None
        return None if most is None else Quota(most)

    def _modifications(self, parts: Sequence[Part]) -> int:
        return self._partitioned.modifications(parts) if self._partitioned else 0

    def _cost(self, document: Checkpoint) -> int:
        """Return how many partitions the next plan changes; asked for at each batch, and found out for each part."""
        ends = document.sealed[0].sequence, document.sealed[-1].sequence
        if self._priced[0] != ends:
            self._priced = ends, self._modifications(self._next(document))
        return self._priced[1]

    def _next(self, document: Checkpoint) -> Sequence[Part]:
        """Return the sealed parts that the next plan takes."""
        if self._jobs is None:
            return document.sealed
        return document.sealed[: self._jobs.most_parts(self._job.format.name, document.sealed)]

    def _begin_when_due(self, stopped: Callable[[], bool]) -> bool:
        """Wait until the quota allows another load and begin it; False: stopped, or it is used up."""
        while self._may_plan(self._lease.document) and not stopped():
            if self._due(self._lease.document):
                self.advance()
                return True
            if not self._due(self._lease.document, now=True):
                return False
            time.sleep(LOOK_SECONDS)  # a signal's handler only sets a flag
        return False

    def _plan_now(self) -> None:
        document = self._lease.document
        if self._may_plan(document) and self._due(document, now=True):
            self._write(self._planned(document))
            self._begin()

    def _planned(self, document: Checkpoint) -> Checkpoint:
        """Turn what is sealed into a plan; the job that it takes is counted before it can be submitted."""
        warehouse = self._job.warehouse
        assert warehouse is not None
        parts = self._next(document)
        plan = Plan.of(
            warehouse.destination,
            self._job.format.name,
            parts,
            columns=document.columns,
            rewinds=document.rewinds,
            life=document.life,
        )
        self._planned_at = time.monotonic()
        document = document.planned(plan)
        return self._counted(document, self._jobs.operations_a_load if self._jobs else 0, parts)

    def _noted(self, document: Checkpoint) -> Checkpoint:
        """Count the jobs that a load took besides the one that was counted when it was planned."""
        if self._jobs is None:
            return document
        more = self._jobs.operations - self._operations - self._jobs.operations_a_load
        self._operations = self._jobs.operations
        return self._counted(document, more, document.plans[0].parts if document.plans else ())

    def _counted(self, document: Checkpoint, jobs: int, parts: Sequence[Part]) -> Checkpoint:
        """Count so many jobs that load parts, and the partitions that they change."""
        if self._quota is None or jobs <= 0:
            return document
        document = replace(document, operations=self._quota.noted(document.operations, jobs))
        if (changes := self._changes) is None or not parts:
            return document
        noted = changes.noted(document.modifications, jobs * self._modifications(parts))
        return replace(document, modifications=noted)

    def _begin(self) -> None:
        document, warehouse = self._lease.document, self._job.warehouse
        if self._load is None and document.plans and warehouse and not self._over:
            job = Job.of(document, self._job.fingerprint)
            plan = document.plans[0]
            self._load = plan, self._thread.submit(_timed, warehouse, job, plan)

    def _write(self, document: Checkpoint) -> None:
        if document is not self._lease.document:
            self._lease.write(document)

    def _release_some(self) -> None:
        """Release a few of the objects that are loaded; those that a run leaves are cleared away by the next."""
        for _ in range(min(RELEASED_AT_ONCE, len(self._loaded))):
            self._clearing.release(self._job.sink, self._loaded[0])
            self._loaded.popleft()

    def _tell_changes(self) -> None:
        """Tell what the load did to the columns of the table."""
        warehouse: object = self._job.warehouse
        if not isinstance(warehouse, TellsChanges):
            return
        for part, changes in groupby(warehouse.changes(), attrgetter("part")):
            found = tuple(changes)
            self._emit(
                progress.ColumnsChanged(
                    pipeline=self._job.pipeline,
                    table=warehouse.table,
                    sequence=part,
                    added={change.name: change.type for change in found if not change.before},
                    changed={change.name: (change.before, change.type) for change in found if change.before},
                )
            )

    def _release(self, plan: Plan, seconds: float) -> None:
        for part in plan.parts:
            if part.sealed.is_local:
                self._clearing.release(self._job.sink, part.sealed)
            else:
                self._loaded.append(part.sealed)
        self._counts.loaded += len(plan.parts)
        self._tell_changes()
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
