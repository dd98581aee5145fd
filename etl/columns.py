"""Columns of a warehouse's table, as a job pins them in its checkpoint; the form is that of BigQuery's JSON schemas."""

from __future__ import annotations

import msgspec


class Column(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One column, or a field of one (BigQuery REST reference, TableFieldSchema).

    Attributes:
        name: its name, as it was first seen or declared.
        type: in upper case: STRING, BYTES, INTEGER, FLOAT, NUMERIC, BIGNUMERIC, BOOLEAN, TIMESTAMP, DATE, TIME,
            DATETIME, GEOGRAPHY, JSON, INTERVAL, RECORD.
        mode: NULLABLE, REQUIRED or REPEATED.
        fields: of a RECORD, at least one.
        description: for people.
        precision: of a NUMERIC or BIGNUMERIC: how many digits; None: the type's own limit.
        scale: of a NUMERIC or BIGNUMERIC: how many of them after the point.
        max_length: of a STRING in characters, of BYTES in bytes; None: no limit.
        timestamp_precision: of a TIMESTAMP: 12, digits of a second; None: six.
        field: what the records call it, where another name could have become the same column (see
            `etl.schemas.dialect`); None: its own name, or no record had it yet.
    """

    name: str
    type: str
    mode: str = "NULLABLE"
    fields: tuple[Column, ...] = ()
    description: str = ""
    precision: int | None = None
    scale: int | None = None
    max_length: int | None = msgspec.field(default=None, name="maxLength")
    timestamp_precision: int | None = msgspec.field(default=None, name="timestampPrecision")
    field: str | None = None


Columns = tuple[Column, ...]


class ColumnChange(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one column of a table, or of a field of one, because records needed it.

    Attributes:
        name: of the column; of a field with the names above it: `payload.id`, `payload.commits[].sha`.
        type: its type from now on, as the warehouse writes it.
        before: its type until now; empty: it is new.
        part: the number of the part whose load needed it; of several parts in one load, which is not told apart, the
            last one's.
    """

    name: str
    type: str
    before: str = ""
    part: int
