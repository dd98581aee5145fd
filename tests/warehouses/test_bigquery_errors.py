"""What BigQuery refuses, in words: which part, row and column; and a server that cannot be reached."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from etl.checkpoint import Plan
from etl.columns import Column
from etl.errors import LoadFailed, WarehouseError
from etl.testing.fault_proxy import Answer, FaultProxy
from etl.warehouses.base import Job, Misfit
from etl.warehouses.bigquery import BigQuery
from etl.warehouses.bigquery import errors as bigquery_errors
from etl.warehouses.bigquery.jobs import label, outcome
from etl.warehouses.bigquery.reasons import Outcome
from tests.google import LOCATION, GoogleServers
from tests.warehouses.bigquery_loader import BUDGET, Loader, inserting, looking_up, rows

FORMATS = ["ndjson", "ndjson.gz"]
NOBODY = Job(pipeline="job", fingerprint={})


@pytest.fixture
def loader(google_environment: GoogleServers, tmp_path: Path) -> Iterator[Loader]:
    loader = Loader(google_environment, tmp_path)
    yield loader
    loader.close()


def failed(loader: Loader, plan: Plan, *errors: dict[str, str], uris: list[str] | None = None) -> Any:
    """Return a job as the client makes it of what BigQuery answers."""
    load: dict[str, Any] = {
        "destinationTable": {"projectId": "test", "datasetId": loader.dataset, "tableId": "t"}
    }
    if uris:
        load["sourceUris"] = uris
    return loader.client.job_from_resource(
        {
            "jobReference": {"projectId": "test", "jobId": loader.id(plan), "location": LOCATION},
            "configuration": {"jobType": "LOAD", "load": load},
            "status": {"state": "DONE", "errorResult": errors[0], "errors": list(errors)},
        }
    )


def gate_of(loader: Loader) -> Any:
    return loader.warehouse._plan_load(loader.job, loader.plan()).present_gate


SUMMARY = {
    "reason": "invalid",
    "location": "gs://bucket/object",
    "message": "Error while reading data, error message: JSON table encountered too many errors, giving up. Rows: 2; "
    "errors: 1. Please look into the errors[] collection for more details.",
}


def refusal(position: int, uri: str = "") -> dict[str, str]:
    """Return an error in the words that BigQuery has for a bad value."""
    said = (
        f"Error while reading data, error message: JSON parsing error in row starting at position {position}: Could "
        "not convert value to integer. Field: id; Value: abc"
    )
    return {"reason": "invalid", "message": f"{said} File: {uri}" if uri else said}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("local", [True, False], ids=["sent along", "in a bucket"])
def test_a_refused_row_is_named_with_part_row_column_and_value(
    loader: Loader, format: str, local: bool
) -> None:
    plan = loader.plan(format=format, local=local)
    uris = [] if local else [part.sealed.uri for part in plan.parts]
    # The second row of the second part; what is sent along is one file to BigQuery.
    first, row = len(b'{"id":0,"name":"name 0"}\n') * 3, len(b'{"id":3,"name":"name 3"}\n')
    error = refusal(first + row) if local else refusal(row, uris[1])
    job = failed(loader, plan, SUMMARY, error, uris=uris)
    said = bigquery_errors.explain(
        job, plan, loader.warehouse._sending(loader.warehouse._jobs()).read, gate_of(loader)
    )
    assert f"part 2 ({plan.parts[1].sealed.uri}), row 2, column id" in said
    assert "Could not convert value to integer" in said
    assert "found 'abc'" in said
    assert "etl run --retry-failed" in said
    assert "\n" not in said


def test_five_rows_are_named_at_most(loader: Loader) -> None:
    plan = loader.plan()
    errors = [refusal(n, plan.parts[0].sealed.uri) for n in range(9)]
    job = failed(loader, plan, SUMMARY, *errors, uris=[part.sealed.uri for part in plan.parts])
    said = bigquery_errors.explain(
        job, plan, loader.warehouse._sending(loader.warehouse._jobs()).read, gate_of(loader)
    )
    assert said.count("Could not convert") == 5


def test_a_part_that_cannot_be_read_any_more_makes_the_message_poorer_and_no_worse(loader: Loader) -> None:
    part = loader.part(rows(0, 2), local=True)
    plan = loader.plan(part)
    (loader.folder / "part-1.ndjson").unlink()
    job = failed(loader, plan, SUMMARY, refusal(25))
    said = bigquery_errors.explain(
        job, plan, loader.warehouse._sending(loader.warehouse._jobs()).read, gate_of(loader)
    )
    assert "the row at byte 25, column id" in said


def test_a_job_that_somebody_cancelled_says_so(loader: Loader) -> None:
    plan = loader.plan()
    job = failed(loader, plan, {"reason": "stopped", "message": "Job execution was cancelled"})
    said = bigquery_errors.explain(
        job, plan, loader.warehouse._sending(loader.warehouse._jobs()).read, gate_of(loader)
    )
    assert "somebody cancelled it" in said


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("local", [True, False], ids=["sent along", "in a bucket"])
def test_rows_of_which_the_job_says_nothing_are_looked_for(loader: Loader, format: str, local: bool) -> None:
    loader.warehouse.load(loader.job, loader.plan())
    bad = [{"id": 8}, {"id": "nine"}, {"id": "ten"}]
    plan = loader.plan(loader.part(bad, format=format, local=local), format=format)
    with pytest.raises(LoadFailed, match=r"part 3 \(.*\), row 2: .*id.*; part 3 \(.*\), row 3: ") as raised:
        loader.warehouse.load(loader.job, plan)
    assert "row 1:" not in str(raised.value)
    assert loader.count() == 7


def test_rows_are_found_though_there_is_no_table_yet(loader: Loader) -> None:
    plan = loader.plan(loader.part([{"id": 1}, {"id": "two"}]))
    with pytest.raises(LoadFailed, match=r"row 2: .*id"):
        loader.warehouse.load(loader.job, plan)


def test_a_failure_lasts_and_nothing_is_submitted_again(loader: Loader) -> None:
    plan = loader.plan(loader.part([b'{"id": 1', b"}"]))
    for warehouse in (loader.warehouse, loader.open()):
        with pytest.raises(LoadFailed, match="Nothing of it was loaded"):
            warehouse.load(loader.job, plan)
    assert loader.jobs() == {loader.id(plan): "load"}


def test_the_gate_refuses_what_the_table_would(loader: Loader) -> None:
    loader.warehouse.load(loader.job, loader.plan())
    gate = loader.open().gate(NOBODY, "ndjson")
    assert gate.admit({"id": 7, "name": "g"}) == {"id": 7, "name": "g"}
    with pytest.raises(Misfit, match="id"):
        gate.admit({"id": "seven"})


def test_a_declaration_that_contradicts_the_table_is_told_before_any_record(loader: Loader) -> None:
    loader.warehouse.load(loader.job, loader.plan())
    warehouse = loader.open(schema={"name": "INTEGER"})
    with pytest.raises(WarehouseError, match="name"):
        warehouse.look_back(msgspec.structs.replace(loader.job, loads=1))


def test_declared_columns_are_the_tables(loader: Loader) -> None:
    warehouse = loader.open(schema={"id": "INTEGER", "name": "STRING", "at": "TIMESTAMP"})
    gate = warehouse.gate(NOBODY, "ndjson")
    assert Column(name="at", type="TIMESTAMP") in gate.columns
    warehouse.load(loader.job, loader.plan())
    assert [field.name for field in loader.client.get_table(loader.table).schema] == ["id", "name", "at"]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("backendError", Outcome.PASSING),
        ("rateLimitExceeded", Outcome.PASSING),
        ("quotaExceeded", Outcome.WAITING),
        ("accessDenied", Outcome.WAITING),
        ("invalid", Outcome.LASTING),
        ("somethingNew", Outcome.LASTING),
    ],
)
def test_the_reason_of_a_failed_job_says_whether_it_may_pass(
    loader: Loader, reason: str, expected: Outcome
) -> None:
    plan = loader.plan()
    assert outcome(failed(loader, plan, {"reason": reason, "message": "it failed"})) is expected


def test_a_dataset_that_is_missing_comes_with_the_command_that_makes_it(
    google_environment: GoogleServers,
) -> None:
    with pytest.raises(WarehouseError, match="bq --location=EU mk --dataset test:nowhere"):
        BigQuery(table="test.nowhere.t", location="EU").open(BUDGET)


def test_a_dataset_in_another_place_is_told_before_any_job(loader: Loader) -> None:
    with pytest.raises(WarehouseError, match="is in EU, and jobs would run in US: set `location`"):
        loader.open(location="US")


def test_a_permission_that_is_missing_is_named(loader: Loader) -> None:
    with FaultProxy(loader.servers.bigquery.url) as proxy:
        proxy.at(1, Answer(403, times=99))
        with pytest.raises(WarehouseError, match=r"permission denied .*bigquery\.datasets\.get"):
            loader.open(url=proxy.url)


@pytest.mark.parametrize(
    ("which", "needs"), [(inserting, "bigquery.jobs.create"), (looking_up, "bigquery.jobs.get")]
)
def test_a_permission_that_is_missing_at_the_load_is_named(loader: Loader, which: Any, needs: str) -> None:
    plan = loader.plan()
    with loader.proxy() as (proxy, warehouse):
        proxy.at(1, Answer(403), of=which)
        with pytest.raises(WarehouseError, match=needs):
            warehouse.load(loader.job, plan)
        assert warehouse.load(loader.job, plan) == 7


def test_a_rate_limit_is_waited_for_though_it_comes_as_a_refusal(loader: Loader) -> None:
    plan = loader.plan()
    with loader.proxy() as (proxy, warehouse):
        proxy.at(1, Answer(403, reason="rateLimitExceeded"), of=inserting)
        assert warehouse.load(loader.job, plan) == 7
    assert loader.count() == 7


def test_a_quota_that_is_used_up_is_told_at_once(loader: Loader) -> None:
    plan = loader.plan()
    with loader.proxy() as (proxy, warehouse):
        proxy.at(1, Answer(403, reason="quotaExceeded"), of=inserting)
        with pytest.raises(WarehouseError, match="a quota is used up"):
            warehouse.load(loader.job, plan)
        assert warehouse.load(loader.job, plan) == 7


def test_a_host_that_does_not_answer_is_told_within_the_deadline(
    google_environment: GoogleServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(WarehouseError, match="no answer"):
            BigQuery(table="test.dataset.t", location="EU", deadline=1.0).open(BUDGET)
        assert time.monotonic() - began < 30  # and not ten minutes


def test_a_host_that_refuses_connections_is_told_within_the_deadline(
    google_environment: GoogleServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:9")
    with pytest.raises(WarehouseError, match="no answer"):
        BigQuery(table="test.dataset.t", location="EU", deadline=1.0).open(BUDGET)


def test_missing_credentials_are_told_with_the_command_that_gets_some(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("BIGQUERY_EMULATOR_HOST", raising=False)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    with pytest.raises(WarehouseError, match="gcloud auth application-default login"):
        BigQuery(table="project.dataset.t", location="EU", deadline=5.0).open(BUDGET)


def test_no_secret_is_in_a_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    key.write_text('{"type": "service_account", "private_key": "very-secret"}')
    monkeypatch.delenv("BIGQUERY_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    warehouse = BigQuery(table="project.dataset.t", location="EU", deadline=5.0)
    with pytest.raises(WarehouseError) as raised:
        warehouse.open(BUDGET)
    assert "very-secret" not in f"{raised.value}{warehouse!r}{warehouse.destination}"


@pytest.mark.parametrize(
    ("value", "expected"), [("Job-1", "job-1"), ("a.b c", "a_b_c"), ("x" * 100, "x" * 63), ("", "")]
)
def test_labels_hold_what_labels_may(value: str, expected: str) -> None:
    assert label(value) == expected
