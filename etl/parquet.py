"""Parquet: the format whose parts have columns with types of their own."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from etl.arrow_kinds import are_one_kind, are_several_kinds, has_empty_name, widest_decimal
from etl.arrow_types import arrow_type, is_exact_time, typed, with_times
from etl.field_types import FieldTypes, interval, is_of, no_types
from etl.formats import BATCH_BYTES, Refuse, SchemaWidened, Write, in_minutes, number_word
from etl.records import Record, describe

if TYPE_CHECKING:
    import pyarrow

# More than that are decimals of 256 bits, of which DuckDB makes floats.
MOST_DIGITS = 38

# BigQuery and DuckDB read Parquet by row groups in parallel; below 16 MiB they are too small to pay.
ROW_GROUP_BYTES = 16 * 1024 * 1024

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
    is expected is where it begins. Records are gathered by thousands: give it such as stay as they are (`Gathers`).
    """

    name = "parquet"
    gathers = True

    def __init__(self) -> None:
        self._schema: pyarrow.Schema | None = None
        self._expected: pyarrow.Schema | None = None
        self._begun_again = False
        self._kept: pyarrow.Schema | None = None
        self._keeps = False
        self.untold: Collection[str] = ()
        self.widened: Collection[str] = ()
        self._first: Record | None = None
        self._types: Callable[[], FieldTypes] = no_types
        self._text: Collection[str] = ()
        self._rows = 100  # then as many as fit the batch: the size of a record is known after the first

    def expect(self, schema: pyarrow.Schema) -> None:
        """Begin the next part with these columns; see `TakesSchema`."""
        wider = self._schema if self._begun_again else None
        self._begun_again = False
        self._expected = self._schema = schema
        if wider is not None:
            self._widen(wider)

    def assume(self, types: Callable[[], FieldTypes], text: Collection[str]) -> None:
        """Write fields with the types that the source gives them; see `etl.formats.TakesTypes`."""
        self._types, self._text = types, text
        if self._schema is not None:
            self._schema = _with_text(self._schema, text)

    def keep(self, schema: bytes | None) -> None:
        """Write all parts with one schema; see `etl.formats.KeepsSchema`."""
        import pyarrow as arrow

        self._keeps = True
        if schema is not None:
            self._kept = self._schema = arrow.ipc.read_schema(arrow.py_buffer(schema))

    def kept(self) -> bytes:
        """Return the schema of the last part, in Arrow's IPC form ("Encapsulated message format")."""
        assert self._schema is not None
        data: bytes = _valued(self._schema).serialize().to_pybytes()
        return data

    def encode(
        self, records: Iterator[Record], write: Write, refuse: Refuse, batch_bytes: int
    ) -> Generator[int, None, None]:
        """Encode one part; see `Format`."""
        import pyarrow as arrow
        import pyarrow.parquet

        group_bytes = min(ROW_GROUP_BYTES, max(batch_bytes, BATCH_BYTES) * 64)
        sink = _Output(write)
        output = arrow.PythonFile(sink, mode="w")
        writer: pyarrow.parquet.ParquetWriter | None = None
        group: list[pyarrow.StructArray] = []
        bare: list[Record] = []  # the records of the group, while none has a field
        held = count = 0

        def flush() -> None:
            nonlocal writer, held, count
            schema = self._schema
            assert schema is not None
            if not schema:
                count -= len(bare)
                group.clear()
                for record in bare:
                    refuse(record, NO_FIELDS)
                bare.clear()
                return
            if self._keeps and self._kept is None:
                self.untold = [field.name for field in schema if _holds_null(field.type)]
                self.widened = [field.name for field in schema if _is_wider(field, self._first or {})]
                schema = _valued(schema)
            if writer is None:
                writer = arrow.parquet.ParquetWriter(output, schema, compression="zstd")
            elif not writer.schema.equals(schema):
                self._begun_again = True
                raise SchemaWidened
            batches = [_fitted(array, schema, refuse) for array in group]
            table = arrow.Table.from_batches(batches, schema)
            count -= sum(map(len, group)) - table.num_rows
            writer.write_table(table, row_group_size=max(1, table.num_rows))
            group.clear()
            held = 0

        try:
            for chunk in self._chunks(records):
                array = self._array(chunk, refuse)
                if not len(array):
                    continue
                group.append(array)
                if self._schema:
                    bare.clear()
                else:
                    bare.extend(record for record in chunk if not record)
                count += len(array)
                held += array.nbytes
                self._rows = min(10_000, max(1, batch_bytes * len(array) // max(1, array.nbytes)))
                if held >= group_bytes or len(bare) >= MOST_BARE:
                    flush()
                yield count
            if group:
                flush()
        except BaseException:
            sink.discard()  # closing writes a footer, also when the writer is dropped
            raise
        finally:
            if writer is not None:
                writer.close()
        yield count

    def _chunks(self, records: Iterator[Record]) -> Iterator[list[Record]]:
        chunk: list[Record] = []
        for record in records:
            chunk.append(record)
            if len(chunk) >= self._rows:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    def _array(self, records: Sequence[Record], refuse: Refuse) -> pyarrow.StructArray:
        """Make an array of the records that fit, and widen the schema to hold it."""
        import pyarrow as arrow

        if self._first is None:
            self._first = records[0]
        for make in (self._inferred, self._by_column):
            try:
                array = make(records)
                self._widen(array.type)
            except (arrow.ArrowException, TypeError, ValueError, OverflowError):
                continue
            return array
        # One record at a time finds the ones that are at fault.
        fitting = []
        for record in records:
            try:
                self._widen(self._by_column([record]).type)
            except (arrow.ArrowException, TypeError, ValueError, OverflowError) as error:
                refuse(record, describe(error))
            else:
                fitting.append(record)
        if not fitting:
            return arrow.array([], arrow.struct([]))
        try:
            array = self._by_column(fitting)
            self._widen(array.type)
        except (arrow.ArrowException, TypeError, ValueError, OverflowError):
            # One that came before the schema was widened no longer fits it: a large integer, then floats.
            type_ = arrow.struct(list(self._schema or []))
            ready = [parquet_ready(record) for record in fitting]
            array = arrow.array([record for record in ready if _fits(record, type_, refuse)], type_)
        return array

    def _inferred(self, records: Sequence[Record]) -> pyarrow.StructArray:
        """Make an array with the types that the values have."""
        import pyarrow as arrow

        array = arrow.array(records)
        names: set[Any] = set().union(*records)
        if bytes in map(type, names):  # the same as text to Arrow
            return self._by_column(records)
        if not all(
            _has_form(field.type) and are_one_kind(field.type, [record.get(field.name) for record in records])
            for field in array.type
        ):
            return self._by_column(records)
        return with_times(array, self._types())

    def _by_column(self, records: Sequence[Record]) -> pyarrow.StructArray:
        """Make an array column by column; what Arrow does not take as it is becomes what it does."""
        import pyarrow as arrow

        columns = {}
        for name in dict.fromkeys(name for record in records for name in record):
            if not isinstance(name, str):
                raise TypeError(f"the name of a field must be text, found {name!r}")
            columns[name] = self._column(name, [record.get(name) for record in records])
        array = arrow.StructArray.from_arrays(list(columns.values()), list(columns))
        return with_times(array, self._types())

    def _column(self, name: str, values: list[Any]) -> pyarrow.Array:
        import pyarrow as arrow

        type_ = self._types().get(name)
        known = arrow_type(type_) if type_ is not None and is_of(type_, map(type, values)) else None
        exact = type_ is not None and is_exact_time(type_)
        for given in (None, None if exact else known):
            try:
                array = arrow.array(values, given)
            except (arrow.ArrowException, TypeError, ValueError, OverflowError):
                continue
            if _has_form(array.type) and are_one_kind(array.type, values):
                return array
        if exact:
            values = [value.isoformat() if isinstance(value, (datetime, time)) else value for value in values]
        ready = [parquet_ready(value) for value in values]
        array = arrow.array(ready)
        if not are_one_kind(array.type, ready):
            raise TypeError(
                f"the values of {name!r} are of several kinds, of which Arrow would make {array.type}: make them one "
                "kind in a transform"
            )
        return array

    def _widen(self, found: Iterable[pyarrow.Field]) -> None:
        """Widen the schema so that it holds these fields, too."""
        types = self._types()
        if types:
            found = [typed(field, types[field.name]) if field.name in types else field for field in found]
        schema = _unified(self._schema, found)
        if self._expected is None:
            _check_readable(schema, types)
        if self._kept is not None:
            _check_kept(schema, self._kept)
            return
        self._schema = schema if self._expected is None else _with_required(schema, self._expected)


def _fits(record: Record, type_: pyarrow.DataType, refuse: Refuse) -> bool:
    """Say whether a record has a type; one that has not is refused."""
    import pyarrow as arrow

    try:
        arrow.array([record], type_)
    except (arrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        refuse(record, describe(error))
        return False
    return True


def parquet_ready(value: Any) -> Any:
    """Return `value` as Arrow can take it: long integers and UUIDs as strings, enums as values, empty objects as null.

    A Decimal that is NaN or an infinity is a float: Parquet's decimals have none (parquet-format, LogicalTypes.md).
    A datetime whose offset has seconds is in UTC.

    Raises:
        TypeError: a key is no string.
    """
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)
    if isinstance(value, Decimal) and not value.is_finite():
        return float(number_word(value))
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, enum.Enum):
        return parquet_ready(value.value)
    if isinstance(value, timedelta):
        return interval(value)
    if isinstance(value, datetime):
        return in_minutes(value)
    if isinstance(value, Mapping):
        return {key: parquet_ready(item) for key, item in value.items()} or None
    if isinstance(value, (list, tuple)):
        return [parquet_ready(item) for item in value]
    return value


class _Output:
    """What pyarrow writes to: a part that is written from its beginning to its end."""

    closed = False

    def __init__(self, write: Write) -> None:
        self._write = write

    def write(self, data: bytes) -> int:
        self._write(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back here."""

    def discard(self) -> None:
        """Drop what is still to come: the part is aborted."""
        self._write = _drop

    def close(self) -> None:
        self.closed = True


def _drop(data: bytes | bytearray | memoryview) -> None:
    """Take what nobody wants any more."""


def _unified(schema: pyarrow.Schema | None, fields: Iterable[pyarrow.Field]) -> pyarrow.Schema:
    import pyarrow as arrow

    found = arrow.schema(list(fields))
    if schema is not None:
        for field in found:
            at = schema.get_field_index(field.name)
            if at >= 0 and are_several_kinds(schema.field(at).type, field.type):
                raise TypeError(f"{field.name!r} was {schema.field(at).type}, and here is {field.type}")
    return found if schema is None else arrow.unify_schemas([schema, found], promote_options="permissive")


def _check_readable(schema: pyarrow.Schema, types: FieldTypes) -> None:
    """See that readers of Parquet find in columns what was written.

    Raises:
        TypeError: they would not; says which column, and what to do.
    """
    if has_empty_name(schema):
        raise TypeError(
            "a field has an empty name, and readers of Parquet give it another one: give it a name in a transform"
        )
    for field in schema:
        digits = widest_decimal(field.type)
        if digits > MOST_DIGITS and field.name not in types:
            raise TypeError(
                f"{field.name!r} would need decimals of {digits} digits, and readers of Parquet make floats of those "
                f"with more than {MOST_DIGITS}: make text of them in a transform, or declare them with fewer digits"
            )


def _check_kept(schema: pyarrow.Schema, kept: pyarrow.Schema) -> None:
    """See that records need no other schema than the parts before them have.

    Raises:
        TypeError: they do; says which column, and what to do.
    """
    for field in schema:
        at = kept.get_field_index(field.name)
        if at >= 0 and kept.field(at).type.equals(field.type):
            continue
        what = (
            f"{field.name!r} would be {field.type}, and is {kept.field(at).type}"
            if at >= 0
            else f"{field.name!r} is not there"
        )
        raise TypeError(
            f"{what} in the parts before, and all parts have one schema: make it fit in a transform, or begin the job "
            "again in another place, with the new form of its records first"
        )


def _holds_null(type_: pyarrow.DataType) -> bool:
    """Say whether nothing is known of the type of some values."""
    import pyarrow as arrow

    return arrow.types.is_null(type_) or any(
        _holds_null(type_.field(number).type) for number in range(type_.num_fields)
    )


def _is_wider(field: pyarrow.Field, first: Record) -> bool:
    """Say whether a column is not as the first record has it: that lacks it, or has an integer where floats are."""
    import pyarrow as arrow

    if field.name not in first:
        return True
    value = first[field.name]
    return type(value) is int and not (
        arrow.types.is_integer(field.type) or arrow.types.is_string(field.type)
    )


def _valued(schema: pyarrow.Schema) -> pyarrow.Schema:
    """Return a schema with text where no value was seen: a later part may have one, and a type of nulls takes none."""
    import pyarrow as arrow

    def valued(field: pyarrow.Field) -> pyarrow.Field:
        type_ = field.type
        if not _holds_null(type_):
            return field
        if arrow.types.is_null(type_):
            return field.with_type(arrow.string())
        if arrow.types.is_struct(type_):
            return field.with_type(arrow.struct([valued(inner) for inner in type_]))
        return field.with_type(arrow.list_(valued(type_.value_field)))

    return arrow.schema([valued(field) for field in schema])


def _with_required(schema: pyarrow.Schema, expected: Iterable[pyarrow.Field]) -> pyarrow.Schema:
    """Return `schema` with the fields that must not be null as in `expected`: those that are inferred may be."""
    import pyarrow as arrow

    return arrow.schema(_required_fields(schema, expected))


def _required_fields(
    fields: Iterable[pyarrow.Field], expected: Iterable[pyarrow.Field]
) -> list[pyarrow.Field]:
    import pyarrow as arrow

    known = {field.name: field for field in expected}
    result = []
    for field in fields:
        there = known.get(field.name)
        if there is not None:
            type_ = field.type
            if arrow.types.is_struct(type_) and arrow.types.is_struct(there.type):
                type_ = arrow.struct(_required_fields(type_, there.type))
            elif arrow.types.is_list(type_) and arrow.types.is_list(there.type):
                (element,) = _required_fields([type_.value_field], [there.type.value_field])
                type_ = arrow.list_(element)
            field = arrow.field(field.name, type_, nullable=there.nullable)
        result.append(field)
    return result


def _fitted(array: pyarrow.StructArray, schema: pyarrow.Schema, refuse: Refuse) -> pyarrow.RecordBatch:
    """Return the columns of `array` in the order and the types of `schema`, absent ones as nulls.

    A record with a value that a wider type does not hold, as a double most integers past 2**53, is refused.
    """
    import pyarrow as arrow

    present = {field.name for field in array.type}
    columns = []
    try:
        for field in schema:
            column = array.field(field.name) if field.name in present else arrow.nulls(len(array))
            columns.append(_cast(column, field.type))
    except (arrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        if len(array) == 1:
            refuse(array.to_pylist()[0], describe(error))
            return arrow.RecordBatch.from_arrays(
                [arrow.nulls(0, field.type) for field in schema], schema=schema
            )
        rows = [_fitted(array.slice(row, 1), schema, refuse) for row in range(len(array))]
        (batch,) = arrow.Table.from_batches(rows, schema).combine_chunks().to_batches() or [rows[0]]
        return batch
    return arrow.RecordBatch.from_arrays(columns, schema=schema)


def _cast(column: pyarrow.Array, type_: pyarrow.DataType) -> pyarrow.Array:
    import pyarrow as arrow

    if _holds_required(type_):
        # A cast fills an absent object with nulls inside, which its fields must not have.
        return arrow.array(column.to_pylist(), type_)
    if column.type.equals(type_):
        return column  # pyarrow 26 damages [{}, {"a": None}] when it casts it to its own type
    try:
        return column.cast(type_)
    except arrow.ArrowInvalid:  # an integer is no decimal(2, 1) to it, whatever its value
        return arrow.array(column.to_pylist(), type_)


def _has_form(type: pyarrow.DataType) -> bool:
    """Say whether a type that Arrow found is written as it is: durations, UUIDs and objects without fields are not."""
    import pyarrow as arrow

    if arrow.types.is_struct(type) and not type.num_fields:
        return False
    if arrow.types.is_duration(type) or isinstance(type, arrow.BaseExtensionType):
        return False
    return all(_has_form(type.field(number).type) for number in range(type.num_fields))


def _with_text(schema: pyarrow.Schema, names: Collection[str]) -> pyarrow.Schema:
    """Return a schema with some columns as text."""
    import pyarrow as arrow

    return arrow.schema(
        [field.with_type(arrow.string()) if field.name in names else field for field in schema]
    )


def _holds_required(type: pyarrow.DataType) -> bool:
    """Say whether a field within a type must not be null."""
    import pyarrow as arrow

    if arrow.types.is_list(type):
        return _holds_required(type.value_type)
    if not arrow.types.is_struct(type):
        return False
    return any(not field.nullable or _holds_required(field.type) for field in type)
