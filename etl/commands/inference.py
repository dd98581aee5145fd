"""Which columns the first records of a job need: found out by what decides in a run, so that the two never disagree.

A warehouse with a gate is asked by its gate. A DuckDB file is asked by a load into an empty one. Without a warehouse
the columns are learned as JSON has them, but for those that parts in Parquet declare.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from etl import drift
from etl.admission import known_types, lacks_key
from etl.columns import Columns
from etl.declared_gate import DeclaredGate
from etl.errors import EtlError
from etl.field_types import FieldTypes
from etl.formats import SchemaWidened
from etl.schemas.learning import Learner
from etl.schemas.proposals import Path as Names
from etl.schemas.proposals import Proposals
from etl.warehouses.base import ChecksRecords, Gate, Job, KnowsColumns, MergesByKey, Misfit, TakesFieldTypes

if TYPE_CHECKING:
    from etl.config import Job as Definition
    from etl.pipeline import Pipeline
    from etl.records import Record


class Inferred(NamedTuple):
    """What the first records say of the table.

    Attributes:
        columns: those that a load would give the table, the declared ones among them.
        proposed: types that some columns of text could be declared as.
        warnings: which records would not fit an empty table, and why.
        refused: which records would not be taken, whatever the table holds, and why.
    """

    columns: Columns
    proposed: dict[Names, str]
    warnings: list[str]
    refused: list[str] = []  # noqa: RUF012 - a NamedTuple's default, which nobody changes


def infer(definition: Definition, pipeline: Pipeline, records: list[Record]) -> Inferred:
    """Find out which columns records need.

    Args:
        definition: the job file.
        pipeline: the job; its warehouse is not opened, so that what a table has already is not known.
        records: as the transforms made them.
    """
    warehouse: object = pipeline.warehouse
    refused: list[str] = []
    if isinstance(warehouse, MergesByKey):
        records, refused = _with_key(records, warehouse.key)
    if pipeline.schema:
        found, refused = _by_schema(pipeline.schema, records)
    elif isinstance(warehouse, ChecksRecords):
        found = _by_gate(warehouse.gate(_job(pipeline), pipeline.format), pipeline, records)
    elif definition.warehouse is not None and definition.warehouse.get("type") == "duckdb":
        found = _by_trial(definition.warehouse, pipeline, records)
    else:
        found = _learned(records)
    return found._replace(refused=refused)


def _with_key(records: list[Record], key: Sequence[str]) -> tuple[list[Record], list[str]]:
    """Return the records that can be merged, and why the others cannot."""
    judged = [(record, lacks_key(record, key)) for record in records]
    refused = [f"record {number}: {reason}" for number, (_, reason) in enumerate(judged, 1) if reason]
    return [record for record, reason in judged if not reason], refused


def _by_schema(schema: Columns, records: list[Record]) -> tuple[Inferred, list[str]]:
    """Return the declared columns of parts that stay, and why records do not fit them."""
    gate, refused = DeclaredGate(schema), []
    for number, record in enumerate(records, 1):
        try:
            gate.admit(record)
        except Misfit as misfit:
            refused.append(f"record {number}: {misfit}")
    return Inferred(schema, {}, []), refused


def _job(pipeline: Pipeline) -> Job:
    return Job(pipeline=pipeline.name, fingerprint={})


def _by_gate(own: Gate, pipeline: Pipeline, records: list[Record]) -> Inferred:
    proposals = Proposals(own.columns)
    if isinstance(own, TakesFieldTypes):
        own.expect_types(known_types(pipeline.source, pipeline.transforms))
    gate = drift.gate_of(pipeline.drift, own, table=None, pinned=None) or own
    warnings = []
    for number, record in enumerate(records, 1):
        try:
            try:
                admitted = gate.admit(record)
            except SchemaWidened as widened:
                warnings.append(str(widened))
                admitted = gate.admit(record)
            proposals.note(admitted)
        except Misfit as misfit:
            warnings.append(f"record {number} would not fit the table: {misfit}")
    return Inferred(gate.columns, proposals.of(gate.columns), warnings)


def _by_trial(table: dict[str, Any], pipeline: Pipeline, records: list[Record]) -> Inferred:
    """Load the records into an empty DuckDB file of their own, and look at the table."""
    from etl import memory
    from etl.pipeline import Pipeline as Trial
    from sinks.errors import SinkError

    learned = _learned(records)
    if not records:
        return learned
    try:
        temporary = tempfile.TemporaryDirectory(prefix="etl-check-")
    except OSError as error:
        said = f"these columns were not tried on DuckDB: no temporary directory can be made ({error}); set TMPDIR"
        return learned._replace(warnings=[*learned.warnings, said])
    with temporary as name:
        directory = Path(name)
        suffix = {"parquet": ".parquet", "ndjson.gz": ".ndjson.gz"}.get(pipeline.format, ".ndjson")
        trial = Trial(
            pipeline.name,
            source=_Taken(records, known_types(pipeline.source, pipeline.transforms)),
            sink={"type": "numbered_chunks", "path": str(directory / f"trial{suffix}"), "keep": False},
            warehouse={**table, "path": str(directory / "trial.duckdb")},
            checkpoint=directory / "trial.checkpoint.json",
            format=pipeline.format,
            drift=pipeline.drift,
            memory=pipeline.memory,
        )

        def columns() -> Columns:
            warehouse = trial.warehouse
            assert warehouse is not None
            warehouse.open(memory.budget(pipeline.memory))
            try:
                assert isinstance(warehouse, KnowsColumns)
                return warehouse.columns(_job(trial)) or ()
            finally:
                warehouse.close()

        try:
            declared = columns()
            trial.run(handle_signals=False)
            loaded = columns()
        except (EtlError, SinkError) as error:
            return learned._replace(warnings=[f"these records would not load: {error}".replace(name, "…")])
    # A column that held nothing but null is in the table, and has no type yet.
    return Inferred(_those_of(loaded, drift.union(learned.columns, declared)), {}, [])


class _Taken:
    """A source of records that were taken already, and of what is known of the types of their fields."""

    def __init__(self, records: list[Record], types: Callable[[], FieldTypes]) -> None:
        self._records = records
        self._types = types

    def pull(self, _cursor: Any) -> Iterator[Record]:
        """Yield them; see `etl.records.Source`."""
        return iter(self._records)

    def field_types(self) -> FieldTypes:
        """Return their types; see `etl.records.DescribesFields`."""
        return self._types()


def _those_of(columns: Columns, wanted: Columns) -> Columns:
    fields = {column.name: column.fields for column in wanted}
    return tuple(
        replace(column, fields=_those_of(column.fields, fields[column.name]))
        for column in columns
        if column.name in fields
    )


def _learned(records: list[Record]) -> Inferred:
    learner, proposals = Learner(), Proposals()
    for record in records:
        learner.note(record)
        proposals.note(record)
    columns = learner.columns()
    mixed = [f"field {path} is {' and '.join(kinds)}" for path, kinds in learner.mixed()]
    return Inferred(columns, proposals.of(columns), mixed)
