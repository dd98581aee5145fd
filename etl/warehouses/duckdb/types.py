"""DuckDB's types as values, and how a table's columns grow with what parts hold.

A column, a field or a list's element that has held nothing but null is of type `"NULL"`: DuckDB stores
such columns, shows the type in DESCRIBE, and no value fits it, so it marks by itself what has no type yet.
The first value gives it one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from duckdb.sqltypes import DuckDBPyType

# The way to a value from its record: names of fields; None: an element of a list.
Path = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of DuckDB.

    Attributes:
        scalar: how SQL writes it; empty for a STRUCT and a LIST. Other nested types (MAP, fixed ARRAY,
            UNION) count as scalars: they are never looked into.
        fields: the fields of a STRUCT, in order.
        element: what a LIST holds.
    """

    scalar: str = ""
    fields: tuple[tuple[str, Kind], ...] | None = None
    element: Kind | None = None

    @classmethod
    def of(cls, type: DuckDBPyType) -> Kind:
        """Take over what the client says of a type."""
        if type.id not in {"struct", "list"}:
            return cls(str(type))
        inner = tuple((name, cls.of(cast("DuckDBPyType", child))) for name, child in type.children)
        return cls(fields=inner) if type.id == "struct" else cls(element=inner[0][1])

    def __str__(self) -> str:
        if self.fields is not None:
            return f"STRUCT({', '.join(f'{quoted(name)} {kind}' for name, kind in self.fields)})"
        return f"{self.element}[]" if self.element else self.scalar


NULL = Kind('"NULL"')
BLOB = Kind("BLOB")
BOOLEAN = Kind("BOOLEAN")
JSON = Kind("JSON")
VARCHAR = Kind("VARCHAR")
BIGINT = Kind("BIGINT")
UBIGINT = Kind("UBIGINT")
HUGEINT = Kind("HUGEINT")
DOUBLE = Kind("DOUBLE")

INTEGERS = frozenset(
    {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"}
    | {"UHUGEINT", "BIGNUM"}
)
FLOATS = frozenset({"FLOAT", "DOUBLE"})
# What a sniffed string may look like; read as VARCHAR all the same, so that nothing of it is lost.
TEXTS = frozenset(
    {"VARCHAR", "DATE", "TIME", "TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE", "UUID"}
)

Columns = Mapping[str, Kind]


class CaseClash(Exception):
    """Two names differ in case only, which DuckDB takes for one name.

    Args:
        path: of the name in the part.
        other: the name that there is.
    """

    def __init__(self, path: Path, other: str) -> None:
        super().__init__(path, other)
        self.path = path
        self.other = other


def grown(
    columns: Columns, found: Columns, infer: Callable[[Kind, Path], Kind], path: Path = ()
) -> dict[str, Kind]:
    """Return `columns` with all that a part holds besides: new columns, new fields, a type where none was.

    Nothing else changes: whether values fit the types that there are is for `convert` to see.

    Args:
        columns: the columns, or the fields of a STRUCT.
        found: the same of the part.
        infer: gives a type to a value that has no column yet.
        path: of the STRUCT.

    Raises:
        CaseClash: a name differs from one that there is in case only.
    """
    result = dict(columns)
    lowered = {lower(name): name for name in result}
    for name, kind in found.items():
        other = lowered.setdefault(lower(name), name)
        if other != name:
            raise CaseClash((*path, name), other)
        old = result.get(name)
        result[name] = _grown(old, kind, infer, (*path, name)) if old else infer(kind, (*path, name))
    return result


def _grown(old: Kind, found: Kind, infer: Callable[[Kind, Path], Kind], path: Path) -> Kind:
    if old == NULL:
        return infer(found, path)
    if old.fields is not None and found.fields is not None:
        return Kind(fields=tuple(grown(dict(old.fields), dict(found.fields), infer, path).items()))
    if old.element and found.element:
        return Kind(element=_grown(old.element, found.element, infer, (*path, None)))
    return old


def declared_over(old: Kind, declared: Kind) -> Kind:
    """Return the type that a column becomes when its definition asks for another one.

    Fields that came by themselves stay; the rest is as declared.
    """
    if old.fields is not None and declared.fields is not None:
        asked, rest = dict(declared.fields), dict(old.fields)
        result = {name: declared_over(kind, asked.get(name, kind)) for name, kind in rest.items()}
        return Kind(fields=tuple((result | {n: k for n, k in asked.items() if n not in rest}).items()))
    if old.element and declared.element:
        return Kind(element=declared_over(old.element, declared.element))
    return declared


def quoted(name: str) -> str:
    """Write a name as SQL does."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Write a string as SQL does."""
    return "'" + text.replace("'", "''") + "'"


def lower(name: str) -> str:
    """Fold a name as DuckDB does when it compares names: ASCII letters only."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in name)


def shown(path: Path) -> str:
    """Write a path for a person: `payload.commits[].sha`."""
    text = "".join("[]" if step is None else f".{step}" for step in path)
    return text.removeprefix(".")
