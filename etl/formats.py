"""Formats: how records become the bytes of a part.

What JSON cannot hold has one rule each, the same in NDJSON and NDJSON gzip:

=====================================  =================================================================
NaN, Infinity, -Infinity               the strings "NaN", "Infinity", "-Infinity", also those of Decimal: RFC 8259,
                                       section 6, has no such numbers, and these words are what warehouses take in a
                                       column of floats: DuckDB as any text that it casts, BigQuery as `_float_to_json`
                                       of its own client writes them (googleapis/google-cloud-go#2408)
integers past 64 bits                  a string of decimal digits; up to 2**64 - 1 they stay numbers
bytes, bytearray, memoryview           a string: base64 (RFC 4648, section 4)
decimal.Decimal                        a string, exact: "12.50"
datetime, date, time                   a string: RFC 3339; a naive datetime gets no offset, and one whose offset has
                                       seconds (local mean time) is written in UTC: section 5.6 has hours and minutes
timedelta                              a string: ISO 8601, P1DT2H3M4.5S
uuid.UUID                              a string
enum.Enum                              its value
tuples, dataclasses                    an array, an object
keys that are no strings, sets, others refused: the record cannot be encoded
=====================================  =================================================================

Parquet (`etl.parquet`) keeps NaN, bytes, Decimal, date and time types as they are; integers past 64 bits and UUIDs
become strings. An empty object has fields that are null where other objects of its column have fields, else it is null.
What NDJSON refuses is refused in Parquet, too. So are values of several kinds in one field, as a date, then a datetime
or a number; fields without a name; decimals that together need more than 38 digits, of which readers make others; and
more levels than readers open (99, a list is two) or lists within each other (16), for which they would need minutes. It
has no durations (parquet-format, LogicalTypes.md; what Arrow calls one is a plain number
there): timedelta is a string, too.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import importlib
import math
import re
import sys
import zlib
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import msgspec
import orjson

from etl.errors import ConfigError
from etl.field_types import FieldTypes, interval
from etl.nesting import Nesting
from etl.records import Record, describe

if TYPE_CHECKING:
    import pyarrow

# Handed on in batches: a write a record costs three times as much, larger ones gain nothing.
BATCH_BYTES = 256 * 1024

# Where orjson wrote null for a number that is none, the same record in MessagePack has a float whose exponent is all
# ones. A look at that takes no longer than orjson itself; to walk through a nested record takes five times as long.
_null = re.compile(rb"null").search
_packed = msgspec.msgpack.Encoder().encode
_not_finite = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]").search

# Where orjson wrote an offset, it may have rounded it: local mean times have seconds, as in Berlin before 1893.
_offset = re.compile(rb'T\d\d:\d\d:\d\d(?:\.\d+)?[+-]\d\d:\d\d"').search

_MINUTE = timedelta(minutes=1)
_WITHOUT_OFFSET = frozenset({type(None), bool, int, float, str, bytes, Decimal})

# orjson 3.13 writes 10 to 99.999 ms of a time without the zero before them: 00:00:00.01 is "00:00:00.10000".
_five_digits = re.compile(rb'\.\d{5}"').search

# More digits than any warehouse's decimals have.
LONGEST_DECIMAL = 100

# What orjson says of more than 253 levels, and Python of some more, in words.
TOO_DEEP = "it is nested in more than 250 levels: cut it, or make text of it"

Write = Callable[[bytes | bytearray | memoryview], None]


class Refuse(Protocol):
    """Takes a record that cannot be encoded."""

    def __call__(self, record: Record, reason: str, number: int | None = None, /) -> None:
        """Take one.

        Args:
            record: the record.
            reason: why, for people who read the dead letters.
            number: what `Gathers.number` returned when it was handed on; None: it is the one that was handed on last.
        """


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


@runtime_checkable
class TakesTypes(Protocol):
    """A format with types of its own, which can begin with those that the source knows."""

    def assume(self, types: Callable[[], FieldTypes], text: Collection[str]) -> None:
        """Write fields with the types that the source gives them, or wider ones, in all parts from now on.

        Args:
            types: returns the types; those of fields whose values are of another kind by now do not count.
            text: the names of fields that are text, whatever they were before; there may be more of them later.
        """


@runtime_checkable
class KeepsSchema(Protocol):
    """A format with types of its own, of which all parts of an output can have the same."""

    untold: Collection[str]
    """The columns of the first part that held no value, which are text in it."""
    widened: Collection[str]
    """The columns of the first part that are not as its first record has them, which lacks them, or has integers."""

    def keep(self, schema: bytes | None) -> None:
        """Write all parts from now on with one schema: records that need another one are refused by name.

        Args:
            schema: what `kept` returned after the first part; None: the next part is the first one.
        """

    def kept(self) -> bytes:
        """Return the schema of the part that was encoded last."""


class Suspicion:
    """Says what the record that is handed on may hold; those that hold nothing of it need no look.

    Attributes:
        now: whether it may hold a float, datetime or time.
        nested: whether it may hold an object or a list.
    """

    __slots__ = ("nested", "now")

    def __init__(self) -> None:
        self.now = self.nested = True


@runtime_checkable
class TakesSuspicion(Protocol):
    """A format that looks for what orjson writes as something else: NaN, offsets with seconds, some times."""

    suspicion: Suspicion
    """What is told of each record right before it is handed on."""


class Limits(NamedTuple):
    """What a warehouse takes of a record.

    Attributes:
        line_bytes: how long its line may be, with its end; None: as long as it likes.
        nesting: looks how deep it is nested; None: as deep as it likes.
    """

    line_bytes: int | None = None
    nesting: Nesting | None = None


@runtime_checkable
class LimitsRecords(Protocol):
    """A format of lines, which refuses records that a warehouse would not read."""

    limits: Limits
    """What the warehouse takes."""


@runtime_checkable
class Gathers(Protocol):
    """A format that gathers records, and writes several at once: what it is given must stay as it is until then."""

    gathers: bool
    """Whether it does."""
    group_bytes: int
    """How much of them it may hold as it writes them, in bytes."""
    number: Callable[[], int]
    """Returns the number of the record that was handed on last, asked once for each."""


@runtime_checkable
class Compresses(Protocol):
    """A format whose parts may be far smaller than the records that are in them."""

    plain_bytes: int
    """How many bytes the records of the open part have, not compressed."""


class SchemaWidened(Exception):
    """A record does not fit the schema that the part was begun with; the format has the wider one now.

    The part is aborted and encoded again from the position before it.
    """


class Ndjson:
    """One JSON object a line (orjson), in UTF-8."""

    name = "ndjson"

    def __init__(self) -> None:
        self.suspicion = Suspicion()
        self.limits = Limits()

    def encode(
        self, records: Iterator[Record], write: Write, refuse: Refuse, batch_bytes: int
    ) -> Generator[int, None, None]:
        """Encode one part; see `Format`."""
        dumps, options, suspicion = orjson.dumps, orjson.OPT_APPEND_NEWLINE, self.suspicion
        most, nesting = self.limits
        most = sys.maxsize if most is None else most
        lists, levels = (sys.maxsize, sys.maxsize) if nesting is None else nesting.shallow
        # One buffer: a list of orjson's results would keep the start buffer of each, some 4 KB.
        batch = bytearray()
        count = 0
        for record in records:
            try:
                line = dumps(record, portable, options)
                if suspicion.now and (
                    _five_digits(line)
                    or (_null(line) and _holds_no_number(record))
                    or (_offset(line) and _has_seconds(record))
                ):
                    line = dumps(portable_numbers(record), portable, options)
            except Exception:  # of a value, which may be of a class of the user's: any
                try:
                    line = dumps(portable_numbers(record), portable, options)
                except MemoryError:
                    raise  # is no fault of the record's
                except Exception as error:  # as above
                    refuse(record, self._too_much(record, 0) or unencodable(error))
                    continue
            # Each level has a bracket in the line; to count those takes a tenth of what a look takes.
            if (
                len(line) > most
                or (
                    suspicion.nested
                    and ((found := line.count(b"[")) > lists or found + line.count(b"{") > levels)
                )
            ) and (reason := self._too_much(record, len(line))) is not None:
                refuse(record, reason)
                continue
            batch += line
            count += 1
            if len(batch) >= batch_bytes:
                write(batch)
                batch.clear()
                yield count
        if batch:
            write(batch)
        yield count

    def _too_much(self, record: Record, size: int) -> str | None:
        """Say what of a record the warehouse does not take; None: it takes it."""
        most, nesting = self.limits
        if most is not None and size > most:
            return (
                f"its line has {size:,} bytes, and the warehouse takes {most:,} a row: split it by a transform, or "
                "leave its largest field out"
            )
        try:
            return nesting.too_deep(record) if nesting else None
        except Exception as error:  # of a value, which may be of a class of the user's: any
            return unencodable(error)


class NdjsonGzip:
    """NDJSON in one gzip member a part (RFC 1952); level 1 of isal where it is installed, else of zlib."""

    name = "ndjson.gz"

    def __init__(self) -> None:
        self._lines = Ndjson()
        self.plain_bytes = 0

    @property
    def suspicion(self) -> Suspicion:
        """What is told of each record; see `TakesSuspicion`."""
        return self._lines.suspicion

    @suspicion.setter
    def suspicion(self, suspicion: Suspicion) -> None:
        self._lines.suspicion = suspicion

    @property
    def limits(self) -> Limits:
        """What the warehouse takes; see `LimitsRecords`."""
        return self._lines.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._lines.limits = limits

    def encode(
        self, records: Iterator[Record], write: Write, refuse: Refuse, batch_bytes: int
    ) -> Generator[int, None, None]:
        """Encode one part; see `Format`."""
        compressor = _gzip_compressor()
        self.plain_bytes = 0

        def compress(data: bytes | bytearray | memoryview) -> None:
            self.plain_bytes += len(data)
            if compressed := compressor.compress(data):
                write(compressed)

        # A batch of text, so that batches of compressed bytes come often enough for small parts.
        yield from self._lines.encode(records, compress, refuse, batch_bytes)
        write(compressor.flush())


def _parquet() -> Format:
    """Make the format that needs pyarrow; its module is imported here and not before."""
    from etl.parquet import Parquet

    return Parquet()


FORMATS: dict[str, Callable[[], Format]] = {
    "ndjson": Ndjson,
    "ndjson.gz": NdjsonGzip,
    "parquet": _parquet,
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
        return _digits(value) if value.is_finite() else number_word(value)
    if isinstance(value, timedelta):
        return interval(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(
        value, float
    ):  # of a class of its own, as numpy's; what its methods say of it may be anything
        return float.__float__(value) if math.isfinite(value) else number_word(value)
    raise TypeError(
        f"{type(value).__name__} has no form in JSON: turn it into a string, number, list or dict"
    )


def portable_numbers(value: Any) -> Any:
    """Return `value` with what orjson cannot write, or writes as something else, in another form, at any depth.

    Those are integers past 64 bits, which it refuses, NaN and the infinities, of which it makes null, and times, of
    which it may drop a zero: strings; and datetimes whose offset has seconds, which it rounds: in UTC.

    Raises:
        OverflowError: a datetime is not within the years 1 to 9999 in UTC.
    """
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else int.__repr__(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else number_word(value)
    if isinstance(value, Mapping):
        return {key: portable_numbers(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [portable_numbers(item) for item in value]
    if isinstance(value, datetime):
        return in_minutes(value)
    if (
        isinstance(value, time) and value.tzinfo is None
    ):  # it refuses others, which have no date for their zone
        return value.isoformat()
    if isinstance(value, enum.Enum):
        return portable_numbers(value.value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (field.name for field in dataclasses.fields(value) if not field.name.startswith("_"))
        return {name: portable_numbers(getattr(value, name)) for name in names}
    return value


def in_minutes(value: datetime) -> datetime:
    """Return a datetime whose offset has seconds in UTC; others as they are.

    Raises:
        OverflowError: it is not within the years 1 to 9999 in UTC.
    """
    offset = value.utcoffset()
    return value if offset is None or not offset % timedelta(minutes=1) else value.astimezone(UTC)


def _digits(value: Decimal) -> str:
    """Write a number without an exponent, which DuckDB's casts to decimals do not take exactly, unless it is long."""
    text = Decimal.__str__(value)
    return format(value, "f") if "E" in text and abs(value.adjusted()) <= LONGEST_DECIMAL else text


def number_word(value: float | Decimal) -> str:
    """Return the word for a number that is not finite."""
    if value.is_nan() if isinstance(value, Decimal) else math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def unencodable(error: Exception) -> str:
    """Say why a record cannot be encoded, whatever its values raised."""
    said = describe(error)
    return TOO_DEEP if "recursion" in said.lower() else said


def as_json(value: Any) -> str | None:
    """Return a value as JSON in text, as the formats write it within a record; None for None.

    Raises:
        Exception: it cannot be encoded: TypeError, or whatever a value of a class of its own raises.
    """
    return None if value is None else orjson.dumps(portable_numbers(value), portable).decode()


def _holds_no_number(record: Record) -> bool:
    """Say whether a record may hold NaN or an infinity; where it holds none, a wrong yes is rare and costs time."""
    try:
        return _not_finite(_packed(record)) is not None
    except (TypeError, ValueError, OverflowError, RecursionError):  # what MessagePack lacks, or the package
        return True


def _has_seconds(value: Any) -> bool:
    """Say whether a datetime within a value may have an offset with seconds."""
    kind = value.__class__
    if kind in _WITHOUT_OFFSET:
        return False
    if isinstance(value, datetime):
        offset = value.utcoffset()
        return bool(offset and offset % _MINUTE)
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return dataclasses.is_dataclass(value) and not isinstance(value, type)
    return any(item.__class__ not in _WITHOUT_OFFSET and _has_seconds(item) for item in value)


def _gzip_compressor() -> Any:
    gzip_container = 16 + 15  # zlib.h, deflateInit2: 16 added to the window bits writes a gzip wrapper
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.compressobj(level=1, wbits=gzip_container)
    return isal_zlib.compressobj(level=1, wbits=gzip_container)
