"""A table with every kind of column, constraint and dependant that DuckDB has, and all that can be told of its form."""

from __future__ import annotations

from typing import Any

import duckdb

BEFORE = """
CREATE TYPE mood AS ENUM ('calm', 'wild');
CREATE TYPE person AS STRUCT("name" VARCHAR, age INTEGER);
CREATE SEQUENCE numbers START 5;
CREATE MACRO doubled(x) AS x * 2;
CREATE TABLE country (code VARCHAR PRIMARY KEY);
INSERT INTO country VALUES ('de'), ('fr');
"""
TABLE = """
CREATE TABLE t (
    id BIGINT PRIMARY KEY,
    serial BIGINT DEFAULT nextval('numbers'),
    mood mood NOT NULL DEFAULT 'calm',
    "kind ""of"" it" ENUM ('x', 'y'),
    person person,
    moods mood[],
    price DECIMAL(10, 2) CHECK (price >= 0),
    tiny TINYINT, small SMALLINT, int INTEGER, huge HUGEINT, uhuge UHUGEINT, big BIGNUM,
    utiny UTINYINT, usmall USMALLINT, uint UINTEGER, ubig UBIGINT,
    single FLOAT, double DOUBLE,
    flag BOOLEAN, bits BIT, bytes BLOB, uuid UUID UNIQUE, span INTERVAL,
    day DATE, "at" TIMESTAMP, at_s TIMESTAMP_S, at_ms TIMESTAMP_MS, at_ns TIMESTAMP_NS, zoned TIMESTAMPTZ,
    clock TIME, clock_ns TIME_NS, clock_zoned TIMETZ,
    list INTEGER[], matrix INTEGER[][], fixed INTEGER[3],
    struct STRUCT(a INTEGER, "B b" VARCHAR), structs STRUCT(a INTEGER)[],
    map MAP(VARCHAR, INTEGER), either UNION(num INTEGER, text VARCHAR),
    json JSON, nothing "NULL",
    ascii VARCHAR COLLATE nocase, german VARCHAR COLLATE de, packed VARCHAR USING COMPRESSION dict_fsst,
    note VARCHAR DEFAULT 'it''s, FOREIGN KEY (country) REFERENCES country(code)',
    made TIMESTAMP DEFAULT current_timestamp,
    twice BIGINT GENERATED ALWAYS AS (doubled(id)) VIRTUAL,
    country VARCHAR REFERENCES country (code),
    UNIQUE (id, day),
    CHECK (length(note) < 100 AND mood <> 'wild'),
);
CREATE INDEX by_day ON t (day);
CREATE INDEX "by note" ON t (lower(note), id);
CREATE UNIQUE INDEX by_clock ON t (clock, "at");
COMMENT ON TABLE t IS 'a table''s comment';
COMMENT ON COLUMN t.price IS 'in euros';
COMMENT ON COLUMN t."kind ""of"" it" IS 'x or y';
COMMENT ON INDEX by_day IS 'for reports';
CREATE VIEW prices AS SELECT id, price, twice FROM t;
CREATE TABLE log (what VARCHAR);
CREATE TRIGGER noted AFTER INSERT ON t FOR EACH STATEMENT INSERT INTO log VALUES ('insert');
"""
# Other tables that need it, and those that need these.
REFERRING = """
CREATE TABLE orders (id INTEGER PRIMARY KEY, t BIGINT NOT NULL REFERENCES t (id), "at" DATE,
    year BIGINT GENERATED ALWAYS AS (year("at")), FOREIGN KEY (t, "at") REFERENCES t (id, day));
CREATE INDEX by_t ON orders (t);
COMMENT ON TABLE orders IS 'of customers';
CREATE TABLE lines (orders INTEGER REFERENCES orders (id), t BIGINT REFERENCES t (id), amount DECIMAL(9, 2));
"""
ROWS = """
INSERT INTO t (id, price, day, uuid) SELECT i, i, DATE '2024-01-01', uuid() FROM range(30) r(i);
INSERT INTO orders (id, t, "at") VALUES (1, 1, DATE '2024-01-01'), (2, 2, DATE '2024-01-01');
INSERT INTO lines VALUES (1, 1, 5), (1, 2, 6);
"""

FORM = {
    "tables": "SELECT schema_name, table_name, comment, tags, has_primary_key, column_count, sql FROM duckdb_tables()",
    "columns": "SELECT schema_name, table_name, column_index, column_name, comment, data_type, column_default, "
    "is_nullable, is_generated, generation_expression FROM duckdb_columns() WHERE NOT internal",
    "constraints": "SELECT schema_name, table_name, constraint_type, constraint_text, constraint_column_names, "
    "constraint_name, referenced_table, referenced_column_names FROM duckdb_constraints()",
    "indexes": "SELECT schema_name, index_name, table_name, comment, is_unique, expressions, sql FROM duckdb_indexes()",
    "triggers": "SELECT schema_name, table_name, trigger_name, sql FROM duckdb_triggers()",
    "views": "SELECT schema_name, view_name, sql FROM duckdb_views() WHERE NOT internal",
    "sequences": "SELECT sequence_name, increment_by, cycle FROM duckdb_sequences()",
    "types": "SELECT type_name, logical_type FROM duckdb_types() WHERE NOT internal",
}


def described(connection: duckdb.DuckDBPyConnection) -> dict[str, list[tuple[Any, ...]]]:
    """Return all that a database says of the form of its tables, those of the library left out."""
    found = {what: connection.execute(f"{query} ORDER BY ALL").fetchall() for what, query in FORM.items()}
    return {what: [row for row in rows if "_etl_" not in str(row)] for what, rows in found.items()}
