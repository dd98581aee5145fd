"""Jobs that replace and merge, run by the tests in processes of their own, and the truth to compare with."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import etl
from tests import forks
from tests.jobs import WAREHOUSE, lines

RECORDS = 180
KEYS = 70
TABLE = "numbers"
WAREHOUSES: dict[str, dict[str, Any]] = {
    "replace": {"disposition": "replace"},
    "full refresh": {"disposition": "append"},
    "merge": {"disposition": "merge", "key": ["number"], "updated_at": "changed"},
    "merge refreshed": {"disposition": "merge", "key": ["number"], "updated_at": "changed"},
}
# Those of which no reader may see anything between the old content and the new one.
IN_ONE_STEP = ("replace", "full refresh", "merge refreshed")
# Those that are refreshed because somebody said so, in the command of that run.
ASKED_FOR = ("full refresh", "merge refreshed")

# The table of these was made by somebody, with another one that refers to it.
MADE = ("full refresh",)
TABLES = f"""
CREATE TABLE {TABLE} (number INTEGER NOT NULL, changed BIGINT CHECK (changed > 0), place SMALLINT PRIMARY KEY,
    text VARCHAR COLLATE nocase DEFAULT 'none', note VARCHAR DEFAULT 'mine');
CREATE INDEX by_number ON {TABLE} (number);
COMMENT ON TABLE {TABLE} IS 'of somebody';
CREATE TABLE others (place SMALLINT REFERENCES {TABLE} (place));
"""

Row = tuple[int, int, int]


class Versions:
    """A source whose content changes from version to version; its identity does not.

    Args:
        version: of the content.
        grows: whether a version only adds to the one before, rather than being other records.
    """

    identity = "versions"

    def __init__(self, version: int, *, grows: bool) -> None:
        self.versions = range(1, version + 1) if grows else [version]

    def pull(self, cursor: int | None = None) -> Any:
        """Yield records with a mark after every 30; those of one key are not in the order of their changes."""
        for place in range(cursor or 0, RECORDS * len(self.versions)):
            if place % 30 == 0:
                yield etl.Mark(place)
            yield record(place % RECORDS, self.versions[place // RECORDS])


def record(number: int, version: int) -> dict[str, Any]:
    """Return a record of a version of the source."""
    changed = version * 1000 + (number * 37) % 100
    return {
        "number": number * 11 % KEYS + version,
        "changed": changed,
        "place": number,
        "text": "x" * 100,
    }


def transform(records: Any) -> Any:
    """Reject every 20th record."""
    for each in records:
        yield etl.Reject(each, "a seven") if each["place"] % 20 == 7 else each


def pipeline(directory: Path, way: str, version: int) -> etl.Pipeline:
    """Define the job on the files in `directory`."""
    return etl.Pipeline(
        "job",
        source=Versions(version, grows=way == "merge"),
        transforms=[transform],
        sink={"type": "reused_file", "path": str(directory / "out/job.ndjson")},
        warehouse={"type": "duckdb", "path": str(directory / WAREHOUSE), "table": TABLE, **WAREHOUSES[way]},
        checkpoint=directory / "job.checkpoint.json",
        part_bytes=8 * 1024,
    )


def run(directory: Path, way: str, version: int, *, first: bool = False) -> None:
    """Run the job here; `first`: the table is only to be filled."""
    refresh = not first and way in ASKED_FOR
    if first and way in MADE:
        execute(directory, TABLES)
    pipeline(directory, way, version).run(full_refresh=refresh)
    if first and way in MADE:
        execute(directory, "INSERT INTO others VALUES (3)")


def go_on(directory: Path, way: str, version: int) -> None:
    """Run the job here after one that was killed, as whoever starts it again would."""
    pipeline(directory, way, version).run()


def start(
    directory: Path, way: str, version: int, *, under: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the job in a process of its own, `under` strace."""
    return forks.run(run, directory, way, version, under=under)


def expected(way: str, *versions: int) -> list[Row]:
    """Return the rows that the table must hold after these versions were loaded into it, one after the other."""
    rows: list[Row] = []
    for version in versions:
        kept = [record(number, version) for number in range(RECORDS) if number % 20 != 7]
        rows += [(each["number"], each["changed"], each["place"]) for each in kept]
    if way.startswith("merge"):
        merged: dict[int, Row] = {}
        for row in rows:
            if row[0] not in merged or row[1] >= merged[row[0]][1]:
                merged[row[0]] = row
        rows = list(merged.values())
    return sorted(rows)


def found(directory: Path) -> list[Row]:
    """Return the rows that the table holds."""
    import duckdb

    with duckdb.connect(str(directory / WAREHOUSE), read_only=True) as warehouse:
        return sorted(warehouse.execute(f"SELECT number, changed, place FROM {TABLE}").fetchall())


def execute(directory: Path, statements: str) -> None:
    """Do something with the database beside the job."""
    import duckdb

    with duckdb.connect(str(directory / WAREHOUSE)) as warehouse:
        warehouse.execute(statements)


def form(directory: Path) -> list[tuple[Any, ...]]:
    """Return how the tables and indexes were made, but for those of the library."""
    import duckdb

    with duckdb.connect(str(directory / WAREHOUSE), read_only=True) as warehouse:
        return warehouse.execute(
            "SELECT sql, comment FROM duckdb_tables() WHERE NOT starts_with(table_name, '_etl_') "
            "UNION ALL SELECT sql, comment FROM duckdb_indexes() ORDER BY ALL"
        ).fetchall()


def tables(directory: Path) -> set[str]:
    """Return the names of all tables of the database."""
    import duckdb

    with duckdb.connect(str(directory / WAREHOUSE), read_only=True) as warehouse:
        return {name for (name,) in warehouse.execute("SELECT table_name FROM duckdb_tables()").fetchall()}


def letters(directory: Path, version: int) -> list[int]:
    """Return the places of the records of a version that stand in the dead letters."""
    return sorted(
        letter["record"]["place"]
        for letter in lines(list(directory.glob("job-rejects-*.ndjson")))
        if letter["record"]["changed"] // 1000 == version
    )
