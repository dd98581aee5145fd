"""What stands between the transforms and the encoder: which records a part takes, and what is noted of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from math import isnan

from etl import drift, formats
from etl.checkpoint import Checkpoint, Part
from etl.columns import Columns
from etl.declared_gate import DeclaredGate, types_of
from etl.errors import EtlError
from etl.field_types import FieldType, FieldTypes, no_types
from etl.job import Settings
from etl.nesting import Extent, Nesting
from etl.partitions import Touched
from etl.records import Declared, DescribesFields, MakesTypes, Record, led_back
from etl.shapes import Fields, Shapes, WideObjects
from etl.snapshots import is_flat, snapshot
from etl.warehouses.base import (
    ChecksRecords,
    Gate,
    Job,
    KnowsColumns,
    LimitsNesting,
    LimitsSizes,
    MergesByKey,
    Misfit,
    SeesPartitions,
    TakesFieldTypes,
)

# What is gathered is copied first, by a function that calls itself: Python's stack is the limit, some 1,000 calls.
GATHERED = Extent(fields=sys.maxsize, levels=100, lists=100, json=100)

# Takes a record, the reason why it is refused, and who refused it; raises, or keeps a dead letter.
Refuse = Callable[[Record, str, str], None]


class Admission:
    """Lets records into one part.

    Args:
        job: the job.
        document: the checkpoint, as it is before the part.
        table: what `table_columns` returned when the run began.
        refuse: takes the records that are not let in.
        wide: knows the objects that are no columns, from the parts of the run before.
        judged: whether the part will be tried before it is sealed (see `etl.judging`), and described by that.
        most_records: how many records the part may take; None: as many as the job says.

    Attributes:
        gate: knows which records do not fit; None: that is told when they are loaded.
        tried: the part as it was tried; None: it was not.
    """

    def __init__(
        self,
        job: Settings,
        document: Checkpoint,
        table: Columns | None,
        refuse: Refuse,
        wide: WideObjects,
        *,
        judged: bool = False,
        most_records: int | None = None,
    ) -> None:
        self._job = job
        most = [count for count in (job.part_records, most_records) if count is not None]
        self._most_records = min(most, default=None)
        self._refuse = refuse
        own = self._own = _gate(job, document)
        self.gate = drift.gate_of(
            job.drift, own, table=table, pinned=document.columns, needed=_merged_by(job.warehouse)
        )
        self._nesting = nesting_of(job, wide)
        if isinstance(job.format, formats.LimitsRecords):
            job.format.limits = limits_of(job, wide)
        self._wide = wide
        self._known = known_types(job.source, job.transforms)
        if job.schema:
            self._known = partial(types_of, job.schema)
        if own is not None and isinstance(own, TakesFieldTypes):
            own.expect_types(self._known)
        if (own is None or job.schema) and isinstance(job.format, formats.TakesTypes):
            job.format.assume(self._known, wide.fields)
        if job.warehouse is None and isinstance(job.format, formats.KeepsSchema):
            job.format.keep(document.parts_schema)
        suspicion = formats.Suspicion()
        if isinstance(job.format, formats.TakesSuspicion):
            job.format.suspicion = suspicion
        described = job.warehouse is not None and own is None and not judged
        self._shapes = Shapes(wide, suspicion, self._is_too_wide) if described else None
        format_: object = job.format
        self._gathered = judged or (isinstance(format_, formats.Gathers) and format_.gathers)
        self.tried: Part | None = None

    @property
    def fields(self) -> Fields | None:
        """The kinds of the values that were let in, for a warehouse that has no gate."""
        if self.tried is not None:
            return self.tried.fields
        return self._shapes.fields() if self._shapes else None

    @property
    def types(self) -> FieldTypes | None:
        """The types that the source gives the values that were let in, for a warehouse that has no gate."""
        if self.tried is not None:
            return self.tried.types
        return (self._shapes.types(self._known()) or None) if self._shapes else None

    @property
    def columns(self) -> Columns | None:
        """The columns that the table needs for what was let in; None: the warehouse looks for itself."""
        return self.gate.columns if self.gate else None

    @property
    def ignored(self) -> int:
        """How many fields were left out because the table has no column for them."""
        return self.gate.ignored if isinstance(self.gate, drift.DriftGate) else 0

    @property
    def partitions(self) -> Touched | None:
        """The table's partitions that the records belong to that were let in; None: it has none, or nobody knows."""
        return self._own.partitions if isinstance(self._own, SeesPartitions) else None

    def of(self, records: Iterator[Record], limited: Callable[[str], None]) -> Iterator[Record]:
        """Return the records that are let in.

        Args:
            records: what the transforms made.
            limited: called with the last record that the part may take, and why it is the last.
        """
        if isinstance(self.gate, drift.DriftGate):
            self.gate.ignored = 0  # the part may have been begun before
        if self._most_records is not None:
            records = _counted(records, self._most_records, lambda: limited("records"))
        if self._gathered:
            records = self._settled(records)
        warehouse: object = self._job.warehouse
        if isinstance(warehouse, MergesByKey) and warehouse.key:
            records = self._with_key(records, warehouse.key)
        if self.gate is not None:
            records = self._through(self.gate, records)
        own: object = self._own
        if isinstance(own, SeesPartitions):
            records = _until_full(records, own, lambda: limited("partitions"))
        if self._shapes is not None:
            records = self._shapes.note(records)
            records = self._as_text(records) if self._job.format.name == "parquet" else records
        return records

    def _is_too_wide(self, record: Record) -> bool:
        """Refuse a record that has too many fields; say whether it has."""
        if self._nesting is None or (reason := self._nesting.too_wide(record)) is None:
            return False
        self._refuse(record, f"cannot be encoded: {reason}", "format")
        return True

    def _settled(self, records: Iterator[Record]) -> Iterator[Record]:
        """Return snapshots of records; refuse those that are nested too deep, or of which none can be taken."""
        nesting = self._nesting
        for record in records:
            try:
                reason = nesting.too_wide(record) if nesting else None
                if nesting and reason is None and not is_flat(record):
                    reason = nesting.too_deep(record)
                settled = snapshot(record) if reason is None else record
            except Exception as error:  # of a value, which may be of a class of the user's: any
                self._refuse(record, f"cannot be encoded: {formats.unencodable(error)}", "format")
                continue
            if reason is not None:
                self._refuse(record, f"cannot be encoded: {reason}", "format")
                continue
            yield settled

    def _as_text(self, records: Iterator[Record]) -> Iterator[Record]:
        """Make text of the objects that are no columns, which Parquet has no other form for.

        Raises:
            SchemaWidened: one was found after the part was begun without it.
        """
        wide = self._wide.fields
        known = set(wide)
        for record in records:
            if len(wide) > len(known):
                raise formats.SchemaWidened
            if wide and not wide.isdisjoint(record):
                try:
                    record = as_text(record, wide)
                except Exception as error:  # of a value, which may be of a class of the user's: any
                    self._refuse(record, f"cannot be encoded: {formats.unencodable(error)}", "format")
                    continue
            yield record

    def _with_key(self, records: Iterator[Record], key: Sequence[str]) -> Iterator[Record]:
        """Refuse records that cannot be merged."""
        for record in records:
            if (reason := lacks_key(record, key)) is not None:
                self._refuse(record, reason, "warehouse")
            else:
                yield record

    def _through(self, gate: Gate, records: Iterator[Record]) -> Iterator[Record]:
        admit = gate.admit
        for record in records:
            try:
                admitted = admit(record)
            except Misfit as misfit:
                self._refuse(record, f"does not fit the table: {misfit}", "warehouse")
            except (EtlError, formats.SchemaWidened):
                raise
            except Exception as error:  # of a value, which may be of a class of the user's: any
                self._refuse(record, f"cannot be encoded: {formats.unencodable(error)}", "format")
            else:
                yield admitted


def as_text(record: Record, names: Collection[str]) -> Record:
    """Return a record with text, which is JSON, in place of the values of some fields.

    Raises:
        Exception: one cannot be encoded; see `formats.as_json`.
    """
    return {name: formats.as_json(value) if name in names else value for name, value in record.items()}


def nesting_of(job: Settings, wide: WideObjects) -> Nesting | None:
    """Return what looks for records that are nested too deep for the warehouse, or for readers of the format."""
    warehouse: object = job.warehouse
    if isinstance(warehouse, LimitsNesting):
        return Nesting(warehouse.most_nested(job.format.name), wide.fields)
    format_: object = job.format
    return Nesting(GATHERED) if isinstance(format_, formats.Gathers) and format_.gathers else None


def limits_of(job: Settings, wide: WideObjects) -> formats.Limits:
    """Return what the warehouse takes of a record."""
    warehouse: object = job.warehouse
    sizes = warehouse if isinstance(warehouse, LimitsSizes) else None
    return formats.Limits(sizes.most_row_bytes(job.format.name) if sizes else None, nesting_of(job, wide))


def lacks_key(record: Record, key: Sequence[str]) -> str | None:
    """Say why a record cannot be merged by `key`: null is equal to nothing, so it would be added again each time.

    NaN is equal to itself in one warehouse, and to nothing in another one.
    """
    values = ((name, record.get(name)) for name in key)
    missing = [
        name
        for name, v in values
        if v is None or isinstance(v, (dict, list)) or (isinstance(v, float) and isnan(v))
    ]
    if not missing:
        return None
    return f"the key of the table is {', '.join(key)}, and {', '.join(missing)} is missing, null, or no single value"


def table_columns(job: Settings, document: Checkpoint) -> Columns | None:
    """Return the columns that a table has, where the job asks for them; call it before anything is loaded."""
    warehouse: object = job.warehouse
    if (
        job.drift == "evolve"
        or isinstance(warehouse, ChecksRecords)
        or not isinstance(warehouse, KnowsColumns)
    ):
        return None
    return warehouse.columns(Job.of(document, job.fingerprint))


def json_columns(job: Settings, document: Checkpoint) -> set[str]:
    """Return the fields that the table takes as JSON, whose values nobody looks into.

    They have such a column, or a cast makes JSON of them, and they have none yet.
    """
    warehouse: object = job.warehouse
    if isinstance(warehouse, ChecksRecords) or not isinstance(warehouse, KnowsColumns):
        return set()
    columns = warehouse.columns(Job.of(document, job.fingerprint)) or ()
    there = {column.name for column in columns}
    known = known_types(job.source, job.transforms)()
    cast = {name for name, type_ in known.items() if type_.name == "json" and name not in there}
    return cast | {column.name for column in columns if column.type == "JSON" and column.mode != "REPEATED"}


def known_types(source: object, transforms: Sequence[object]) -> Callable[[], FieldTypes]:
    """Return what tells the types of fields behind the transforms, as the source and the transforms know them."""
    led = _led(source.field_types, transforms) if isinstance(source, DescribesFields) else no_types
    made = _made(transforms)
    return (lambda: {**led(), **made}) if made else led


def _led(types: Callable[[], FieldTypes], transforms: Sequence[object]) -> Callable[[], FieldTypes]:
    """Return the types of fields by the names that they have after the transforms; those that are cast have others."""
    named = led_back(
        lambda name: Declared(type=name), transforms
    )  # the name stands for what is declared of it

    def led() -> FieldTypes:
        found = ((named(name), type_) for name, type_ in types().items())
        return {last.type: type_ for last, type_ in found if last is not None and not last.cast}

    return led


def _made(transforms: Sequence[object]) -> FieldTypes:
    """Return the types that transforms make of fields, where a warehouse is not to guess them."""
    makers = (transform for transform in transforms if isinstance(transform, MakesTypes))
    return {name: FieldType(name=type_) for maker in makers for name, type_ in maker.makes.items()}


def _merged_by(warehouse: object) -> tuple[str, ...]:
    """Return the fields that say which rows are one, and which of two is the younger one."""
    if not isinstance(warehouse, MergesByKey):
        return ()
    return warehouse.key if warehouse.updated_at is None else (*warehouse.key, warehouse.updated_at)


def _counted(records: Iterator[Record], limit: int, limited: Callable[[], None]) -> Iterator[Record]:
    for count, record in enumerate(records, 1):
        if count == limit:
            limited()
        yield record


def _until_full(
    records: Iterator[Record], gate: SeesPartitions, limited: Callable[[], None]
) -> Iterator[Record]:
    for record in records:
        if gate.full:
            limited()
        yield record


def _gate(job: Settings, document: Checkpoint) -> Gate | None:
    """Make the gate of a part, where the warehouse knows which records it would refuse."""
    warehouse: object = job.warehouse
    gate: Gate
    if job.schema:
        gate = DeclaredGate(job.schema)
    elif isinstance(warehouse, ChecksRecords):
        gate = warehouse.gate(Job.of(document, job.fingerprint), job.format.name)
    else:
        return None
    if isinstance(job.format, formats.TakesSchema):
        job.format.expect(gate.arrow_schema())
    return gate
