"""Compare what a checkpoint says with what the warehouse remembers and what its table holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import msgspec

from etl.checkpoint import Checkpoint
from etl.warehouses.base import Audit, Loaded

Kind = Literal["missing", "twice", "unknown", "failed", "waits", "forgotten"]

# What of it is wrong, and what kept it from being compared; the rest is only told.
WRONG = frozenset({"missing", "twice", "unknown", "failed"})
UNCOMPARED = frozenset({"forgotten"})


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that verification found.

    Attributes:
        kind: `missing`: rows that should be there are not; `twice`: rows were loaded more than once; `unknown`:
            rows or loads that the checkpoint knows nothing of; `failed`: a plan cannot be loaded; `waits`: not
            loaded yet, which is no fault; `forgotten`: the warehouse does not tell of all loads, so that less could
            be compared: nobody knows.
        text: what, how much of it, and where to look.
    """

    kind: Kind
    text: str


def compare(document: Checkpoint, audit: Audit) -> list[Finding]:
    """Return what does not fit together, and what is not loaded yet.

    Args:
        document: the checkpoint.
        audit: what the warehouse says.
    """
    return [*_mark(audit), *_loads(document, audit), *_rows(document, audit), *_waiting(document)]


def _mark(audit: Audit) -> Iterator[Finding]:
    """Look at what the table says of itself; what a former life has loaded may be counted, too."""
    if audit.contradiction and not audit.former_rows:
        yield Finding(kind="unknown", text=audit.contradiction)


def _loads(document: Checkpoint, audit: Audit) -> Iterator[Finding]:
    """Look at the loads one by one: is a plan, or a part, in two of them; is one there that should not be."""
    for plan, times in Counter(load.plan for load in audit.loads).items():
        if times > 1:
            again = [load for load in audit.loads if load.plan == plan]
            jobs = ", ".join(load.job for load in again)
            rows = sum(load.rows for load in again[1:])
            yield Finding(
                kind="twice", text=f"plan {plan} was loaded {times} times ({jobs}): {rows:,} rows too many"
            )
    in_order = sorted(
        (load for load in _first_times(audit) if load.first is not None),
        key=lambda load: (load.first or 0, load.last),
    )
    for one, other in pairwise(in_order):
        if (other.first or 0) <= one.last:
            yield Finding(
                kind="twice",
                text=f"parts {other.first} to {min(one.last, other.last)} were loaded by {one.job} and by {other.job}",
            )
    planned = {plan.id for plan in document.plans}
    for load in _first_times(audit):
        if load.last > document.loaded.sequence and load.plan not in planned:
            yield Finding(
                kind="unknown",
                text=f"{load.job} loaded {load.rows:,} rows up to part {load.last}; the checkpoint is at part "
                f"{document.loaded.sequence}: was an older copy of it put back?",
            )


def _rows(document: Checkpoint, audit: Audit) -> Iterator[Finding]:
    """Compare the sums: of the checkpoint, of the loads, of the table."""
    planned = {plan.id for plan in document.plans}
    early = sum(load.rows for load in _first_times(audit) if load.plan in planned)
    loads = sum(1 for load in _first_times(audit) if load.plan not in planned)
    loads = loads if audit.loads_ever is None else audit.loads_ever
    expected = document.loaded.totals.records
    remembered = sum(load.rows for load in audit.loads) if audit.rows_ever is None else audit.rows_ever
    all_remembered = loads >= document.loads
    if all_remembered and remembered - early < expected:
        yield Finding(
            kind="missing",
            text=f"the checkpoint counts {expected:,} records as loaded, the loads that the warehouse remembers "
            f"added {remembered - early:,}: {expected - remembered + early:,} are missing{_gaps(audit)}",
        )
    if audit.uncounted:
        yield Finding(
            kind="forgotten",
            text=f"the rows of the table are not known, because {audit.uncounted}: they were not compared",
        )
        return
    if audit.table_rows is None:
        if remembered or expected:
            yield Finding(kind="missing", text=f"there is no table {audit.table}")
        return
    if not all_remembered:
        yield Finding(
            kind="forgotten",
            text=f"the checkpoint counts {document.loads:,} loads, the warehouse tells of {loads:,}"
            f"{_because(audit)}; {'their sum' if audit.merged else 'the number of rows'} is compared, and not whether "
            f"each load is there once{_gaps(audit)}",
        )
    if audit.former_rows:
        yield Finding(
            kind="twice",
            text=f"{audit.table} holds {audit.former_rows:,} rows that this job loaded before its checkpoint was lost "
            "or begun again: what it has loaded since may be there twice",
        )
    in_table = (
        audit.other_rows
        + audit.former_rows
        + (remembered if all_remembered else max(expected + early, remembered))
    )
    verb = "took" if audit.merged else "added"
    if audit.table_rows > in_table:
        more = audit.table_rows - in_table
        or_more = " or more" if audit.merged else ""
        elsewhere = (
            f"{more:,}{or_more} came from somewhere else"
            if all_remembered and not audit.hidden
            else f"{more:,}{or_more} are there twice, or came from somewhere else{_because(audit)}"
        )
        yield Finding(
            kind="unknown",
            text=f"{audit.table} holds {audit.table_rows:,} rows, the loads that are known {verb} {in_table:,}: "
            f"{elsewhere}",
        )
    if audit.merged and audit.table_rows:
        return  # how many rows so many records become, only the keys could tell
    if audit.table_rows < in_table:
        yield Finding(
            kind="missing",
            text=f"{audit.table} holds {audit.table_rows:,} rows, its loads {verb} {in_table:,}: "
            f"{in_table - audit.table_rows:,} were deleted or lost",
        )


def _waiting(document: Checkpoint) -> Iterator[Finding]:
    for plan in document.plans:
        yield Finding(
            kind="failed" if plan.failure else "waits",
            text=f"plan {plan.id} ({plan.records:,} records in parts {plan.parts[0].sequence} to "
            f"{plan.parts[-1].sequence}): {plan.failure or 'not acknowledged yet; the next run looks for it'}",
        )
    if document.sealed:
        records = sum(part.records for part in document.sealed)
        yield Finding(
            kind="waits",
            text=f"{len(document.sealed)} sealed parts ({records:,} records) wait for the next load",
        )


def _first_times(audit: Audit) -> list[Loaded]:
    """Return the loads without those that repeat an earlier one."""
    return list({load.plan: load for load in reversed(audit.loads)}.values())


def _because(audit: Audit) -> str:
    return f" ({audit.hidden})" if audit.hidden else ""


def _gaps(audit: Audit) -> str:
    """Say between which parts something may be missing; a gap may be parts of dead letters alone."""
    ranges = sorted((load.first, load.last) for load in audit.loads if load.first is not None)
    gaps = [
        f"{last + 1} to {first - 1}"
        for (_, last), (first, _) in pairwise([(0, 0), *ranges])
        if first > last + 1
    ]
    return f"; no load took parts {', '.join(gaps[:5])}" if gaps else ""
