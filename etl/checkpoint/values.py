"""What the checkpoint is made of: who has the job, how far it is, its parts and plans, how its runs ended."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import msgspec

from etl.columns import Columns
from etl.field_types import FieldTypes
from etl.partitions import Touched
from etl.records import Position
from sinks.base import SealedPart

S = TypeVar("S", bound=msgspec.Struct)
# Seconds since 1970, from the year 1 to the year 9999: what can be shown.
Moment = Annotated[float, msgspec.Meta(ge=-62_135_596_800, lt=253_402_300_800)]


def replace(value: S, **changes: Any) -> S:
    """Return `value` with some fields changed."""
    return msgspec.structs.replace(value, **changes)


class Owner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The process that holds the job, for people who read the checkpoint; nothing is decided by it."""

    host: str
    pid: int
    since: Moment

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

    at: Moment
    how: str
    reason: str = ""
