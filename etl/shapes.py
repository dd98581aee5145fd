"""What kinds of values the fields of a part's records hold, noted while the part is encoded.

A warehouse that has to know the types in a part would otherwise read it twice. Kinds are those of JSON, as the
formats write them; where the Python types do not tell, nothing is said, and the warehouse looks for itself.

An object with data as keys (the words of a text, the ids of rows) has a name for every one of them, and no table has
columns for all: from `MOST_KEYS` different names on its field is JSON, as a whole, until the run ends.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from etl.errors import SchemaMismatch
from etl.field_types import FieldTypes, is_of
from etl.formats import Suspicion
from etl.records import Record
from etl.shown import is_encodable

# Python's types and the kinds that every value of them is written as.
KINDS: dict[type, str] = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "float",
    str: "string",
    bytes: "string",
    Decimal: "string",
    datetime: "string",
    date: "string",
    time: "string",
    timedelta: "string",
    uuid.UUID: "string",
    dict: "object",
    list: "array",
}

# Python's types that hold no float, datetime or time, in no way.
WITHOUT_DOUBT = KINDS.keys() - {float, datetime, time, dict, list}

# Those that hold no other value.
FLAT = KINDS.keys() - {dict, list}

# What is said of a field that is JSON, and of one whose Python types do not tell.
JSON = "json"
UNKNOWN = "unknown"

# More shapes are folded into fields, so that sparse records take no more memory than they have fields.
MOST_SHAPES = 1000

# A part with more fields is not described: the description is kept in the checkpoint.
MOST_FIELDS = 500

# An object with more different names than this has data as keys. DuckDB reserves some 32 KiB a field while it reads.
MOST_KEYS = 300
# The same for all objects within one field.
MOST_NAMES = 3000

# A table has as many columns, where no record has half of them: so many names are data, and each would be a column.
MOST_COLUMNS = 3000

# No deeper: no warehouse goes so deep, and a record may hold itself.
MOST_LEVELS = 100

# So many records are looked into, then one of `SELDOM`: a look takes as long as to encode the record three times over.
LOOKED_INTO = 1000
SELDOM = 32

Fields = dict[str, tuple[str, ...]]


class WideObjects:
    """Finds the fields whose objects have data as keys; one is made for a run.

    Args:
        tell: called with the name of each field that is found.
        known: the names of fields that are JSON without a look.

    Attributes:
        fields: their names.
    """

    def __init__(self, tell: Callable[[str], None] = lambda _: None, known: Collection[str] = ()) -> None:
        self.fields = set(known)
        self._tell = tell
        self._seen = 0
        # The names of the objects in each field, and within these the names of the objects there.
        self._names: dict[str, dict[str, Any]] = {}
        self._counts: dict[str, int] = {}
        self._columns: set[str] = set()

    def count(self, record: Record) -> None:
        """Count the names of a record's own fields, each once.

        Raises:
            SchemaMismatch: they are too many for a table, and no record has half of them.
        """
        self._columns.update(record)
        if len(self._columns) > max(MOST_COLUMNS, 2 * len(record)):
            shown = ", ".join(repr(name)[:60] for name in list(record)[:3])
            raise SchemaMismatch(
                f"the records have more than {MOST_COLUMNS} different fields, and each only a few of them, such as "
                f"{shown}: names that are data and no columns. Where each of these fields holds a row of its own, say "
                'records = "*" in the source; else put them into one field by a transform (yield {"values": record}), '
                'whose column is JSON: [warehouse.schema] values = "JSON"'
            )

    def look(self, record: Record, nested: tuple[str, ...]) -> None:
        """Look into the fields of a record that hold objects or lists, or into those of a few records."""
        self._seen += 1
        if self._seen > LOOKED_INTO and self._seen % SELDOM:
            return
        for name in nested:
            if name in self.fields:
                continue
            self._counts.setdefault(name, 0)
            if self._is_wide(name, self._names.setdefault(name, {}), record[name]):
                del self._names[name]
                self.fields.add(name)
                self._tell(name)

    def _is_wide(self, field: str, names: dict[str, Any], value: Any, level: int = 1) -> bool:
        if level > MOST_LEVELS:
            return False
        if value.__class__ is list:
            nested = (item for item in value if item.__class__ in (dict, list))
            return any(self._is_wide(field, names, item, level + 1) for item in nested)
        for name, item in value.items():
            below = names.get(name)
            if below is None:
                below = names[name] = {}
                self._counts[field] += 1
            if item.__class__ in (dict, list) and self._is_wide(field, below, item, level + 1):
                return True
        return len(names) > MOST_KEYS or self._counts[field] > MOST_NAMES


class Shapes:
    """Notes the shapes of records: their names and the types of their values, of the top level only.

    Args:
        wide: finds the objects that are no columns.
        suspicion: told of each record what it may hold.
        refused: called with the first record of a shape; where it returns true, the record is left out.
    """

    def __init__(
        self,
        wide: WideObjects | None = None,
        suspicion: Suspicion | None = None,
        refused: Callable[[Record], bool] = lambda _: False,
    ) -> None:
        self._refused = refused
        self._wide = wide or WideObjects()
        self._suspicion = suspicion or Suspicion()
        # Each with the names of the fields that hold objects or lists, and what `Suspicion` says.
        self._shapes: dict[tuple[Any, ...], tuple[tuple[str, ...], bool, bool]] = {}
        self._types: dict[Any, set[type]] = {}

    def note(self, records: Iterator[Record]) -> Iterator[Record]:
        """Pass records on, and note the shape of each."""
        shapes, look, suspicion = self._shapes, self._wide.look, self._suspicion
        for record in records:
            shape = (*record, *map(type, record.values()))
            known = shapes.get(shape)
            if known is None:
                if self._refused(record):
                    continue
                nested = tuple(name for name, value in record.items() if value.__class__ in (dict, list))
                self._wide.count(record)
                if len(shapes) >= MOST_SHAPES:
                    self._fold()
                doubtful = any(value.__class__ not in WITHOUT_DOUBT for value in record.values())
                holding = any(value.__class__ not in FLAT for value in record.values())
                known = shapes[shape] = (nested, doubtful, holding)
            nested, suspicion.now, suspicion.nested = known
            if nested:
                look(record, nested)
            yield record

    def fields(self) -> Fields | None:
        """Return each field's name and the kinds of its values; None: they are too many, or a name is no text."""
        self._fold()
        if len(self._types) > MOST_FIELDS:
            return None
        fields: Fields = {}
        for name, types in self._types.items():
            if not isinstance(name, str) or not is_encodable(name):
                return None
            kinds = {KINDS.get(type_, UNKNOWN) for type_ in types}
            fields[name] = (JSON,) if name in self._wide.fields else tuple(sorted(kinds))
        return fields

    def types(self, known: FieldTypes) -> FieldTypes:
        """Return of the types that the source knows those that the values still are of."""
        self._fold()
        return {
            name: known[name]
            for name, kinds in self._types.items()
            if name in known and name not in self._wide.fields and is_of(known[name], kinds)
        }

    def _fold(self) -> None:
        for shape in self._shapes:
            half = len(shape) // 2
            for name, type_ in zip(shape[:half], shape[half:], strict=True):
                self._types.setdefault(name, set()).add(type_)
        self._shapes.clear()
