"""A job that loads records into a DuckDB file, without a pipeline around it."""

from __future__ import annotations

import gzip
import io
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import orjson
import pyarrow
import pyarrow.parquet
import pytest

from etl.checkpoint import Part, Plan, State, replace
from etl.memory import Budget
from etl.records import Position
from etl.warehouses.base import Job
from etl.warehouses.duckdb import DuckDB
from sinks.base import SealedPart

MIB = 1024 * 1024
BUDGET = Budget(limit=None, warehouse=64 * MIB, threads=1)


def encoded(records: Iterable[Any], format: str) -> bytes:
    """Return records (dicts, or lines of JSON as bytes) as the bytes of a part."""
    if format == "parquet":
        table = records if isinstance(records, pyarrow.Table) else pyarrow.Table.from_pylist(list(records))
        file = io.BytesIO()
        pyarrow.parquet.write_table(table, file, compression="zstd")
        return file.getvalue()
    lines = b"".join((r if isinstance(r, bytes) else orjson.dumps(r)) + b"\n" for r in records)
    return gzip.compress(lines) if format == "ndjson.gz" else lines


class Loader:
    """Writes parts by hand and loads them as one job."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.job = Job(pipeline="job", fingerprint={"source": "here"})
        self.sequences = itertools.count(1)
        self.warehouse = DuckDB(folder / "w.duckdb", **{"table": "t"} | options)
        self.warehouse.open(BUDGET)

    def part(self, records: Any, *, format: str = "ndjson", count: int | None = None) -> Part:
        records = records if isinstance(records, pyarrow.Table) else list(records)
        sequence = next(self.sequences)
        path = self.folder / f"part-{sequence}.{format}"
        data = encoded(records, format)
        path.write_bytes(data)
        sealed = SealedPart(
            sequence=sequence,
            uri=path.as_uri(),
            bytes=len(data),
            crc32c=google_crc32c.value(data),
            generation=sequence,
        )
        number = len(records) if count is None else count
        return Part(
            sealed=sealed,
            records=number,
            after=State(sequence=sequence, position=Position(number=number), tail=sealed),
        )

    def plan(self, *parts: Part, format: str = "ndjson") -> Plan:
        return Plan.of(self.warehouse.destination, format, parts)

    def load(self, *records: Any, format: str = "ndjson") -> int:
        """Load one part with these records."""
        content = records[0] if isinstance(records[0], pyarrow.Table) else records
        return self.warehouse.load(self.job, self.plan(self.part(content, format=format), format=format))

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the database through the connection that loads."""
        warehouse = self.warehouse
        with warehouse._lock:  # so that the file is not closed meanwhile
            with warehouse._using("ask"):
                pass
            session = warehouse._session
            assert session is not None
            return session._database.connection.execute(query).fetchall()

    def types(self, table: str = "t") -> dict[str, str]:
        return {name: kind for name, kind, *_ in self.sql(f"DESCRIBE {table}")}


class Refresher(Loader):
    """A loader whose job can be in a refresh."""

    def in_refresh(self, name: str) -> None:
        self.job = replace(self.job, refresh=name)

    def begin(self, name: str) -> None:
        self.in_refresh(name)
        self.warehouse.begin_refresh(self.job)

    def finish(self) -> None:
        self.warehouse.finish_refresh(self.job)
        self.in_refresh("")

    def refresh(self, *records: dict[str, Any], name: str = "r1") -> None:
        self.begin(name)
        if records:
            self.load(*records)
        self.finish()

    def tables(self) -> list[str]:
        return [name for (name,) in self.sql("SELECT table_name FROM duckdb_tables() ORDER BY table_name")]


@pytest.fixture
def loader(tmp_path: Path) -> Iterator[Loader]:
    loader = Loader(tmp_path)
    yield loader
    loader.warehouse.close()


@pytest.fixture
def declaring(tmp_path: Path) -> Iterator[Any]:
    """Make a loader with `[warehouse.schema]`."""
    made: list[Loader] = []

    def make(schema: dict[str, str], **options: Any) -> Loader:
        for each in made:
            each.warehouse.close()
        made.append(Loader(tmp_path, schema=schema, **options))
        made[-1].sequences = itertools.count(100 * len(made))
        return made[-1]

    yield make
    for each in made:
        each.warehouse.close()
