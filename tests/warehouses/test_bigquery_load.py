"""Loading plans into BigQuery: whatever is found under a job's id, the table has each record once."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from etl.checkpoint import Plan
from etl.columns import Column
from etl.errors import Fenced, LoadFailed, LoadMismatch, StillLoading, WarehouseError
from etl.testing.fault_proxy import Answer, Delay, Drop, Truncate
from etl.warehouses import base
from etl.warehouses.bigquery import BigQuery
from etl.warehouses.bigquery.reasons import REASONS, Outcome, Reason
from tests.google import LOCATION, GoogleServers
from tests.warehouses.bigquery_loader import (
    COLUMNS,
    ID,
    Loader,
    Paused,
    encoded,
    in_background,
    inserting,
    looking_up,
    rows,
)

# Records that take more than a second to load.
MANY = 10_000_000


@pytest.fixture
def loader(google_environment: GoogleServers, tmp_path: Path) -> Iterator[Loader]:
    loader = Loader(google_environment, tmp_path)
    yield loader
    loader.close()


def test_it_keeps_every_contract_of_a_warehouse_with_jobs(loader: Loader) -> None:
    assert isinstance(loader.warehouse, base.Warehouse)
    assert isinstance(loader.warehouse, base.LoadsByJobs)
    assert isinstance(loader.warehouse, base.ChecksRecords)
    assert isinstance(loader.warehouse, base.Audits)


@pytest.mark.parametrize("format", ["ndjson", "ndjson.gz", "parquet"])
def test_a_plan_is_one_job_that_takes_all_its_parts(loader: Loader, format: str) -> None:
    plan = loader.plan(format=format)
    assert loader.warehouse.load(loader.job, plan) == 7
    assert loader.fetch() == [(n, f"name {n}") for n in range(7)]
    assert loader.jobs() == {f"etl_job_2_{plan.id}_a0": "load"}
    assert loader.warehouse.operations == 1


def test_a_plan_is_loaded_once_however_often_it_is_loaded(loader: Loader) -> None:
    plan = loader.plan()
    for _ in range(3):
        assert loader.warehouse.load(loader.job, plan) == 7
    assert loader.count() == 7
    assert loader.warehouse.operations == 1


def test_another_process_takes_the_job_as_its_own(loader: Loader) -> None:
    plan = loader.plan()
    loader.warehouse.load(loader.job, plan)
    successor = loader.open()
    assert successor.load(loader.job, plan) == 7
    assert (loader.count(), successor.operations) == (7, 0)


def test_a_job_has_the_labels_that_say_whose_it_is(loader: Loader) -> None:
    plan = loader.plan()
    loader.warehouse.load(base.Job(pipeline="Job-1", fingerprint={}, columns=COLUMNS, life="1a2b"), plan)
    job = loader.client.get_job(f"etl_Job-1_2_{plan.id}_a0", location=LOCATION)
    assert job.labels == {
        "etl_pipeline": "job-1",
        "etl_plan": plan.id,
        "etl_life": "1a2b",
        "etl_first_part": "1",
        "etl_last_part": "2",
        "etl_records": "7",
    }


@pytest.mark.parametrize(
    "fault", [Drop("before"), Drop("after"), Truncate(20), Answer(503), Answer(429, times=2)]
)
def test_an_insertion_whose_answer_is_lost_or_bad_is_looked_up(loader: Loader, fault: Any) -> None:
    plan = loader.plan()
    with loader.proxy() as (proxy, warehouse):
        proxy.at(1, fault, of=inserting)
        assert warehouse.load(loader.job, plan) == 7
    assert loader.count() == 7
    assert list(loader.jobs()) == [loader.id(plan)]
    assert warehouse.operations == 1


@pytest.mark.parametrize("fault", [Drop("before"), Drop("after"), Truncate(20), Answer(500)])
def test_a_look_up_that_goes_wrong_is_repeated(loader: Loader, fault: Any) -> None:
    plan = loader.plan()
    with loader.proxy() as (proxy, warehouse):
        proxy.at(1, fault, of=looking_up)
        assert warehouse.load(loader.job, plan) == 7
    assert loader.count() == 7


def test_an_insertion_that_arrives_after_it_was_given_up_is_the_same_job(loader: Loader) -> None:
    plan = loader.plan()
    with loader.proxy() as (proxy, slow):
        slow._retry = replace(slow._retry, deadline=1.0)  # a request may take half of it
        proxy.at(1, Delay(3.0), of=inserting)
        with in_background(slow.load, loader.job, plan) as first:
            assert loader.warehouse.load(loader.job, plan) == 7
    assert first == [7] or isinstance(first[0], WarehouseError)
    assert loader.open().load(loader.job, plan) == 7
    assert loader.count() == 7


def test_two_processes_at_once_have_one_job(loader: Loader) -> None:
    plan = loader.plan()
    others = [loader.open() for _ in range(4)]
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda each=each: results.append(each.load(loader.job, plan)))
        for each in others
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [7, 7, 7, 7]
    assert loader.count() == 7
    assert sum(each.operations for each in others) == 1


def test_after_a_conflict_the_job_may_be_missing_for_a_moment(loader: Loader) -> None:
    plan = loader.plan()
    loader.warehouse.load(loader.job, plan)
    with loader.proxy() as (proxy, warehouse):
        proxy.at(1, Answer(404, times=3), of=looking_up)
        assert warehouse.load(loader.job, plan) == 7
    assert (loader.count(), warehouse.operations) == (7, 0)


def test_an_id_that_is_used_up_fences_the_process_that_comes_late(loader: Loader) -> None:
    plan = loader.plan()
    assert loader.warehouse.settle(loader.job, plan) is None
    with pytest.raises(Fenced, match="given up by another process"):
        loader.open().load(loader.job, plan)
    assert loader.jobs() == {loader.id(plan): "query"}


def test_giving_up_twice_is_giving_up_once(loader: Loader) -> None:
    plan = loader.plan()
    assert loader.warehouse.settle(loader.job, plan) is None
    assert loader.open().settle(loader.job, plan) is None
    assert list(loader.jobs()) == [loader.id(plan)]


@pytest.mark.parametrize("fault", [Drop("before"), Drop("after"), Answer(503)])
def test_an_id_is_used_up_once_though_the_answer_is_lost(loader: Loader, fault: Any) -> None:
    plan = loader.plan()
    with loader.proxy() as (proxy, warehouse):
        proxy.at(1, fault, of=inserting)
        assert warehouse.settle(loader.job, plan) is None
    assert loader.jobs() == {loader.id(plan): "query"}


def test_a_plan_that_is_loaded_cannot_be_given_up(loader: Loader) -> None:
    plan = loader.plan()
    loader.warehouse.load(loader.job, plan)
    assert loader.open().settle(loader.job, plan) == 7


def test_what_turns_out_to_be_loaded_is_known_to_the_gate(loader: Loader) -> None:
    job = msgspec.structs.replace(loader.job, columns=None)
    plan = loader.plan()
    loader.warehouse.look_back(job)
    loader.open().load(loader.job, plan)  # a job that was under way when the run began
    assert loader.warehouse.settle(job, plan) == 7
    assert [column.name for column in loader.warehouse.gate(job, "ndjson").columns] == ["id", "name"]


def test_a_load_that_leaves_its_mark_while_the_table_is_looked_at_fences_nobody(loader: Loader) -> None:
    """A process that was killed had sent the request, and the checkpoint knows of its plan."""
    loader.client.query(f"CREATE TABLE `{loader.table}` AS SELECT 1 AS id, 'a' AS name").result()
    plan = loader.plan()
    job = msgspec.structs.replace(loader.job, plans=(plan.id,))
    late = loader.open()
    with in_background(late.look_back, job) as ended, Paused(late, "update_table") as paused:
        paused.wait()
        loader.warehouse.load(job, plan)
    assert ended == [None]
    assert late.load(job, plan) == 7
    assert loader.count() == 8


def test_a_mark_of_a_load_that_the_checkpoint_does_not_know_of_fences(loader: Loader) -> None:
    loader.client.query(f"CREATE TABLE `{loader.table}` AS SELECT 1 AS id, 'a' AS name").result()
    late = loader.open()
    with in_background(late.look_back, loader.job) as ended, Paused(late, "update_table") as paused:
        paused.wait()
        loader.warehouse.load(loader.job, loader.plan())
    assert [type(each) for each in ended] == [Fenced]


def test_a_zombie_that_submits_first_is_seen_by_who_gives_up(loader: Loader) -> None:
    plan = loader.plan()
    loader.open().load(loader.job, plan)
    with loader.proxy() as (proxy, warehouse):
        proxy.at(1, Answer(404), of=looking_up)  # as if the zombie had submitted it right after
        assert warehouse.settle(loader.job, plan) == 7
    assert loader.count() == 7


def test_a_zombie_that_submits_late_is_fenced(loader: Loader) -> None:
    plan = loader.plan()
    loader.warehouse.settle(loader.job, plan)
    with loader.proxy() as (proxy, zombie):
        proxy.at(1, Answer(404), of=looking_up)  # as if it had looked right before
        with pytest.raises(Fenced):
            zombie.load(loader.job, plan)
    assert loader.jobs() == {loader.id(plan): "query"}


def test_an_id_whose_job_failed_is_passed_over_when_a_plan_is_given_up(loader: Loader) -> None:
    plan = loader.plan(loader.part([b'{"id": "x"}']))
    with pytest.raises(WarehouseError):
        loader.warehouse.load(loader.job, plan)
    assert loader.warehouse.settle(loader.job, plan) is None
    assert loader.jobs() == {loader.id(plan): "load", loader.id(plan, 1): "query"}


def test_what_is_no_load_under_the_id_is_never_adopted(loader: Loader) -> None:
    plan = loader.plan()
    loader.occupy(plan)
    for step in (loader.warehouse.load, loader.warehouse.settle):
        with pytest.raises(WarehouseError, match="it is a query job"):
            step(loader.job, plan)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"table": "other"}, "it loads into"),
        ({"write_disposition": "WRITE_TRUNCATE"}, "WRITE_TRUNCATE"),
        ({"uris": 1}, "it loads 1 other objects"),
    ],
)
def test_another_load_under_the_id_is_never_adopted(
    loader: Loader, changes: dict[str, Any], said: str
) -> None:
    from google.cloud.bigquery import LoadJobConfig

    plan = loader.plan()
    config = LoadJobConfig(
        source_format="NEWLINE_DELIMITED_JSON",
        write_disposition=changes.get("write_disposition", "WRITE_APPEND"),
    )
    uris = [part.sealed.uri for part in plan.parts][: changes.get("uris")]
    table = f"{loader.dataset}.{changes.get('table', 't')}"
    loader.client.load_table_from_uri(uris, table, job_id=loader.id(plan), job_config=config).result()
    with pytest.raises(WarehouseError, match=said):
        loader.warehouse.load(loader.job, plan)


def of_missing_object(loader: Loader) -> Plan:
    """Return a plan whose job fails: as `invalid` here, which each test says the meaning of."""
    part = loader.part(rows(0, 3))
    storage = loader.servers.storage_client()
    storage.bucket(loader.bucket).blob(part.sealed.uri.split("/", 3)[3]).delete()
    storage.close()
    return loader.plan(part)


def put_back(loader: Loader, plan: Plan) -> None:
    storage = loader.servers.storage_client()
    blob = storage.bucket(loader.bucket).blob(plan.parts[0].sealed.uri.split("/", 3)[3])
    blob.upload_from_string(encoded(rows(0, 3), "ndjson"))
    storage.close()


def test_a_failure_that_passes_takes_the_next_id_so_many_times(
    loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REASONS, "invalid", Reason(Outcome.PASSING, "run again later"))
    monkeypatch.setattr("etl.warehouses.bigquery.attempts.TRIES", 2)
    plan = of_missing_object(loader)
    with pytest.raises(WarehouseError, match="may pass by itself: run again later"):
        loader.warehouse.load(loader.job, plan)
    assert sorted(loader.jobs()) == [loader.id(plan, n) for n in range(2)]
    assert loader.warehouse.operations == 2


def test_the_next_run_goes_on_with_the_next_id(loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REASONS, "invalid", Reason(Outcome.PASSING, "run again later"))
    monkeypatch.setattr("etl.warehouses.bigquery.attempts.TRIES", 1)
    plan = of_missing_object(loader)
    with pytest.raises(WarehouseError):
        loader.warehouse.load(loader.job, plan)
    put_back(loader, plan)
    assert loader.open().load(loader.job, plan) == 3
    assert loader.open().load(loader.job, plan) == 3
    assert sorted(loader.jobs()) == [loader.id(plan, n) for n in range(2)]
    assert loader.count() == 3


def test_what_somebody_must_mend_is_told_at_once_and_tried_by_the_next_run(
    loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REASONS, "invalid", Reason(Outcome.WAITING, "fix the bucket"))
    plan = of_missing_object(loader)
    with pytest.raises(WarehouseError, match="nothing was loaded: fix the bucket") as raised:
        loader.warehouse.load(loader.job, plan)
    assert not isinstance(raised.value, LoadFailed)
    assert list(loader.jobs()) == [loader.id(plan)]
    put_back(loader, plan)
    assert loader.open().load(loader.job, plan) == 3


@pytest.mark.parametrize("which", [inserting, looking_up])
@pytest.mark.parametrize("local", [True, False])
def test_whoever_leaves_does_not_try_requests_again(loader: Loader, which: Any, local: bool) -> None:
    plan = loader.plan(local=local)
    with loader.proxy() as (proxy, warehouse):
        proxy.at(1, Answer(503, times=2), of=which)
        warehouse.leave()
        with pytest.raises(StillLoading, match="the next run looks up what became of it"):
            warehouse.load(loader.job, plan)
    assert loader.warehouse.load(loader.job, plan) == 7


def test_whoever_leaves_does_not_pause_before_the_next_id(
    loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REASONS, "invalid", Reason(Outcome.PASSING, "run again later"))
    plan = of_missing_object(loader)
    loader.warehouse.leave()
    with pytest.raises(StillLoading, match="was not tried again"):
        loader.warehouse.load(loader.job, plan)
    assert list(loader.jobs()) == [loader.id(plan)]


def test_another_number_of_rows_is_an_error(loader: Loader) -> None:
    part = loader.part(rows(0, 3))
    plan = loader.plan(msgspec.structs.replace(part, records=4))
    with pytest.raises(LoadMismatch, match=r"added 3 rows .* holds 4 records"):
        loader.warehouse.load(loader.job, plan)


def test_columns_are_added_as_they_come(loader: Loader) -> None:
    loader.warehouse.load(loader.job, loader.plan(loader.part([{"id": 1}]), columns=(ID,)))
    wider = (*COLUMNS, Column(name="at", type="TIMESTAMP"))
    job = msgspec.structs.replace(loader.job, columns=wider)
    record = {"id": 2, "name": "b", "at": "2026-01-02T03:04:05Z"}
    assert loader.open().load(job, loader.plan(loader.part([record]), columns=wider)) == 1
    assert [(n, name) for n, name in loader.fetch()] == [(1, None), (2, "b")]
    assert [field.name for field in loader.client.get_table(loader.table).schema] == ["id", "name", "at"]


def test_a_column_that_somebody_added_meanwhile_stays(loader: Loader) -> None:
    from google.cloud.bigquery import SchemaField

    loader.warehouse.load(loader.job, loader.plan())
    table = loader.client.get_table(loader.table)
    table.schema = [*table.schema, SchemaField("note", "STRING")]
    loader.client.update_table(table, ["schema"])
    assert loader.warehouse.load(loader.job, loader.plan(loader.part(rows(7, 1)))) == 1
    assert [field.name for field in loader.client.get_table(loader.table).schema] == ["id", "name", "note"]


def test_a_table_is_created_with_partitions_and_clusters(
    google_environment: GoogleServers, tmp_path: Path
) -> None:
    columns = (*COLUMNS, Column(name="at", type="TIMESTAMP"))
    loader = Loader(
        google_environment, tmp_path, partition_by="at", partition_type="MONTH", cluster_by=["name"]
    )
    try:
        job = msgspec.structs.replace(loader.job, columns=columns)
        for _ in range(2):
            part = loader.part([{"id": 1, "name": "a", "at": "2026-01-02T03:04:05Z"}])
            assert loader.warehouse.load(job, loader.plan(part, columns=columns)) == 1
        table = loader.client.get_table(loader.table)
        assert (table.time_partitioning.type_, table.time_partitioning.field) == ("MONTH", "at")
        assert table.clustering_fields == ["name"]
    finally:
        loader.close()


def test_whoever_leaves_does_not_wait_and_a_successor_takes_the_running_job(loader: Loader) -> None:
    # The server answers an insertion after a second at the latest: one of these loads takes longer.
    loader.warehouse.leave()
    before, left = 0, ""
    for records in (MANY, 4 * MANY, 16 * MANY):
        part = loader.part([b'{"id": 1}'] * 100_000, format="ndjson.gz", times=records // 100_000)
        plan = loader.plan(part, format="ndjson.gz")
        try:
            loader.warehouse.load(loader.job, plan)
        except StillLoading as error:
            left = str(error)
            break
        before += records
    assert "goes on in BigQuery" in left
    successor = loader.open()
    assert successor.load(loader.job, plan) == records
    assert (loader.count(), successor.operations) == (before + records, 0)


def test_the_definition_can_be_pickled_and_the_client_is_not(loader: Loader) -> None:
    again = pickle.loads(pickle.dumps(loader.warehouse))
    assert again.destination == loader.warehouse.destination
    with pytest.raises(WarehouseError, match="is not open"):
        again.load(loader.job, loader.plan())


def test_a_pickled_definition_takes_its_schema_along(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text('[{"name": "id", "type": "INT64", "mode": "REQUIRED"}]')
    pickled = pickle.dumps(BigQuery(table="project.d.t", location="EU", schema=str(path)))
    path.unlink()
    assert pickle.loads(pickled)._declared == (Column(name="id", type="INTEGER", mode="REQUIRED"),)


def test_the_destination_is_one_stable_text() -> None:
    assert (
        BigQuery(table="project.d.t", location="EU").destination
        == "bigquery://project/d/t?location=eu&disposition=append"
    )


@pytest.mark.parametrize(
    "options",
    [
        {"table": "dataset.t"},
        {"table": "project.d.t$20260101"},
        {"location": ""},
        {"disposition": "overwrite"},
        {"disposition": "merge", "key": []},
        {"key": "id", "disposition": "merge"},
        {"key": ["id", "ID"], "disposition": "merge"},
        {"key": ["id"]},
        {"updated_at": "at"},
        {"updated_at": "id", "key": ["id"], "disposition": "merge"},
        {"staging": "s3://bucket"},
        {"staging": "gs://"},
        {"cluster_by": list("abcde")},
        {"partition_type": "WEEK"},
        {"daily_operations": 0},
        {"deadline": 0.0},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        BigQuery(**{"table": "project.d.t", "location": "EU"} | options)
