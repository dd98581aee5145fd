"""Which records of a part a warehouse would refuse, found out before the part is sealed.

A part is loaded in one step, so that one value that does not fit keeps all of it out. Once that has happened in a run
that keeps dead letters, what is not loaded is pulled again, and from there on each part is tried before it is sealed:
its records are encoded in memory, the warehouse loads them and undoes that. What it refuses becomes dead letters of the
part, and the very bytes of which it took every record are what is written. So dead letters and rows are committed by
the same swap as ever, and nothing besides has to survive a crash: the run after it finds the same value, or is past it.

A record is to blame where the warehouse says so. Where it can say only that the part does not fit, the shortest
beginning of the part that does not fit is searched for by halves: its last record is to blame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import orjson

from etl import formats
from etl.admission import as_text, limits_of
from etl.checkpoint import Part, State
from etl.errors import PartTooLarge, SchemaMismatch
from etl.field_types import FieldTypes
from etl.job import Settings
from etl.records import Record
from etl.shapes import Shapes, WideObjects
from etl.warehouses.base import Job, KeepsLedger, MergesByKey, TriesParts
from sinks import SealedPart

# Python needs some ten times as much memory for records as they take in a part, and two encodings are held beside them.
MOST_BYTES = 1024 * 1024

# What a record weighs that cannot be encoded.
UNKNOWN_BYTES = 1024

T = TypeVar("T")


class Taken(NamedTuple):
    """A snapshot of a record that waits to be judged, and the number of the source's record that was taken last."""

    record: Record
    number: int


class Tried(NamedTuple):
    """A part in memory, of which the warehouse takes every record.

    Attributes:
        data: its bytes.
        part: what is known of it, where it is excepted.
    """

    data: bytes
    part: Part


class TooMany(Exception):
    """To load so many records at once takes more memory than there is; fewer are to be tried."""


class Judge:
    """Tries the parts of a run.

    Args:
        job: the job.
        warehouse: takes the parts, while no load is under way.
        types: returns the types that the source gives to fields.
        wide: knows the objects that are no columns.
        call: calls a function where the warehouse is to be called.
    """

    def __init__(
        self,
        job: Settings,
        warehouse: TriesParts,
        types: Callable[[], FieldTypes],
        wide: WideObjects,
        call: Callable[[Callable[[], T]], T],
    ) -> None:
        self._job = job
        self._warehouse = warehouse
        self._types = types
        self._wide = wide
        self._call: Callable[[Callable[[], Any]], Any] = call

    def fitting(
        self, whose: Job, taken: Sequence[Taken], refuse: Callable[[Taken, str, str], None]
    ) -> Tried | None:
        """Return a part of the records that the warehouse takes; None: it takes none.

        Args:
            whose: as the warehouse wants it.
            taken: the records, in order.
            refuse: takes each of the others, why, and who refused it: `warehouse` or `format`.

        Raises:
            TooMany: so many records take more memory than the warehouse has, and fewer may not.
            WarehouseError: no record is to blame.
        """
        places = list(range(len(taken)))
        refused: dict[int, tuple[str, str]] = {}
        tried: Tried | None = None
        while places and tried is None:
            origin, rest = "warehouse", [taken[place] for place in places]
            try:
                found, kept, unfit = self._tried(whose, rest)
                reasons = self._refused(whose, found, kept)
                if not reasons:
                    # They were of another kind than records that fit.
                    reasons, origin = unfit, "format"
                if not reasons:
                    tried = found
            except SchemaMismatch as error:
                reasons = self._searched_for(whose, rest, error)
            except PartTooLarge as error:
                reasons = {0: self._too_large(whose, rest, error)}
            what = "does not fit the table" if origin == "warehouse" else "cannot be encoded"
            refused |= {places[place]: (f"{what}: {reason}", origin) for place, reason in reasons.items()}
            places = [number for place, number in enumerate(places) if place not in reasons]
        for place, (reason, origin) in sorted(refused.items()):
            refuse(taken[place], reason, origin)
        return tried

    def _tried(self, whose: Job, taken: Sequence[Taken]) -> tuple[Tried, list[int], dict[int, str]]:
        """Encode records; return the part, the places of those that are in it, and why others are not."""
        encoder = formats.make(self._job.format.name)
        places: dict[int, int] = {}
        held: list[Record] = []  # so that an id stands for one of them
        unfit: dict[int, str] = {}
        data = bytearray()

        def refuse(record: Record, reason: str, _number: int | None = None, /) -> None:
            if id(record) not in places:
                # Changed by then: it did not fit what came after it.
                raise SchemaMismatch(f"a value cannot be encoded beside others of its column: {reason}")
            unfit[places[id(record)]] = reason

        while True:
            suspicion, wide = formats.Suspicion(), len(self._wide.fields)
            shapes = Shapes(self._wide, suspicion)
            if isinstance(encoder, formats.LimitsRecords):
                encoder.limits = limits_of(self._job, self._wide)
            if isinstance(encoder, formats.TakesSuspicion):
                encoder.suspicion = suspicion
            if isinstance(encoder, formats.TakesTypes):
                encoder.assume(self._types, self._wide.fields)
            for known in (places, held, unfit, data):
                known.clear()
            noted = self._handed_on(shapes.note(one.record for one in taken), held, places, refuse)
            records = 0
            try:
                for records in encoder.encode(noted, data.extend, refuse, formats.BATCH_BYTES):  # noqa: B007 - the last
                    pass
            except formats.SchemaWidened:
                continue
            if wide == len(self._wide.fields):
                break
        kept = [place for place in range(len(taken)) if place not in unfit]
        if unfit:
            shapes = Shapes(self._wide)
            for _ in shapes.note(taken[place].record for place in kept):
                pass
        part = Part.of(
            SealedPart(
                sequence=whose.sequence + 1, uri="not sealed yet", bytes=len(data), crc32c=0, generation=0
            ),
            records,
            State(),
            shapes.fields(),
            shapes.types(self._types()) or None,
        )
        return Tried(bytes(data), part), kept, unfit

    def _handed_on(
        self,
        records: Iterator[Record],
        held: list[Record],
        places: dict[int, int],
        refuse: Callable[[Record, str], None],
    ) -> Iterator[Record]:
        """Pass records on, objects that are no columns as text, as they are to be encoded; note the place of each."""
        wide = self._wide.fields if self._job.format.name == "parquet" else set()
        for place, record in enumerate(records):
            ready, reason = record, None
            try:
                ready = record if not wide or wide.isdisjoint(record) else as_text(record, wide)
            except Exception as error:  # of a value, which may be of a class of the user's: any
                reason = formats.unencodable(error)
            held.append(ready)
            places[id(ready)] = place
            if reason is None:
                yield ready
            else:
                refuse(ready, reason)

    def _refused(self, whose: Job, tried: Tried, kept: Sequence[int]) -> dict[int, str]:
        """Return which places the warehouse refuses, and why."""
        if not kept:
            return {}
        found: Mapping[int, str] = self._call(
            lambda: self._warehouse.try_part(whose, self._job.format.name, tried.part, tried.data)
        )
        return {kept[number - 1]: reason for number, reason in found.items()}

    def _searched_for(self, whose: Job, taken: Sequence[Taken], error: SchemaMismatch) -> dict[int, str]:
        """Return what does not fit in the shortest beginning of `taken` that does not fit.

        Raises:
            SchemaMismatch: the warehouse takes no records at all.
        """
        nothing = Tried(
            b"", Part.of(SealedPart(sequence=0, uri="", bytes=0, crc32c=0, generation=0), 0, State(), None)
        )
        self._refused(whose, nothing, [0])
        fits, fails = 0, len(taken)
        while fails - fits > 1:
            middle = (fits + fails) // 2
            try:
                tried, kept, _unfit = self._tried(whose, taken[:middle])
                reasons = self._refused(whose, tried, kept)
            except PartTooLarge as other:
                raise TooMany from other
            except SchemaMismatch as other:
                fails, error = middle, other
            else:
                if reasons:
                    return reasons
                fits = middle
        return {fails - 1: str(error)}

    def _too_large(self, whose: Job, taken: Sequence[Taken], error: PartTooLarge) -> str:
        """Say why the one record that is left takes more memory than there is, where another one does not.

        Raises:
            TooMany: it is not the only one.
            PartTooLarge: any record does.
        """
        if len(taken) > 1:
            raise TooMany from error
        record = taken[0].record
        warehouse: object = self._job.warehouse
        key = warehouse.key if isinstance(warehouse, MergesByKey) else ()
        small = {name: record.get(name) for name in key} or dict.fromkeys(list(record)[:1])
        try:
            found, kept, _unfit = self._tried(whose, [taken[0]._replace(record=small)])
            self._refused(whose, found, kept)
        except PartTooLarge:
            raise error from None
        except SchemaMismatch:
            pass  # which is no lack of memory
        return str(error)


def weight(record: Record) -> int:
    """Return about how many bytes a record is in a part."""
    try:
        return len(orjson.dumps(record, formats.portable))
    except Exception:  # of a value of a class of the user's, or as the format says when it is encoded
        return UNKNOWN_BYTES


def tries(job: Settings) -> TriesParts | None:
    """Return the warehouse of a job in which records that do not fit are to become dead letters, one by one."""
    warehouse: object = job.warehouse
    if job.on_error == "reject" and isinstance(warehouse, TriesParts) and isinstance(warehouse, KeepsLedger):
        return warehouse
    return None
