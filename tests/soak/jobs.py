"""The jobs of the soak: a source that goes on growing, three dispositions, and the truth to compare with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import etl

TABLE = "rows_of_the_soak"
DATABASE = "warehouse.duckdb"
CHECKPOINT = "job.checkpoint.json"

# A merge and a replacement have this many rows at most, so that what they keep has no reason to grow.
KEYS = 200

Row = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Content:
    """What the source holds at some moment.

    Args:
        records: how many; one that grows only adds to them.
        version: of a content that is replaced as a whole.
    """

    records: int
    version: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """One job of the soak.

    Args:
        disposition: how records reach the table.
        sink: its name in the registry.
    """

    disposition: str
    sink: str

    @property
    def name(self) -> str:
        return f"{self.disposition} {self.sink}"

    @property
    def grows(self) -> bool:
        """Whether the source keeps what it had."""
        return self.disposition != "replace"

    def pipeline(self, directory: Path, content: Content) -> etl.Pipeline:
        """Define the job on the files in `directory`."""
        more = {"merge": {"key": ["key"], "updated_at": "changed"}}.get(self.disposition, {})
        return etl.Pipeline(
            "soak",
            source=Source(content),
            transforms=[reject_some],
            sink={"type": self.sink, "path": str(directory / "out" / "job.ndjson")}
            | ({"keep": False} if self.sink == "numbered_chunks" else {}),
            warehouse={
                "type": "duckdb",
                "path": str(directory / DATABASE),
                "table": TABLE,
                "disposition": self.disposition,
            }
            | more,
            checkpoint=directory / CHECKPOINT,
            part_records=60,
        )

    def rows(self, content: Content) -> list[Row]:
        """Return the keys and changes that the table must hold when all of a content is loaded."""
        rows = [(each["key"], each["changed"]) for each in records(content) if not is_rejected(each)]
        if self.disposition == "merge":
            merged: dict[int, int] = {}
            for key, changed in rows:
                merged[key] = max(changed, merged.get(key, 0))
            rows = list(merged.items())
        return sorted(rows)


JOBS = (
    Job("append", "reused_file"),
    Job("append", "big_file"),
    Job("merge", "numbered_chunks"),
    Job("replace", "reused_file"),
)


class Source:
    """Yields the records of a content; what it is does not change with that."""

    identity = "soak"

    def __init__(self, content: Content) -> None:
        self._content = content

    def pull(self, cursor: int | None = None) -> Iterator[Any]:
        """Yield records with a mark after every 50, and one at the end, from which the next run goes on."""
        for record in records(self._content, cursor or 0):
            if record["changed"] % 50 == 0:
                yield etl.Mark(record["changed"])
            yield record
        yield etl.Mark(self._content.records)


def records(content: Content, first: int = 0) -> Iterator[dict[str, int]]:
    """Yield the records of a content, each with the place that it has there."""
    for place in range(first, content.records):
        yield {"key": (place * 37 + content.version) % KEYS, "changed": place, "version": content.version}


def is_rejected(record: dict[str, int]) -> bool:
    """Say whether the transform rejects a record."""
    return record["changed"] % 20 == 7


def reject_some(rows: Any) -> Iterator[Any]:
    """Reject every 20th record."""
    for each in rows:
        yield etl.Reject(each, "a seven") if is_rejected(each) else each


def found(directory: Path) -> list[Row]:
    """Return the keys and changes that the table holds."""
    import duckdb

    with duckdb.connect(str(directory / DATABASE), read_only=True) as database:
        return sorted(database.execute(f"SELECT key, changed FROM {TABLE}").fetchall())


def letters(directory: Path) -> list[tuple[int, int]]:
    """Return versions and places of the records that stand in the dead letters."""
    paths = directory.glob("soak-rejects-*.ndjson")
    found = (json.loads(line)["record"] for path in paths for line in path.read_text().splitlines())
    return sorted((record["version"], record["changed"]) for record in found)
