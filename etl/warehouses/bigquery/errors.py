"""A failed load in words: which part, row and column, what was found, and what to do next.

BigQuery names an object and the byte at which the row begins: "Error while reading data, error message: JSON parsing
error in row starting at position 2529: Could not convert value to integer. Field: id; Value: abc File: gs://…". It
stops at the first such row, and says nothing of rows for some errors; then the records are looked through once more
with what the table's columns are now.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import orjson

from etl.checkpoint import Part, Plan
from etl.warehouses.base import Gate, Misfit
from etl.warehouses.bigquery.parts import text
from etl.warehouses.bigquery.reasons import said, step_for
from sinks.base import SealedPart

# So many rows are named; there may be more.
MOST = 5

# Parts of so many bytes are looked through for what does not fit, where the job names no row.
LOOKED_THROUGH = 256 * 1024 * 1024

_POSITION = re.compile(r"row starting at position (\d+)")
_FIELD = re.compile(r"Field: ([^;]+?)(?:;|\. |\.?$| File: )")
_VALUE = re.compile(r"Value: (.*?)(?: File: |$)")
_FILE = re.compile(r"File: (gs://\S+)")
_READING = re.compile(r"^Error while reading data, error message: ")

Read = Callable[[SealedPart], Iterator[bytes]]


def explain(job: Any, plan: Plan, read: Read, gate: Callable[[], Gate]) -> str:
    """Say why a load job failed for good, in one line.

    Args:
        job: the failed job.
        plan: what it was to load.
        read: yields a part's bytes, wherever it is; what it raises makes the answer poorer, and is not raised.
        gate: makes a gate with the table's present columns.
    """
    found = list(_told(job, plan, read))
    if not any(" row " in each for each in found):
        found = list(islice(_looked_through(plan, read, gate), MOST)) or found
    if not found:
        found = [said(job)]
    parts = f"{plan.parts[0].sequence} to {plan.parts[-1].sequence}"
    if len(plan.parts) == 1:
        parts = str(plan.parts[0].sequence)
    return (
        f"job {job.job_id} cannot load part{'s' if len(plan.parts) > 1 else ''} {parts}: {'; '.join(found)}. "
        f"Nothing of it was loaded: {step_for(job)}"
    )


def _told(job: Any, plan: Plan, read: Read) -> Iterator[str]:
    """Yield what the job's own errors say of rows."""
    seen = set()
    for error in [*(job.errors or ()), job.error_result or {}]:
        message = " ".join(str(error.get("message") or "").split())
        position = _POSITION.search(message)
        if position is None or message in seen:
            continue
        seen.add(message)
        if len(seen) > MOST:
            return
        named = _FILE.search(message)
        uri = named[1] if named else str(error.get("location") or "")
        part, row = _row(plan, list(job.source_uris or ()), uri, int(position[1]), read)
        column, value = _FIELD.search(message), _VALUE.search(message)
        what = _READING.sub("", message)
        what = _POSITION.sub("", what).replace("JSON parsing error in :", "").strip(" :")
        what = re.split(r" ?Field: | File: ", what)[0].rstrip(". ") or "it cannot be read"
        where = f"part {part.sequence} ({part.sealed.uri}), " if part else ""
        at = f"row {row:,}" if row else f"the row at byte {int(position[1]):,}"
        yield (
            where
            + at
            + (f", column {column[1].strip()}" if column else "")
            + f": {what[:200]}"
            + (f", found {value[1].strip()[:100]!r}" if value else "")
        )


def _row(
    plan: Plan, uris: Sequence[str], uri: str, position: int, read: Read
) -> tuple[Part | None, int | None]:
    """Find the part, and the row within it from 1, that begins at a byte of what BigQuery read as one file."""
    if uris:
        at = uris.index(uri) if uri in uris else 0 if len(uris) == 1 else None
        candidates = [] if at is None or at >= len(plan.parts) else [plan.parts[at]]
    else:
        candidates = list(plan.parts)  # sent along with the job, one after the other
    with suppress(Exception):  # an explanation that is less exact is better than none
        for part in candidates:
            row = 1
            for block in text(plan.format, read(part.sealed)):
                if position < len(block):
                    return part, row + block.count(b"\n", 0, position)
                row += block.count(b"\n")
                position -= len(block)
    return (candidates[0], None) if len(candidates) == 1 else (None, None)


def _looked_through(plan: Plan, read: Read, gate: Callable[[], Gate]) -> Iterator[str]:
    """Yield what of the records does not fit the table as it is now; nothing for formats that are not lines."""
    if plan.format == "parquet":
        return
    with suppress(Exception):  # as above
        known = gate()
        looked_through = 0
        for part in plan.parts:
            looked_through += part.sealed.bytes
            if looked_through > LOOKED_THROUGH and part is not plan.parts[0]:
                return
            for row, line in enumerate(_lines(text(plan.format, read(part.sealed))), 1):
                try:
                    known.admit(orjson.loads(line))
                except (Misfit, orjson.JSONDecodeError) as error:
                    yield f"part {part.sequence} ({part.sealed.uri}), row {row:,}: {error}"


def _lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for block in blocks:
        *whole, rest = (rest + block).split(b"\n")
        yield from whole
    if rest:
        yield rest
