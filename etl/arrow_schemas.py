"""The schema that the records of a part need: how it widens, what readers would not read, how it is written."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from etl.arrow_kinds import are_several_kinds, has_empty_name, widest_decimal
from etl.field_types import FieldTypes
from etl.records import Record

if TYPE_CHECKING:
    import pyarrow

# More than that are decimals of 256 bits, of which DuckDB makes floats.
MOST_DIGITS = 38

# pyarrow 26 opens no file with more levels, of which each list is two (tried; it says that the limit is 100).
MOST_LEVELS = 99

# DuckDB 2.0 takes twice as long for each list within a list: measured, 0.06 s for 16, 0.9 s for 20, minutes for 30.
MOST_LISTS = 16


def unified(schema: pyarrow.Schema | None, fields: Iterable[pyarrow.Field]) -> pyarrow.Schema:
    """Return a schema that holds what both do.

    Raises:
        TypeError: values of one would become other ones.
        pyarrow.ArrowException: there is none.
    """
    import pyarrow as arrow

    found = arrow.schema(list(fields))
    if schema is None:
        return found
    for field in found:
        at = schema.get_field_index(field.name)
        if at >= 0 and are_several_kinds(schema.field(at).type, field.type):
            raise TypeError(f"{field.name!r} was {schema.field(at).type}, and here is {field.type}")
    schema, found = _without_empty(schema, found), _without_empty(found, schema)
    return arrow.unify_schemas([schema, found], promote_options="permissive")


def check_readable(schema: pyarrow.Schema, types: FieldTypes) -> None:
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
        if (levels := _levels(field.type)) > MOST_LEVELS:
            raise TypeError(
                f"{field.name!r} has {levels} levels in Parquet, where a list is two, and readers take no more than "
                f"{MOST_LEVELS}: cut it, or make text of it in a transform"
            )
        if (lists := _lists(field.type)) > MOST_LISTS:
            raise TypeError(
                f"{field.name!r} has {lists} lists within each other, and readers of Parquet take minutes for more "
                f"than {MOST_LISTS}: cut it, or make text of it in a transform"
            )


def check_kept(schema: pyarrow.Schema, kept: pyarrow.Schema) -> None:
    """See that records need no other schema than the parts before them have.

    Raises:
        TypeError: they do; says which column, and what to do.
    """
    for field in written(_without_empty(schema, kept)):
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


def written(schema: pyarrow.Schema) -> pyarrow.Schema:
    """Return a schema as Parquet has it: objects of which no field is known are null there."""
    import pyarrow as arrow

    def known(type_: pyarrow.DataType) -> pyarrow.DataType:
        if not has_empty_object(type_):
            return type_
        if arrow.types.is_list(type_):
            return arrow.list_(type_.value_field.with_type(known(type_.value_type)))
        if not type_.num_fields:
            return arrow.null()
        return arrow.struct([field.with_type(known(field.type)) for field in type_])

    return arrow.schema([field.with_type(known(field.type)) for field in schema])


def has_empty_object(type_: pyarrow.DataType) -> bool:
    """Say whether a type is, or holds, that of objects without any fields."""
    import pyarrow as arrow

    if arrow.types.is_struct(type_) and not type_.num_fields:
        return True
    return any(has_empty_object(type_.field(number).type) for number in range(type_.num_fields))


def _without_empty(schema: pyarrow.Schema, other: pyarrow.Schema) -> pyarrow.Schema:
    """Return a schema with null for objects without fields, where the other one has something else."""
    import pyarrow as arrow

    def beside(type_: pyarrow.DataType, there: pyarrow.DataType) -> pyarrow.DataType:
        if not has_empty_object(type_):
            return type_
        if arrow.types.is_struct(type_):
            if not type_.num_fields:
                return type_ if arrow.types.is_struct(there) else arrow.null()
            if not arrow.types.is_struct(there):
                return type_
            known = {field.name: field.type for field in there}
            return arrow.struct(
                [
                    field.with_type(beside(field.type, known[field.name])) if field.name in known else field
                    for field in type_
                ]
            )
        if arrow.types.is_list(there):
            return arrow.list_(type_.value_field.with_type(beside(type_.value_type, there.value_type)))
        return type_

    if not any(has_empty_object(field.type) for field in schema):
        return schema
    known = {field.name: field.type for field in other}
    return arrow.schema(
        [
            field.with_type(beside(field.type, known[field.name])) if field.name in known else field
            for field in schema
        ]
    )


def holds_null(type_: pyarrow.DataType) -> bool:
    """Say whether nothing is known of the type of some values."""
    import pyarrow as arrow

    return arrow.types.is_null(type_) or any(
        holds_null(type_.field(number).type) for number in range(type_.num_fields)
    )


def is_wider(field: pyarrow.Field, first: Record) -> bool:
    """Say whether a column is not as the first record has it: that lacks it, or has an integer where floats are."""
    import pyarrow as arrow

    if field.name not in first:
        return True
    value = first[field.name]
    return type(value) is int and not (
        arrow.types.is_integer(field.type) or arrow.types.is_string(field.type)
    )


def valued(schema: pyarrow.Schema) -> pyarrow.Schema:
    """Return a schema with text where no value was seen: a later part may have one, and a type of nulls takes none."""
    import pyarrow as arrow

    def valued_field(field: pyarrow.Field) -> pyarrow.Field:
        type_ = field.type
        if not holds_null(type_):
            return field
        if arrow.types.is_null(type_):
            return field.with_type(arrow.string())
        if arrow.types.is_struct(type_):
            return field.with_type(arrow.struct([valued_field(inner) for inner in type_]))
        return field.with_type(arrow.list_(valued_field(type_.value_field)))

    return arrow.schema([valued_field(field) for field in schema])


def with_required(schema: pyarrow.Schema, expected: Iterable[pyarrow.Field]) -> pyarrow.Schema:
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


def with_text(schema: pyarrow.Schema, names: Collection[str]) -> pyarrow.Schema:
    """Return a schema with some columns as text."""
    import pyarrow as arrow

    return arrow.schema(
        [field.with_type(arrow.string()) if field.name in names else field for field in schema]
    )


def row_bytes(schema: pyarrow.Schema) -> int:
    """Return how many bytes a row of nulls takes in memory."""
    return sum(_fixed_bytes(field.type) for field in schema)


def fixed_columns(fields: Iterable[pyarrow.Field], path: str = "") -> list[str]:
    """Return the paths of the columns in Parquet whose values have a fixed size."""
    import pyarrow as arrow

    found = []
    for field in fields:
        name, type_ = path + field.name, field.type
        if arrow.types.is_struct(type_):
            found += fixed_columns(type_, f"{name}.")
        elif arrow.types.is_list(type_):
            found += fixed_columns([type_.value_field.with_name("element")], f"{name}.list.")
        elif not arrow.types.is_null(type_) and not _is_text(type_):
            found.append(name)
    return found


def _is_text(type_: pyarrow.DataType) -> bool:
    import pyarrow as arrow

    return any(is_it(type_) for is_it in (arrow.types.is_string, arrow.types.is_binary))


def _fixed_bytes(type_: pyarrow.DataType) -> int:
    import pyarrow as arrow

    if arrow.types.is_struct(type_):
        return sum(_fixed_bytes(field.type) for field in type_)
    try:
        return int((type_.bit_width + 7) // 8)
    except ValueError:  # offsets of what has no fixed width
        return 0 if arrow.types.is_null(type_) else 4


def _levels(type_: pyarrow.DataType) -> int:
    """Return how many levels a type has in Parquet."""
    import pyarrow as arrow

    own = 2 if arrow.types.is_list(type_) else 1
    return own + max((_levels(type_.field(number).type) for number in range(type_.num_fields)), default=0)


def _lists(type_: pyarrow.DataType) -> int:
    """Return how many lists are within each other at most."""
    import pyarrow as arrow

    own = 1 if arrow.types.is_list(type_) else 0
    return own + max((_lists(type_.field(number).type) for number in range(type_.num_fields)), default=0)
