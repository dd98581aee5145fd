"""The examples that read files of open data: each runs against small copies of them, in the true form."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import google_crc32c
import pyarrow
import pyarrow.parquet

from tests.web import Answer, Request, WebServer, ranged

ROOT = Path(__file__).parent.parent
ETL = Path(sys.executable).with_name("etl")
MODIFIED = "Mon, 02 Nov 2026 01:07:24 GMT"


def served(example: str, where: str, url: str, directory: Path) -> Path:
    """Copy an example that goes to `url` in place of the real host."""
    text = (ROOT / "examples" / example).read_text()
    assert text.count(where) == 1
    job = directory / example
    job.write_text(text.replace(where, url))
    return job


def run(job: Path, directory: Path) -> str:
    """Run `etl run`, as a user does, and return what it says."""
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    done = subprocess.run([ETL, "run", job], cwd=directory, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def query(database: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def paths(server: WebServer) -> list[str]:
    return list(dict.fromkeys(request.path for request in server.requests))


# GH Archive: objects of Google Cloud Storage, behind its XML interface.


def events(hour: int) -> list[dict[str, Any]]:
    """Events of five types, as the archive has them: payloads of their own, `id` as text, `org` on some."""
    payloads: list[tuple[str, dict[str, Any]]] = [
        (
            "PushEvent",
            {
                "repository_id": 8514,
                "push_id": 28_000_000_001,
                "ref": "refs/heads/main",
                "head": "a" * 40,
                "before": "b" * 40,
            },
        ),
        ("WatchEvent", {"action": "started"}),
        (
            "CreateEvent",
            {
                "ref": None,
                "ref_type": "repository",
                "master_branch": "main",
                "description": "ein Satz – “quoted”",
            },
        ),
        (
            "IssuesEvent",
            {
                "action": "opened",
                "issue": {
                    "id": 3,
                    "number": 7,
                    "title": "a\nb",
                    "labels": [{"name": "bug"}],
                    "assignee": None,
                },
            },
        ),
        (
            "ForkEvent",
            {"forkee": {"id": 99, "full_name": "someone/else", "topics": ["etl"], "license": {"key": "mit"}}},
        ),
    ]
    made = []
    for number in range(40):
        kind, payload = payloads[number % len(payloads)]
        event = {
            "id": str(44_000_000_000 + hour * 1000 + number),
            "type": kind,
            "actor": {
                "id": number % 7,
                "login": f"user{number % 7}",
                "display_login": f"user{number % 7}",
                "gravatar_id": "",
                "url": f"https://api.github.com/users/user{number % 7}",
                "avatar_url": f"https://avatars.githubusercontent.com/u/{number % 7}?",
            },
            "repo": {
                "id": number % 3,
                "name": f"org/repo{number % 3}",
                "url": f"https://api.github.com/repos/org/repo{number % 3}",
            },
            "payload": payload,
            "public": True,
            "created_at": f"2026-11-01T{hour:02}:{number:02}:00Z",
        }
        if number % 2:
            event["org"] = {
                "id": 1,
                "login": "org",
                "gravatar_id": "",
                "url": "https://api.github.com/orgs/org",
            }
        made.append(event)
    return made


def archive(hours: Mapping[str, bytes]) -> WebServer:
    def answer(request: Request) -> Answer:
        content = hours.get(request.path)
        if content is None:
            body = b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>NoSuchKey</Code></Error>"
            return Answer(status=404, headers={"Content-Type": "application/xml; charset=UTF-8"}, body=body)
        md5 = hashlib.md5(content).digest()
        crc = base64.b64encode(google_crc32c.Checksum(content).digest()).decode()
        return ranged(
            request,
            content,
            etag=f'"{md5.hex()}"',
            last_modified=MODIFIED,
            headers={
                "Content-Type": "application/gzip",
                "Cache-Control": "public, max-age=3600",
                "x-goog-generation": "1793582844123456",
                "x-goog-metageneration": "1",
                "x-goog-stored-content-encoding": "identity",
                "x-goog-stored-content-length": str(len(content)),
                "x-goog-storage-class": "STANDARD",
                "x-goog-hash": f"crc32c={crc}, md5={base64.b64encode(md5).decode()}",
                "Server": "UploadServer",
            },
        )

    return WebServer(answer)


def hour_file(hour: int) -> bytes:
    return gzip.compress(
        b"".join(json.dumps(event, ensure_ascii=False).encode() + b"\n" for event in events(hour))
    )


def test_gharchive_takes_the_hours_that_are_there_and_later_those_that_came(tmp_path: Path) -> None:
    hours = {f"/2026-11-01-{hour}.json.gz": hour_file(hour) for hour in (0, 1)}
    with archive(hours) as server:
        job = served("gharchive.toml", "https://data.gharchive.org", server.url, tmp_path)
        run(job, tmp_path)
        assert paths(server) == [f"/2026-11-01-{hour}.json.gz" for hour in (0, 1, 2)]
        database = tmp_path / "demo" / "gharchive.duckdb"
        assert query(database, "SELECT count(*), count(DISTINCT id) FROM events") == [(80, 80)]

        server.requests.clear()
        hours |= {f"/2026-11-01-{hour}.json.gz": hour_file(hour) for hour in (2, 3)}
        run(job, tmp_path)
        # the last one is asked for again: it may be another one by now
        assert paths(server) == [f"/2026-11-01-{hour}.json.gz" for hour in (1, 2, 3, 4)]

    truth = [event for hour in range(4) for event in events(hour)]
    rows = query(
        database,
        "SELECT id, type, actor_id, actor_login, repo_id, repo_name, org_login, created_at::VARCHAR, public, payload "
        "FROM events ORDER BY id",
    )
    assert [(*row[:7], row[8], json.loads(row[9])) for row in rows] == [
        (
            int(event["id"]),
            event["type"],
            event["actor"]["id"],
            event["actor"]["login"],
            event["repo"]["id"],
            event["repo"]["name"],
            event.get("org", {}).get("login"),
            True,
            event["payload"],
        )
        for event in truth
    ]
    columns = dict(
        query(database, "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'events'")
    )
    assert columns["created_at"].startswith("TIMESTAMP")
    assert not {"actor", "repo", "org"} & columns.keys()
    assert query(
        database, "SELECT payload->>'$.action', count(*) FROM events WHERE type = 'IssuesEvent' GROUP BY ALL"
    ) == [("opened", 32)]
    assert (
        query(
            database,
            "SELECT date_trunc('hour', created_at) AS hour, count(*) FROM events GROUP BY ALL ORDER BY hour",
        )[0][1]
        == 40
    )


# The Taxi and Limousine Commission: objects of S3, behind CloudFront.


def month_file(month: int, *, floats: bool = False, fee: str = "Airport_fee", more: bool = False) -> bytes:
    """A month's trips, with the commission's names and types: some months have counts as floats."""
    start = datetime(2024, month, 1)
    size = 300
    count = pyarrow.float64() if floats else pyarrow.int64()
    columns: dict[str, pyarrow.Array] = {
        "VendorID": pyarrow.array([1 + n % 2 for n in range(size)], pyarrow.int32()),
        "tpep_pickup_datetime": pyarrow.array(
            [start + timedelta(minutes=n) for n in range(size)], pyarrow.timestamp("us")
        ),
        "tpep_dropoff_datetime": pyarrow.array(
            [start + timedelta(minutes=n + 12) for n in range(size)], pyarrow.timestamp("us")
        ),
        "passenger_count": pyarrow.array([None if n % 50 == 0 else n % 4 for n in range(size)], count),
        "trip_distance": pyarrow.array([n / 10 for n in range(size)], pyarrow.float64()),
        "RatecodeID": pyarrow.array([None if n % 50 == 0 else 1 for n in range(size)], count),
        "store_and_fwd_flag": pyarrow.array(["N"] * size, pyarrow.large_string()),
        "PULocationID": pyarrow.array([1 + n % 263 for n in range(size)], pyarrow.int32()),
        "DOLocationID": pyarrow.array([1 + n % 265 for n in range(size)], pyarrow.int32()),
        "payment_type": pyarrow.array([n % 5 for n in range(size)], pyarrow.int64()),
        **{
            name: pyarrow.array([value] * size, pyarrow.float64())
            for name, value in {
                "fare_amount": 17.7,
                "extra": 1.0,
                "mta_tax": 0.5,
                "tip_amount": 3.3,
                "tolls_amount": 0.0,
                "improvement_surcharge": 1.0,
                "total_amount": 23.5,
                "congestion_surcharge": 2.5,
                fee: 0.0,
            }.items()
        },
    }
    if more:
        columns["cbd_congestion_fee"] = pyarrow.array([0.75] * size, pyarrow.float64())
    packed = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), packed, row_group_size=128, compression="zstd")
    return packed.getvalue()


def trip_data(months: Mapping[str, bytes]) -> WebServer:
    def answer(request: Request) -> Answer:
        content = months.get(request.path)
        if content is None:
            body = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code></Error>'
            return Answer(
                status=404, headers={"Content-Type": "application/xml", "Server": "AmazonS3"}, body=body
            )
        return ranged(
            request,
            content,
            etag=f'"{hashlib.md5(content).hexdigest()}-4"',
            last_modified=MODIFIED,
            headers={
                "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
                "Server": "AmazonS3",
                "x-amz-server-side-encryption": "AES256",
                "x-amz-version-id": "null",
                "X-Cache": "Hit from cloudfront",
                "Via": "1.1 0123456789abcdef.cloudfront.net (CloudFront)",
                "Age": "4711",
            },
        )

    return WebServer(answer)


def test_nyc_taxi_takes_the_months_that_are_there_and_later_those_that_came(tmp_path: Path) -> None:
    def path(month: int) -> str:
        return f"/trip-data/yellow_tripdata_2024-{month:02}.parquet"

    months = {path(1): month_file(1), path(2): month_file(2, floats=True, fee="airport_fee")}
    with trip_data(months) as server:
        job = served("nyc_taxi.toml", "https://d37ci6vzurychx.cloudfront.net", server.url, tmp_path)
        run(job, tmp_path)
        assert paths(server) == [path(1), path(2), path(3)]
        assert any("range" in request.headers for request in server.requests)
        database = tmp_path / "demo" / "nyc_taxi.duckdb"
        assert query(database, "SELECT count(*) FROM trips") == [(600,)]

        server.requests.clear()
        months[path(3)] = month_file(3, more=True)
        run(job, tmp_path)
        # the last one is asked for again: it may be another one by now
        assert paths(server) == [path(2), path(3), path(4)]

    months_of = "SELECT month(picked_up_at), count(*), sum(total_amount) FROM trips GROUP BY ALL ORDER BY ALL"
    assert [(month, count, float(total)) for month, count, total in query(database, months_of)] == [
        (month, 300, 7050.0) for month in (1, 2, 3)
    ]
    columns = dict(
        query(database, "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'trips'")
    )
    assert "store_and_fwd_flag" not in columns
    assert {
        name: columns[name] for name in ("vendor_id", "picked_up_at", "passenger_count", "total_amount")
    } == {
        "vendor_id": "BIGINT",
        "picked_up_at": "TIMESTAMP",
        "passenger_count": "BIGINT",
        "total_amount": "DECIMAL(9,2)",
    }
    assert query(
        database, "SELECT count(airport_fee), count(cbd_congestion_fee), sum(fare_amount) FROM trips"
    ) == [(900, 300, 15930)]
    assert query(database, "SELECT count(*) FROM trips WHERE passenger_count IS NULL") == [(18,)]
