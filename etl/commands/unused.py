"""Names in [rename], [drop] and [cast] that no record has: mistyped perhaps, and a run says nothing of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etl.records import Record, Transform


class Unused:
    """Watches which names of a job file's tables occur in the records that come to them.

    Args:
        written: the job file.
    """

    def __init__(self, written: Mapping[str, Any]) -> None:
        drop = written.get("drop")
        tables = {
            "rename": written.get("rename"),
            "drop": None if drop is None else drop["fields"],
            "cast": written.get("cast"),
        }
        self._renamed = dict(written.get("rename") or {})
        # An empty table stands for no transform, but for `drop`: see `etl.config`.
        self._names = {
            table: dict.fromkeys(names)
            for table, names in tables.items()
            if names or (table == "drop" and names is not None)
        }

    def watched(self, transforms: Sequence[Transform]) -> tuple[Transform, ...]:
        """Return the transforms of the job, with a spy before each of those that the tables stand for."""
        stages: list[Transform] = []
        for names, transform in zip(self._names.values(), transforms, strict=False):
            stages += [_spy(names), transform]
        return (*stages, *transforms[len(self._names) :])

    def warnings(self) -> list[str]:
        """Say which names did not occur."""
        return [self._warning(table, name) for table, names in self._names.items() for name in names]

    def _warning(self, table: str, name: str) -> str:
        said = f"[{table}] names {name!r}, which none of these records has"
        if table != "rename" and name in self._renamed:
            return f"{said}: [rename] comes before it, and makes it {self._renamed[name]!r}"
        return said


def _spy(names: dict[str, Any]) -> Transform:
    def look(records: Iterator[Record]) -> Iterator[Record]:
        for record in records:
            for name in [name for name in names if name in record or _has(record, name.split("."))]:
                del names[name]
            yield record

    return look


def _has(value: Any, path: Sequence[str]) -> bool:
    if not path:
        return True
    if isinstance(value, list):
        return any(_has(item, path) for item in value)
    return isinstance(value, dict) and path[0] in value and _has(value[path[0]], path[1:])
