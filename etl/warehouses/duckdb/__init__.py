"""DuckDB, embedded: the default warehouse. `warehouse` has the class, `ledger` what makes each load happen once."""

from etl.warehouses.duckdb.warehouse import DuckDB

__all__ = ["DuckDB"]
