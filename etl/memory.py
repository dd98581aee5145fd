"""The byte budget of a job: what it needs at least, and what the control group allows (`sinks.control_group`).

What a job needs is counted together before it starts, and one that has less is refused: the kernel would kill it later.
Only memory is counted that cannot be taken back. Libraries that are mapped from files can; where they are read for the
first time a container crawls without room for them (DuckDB has 64 MiB, pyarrow 60).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sinks import control_group

MIB = 1024 * 1024

# Anonymous memory, measured with Python 3.11 and 3.13 (x86-64): the command line, the pipeline and all that both import
# have 22 MiB. What several pieces of a job need is added under the names that they give to it.
PYTHON = "Python and this library"
PYTHON_BYTES = 24 * MIB
# Blocks of 32 KiB that are decoded, 256 KiB that are encoded, two windows of the page cache, two of the smallest parts.
ON_THE_WAY = "records and parts on their way"
ON_THE_WAY_BYTES = 8 * MIB
WAREHOUSE = "what an embedded warehouse may take"

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
# Records that a format gathers are dicts first: writing groups of 1, 4, 8 and 16 MiB took 20, 31, 82 and 90 MiB.
GROUP_MOST = (
    16 * MIB
)  # BigQuery and DuckDB read row groups in parallel; below 16 MiB they are too small to pay
GROUP_LEAST = 1 * MIB
GROUP_COSTS = 10
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
LARGE_BLOCK = 1 * MIB
_M_MMAP_THRESHOLD = -3  # malloc.h


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much memory and how many threads the pieces of one job may take.

    Attributes:
        limit: what the job as a whole may be charged with, in bytes; None: nobody set a limit.
        warehouse: what an embedded warehouse may take, in bytes.
        threads: how many threads an embedded warehouse may run.
        part_bytes: how large a part may get, in bytes, so that the two in transit (one being written, one being
            loaded) and what their load costs stay within a quarter of the limit.
        group_bytes: how much of its records a format that gathers them may hold, in bytes.
        needs: what the job needs at least, in bytes, by what needs it.
    """

    limit: int | None
    warehouse: int
    threads: int
    part_bytes: int = PART_UNLIMITED
    group_bytes: int = GROUP_MOST
    needs: Mapping[str, int] = field(default_factory=dict)

    @property
    def needed(self) -> int:
        """How much the job needs at least, in bytes."""
        return sum(self.needs.values())

    @property
    def transit_bytes(self) -> int:
        """How many bytes of parts in transit may stay in the page cache, never to touch the disk."""
        return TRANSIT_UNLIMITED if self.limit is None else self.limit // TRANSIT_IN_LIMIT


def budget(
    memory: int | None = None, *, needs: Mapping[str, int] | None = None, root: Path = Path("/")
) -> Budget:
    """Divide the memory there is.

    Args:
        memory: what the job may take, in bytes; None: what the control group allows. Where the control group
            allows less, less it is: the kernel kills for that one.
        needs: what its pieces need at least, besides Python itself (`sinks.NeedsMemory`).
        root: where `/proc` and `/sys` are.
    """
    needs = {PYTHON: PYTHON_BYTES, ON_THE_WAY: ON_THE_WAY_BYTES, **(needs or {})}
    found = control_group.read(root)
    limits = [limit for limit in (memory, found.limit if found else None) if limit is not None]
    limit = min(limits, default=None)
    if limit is None:
        warehouse, part_bytes, group_bytes = WAREHOUSE_UNLIMITED, PART_UNLIMITED, GROUP_MOST
    else:
        spare = max(0, limit - sum(needs.values()))
        part_bytes = max(PART_LEAST, min(limit // PARTS_IN_LIMIT, PART_LEAST + spare // 2))
        spare -= 2 * (part_bytes - PART_LEAST)
        usual = min(max(limit // 4, WAREHOUSE_USUAL), limit // 2, WAREHOUSE_MOST)
        warehouse = max(WAREHOUSE_LEAST, min(usual, WAREHOUSE_LEAST + spare))
        spare -= warehouse - WAREHOUSE_LEAST if WAREHOUSE in needs else 0
        group_bytes = min(GROUP_MOST, GROUP_LEAST + spare // GROUP_COSTS)
    # One processor stays with the transforms, which run while the part before loads.
    threads = max(1, min(processors(root) - 1, THREADS_MOST, warehouse // BYTES_A_THREAD))
    return Budget(
        limit=limit,
        warehouse=warehouse,
        threads=threads,
        part_bytes=part_bytes,
        group_bytes=group_bytes,
        needs=needs,
    )


def memory_for(warehouse: int) -> int:
    """Return with how much memory a job surely gives an embedded warehouse so many bytes, 1 GiB at most.

    A quarter of it goes to the warehouse, and no job needs more than three quarters for the rest.
    """
    return 4 * max(warehouse, WAREHOUSE_USUAL)


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


def give_back_large_blocks() -> None:
    """Have the C library give a large block back to the system whenever it is freed, in this process.

    glibc stops doing so by itself: its threshold becomes the size of the largest block that was freed, up to 32 MiB
    (mallopt(3), M_MMAP_THRESHOLD), and then each thread's heap keeps twice as much. DuckDB reads JSON into blocks of
    32 MiB; with a file that was closed and opened ten times 15 MiB more were resident, which never came back.
    """
    with suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK)
