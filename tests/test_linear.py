"""Four times as many names take four times the work, not sixteen times.

What is compared is the processor's time in one process, as a ratio, on which other processes have little effect.
"""

from __future__ import annotations

import io
import json
import math
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from etl.errors import SourceError
from etl.records import Declarations, Declared
from etl.reshaping import cast, drop, rename
from etl.sources import Files
from etl.sources.listing import listing
from etl.sources.storage import Local
from etl.warehouses import BigQuery, DuckDB

# Sixteen would be a square. Sorting, larger tables of hashes and the like stay below this.
MOST = 8.0
TIMES = 4
# A square stays one, however often it is tried; what disturbs a measurement passes.
ROUNDS = 6

# Makes, told how many names there are, what is measured.
Make = Callable[[int, Path], Callable[[], object]]


def names(count: int) -> list[str]:
    return [f"c{number}" for number in range(count)]


def read(source: Files) -> Callable[[], object]:
    def reading() -> None:
        with suppress(SourceError):
            for _ in source.pull(None):
                pass

    return reading


def csv(count: int, folder: Path, **arguments: Any) -> Callable[[], object]:
    path = folder / f"{count}.csv"
    row = ",".join(map(str, range(count)))
    path.write_text(f"{','.join(names(count))}\n{row}\n{row}\n")
    return read(Files(path, **arguments))


def csv_with_types(count: int, folder: Path) -> Callable[[], object]:
    return csv(count, folder, types=dict.fromkeys(names(count), "string"))


def csv_of_names_that_repeat(count: int, folder: Path) -> Callable[[], object]:
    path = folder / f"{count}.csv"
    path.write_text(f"{','.join(names(count) * 2)}\n{'1,' * 2 * count}\n")
    return read(Files(path))


def ndjson(count: int, folder: Path) -> Callable[[], object]:
    path = folder / f"{count}.ndjson"
    path.write_text(json.dumps(dict.fromkeys(names(count), 1)) + "\n")
    return read(Files(path))


def directory(count: int, folder: Path) -> Callable[[], object]:
    below = folder / str(count)
    below.mkdir()
    for name in names(count):
        (below / name).touch()
    return lambda: listing(Local(), [str(below)], None)


def globbed(count: int, folder: Path) -> Callable[[], object]:
    directory(count, folder)
    return lambda: listing(Local(), [f"{folder}/{count}/**/c*"], None)


def members_that_are_named(count: int, folder: Path) -> Callable[[], object]:
    path = folder / f"{count}.zip"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in names(count):
            archive.writestr(name, "")
    path.write_bytes(packed.getvalue())
    return read(Files(path, members=[f"{name}.csv" for name in names(count)]))


def reshaped(transform: Any, count: int) -> Callable[[], object]:
    return lambda: list(transform(iter([dict.fromkeys(names(count), 1)])))


def declared(
    before: Callable[[Declarations], Declarations], found: Declarations, count: int
) -> Callable[[], object]:
    return lambda: [before(found)(name) for name in names(count)]


def columns(type_of: Callable[[str], str | None], count: int) -> Callable[[], object]:
    return lambda: [type_of(name) for name in names(count)]


WORK: dict[str, tuple[int, Make]] = {
    "the columns of a CSV file": (1500, csv),
    "the types of a CSV file's columns": (2500, csv_with_types),
    "the columns of a CSV file that has each name twice": (1500, csv_of_names_that_repeat),
    "the keys of a record": (20_000, ndjson),
    "the files of a directory": (150, directory),
    "the files of a glob": (150, globbed),
    "the members of a zip file that are named": (400, members_that_are_named),
    "fields that are renamed": (
        5000,
        lambda n, _: reshaped(rename({name: f"d{name}" for name in names(n)}), n),
    ),
    "fields that are moved": (
        1500,
        lambda n, _: reshaped(rename({name: f"x.{name}" for name in names(n)}), n),
    ),
    "fields that are cast": (250, lambda n, _: reshaped(cast(dict.fromkeys(names(n), "string")), n)),
    "fields that are dropped": (5000, lambda n, _: reshaped(drop(names(n)), n)),
    "what is declared of fields that are dropped": (
        1500,
        lambda n, _: declared(
            drop([f"d{name}" for name in names(n)]).before, lambda _: Declared(type="STRING"), n
        ),  # type: ignore[attr-defined]
    ),
    "the columns that a job declares for DuckDB": (
        500,
        lambda n, _: columns(
            DuckDB("a.duckdb", table="t", schema=dict.fromkeys(names(n), "INTEGER")).declared, n
        ),
    ),
    "the columns that a job declares for BigQuery": (
        500,
        lambda n, _: columns(bigquery(n).declared, n),
    ),
}


def bigquery(count: int) -> BigQuery:
    return BigQuery(table="project.data.rows", location="EU", schema=dict.fromkeys(names(count), "INTEGER"))


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


@pytest.mark.parametrize("what", WORK)
def test_the_work_grows_as_the_number_of_names_does(what: str, tmp_path: Path) -> None:
    count, make = WORK[what]
    few, many = make(count, tmp_path), make(TIMES * count, tmp_path)
    least, most = math.inf, math.inf
    for _ in range(ROUNDS):
        least, most = min(least, seconds(few)), min(most, seconds(many))
        if most < MOST * least:
            return
    pytest.fail(f"{count} names took {least:.4f} s, {TIMES * count} took {most:.4f} s")
