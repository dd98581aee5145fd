"""Warehouses: where plans are loaded. `DuckDB` and `BigQuery` are imported when they are first asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from etl.warehouses.base import Entry, Job, Warehouse

if TYPE_CHECKING:
    from etl.warehouses.bigquery import BigQuery
    from etl.warehouses.duckdb import DuckDB

__all__ = ["BigQuery", "DuckDB", "Entry", "Job", "Warehouse"]

LAZY = {"BigQuery": "bigquery", "DuckDB": "duckdb"}


def __getattr__(name: str) -> Any:
    if name in LAZY:
        return getattr(importlib.import_module(f"{__name__}.{LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
