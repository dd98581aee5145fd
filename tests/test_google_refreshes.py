"""Whole jobs that refresh a table of BigQuery which somebody made: it stays, or nothing is touched."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import pytest

from etl.errors import WarehouseError
from tests.google import GoogleServers
from tests.test_google_runs import ALL, Place

MADE = "number INT64 NOT NULL, day DATE, price NUMERIC, at TIMESTAMP, note STRING OPTIONS (description = 'by hand')"


@pytest.fixture
def place(google_environment: GoogleServers) -> Place:
    place = Place(google_environment, google_environment.new_bucket(), google_environment.new_dataset())
    query(place, f"CREATE TABLE `{place.table}` ({MADE})")
    query(place, f"INSERT INTO `{place.table}` (number, note) VALUES (1000, 'old')")
    return place


def query(place: Place, sql: str) -> None:
    with closing(place.servers.bigquery_client()) as client:
        client.query(sql).result()


def schema(place: Place) -> list[Any]:
    with closing(place.servers.bigquery_client()) as client:
        return [field.to_api_repr() for field in client.get_table(place.table).schema]


def checkpoint(place: Place) -> Any:
    return json.loads((place.servers.gcs.root / place.bucket / "etl/job.json").read_bytes())


def test_a_full_refresh_keeps_the_columns_that_somebody_made(place):
    before = schema(place)
    place.pipeline().run(full_refresh=True)
    assert schema(place)[: len(before)] == before
    assert [field["name"] for field in schema(place)[len(before) :]] == ["text"]
    assert place.numbers() == ALL
    place.pipeline(warehouse={"disposition": "append"}).run()
    assert place.numbers() == ALL


def test_a_job_that_replaces_keeps_them_with_every_run(place):
    before = schema(place)
    for _ in range(2):
        place.pipeline(warehouse={"disposition": "replace"}).run()
        assert (schema(place)[: len(before)], place.numbers()) == (before, ALL)


def test_a_refresh_that_infers_gives_the_table_the_columns_of_the_records(place):
    place.pipeline(warehouse={"schema_on_refresh": "infer"}).run(full_refresh=True)
    assert [field["name"] for field in schema(place)] == ["number", "text"]
    assert place.numbers() == ALL


def test_records_that_lack_a_required_column_are_refused_by_its_name_and_the_table_stays(place):
    query(place, f"CREATE OR REPLACE TABLE `{place.table}` (number INT64, code STRING NOT NULL)")
    query(place, f"INSERT INTO `{place.table}` (number, code) VALUES (1000, 'old')")
    with pytest.raises(Exception, match="code"):
        place.pipeline().run(full_refresh=True)
    assert place.numbers() == [1000]


def test_a_refresh_that_is_refused_leaves_the_job_as_it_was(place):
    place.pipeline().run()
    state = checkpoint(place)["state"]
    policy = "GRANT TO ('user:a@example.com') FILTER USING (number = 1)"
    query(place, f"CREATE ROW ACCESS POLICY few ON `{place.table}` {policy}")
    with pytest.raises(WarehouseError, match="row access polic"):
        place.pipeline().run(full_refresh=True)
    assert (checkpoint(place)["refresh"], checkpoint(place)["state"]) == (None, state)
    query(place, f"DROP ALL ROW ACCESS POLICIES ON `{place.table}`")
    place.pipeline().run()
    assert place.numbers() == [*ALL, 1000]
