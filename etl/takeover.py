"""Take a job over from its checkpoint: claim it, follow the warehouse's ledger, clear up after the run before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

from etl import following, moves, progress, refreshes
from etl.checkpoint import Checkpoint, Owner, State, decode, replace
from etl.clearing import Clearing
from etl.errors import (
    ConfigError,
    DefinitionChanged,
    LoadFailed,
    LoadMismatch,
    SinkFailed,
    WarehouseError,
)
from etl.job import SMALLEST_PART, Settings
from etl.lease import Lease, Store
from etl.masking import given, named_all
from etl.reader import Reader
from etl.records import Mark, Position
from etl.warehouses.base import Entry, HasIdentity, Job, KeepsLedger, LoadsByJobs
from etl.words import differences
from sinks import PartLost, SealedPart, SeesEpochs, Sink, SinkError
from sinks.base import OnThisMachine


class Takeover:
    """What a run does before its first part.

    Args:
        job: the job.
        store: where its checkpoint lives; held by this process.
        emit: takes the events.
        clearing: clears up what the run before left.

    Attributes:
        clean: whether the run before ended by itself.
    """

    def __init__(self, job: Settings, store: Store, emit: progress.Listener, clearing: Clearing) -> None:
        self._job = job
        self._clearing = clearing
        self._store = store
        self._emit = emit
        self.clean = True
        self._in_question = False  # whether the database alone can tell if the job's destination is the same

    def acquire(self, *, refresh: bool = False) -> Lease:
        """Claim the job: a new epoch in the checkpoint, if its definition still fits.

        Args:
            refresh: everything is to be pulled again, so that the source may be another one.

        Raises:
            DefinitionChanged: it does not.
            Fenced: another process has taken the job over in the meantime.
            SinkFailed: what somebody else wrote stands where the job would write.
            CheckpointError: the checkpoint cannot be read or written.
        """
        found = self._store.read()
        document = decode(found[0], self._store.uri) if found else Checkpoint.new(self._job.pipeline)
        # An older version kept secrets in it.
        document = replace(document, fingerprint=named_all(document.fingerprint))
        self.clean = document.clean
        if document.pipeline != self._job.pipeline:
            raise DefinitionChanged(
                f"{self._store.uri} is the checkpoint of the job {document.pipeline!r}, not of "
                f"{self._job.pipeline!r}: give each job its own checkpoint"
            )
        before = dict(document.fingerprint)
        untouched = document.untouched
        if refresh or untouched:
            before.pop("source", None)
        if untouched and document.refresh is None and document.columns is None:
            before.pop("destination", None)
        since = moves.Moves(document.fingerprint, self._job.fingerprint, moves.CHECKPOINT)
        self._in_question = self._may_be_moved(document, since) and "destination" in before
        if self._in_question:
            before.pop("destination")
        self._compare(before, since, bool(document.outstanding))
        lease = Lease(self._store, document, found[1] if found else None)
        for key, sink, last in (
            ("parts", self._job.sink, document.state.tail),
            ("rejects", self._job.rejects, document.state.dead_letters_tail),
        ):
            if not since.same(key) or not _may_be_its_own(document, sink, last):
                self._check_free(sink, lease)
        size = min(self._job.part_bytes, document.part_bytes or self._job.part_bytes)
        if not document.clean:
            size = min(size, max(size // 2, SMALLEST_PART))
        document = document.acquired(Owner.this_process(), size)
        if not self._in_question:
            document = self._noted(document, since, refresh=refresh)
        lease.write(document)
        return lease

    def _may_be_moved(self, document: Checkpoint, since: moves.Moves) -> bool:
        """Say whether only the database itself can tell if it is still the one that the job loads into."""
        warehouse: object = self._job.warehouse
        return (
            isinstance(warehouse, HasIdentity)
            and bool(document.warehouse)
            and not since.same("destination")
            and since.same_but_for_place("destination")
            and since.is_there("destination")
        )

    def _noted(self, document: Checkpoint, since: moves.Moves, *, refresh: bool) -> Checkpoint:
        """Note the definition as it is now, and what its parts are called where it was moved."""
        if not since.changed:
            return document
        fingerprint = dict(self._job.fingerprint)
        if refresh and "source" in document.fingerprint:
            # Until the refresh is begun, the position is that of the source before.
            fingerprint = since.keeping("source")
        document = replace(document, former=moves.remembered(document, since))
        document = moves.relocated(document, since, self._job.sink, self._job.rejects)
        # What readers were not told of yet is in another place.
        if not since.same("parts"):
            document = replace(document, unpublished_parts=None)
        if not since.same("rejects"):
            document = replace(document, unpublished_rejects=None)
        return replace(document, fingerprint=fingerprint)

    def recognise(self, lease: Lease, *, refresh: bool = False) -> None:
        """Make sure that the database is the one that the job loads into, by the id that stands in it.

        Args:
            lease: the checkpoint.
            refresh: everything is to be pulled again, so that the source may be another one.

        Raises:
            DefinitionChanged: it is another one, at another place.
            WarehouseError: its id cannot be read, or written where it has none yet.
        """
        warehouse: object = self._job.warehouse
        if not isinstance(warehouse, HasIdentity):
            return
        document = lease.document
        now = warehouse.identity(draw=not self._in_question)
        if self._in_question:
            since = moves.Moves(document.fingerprint, self._job.fingerprint, moves.CHECKPOINT)
            then, there = document.fingerprint["destination"], self._job.fingerprint["destination"]
            if now != document.warehouse:
                raise DefinitionChanged(
                    f"job {self._job.pipeline!r} changed: its destination was {then}, now it is {there}, which is "
                    f"another database: its id is {now or 'not there'}, that of the other one is "
                    f"{document.warehouse}. Its checkpoint ({self._store.uri}) means nothing to that. Change it back, "
                    "or put the database that it loaded into there, or a copy of it; or give the changed job another "
                    "name and checkpoint"
                )
            lease.write(replace(self._noted(document, since, refresh=refresh), warehouse=now))
            self._in_question = False
            self._notice(f"the database was moved: it was {then}, now it is {there}", expected=True)
        else:
            lease.document = replace(document, warehouse=now)  # written with the next change

    def _check_free(self, sink: Sink, lease: Lease) -> None:
        """Make sure that a sink that has nothing of this job finds nothing: that would be another job's."""
        with sink_errors(self._job.pipeline):
            if (path := sink.occupied_by()) is not None:
                lease.check()  # since the checkpoint was read, another process may have begun the job
                raise SinkFailed(
                    f"{path} stands where job {self._job.pipeline!r} would write, and its checkpoint "
                    f"({self._store.uri}) does not know it; move it away, or choose another path"
                )

    def _compare(self, before: Mapping[str, str], since: moves.Moves, outstanding: bool) -> None:
        """Refuse to go on where the definition no longer fits what was done."""
        for key in ("source", "destination", "parts"):
            now = self._job.fingerprint[key]
            then = before.get(key, now)
            if then == now or since.same(key) or (key == "parts" and not outstanding):
                continue
            if key == "parts":
                what, advice = (
                    "parts that are not loaded yet are in",
                    "Change it back and run once, then change it",
                )
            else:
                what, advice = (
                    f"its {key} was",
                    "Change it back, or give the changed job another name and table",
                )
                if key == "source" and refreshes.refreshable(self._job.warehouse, self._job.sink):
                    advice += "; or pull all of it into a new table, with --full-refresh"
                then, now = differences(then, now)
            raise DefinitionChanged(
                f"job {self._job.pipeline!r} changed: {what} {then}, now it is {now}. Its checkpoint "
                f"({self._store.uri}) means nothing to that. {advice}"
            )

    def bring_up_to_date(
        self,
        lease: Lease,
        *,
        retry: bool = False,
        refresh: bool = False,
        adopt: bool = False,
        start: Mark | None = None,
    ) -> bool:
        """Do all that stands between the claim and the first part.

        Args:
            lease: the checkpoint.
            retry: the cause of a load that failed for good is fixed: its records may be pulled again.
            refresh: begin a refresh, though the job adds to its table; what is not loaded is given up.
            adopt: a person says that the table is right as it is, though it does not fit the checkpoint, or nobody can
                tell.
            start: where to go on from in place of the checkpoint's position; `Mark(None)`: the source's beginning.

        Returns:
            Whether the source is to be pulled: not when this run only had to end a refresh of the one before.

        Raises:
            ConfigError: what is asked for cannot be done; nothing was changed.
            EtlError: see the single steps.
        """
        self.recognise(lease, refresh=refresh)
        replaces = refreshes.replaces(self._job.warehouse)
        if refresh:
            refreshes.refreshing(self._job.pipeline, self._job.warehouse, self._job.sink)
        if start is not None and (replaces or lease.document.refresh):
            raise ConfigError(
                f"job {self._job.pipeline!r} is being refreshed, from the source's beginning: leave --from out"
            )
        if adopt and not isinstance(self._job.warehouse, LoadsByJobs):
            raise ConfigError(
                f"job {self._job.pipeline!r} has nothing to adopt: --adopt-table is for warehouses without a ledger"
            )
        lost = False
        if under_way := lease.document.refresh:
            lost = refreshes.end(self._job, lease, self._emit, another=refresh)
            if under_way.complete and replaces and not (refresh or lost):
                return False
        begins = refresh or lost or (replaces and lease.document.refresh is None)
        if not begins:
            self.follow_ledger(lease)
            self.look_back(lease, adopt=adopt)
            self.settle_failures(lease, retry=retry)
        if start is not None:
            self._check_start(lease.document, start)
        if begins:
            refreshes.check(self._job, lease)
            document = self._settled(lease).refreshing()
            lease.write(replace(document, fingerprint=self._job.fingerprint, former=()))
            self._notice(
                "refreshing: a new table is filled, the old one stays as it is until all is loaded",
                expected=True,
            )
        refreshes.prepare(self._job, lease)
        self.recover(lease)
        if start is not None:
            before = lease.document.state.position
            position = replace(before, cursor=given(start.cursor), skip=0)
            lease.write(lease.document.moved_to(position))
            self._notice(
                f"going on from {position}, as it was asked for; it stood at {before}", expected=True
            )
        return True

    def _check_start(self, document: Checkpoint, start: Mark) -> None:
        """Refuse to go on from another position where that has no clear meaning, or the source knows no such place.

        Raises:
            ConfigError: it has no meaning.
            SourceError: the source cannot begin there, or the first record cannot be had.
        """
        if document.outstanding:
            raise ConfigError(
                f"job {self._job.pipeline!r} cannot go on from another position while {len(document.outstanding)} "
                "of its parts wait to be loaded: run it once without --from"
            )
        # Once it is noted, each run would begin there.
        probe = Reader(self._job.source, Position(cursor=given(start.cursor)), lambda *_: None)
        with closing(probe.slice()) as records:
            next(records, None)
        probe.close()

    def follow_ledger(self, lease: Lease) -> None:
        """Bring the checkpoint to where the warehouse's own ledger says that the job is.

        Raises:
            DefinitionChanged: the ledger's job was another one.
            WarehouseError: the ledger cannot be read.
        """
        warehouse: object = self._job.warehouse
        if not isinstance(warehouse, KeepsLedger):
            return
        document = lease.document
        found = warehouse.latest(Job.of(document, self._job.fingerprint))
        if found is None and not document.loads:
            return  # nothing was loaded: what was rejected since, and how parts are counted, stays
        base = document.refresh.base if document.refresh else State()
        entry = found or Entry(
            fingerprint=document.fingerprint if document.refresh else {}, state=base, loads=0
        )
        noted = named_all(entry.fingerprint)
        since = moves.Moves(noted, self._job.fingerprint, "destination", document.former)
        before = dict(noted)
        if since.same_but_for_place("destination"):
            before.pop("destination", None)  # the ledger stands in it, wherever it is
        self._compare(before, since, outstanding=False)
        if entry.state.is_at(document.loaded):
            return
        if document.untouched:
            following.see_that_no_other_has_it(self._job, self._store.uri, since, entry)
        for plan in document.plans:
            if entry.state.is_at(plan.after):
                # It was loaded, and only the acknowledgement is missing.
                lease.write(document.advanced(plan.after, entry.loads))
                return
        state = moves.with_tails(entry.state, since, self._job.sink, self._job.rejects)
        # Where a run was told to go on from was meant for another table.
        lease.write(replace(document, loaded=state, loads=entry.loads, moved=None).rewound())
        if document.untouched:
            self._notice(following.told(self._job, self._store.uri, entry))
        elif document.state.sequence:
            self._notice(
                f"the warehouse has the job up to part {state.sequence} ({state.position}), the checkpoint said "
                f"part {document.loaded.sequence} ({document.loaded.position}): one of them was put back, or the "
                "table dropped; going on from what the warehouse has"
            )

    def look_back(self, lease: Lease, *, adopt: bool = False) -> None:
        """Where no ledger tells what is loaded, make sure that the table fits the checkpoint.

        Args:
            lease: the checkpoint.
            adopt: a person says that it does.

        Raises:
            Fenced: another process has taken the job over, and loaded more.
            WarehouseError: it does not, or nobody can tell.
        """
        warehouse: object = self._job.warehouse
        if isinstance(warehouse, LoadsByJobs):
            document = lease.document
            try:
                overruled = warehouse.look_back(Job.of(document, self._job.fingerprint), adopt=adopt)
            except WarehouseError:
                lease.check()  # a table that is further than the checkpoint may be a successor's work
                raise
            if overruled is not None:
                self._notice(
                    f"the table is taken as it is, as it was asked for, though {overruled}", expected=True
                )

    def settle_failures(self, lease: Lease, *, retry: bool) -> None:
        """Where a plan could not be loaded as it was, stop, or give up what is not loaded.

        Args:
            lease: the checkpoint.
            retry: whether the cause is fixed, so that the records may be pulled again.

        Raises:
            LoadFailed: it is not.
            WarehouseError: it cannot be found out what became of the plans.
        """
        plans = lease.document.plans
        failure = next((plan.failure for plan in plans if plan.failure and not plan.abandoned), "")
        if not failure:
            return
        if not retry:
            raise LoadFailed(f"{failure} (in an earlier run; nothing was loaded or skipped since)")
        self._give_up(lease)
        self._notice(
            f"what failed to load is given up; pulling it again from part {lease.document.state.sequence + 1}"
        )

    def recover(self, lease: Lease) -> None:
        """Make the sinks as the checkpoint says; where parts are lost, go back to what is loaded.

        What later epochs wrote is a successor's, which must not be touched, or was lost with a checkpoint that was put
        back from an older copy: its records are pulled again, so it must go. The swap to an epoch above them tells:
        who writes parts has swapped before that.

        Raises:
            Fenced: it is a successor's.
            SinkFailed: a sink cannot be brought back.
            CheckpointError: the checkpoint cannot be written.
            WarehouseError: it cannot be found out whether parts that are lost were loaded.
        """
        lease.check()  # what a successor wrote in the meantime must not be cleared away
        self._recover_sinks(lease)
        sinks = self._job.sink, self._job.rejects
        latest = max((sink.latest_epoch() for sink in sinks if isinstance(sink, SeesEpochs)), default=0)
        if latest >= (said := lease.document.epoch):  # nothing of its own is there yet
            lease.write(replace(lease.document, epoch=latest + 1))
            self._notice(
                f"objects of epoch {latest} are there, the checkpoint said {said}: it was put back from an older copy; "
                "what it does not know is cleared away, and pulled again"
            )
            self._recover_sinks(lease)

    def _recover_sinks(self, lease: Lease) -> None:
        with sink_errors(self._job.pipeline):
            try:
                if any(plan.abandoned for plan in lease.document.plans):
                    self._give_up(lease)
                self._recover_parts(lease)
            except PartLost as error:
                document = lease.document
                # A plan that may have been loaded is given up only where somebody can tell.
                in_doubt = document.plans and not isinstance(self._job.warehouse, (KeepsLedger, LoadsByJobs))
                if self._job.warehouse is None or not document.outstanding or in_doubt:
                    raise
                self._give_up(lease)
                self._notice(f"{error}; pulling again what is not loaded")
                self._recover_parts(lease)
            document = lease.document
            last = document.state.dead_letters_tail
            self._clearing.recover(self._job.rejects, [], last, epoch=document.epoch)

    def _recover_parts(self, lease: Lease) -> None:
        document = lease.document
        sealed = [part.sealed for part in document.outstanding]
        self._clearing.recover(self._job.sink, sealed, document.state.tail, epoch=document.epoch)

    def _give_up(self, lease: Lease) -> None:
        """Give up the parts that are not loaded, once it is certain that nobody can load them any more.

        A half-dead process may have submitted a plan, or may be about to: a process that only looked, found no job, and
        pulled the records again would load them twice. That it is being done is noted first: a plan that cannot be
        loaded any more, in a checkpoint that does not say so, would keep the job from ever going on.

        Raises:
            WarehouseError: it is not certain; nothing was given up.
        """
        lease.write(self._settled(lease).rewound())

    def _settled(self, lease: Lease) -> Checkpoint:
        """Return the document with the plans that are loaded, once what became of each is certain and stays so."""
        warehouse: object = self._job.warehouse
        document = lease.document
        if isinstance(warehouse, LoadsByJobs) and document.plans:
            lease.write(document.abandoning())
            document = lease.document
            job = Job.of(document, self._job.fingerprint)
            given_up = ""
            for plan in document.plans:
                rows = warehouse.settle(job, plan)
                if rows is None:
                    given_up = given_up or plan.id
                elif given_up:
                    raise WarehouseError(
                        f"plan {plan.id} of job {self._job.pipeline!r} is loaded, but plan {given_up} before it "
                        "is not; plans are loaded in order, so somebody changed the checkpoint: compare the "
                        "table with the source"
                    )
                elif rows != plan.records:
                    raise LoadMismatch(
                        f"plan {plan.id} of job {self._job.pipeline!r} holds {plan.records} records, the "
                        f"warehouse took {rows}; compare the table with the source"
                    )
                else:
                    document = document.acknowledged(plan)
        return document

    def _notice(self, message: str, *, expected: bool = False) -> None:
        self._emit(progress.Notice(pipeline=self._job.pipeline, message=message, expected=expected))


def _may_be_its_own(document: Checkpoint, sink: Sink, last: SealedPart | None) -> bool:
    """Say whether what stands where a sink writes may be the job's own; else `recover` must not clear it away.

    A run that ended by itself left nothing but what it committed. One that was killed may have left more, once it had
    written anything.

    Args:
        document: the checkpoint, as the run before left it.
        sink: writes where it did then.
        last: what the checkpoint knows as the last part there.
    """
    if document.outstanding or not isinstance(sink, OnThisMachine):
        # A bucket may keep what was to be deleted.
        return document.wrote or last is not None
    if document.clean:
        return last is not None and sink.lasting
    return document.wrote or last is not None


@contextmanager
def sink_errors(pipeline: str) -> Iterator[None]:
    """Let what a sink raises arrive as `SinkFailed`."""
    try:
        yield
    except SinkError as error:
        raise SinkFailed(f"job {pipeline!r} cannot go on: {error}") from error
