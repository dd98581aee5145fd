"""The checkpoint: the one small JSON document that says how far a job is.

Every change is a new frozen value, made by a method named after the step of the protocol (acquired, sealed,
planned, loaded …) and written by a compare-and-swap (`etl.lease`). The document does not grow with the data: what
stands in it besides the position are the parts that wait to be loaded.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from etl.columns import Columns
from etl.errors import CheckpointCorrupt, CheckpointTooNew
from etl.field_types import FieldTypes
from etl.partitions import Touched
from etl.records import Position
from sinks.base import Hygiene, SealedPart

VERSION = (
    4  # 1 knew no columns, quotas and failures, 2 no refreshes, 3 no checksum: none of them was ever released
)

# How a document ends: the checksum of all that stands before it, as bytes. Exact, so that nothing after it can change.
_SEAL = ',\n "checksum": "{}"\n}}\n'
_SEALED = re.compile(rb',\n "checksum": "([0-9a-f]{32})"\n}\n\Z')

# Up to this many bytes a document is indented, for people: that makes it half as long again.
READABLE = 64 * 1024

# How much of an error's message is kept, in characters.
MOST_REASON = 1000

# Below this a part is not cut smaller: a checkpoint and a load for each would cost more than they carry.
SMALLEST_PART = 64 * 1024

S = TypeVar("S", bound=msgspec.Struct)


class Owner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The process that holds the job, for people who read the checkpoint; nothing is decided by it."""

    host: str
    pid: int
    since: float

    @classmethod
    def this_process(cls) -> Owner:
        """Describe this process, from now on; `since` is in seconds since 1970."""
        return cls(host=socket.gethostname(), pid=os.getpid(), since=time.time())

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.since))
        return f"process {self.pid} on {self.host} since {since}"


class Totals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sums over all runs of the job: what was written in parts, which records were rejected, which fields left out."""

    records: int = 0
    bytes: int = 0
    parts: int = 0
    rejected: int = 0
    ignored: int = 0


class State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a job is at some point of its way, and all that is needed to go on from there.

    Attributes:
        sequence: the number of the last part up to there; 0: none yet.
        position: the source's position.
        tail: the last part of records; None: none yet.
        dead_letters_tail: the last part of dead letters; None: none yet.
        totals: the sums up to there.
    """

    sequence: int = 0
    position: Position = Position()
    tail: SealedPart | None = None
    dead_letters_tail: SealedPart | None = None
    totals: Totals = Totals()

    def is_at(self, other: State) -> bool:
        """Say whether both are the same point of the job; the sinks' parts may have other names by now."""
        return (self.sequence, self.position) == (other.sequence, other.position)


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part that is sealed and waits to be loaded.

    Attributes:
        sealed: what the sink says of it.
        records: how many records it holds.
        after: the job's state after it, but for `tail`, which is this part; see `state`.
        fields: the kinds of the values of its fields (see `etl.shapes`); None: they are not known.
        types: the types that the source gives to fields (see `etl.field_types`); None: it knows none.
        partitions: the table's partitions that its records belong to; None: the table has none, or nobody knows.
    """

    sealed: SealedPart
    records: int
    after: State
    fields: dict[str, tuple[str, ...]] | None = None
    types: FieldTypes | None = None
    partitions: Touched | None = None

    @property
    def sequence(self) -> int:
        """The part's number."""
        return self.sealed.sequence

    @property
    def state(self) -> State:
        """The job's state after it."""
        return replace(self.after, tail=self.sealed)

    @classmethod
    def of(
        cls,
        sealed: SealedPart,
        records: int,
        after: State,
        fields: dict[str, tuple[str, ...]] | None,
        types: FieldTypes | None = None,
        partitions: Touched | None = None,
    ) -> Part:
        """Make a part; thousands of them may wait in one document, so nothing stands in it twice."""
        return cls(
            sealed=sealed,
            records=records,
            after=replace(after, tail=None),
            fields=fields,
            types=types,
            partitions=partitions,
        )


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An ordered list of sealed parts that one load takes; its id is a hash of its content.

    Attributes:
        id: 32 hexadecimal digits over destination, format and each part's URI, generation, crc32c, records.
        format: the name of the parts' format: `ndjson`, `ndjson.gz`, `parquet`.
        parts: at least one.
        failure: why it cannot be loaded as it is; empty: nothing is known against it.
        abandoned: whether it is being given up: noted before anything is done that makes it impossible to load.
    """

    id: str
    format: str
    parts: tuple[Part, ...]
    failure: str = ""
    abandoned: bool = False

    @property
    def records(self) -> int:
        """The number of records in all parts."""
        return sum(part.records for part in self.parts)

    @property
    def after(self) -> State:
        """The job's state once this plan is loaded."""
        return self.parts[-1].state

    @classmethod
    def of(
        cls,
        destination: str,
        format: str,
        parts: Sequence[Part],
        *,
        columns: Columns | None = None,
        rewinds: int = 0,
        life: str = "",
    ) -> Plan:
        """Make a plan of `parts`; no epoch, clock or chance is in its id, so that a successor makes the same.

        Args:
            destination: what the warehouse calls the table, disposition and options that a load depends on.
            format: the name of the parts' format.
            parts: the parts, in order.
            columns: the table's columns, where the job pins them.
            rewinds: how often the job gave parts up: a plan over the same parts, pulled again, is another one.
            life: the checkpoint's: a plan of a job that was begun again is another one, too.
        """
        digest = hashlib.blake2b(digest_size=16)
        digest.update(msgspec.json.encode((destination, format, columns, rewinds, life)))
        for part in parts:
            sealed = part.sealed
            digest.update(
                msgspec.json.encode(
                    (sealed.uri, sealed.generation, sealed.crc32c, sealed.bytes, part.records)
                )
            )
        return cls(id=digest.hexdigest(), format=format, parts=tuple(parts))


class Refresh(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A refresh that is under way: a new table is filled beside the old one.

    Attributes:
        id: drawn when it began: the new table is called after it. It begins with a number that grows with each refresh
            of a life, and a dash: so a process that is half dead knows those of its successors.
        base: the state with which it began: at the source's beginning, with nothing loaded.
        complete: whether all is loaded, so that nothing but the exchange of the tables is left.
    """

    id: str
    base: State
    complete: bool = False


class Ended(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the last run that ended by itself ended, for people and for what watches the job; nothing is decided by it.

    Attributes:
        at: when, in seconds since 1970.
        how: `finished` at the source's end, `stopped` before it, or `failed`.
        reason: the error's message, or what stopped it: a signal, the quota.
    """

    at: float
    how: str
    reason: str = ""


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
    succeeded: float | None = None
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
            replace(other, failure=reason) if other.id == plan.id else other for other in self.plans
        )
        return replace(self, plans=plans)

    def left(self, *, finished: bool, stopped: str = "") -> Checkpoint:
        """Leave the job in order: nothing is open.

        Args:
            finished: whether the source's end was reached, and all is loaded.
            stopped: what stopped the run before that.
        """
        now = time.time()
        ended = Ended(at=now, how="finished" if finished else "stopped", reason="" if finished else stopped)
        succeeded = now if finished else self.succeeded
        return replace(self, clean=True, finished=finished, ended=ended, succeeded=succeeded)

    def failing(self, reason: str) -> Checkpoint:
        """Note why the run ends that is under way; `clean` says whether it ends in order."""
        text = reason if len(reason) <= MOST_REASON else reason[: MOST_REASON - 1] + "…"
        return replace(self, ended=Ended(at=time.time(), how="failed", reason=text))

    def encode(self) -> bytes:
        """Return the document as JSON with a checksum; indented, unless thousands of parts wait."""
        data = msgspec.json.encode(self)
        body = msgspec.json.format(data, indent=1) if len(data) <= READABLE else data
        body = body.removesuffix(b"}").rstrip()
        return body + _SEAL.format(_checksum(body)).encode()


def decode(data: bytes, uri: str) -> Checkpoint:
    """Read a document.

    Args:
        data: its bytes.
        uri: where they came from, for the message.

    Raises:
        CheckpointTooNew: a newer version of this library wrote it.
        CheckpointCorrupt: it is not JSON, or not this document, or a byte of it is not what was written.
    """
    try:
        found = _SEALED.search(data)
        if found is None:
            _see_version(data, uri)
            raise _corrupt(uri, "it does not end with its checksum")
        body = data[: found.start()]
        if _checksum(body).encode() != found[1]:
            raise _corrupt(uri, "its checksum does not fit: it was changed since it was written")
        _see_version(body + b"}", uri)
        return msgspec.json.decode(body + b"}", type=Checkpoint)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _corrupt(uri, str(error)) from error


def _checksum(body: bytes) -> str:
    """Return a checksum that no change of a few bits leaves as it is (BLAKE2b, RFC 7693, 16 bytes)."""
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def _see_version(data: bytes, uri: str) -> None:
    version = msgspec.json.decode(data, type=_Version).version
    if version > VERSION:
        raise CheckpointTooNew(
            f"{uri} is a checkpoint of version {version}; this library reads version {VERSION}: "
            "run the job with the version of etl-sinks that wrote it, or a newer one"
        )


def _corrupt(uri: str, why: str) -> CheckpointCorrupt:
    return CheckpointCorrupt(
        f"{uri} is not a checkpoint, or a damaged one ({why}); put back a copy of it. With a warehouse "
        "that keeps a ledger (DuckDB) it may be deleted: the job then goes on from the ledger"
    )


class _Version(msgspec.Struct):
    version: int


def replace(value: S, **changes: Any) -> S:
    """Return `value` with some fields changed."""
    return msgspec.structs.replace(value, **changes)
