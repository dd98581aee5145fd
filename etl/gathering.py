"""Records that are gathered before they are encoded: as many as a bound in bytes allows, whatever their sizes.

A record is weighed as it comes, by its length in JSON: orjson tells that in less time than it takes to copy the record.
Who weighs it that way also knows that it holds nothing which no format takes: bytes for names, half of a surrogate
pair, a set, more levels than a stack has room for. So what NDJSON refuses is refused here, in the same words.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import orjson

from etl.formats import TOO_DEEP, Refuse, portable, portable_numbers
from etl.records import Record, describe

# More at once make nothing faster: what is done once for all of them takes a tenth of the time of 1,000.
MOST_RECORDS = 2_000

# How many bytes an absent value takes in a column, and how many of these the values of one chunk may cost.
ABSENT_BYTES = 8
MOST_ABSENT = 4 * 1024 * 1024

# What a value weighs that has another form in JSON than where it is gathered for.
PLAIN_BYTES = 16


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records that are encoded together.

    Attributes:
        records: at least one.
        numbers: of each, its number in the source.
        weight: about how many bytes they are.
    """

    records: list[Record]
    numbers: array[int]
    weight: int

    def halves(self) -> tuple[Chunk, Chunk]:
        """Return the first and the second half."""
        middle = len(self.records) // 2
        return (
            Chunk(self.records[:middle], self.numbers[:middle], self.weight // 2),
            Chunk(self.records[middle:], self.numbers[middle:], self.weight // 2),
        )


def chunks(
    records: Iterator[Record], number: Callable[[], int], refuse: Refuse, most_bytes: int
) -> Iterator[Chunk]:
    """Gather records; one that is larger than the bound is alone.

    Args:
        records: they must stay as they are.
        number: returns the number of the record that was handed on last.
        refuse: takes each record that no format can encode.
        most_bytes: how many bytes are gathered at most.
    """
    taken: list[Record] = []
    numbers = array("q")
    names: set[str] = set()
    weight = 0
    for record in records:
        try:
            size = weigh(record)
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
            refuse(record, TOO_DEEP if "recursion" in str(error).lower() else describe(error), number())
            continue
        names.update(record)
        if taken and (weight + size > most_bytes or len(taken) * len(names) * ABSENT_BYTES > MOST_ABSENT):
            chunk = Chunk(taken, numbers, weight)
            taken, numbers, weight, names = [], array("q"), 0, set(record)
            yield chunk
            del chunk  # it would be held beside the next one
        taken.append(record)
        numbers.append(number())
        weight += size
        if weight >= most_bytes or len(taken) >= MOST_RECORDS:
            chunk = Chunk(taken, numbers, weight)
            taken, numbers, weight, names = [], array("q"), 0, set()
            del record
            yield chunk
            del chunk
    if taken:
        yield Chunk(taken, numbers, weight)


def weigh(record: Record) -> int:
    """Return about how many bytes a record is.

    Raises:
        Exception: it has no form in NDJSON.
    """
    beside = 0

    def plain(value: Any) -> Any:
        nonlocal beside
        if isinstance(value, (bytes, bytearray, memoryview)):
            beside += len(value)
            return None
        if isinstance(value, (Decimal, timedelta)):
            beside += PLAIN_BYTES
            return None
        return portable(value)

    try:
        return len(orjson.dumps(record, plain)) + beside
    except (TypeError, OverflowError):
        return len(orjson.dumps(portable_numbers(record), plain)) + beside
