"""Which column a field goes into, by its name alone."""

from __future__ import annotations

from etl.columns import Column, Columns
from etl.schemas.dialect import Dialect


class Lookup:
    """Finds the columns of fields; made once for columns that stay, as each of their fields is asked for.

    Args:
        columns: where to look.
        dialect: says which names are the same one.
    """

    def __init__(self, columns: Columns, dialect: Dialect) -> None:
        self._dialect = dialect
        self._named = {dialect.folded(column.name): column for column in columns}
        self._below: dict[str, Lookup] = {}

    def column_of(self, field: str) -> Column | None:
        """Return the column of a field; None: there is none of that name.

        Args:
            field: its name, with dots where it is one of an object; a column whose own name has the dots comes first.
        """
        found = self._column(field)
        if found is not None or "." not in field:
            return found
        head, _, rest = field.partition(".")
        record = self._column(head)
        if record is None:
            return None
        below = self._below.get(record.name)
        if below is None:
            below = self._below[record.name] = Lookup(record.fields, self._dialect)
        return below.column_of(rest)

    def type_of(self, field: str) -> str | None:
        """Return the type of a field's column, RECORD where it holds several values; None: there is no such column."""
        column = self.column_of(field)
        if column is None:
            return None
        return "RECORD" if column.mode == "REPEATED" else column.type

    def _column(self, field: str) -> Column | None:
        return self._named.get(self._dialect.folded(self._dialect.valid(field)))
