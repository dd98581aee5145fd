"""Warehouses: where plans are loaded."""
