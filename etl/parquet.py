"""Parquet: the format whose parts have columns with types of their own."""

from __future__ import annotations

import itertools
from array import array as numbers_of
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from typing import TYPE_CHECKING

from etl import arrow_schemas as schemas
from etl.arrow_arrays import array_of
from etl.arrow_fitting import fitted
from etl.arrow_types import typed
from etl.field_types import FieldTypes, no_types
from etl.formats import BATCH_BYTES, Refuse, SchemaWidened, Write
from etl.gathering import Chunk, chunks
from etl.memory import GROUP_MOST, MIB
from etl.records import Record, describe
from etl.row_groups import RowGroups

if TYPE_CHECKING:
    import pyarrow

# Anonymous memory, measured: what importing pyarrow takes, and what writing row groups of 1 MiB takes besides.
LIBRARY_BYTES = 12 * MIB
ENCODER_BYTES = 20 * MIB

# How many of the batches that records are gathered to are a row group: as dicts they take some ten times as much.
BATCHES = 16

# How many records without a field wait for one that has some: a file of Parquet that has no columns has no rows.
MOST_BARE = 10_000
NO_FIELDS = (
    "it has no fields, nor has any other record of its part so far, and Parquet keeps no rows without columns: write "
    "ndjson, or leave such records out in a transform"
)


class Parquet:
    """Parquet (pyarrow, zstd), one file a part.

    The schema is inferred from the records and only ever widens: when a later record needs a wider one (a
    new column, a float among integers) after a row group is written, the part is begun again with it. A schema that
    is expected is where it begins. Records are gathered until they are a batch, and batches until they are a row
    group: give it such as stay as they are (`Gathers`).
    """

    name = "parquet"
    gathers = True

    def __init__(self) -> None:
        self.group_bytes = GROUP_MOST
        self.number: Callable[[], int] = itertools.count(1).__next__
        self.untold: Collection[str] = ()
        self.widened: Collection[str] = ()
        self._schema: pyarrow.Schema | None = None
        self._expected: pyarrow.Schema | None = None
        self._begun_again = False
        self._kept: pyarrow.Schema | None = None
        self._keeps = False
        self._first: Record | None = None
        self._types: Callable[[], FieldTypes] = no_types
        self._held: tuple[pyarrow.DataType, FieldTypes] | None = None  # what the schema is known to hold
        self._row_bytes = 0
        self.plain_bytes = 0

    def expect(self, schema: pyarrow.Schema) -> None:
        """Begin the next part with these columns; see `TakesSchema`."""
        wider = self._schema if self._begun_again else None
        self._begun_again = False
        self._expected = schema
        self._set(schema)
        if wider is not None:
            self._widen(wider)

    def assume(self, types: Callable[[], FieldTypes], text: Collection[str]) -> None:
        """Write fields with the types that the source gives them; see `etl.formats.TakesTypes`."""
        self._types = types
        if self._schema is not None:
            self._set(schemas.with_text(self._schema, text))

    def least_memory(self) -> dict[str, int]:
        """Return what it needs; see `sinks.NeedsMemory`."""
        return {"pyarrow": LIBRARY_BYTES, "row groups of Parquet": ENCODER_BYTES}

    def keep(self, schema: bytes | None) -> None:
        """Write all parts with one schema; see `etl.formats.KeepsSchema`."""
        import pyarrow as arrow

        self._keeps = True
        if schema is not None:
            self._kept = arrow.ipc.read_schema(arrow.py_buffer(schema))
            self._set(self._kept)

    def kept(self) -> bytes:
        """Return the schema of the last part, in Arrow's IPC form ("Encapsulated message format")."""
        assert self._schema is not None
        data: bytes = schemas.valued(schemas.written(self._schema)).serialize().to_pybytes()
        return data

    def encode(
        self, records: Iterator[Record], write: Write, refuse: Refuse, batch_bytes: int
    ) -> Generator[int, None, None]:
        """Encode one part; see `Format`."""
        groups = RowGroups(write, refuse, self.group_bytes)
        self.plain_bytes = 0
        # Small batches are for small parts. Larger ones pay for wide records: each column costs something a batch.
        most = batch_bytes if batch_bytes < BATCH_BYTES else max(batch_bytes, self.group_bytes // BATCHES)
        bare: list[tuple[Record, int]] = []  # the records that wait, while none has a field

        def flush() -> None:
            if self._schema:
                groups.flush(self._written())
                return
            groups.drop()
            for record, number in bare:
                refuse(record, NO_FIELDS, number)
            bare.clear()

        try:
            for chunk in chunks(records, self.number, refuse, most):
                if groups.rows and self._waiting(groups) + chunk.weight > self.group_bytes and self._schema:
                    flush()
                for array, numbers in self._one_array(chunk, refuse):
                    groups.add(array, numbers)
                if self._schema:
                    bare.clear()
                else:
                    pairs = zip(chunk.records, chunk.numbers, strict=True)
                    bare.extend((record, number) for record, number in pairs if not record)
                self.plain_bytes += chunk.weight
                del chunk  # it would be held beside the next one
                if self._waiting(groups) >= self.group_bytes or len(bare) >= MOST_BARE:
                    flush()
                yield groups.rows
            if groups.rows:
                flush()
        except BaseException as error:
            self._begun_again = isinstance(error, SchemaWidened)
            groups.discard()
            raise
        finally:
            groups.close()
        yield groups.rows

    def _waiting(self, groups: RowGroups) -> int:
        return groups.bytes_waiting(self._row_bytes)

    def _written(self) -> pyarrow.Schema:
        """Return the schema as the file has it; with the first part of all, tell what it was made of."""
        assert self._schema is not None
        schema = schemas.written(self._schema)
        if self._keeps and self._kept is None:
            self.untold = [field.name for field in schema if schemas.holds_null(field.type)]
            self.widened = [field.name for field in schema if schemas.is_wider(field, self._first or {})]
            schema = schemas.valued(schema)
        return schema

    def _one_array(self, chunk: Chunk, refuse: Refuse) -> list[tuple[pyarrow.StructArray, numbers_of[int]]]:
        """Make an array of the records that fit; none where no record does."""
        if self._first is None:
            self._first = chunk.records[0]
        arrays = self._arrays(chunk, refuse)
        if len(arrays) < 2:
            return arrays
        # One that came before the schema was widened may no longer fit it: a large integer, then floats.
        import pyarrow as arrow

        assert self._schema is not None
        schema = self._schema
        batches = [fitted(array, numbers, schema, refuse) for array, numbers in arrays]
        joined = arrow.concat_batches(batches).to_struct_array()
        return [(joined, numbers_of("q", itertools.chain.from_iterable(numbers for _, numbers in arrays)))]

    def _arrays(self, chunk: Chunk, refuse: Refuse) -> list[tuple[pyarrow.StructArray, numbers_of[int]]]:
        """Make arrays of the records that fit, and widen the schema; by halves down to those that do not."""
        try:
            array = array_of(chunk.records, self._types())
            self._widen(array.type)
        except MemoryError:
            raise
        except Exception as error:
            if len(chunk.records) == 1:
                refuse(chunk.records[0], describe(error), chunk.numbers[0])
                return []
        else:
            return [(array, chunk.numbers)]
        return [found for half in chunk.halves() for found in self._arrays(half, refuse)]

    def _widen(self, found: Iterable[pyarrow.Field]) -> None:
        """Widen the schema so that it holds these fields, too.

        Raises:
            TypeError: no schema can, or readers would not read it.
            pyarrow.ArrowException: the same.
        """
        types = self._types()
        known = (found, types)
        if self._held == known:
            return
        if types:
            found = [typed(field, types[field.name]) if field.name in types else field for field in found]
        schema = schemas.unified(self._schema, found)
        if self._expected is None:
            schemas.check_readable(schema, types)
        if self._kept is not None:
            schemas.check_kept(schema, self._kept)
        else:
            self._set(schema if self._expected is None else schemas.with_required(schema, self._expected))
        self._held = known

    def _set(self, schema: pyarrow.Schema) -> None:
        self._schema = schema
        self._row_bytes = schemas.row_bytes(schema)
        self._held = None
