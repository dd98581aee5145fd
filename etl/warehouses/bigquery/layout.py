"""How a table is partitioned, and which partition a value belongs to.

Sources, of BigQuery's documentation: "Introduction to partitioned tables" (units, integer ranges, the partitions
`__NULL__` and `__UNPARTITIONED__`); "Query partitioned tables" (tables that ask for a filter).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from etl.warehouses.bigquery import times

# The name of the column that a table has which is partitioned by the time of ingestion.
INGESTED = "_PARTITIONTIME"

# What has no partition of its own: rows with null, and rows that are beyond all partitions.
NULL = -1
BEYOND = -2

# Rows before and after these days are in `__UNPARTITIONED__`.
FIRST_DAY = date(1960, 1, 1)
LAST_DAY = date(2159, 12, 31)


@dataclass(frozen=True, slots=True, kw_only=True)
class Partitioning:
    """The partitions of a table.

    Attributes:
        column: whose value decides; None: the time of the load does.
        unit: HOUR, DAY, MONTH or YEAR; RANGE: of integers.
        filtered: whether queries must have a filter over them.
        start: of integers, the first that has a partition.
        end: the first after the last one.
        interval: how many integers share a partition.
    """

    column: str | None
    unit: str
    filtered: bool = False
    start: int = 0
    end: int = 0
    interval: int = 1

    @classmethod
    def of(cls, found: Any) -> Partitioning | None:
        """Return that of a table as the client has it; None: it has no partitions."""
        filtered = bool(found.require_partition_filter)
        if (time := found.time_partitioning) is not None:
            # The older place of that option; the client's own property for it warns.
            filtered = filtered or bool(time.to_api_repr().get("requirePartitionFilter"))
            return cls(column=time.field, unit=time.type_ or "DAY", filtered=filtered)
        if (ranges := found.range_partitioning) is not None:
            span = ranges.range_
            return cls(
                column=ranges.field,
                unit="RANGE",
                filtered=filtered,
                start=int(span.start),
                end=int(span.end),
                interval=int(span.interval),
            )
        return None

    @property
    def name(self) -> str:
        """What a filter names."""
        return self.column or INGESTED

    def number(self, value: Any) -> int:
        """Return the number of the partition of a value that fits the column; equal ones share a partition.

        Args:
            value: as a gate lets it through: null, an integer, a date or time, or text of one.
        """
        if value is None:
            return NULL
        if self.unit == "RANGE":
            number = int(value)
            return (number - self.start) // self.interval if self.start <= number < self.end else BEYOND
        moment = _moment(value)
        day = moment.date() if isinstance(moment, datetime) else moment
        if not FIRST_DAY <= day <= LAST_DAY:
            return BEYOND
        if self.unit == "YEAR":
            return day.year
        if self.unit == "MONTH":
            return day.year * 12 + day.month
        if self.unit == "DAY":
            return day.toordinal()
        return day.toordinal() * 24 + (moment.hour if isinstance(moment, datetime) else 0)


def _moment(value: Any) -> date | datetime:
    """Return the day or the moment, in UTC where it has a zone."""
    if isinstance(value, str):
        value = times.moment(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        try:
            return value.astimezone(UTC)
        except OverflowError:
            return date.min
    if not isinstance(value, date):
        raise TypeError(f"{value!r} is no date")
    return value
