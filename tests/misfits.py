"""Columns of DuckDB, and values that they do not take: one table for all tests."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

# The column, a value that fits, one that does not, and what is said of it. With `...` the field is absent.
MISFITS: dict[str, tuple[str, Any, Any, str]] = {
    "text for a number": ("INTEGER", 5, "five", "INTEGER"),
    "past 32 bits": ("INTEGER", 5, 2**31, "2147483648"),
    "past 8 bits": ("UTINYINT", 255, 256, "256"),
    "a fraction": ("BIGINT", 5, 2.5, "2.5"),
    "past 128 bits": ("HUGEINT", 2**70, 2**130, "HUGEINT"),
    "more digits": ("DECIMAL(5, 2)", Decimal("123.45"), Decimal("1234.56"), "DECIMAL(5,2)"),
    "another digit": ("DECIMAL(5, 2)", Decimal("123.45"), Decimal("1.125"), "DECIMAL(5,2)"),
    "no day": ("DATE", "2024-02-29", "2023-02-29", "2023-02-29"),
    "no time": ("TIME", "12:30:00", "25:00:00", "25:00:00"),
    "a zone that is lost": ("TIMESTAMP", "2024-02-29T12:00:00", "2024-02-29T12:00:00Z", "TIMESTAMP"),
    "a zone that is missing": ("TIMESTAMPTZ", "2024-02-29T12:00:00Z", "2024-02-29T12:00:00", "TIME ZONE"),
    "no UUID": ("UUID", "6f1c0b0e-6c1e-4b0f-9c0e-1b1b1b1b1b1b", "6f1c", "UUID"),
    "no word of an enum": ("ENUM('a', 'b')", "a", "c", "ENUM"),
    "no boolean": ("BOOLEAN", True, "yes", "BOOLEAN"),
    "no base64": ("BLOB", "aGVsbG8=", "hello!", "BLOB"),
    "a number for bytes": ("BLOB", "aGVsbG8=", 5, "BLOB"),
    "null": ("INTEGER NOT NULL", 5, None, "NOT NULL"),
    "nothing": ("INTEGER NOT NULL", 5, ..., "NOT NULL"),
    "a condition": ("INTEGER CHECK (v < 10)", 5, 50, "CHECK"),
    "an object": ("INTEGER", 5, {"a": 1}, "INTEGER"),
    "a list": ("INTEGER", 5, [1, 2], "INTEGER"),
    "a scalar for an object": ("STRUCT(a INTEGER)", {"a": 1}, 5, "STRUCT"),
    "a scalar for a list": ("INTEGER[]", [1], 5, "INTEGER[]"),
    "a field of an object": ("STRUCT(a INTEGER)", {"a": 1}, {"a": 2**40}, "column v.a"),
    "an element of a list": ("TINYINT[]", [1], [1, 300], "column v[]"),
    "a field of a list's objects": ("STRUCT(a DATE)[]", [{"a": "2024-02-29"}], [{"a": "x"}], "column v[].a"),
    "a name in another case": ("STRUCT(a INTEGER)", {"a": 1}, {"A": 1}, "case"),
    "a computed column": ("INTEGER GENERATED ALWAYS AS (id + 1)", ..., 7, "generated"),
}
