"""A refresh keeps the table: what BigQuery says of it is the same before and after, and the rows are the new ones."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from etl.columns import Column
from etl.errors import WarehouseError
from etl.testing.fault_proxy import Answer
from etl.warehouses.base import Job
from etl.warehouses.bigquery import BigQuery
from etl.warehouses.bigquery.refresh import new_name
from tests.google import PROJECT, TIMEOUT, GoogleServers
from tests.warehouses.bigquery_loader import Loader

TAG = {"names": ["projects/p/locations/eu/taxonomies/1/policyTags/2"]}
UNREADABLE = {"names": ["projects/p/locations/eu/taxonomies/1/policyTags/unreadable"]}
CALLER = "user:local-bigquery@localhost"

# A column of each kind, with all that a schema can say of it (REST reference, TableFieldSchema).
FIELDS: list[dict[str, Any]] = [
    {"name": "number", "type": "INTEGER", "mode": "REQUIRED", "description": "which one"},
    {"name": "day", "type": "DATE", "mode": "NULLABLE", "policyTags": TAG},
    {
        "name": "price",
        "type": "NUMERIC",
        "mode": "NULLABLE",
        "precision": "10",
        "scale": "2",
        "roundingMode": "ROUND_HALF_EVEN",
        "defaultValueExpression": "1.5",
    },
    {"name": "big", "type": "BIGNUMERIC", "mode": "NULLABLE"},
    {"name": "at", "type": "TIMESTAMP", "mode": "NULLABLE", "defaultValueExpression": "CURRENT_TIMESTAMP()"},
    {"name": "note", "type": "STRING", "mode": "NULLABLE", "collation": "und:ci", "maxLength": "50"},
    {"name": "secret", "type": "STRING", "mode": "NULLABLE", "policyTags": TAG, "description": "for few"},
    {
        "name": "parts",
        "type": "RECORD",
        "mode": "REPEATED",
        "description": "nested",
        "fields": [
            {"name": "x", "type": "INTEGER", "mode": "REQUIRED"},
            {"name": "y", "type": "STRING", "mode": "NULLABLE", "policyTags": TAG, "description": "yy"},
        ],
    },
    {"name": "words", "type": "STRING", "mode": "REPEATED"},
    {"name": "doc", "type": "JSON", "mode": "NULLABLE"},
    {"name": "raw", "type": "BYTES", "mode": "NULLABLE", "maxLength": "9"},
    {"name": "clock", "type": "TIME", "mode": "NULLABLE"},
    {"name": "local", "type": "DATETIME", "mode": "NULLABLE"},
    {"name": "ratio", "type": "FLOAT", "mode": "NULLABLE"},
    {"name": "yes", "type": "BOOLEAN", "mode": "NULLABLE"},
]

# All that the resource of a table can say (REST reference, Table), but for what cannot go together.
TABLE: dict[str, Any] = {
    "description": "made by somebody",
    "friendlyName": "T",
    "labels": {"team": "prices"},
    "expirationTime": str(int((time.time() + 90 * 86400) * 1000)),
    "defaultCollation": "und:ci",
    "defaultRoundingMode": "ROUND_HALF_EVEN",
    "resourceTags": {"123/environment": "production"},
    "encryptionConfiguration": {"kmsKeyName": "projects/p/locations/eu/keyRings/r/cryptoKeys/k"},
    "timePartitioning": {"type": "MONTH", "field": "day", "expirationMs": "9999999999999"},
    "clustering": {"fields": ["number", "note"]},
    "tableConstraints": {"primaryKey": {"columns": ["number"]}},
    "maxStaleness": "0-0 0 0:15:0",
}

ALL_ROWS = {"policyId": "the job", "filterPredicate": "TRUE", "grantees": [CALLER]}
SOME_ROWS = {"policyId": "few", "filterPredicate": "number = 1", "grantees": ["user:a@example.com"]}

RECORDS = [{"number": 1, "day": "2026-01-02", "price": "1.25", "parts": [{"x": 1, "y": "a"}]}, {"number": 2}]


class Made:
    """A table that somebody made, and a job that refreshes it."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader
        self.job = msgspec.structs.replace(loader.job, columns=None, life="f00d", refresh="1-a1")
        self.tables = f"/projects/{PROJECT}/datasets/{loader.dataset}/tables"

    def ask(self, method: str, path: str = "", **body: Any) -> Any:
        connection = self.loader.client._connection
        return connection.api_request(
            method=method, path=self.tables + path, data=body or None, timeout=TIMEOUT
        )

    def make(self, *policies: dict[str, Any], fields: list[dict[str, Any]] = FIELDS, **resource: Any) -> None:
        """Make the table, with two rows, which `policies` protect."""
        reference = {"projectId": PROJECT, "datasetId": self.loader.dataset, "tableId": "t"}
        self.ask("POST", tableReference=reference, schema={"fields": fields}, **resource)
        self.loader.client.query(
            f"INSERT INTO `{self.loader.table}` ({fields[0]['name']}) VALUES (7), (8)"
        ).result(timeout=TIMEOUT)
        for policy in policies:
            self.ask(
                "POST",
                "/t/rowAccessPolicies",
                rowAccessPolicyReference={**reference, "policyId": policy["policyId"]},
                filterPredicate=policy["filterPredicate"],
                grantees=policy["grantees"],
            )

    def resource(self, name: str = "t") -> dict[str, Any]:
        """Return what BigQuery says of the table, but for what the rows are, and when."""
        found: dict[str, Any] = self.ask("GET", f"/{name}")
        volatile = ("etag", "lastModifiedTime")
        # The marks of jobs that load into the table are theirs.
        labels = {
            key: value for key, value in found.get("labels", {}).items() if not key.startswith("etl_job_")
        }
        labels.pop("etl_marked", None)
        found.pop("labels", None)
        found |= {"labels": labels} if labels else {}
        return {
            **{
                key: value
                for key, value in found.items()
                if key not in volatile and not key.startswith("num")
            },
            "rowAccessPolicies": self.policies(name),
        }

    def policies(self, name: str = "t") -> list[dict[str, Any]]:
        return list(self.ask("GET", f"/{name}/rowAccessPolicies").get("rowAccessPolicies") or [])

    def refresh(self, warehouse: BigQuery, records: list[dict[str, Any]], job: Job | None = None) -> Job:
        """Refresh the table as a pipeline does, by one part; return the job as it is at the end."""
        job = job or self.job
        warehouse.check_refresh(msgspec.structs.replace(job, refresh=""))
        warehouse.begin_refresh(job)
        gate = warehouse.gate(job, "ndjson")
        admitted = [gate.admit(record) for record in records]
        job = msgspec.structs.replace(job, columns=gate.columns)
        plan = self.loader.plan(self.loader.part(admitted), columns=gate.columns)
        warehouse.load(job, plan)
        warehouse.finish_refresh(job)
        return job

    def new(self, job: Job | None = None) -> str:
        return new_name(self.loader.warehouse._options, job or self.job)


@pytest.fixture
def made(google_environment: GoogleServers, tmp_path: Path) -> Iterator[Made]:
    loader = Loader(google_environment, tmp_path)
    yield Made(loader)
    loader.close()


def test_all_that_bigquery_says_of_a_table_is_the_same_after_a_refresh(made: Made) -> None:
    made.make(ALL_ROWS, SOME_ROWS, **TABLE)
    before = made.resource()
    assert {**TABLE, "schema": {"fields": FIELDS}}.items() <= before.items()
    made.refresh(made.loader.warehouse, RECORDS)
    assert made.resource() == before
    rows = made.loader.fetch("number, CAST(day AS STRING), price, COALESCE(ARRAY_LENGTH(parts), 0)")
    assert rows == [(1, "2026-01-02", Decimal("1.25"), 1), (2, None, None, 0)]


def test_the_new_table_has_the_columns_and_the_protection_of_the_old_one_from_the_beginning(
    made: Made,
) -> None:
    made.make(ALL_ROWS, SOME_ROWS, **TABLE)
    made.loader.warehouse.begin_refresh(made.job)
    new = made.resource(made.new())
    assert new["schema"] == {"fields": FIELDS}
    for key in ("timePartitioning", "clustering", "encryptionConfiguration", "defaultCollation"):
        assert new[key] == TABLE[key]
    assert [(each["filterPredicate"], each["grantees"]) for each in new["rowAccessPolicies"]] == [
        ("TRUE", [CALLER])
    ]
    assert new["labels"]["etl_refresh"] == made.job.refresh


def test_records_are_judged_by_the_columns_of_the_table(made: Made) -> None:
    made.make(**TABLE)
    made.loader.warehouse.begin_refresh(made.job)
    gate = made.loader.warehouse.gate(made.job, "ndjson")
    for record, wrong in [
        ({"number": 1, "day": "yesterday"}, "day"),
        ({"number": 1, "price": "1.255"}, "price"),
        ({"day": "2026-01-02"}, "number"),
        ({"number": 1, "note": "n" * 51}, "note"),
    ]:
        with pytest.raises(Exception, match=wrong):
            gate.admit(record)


def test_a_column_that_is_new_is_added_and_one_that_the_data_has_no_more_stays(made: Made) -> None:
    made.make(**TABLE)
    before = made.resource()
    made.refresh(made.loader.warehouse, [{"number": 5, "color": "red"}])
    after = made.resource()
    fields = after.pop("schema")["fields"]
    assert fields[: len(FIELDS)] == before.pop("schema")["fields"]
    assert [field["name"] for field in fields[len(FIELDS) :]] == ["color"]
    assert after == before
    assert made.loader.fetch("number, color, note") == [(5, "red", None)]


def test_a_merge_adds_columns_and_leaves_the_others_as_they_are(made: Made) -> None:
    made.make(**TABLE)
    warehouse = made.loader.open(disposition="merge", key=["number"])
    job = msgspec.structs.replace(made.job, refresh="")
    gate = warehouse.gate(job, "ndjson")
    admitted = [gate.admit({"number": 7, "color": "red"})]
    job = msgspec.structs.replace(job, columns=gate.columns)
    warehouse.load(job, made.loader.plan(made.loader.part(admitted), columns=gate.columns))
    assert made.resource()["schema"]["fields"][: len(FIELDS)] == FIELDS


@pytest.mark.parametrize(
    "partitions",
    [
        {"requirePartitionFilter": True, "timePartitioning": {"type": "DAY", "field": "day"}},
        {"requirePartitionFilter": True, "timePartitioning": {"type": "DAY"}},
        {"rangePartitioning": {"field": "number", "range": {"start": "0", "end": "9", "interval": "1"}}},
    ],
    ids=["days", "ingestion", "range"],
)
def test_a_table_with_partitions_is_refreshed_also_where_it_asks_for_a_filter(
    made: Made, partitions: dict[str, Any]
) -> None:
    made.make(**partitions)
    before = made.resource()
    made.refresh(made.loader.warehouse, RECORDS)
    assert made.resource() == before
    assert made.loader.client.get_table(made.loader.table).num_rows == 2


def test_rows_stay_in_the_partitions_that_they_were_loaded_into(made: Made) -> None:
    made.make(fields=FIELDS[:1], timePartitioning={"type": "DAY"})
    made.loader.warehouse.begin_refresh(made.job)
    column = (Column(name="number", type="INTEGER", mode="REQUIRED"),)
    job = msgspec.structs.replace(made.job, columns=column)
    made.loader.warehouse.load(job, made.loader.plan(made.loader.part([{"number": 1}]), columns=column))
    new = f"`{made.loader.dataset}.{made.new()}`"
    made.loader.client.query(f"UPDATE {new} SET _PARTITIONTIME = TIMESTAMP '2026-01-02' WHERE TRUE").result()
    made.loader.warehouse.finish_refresh(job)
    assert made.loader.fetch("number, STRING(_PARTITIONTIME)") == [(1, "2026-01-02 00:00:00+00")]


def test_an_empty_refresh_keeps_the_table_too(made: Made) -> None:
    made.make(ALL_ROWS, **TABLE)
    before = made.resource()
    made.loader.warehouse.begin_refresh(made.job)
    made.loader.warehouse.finish_refresh(made.job)
    assert made.resource() == before
    assert made.loader.count() == 0


def test_of_an_account_that_does_not_see_all_rows_of_the_new_table_nothing_is_exchanged(made: Made) -> None:
    made.make(**TABLE)
    made.loader.warehouse.begin_refresh(made.job)
    gate = made.loader.warehouse.gate(made.job, "ndjson")
    plan = made.loader.plan(made.loader.part([gate.admit({"number": 1})]), columns=gate.columns)
    job = msgspec.structs.replace(made.job, columns=gate.columns)
    made.loader.warehouse.load(job, plan)
    reference = {"projectId": PROJECT, "datasetId": made.loader.dataset, "tableId": made.new()}
    made.ask(
        "POST",
        f"/{made.new()}/rowAccessPolicies",
        rowAccessPolicyReference={**reference, "policyId": "others"},
        filterPredicate="TRUE",
        grantees=["user:another@example.com"],
    )
    with pytest.raises(WarehouseError, match="cannot see all rows"):
        made.loader.warehouse.finish_refresh(job)
    assert made.loader.fetch("number") == [(7,), (8,)]


REFUSED: dict[str, tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]], list[str]]] = {
    "rows that it cannot see": ({}, FIELDS, [SOME_ROWS], ["row access policy", "FILTER USING (TRUE)"]),
    "columns that it cannot read": (
        {},
        [FIELDS[0], {"name": "secret", "type": "STRING", "policyTags": UNREADABLE}],
        [],
        ["policy tag", "secret", "Fine-Grained Reader"],
    ),
    "columns of a type that no load fills": (
        {},
        [FIELDS[0], {"name": "span", "type": "RANGE", "rangeElementType": {"type": "DATE"}}],
        [],
        ["span", "RANGE"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_kept_is_refused_before_anything_is_pulled(made: Made, case: str) -> None:
    resource, fields, policies, words = REFUSED[case]
    made.make(*policies, fields=fields, **resource)
    before = made.resource()
    for step in (made.loader.warehouse.check_refresh, made.loader.warehouse.begin_refresh):
        with pytest.raises(WarehouseError) as told:
            step(made.job)
        assert all(word in str(told.value) for word in words), told.value
    assert made.resource() == before


def test_what_a_job_declares_otherwise_is_refused_before_anything_is_pulled(made: Made) -> None:
    made.make(fields=FIELDS[:1])
    warehouse = made.loader.open(schema={"number": "STRING"})
    with pytest.raises(WarehouseError, match=r'number: .* STRING.* set schema_on_refresh = "infer"'):
        warehouse.check_refresh(made.job)
    made.loader.open(schema={"number": "STRING"}, schema_on_refresh="infer").check_refresh(made.job)


@pytest.mark.parametrize("schema_on_refresh", ["keep", "infer"])
@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("CREATE VIEW `{t}` AS SELECT 1 AS number", "a view"),
        ("CREATE MATERIALIZED VIEW `{t}` AS SELECT number FROM `{t}_base`", "a materialized view"),
        ("CREATE SNAPSHOT TABLE `{t}` CLONE `{t}_base`", "a snapshot"),
    ],
)
def test_what_is_no_table_is_refused_by_its_kind(
    made: Made, sql: str, kind: str, schema_on_refresh: str
) -> None:
    made.loader.client.query(f"CREATE TABLE `{made.loader.table}_base` (number INT64)").result()
    made.loader.client.query(sql.format(t=made.loader.table)).result()
    warehouse = made.loader.open(schema_on_refresh=schema_on_refresh)
    with pytest.raises(WarehouseError, match=f"is {kind} and cannot be refreshed; nothing was pulled"):
        warehouse.check_refresh(made.job)


@pytest.mark.parametrize(
    ("policies", "fields", "named"),
    [
        ([ALL_ROWS], FIELDS[:1], "the row access policy the job"),
        ([], FIELDS[:2], "policy tags of column day"),
        ([], [*FIELDS[:1], FIELDS[7]], "policy tags of column parts.y"),
    ],
)
def test_a_new_schema_never_drops_policies_in_silence(
    made: Made, policies: list[dict[str, Any]], fields: list[dict[str, Any]], named: str
) -> None:
    made.make(*policies, fields=fields)
    before = made.resource()
    warehouse = made.loader.open(schema_on_refresh="infer")
    for step in (warehouse.check_refresh, warehouse.begin_refresh):
        with pytest.raises(WarehouseError, match=named):
            step(made.job)
    assert made.resource() == before


def test_policies_that_come_while_a_new_schema_is_filled_are_not_dropped_either(made: Made) -> None:
    made.make(fields=FIELDS[:1])
    warehouse = made.loader.open(schema_on_refresh="infer")
    warehouse.begin_refresh(made.job)
    column = (Column(name="number", type="INTEGER"),)
    job = msgspec.structs.replace(made.job, columns=column)
    warehouse.load(job, made.loader.plan(made.loader.part([{"number": 1}]), columns=column))
    made.ask("PATCH", "/t", schema={"fields": [{**FIELDS[0], "policyTags": TAG}]})
    with pytest.raises(WarehouseError, match="policy tags of column number"):
        warehouse.finish_refresh(job)
    assert made.loader.fetch("number") == [(7,), (8,)]


def test_policies_that_the_account_must_not_see_are_not_dropped(made: Made) -> None:
    made.make(fields=FIELDS[:1])
    with made.loader.proxy(schema_on_refresh="infer") as (proxy, warehouse):
        proxy.at(1, Answer(403), of=lambda head: head.path.split("?")[0].endswith("/rowAccessPolicies"))
        with pytest.raises(WarehouseError, match=r"cannot be seen.*bigquery\.rowAccessPolicies\.list"):
            warehouse.check_refresh(made.job)
        proxy.at(1, Answer(403), of=lambda head: head.path.split("?")[0].endswith("/rowAccessPolicies"))
        keeping = made.loader.open(url=proxy.url)
        keeping.begin_refresh(made.job)  # keeps them unseen


def test_the_options_are_told_apart(made: Made) -> None:
    options: dict[str, Any] = {"table": "project.d.t", "location": "EU"}
    with pytest.raises(ValueError, match="schema_on_refresh is 'guess'; there are: keep, infer"):
        BigQuery(**options, schema_on_refresh="guess")
    inferring = BigQuery(**options, schema_on_refresh="infer")
    assert inferring.destination == BigQuery(**options).destination
    assert not inferring.__reduce__()[0]()._options.keeps


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_broken_off_at_any_request_the_table_is_the_same_and_the_rows_are_old_or_new(
    made: Made, when: Any
) -> None:
    """As the process sees it: a request is refused for good, and it goes no further; another one goes on."""
    made.make(ALL_ROWS, SOME_ROWS, **TABLE)
    before = made.resource()
    rows = [(7,), (8,)]
    for nth in itertools.count(1):
        job = msgspec.structs.replace(made.job, refresh=f"{nth}-a")
        records = [{"number": nth * 10}, {"number": nth * 10 + 1}]
        fault = Answer(400, when=when)
        with made.loader.proxy() as (proxy, warehouse):
            proxy.at(nth, fault, of=lambda head: "/upload/" not in head.path)
            parts: list[Any] = []
            with suppress(WarehouseError):
                run(made, warehouse, job, records, parts)
        assert made.loader.fetch("number") in (rows, [(record["number"],) for record in records])
        assert made.resource() == before
        run(made, made.loader.open(), job, records, parts)
        rows = [(record["number"],) for record in records]
        assert made.loader.fetch("number") == rows
        assert made.resource() == before
        assert [table.table_id for table in made.loader.client.list_tables(made.loader.dataset)] == ["t"]
        if not fault.happened.is_set():
            assert nth > 15
            return


def run(made: Made, warehouse: BigQuery, job: Job, records: list[dict[str, Any]], parts: list[Any]) -> None:
    """Refresh the table; `parts` has the plan and its columns once they were made, as the checkpoint has."""
    if not parts:
        warehouse.begin_refresh(job)
        gate = warehouse.gate(job, "ndjson")
        admitted = [gate.admit(record) for record in records]
        parts.append((made.loader.plan(made.loader.part(admitted), columns=gate.columns), gate.columns))
    plan, columns = parts[0]
    job = msgspec.structs.replace(job, columns=columns)
    warehouse.load(job, plan)
    warehouse.finish_refresh(job)


def test_the_new_table_asks_for_no_filter_though_the_old_one_says_so_beside_its_partitions(
    made: Made,
) -> None:
    # The older place of that option, which BigQuery fills as well.
    partitions = {
        "type": "DAY",
        "field": "day",
        "requirePartitionFilter": True,
        "expirationMs": "864000000000",
    }
    made.make(requirePartitionFilter=True, timePartitioning=partitions)
    before = made.resource()
    made.loader.warehouse.begin_refresh(made.job)
    new = made.resource(made.new())
    assert not new.get("requirePartitionFilter")
    assert new["timePartitioning"] == {"type": "DAY", "field": "day", "expirationMs": "864000000000"}
    made.loader.warehouse.finish_refresh(made.job)
    assert made.resource() == before
