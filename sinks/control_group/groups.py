"""Where the control groups of a process are, and what they allow it of the processors.

A group is found as the kernel tells it: `/proc/self/cgroup` names the process's group,
`/proc/self/mountinfo` says where its hierarchy is mounted and which group is the root of that mount
(cgroups(7)); machines that mount both versions are understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from sinks.control_group.files import ROOT, number_of, text_of


class Groups(NamedTuple):
    """The control groups that a process is in.

    Attributes:
        version: 1 or 2.
        directories: the process's group, then those above it, as far as they can be seen.
    """

    version: int
    directories: list[Path]


def find(controller: str, root: Path = ROOT, *, process: int | None = None) -> Groups | None:
    """Find a process's groups for `controller`, such as "memory"; version 1 goes first where it has it.

    Args:
        controller: the name that version 1 has for it; version 2 has one group for all.
        root: where `/proc` and `/sys` are.
        process: the number of the process; None: this one. A group of another one that is not to be seen from
            here is told as the nearest above it.

    Returns:
        None where there are no such groups: no Linux, or no such process.
    """
    told = root / "proc" / ("self" if process is None else str(process)) / "cgroup"
    lines = (text_of(told) or "").splitlines()
    paths = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))  # version 2 has no name: ""
    for version, name in ((1, controller), (2, "")):
        for point, top in _mounts(root, version, controller) if name in paths else ():
            directories = _between(point, top, paths[name])
            if directories:
                return Groups(version, directories)
    return None


def processor_quota(root: Path = ROOT) -> float | None:
    """Return how many processors' time the control groups allow this process; None: as many as there are."""
    groups = find("cpu", root)
    quotas = []
    for directory in groups.directories if groups else ():
        if groups and groups.version == 1:
            quota = number_of(directory / "cpu.cfs_quota_us")
            period = number_of(directory / "cpu.cfs_period_us")
        else:
            words = (text_of(directory / "cpu.max") or "max").split()
            quota, period = (int(words[0]), int(words[1])) if words[0] != "max" else (None, None)
        if quota and quota > 0 and period:
            quotas.append(quota / period)
    return min(quotas, default=None)


def _mounts(root: Path, version: int, controller: str) -> Iterator[tuple[Path, str]]:
    """Yield where the hierarchy is mounted, and which group is the root of that mount (proc(5))."""
    for line in (text_of(root / "proc/self/mountinfo") or "").splitlines():
        left, _, right = line.partition(" - ")
        fields, (kind, *_, options) = left.split(), right.split()
        if kind == ("cgroup" if version == 1 else "cgroup2") and (
            version == 2 or controller in options.split(",")
        ):
            top, point = (re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), text) for text in fields[3:5])
            yield root / point.lstrip("/"), top


def _between(point: Path, top: str, path: str) -> list[Path]:
    """List the directories from group `path` up to the mount `point`, whose root is group `top`."""
    try:
        below = PurePosixPath(path).relative_to(top)
    except ValueError:
        # The mount was made in another cgroup namespace than the path is told for (a container engine's bind
        # mount): its root is the best there is, and in a container it is the right one.
        below = PurePosixPath()
    own = point / below if ".." not in below.parts else point
    while own != point and not own.is_dir():
        own = own.parent
    return [own, *(parent for parent in own.parents if parent.is_relative_to(point))] if own.is_dir() else []
