"""The data and the jobs of the main benchmark, each a process of its own.

python -m benchmarks.events make COUNT FILE         write nested events, NDJSON gzip
python -m benchmarks.events native FILE DIRECTORY   DuckDB reads the file by itself, filters and flattens
python -m benchmarks.events pipeline FILE DIRECTORY the same through a generator, reused_file and DuckDB
python -m benchmarks.events loop FILE DIRECTORY     the same steps as a bare serial loop
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import orjson
from isal import igzip

import etl

KINDS = ["PushEvent", "WatchEvent", "IssuesEvent", "PullRequestEvent"]

NATIVE = """
    CREATE TABLE events AS
    SELECT id, type, actor.id AS actor_id, actor.login AS login, repo.name AS repo, payload.size AS size,
        len(payload.commits) AS commits, payload.commits[1].sha AS first_sha, created_at
    FROM read_json(?, format = 'newline_delimited') WHERE type <> 'WatchEvent'
"""


def events(count: int) -> Iterator[dict[str, Any]]:
    """Yield events in the form of GH Archive's, the same ones each time."""
    chance = random.Random(1)
    for number in range(count):
        user, repo = chance.randrange(10**6), chance.randrange(10**5)
        yield {
            "id": number,
            "type": chance.choice(KINDS),
            "actor": {"id": user, "login": f"user{user}", "url": f"https://api.github.com/users/user{user}"},
            "repo": {"id": repo, "name": f"organisation{repo % 1000}/repository{repo}"},
            "payload": {
                "size": chance.randrange(20),
                "ref": "refs/heads/main",
                "commits": [
                    {"sha": f"{chance.getrandbits(160):040x}", "message": f"fix thing {number}"}
                    for _ in range(chance.randrange(3))
                ],
            },
            "public": True,
            "created_at": f"2024-01-{1 + number % 28:02}T{number % 24:02}:{number % 60:02}:00Z",
        }


def make(count: int, path: Path) -> None:
    """Write the events to `path`."""
    with igzip.open(path, "wb", compresslevel=1) as file:
        batch = bytearray()
        for event in events(count):
            batch += orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)
            if len(batch) > 1 << 20:
                file.write(batch)
                batch.clear()
        file.write(batch)


def flatten(records: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Leave out what is only watched, and keep nine columns of the rest."""
    for record in records:
        if record["type"] == "WatchEvent":
            continue
        actor, payload = record["actor"], record["payload"]
        commits = payload["commits"]
        yield {
            "id": record["id"],
            "type": record["type"],
            "actor_id": actor["id"],
            "login": actor["login"],
            "repo": record["repo"]["name"],
            "size": payload["size"],
            "commits": len(commits),
            "first_sha": commits[0]["sha"] if commits else None,
            "created_at": record["created_at"],
        }


def native(path: Path, directory: Path) -> None:
    """Let DuckDB do it alone, with all processors and as much memory as it wants."""
    with duckdb.connect(str(directory / "events.duckdb")) as warehouse:
        warehouse.execute(NATIVE, [str(path)])


def pipeline(path: Path, directory: Path) -> None:
    """Run the job, with a budget as in a container of 256 MiB."""
    etl.Pipeline(
        "events",
        source=etl.sources.Files(str(path)),
        transforms=[flatten],
        sink={"type": "reused_file", "path": str(directory / "events.ndjson")},
        warehouse={"type": "duckdb", "path": str(directory / "events.duckdb"), "table": "events"},
        checkpoint=directory / "events.checkpoint.json",
        memory=256 << 20,
    ).run()


def loop(path: Path, directory: Path) -> None:
    """Do the same steps by hand, one after the other, without checkpoint or crash safety."""
    warehouse = duckdb.connect(
        str(directory / "events.duckdb"), config={"threads": 1, "memory_limit": "64MB"}
    )
    part = directory / "part.ndjson"
    columns = (
        "{id: 'BIGINT', type: 'VARCHAR', actor_id: 'BIGINT', login: 'VARCHAR', repo: 'VARCHAR', size: 'BIGINT', "
        "commits: 'BIGINT', first_sha: 'VARCHAR', created_at: 'TIMESTAMPTZ'}"
    )
    read = f"SELECT * FROM read_json('{part}', format = 'newline_delimited', columns = {columns})"  # our own path
    created = False

    def load(batch: bytearray) -> None:
        nonlocal created
        part.write_bytes(batch)
        warehouse.execute(f"INSERT INTO events {read}" if created else f"CREATE TABLE events AS {read}")
        created = True
        batch.clear()

    batch = bytearray()
    with igzip.open(path, "rb") as file:
        for record in flatten(orjson.loads(line) for line in file):
            batch += orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
            if len(batch) >= 4 << 20:
                load(batch)
    load(batch)
    part.unlink()
    warehouse.close()


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "make":
        make(int(arguments[0]), Path(arguments[1]))
    else:
        {"native": native, "pipeline": pipeline, "loop": loop}[command](
            Path(arguments[0]), Path(arguments[1])
        )
