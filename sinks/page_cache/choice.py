"""Which method a file gets, and how large its window is."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from sinks import control_group
from sinks.page_cache import kernel

Policy = Literal["auto", "write_behind", "fdatasync", "direct", "uncached", "keep"]
POLICIES: tuple[Policy, ...] = get_args(Policy)

# Those whose driver starts the writeback of a range when sync_file_range asks for it. All others get
# fdatasync: the call succeeds on overlayfs, and does nothing there.
WRITE_BEHIND = ("ext4", "xfs", "btrfs", "f2fs")

MEMORY = ("tmpfs", "ramfs")

# With each method, what is tried next when it does not work. Direct I/O stands late: it waits for each write.
NEXT: dict[Policy, tuple[str, ...]] = {
    "keep": ("keep",),
    "write_behind": ("write_behind", "fdatasync", "direct", "keep"),
    "fdatasync": ("fdatasync", "direct", "keep"),
    "uncached": ("uncached", "write_behind", "fdatasync", "direct", "keep"),
    "direct": ("direct", "write_behind", "fdatasync", "keep"),
}

MIB = 1024 * 1024
# Measured: 1 to 16 MiB are equally fast with sync_file_range, 4 to 32 MiB with fdatasync; two are cached at a
# time. Four writers with windows of 8 MiB fail charges in a group of 64 MiB, with 1 MiB they do not.
WINDOW_LEAST = 1 * MIB
WINDOW_MOST = 8 * MIB
WINDOWS_IN_LIMIT = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How a file in some place would be written.

    Attributes:
        file_system: its name, as `mount` shows it; None: unknown.
        methods: what is tried, in this order, until one is seen to work.
        reason: why, in words.
        memory: whether the file system is memory itself, whose pages are charged and cannot be dropped.
        volatile: whether it is an overlay that is mounted so: no sync does anything there.
    """

    file_system: str | None
    methods: tuple[str, ...]
    reason: str
    memory: bool = False
    volatile: bool = False


def check_policy(policy: str) -> None:
    """Make sure that there is such a policy.

    Raises:
        ValueError: there is not.
    """
    if policy not in POLICIES:
        raise ValueError(f"policy is {policy!r}; it must be one of {', '.join(POLICIES)}")


def choose(place: int | str | os.PathLike[str], policy: Policy = "auto") -> Choice:
    """Say how a file would be written; touches nothing.

    Args:
        place: a file or a directory, which need not exist yet; or an open descriptor.
        policy: "auto", or the method that is wished for.

    Raises:
        ValueError: there is no such policy.
    """
    check_policy(policy)
    if not isinstance(place, int):
        path = Path(place).absolute()
        # Not Path.exists, which raises below a directory that may not be looked into.
        there = (each for each in (path, *path.parents) if os.path.exists(each))  # noqa: PTH110
        place = next(there, Path(path.anchor))
    found = kernel.file_system(place)
    if sys.platform != "linux":
        reason = f"{sys.platform} has no calls that keep the page cache small: plain writes"
        return Choice(file_system=found, methods=NEXT["keep"], reason=reason)
    if found in MEMORY:
        reason = f"{found} is memory: what is written is charged to the job, and cannot be dropped"
        return Choice(file_system=found, methods=NEXT["keep"], reason=reason, memory=True)
    volatile = found == "overlayfs" and kernel.is_volatile(place)
    if policy != "auto":
        return Choice(file_system=found, methods=NEXT[policy], reason="asked for", volatile=volatile)
    if found in WRITE_BEHIND:
        reason = f"{found} writes back a range when it is told to"
        return Choice(file_system=found, methods=NEXT["write_behind"], reason=reason)
    if volatile:
        reason = "the overlay is mounted volatile: no sync does anything there, and nothing there is durable"
        return Choice(file_system=found, methods=NEXT["direct"], reason=reason, volatile=True)
    reason = f"{found or 'this file system'} may take sync_file_range and do nothing: fdatasync does it"
    return Choice(file_system=found, methods=NEXT["fdatasync"], reason=reason)


def window(memory: int | None, writers: int) -> int:
    """Return the size of a window, in bytes.

    Args:
        memory: what the job may be charged with, in bytes; None: what its control group allows.
        writers: how many files are being written in this process.
    """
    if memory is None:
        found = control_group.read()
        memory = found.limit if found is not None else None
    if memory is None:
        return WINDOW_MOST
    return min(max(memory // WINDOWS_IN_LIMIT // max(1, writers), WINDOW_LEAST), WINDOW_MOST)
