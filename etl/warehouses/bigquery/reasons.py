"""Why BigQuery refused a request, or a job failed: what passes by itself, what waits for somebody, what is for good.

The reasons, and what passes, are those of BigQuery's documentation: "Error messages" (error table), "Troubleshoot quota
and limit errors"; for VPC Service Controls "Retrieve VPC Service Controls errors". A reason decides what is done, a
message only which next step is told: the wording of messages changes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sinks import google_errors


class Outcome(Enum):
    """What became of a job that is done."""

    LOADED = "loaded"
    PASSING = "failed, and may succeed under another id"
    WAITING = "failed, and may succeed under another id when somebody has fixed what is not the plan's fault"
    LASTING = "failed, and will again"


@dataclass(frozen=True, slots=True)
class Reason:
    """What a reason stands for.

    Attributes:
        outcome: what became of a job that failed for it.
        step: what to do next.
    """

    outcome: Outcome
    step: str


_SUPPORT = "run again later; if it goes on, ask Google's support, with the job's id"
_RETRY = "then `etl run --retry-failed JOB`"

REASONS = {
    # What passes. A job that failed so needs a new id; a request that was refused so did nothing.
    "backendError": Reason(Outcome.PASSING, _SUPPORT),
    "badGateway": Reason(Outcome.PASSING, _SUPPORT),
    "internalError": Reason(Outcome.PASSING, _SUPPORT),
    "jobBackendError": Reason(Outcome.PASSING, _SUPPORT),
    "jobInternalError": Reason(Outcome.PASSING, _SUPPORT),
    "jobRateLimitExceeded": Reason(
        Outcome.PASSING, "run again later, with fewer jobs at a time in the project"
    ),
    "rateLimitExceeded": Reason(Outcome.PASSING, "run again later, with fewer jobs at a time in the project"),
    "tableUnavailable": Reason(Outcome.PASSING, _SUPPORT),
    # What has nothing to do with the plan, and lasts until somebody does something: the next run takes the next id.
    "accessDenied": Reason(
        Outcome.WAITING,
        "give the account that runs it roles/bigquery.dataEditor, and the right to read the bucket; where the table "
        "has row access policies, a filter that is TRUE; and run again",
    ),
    "billingNotEnabled": Reason(Outcome.WAITING, "enable billing for the project, and run again"),
    "billingTierLimitExceeded": Reason(
        Outcome.WAITING,
        "the merge takes too much CPU for on-demand pricing: cluster the table by its key, or run the project's jobs "
        "in a reservation, and run again",
    ),
    "blocked": Reason(
        Outcome.WAITING,
        "BigQuery has blocked such operations for a while: ask Google's support, and run again",
    ),
    "policyViolation": Reason(
        Outcome.WAITING, "a policy of the organization forbids it: ask its administrator, and run again"
    ),
    "quotaExceeded": Reason(
        Outcome.WAITING,
        "run again when the quota is free again (a day after the jobs that used it up), with a lower "
        "`daily_operations`",
    ),
    "resourcesExceeded": Reason(
        Outcome.WAITING,
        "the job takes more memory or slots than the project has: run again when others take less, or in a "
        "reservation; smaller parts and records (`part_bytes`) take less",
    ),
    "timeout": Reason(
        Outcome.WAITING,
        "the job took longer than BigQuery lets it: run again, or give it more slots (a reservation)",
    ),
    # What is for good: the plan is noted as failed.
    "duplicate": Reason(
        Outcome.LASTING, f"give this job another name, or delete what has that name, {_RETRY}"
    ),
    "invalid": Reason(Outcome.LASTING, f"fix the cause (the transform, or the table's schema), {_RETRY}"),
    "invalidQuery": Reason(
        Outcome.LASTING,
        f"look at the columns of the table and of `key`: a merge is a query over them; fix what is said, {_RETRY}",
    ),
    "notFound": Reason(
        Outcome.LASTING,
        "put back what is missing (dataset, table, bucket or object), or set `location` to where the dataset is, "
        f"{_RETRY}",
    ),
    "notImplemented": Reason(Outcome.LASTING, f"load into a table without what BigQuery lacks, {_RETRY}"),
    "resourceInUse": Reason(Outcome.LASTING, f"wait until nothing else works on it, {_RETRY}"),
    "responseTooLarge": Reason(
        Outcome.LASTING,
        f"rows of the merge are larger than a query can hold (100 MB): make records smaller, {_RETRY}",
    ),
    "stopped": Reason(Outcome.LASTING, "somebody cancelled it; `etl run --retry-failed JOB` loads it again"),
}

_UNKNOWN = REASONS["invalid"]

# What requests are refused for, too, and what that is in words.
TOLD = {
    "billingNotEnabled": "the project has no billing",
    "billingTierLimitExceeded": "it takes too much CPU",
    "blocked": "BigQuery has blocked it",
    "policyViolation": "a policy forbids it",
    "quotaExceeded": "a quota is used up",
    "resourcesExceeded": "it takes too many resources",
}

# Messages that say more than their reason.
_LOCATIONS = re.compile(r"different locations|was not found in location|not found in location", re.IGNORECASE)
_FILTER = re.compile(r"without a filter over column", re.IGNORECASE)
_ENCRYPTION = re.compile(
    r"do not match encryption settings|KMS key does not contain a location", re.IGNORECASE
)
_SIZE = re.compile(
    r"row size is larger than|row larger than|exceeds the maximum (allowed )?size", re.IGNORECASE
)
_PARTITIONS = re.compile(r"too many partitions (produced|modified)", re.IGNORECASE)

_MORE = (
    (
        _LOCATIONS,
        "bucket, dataset and job must be in one place: set `location` to where the dataset is, or use a bucket there",
    ),
    (
        _FILTER,
        "the table asks for a filter over its partitions: bq update --norequire_partition_filter DATASET.TABLE, or "
        "let `key` hold the column of the partitions",
    ),
    (_ENCRYPTION, "give the dataset, or the table, a key of Cloud KMS in the place where the dataset is"),
    (_SIZE, "a row may have 100 MB: split such records by a transform, or leave their largest field out"),
    (_PARTITIONS, "a job may write to 4,000 partitions: make smaller parts, or larger partitions"),
)

# Of all errors of a job, these say only that there are others, or that reading ended.
_EMPTY = re.compile(r"errors\[\] collection|giving up|see errors|error stream", re.IGNORECASE)
_EXACT = re.compile(r"position \d+|row \d+|Field: |File: |Value: ")
_READING = re.compile(r"^Error while reading data, error message:\s*")

# Where to look for those others, which has been done.
_ELSEWHERE = re.compile(r"[^.]*\b(errors\[\] collection|error stream)[^.]*\.?", re.IGNORECASE)


def outcome_of(reason: str) -> Outcome:
    """Say what became of a job that failed for a reason; one that is not known is for good."""
    return REASONS.get(reason, _UNKNOWN).outcome


def step_of(reason: str, message: str) -> str:
    """Say what to do next.

    Args:
        reason: of the error.
        message: of the error; only where it says more than the reason does it change the step.
    """
    more = special_step(message)
    if more is None:
        return REASONS.get(reason, _UNKNOWN).step
    return f"{more}, {_RETRY}" if outcome_of(reason) is Outcome.LASTING else f"{more}, and run again"


def special_step(message: str) -> str | None:
    """Return the step for a message that says more than its reason does; None: it does not."""
    more = google_errors.step_of(message)
    return more or next((step for pattern, step in _MORE if pattern.search(message)), None)


def reason_of(job: Any) -> str:
    """Return the reason for which a job failed; empty: it has none."""
    return str((job.error_result or {}).get("reason") or "")


def message_of(job: Any) -> str:
    """Return the message of a failed job that says most: of all its errors the first that names a place, or a cause.

    What a job says at last may be no more than that there are others (`errorResult` and `errors[]`: BigQuery REST
    reference, JobStatus).
    """
    errors = [*(job.errors or ()), job.error_result or {}]
    messages = [" ".join(str(error.get("message") or "").split()) for error in errors]
    told = [(_worth(each), _ELSEWHERE.sub("", _READING.sub("", each)).strip()) for each in messages]
    if not any(text for _, text in told):
        return "BigQuery does not say why"
    return max((each for each in told if each[1]), key=lambda each: each[0])[1][
        :500
    ]  # the first of the same worth


def _worth(message: str) -> int:
    if _EXACT.search(message):
        return 2
    return 0 if _EMPTY.search(message) else 1


def said(job: Any) -> str:
    """Return what a failed job says of itself, in one line: reason and message."""
    return f"{reason_of(job) or 'no reason'}: {message_of(job)}"


def step_for(job: Any) -> str:
    """Say what to do next about a failed job."""
    errors = [*(job.errors or ()), job.error_result or {}]
    return step_of(reason_of(job), " ".join(str(error.get("message") or "") for error in errors))
