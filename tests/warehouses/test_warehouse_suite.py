from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl.testing.warehouses import WarehouseSuite
from etl.warehouses.base import Warehouse
from etl.warehouses.bigquery import BigQuery
from etl.warehouses.duckdb import DuckDB
from tests.google import LOCATION, PROJECT, GoogleServers


class TestDuckDB(WarehouseSuite):
    def make_warehouse(self, directory: Path) -> Warehouse:
        return DuckDB(directory / "w.duckdb", table="t")

    def make_merging_warehouse(
        self, directory: Path, *, key: Sequence[str], updated_at: str | None
    ) -> Warehouse:
        return DuckDB(directory / "w.duckdb", table="t", disposition="merge", key=key, updated_at=updated_at)

    def rows(self, directory: Path) -> list[tuple[int, str]]:
        with duckdb.connect(str(directory / "w.duckdb")) as connection:
            return connection.sql("SELECT id, name FROM t ORDER BY id").fetchall()


class TestBigQuery(WarehouseSuite):
    staged = False

    @pytest.fixture(autouse=True)
    def _servers(self, google_environment: GoogleServers) -> None:
        self.servers = google_environment
        self.dataset = google_environment.new_dataset()
        self.staging = f"gs://{google_environment.new_bucket()}/staged" if self.staged else None

    def make_warehouse(self, directory: Path) -> Warehouse:
        return self._warehouse()

    def make_merging_warehouse(
        self, directory: Path, *, key: Sequence[str], updated_at: str | None
    ) -> Warehouse:
        return self._warehouse(disposition="merge", key=key, updated_at=updated_at)

    def _warehouse(self, **options: Any) -> BigQuery:
        table = f"{PROJECT}.{self.dataset}.t"
        return BigQuery(table=table, location=LOCATION, staging=self.staging, deadline=20.0, **options)

    def rows(self, directory: Path) -> list[tuple[int, str]]:
        client = self.servers.bigquery_client()
        found = client.query(f"SELECT id, name FROM `{self.dataset}.t` ORDER BY id").result()
        client.close()
        return [(row.id, row.name) for row in found]


class TestBigQueryStaged(TestBigQuery):
    staged = True
