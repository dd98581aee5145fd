"""The places that a job writes to, looked at without writing anything, not even for a trial."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sinks import page_cache

if TYPE_CHECKING:
    from etl.pipeline import Pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file that is written, or a directory to write in, and what it stands on.

    Attributes:
        role: what it is to the job: `sink`, `warehouse`, `checkpoint`, `rejects`; to no job in particular:
            `path`, `temporary`.
        path: the file or the directory.
        directory: the nearest directory that exists; those below it would be made.
        file_system: its name; None: unknown.
        memory: whether the file system is memory, as tmpfs is.
        obstacle: why nothing can be written there; None: it can.
        total: how large the file system is, in bytes; 0: it has no size of its own.
        free: what this user may still take of it, in bytes.
        inodes: how many files may still be made; None: the file system does not count them.
        methods: how a sink would write there, in the order in which the methods are tried; empty: no sink does.
        reason: why in that way.
        volatile: whether the overlay is mounted so that a sync does nothing there, and nothing is durable.
    """

    role: str
    path: Path
    directory: Path
    file_system: str | None
    memory: bool
    obstacle: str | None
    total: int
    free: int
    inodes: int | None
    methods: tuple[str, ...]
    reason: str
    volatile: bool


def of_job(pipeline: Pipeline) -> Iterator[Place]:
    """Look at what a job writes; a bucket, or whatever else is no local file, is left out."""
    for role, part in (
        ("sink", pipeline.sink),
        ("warehouse", pipeline.warehouse),
        ("checkpoint", pipeline.store),
        ("rejects", pipeline.rejects),
    ):
        path = getattr(part, "path", None)
        if isinstance(path, Path):
            yield look(path, role, getattr(part, "policy", "auto"))


def look(path: Path, role: str, policy: page_cache.Policy = "auto") -> Place:
    """Look at a file or a directory, which need not exist.

    Args:
        path: the file or the directory.
        role: as in `Place`; `path` and `temporary` are directories, all others are files.
        policy: how a sink would write there.
    """
    path = path.absolute()
    start = path if role in ("path", "temporary") else path.parent
    stands = next(each for each in (start, *start.parents) if os.path.lexists(each) or each == each.parent)
    directory = next(each for each in (stands, *stands.parents) if each.is_dir())
    status = os.statvfs(directory)
    choice = page_cache.choose(directory, policy)
    by_sinks = role not in ("warehouse", "checkpoint")
    return Place(
        role=role,
        path=path,
        directory=directory,
        file_system=choice.file_system,
        memory=choice.memory,
        obstacle=_obstacle(path, stands, status),
        total=status.f_blocks * status.f_frsize,
        free=status.f_bavail * status.f_frsize,
        inodes=status.f_favail if status.f_files else None,
        methods=choice.methods if by_sinks else (),
        reason=choice.reason if by_sinks else "",
        volatile=choice.volatile,
    )


def by_directory(places: Sequence[Place]) -> dict[Path, list[Place]]:
    """Put together the places that stand in one directory."""
    found: dict[Path, list[Place]] = {}
    for place in places:
        found.setdefault(place.directory, []).append(place)
    return found


def _obstacle(path: Path, stands: Path, status: os.statvfs_result) -> str | None:
    """Say why `path` cannot be written, of which `stands` is what exists of its directory."""
    if status.f_flag & os.ST_RDONLY:
        return f"{stands} is on a file system that is mounted read-only"
    if not stands.is_dir():
        return f"{stands} is in the way: it is not a directory"
    # Files are renamed, unlinked and made again: it takes the directory's permission as well as the file's.
    for each, wanted in ((stands, os.W_OK | os.X_OK), (path, os.W_OK)):
        effective = os.access in os.supports_effective_ids
        if os.path.exists(each) and not os.access(each, wanted, effective_ids=effective):  # noqa: PTH110 - never raises
            return f"{each} may not be written by this user (uid {os.geteuid()})"
    if path != stands and path.is_dir():
        return f"{path} is a directory, where a file is to be written"
    return None
