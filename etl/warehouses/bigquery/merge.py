"""How rows replace each other: by a key, and by which of them is newer; and the SQL that does it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from etl.checkpoint import Plan
from etl.columns import Column, Columns
from etl.errors import ConfigError
from etl.warehouses.base import Job
from etl.warehouses.bigquery.layout import Partitioning
from etl.warehouses.bigquery.table import TableOptions
from etl.warehouses.bigquery.types import folded

# What a staging table has besides the columns of the table: where a row stands in its plan.
ORDER = Column(name="_etl_order", type="INTEGER")
RANK = "_etl_rank"

# Between which values of the partitions' column a plan's rows are, where a table asks for a filter.
LOW, HIGH = "_etl_low", "_etl_high"

LEDGER = "_etl_loads"
LEDGER_COLUMNS = (
    Column(name="plan", type="STRING"),
    Column(name="job", type="STRING"),
    Column(name="life", type="STRING"),
    Column(name="destination", type="STRING"),
    Column(name="last_part", type="INTEGER"),
    Column(name="records", type="INTEGER"),
    Column(name="loaded", type="TIMESTAMP"),
)

# What may be compared for equality and grouped (BigQuery documentation, "Data types", properties), and never NaN.
KEYS = frozenset(
    {
        "STRING",
        "BYTES",
        "INTEGER",
        "NUMERIC",
        "BIGNUMERIC",
        "BOOLEAN",
        "TIMESTAMP",
        "DATE",
        "TIME",
        "DATETIME",
    }
)
ORDERED = KEYS | {"FLOAT"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """How rows replace each other.

    Attributes:
        key: the columns that say which rows are the same, as records call them.
        updated_at: the column that says which of them is newer; None: the last one is.
    """

    key: tuple[str, ...]
    updated_at: str | None

    @classmethod
    def of(cls, disposition: str, key: Sequence[str], updated_at: str | None) -> Merge | None:
        """Check the options; None: nothing is merged.

        Raises:
            ValueError: they make no sense together.
        """
        if isinstance(key, str):
            # What a definition is given wrongly is a ValueError, everywhere.
            raise ValueError(f"key is {key!r}; it must be a list of columns, as [{key!r}]")  # noqa: TRY004
        if disposition != "merge":
            for name, value in (("key", list(key)), ("updated_at", updated_at)):
                if value:
                    raise ValueError(
                        f"{name} is {value!r}, which means nothing unless disposition is 'merge'"
                    )
            return None
        if not key or not all(key):
            raise ValueError(f"key is {list(key)!r}; disposition 'merge' needs the names of its columns")
        if len({folded(name) for name in key}) < len(key):
            raise ValueError(f"key is {list(key)!r}; it names a column twice")
        if updated_at == "" or (updated_at and folded(updated_at) in {folded(name) for name in key}):
            raise ValueError(f"updated_at is {updated_at!r}; it must be a column that is not one of the key")
        return cls(key=tuple(key), updated_at=updated_at)

    def check(self, columns: Columns) -> None:
        """Make sure that the columns that are known can be compared.

        Raises:
            ConfigError: one cannot be.
        """
        for title, names, types in (
            ("key", self.key, KEYS),
            ("updated_at", [self.updated_at] if self.updated_at else [], ORDERED),
        ):
            for name in names:
                column = column_of(columns, name)
                if column and (column.type not in types or column.mode == "REPEATED"):
                    found = f"{column.type} {column.mode}" if column.mode == "REPEATED" else column.type
                    raise ConfigError(
                        f"warehouse.{title}: column {name} is {found}, which cannot be compared; a {title} is one of "
                        f"{', '.join(sorted(types))}"
                    )

    def check_filter(self, partitioning: Partitioning | None, table: str) -> None:
        """Make sure that the table lets a merge look for its keys.

        Args:
            partitioning: the table's partitions; None: it has none.
            table: the table's name.

        Raises:
            ConfigError: its queries must have a filter over its partitions, which the key does not name.
        """
        if partitioning is None or not partitioning.filtered or self._names(partitioning.name):
            return
        raise ConfigError(
            f"{table} asks for a filter over its partitions ({partitioning.name}), and a merge has to look for its "
            f"keys in all of them: let `key` hold {partitioning.name}, or: bq update --norequire_partition_filter "
            f"{table.replace('.', ':', 1)}"
            if partitioning.column
            else f"{table} asks for a filter over the time of ingestion, which no record has: a merge cannot look for "
            f"its keys in it; run: bq update --norequire_partition_filter {table.replace('.', ':', 1)}"
        )

    def _names(self, column: str) -> bool:
        return folded(column) in map(folded, self.key)

    def script(
        self,
        plan: Plan,
        job: Job,
        source: TableOptions,
        columns: Columns,
        table: TableOptions,
        partitioning: Partitioning | None = None,
    ) -> str:
        """Return the SQL that merges a staging table and notes its plan, or does nothing if that is noted.

        Where the table asks for a filter over its partitions, whose column is of the key and so never null, there is
        one that leaves nothing out: between the least and the greatest value of the plan. These are variables, because
        only constants let BigQuery leave partitions out (BigQuery documentation, "Update partitioned table data using
        DML", filter in a merge condition; "Query partitioned tables", constant filter expressions).

        Args:
            plan: the plan.
            job: whose plan it is.
            source: the staging table.
            columns: its columns, but for the order.
            table: the table.
            partitioning: the table's partitions; None: it has none.

        Raises:
            ConfigError: a column of the key is missing, or cannot be compared.
        """
        self.check(columns)
        self.check_filter(partitioning, str(table))
        key = [self._name(columns, name) for name in self.key]
        order = f"{_quoted(ORDER.name)} DESC"
        newer = ""
        if self.updated_at is not None and (column := column_of(columns, self.updated_at)) is not None:
            name = _quoted(column.name)
            order = f"{name} DESC, {order}"  # null and NaN are the least
            old, new = f"target.{name}", f"source.{name}"
            none = f"COALESCE(IS_NAN({old}), TRUE)" if column.type == "FLOAT" else f"{old} IS NULL"
            newer = f" AND ({none} OR {new} >= {old})"
        names = [_quoted(column.name) for column in columns]
        matches = " AND ".join(f"target.{name} = source.{name}" for name in key)
        declared = ""
        if partitioning is not None and partitioning.filtered:
            name = self._name(columns, partitioning.name)
            declared = "".join(
                f"DECLARE {variable} DEFAULT (SELECT {least}({name}) FROM {source.quoted});\n"  # noqa: S608 - as below
                for variable, least in ((LOW, "MIN"), (HIGH, "MAX"))
            )
            matches += f" AND target.{name} BETWEEN {LOW} AND {HIGH}"
        ledger = table.sibling(LEDGER).quoted
        values = [plan.id, job.pipeline, job.life, str(table)]
        numbers = [plan.parts[-1].sequence, plan.records]
        noted = ", ".join([*map(_text, values), *map(str, numbers), "CURRENT_TIMESTAMP()"])
        # Twice the same question, in each statement, and no IF: a transaction of plain statements is the simplest.
        new = f"NOT EXISTS (SELECT 1 FROM {ledger} WHERE plan = {_text(plan.id)})"  # noqa: S608
        return f"""{declared}BEGIN TRANSACTION;
MERGE {table.quoted} AS target
USING (
  SELECT {", ".join(names)} FROM (
    SELECT *, ROW_NUMBER() OVER (PARTITION BY {", ".join(key)} ORDER BY {order}) AS {RANK} FROM {source.quoted}
  ) WHERE {RANK} = 1 AND {new}
) AS source
ON {matches}
WHEN MATCHED{newer} THEN UPDATE SET {", ".join(f"{name} = source.{name}" for name in names)}
WHEN NOT MATCHED THEN INSERT ({", ".join(names)}) VALUES ({", ".join(f"source.{name}" for name in names)});
INSERT INTO {ledger} ({", ".join(column.name for column in LEDGER_COLUMNS)})
SELECT {noted} FROM UNNEST([1]) WHERE {new};
COMMIT TRANSACTION;
"""  # noqa: S608 - every name and value was checked, and is quoted

    def _name(self, columns: Columns, name: str) -> str:
        column = column_of(columns, name)
        if column is None:
            raise ConfigError(
                f"warehouse.key: no record so far has {name}, and it is not declared: the columns are "
                f"{', '.join(column.name for column in columns[:20])}"
            )
        return _quoted(column.name)


def column_of(columns: Columns, name: str) -> Column | None:
    """Return the column that records call so."""
    wanted = folded(name)
    return next((c for c in columns if wanted in (folded(c.field or c.name), folded(c.name))), None)


def _quoted(name: str) -> str:
    return f"`{name}`"  # neither backticks nor backslashes are allowed in names of columns


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
