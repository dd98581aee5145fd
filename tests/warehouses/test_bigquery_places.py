"""Where bucket, dataset and jobs are is looked at before anything is pulled."""

from __future__ import annotations

from contextlib import closing

import pytest

from etl import memory
from etl.errors import WarehouseError
from etl.warehouses.bigquery import BigQuery
from etl.warehouses.bigquery.places import reads
from tests.google import LOCATION, GoogleServers
from tests.google_accounts import Account, Memory
from tests.test_bigquery_accounts import README


@pytest.mark.parametrize(
    ("dataset", "bucket", "among", "read"),
    [
        ("US", "europe-west1", (), True),
        ("EU", "EU", (), True),
        ("EU", "EUROPE-WEST1", (), True),
        ("EU", "EUR4", (), True),
        ("EU", "EU", ("EUROPE-WEST1", "EUROPE-WEST4"), True),
        ("EU", "US", (), False),
        ("EU", "europe-west2", (), False),
        ("EU", "us-east1", (), False),
        ("europe-west3", "europe-west3", (), True),
        ("europe-west3", "EUROPE-WEST1", (), False),
        ("europe-west3", "EU", ("europe-west3", "europe-west4"), True),
        ("europe-west3", "EU", ("europe-west1", "europe-west4"), False),
        ("europe-west3", "EU", (), True),  # left to BigQuery
        ("europe-west3", "US", (), False),
        ("EU", "", (), True),
    ],
)
def test_a_dataset_reads_from_buckets_near_by(
    dataset: str, bucket: str, among: tuple[str, ...], read: bool
) -> None:
    assert reads(dataset, bucket, among) is read


def warehouse(servers: GoogleServers, **options: object) -> BigQuery:
    table = f"test.{servers.new_dataset()}.t"
    return BigQuery(**{"table": table, "location": LOCATION, "deadline": 5.0, **options})  # type: ignore[arg-type]


def test_a_bucket_that_is_far_away_is_refused_in_words(
    google_environment: GoogleServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = google_environment.new_bucket()
    made = warehouse(google_environment)
    with closing(made):
        made.open(memory.budget())
        made.check_place(f"gs://{bucket}/parts")  # both are in the EU
        monkeypatch.setattr("google.cloud.storage.Bucket.location", "US-EAST1")
        with pytest.raises(
            WarehouseError, match=f"{bucket} is in US-EAST1, and the dataset .* in EU: .*same place"
        ):
            made.check_place(f"gs://{bucket}/parts")
    staged = warehouse(google_environment, staging=f"gs://{bucket}/staging")
    with closing(staged), pytest.raises(WarehouseError, match="in US-EAST1"):
        staged.open(memory.budget())


def test_jobs_may_run_in_another_project_where_the_account_may_run_some(
    google_servers: GoogleServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Account(google_servers, Memory(), "a", README) as account:
        for key, value in account.environment().items():
            monkeypatch.setenv(key, value)
        made = warehouse(google_servers, project="other")
        assert made.destination.endswith("&project=other")
        account.permissions.discard("bigquery.jobs.create")
        with (
            closing(made),
            pytest.raises(WarehouseError, match=r"bigquery\.jobs\.create .* on the project other"),
        ):
            made.open(memory.budget())
