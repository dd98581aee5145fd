"""The BigQuery server drops policies where BigQuery does, and refuses what BigQuery refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, Forbidden, GoogleAPICallError

from tests.google import PROJECT, TIMEOUT, GoogleServers

CALLER = "user:local-bigquery@localhost"
KEY = {"primaryKey": {"columns": ["number"]}}


def field(name: str, tag: str = "") -> dict[str, Any]:
    tags = (
        {"policyTags": {"names": [f"projects/p/locations/eu/taxonomies/1/policyTags/{tag}"]}} if tag else {}
    )
    return {"name": name, "type": "INTEGER", "mode": "NULLABLE", **tags}


class Place:
    """A dataset, with a client of its own."""

    def __init__(self, servers: GoogleServers) -> None:
        self.dataset = servers.new_dataset()
        self.client = servers.bigquery_client()
        self.tables = f"/projects/{PROJECT}/datasets/{self.dataset}/tables"

    def ask(self, method: str, path: str = "", **body: Any) -> Any:
        return self.client._connection.api_request(
            method=method, path=self.tables + path, data=body or None, timeout=TIMEOUT
        )

    def make(self, name: str, *fields: dict[str, Any], filter: str = "", **resource: Any) -> None:
        reference = {"projectId": PROJECT, "datasetId": self.dataset, "tableId": name}
        self.ask("POST", tableReference=reference, schema={"fields": list(fields)}, **resource)
        if filter:
            self.ask(
                "POST",
                f"/{name}/rowAccessPolicies",
                rowAccessPolicyReference={**reference, "policyId": "p"},
                filterPredicate=filter,
                grantees=[CALLER],
            )

    def query(self, sql: str, **config: Any) -> list[tuple[Any, ...]]:
        from google.cloud.bigquery import QueryJobConfig

        default = f"{PROJECT}.{self.dataset}"
        job = self.client.query(sql, job_config=QueryJobConfig(default_dataset=default, **config))
        return [tuple(row.values()) for row in job.result(timeout=TIMEOUT)]

    def copy(self, source: str, target: str, write: str) -> None:
        from google.cloud.bigquery import CopyJobConfig

        names = [f"{PROJECT}.{self.dataset}.{name}" for name in (source, target)]
        self.client.copy_table(*names, job_config=CopyJobConfig(write_disposition=write)).result(
            timeout=TIMEOUT
        )

    def policies(self, name: str) -> list[str]:
        found = self.ask("GET", f"/{name}/rowAccessPolicies").get("rowAccessPolicies") or []
        return [policy["filterPredicate"] for policy in found]


@pytest.fixture
def place(google_servers: GoogleServers) -> Iterator[Place]:
    place = Place(google_servers)
    yield place
    place.client.close()


STATEMENTS = [
    "INSERT INTO t (number) VALUES (2)",
    "DELETE FROM t WHERE TRUE",
    "UPDATE t SET number = 3 WHERE TRUE",
    "TRUNCATE TABLE t",
    "MERGE t USING (SELECT 1 AS n) AS s ON t.number = s.n WHEN MATCHED THEN DELETE",
]


@pytest.mark.parametrize("sql", STATEMENTS)
def test_dml_takes_full_access_to_rows_with_policies(place: Place, sql: str) -> None:
    place.make("t", field("number"), filter="number = 1")
    for options in ({}, {"dry_run": True}):
        with pytest.raises(GoogleAPICallError, match="access all rows"):
            place.query(sql, **options)
    assert place.policies("t") == ["number = 1"]


@pytest.mark.parametrize("sql", STATEMENTS)
def test_dml_of_who_has_full_access_keeps_policies_and_all_that_the_table_is(place: Place, sql: str) -> None:
    place.make("t", field("number", "2"), filter="TRUE", tableConstraints=KEY, labels={"a": "b"})
    before = place.ask("GET", "/t")
    place.query(sql)
    after = place.ask("GET", "/t")
    assert place.policies("t") == ["TRUE"]
    for key in ("schema", "tableConstraints", "labels"):
        assert after[key] == before[key]


def test_a_copy_that_truncates_takes_the_schema_and_the_constraints_of_its_source_and_drops_policies(
    place: Place,
) -> None:
    place.make("t", field("number", "2"), field("other"), filter="TRUE", tableConstraints=KEY)
    place.make("new", field("number"))
    place.copy("new", "t", "WRITE_TRUNCATE")
    after = place.ask("GET", "/t")
    assert after["schema"]["fields"] == [field("number")]
    assert "tableConstraints" not in after or not after["tableConstraints"]
    assert place.policies("t") == []


def test_a_copy_brings_the_policies_of_its_source(place: Place) -> None:
    place.make("t", field("number"))
    place.make("new", field("number", "2"), filter="TRUE", tableConstraints=KEY)
    place.copy("new", "t", "WRITE_TRUNCATE")
    after = place.ask("GET", "/t")
    assert after["schema"]["fields"] == [field("number", "2")]
    assert (after["tableConstraints"], place.policies("t")) == (KEY, ["TRUE"])


def test_a_copy_that_appends_keeps_policies(place: Place) -> None:
    place.make("t", field("number", "2"), filter="TRUE", tableConstraints=KEY)
    place.make("new", field("number"))
    place.copy("new", "t", "WRITE_APPEND")
    after = place.ask("GET", "/t")
    assert (after["schema"]["fields"], after["tableConstraints"]) == ([field("number", "2")], KEY)
    assert place.policies("t") == ["TRUE"]


def test_a_copy_job_cannot_truncate_the_data_alone(place: Place) -> None:
    place.make("t", field("number"))
    place.make("new", field("number"))
    with pytest.raises(BadRequest, match="WRITE_TRUNCATE_DATA"):
        place.copy("new", "t", "WRITE_TRUNCATE_DATA")


def test_a_table_is_copied_only_by_who_sees_all_of_it(place: Place) -> None:
    place.make("rows", field("number"), filter="number = 1")
    place.make("columns", field("number", "unreadable"))
    for source in ("rows", "columns"):
        with pytest.raises(Forbidden):
            place.copy(source, "t", "WRITE_TRUNCATE")


@pytest.mark.parametrize(
    ("sql", "reads"),
    [
        ("SELECT * FROM t", True),
        ("SELECT secret FROM t", True),
        ("SELECT number FROM t WHERE secret = 1", True),
        ("INSERT INTO u (number) SELECT secret FROM t", True),
        ("SELECT number FROM t", False),
        ("SELECT COUNT(*) FROM t", False),
        ("INSERT INTO t (number, secret) SELECT 1, 2", False),
        ("TRUNCATE TABLE t", False),
    ],
)
def test_a_column_with_a_policy_tag_is_read_by_its_readers_alone(place: Place, sql: str, reads: bool) -> None:
    place.make("t", field("number"), field("secret", "unreadable"))
    place.make("u", field("number"))
    for options in ({"dry_run": True}, {}):
        if not reads:
            place.query(sql, **options)
            continue
        with pytest.raises(GoogleAPICallError, match=r"policy tag on column .*secret"):
            place.query(sql, **options)


def test_a_table_that_rest_makes_is_partitioned_by_ingestion_time(place: Place) -> None:
    place.make("t", field("number"), timePartitioning={"type": "DAY"})
    place.query("INSERT INTO t (_PARTITIONTIME, number) VALUES (TIMESTAMP '2026-01-02', 1)")
    place.query("INSERT INTO t (number) VALUES (2)")
    assert place.query("SELECT number FROM t WHERE _PARTITIONTIME = TIMESTAMP '2026-01-02'") == [(1,)]
    assert place.ask("GET", "/t")["schema"]["fields"] == [field("number")]


def test_rows_that_were_removed_are_not_counted(place: Place) -> None:
    place.make("t", field("number"))
    place.query("INSERT INTO t (number) VALUES (1), (2), (3)")
    place.query("DELETE FROM t WHERE number > 1")
    assert place.ask("GET", "/t")["numRows"] == "1"
