"""Warehouses: where plans are loaded. `DuckDB` is imported when it is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from etl.warehouses.base import Entry, Job, Warehouse

if TYPE_CHECKING:
    from etl.warehouses.duckdb import DuckDB

__all__ = ["DuckDB", "Entry", "Job", "Warehouse"]


def __getattr__(name: str) -> Any:
    if name == "DuckDB":
        from etl.warehouses.duckdb import DuckDB

        return DuckDB
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
