"""The byte budget of a job, as it follows from what the control group allows (`sinks.control_group`)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sinks import control_group

MIB = 1024 * 1024

# The budget. A serial loop with DuckDB's memory_limit at 64 MiB finishes in a group of 128 MiB, where Python
# with its modules and the parts in transit take the other half.
WAREHOUSE_USUAL = 64 * MIB  # down to this an embedded warehouse gets a quarter of the limit, below it a half
# DuckDB 2.0's reader of NDJSON reserves 32 MiB for each thread at once: measured, an insert out of a file fails
# with a memory_limit of 32 MiB and one thread, or 64 MiB and two, and succeeds with 40 and one, 128 and two.
WAREHOUSE_LEAST = 48 * MIB
WAREHOUSE_MOST = 1024 * MIB  # more makes no load faster: it would only be cache of the database file
# Without a limit the memory is most likely that of others, and DuckDB fills what it gets with cached blocks.
WAREHOUSE_UNLIMITED = 256 * MIB
BYTES_A_THREAD = 128 * MIB  # DuckDB's guide asks for 125 MB a thread (duckdb.org, Performance: Environment)
THREADS_MOST = 4
# A part in transit costs about three times its size: the page cache of two (one is written, one is loaded), and
# what DuckDB writes for it. Measured, a group of 128 MiB, 3 M records of 115 bytes: parts of 2, 4 and 8 MiB peak
# at 83, 86 and 101 MiB; parts of 16 MiB at the limit, with 21,000 failed charges and half the speed.
PARTS_IN_LIMIT = 16
PART_LEAST = 1 * MIB
PART_UNLIMITED = 64 * MIB
# Parts that stay in the page cache until they are loaded and truncated may take a quarter of the limit: above
# that reclaim forces them out to the disk all the same, and stalls those who write.
TRANSIT_IN_LIMIT = 4
TRANSIT_UNLIMITED = 256 * MIB
# Records that a format gathers to write them at once. They cost three times as much while they are written: Arrow's
# columns, the pages of one of them, and these compressed.
GROUPS_IN_LIMIT = 16
GROUP_LEAST = 1 * MIB
GROUP_MOST = 16 * MIB  # BigQuery and DuckDB read row groups in parallel; larger ones gain nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much memory and how many threads the pieces of one job may take.

    Attributes:
        limit: what the job as a whole may be charged with, in bytes; None: nobody set a limit.
        warehouse: what an embedded warehouse may take, in bytes.
        threads: how many threads an embedded warehouse may run.
        part_bytes: how large a part may get, in bytes, so that the two in transit (one being written, one being
            loaded) and what their load costs stay within a quarter of the limit.
    """

    limit: int | None
    warehouse: int
    threads: int
    part_bytes: int = PART_UNLIMITED

    @property
    def transit_bytes(self) -> int:
        """How many bytes of parts in transit may stay in the page cache, never to touch the disk."""
        return TRANSIT_UNLIMITED if self.limit is None else self.limit // TRANSIT_IN_LIMIT

    @property
    def group_bytes(self) -> int:
        """How many bytes of records a format may gather before it writes them."""
        if self.limit is None:
            return GROUP_MOST
        return min(max(self.limit // GROUPS_IN_LIMIT, GROUP_LEAST), GROUP_MOST)


def budget(memory: int | None = None, *, root: Path = Path("/")) -> Budget:
    """Divide the memory there is.

    Args:
        memory: what the job may take, in bytes; None: what the control group allows. Where the control group
            allows less, less it is: the kernel kills for that one.
        root: where `/proc` and `/sys` are.
    """
    found = control_group.read(root)
    limits = [limit for limit in (memory, found.limit if found else None) if limit is not None]
    limit = min(limits, default=None)
    if limit is None:
        warehouse, part_bytes = WAREHOUSE_UNLIMITED, PART_UNLIMITED
    else:
        warehouse = min(max(limit // 4, WAREHOUSE_USUAL), limit // 2, WAREHOUSE_MOST)
        warehouse = max(warehouse, WAREHOUSE_LEAST)
        part_bytes = max(limit // PARTS_IN_LIMIT, PART_LEAST)
    # One processor stays with the transforms, which run while the part before loads.
    threads = max(1, min(processors(root) - 1, THREADS_MOST, warehouse // BYTES_A_THREAD))
    return Budget(limit=limit, warehouse=warehouse, threads=threads, part_bytes=part_bytes)


def resident(root: Path = Path("/")) -> int | None:
    """Return the resident memory of this process, in bytes; None where `/proc` does not say."""
    try:
        pages = int((root / "proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def processors(root: Path = Path("/")) -> int:
    """Return how many processors this process may keep busy, by affinity and quota; at least 1."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = control_group.processor_quota(root)
    return max(1, count if quota is None else min(count, int(quota)))
