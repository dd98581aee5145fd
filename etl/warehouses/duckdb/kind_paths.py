"""Paths within the columns of a part: to their values, as SQL, and to the types of those."""

from __future__ import annotations

from collections.abc import Iterator, Set

from etl.warehouses.duckdb.types import TEXTS, VARCHAR, Kind, Path, quoted


def values_at(x: str, path: Path) -> str:
    """Write the list of all values at a path below `x`.

    Each step takes the list of the step before it: DuckDB takes twice as long for each function within a function
    (sixteen lists within each other: minutes).
    """
    if None not in path:
        return f"[{'.'.join((x, *(quoted(step) for step in path if step is not None)))}]"
    first = path.index(None)
    found = ".".join((x, *(quoted(step) for step in path[:first] if step is not None)))
    for number, step in enumerate(path[first + 1 :]):
        found = (
            f"flatten({found})"
            if step is None
            else f"list_transform({found}, lambda e{number}: e{number}.{quoted(step)})"
        )
    return found


def texts_in(kind: Kind, path: Path) -> Iterator[Path]:
    """Yield the paths to strings."""
    return leaves_in(kind, path, TEXTS)


def leaves_in(kind: Kind, path: Path, names: Set[str]) -> Iterator[Path]:
    """Yield the paths to values of some types."""
    if kind.fields is not None:
        for name, inner in kind.fields:
            yield from leaves_in(inner, (*path, name), names)
    elif kind.element:
        yield from leaves_in(kind.element, (*path, None), names)
    elif kind.scalar in names:
        yield path


def replaced(kind: Kind, path: Path, leaf: Kind) -> Kind:
    """Return a type with another one at a path below it."""
    if not path:
        return leaf
    if path[0] is None:
        assert kind.element is not None
        return Kind(element=replaced(kind.element, path[1:], leaf))
    fields = kind.fields or ()
    return Kind(
        fields=tuple((n, replaced(inner, path[1:], leaf) if n == path[0] else inner) for n, inner in fields)
    )


def as_text(kind: Kind) -> Kind:
    """Return the type with which to read only the strings of a column."""
    if kind.fields is not None:
        fields = ((name, as_text(inner)) for name, inner in kind.fields if list(texts_in(inner, ())))
        return Kind(fields=tuple(fields))
    return Kind(element=as_text(kind.element)) if kind.element else VARCHAR


def leaf_at(read: Kind, path: Path) -> Kind:
    """Return the type at a path below a column's, or that of the last one on its way which has nothing below it."""
    for step in path[1:]:
        below = read.element if step is None else dict(read.fields or ()).get(step)
        if below is None:
            break
        read = below
    return read
