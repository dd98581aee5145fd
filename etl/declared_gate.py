"""The gate of parts that stay and have declared columns: without a warehouse nobody else says which records fit.

A declaration names all columns. Text becomes what its column is where it says so exactly, by the rules of `[cast]`;
what a column's type does not hold as it is does not fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from etl.arrow_types import arrow_type
from etl.casts import Uncastable, cast_for
from etl.columns import Column, Columns
from etl.drift import EXACT
from etl.errors import ConfigError
from etl.field_types import FieldType, FieldTypes
from etl.records import Record, kind_of
from etl.schemas.numbers import digits_after, without_zeros
from etl.schemas.types import digits, shown
from etl.warehouses.base import Misfit

if TYPE_CHECKING:
    import pyarrow

PARTS = replace(EXACT, warehouse="Parquet", most_levels=64)

# How many digits DuckDB reads; more would be floats.
_MOST_DIGITS = 38
_LARGEST_EXACT = 2**53

_PLAIN = {
    "STRING": FieldType(name="string"),
    "BYTES": FieldType(name="bytes"),
    "INTEGER": FieldType(name="integer"),
    "FLOAT": FieldType(name="float"),
    "BOOLEAN": FieldType(name="boolean"),
    "DATE": FieldType(name="date"),
    "TIME": FieldType(name="time"),
    "DATETIME": FieldType(name="timestamp"),
    "TIMESTAMP": FieldType(name="timestamp", zone=True),
}
_CASTS = {
    "INTEGER": cast_for("integer", "schema"),
    "FLOAT": cast_for("float", "schema"),
    "NUMERIC": cast_for("decimal", "schema"),
    "BOOLEAN": cast_for("boolean", "schema"),
    "DATE": cast_for("date", "schema"),
    "DATETIME": cast_for("timestamp", "schema"),
    "TIMESTAMP": cast_for("timestamp", "schema"),
}


class DeclaredGate:
    """Lets the records through that fit declared columns; see `etl.warehouses.base.Gate`.

    Args:
        columns: the declared ones, all that there are.
    """

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self._fit = {column.name: _fitting(column) for column in columns}
        self._required = tuple(column.name for column in columns if column.mode == "REQUIRED")

    def admit(self, record: Record) -> Record:
        """Return `record` with the values that its columns hold.

        Raises:
            Misfit: a value does not fit, a field has no column, or one that must not be null is.
        """
        fitted: Record = _fit_record(record, self._fit, self._required, "")
        return fitted

    def arrow_schema(self) -> pyarrow.Schema:
        """Return the columns as Arrow's."""
        import pyarrow as arrow

        return arrow.schema(_arrow_fields(self.columns))


def types_of(columns: Columns, where: str = "schema") -> FieldTypes:
    """Return columns as types of fields.

    Raises:
        ConfigError: Parquet has no such type, or not one that everybody reads as it is.
    """
    return {column.name: _type_of(column, f"{where}.{column.name}") for column in columns}


def _type_of(column: Column, where: str) -> FieldType:
    if column.type == "RECORD":
        type_ = FieldType(name="record", fields=types_of(column.fields, where))
    elif column.type in ("NUMERIC", "BIGNUMERIC"):
        before, after = digits(column)
        if before + after > _MOST_DIGITS:
            raise ConfigError(
                f"{where}: {shown(column)} has more than {_MOST_DIGITS} digits, of which DuckDB makes floats: declare "
                'fewer, such as "NUMERIC(38, 9)", or STRING'
            )
        type_ = FieldType(name="decimal", precision=before + after, scale=after)
    elif column.type in _PLAIN and column.timestamp_precision is None:
        type_ = _PLAIN[column.type]
    else:
        raise ConfigError(
            f"{where}: Parquet has no {shown(column)}: declare it as STRING, and write text in a transform"
        )
    return FieldType(name="list", element=type_) if column.mode == "REPEATED" else type_


def _arrow_fields(columns: Columns) -> list[pyarrow.Field]:
    import pyarrow as arrow

    fields = []
    for column in columns:
        if column.type == "RECORD":
            type_ = arrow.struct(_arrow_fields(column.fields))
            type_ = arrow.list_(type_) if column.mode == "REPEATED" else type_
        else:
            type_ = arrow_type(_type_of(column, column.name))
        fields.append(arrow.field(column.name, type_, nullable=column.mode != "REQUIRED"))
    return fields


Fit = Callable[[Any, str], Any]


def _fit_record(record: Any, fits: dict[str, Fit], required: tuple[str, ...], path: str) -> Any:
    result = record
    for name, value in record.items():
        if (fit := fits.get(name)) is None:
            raise Misfit(
                f"field {path}{name}: the declared schema has no such column; declare it, or drop the field"
            )
        if value is None:
            continue
        fitted = fit(value, f"{path}{name}")
        if fitted is not value:
            result = dict(record) if result is record else result
            result[name] = fitted
    for name in required:
        if result.get(name) is None:
            raise Misfit(f"column {path}{name}: it is declared as REQUIRED, and is missing or null")
    return result


def _fitting(column: Column) -> Fit:
    """Return what makes a column's value of a record's, or says why it cannot."""
    if column.type == "RECORD":
        fits = {field.name: _fitting(field) for field in column.fields}
        required = tuple(field.name for field in column.fields if field.mode == "REQUIRED")

        def one(value: Any, path: str) -> Any:
            if not isinstance(value, dict):
                raise Misfit(f"column {path}: {kind_of(value)} is no object, and it is a {shown(column)}")
            return _fit_record(value, fits, required, f"{path}.")
    else:

        def one(value: Any, path: str) -> Any:
            return _fitted(column, value, path)

    if column.mode != "REPEATED":
        return one

    def each(value: Any, path: str) -> Any:
        if not isinstance(value, (list, tuple)):
            raise Misfit(f"column {path}: {kind_of(value)} is no list, and it is a {shown(column)}")
        return [None if item is None else one(item, f"{path}[{at}]") for at, item in enumerate(value)]

    return each


def _fitted(column: Column, value: Any, path: str) -> Any:
    found = value
    if isinstance(value, str) and (cast := _CASTS.get(column.type.removeprefix("BIG"))) is not None:
        try:
            found = cast(value)
        except Uncastable as error:
            raise Misfit(f"column {path}: {error}, and it is a {shown(column)}") from error
    fitted = _HOLDS[column.type.removeprefix("BIG")](found, column)
    if fitted is None:
        raise Misfit(f"column {path}: {kind_of(value)} {str(value)[:100]} does not fit a {shown(column)}")
    return fitted


def _integer(value: Any, _column: Column) -> Any:
    return value if type(value) is int and -(2**63) <= value < 2**63 else None


def _float(value: Any, _column: Column) -> Any:
    if type(value) is int and abs(value) <= _LARGEST_EXACT:
        return float(value)
    return value if isinstance(value, float) else None


def _decimal(value: Any, column: Column) -> Any:
    if type(value) is int:
        value = Decimal(value)
    if type(value) is float:
        value = Decimal(repr(value))
    if not isinstance(value, Decimal) or not value.is_finite():
        return None
    before, after = digits(column)
    exact = without_zeros(value)
    fits = not exact or (exact.adjusted() < before and digits_after(exact) <= after)
    return value if fits else None


def _text(value: Any, column: Column) -> Any:
    fits = isinstance(value, str) and (column.max_length is None or len(value) <= column.max_length)
    return value if fits else None


def _bytes(value: Any, column: Column) -> Any:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        return None
    value = bytes(value)
    return value if column.max_length is None or len(value) <= column.max_length else None


# Returns the value that a column holds; None: it does not.
_HOLDS: dict[str, Callable[[Any, Column], Any]] = {
    "INTEGER": _integer,
    "FLOAT": _float,
    "NUMERIC": _decimal,
    "BOOLEAN": lambda value, _: value if isinstance(value, bool) else None,
    "STRING": _text,
    "BYTES": _bytes,
    "DATE": lambda value, _: value if type(value) is date else None,
    "TIME": lambda value, _: value if isinstance(value, time) and value.tzinfo is None else None,
    "DATETIME": lambda value, _: value if isinstance(value, datetime) and value.tzinfo is None else None,
    "TIMESTAMP": lambda value, _: value if isinstance(value, datetime) and value.tzinfo is not None else None,
}
