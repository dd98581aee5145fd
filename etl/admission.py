"""What stands between the transforms and the encoder: which records a part takes, and what is noted of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import isnan

from etl import drift, formats
from etl.checkpoint import Checkpoint
from etl.columns import Columns
from etl.job import Settings
from etl.records import Record
from etl.shapes import Fields, Shapes
from etl.warehouses.base import ChecksRecords, Gate, Job, KnowsColumns, MergesByKey, Misfit

# Takes a record, the reason why it is refused, and who refused it; raises, or keeps a dead letter.
Refuse = Callable[[Record, str, str], None]


class Admission:
    """Lets records into one part.

    Args:
        job: the job.
        document: the checkpoint, as it is before the part.
        table: what `table_columns` returned when the run began.
        refuse: takes the records that are not let in.

    Attributes:
        gate: knows which records do not fit; None: that is told when they are loaded.
    """

    def __init__(self, job: Settings, document: Checkpoint, table: Columns | None, refuse: Refuse) -> None:
        self._job = job
        self._refuse = refuse
        own = _gate(job, document)
        self.gate = drift.gate_of(
            job.drift, own, table=table, pinned=document.columns, needed=_merged_by(job.warehouse)
        )
        self._shapes = Shapes() if job.warehouse is not None and own is None else None

    @property
    def fields(self) -> Fields | None:
        """The kinds of the values that were let in, for a warehouse that has no gate."""
        return self._shapes.fields() if self._shapes else None

    @property
    def columns(self) -> Columns | None:
        """The columns that the table needs for what was let in; None: the warehouse looks for itself."""
        return self.gate.columns if self.gate else None

    @property
    def ignored(self) -> int:
        """How many fields were left out because the table has no column for them."""
        return self.gate.ignored if isinstance(self.gate, drift.DriftGate) else 0

    def of(self, records: Iterator[Record], limited: Callable[[], None]) -> Iterator[Record]:
        """Return the records that are let in.

        Args:
            records: what the transforms made.
            limited: called with the last record that the part may take.
        """
        if isinstance(self.gate, drift.DriftGate):
            self.gate.ignored = 0  # the part may have been begun before
        if self._job.part_records is not None:
            records = _counted(records, self._job.part_records, limited)
        warehouse: object = self._job.warehouse
        if isinstance(warehouse, MergesByKey) and warehouse.key:
            records = self._with_key(records, warehouse.key)
        if self.gate is not None:
            records = self._through(self.gate, records)
        return records if self._shapes is None else self._shapes.note(records)

    def _with_key(self, records: Iterator[Record], key: Sequence[str]) -> Iterator[Record]:
        """Refuse records that cannot be merged: null is equal to nothing, so they would be added again each time.

        NaN is equal to itself in one warehouse, and to nothing in another one.
        """
        for record in records:
            values = ((name, record.get(name)) for name in key)
            missing = [
                name
                for name, v in values
                if v is None or isinstance(v, (dict, list)) or (isinstance(v, float) and isnan(v))
            ]
            if missing:
                what = (
                    f"the key of the table is {', '.join(key)}, and {', '.join(missing)} is missing, null, or no "
                    "single value"
                )
                self._refuse(record, what, "warehouse")
            else:
                yield record

    def _through(self, gate: Gate, records: Iterator[Record]) -> Iterator[Record]:
        admit = gate.admit
        for record in records:
            try:
                admitted = admit(record)
            except Misfit as misfit:
                self._refuse(record, f"does not fit the table: {misfit}", "warehouse")
            else:
                yield admitted


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


def _gate(job: Settings, document: Checkpoint) -> Gate | None:
    """Make the gate of a part, where the warehouse knows which records it would refuse."""
    warehouse: object = job.warehouse
    if not isinstance(warehouse, ChecksRecords):
        return None
    gate = warehouse.gate(Job.of(document, job.fingerprint), job.format.name)
    if isinstance(job.format, formats.TakesSchema):
        job.format.expect(gate.arrow_schema())
    return gate
