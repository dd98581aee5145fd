"""What the memory benchmark measured, and its table."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection, Sequence

import msgspec

MIB = 1 << 20
LARGE = 1 * MIB
GROWTH = 0.05  # that is no growth
TITLES = {"none": "no warehouse", "duckdb": "DuckDB"}


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One job to run.

    Attributes:
        warehouse: `duckdb` or `none`.
        format: of the parts.
        limit: of the control group, in bytes.
        records: how many.
        size: of a record, in bytes.
    """

    warehouse: str
    format: str
    limit: int
    records: int
    size: int

    @property
    def name(self) -> str:
        """What it is called, in one line."""
        return f"{self.format} {self.warehouse} {self.limit // MIB} MiB {self.records:,} of {self.size}"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it.

    Attributes:
        cell: the job.
        seconds: from the start of its process to the end.
        exit_code: 0: it finished; 2: an error that it named.
        error: that error.
        anonymous: the peak of its anonymous memory, in bytes, looked at every 20 ms.
        cache: the peak of the page cache charged to it.
        charged: the peak of all that was charged to it, as the kernel has it.
        oom_kills: how often the kernel killed it.
    """

    cell: Cell
    seconds: float
    exit_code: int
    error: str
    anonymous: int
    cache: int
    charged: int
    oom_kills: int

    def __str__(self) -> str:
        if self.oom_kills:
            return "KILLED"
        if self.error.startswith("NotEnoughMemory") and "needs " in self.error:
            return f"refused: {self.error.partition(' needs ')[2].partition(':')[0]}"
        if self.exit_code:
            return f"failed: {self.error.partition(':')[0]}"
        return f"{self.anonymous / MIB:.0f} + {self.cache / MIB:.0f}, {self.charged / MIB:.0f}"


def render(outcomes: Collection[Outcome], wanted: Sequence[Cell]) -> str:
    """Write the table.

    Args:
        outcomes: what was measured, of which only that is shown which is wanted.
        wanted: the cells of the table, in any order.
    """
    done = {outcome.cell.name: outcome for outcome in outcomes}
    counts = sorted({cell.records for cell in wanted if cell.size < LARGE})
    rows = []
    bad = missing = 0
    for warehouse, format_, limit in sorted({(cell.warehouse, cell.format, cell.limit) for cell in wanted}):
        mine = [
            cell
            for cell in wanted
            if (cell.warehouse, cell.format, cell.limit) == (warehouse, format_, limit)
        ]
        small = [
            done.get(cell.name) for cell in sorted(mine, key=lambda cell: cell.records) if cell.size < LARGE
        ]
        large = [done.get(cell.name) for cell in mine if cell.size >= LARGE]
        missing += (small + large).count(None)
        bad += sum(1 for outcome in small + large if outcome is not None and outcome.oom_kills)
        grown = _growth(small)
        bad += grown is not None and grown > GROWTH
        shown = [str(outcome) if outcome else "not run" for outcome in small + large]
        growth = "" if grown is None else f"{grown:+.0%}"
        rows.append(
            f"| {TITLES[warehouse]} | {format_} | {limit // MIB} | {' | '.join(shown[:-1])} | {growth} | {shown[-1]} |"
        )
    heads = [f"{count:,} records" for count in counts]
    return "\n".join(
        [
            "# Memory of whole jobs",
            "",
            f"{bad} of {len(wanted) - missing} cells grew by more than {GROWTH:.0%}, or were killed; {missing} were "
            "not run. `make bench-memory` writes this, and runs those that are missing.",
            "",
            f"| warehouse | format | limit, MiB | {' | '.join(heads)} | growth | 300 records of 1 MiB |",
            f"|---|---|---|{'---|' * len(heads)}---|---|",
            *rows,
            "",
            "## How it was measured",
            "",
            f"- {platform.system()} {platform.release()}, {os.cpu_count()} processors, Python "
            f"{platform.python_version()}; other work ran on the machine at the same time.",
            "- Each job is a process in a memory cgroup of its own with that limit, without swap. Its libraries had "
            "been read before: their pages are charged to others.",
            "- In a cell: the peak of anonymous memory *plus* the peak of the page cache, then the peak of all that "
            "was charged, in MiB. The first two are looked at every 20 ms, the kernel keeps the last one. That may be "
            "as large as the limit: page cache is taken back there.",
            "- Growth is that of anonymous memory, from the fewest records to the most.",
            "- *Refused* jobs ended before they pulled a record, and named what they need. *Failed* ones ended with an "
            "error that says what to do; nothing was kept of the load that failed.",
            "- The records have 64 bytes and four fields, or a number and a text of 1 MiB. A generator makes them.",
            "",
        ]
    )


def _growth(small: Sequence[Outcome | None]) -> float | None:
    """Return by how much anonymous memory grows; None: not all are done, or finished."""
    first, last = small[0], small[-1]
    if first is None or last is None or first.exit_code or last.exit_code or not first.anonymous:
        return None
    return last.anonymous / first.anonymous - 1
