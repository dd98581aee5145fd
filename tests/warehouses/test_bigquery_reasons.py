"""Why a job or a request failed, each reason with its own next step, told over HTTP by the real client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etl.checkpoint import Plan
from etl.errors import LoadFailed, WarehouseError
from etl.testing.fault_proxy import Answer
from tests.google import LOCATION, PROJECT, GoogleServers
from tests.warehouses.bigquery_loader import Loader, inserting, looking_up

# Reason, message, next step. For good: the plan is noted as failed; `etl run --retry-failed` loads it again.
FOR_GOOD = [
    (
        "invalid",
        "Provided Schema does not match Table p:d.t.",
        "fix the cause (the transform, or the table's schema)",
    ),
    ("invalidQuery", "Unrecognized name: id at [3:4]", "look at the columns of the table and of `key`"),
    ("notFound", "Not found: URI gs://b/o", "put back what is missing (dataset, table, bucket or object)"),
    (
        "notFound",
        "Not found: Dataset p:d was not found in location EU",
        "bucket, dataset and job must be in one place",
    ),
    (
        "invalid",
        "Cannot read and write in different locations: source: US, destination: EU",
        "bucket, dataset and job must be in one place",
    ),
    ("responseTooLarge", "Response too large to return.", "make records smaller"),
    ("invalid", "Row size is larger than: 104857600", "a row may have 100 MB"),
    (
        "invalid",
        "Too many partitions produced by query, allowed 4000, query produces at least 4001 partitions",
        "a job may write to 4,000 partitions",
    ),
    ("stopped", "Job execution was cancelled: User requested cancellation", "somebody cancelled it"),
    ("invalid", "Cloud KMS Error: k is not enabled, current state is: DISABLED", "enable its version"),
    ("somethingNew", "Nobody has seen this before", "fix the cause"),
]
# The next run tries again, with the next id.
WAITING = [
    (
        "accessDenied",
        "Access Denied: Table p:d.t: Permission bigquery.tables.updateData denied",
        "dataEditor",
    ),
    (
        "accessDenied",
        "Access Denied: BigQuery BigQuery: Cloud KMS Error: Permission 'cloudkms.cryptoKeyVersions.useToEncrypt' "
        "denied on resource 'k' (or it may not exist).",
        "roles/cloudkms.cryptoKeyEncrypterDecrypter",
    ),
    (
        "accessDenied",
        "VPC Service Controls: Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: XlF",
        "a perimeter of VPC Service Controls is in the way",
    ),
    ("policyViolation", "forbidden by policy", "a policy of the organization forbids it"),
    ("billingNotEnabled", "Billing is off", "enable billing for the project"),
    ("billingTierLimitExceeded", "Query exceeded resource limits", "run the project's jobs in a reservation"),
    ("blocked", "Operation is blocked", "ask Google's support"),
    ("quotaExceeded", "Quota exceeded: too many table modifications", "with a lower `daily_operations`"),
    ("resourcesExceeded", "Resources exceeded during execution", "takes more memory or slots"),
    ("timeout", "The job timed out", "longer than BigQuery lets it"),
]
# Tried again at once, under the next id.
PASSING = [
    "backendError",
    "internalError",
    "jobBackendError",
    "jobInternalError",
    "jobRateLimitExceeded",
    "rateLimitExceeded",
    "tableUnavailable",
]


@pytest.fixture
def loader(google_environment: GoogleServers, tmp_path: Path) -> Iterator[Loader]:
    loader = Loader(google_environment, tmp_path)
    yield loader
    loader.close()


def failed(
    loader: Loader, plan: Plan, *errors: dict[str, str], attempt: int = 0, uris: bool = True
) -> Answer:
    """Return BigQuery's answer to the load of a plan that failed at once; the last of the errors is its result."""
    load: dict[str, Any] = {
        "destinationTable": {"projectId": PROJECT, "datasetId": loader.dataset, "tableId": "t"},
        "writeDisposition": "WRITE_APPEND",
    }
    if uris:
        load["sourceUris"] = [part.sealed.uri for part in plan.parts]
    job = {
        "jobReference": {"projectId": PROJECT, "jobId": loader.id(plan, attempt), "location": LOCATION},
        "configuration": {"jobType": "LOAD", "load": load},
        "status": {"state": "DONE", "errorResult": errors[-1], "errors": list(errors)},
    }
    return Answer(200, body=job)


def error(reason: str, message: str) -> dict[str, str]:
    return {"reason": reason, "message": message}


@pytest.mark.parametrize(("reason", "message", "step"), FOR_GOOD)
def test_a_job_that_fails_for_good_is_told_with_its_next_step(
    loader: Loader, reason: str, message: str, step: str
) -> None:
    plan = loader.plan()
    with loader.proxy() as (proxy, warehouse):
        proxy.at(1, failed(loader, plan, error(reason, message)), of=inserting)
        with pytest.raises(LoadFailed) as raised:
            warehouse.load(loader.job, plan)
    said = str(raised.value)
    assert message in said
    assert step in said
    assert "etl run --retry-failed JOB" in said


@pytest.mark.parametrize(("reason", "message", "step"), WAITING)
def test_a_job_that_waits_for_somebody_is_told_and_tried_by_the_next_run(
    loader: Loader, reason: str, message: str, step: str
) -> None:
    plan = loader.plan()
    with loader.proxy() as (proxy, warehouse):
        proxy.at(1, failed(loader, plan, error(reason, message)), of=inserting)
        with pytest.raises(WarehouseError) as raised:
            warehouse.load(loader.job, plan)
    assert not isinstance(raised.value, LoadFailed)
    said = str(raised.value)
    assert message in said
    assert step in said
    assert "--retry-failed" not in said
    assert loader.open().load(loader.job, plan) == 7


@pytest.mark.parametrize("reason", PASSING)
def test_a_job_whose_failure_passes_is_submitted_again_under_the_next_id(loader: Loader, reason: str) -> None:
    plan = loader.plan()
    with loader.proxy() as (proxy, warehouse):
        proxy.at(1, failed(loader, plan, error(reason, "try again")), of=inserting)
        assert warehouse.load(loader.job, plan) == 7
    assert list(loader.jobs()) == [loader.id(plan, 1)]
    assert warehouse.operations == 2


@pytest.mark.parametrize(
    ("reason", "message", "step"), [each for each in WAITING if each[0] not in ("accessDenied", "timeout")]
)
def test_a_request_that_is_refused_is_told_with_its_next_step(
    loader: Loader, reason: str, message: str, step: str
) -> None:
    plan = loader.plan()
    with loader.proxy() as (proxy, warehouse):
        proxy.at(1, Answer(403, reason=reason, message=message), of=inserting)
        with pytest.raises(WarehouseError, match="nothing was lost") as raised:
            warehouse.load(loader.job, plan)
        assert warehouse.load(loader.job, plan) == 7
    assert message in str(raised.value)
    assert step in str(raised.value)


@pytest.mark.parametrize("which", [inserting, looking_up])
@pytest.mark.parametrize(
    ("message", "step"),
    [(message, step) for reason, message, step in WAITING if "Cloud KMS" in message or "VPC" in message],
)
def test_a_refusal_that_says_more_than_permission_denied_is_told_so(
    loader: Loader, which: Any, message: str, step: str
) -> None:
    plan = loader.plan()
    with loader.proxy() as (proxy, warehouse):
        proxy.at(1, Answer(403, reason="accessDenied", message=message), of=which)
        with pytest.raises(WarehouseError) as raised:
            warehouse.load(loader.job, plan)
    assert message in str(raised.value)
    assert step in str(raised.value)


@pytest.mark.parametrize("reason", ["rateLimitExceeded", "userRateLimitExceeded", "backendError"])
def test_a_request_that_may_pass_is_sent_again(loader: Loader, reason: str) -> None:
    plan = loader.plan()
    with loader.proxy() as (proxy, warehouse):
        proxy.at(1, Answer(403, reason=reason), of=inserting)
        assert warehouse.load(loader.job, plan) == 7


GIVING_UP = (
    "Error while reading data, error message: JSON table encountered too many errors, giving up. Rows: 1; errors: 1. "
    "Please look into the errors[] collection for more details."
)


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ([GIVING_UP, "Error while reading data, error message: No such field: x."], "No such field: x."),
        (["No such field: x.", GIVING_UP], "No such field: x."),
        ([GIVING_UP, "Unable to parse", "Failed to read Parquet row 17 of b. File: gs://b/o"], "row 17 of b"),
        ([GIVING_UP], "too many errors, giving up. Rows: 1; errors: 1."),
        (["Too many errors. See error stream for more details."], "Too many errors."),
        (["", GIVING_UP, "Bad character (ASCII 0)"], "Bad character (ASCII 0)"),
        (["Error while reading data, error message: ", "The schema changed"], "The schema changed"),
    ],
)
def test_of_all_errors_of_a_job_the_one_that_says_most_is_told(
    loader: Loader, errors: list[str], told: str
) -> None:
    plan = loader.plan()
    with loader.proxy() as (proxy, warehouse):
        proxy.at(1, failed(loader, plan, *(error("invalid", said) for said in errors)), of=inserting)
        with pytest.raises(LoadFailed) as raised:
            warehouse.load(loader.job, plan)
    assert told in str(raised.value)
    assert "errors[]" not in str(raised.value)
    assert "error stream" not in str(raised.value)
