"""A pipeline: the definition of a job, and the way to run it."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from etl import definition, formats, memory, moves, needs, progress, registry, secret_values
from etl.checkpoint import Checkpoint, decode, replace
from etl.clearing import Clearing
from etl.ending import before_it_begins
from etl.engine import Engine
from etl.errors import CheckpointError, ConfigError, RecordError
from etl.governor import Governor
from etl.interrupts import stopped_by_signals
from etl.job import Drift, OnError, Settings
from etl.lease import Store
from etl.loading import HANDED_OVER
from etl.masking import named_all
from etl.reader import Reader
from etl.records import (
    Mark,
    Position,
    Record,
    TakesMemory,
    Transform,
    Unreadable,
    describe,
    name_of,
    puller,
)
from etl.schemas.declared import Schema
from etl.snapshots import snapshot
from etl.takeover import Takeover, sink_errors
from etl.transforms import Stages
from etl.warehouses.base import KeepsLedger, LimitsSizes, Warehouse
from sinks import Sink, TakesBudget
from sinks.base import Hurries
from sinks.control_group import Gauge

LOG = logging.getLogger("etl")

Component = Mapping[str, Any] | Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a run did. All counts are of this run alone.

    Attributes:
        pipeline: the job's name.
        records: records written in parts.
        bytes: bytes written in parts.
        parts: parts sealed and committed.
        rejects: records that went to the dead letters.
        ignored: fields that were left out because the table has no column for them (see `drift`).
        seconds: how long the run took.
        stopped: why it ended before the source did (`SIGTERM`, `an unfinished record`, …): run it again;
            None: all is done.
        cut_for_memory: how many parts were cut early because memory was short.
        checkpoint: the job's checkpoint as the run left it; its `state.totals` count all runs.
    """

    pipeline: str
    records: int
    bytes: int
    parts: int
    rejects: int
    ignored: int
    seconds: float
    stopped: str | None
    cut_for_memory: int
    checkpoint: Checkpoint


class Pipeline:
    """A job: pull records, transform them, write them in parts through a sink, load them, exactly once.

    Nothing is read or written before `run` or `check`. Where a component is wanted, give an object, or a
    table as in a job file: `{"type": "reused_file", "path": "job.ndjson"}`.

    Args:
        name: of the job: letters, digits, `_` and `-`. It names the checkpoint and the loads.
        source: anything with `pull(cursor)`, a generator function, or a table.
        transforms: generator functions over records, in order; `etl.each` makes one of a plain function.
        sink: where parts are written.
        warehouse: where they are loaded; None: the sink's output is the result.
        checkpoint: a path, or a store; default: `<name>.checkpoint.json` in the current directory.
        format: `ndjson`, `ndjson.gz` or `parquet`; default: what the suffix of the sink's path says.
        rejects: a sink for the dead letters; default: `<name>-rejects…` beside the checkpoint, on a disk or in a
            bucket.
        part_bytes: cut a part when it has this many bytes; less where the memory limit asks for it.
        part_records: cut a part when it has this many records; None: no such limit.
        part_seconds: cut a part when it is this old, in seconds; None or 0: no such limit.
        schema: the columns of parts in Parquet that stay, where there is no warehouse; all of them, in the forms that a
            warehouse's `schema` has. None: the first part decides.
        drift: what becomes of fields that the table has no column for: `evolve` adds nullable columns, `freeze` refuses
            the record, as `on_error` says, `ignore` leaves the fields out and counts them. What the table has is what
            is declared, else what is there, else what the first part holds.
        on_error: `fail` stops at a record that cannot be read, transformed or encoded; `reject` makes it a
            dead letter and goes on. A generator that raised is started afresh, and what it held besides that
            record is gone, what it had already yielded for it stays: with `reject`, let transforms treat each
            record by itself (`etl.each`).
        max_rejects: stop when more than this many records of the job were rejected; None: never.
        memory: what the job may take, in bytes; None: what the control group says.

    Raises:
        ConfigError: the definition is wrong; the message says which part of it, and what is allowed.
    """

    def __init__(
        self,
        name: str,
        *,
        source: Component,
        transforms: Sequence[Transform] = (),
        sink: Component,
        warehouse: Component | None = None,
        checkpoint: str | os.PathLike[str] | Store | None = None,
        format: str | None = None,
        rejects: Component | None = None,
        part_bytes: int = 64 * 1024 * 1024,
        part_records: int | None = None,
        part_seconds: float | None = 300.0,
        schema: Schema | None = None,
        drift: Drift = "evolve",
        on_error: OnError = "fail",
        max_rejects: int | None = None,
        memory: int | None = None,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", name):
            raise ConfigError(
                f"name: expected 1 to 128 letters, digits, underscores or dashes, found {name!r}"
            )
        self.name = name
        self.source: Any = registry.build("sources", source, "source")
        try:
            puller(self.source)
        except TypeError as error:
            raise ConfigError(f"source: {error}") from error
        if callable(transforms):
            raise ConfigError(f"transforms: expected a list of generator functions, found {transforms!r}")
        self.transforms = tuple(transforms)
        for index, transform in enumerate(self.transforms):
            if not callable(transform):
                raise ConfigError(
                    f"transforms[{index}]: expected a generator function over records, found {transform!r}"
                )
        self.sink: Sink = registry.build("sinks", sink, "sink")
        self.warehouse: Warehouse | None = (
            None if warehouse is None else registry.build("warehouses", warehouse, "warehouse")
        )
        definition.check_kind("sink", self.sink, Sink)
        if self.warehouse is not None:
            definition.check_kind("warehouse", self.warehouse, Warehouse)
        where = f"{name}.checkpoint.json" if checkpoint is None else checkpoint
        self.store: Store = registry.store(where)
        self.format = format if format is not None else formats.name_for(str(getattr(self.sink, "path", "")))
        self.rejects: Sink = (
            definition.dead_letters(self.store, name)
            if rejects is None
            else registry.build("sinks", rejects, "rejects")
        )
        definition.check_kind("rejects", self.rejects, Sink)
        self.part_bytes = definition.number("part_bytes", part_bytes)
        self.part_records = (
            part_records if part_records is None else definition.number("part_records", part_records)
        )
        self.part_seconds = (
            definition.number("part_seconds", part_seconds, kind=float) if part_seconds else None
        )
        self.max_rejects = (
            max_rejects if max_rejects is None else definition.number("max_rejects", max_rejects, least=0)
        )
        self.memory = memory if memory is None else definition.number("memory", memory)
        self.drift: Drift = definition.one_of("drift", drift, get_args(Drift))
        self.on_error: OnError = definition.one_of("on_error", on_error, get_args(OnError))
        self._engine: Engine | None = None
        self._stop_reason: str | None = None
        self._has_job = False
        definition.check_combination(
            name,
            store=self.store,
            sink=self.sink,
            warehouse=self.warehouse,
            rejects=self.rejects,
            format=self.format,
        )
        self.schema = definition.schema_of(schema, warehouse=self.warehouse, format=self.format)

    def run(
        self,
        *,
        wait: bool = False,
        retry_failed: bool = False,
        full_refresh: bool = False,
        adopt_table: bool = False,
        start: Mark | None = None,
        handle_signals: bool = True,
        listeners: Sequence[progress.Listener] = (),
    ) -> Result:
        """Run the job from its checkpoint to the source's end; on return all of it is loaded.

        Args:
            wait: when another process is running the job, wait for it to end rather than raise.
            retry_failed: when a plan could not be loaded as it was, give up what is not loaded, and pull it
                again: through a transform that was fixed, or into a schema that was.
            full_refresh: fill a new table from the source's beginning, and put it in the place of the old one when all
                is loaded; what the job has not loaded yet is given up. A run that is killed goes on with it.
            adopt_table: where the table does not fit the checkpoint, or nobody can tell (BigQuery): it is right as it
                is; load what the checkpoint does not have, whatever the table holds. The next run needs not be told.
            start: go on from this mark of the source in place of the checkpoint's position: what was loaded from
                there before is loaded again. `Mark(None)` is its beginning.
            handle_signals: on SIGTERM, SIGINT and SIGHUP, cut the part that is open, commit and load it, and return
                with `stopped` set; a second signal gives the open part up and ends the run once a load that is
                under way has ended. One that comes while another process is waited for ends that at once. Only in
                the main thread.
            listeners: called with every event of `etl.progress`, on this thread.

        Raises:
            NotEnoughMemory: the job needs more memory than it has; nothing was touched.
            Fenced: another process has the job, or has taken it over.
            LoadFailed: a plan cannot be loaded as it is, now or in an earlier run: see `retry_failed`.
            EtlError: the run failed; what is committed stays, and the next run goes on from there.
            KeyboardInterrupt: it was signalled twice, or before it had the job, or stopped before it had begun to pull,
                while it waited for what does not answer; as after a crash, the next run goes on.
        """
        began = time.perf_counter()
        self._stop_reason = None
        self._has_job = False
        self._hurry(False)
        budget = self.see_to_memory()
        memory.give_back_large_blocks()

        def emit(event: progress.Event) -> None:
            shown = progress.without_secrets(event)
            for listener in listeners:
                listener(shown)

        with (
            before_it_begins(),
            stopped_by_signals(self._signalled) if handle_signals else nullcontext(),
            secret_values.hidden_in_errors(),
            self.store.hold(wait=wait),
            Gauge() as gauge,
        ):
            self._has_job = True
            job = self._settings(budget, Governor(gauge))
            self._share(budget, job)
            clearing = Clearing(self.name, emit)
            takeover = Takeover(job, self.store, emit, clearing)
            lease = takeover.acquire(refresh=full_refresh)
            left = lease.document.uncleared
            try:
                try:
                    if self.warehouse is not None:
                        self.warehouse.open(budget)
                        definition.check_place(self.warehouse, self.sink)
                    pull = takeover.bring_up_to_date(
                        lease, retry=retry_failed, refresh=full_refresh, adopt=adopt_table, start=start
                    )
                except CheckpointError:
                    raise
                except Exception as error:
                    # Nothing was written by this run: what the one before left is no worse for it, unless parts were
                    # given up, or found to be loaded, that are not cleared away yet.
                    try:
                        document = lease.document.failing(describe(error))
                        clean = takeover.clean and document.uncleared == left
                        lease.write(replace(document, clean=clean))
                    except CheckpointError as other:  # which must not hide the first
                        error.add_note(f"and while the run was being ended: {other}")
                    raise
                definition.declare(self.source, self.transforms, self.warehouse, self.schema)
                document = lease.document
                self._engine = engine = Engine(job, lease, emit, clearing)
                emit(
                    progress.RunStarted(
                        pipeline=self.name,
                        epoch=document.epoch,
                        resumed_at=str(document.state.position) if document.state.position.number else None,
                        clean=takeover.clean,
                        part_bytes=document.part_bytes,
                        memory_limit=budget.limit,
                    )
                )
                self._pass_stop_on(engine)
                with sink_errors(self.name):
                    engine.run(pull=pull)
            finally:
                self._close()
        counts = engine.counts
        stopped = None if lease.document.finished else engine.stopped
        result = Result(
            pipeline=self.name,
            records=counts.records,
            bytes=counts.bytes,
            parts=counts.parts,
            rejects=counts.rejected,
            ignored=counts.ignored,
            seconds=time.perf_counter() - began,
            stopped=stopped,
            cut_for_memory=counts.cut_for_memory,
            checkpoint=lease.document,
        )
        emit(
            progress.RunEnded(
                pipeline=self.name,
                records=result.records,
                bytes=result.bytes,
                parts=result.parts,
                rejected=result.rejects,
                ignored=result.ignored,
                seconds=result.seconds,
                stopped=stopped,
                cut_for_memory=counts.cut_for_memory,
            )
        )
        return result

    def stop(self, reason: str) -> None:
        """Let `run` cut the part that is open, commit and load it, and return; without a run, do nothing.

        What the sink, the store or the warehouse waits for and does not get in some seconds is given up: then the run
        ends as it is.

        Safe from other threads and signal handlers. A source that waits for its next record is not woken.

        Args:
            reason: what `Result.stopped` will say.
        """
        self._stop_reason = reason
        self._hurry(True)
        if (engine := self._engine) is not None:
            engine.stop(reason)

    def _signalled(self, name: str) -> None:
        """Stop in order, or at once while another process is waited for."""
        if not self._has_job:
            raise KeyboardInterrupt
        self.stop(name)

    def _hurry(self, now: bool) -> None:
        parts: tuple[object, ...] = (self.sink, self.rejects, self.store, self.warehouse)
        for part in parts:
            if isinstance(part, Hurries):
                part.hurry(now)

    def _pass_stop_on(self, engine: Engine) -> None:
        """Stop an engine that was made after `stop` was called."""
        if self._stop_reason is not None:
            engine.stop(self._stop_reason)

    def budget(self, *, root: Path = Path("/")) -> memory.Budget:
        """Divide the memory that the job may take among its pieces, whether it is enough or not.

        Args:
            root: where `/proc` and `/sys` are.
        """
        return memory.budget(self.memory, needs=needs.gathered((*self._pieces(), self._format())), root=root)

    def see_to_memory(self) -> memory.Budget:
        """Return the budget of a job that has the memory that it needs.

        Raises:
            NotEnoughMemory: it has less.
        """
        budget = self.budget()
        other = self.format != "ndjson" and (self.warehouse is None or "ndjson" in self.warehouse.formats)
        needs.see_to(self.name, budget, needs.with_ndjson(self._pieces()) if other else None)
        return budget

    def _pieces(self) -> tuple[object, ...]:
        return self.source, self.sink, self.warehouse, self.store, self.rejects

    def _format(self) -> formats.Format:
        return formats.make(self.format)

    def check(self, limit: int = 10) -> list[Record]:
        """Take the first `limit` records of the source through the transforms; write nothing.

        Raises:
            EtlError: the source, or a transform, failed.
        """

        def unreadable(found: Unreadable, number: int) -> None:
            if self.on_error == "reject":  # as a run would go on
                return
            raise RecordError(f"record {number}: {found.reason}; the record: {found.raw[:300]}")

        def limited(records: Iterator[Record]) -> Iterator[Record]:
            for count, record in enumerate(records, 1):
                if count == limit:
                    reader.end_slice("sample")
                yield record

        definition.declare(self.source, self.transforms, self.warehouse, self.schema)
        self._bound(memory.budget(self.memory))
        reader = Reader(self.source, Position(), unreadable)
        stages = Stages([limited, *self.transforms], self.on_error, lambda *_rejected: None)
        try:
            with secret_values.hidden_in_errors():
                records = list(map(snapshot, islice(stages.run(reader), limit * 100)))
                if reader.unavailable is not None:
                    raise reader.unavailable
            if reader.unfinished is not None:
                LOG.warning("%s", reader.unfinished)
            return records
        finally:
            reader.close()

    def read_checkpoint(self) -> Checkpoint | None:
        """Return the job's checkpoint, or None: it has not been run.

        Raises:
            CheckpointError: it cannot be read.
        """
        found = self.store.read()
        return decode(found[0], self.store.uri) if found else None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "secrets": secret_values.known()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        secret_values.learn(state.pop("secrets"))
        self.__dict__.update(state)

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        """What of this definition gives the checkpoint its meaning.

        Transforms are not in it: fixing one and going on is what a checkpoint is for; nor are secrets. It also says
        where the files are that it names, so that they are recognised when the job was moved.
        """
        own = getattr(self.source, "fingerprint", None)
        parts = f"{definition.place_of(self.sink)} as {self.format}"
        components = {
            moves.CHECKPOINT: self.store,
            "source": self.source,
            "destination": self.warehouse or self.sink,
            "parts": self.sink,
            "rejects": self.rejects,
        }
        found = {
            "source": own() if callable(own) else name_of(self.source).rpartition(":")[2],
            "destination": self.warehouse.destination if self.warehouse else parts,
            "parts": parts,
            "rejects": definition.place_of(self.rejects),
            moves.PLACES: moves.noted(components, self.format),
        }
        return named_all(found)

    def _share(self, budget: memory.Budget, job: Settings) -> None:
        """Tell the source, the sinks and the format what they may take.

        Parts in transit that are small against the limit are not flushed: they are loaded and truncated before
        they touch the disk. That rests on the ledger, which holds the position after each plan: what a power cut
        takes is pulled again from there.
        """
        self._bound(budget)
        small = job.part_bytes * (self.sink.slots or HANDED_OVER + 1) <= budget.transit_bytes
        in_transit = small and not self.sink.lasting and isinstance(self.warehouse, KeepsLedger)
        for sink, durable in ((self.sink, not in_transit), (self.rejects, True)):
            if isinstance(sink, TakesBudget):
                sink.take_budget(memory=budget.limit, durable=durable)
        format_: object = job.format
        if isinstance(format_, formats.Gathers):
            format_.group_bytes = budget.group_bytes

    def _bound(self, budget: memory.Budget) -> None:
        """Tell the source what it may take."""
        if isinstance(self.source, TakesMemory):
            self.source.take_memory(budget.limit)

    def _most_bytes(self) -> int:
        """Return how large a part may become for the warehouse's sake, in bytes."""
        warehouse: object = self.warehouse
        most = warehouse.most_part_bytes(self.format) if isinstance(warehouse, LimitsSizes) else None
        return sys.maxsize if most is None else most

    def _settings(self, budget: memory.Budget, governor: Governor) -> Settings:
        return Settings(
            pipeline=self.name,
            source=self.source,
            transforms=self.transforms,
            format=self._format(),
            sink=self.sink,
            rejects=self.rejects,
            warehouse=self.warehouse,
            fingerprint=self.fingerprint,
            drift=self.drift,
            on_error=self.on_error,
            max_rejects=self.max_rejects,
            part_bytes=min(self.part_bytes, budget.part_bytes, self._most_bytes()),
            part_records=self.part_records,
            part_seconds=self.part_seconds,
            governor=governor,
            schema=self.schema,
        )

    def _close(self) -> None:
        """Release everything, whatever fails on the way."""
        self._engine = None
        with ExitStack() as stack:
            stack.enter_context(sink_errors(self.name))
            for part in (self.warehouse, self.rejects, self.sink):
                if part is not None:
                    stack.callback(part.close)
