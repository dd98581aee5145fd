"""How the columns of a table grow with the parts that are loaded: what types new ones get, what is told of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from etl.columns import ColumnChange
from etl.warehouses.duckdb.convert import Instead, infer
from etl.warehouses.duckdb.parts import GUESSES, PartReader
from etl.warehouses.duckdb.source_types import refined
from etl.warehouses.duckdb.types import BIGINT, HUGEINT, NULL, VARCHAR, Columns, Kind, Path, shown


@dataclass(frozen=True, slots=True)
class Decisions:
    """What is decided while one plan is loaded.

    Attributes:
        instead: what to do at some paths, after a value there did not fit; see `convert`.
        guessed: the paths of new columns whose type was guessed from some of their values.
        changes: what the table's columns became, if it was there.
    """

    instead: dict[Path, Instead] = field(default_factory=dict)
    guessed: set[Path] = field(default_factory=set)
    changes: list[ColumnChange] = field(default_factory=list)


def changes(old: Columns, new: Columns, part: int, path: Path = ()) -> Iterator[ColumnChange]:
    """Yield how columns, or fields of a STRUCT, differ; of a new one only itself, with all that it holds."""
    for name, kind in new.items():
        was, at = old.get(name), (*path, name)
        while was is not None and was != kind and was.element and kind.element:
            was, kind, at = was.element, kind.element, (*at, None)
        if was == kind:
            continue
        if was is not None and was.fields is not None and kind.fields is not None:
            yield from changes(dict(was.fields), dict(kind.fields), part, at)
        else:
            type_, before = (str(each or "").replace(str(NULL), "NULL") for each in (kind, was))
            yield ColumnChange(name=shown(at), type=type_, before=before, part=part)


def as_it_is(kind: Kind, _: Path) -> Kind:
    """Take a type over for a new column."""
    return kind


def inferring(part: PartReader, columns: Columns, decisions: Decisions) -> Callable[[Kind, Path], Kind]:
    """Return what gives types to new columns of a part.

    Those that the source knows come first; a part of Parquet says what the others are. In JSON strings that are dates
    or timestamps as far as one looks become such, the load will see whether all are. Times and UUIDs stay VARCHAR: a
    first part may look like one by chance.
    """
    texts: dict[Path, Kind] = {}
    wanted = part.wanted()

    def guess(found: Kind, path: Path) -> Kind:
        if path in decisions.instead:
            return HUGEINT if found == HUGEINT else VARCHAR
        if found == HUGEINT:
            kind = BIGINT
        else:
            texts.update({} if texts else part.kinds_of_texts(columns))
            kind = texts.get(path) or (found if found in GUESSES else VARCHAR)
        if kind != VARCHAR:
            decisions.guessed.add(path)
        return kind

    def new(found: Kind, path: Path) -> Kind:
        name = path[0] if len(path) == 1 else None
        if name in wanted:
            return wanted[name]
        type_ = (part.part.types or {}).get(name or "")
        if type_ is None or path in decisions.instead:
            return plain(found, path)
        return refined(found, type_, path, plain, decisions.guessed.add)

    def plain(found: Kind, path: Path) -> Kind:
        return found if part.typed else infer(found, path, guess)

    return new
