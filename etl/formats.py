"""Formats: how records become the bytes of a part.

What JSON cannot hold has one rule each, the same in NDJSON and NDJSON gzip:

=====================================  =================================================================
NaN, Infinity                          null (RFC 8259, section 6, has no such numbers)
integers past 64 bits                  a string of decimal digits; up to 2**64 - 1 they stay numbers
bytes, bytearray, memoryview           a string: base64 (RFC 4648, section 4)
decimal.Decimal                        a string, exact: "12.50"
datetime, date, time                   a string: RFC 3339; a naive datetime gets no offset
uuid.UUID                              a string
enum.Enum                              its value
tuples, dataclasses                    an array, an object
keys that are no strings, sets, others refused: the record cannot be encoded
=====================================  =================================================================

Parquet keeps NaN, bytes, Decimal, date and time types as they are; integers past 64 bits and UUIDs become
strings, an empty object becomes null.
"""

from __future__ import annotations

import base64
import importlib
import uuid
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import orjson

from etl.errors import ConfigError
from etl.records import Record, describe

if TYPE_CHECKING:
    import pyarrow

# Handed on in batches: a write a record costs three times as much, larger ones gain nothing.
BATCH_BYTES = 256 * 1024

# BigQuery and DuckDB read Parquet by row groups in parallel; below 16 MiB they are too small to pay.
ROW_GROUP_BYTES = 16 * 1024 * 1024

Write = Callable[[bytes | bytearray | memoryview], None]
Refuse = Callable[[Record, str], None]


class Format(Protocol):
    """How records become the bytes of a part. One is made for a run; parts are encoded one after the other.

    Attributes:
        name: what a job file calls it.
    """

    name: str

    def encode(
        self, records: Iterator[Record], write: Write, refuse: Refuse, batch_bytes: int
    ) -> Generator[int, None, None]:
        """Encode `records` as one whole part; yield the count of records so far after each batch.

        Args:
            records: what comes out of the transforms; what it raises passes through.
            write: takes the bytes; they may be changed after it returns.
            refuse: takes a record that cannot be encoded, and why; it may raise.
            batch_bytes: hand on what is encoded when there is this much of it.

        Raises:
            SchemaWidened: the part must be begun again.
        """


@runtime_checkable
class TakesSchema(Protocol):
    """A format with types of its own, which can begin a part with columns that are known already."""

    def expect(self, schema: pyarrow.Schema) -> None:
        """Begin the next part with these columns, whatever its records hold of them; more may come.

        Columns of earlier parts are forgotten, unless the part before was given up by `SchemaWidened`.

        Args:
            schema: the columns. Values must fit those that are not nullable, and need no wider types.
        """


class SchemaWidened(Exception):
    """A record does not fit the schema that the part was begun with; the format has the wider one now.

    The part is aborted and encoded again from the position before it.
    """


class Ndjson:
    """One JSON object a line (orjson), in UTF-8."""

    name = "ndjson"

    def encode(
        self, records: Iterator[Record], write: Write, refuse: Refuse, batch_bytes: int
    ) -> Generator[int, None, None]:
        """Encode one part; see `Format`."""
        dumps, options = orjson.dumps, orjson.OPT_APPEND_NEWLINE
        # One buffer: a list of orjson's results would keep the start buffer of each, some 4 KB.
        batch = bytearray()
        count = 0
        for record in records:
            try:
                batch += dumps(record, portable, options)
            except TypeError:
                try:
                    batch += dumps(portable_numbers(record), portable, options)
                except TypeError as error:
                    refuse(record, describe(error))
                    continue
            count += 1
            if len(batch) >= batch_bytes:
                write(batch)
                batch.clear()
                yield count
        if batch:
            write(batch)
        yield count


class NdjsonGzip:
    """NDJSON in one gzip member a part (RFC 1952); level 1 of isal where it is installed, else of zlib."""

    name = "ndjson.gz"

    def encode(
        self, records: Iterator[Record], write: Write, refuse: Refuse, batch_bytes: int
    ) -> Generator[int, None, None]:
        """Encode one part; see `Format`."""
        compressor = _gzip_compressor()

        def compress(data: bytes | bytearray | memoryview) -> None:
            if compressed := compressor.compress(data):
                write(compressed)

        # A batch of text, so that batches of compressed bytes come often enough for small parts.
        yield from Ndjson().encode(records, compress, refuse, batch_bytes)
        write(compressor.flush())


class Parquet:
    """Parquet (pyarrow, zstd), one file a part.

    The schema is inferred from the records and only ever widens: when a later record needs a wider one (a
    new column, a float among integers) after a row group is written, the part is begun again with it. A schema that
    is expected is where it begins.
    """

    name = "parquet"

    def __init__(self) -> None:
        self._schema: pyarrow.Schema | None = None
        self._expected: pyarrow.Schema | None = None
        self._begun_again = False
        self._rows = 100  # then as many as fit the batch: the size of a record is known after the first

    def expect(self, schema: pyarrow.Schema) -> None:
        """Begin the next part with these columns; see `TakesSchema`."""
        wider = self._schema if self._begun_again else None
        self._begun_again = False
        self._expected = self._schema = schema
        if wider is not None:
            self._widen(wider)

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
        held = count = 0

        def flush() -> None:
            nonlocal writer, held
            schema = self._schema
            assert schema is not None
            if writer is None:
                writer = arrow.parquet.ParquetWriter(output, schema, compression="zstd")
            elif not writer.schema.equals(schema):
                self._begun_again = True
                raise SchemaWidened
            batches = [_fitted(array, schema) for array in group]
            table = arrow.Table.from_batches(batches, schema)
            writer.write_table(table, row_group_size=max(1, table.num_rows))
            group.clear()
            held = 0

        try:
            for chunk in self._chunks(records):
                array = self._array(chunk, refuse)
                if not len(array):
                    continue
                group.append(array)
                count += len(array)
                held += array.nbytes
                self._rows = min(10_000, max(1, batch_bytes * len(array) // max(1, array.nbytes)))
                if held >= group_bytes:
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

        for rows in (records, [parquet_ready(record) for record in records]):
            try:
                array = arrow.array(rows)
                self._widen(array.type)
            except (arrow.ArrowException, TypeError, ValueError, OverflowError):
                continue
            return array
        # One record at a time finds the ones that are at fault.
        fitting = []
        for record in records:
            ready = parquet_ready(record)
            try:
                self._widen(arrow.array([ready]).type)
            except (arrow.ArrowException, TypeError, ValueError, OverflowError) as error:
                refuse(record, describe(error))
            else:
                fitting.append(ready)
        if not fitting:
            return arrow.array([], arrow.struct([]))
        return arrow.array(fitting, arrow.struct(list(self._schema or [])))

    def _widen(self, found: Iterable[pyarrow.Field]) -> None:
        """Widen the schema so that it holds these fields, too."""
        schema = _unified(self._schema, found)
        self._schema = schema if self._expected is None else _with_required(schema, self._expected)


FORMATS: dict[str, Callable[[], Format]] = {
    "ndjson": Ndjson,
    "ndjson.gz": NdjsonGzip,
    "parquet": Parquet,
}

SUFFIXES = {
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
    ".ndjson.gz": "ndjson.gz",
    ".jsonl.gz": "ndjson.gz",
    ".json.gz": "ndjson.gz",
    ".parquet": "parquet",
}


def name_for(path: str) -> str:
    """Return the name of the format that the suffix of `path` stands for; NDJSON where there is none.

    Raises:
        ConfigError: the suffix stands for no format.
    """
    name = PurePath(path).name
    fitting = [suffix for suffix in SUFFIXES if name.lower().endswith(suffix)]
    if fitting:
        return SUFFIXES[max(fitting, key=len)]
    if "." in name.lstrip("."):
        raise ConfigError(
            f"format: missing, and the suffix of {name!r} stands for none; give one of {', '.join(FORMATS)}, or a "
            f"path that ends in one of {', '.join(SUFFIXES)}"
        )
    return "ndjson"


def make(name: str) -> Format:
    """Make the format called `name`.

    Raises:
        ConfigError: there is none, or what it needs is not installed.
    """
    if name not in FORMATS:
        raise ConfigError(f"format: expected one of {', '.join(FORMATS)}, found {name!r}")
    if name == "parquet":
        try:
            importlib.import_module("pyarrow")
        except ImportError as error:
            raise ConfigError("format: parquet needs pyarrow: pip install 'etl-sinks[parquet]'") from error
    return FORMATS[name]()


def portable(value: Any) -> Any:
    """Turn what orjson does not know into what JSON has; the rules are in this module's docstring.

    Raises:
        TypeError: there is no rule for it.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Decimal):
        return str(value) if value.is_finite() else None
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(
        f"{type(value).__name__} has no form in JSON: turn it into a string, number, list or dict"
    )


def portable_numbers(value: Any) -> Any:
    """Return `value` with integers past 64 bits as strings, at any depth: orjson refuses them unasked."""
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value)
    if isinstance(value, Mapping):
        return {key: portable_numbers(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [portable_numbers(item) for item in value]
    return value


def parquet_ready(value: Any) -> Any:
    """Return `value` as Arrow can take it: long integers and UUIDs as strings, empty objects as null.

    Raises:
        TypeError: a key is no string.
    """
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)
    if isinstance(value, uuid.UUID):
        return str(value)
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
    return found if schema is None else arrow.unify_schemas([schema, found], promote_options="permissive")


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


def _fitted(array: pyarrow.StructArray, schema: pyarrow.Schema) -> pyarrow.RecordBatch:
    """Return the columns of `array` in the order and the types of `schema`, absent ones as nulls."""
    import pyarrow as arrow

    present = {field.name for field in array.type}
    columns = [
        array.field(field.name).cast(field.type)
        if field.name in present
        else arrow.nulls(len(array), field.type)
        for field in schema
    ]
    return arrow.RecordBatch.from_arrays(columns, schema=schema)


def _gzip_compressor() -> Any:
    gzip_container = 16 + 15  # zlib.h, deflateInit2: 16 added to the window bits writes a gzip wrapper
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.compressobj(level=1, wbits=gzip_container)
    return isal_zlib.compressobj(level=1, wbits=gzip_container)
