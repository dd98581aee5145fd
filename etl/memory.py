"""What the control group says about memory, and the byte budget that follows from it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much memory and how many threads the pieces of one job may take.

    Attributes:
        limit: what the job as a whole may be charged with, in bytes; None: nobody set a limit.
        warehouse: what an embedded warehouse may take, in bytes.
        threads: how many threads an embedded warehouse may run.
    """

    limit: int | None
    warehouse: int
    threads: int
