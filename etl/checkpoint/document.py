"""The document, and the steps of the protocol as its methods: acquired, committed, planned, acknowledged and so on."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence

import msgspec

from etl import secret_values
from etl.checkpoint.values import Ended, Moment, Owner, Part, Plan, Refresh, State, Totals, replace
from etl.columns import Columns
from etl.records import Position
from sinks.base import Hygiene, SealedPart

VERSION = (
    4  # 1 knew no columns, quotas and failures, 2 no refreshes, 3 no checksum: none of them was ever released
)

# How much of an error's message is kept, in characters.
MOST_REASON = 1000


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The document.

    Attributes:
        pipeline: the job's name.
        fingerprint: what of the job's definition gives the checkpoint its meaning, by name.
        epoch: grows by one each time a process takes the job over.
        owner: that process.
        write_nonce: drawn for each write, to recognise one's own write after a lost answer.
        state: how far the job is committed.
        loaded: how far the warehouse has acknowledged.
        sealed: parts that wait for a plan.
        plans: plans that wait for their load.
        loads: the number of plans that were loaded.
        clean: whether the last run ended by itself (finished, or stopped by a signal).
        finished: whether the last run reached the source's end.
        part_bytes: the present size of a part in bytes: halved after a crash or a full disk, then growing.
        hygiene: how the sink kept the page cache small in this run, or the last one; None: it says nothing.
        columns: the table's columns, where the warehouse has them pinned: what every sealed part fits.
        parts_schema: the schema of all parts, where they have types of their own and nothing is loaded (see
            `etl.formats.KeepsSchema`); None: there is none yet.
        rewinds: how often parts that were not loaded were given up, to be pulled again.
        life: drawn when the document was made, and kept: tells a job that was begun again from its former life.
        refresh: the refresh that is under way; None: loads go into the table itself.
        moved: where somebody told the job to go on from, until something from there is loaded; None: nowhere.
        former: what the fingerprint was before the job was moved, where what it names is the same still; see
            `etl.moves`.
        warehouse: the id of the database that the job loads into, which stands in it; empty: it has none.
        operations: how many jobs changed the table, in spans of ten minutes; see `etl.quota`.
        modifications: how many of its partitions they changed, in the same way.
        ended: how the last run ended that was not killed; None: none did.
        unpublished_parts: parts that count and that readers were not told of yet; None: the sink tells nobody.
        unpublished_rejects: the same of dead letters.
        succeeded: when a run last reached the source's end with all of it loaded, in seconds since 1970.
        wrote: whether the job ever wrote to its sinks, so that what no document names may be its own.
        version: of this document's form.
    """

    pipeline: str
    fingerprint: dict[str, str] = {}
    epoch: int = 0
    owner: Owner | None = None
    write_nonce: str = ""
    state: State = State()
    loaded: State = State()
    sealed: tuple[Part, ...] = ()
    plans: tuple[Plan, ...] = ()
    loads: int = 0
    clean: bool = True
    finished: bool = False
    part_bytes: int = 0
    hygiene: Hygiene | None = None
    columns: Columns | None = None
    parts_schema: bytes | None = None
    rewinds: int = 0
    life: str = ""
    refresh: Refresh | None = None
    moved: Position | None = None
    former: tuple[dict[str, str], ...] = ()
    warehouse: str = ""
    operations: tuple[tuple[int, int], ...] = ()
    modifications: tuple[tuple[int, int], ...] = ()
    ended: Ended | None = None
    succeeded: Moment | None = None
    wrote: bool = False
    unpublished_parts: tuple[SealedPart, ...] | None = None
    unpublished_rejects: tuple[SealedPart, ...] | None = None
    version: int = VERSION

    @property
    def outstanding(self) -> tuple[Part, ...]:
        """The parts that are sealed and not acknowledged, in order."""
        return (*(part for plan in self.plans for part in plan.parts), *self.sealed)

    @property
    def untouched(self) -> bool:
        """Whether nothing was ever committed: another source (a URL that was mistyped) would be mixed with nothing."""
        return (
            self.state == self.loaded == State()
            and not (self.outstanding or self.loads or self.rewinds)
            and self.moved is None
        )

    @property
    def uncleared(self) -> tuple[tuple[int, ...], int]:
        """What stands in the sink until it is cleared away: changed by giving parts up, or finding them loaded."""
        return tuple(part.sequence for part in self.outstanding), self.rewinds

    def knows(self, part: SealedPart) -> bool:
        """Whether the document names the part: as the last one, as one that waits, or as one that is not told of."""
        known = (
            *(tail for state in (self.state, self.loaded) for tail in (state.tail, state.dead_letters_tail)),
            *(each.sealed for each in self.outstanding),
            *(self.unpublished_parts or ()),
            *(self.unpublished_rejects or ()),
        )
        return any(each is not None and each.uri == part.uri for each in known)

    def _counting(self, parts: Sequence[Part]) -> Checkpoint:
        """Note that parts are loaded, for those who read them."""
        if self.unpublished_parts is None:
            return self
        return replace(self, unpublished_parts=(*self.unpublished_parts, *(part.sealed for part in parts)))

    @classmethod
    def new(cls, pipeline: str) -> Checkpoint:
        """Return the document of a job that has none yet."""
        return cls(pipeline=pipeline, life=secrets.token_hex(4))

    def acquired(self, owner: Owner, part_bytes: int) -> Checkpoint:
        """Take the job over: a new epoch, not clean until it is left."""
        return replace(
            self,
            epoch=self.epoch + 1,
            owner=owner,
            part_bytes=part_bytes,
            clean=False,
            finished=False,
            version=VERSION,
        )

    def committed(self, state: State, part: Part | None) -> Checkpoint:
        """Store a part and the state after it in one step; None: no record of the slice survived."""
        return replace(self, state=state, sealed=self.sealed if part is None else (*self.sealed, part))

    def planned(self, plan: Plan) -> Checkpoint:
        """Turn the sealed parts that `plan` holds, which are the first ones, into it."""
        return replace(self, plans=(*self.plans, plan), sealed=self.sealed[len(plan.parts) :])

    def acknowledged(self, plan: Plan) -> Checkpoint:
        """Note that `plan` is in the warehouse: its parts may be released now, not before."""
        rest = tuple(other for other in self.plans if other.id != plan.id)
        after = replace(self, plans=rest, loaded=plan.after, loads=self.loads + 1, moved=None)
        return after._counting(plan.parts)

    def advanced(self, loaded: State, loads: int) -> Checkpoint:
        """Catch up with a warehouse whose own ledger is ahead of this document."""
        return replace(
            self._counting([part for part in self.outstanding if part.sequence <= loaded.sequence]),
            loaded=loaded,
            loads=loads,
            state=loaded if loaded.sequence > self.state.sequence else self.state,
            sealed=tuple(part for part in self.sealed if part.sequence > loaded.sequence),
            plans=tuple(plan for plan in self.plans if plan.after.sequence > loaded.sequence),
            moved=None,
        )

    def moved_to(self, position: Position) -> Checkpoint:
        """Go on from another position of the source, where no part waits to be loaded."""
        return replace(self, state=replace(self.state, position=position), moved=position)

    def refreshing(self) -> Checkpoint:
        """Begin a refresh: from the source's beginning, with nothing loaded; what was not loaded is given up.

        Parts go on being counted, so that their names are new; the totals are those of the refresh.
        """
        base = replace(self.state, position=Position(), totals=Totals())
        given_up = replace(self, loaded=base, loads=0, moved=None).rewound()
        return replace(given_up, refresh=Refresh(id=f"{given_up.rewinds}-{secrets.token_hex(4)}", base=base))

    def refresh_complete(self) -> Checkpoint:
        """Note that all of a refresh is loaded: from now on its table is only ever exchanged."""
        assert self.refresh is not None
        return replace(self, refresh=replace(self.refresh, complete=True))

    def refreshed(self) -> Checkpoint:
        """Note that the new table has taken the old one's place: loads go into it from now on."""
        return replace(self, refresh=None)

    def rewound(self) -> Checkpoint:
        """Give up every part that is not loaded: they are lost, and will be pulled again.

        What they pinned goes with them, so that a schema or a transform may be fixed: the columns that loaded
        parts need are the table's.
        """
        state = self.loaded if self.moved is None else replace(self.loaded, position=self.moved)

        def kept(parts: tuple[SealedPart, ...] | None) -> tuple[SealedPart, ...] | None:
            return parts and tuple(part for part in parts if part.sequence <= state.sequence)

        return replace(
            self,
            state=state,
            sealed=(),
            plans=(),
            columns=None,
            rewinds=self.rewinds + 1,
            unpublished_parts=kept(self.unpublished_parts),
            unpublished_rejects=kept(self.unpublished_rejects),
        )

    def abandoning(self) -> Checkpoint:
        """Note that every plan is being given up, so that the next process goes on with that."""
        return replace(self, plans=tuple(replace(plan, abandoned=True) for plan in self.plans))

    def failed(self, plan: Plan, reason: str) -> Checkpoint:
        """Note that `plan` cannot be loaded as it is: nothing goes on before somebody says so."""
        plans = tuple(
            replace(other, failure=secret_values.hide(reason)) if other.id == plan.id else other
            for other in self.plans
        )
        return replace(self, plans=plans)

    def left(self, *, finished: bool, stopped: str = "") -> Checkpoint:
        """Leave the job in order: nothing is open.

        Args:
            finished: whether the source's end was reached, and all is loaded.
            stopped: what stopped the run before that.
        """
        now = time.time()
        ended = Ended(
            at=now,
            how="finished" if finished else "stopped",
            reason="" if finished else secret_values.hide(stopped),
        )
        succeeded = now if finished else self.succeeded
        return replace(self, clean=True, finished=finished, ended=ended, succeeded=succeeded)

    def failing(self, reason: str) -> Checkpoint:
        """Note why the run ends that is under way; `clean` says whether it ends in order."""
        reason = secret_values.hide(reason)
        text = reason if len(reason) <= MOST_REASON else reason[: MOST_REASON - 1] + "…"
        return replace(self, ended=Ended(at=time.time(), how="failed", reason=text))
