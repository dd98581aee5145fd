"""The transforms of examples/flights.toml: plain generators over records."""

from collections.abc import Iterator
from typing import Any

import etl

Record = dict[str, Any]


def clean(records: Iterator[Record]) -> Iterator[Record]:
    """Leave out the flights that never left, and the columns that follow from others."""
    for record in records:
        if record["dep_delay"] is None:
            continue
        for column in ("year", "month", "day", "hour", "minute", "sched_dep_time", "sched_arr_time"):
            del record[column]
        record["at"] = record.pop("time_hour")
        yield record


@etl.each
def add_route(record: Record) -> Record:
    """Name the route, as people do: EWR-SFO."""
    record["route"] = f"{record['origin']}-{record['dest']}"
    return record
