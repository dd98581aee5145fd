"""The examples that read paged APIs of open data: each runs against small copies of them, in the true form."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb

from tests.web import Answer, Request, WebServer

ROOT = Path(__file__).parent.parent
ETL = Path(sys.executable).with_name("etl")


def copied(example: str, host: str, url: str, directory: Path, *, with_secrets: bool = False) -> Path:
    """Copy an example that goes to `url` in place of the real host; with its commented secrets, if asked for."""
    text = (ROOT / "examples" / example).read_text()
    assert text.count(host) == 1
    text = text.replace(host, url)
    if with_secrets:
        text, found = re.subn(r"# (\[source\.secrets\])\n# (.*)", r"\1\n\2", text)
        assert found == 1
    job = directory / example
    job.write_text(text)
    return job


def run(job: Path, directory: Path, **variables: str) -> str:
    """Run `etl run`, as a user does, and return what it says."""
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    done = subprocess.run(
        [ETL, "run", job],
        cwd=directory,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def query(database: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def stored(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.rglob("demo/*") if path.is_file())


def answer(document: Any, headers: Mapping[str, str]) -> Answer:
    return Answer(headers=headers, body=json.dumps(document).encode())


# Socrata: SODA 2.1.


def collision(number: int, changed: str, **fields: Any) -> dict[str, Any]:
    """Make a row as the dataset has it: numbers are text, a date is a floating timestamp, some boroughs are missing."""
    row = {
        ":id": f"row-{number:04}~a9b8.c7d6-e5f4",
        ":updated_at": changed,
        "collision_id": str(4_690_000 + number),
        "crash_date": f"2024-0{1 + number % 9}-11T00:00:00.000",
        "crash_time": f"{number % 24}:39",
        "borough": ["BROOKLYN", "QUEENS", None][number % 3],
        "on_street_name": "WHITESTONE EXPRESSWAY",
        "latitude": f"40.{667202 + number}",
        "longitude": "-73.8665",
        "number_of_persons_injured": str(number % 3),
        "number_of_persons_killed": "0",
        "contributing_factor_vehicle_1": "Aggressive Driving/Road Rage",
        "vehicle_type_code1": "Sedan",
    }
    return {**row, **fields}


class Socrata:
    """Serves rows as SODA 2.1 does."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __call__(self, request: Request) -> Answer:
        headers = {
            "Content-Type": "application/json;charset=utf-8",
            "X-Socrata-RequestId": "aqe1bgaxzvhitfgrsvy6",
        }
        query = request.query
        if request.path != "/resource/h9gi-nx95.json":
            return Answer(status=404, headers=headers, body=b'{"code": "dataset.missing", "error": true}')
        assert query["$order"] == ":id"
        selected = [name.strip() for name in query["$select"].split(",")]
        where = re.fullmatch(r"crash_date >= '([^']+)' AND :updated_at >= '([^']+)'", query["$where"])
        assert where is not None
        rows = sorted(self.rows, key=lambda row: str(row[":id"]))
        rows = [row for row in rows if row["crash_date"] >= where[1] and row[":updated_at"] >= where[2]]
        begin = int(query["$offset"])
        page = [
            {name: row[name] for name in selected if row.get(name) is not None}
            for row in rows[begin : begin + min(int(query["$limit"]), 50_000)]
        ]
        types = ["fixed_timestamp" if name[0] == ":" else "text" for name in selected]
        return answer(
            page,
            {
                **headers,
                "X-SODA2-Fields": json.dumps(selected),
                "X-SODA2-Types": json.dumps(types),
                "X-SODA2-Data-Out-Of-Date": "false",
                "Last-Modified": "Mon, 23 Nov 2026 10:50:41 GMT",
            },
        )


def test_collisions_are_taken_and_later_those_that_came_or_changed(tmp_path: Path) -> None:
    old = collision(1, "2024-02-01T10:00:00.000Z", crash_date="2023-12-31T00:00:00.000")
    service = Socrata([old, *(collision(n, f"2024-05-01T10:{n % 60:02}:00.000Z") for n in range(2, 6302))])
    with WebServer(service) as server:
        job = copied("socrata.toml", "https://data.cityofnewyork.us", server.url, tmp_path)
        run(job, tmp_path)
        table = tmp_path / "demo/collisions.duckdb"
        assert query(table, "SELECT count(*), count(DISTINCT collision_id) FROM collisions") == [(6300, 6300)]
        assert [request.query["$limit"] for request in server.requests] == ["5000"] * 3
        columns = (
            "crash_date, crash_time, borough, on_street_name, latitude, longitude, number_of_persons_injured, "
            "number_of_persons_killed, factor"
        )
        [row] = query(table, f"SELECT {columns} FROM collisions WHERE collision_id = 4690004")
        assert row == (
            datetime(2024, 5, 11),
            "4:39",
            "QUEENS",
            "WHITESTONE EXPRESSWAY",
            40.667206,
            -73.8665,
            1,
            0,
            "Aggressive Driving/Road Rage",
        )
        assert query(table, "SELECT count(*) FROM collisions WHERE borough IS NULL") == [(2100,)]
        injured = query(table, "SELECT sum(number_of_persons_injured) FROM collisions")
        assert injured == [(sum(n % 3 for n in range(2, 6302)),)]

        service.rows[5] = collision(6, "2024-05-02T09:00:00.000Z", number_of_persons_killed="1")
        service.rows += [collision(7000, "2024-05-02T09:30:00.000Z")]
        run(job, tmp_path)
        assert "2024-05-01T09:59:00.000Z" in server.requests[-1].query["$where"]
        assert query(table, "SELECT count(*), count(DISTINCT collision_id) FROM collisions") == [(6301, 6301)]
        assert query(table, "SELECT collision_id FROM collisions WHERE number_of_persons_killed = 1") == [
            (4690006,)
        ]


def test_the_app_token_is_a_header_and_stored_nowhere(tmp_path: Path) -> None:
    with WebServer(Socrata([collision(1, "2024-05-01T10:00:00.000Z")])) as server:
        host = "https://data.cityofnewyork.us"
        job = copied("socrata.toml", host, server.url, tmp_path, with_secrets=True)
        said = run(job, tmp_path, SOCRATA_APP_TOKEN="t0ken-0123456789")
        assert {request.headers["x-app-token"] for request in server.requests} == {"t0ken-0123456789"}
        assert b"t0ken" not in stored(tmp_path)
        assert "t0ken" not in said


# OpenAlex.


def work(number: int, citations: int = 0) -> dict[str, Any]:
    return {
        "id": f"https://openalex.org/W{4_390_000_000 + number}",
        "doi": f"https://doi.org/10.1000/{number}" if number % 4 else None,
        "title": f"On the {number}th é",
        "display_name": f"On the {number}th é",
        "publication_date": "2024-03-01",
        "publication_year": 2024,
        "type": "article",
        "language": "en",
        "cited_by_count": citations + number % 7,
        "open_access": {
            "is_oa": number % 2 == 0,
            "oa_status": "gold" if number % 2 == 0 else "closed",
            "oa_url": None,
            "any_repository_has_fulltext": False,
        },
        "authorships": [{"author_position": "first", "author": {"id": "https://openalex.org/A1"}}],
    }


def openalex(works: list[dict[str, Any]], request: Request) -> Answer:
    """Serve works by cursor: 25 a page unless asked for others, 100 at most; the last page has none, and no cursor."""
    headers = {
        "Content-Type": "application/json",
        "X-RateLimit-Limit": "100000",
        "X-RateLimit-Remaining": "99000",
        "Cache-Control": "no-cache",
    }
    query = request.query
    if request.path != "/works" or "publication_year:2024" not in query["filter"]:
        return Answer(status=404, headers=headers, body=b'{"error": "Not Found"}')
    size = min(int(query.get("per_page", 25)), 100)
    begin = 0 if query["cursor"] == "*" else json.loads(base64.b64decode(query["cursor"]))[0]
    page = works[begin : begin + size]
    cursor = base64.b64encode(json.dumps([begin + len(page), "W"]).encode()).decode() if page else None
    fields = query["select"].split(",")
    meta = {
        "count": len(works),
        "db_response_time_ms": 28,
        "page": None,
        "per_page": size,
        "next_cursor": cursor,
        "groups_count": None,
        "cost_usd": 0.0001,
    }
    results = [{field: one[field] for field in fields} for one in page]
    return answer({"meta": meta, "results": results, "group_by": []}, headers)


def test_works_are_taken_and_each_run_replaces_them(tmp_path: Path) -> None:
    works = [work(number) for number in range(430)]
    with WebServer(lambda request: openalex(works, request)) as server:
        job = copied("openalex.toml", "https://api.openalex.org", server.url, tmp_path)
        run(job, tmp_path)
        table = tmp_path / "demo/openalex.duckdb"
        assert query(table, "SELECT count(*), count(DISTINCT id), count(doi) FROM works") == [(430, 430, 322)]
        columns = "title, publication_date, type, language, cited_by_count, is_open, open_status"
        assert query(table, f"SELECT {columns} FROM works WHERE id LIKE '%W4390000001'") == [
            ("On the 1th é", date(2024, 3, 1), "article", "en", 1, False, "closed")
        ]
        assert {request.query["mailto"] for request in server.requests} == {"you@example.org"}
        works[:] = [work(number, 10) for number in range(435)]
        run(job, tmp_path)
        expected = [(435, sum(10 + n % 7 for n in range(435)))]
        assert query(table, "SELECT count(*), sum(cited_by_count) FROM works") == expected


def test_the_key_is_sent_with_each_page_and_stored_nowhere(tmp_path: Path) -> None:
    works = [work(number) for number in range(120)]
    with WebServer(lambda request: openalex(works, request)) as server:
        host = "https://api.openalex.org"
        job = copied("openalex.toml", host, server.url, tmp_path, with_secrets=True)
        said = run(job, tmp_path, OPENALEX_API_KEY="k3y-0123456789")
        assert [request.query["api_key"] for request in server.requests] == ["k3y-0123456789"] * 3
        assert b"k3y-" not in stored(tmp_path)
        assert "k3y-" not in said
