"""What the parts of a run need to know of their job, and count together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from etl import formats
from etl.checkpoint import Totals
from etl.columns import Columns
from etl.governor import Governor
from etl.records import Transform
from etl.warehouses.base import Warehouse
from sinks import Sink

# Below this a part is not cut smaller: a checkpoint and a load for each would cost more than they carry.
SMALLEST_PART = 64 * 1024

# What becomes of fields that the table has no column for.
Drift = Literal["evolve", "freeze", "ignore"]
# What becomes of records that cannot be read, transformed, encoded or loaded.
OnError = Literal["fail", "reject"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the engine needs of a job, resolved: instances in place of names, defaults filled in.

    Attributes:
        schema: the declared columns of parts that stay, where there is no warehouse; empty: none are.
    """

    pipeline: str
    source: Any
    transforms: Sequence[Transform]
    format: formats.Format
    sink: Sink
    rejects: Sink
    warehouse: Warehouse | None
    fingerprint: dict[str, str]
    drift: Drift
    on_error: OnError
    max_rejects: int | None
    part_bytes: int
    part_records: int | None
    part_seconds: float | None
    governor: Governor
    schema: Columns = ()


@dataclass(kw_only=True)
class Counts:
    """What this run has done so far."""

    records: int = 0
    bytes: int = 0
    rejected: int = 0
    ignored: int = 0
    parts: int = 0
    loaded: int = 0
    cut_for_memory: int = 0

    def give_up(self, before: Totals, after: Totals) -> None:
        """Count what was given up no more; some of it may be of an earlier run.

        Args:
            before: the job's sums with it.
            after: those without it.
        """
        self.records = max(0, self.records - (before.records - after.records))
        self.bytes = max(0, self.bytes - (before.bytes - after.bytes))
        self.rejected = max(0, self.rejected - (before.rejected - after.rejected))
        self.ignored = max(0, self.ignored - (before.ignored - after.ignored))
        self.parts = max(0, self.parts - (before.parts - after.parts))
