"""What memory a job needs at least, and the refusal of one that has less: before it pulls anything."""

from __future__ import annotations

from collections.abc import Iterable

from etl import memory
from etl.errors import NotEnoughMemory
from etl.memory import Budget
from etl.words import size
from sinks import NeedsMemory


def gathered(pieces: Iterable[object]) -> dict[str, int]:
    """Return what the pieces of a job need at least, in bytes, by what needs it; what they share is counted once."""
    needs: dict[str, int] = {}
    for piece in pieces:
        if isinstance(piece, NeedsMemory):
            for what, taken in piece.least_memory().items():
                needs[what] = max(taken, needs.get(what, 0))
    return needs


def lack(budget: Budget) -> str | None:
    """Say how much memory a job lacks, and what needs it; None: it has enough, or nobody set a limit."""
    if budget.limit is None or budget.needed <= budget.limit:
        return None
    pieces = ", ".join(f"{size(taken)} for {what}" for what, taken in budget.needs.items())
    return f"it has {size(budget.limit)} of memory and needs {size(budget.needed)}: {pieces}"


def see_to(job: str, budget: Budget, instead: int | None = None) -> None:
    """Refuse a job that has less memory than it needs.

    Args:
        job: its name.
        budget: what it has.
        instead: what it would need with NDJSON in place of its format, in bytes; None: it could not have that.

    Raises:
        NotEnoughMemory: it has less.
    """
    missing = lack(budget)
    if missing is None:
        return
    hint = ""
    if instead is not None and budget.limit is not None and instead <= budget.limit:
        hint = f', or set format = "ndjson", with which it needs {size(instead)}'
    raise NotEnoughMemory(
        f"job {job!r}: {missing}. Give its control group, and its `memory` if that is set, {size(budget.needed)} or "
        f"more{hint}"
    )


def with_ndjson(pieces: Iterable[object]) -> int:
    """Return what a job would need whose pieces, but for its format, are these."""
    return memory.PYTHON_BYTES + memory.ON_THE_WAY_BYTES + sum(gathered(pieces).values())
