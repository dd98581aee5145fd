"""The roles that docs/google-cloud.md names are enough, for all that a job does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import etl
from etl.errors import TransformError
from tests.google_accounts import PROJECT as PROJECT_PATH
from tests.google_accounts import ROLES, TABLES
from tests.test_bigquery_accounts import ALL, README, Place, place

__all__ = ["place"]

# What is asked for although these roles do not allow it, and done without.
BESIDES = {
    ("GET", re.compile(TABLES + "/[^/]+/rowAccessPolicies"), "bigquery.rowAccessPolicies.list"),
    ("GET", re.compile(PROJECT_PATH + "/jobs"), "bigquery.jobs.list"),  # the jobs of others
    (
        "GET",
        re.compile(r"/storage/v1/b/[^/]+"),
        "storage.buckets.get",
    ),  # where a bucket is, and what it keeps
}


def fails(records: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for record in records:
        if record["number"] == 15:
            raise ValueError("no")
        yield record


def in_bucket(place: Place) -> dict[str, Any]:
    return {
        "sink": {"type": "gcs_stream", "bucket": place.bucket, "prefix": "parts/job.ndjson"},
        "checkpoint": f"gs://{place.bucket}/job.json",
    }


def staged(place: Place) -> dict[str, Any]:
    return {"warehouse": {"staging": f"gs://{place.bucket}/staging"}}


def merging(place: Place) -> dict[str, Any]:
    return {"warehouse": {"disposition": "merge", "key": ["number"]}}


def replacing(place: Place) -> dict[str, Any]:
    return {"warehouse": {"disposition": "replace"}}


def rejecting(place: Place) -> dict[str, Any]:
    return {**in_bucket(place), "on_error": "reject"}


@pytest.mark.parametrize("way", [in_bucket, staged, merging, replacing, rejecting])
def test_the_roles_that_readme_names_are_enough(place: Place, way: Any) -> None:
    account = place.account("a")
    with pytest.raises(TransformError):
        place.pipeline(**{**way(place), "on_error": "fail"}, transforms=[fails]).run()
    place.pipeline(**way(place)).run()  # it takes the job over
    place.pipeline(**way(place)).run(full_refresh=way in (in_bucket, merging))
    assert place.numbers() == ALL
    assert place.verify(**way(place))[0] == 0
    needed = {
        (method, path, permission)
        for method, path, lacking in account.refused
        for permission in lacking
        if not any(
            (method, permission) == (known, allowed) and pattern.fullmatch(path)
            for known, pattern, allowed in BESIDES
        )
    }
    assert needed == set()


def test_the_page_on_google_cloud_names_the_roles_that_were_tried() -> None:
    text = Path(__file__).parent.parent.joinpath("docs", "google-cloud.md").read_text()
    names = {
        "roles/storage.objectUser": "Storage Object User",
        "roles/bigquery.dataEditor": "BigQuery Data Editor",
        "roles/bigquery.jobUser": "BigQuery Job User",
        "roles/bigquery.resourceViewer": "BigQuery Resource Viewer",
    }
    assert all(names[role] in text for role in README)
    assert names["roles/bigquery.resourceViewer"] in text
    assert set(names) <= set(ROLES)


@pytest.mark.parametrize(
    ("permission", "said"),
    [
        ("bigquery.tables.update", "bigquery.tables.create, update and delete"),
        ("bigquery.jobs.create", "bigquery.jobs.create"),
        ("bigquery.datasets.get", "bigquery.datasets.get"),
        ("bigquery.tables.get", "bigquery.tables.get"),
    ],
)
def test_a_permission_that_is_missing_is_named(place: Place, permission: str, said: str) -> None:
    place.make()
    account = place.account("a")
    account.permissions.discard(permission)
    with pytest.raises(etl.errors.WarehouseError, match=f"permission denied.*{said}"):
        place.pipeline().run()
