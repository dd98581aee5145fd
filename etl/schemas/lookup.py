"""Which column a field goes into, by its name alone."""

from __future__ import annotations

from etl.columns import Column, Columns
from etl.schemas.dialect import Dialect


def column_of(field: str, columns: Columns, dialect: Dialect) -> Column | None:
    """Return the column of a field; None: there is none of that name.

    Args:
        field: its name, with dots where it is one of an object; a column whose own name has the dots comes first.
        columns: where to look.
        dialect: says which names are the same one.
    """
    named = {dialect.folded(column.name): column for column in columns}
    found = named.get(dialect.folded(dialect.valid(field)))
    if found is not None or "." not in field:
        return found
    head, _, rest = field.partition(".")
    record = named.get(dialect.folded(dialect.valid(head)))
    return None if record is None else column_of(rest, record.fields, dialect)


def type_of(field: str, columns: Columns, dialect: Dialect) -> str | None:
    """Return the type of a field's column, RECORD where it holds several values; None: there is no such column."""
    column = column_of(field, columns, dialect)
    if column is None:
        return None
    return "RECORD" if column.mode == "REPEATED" else column.type
