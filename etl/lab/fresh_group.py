"""A memory cgroup of one's own, to see what one process is charged with, and to set it a limit.

Example:
    with FreshGroup(limit=64 * 1024 * 1024) as group:
        subprocess.run(group.inside(command))
        group.peak(), group.failed_charges(), group.oom_kills()
"""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from etl.errors import EtlError
from sinks import control_group
from sinks.control_group import Memory

# A group whose last process has ended answers EBUSY for a moment: the kernel counts the process out later.
PATIENCE = 10.0  # seconds


class NoFreshGroup(EtlError):
    """No memory cgroup can be made here; the message says why, place by place."""


class GroupFiles:
    """What the files of a memory cgroup say.

    Args:
        path: its directory.
        version: 1 or 2.
        limit: how many bytes it may be charged with; None: as many as the groups above it.

    Attributes:
        path: as given.
        version: as given.
        limit: as given.
    """

    def __init__(self, path: Path, version: int, limit: int | None = None) -> None:
        self.path = path
        self.version = version
        self.limit = limit

    def memory(self) -> Memory:
        """Read what it is charged with now: page cache, usage, working set, dirty pages; about 0.1 ms.

        Raises:
            OSError: it was removed.
        """
        stat = {}
        for line in (self.path / "memory.stat").read_text().splitlines():
            key, value = line.split()
            stat[key] = int(value)
        one = self.version == 1
        return Memory(
            limit=self.limit,
            usage=self._number("memory.usage_in_bytes" if one else "memory.current") or 0,
            file=stat["total_cache" if one else "file"],
            inactive_file=stat["total_inactive_file" if one else "inactive_file"],
            anonymous=stat["total_rss" if one else "anon"],
            dirty=stat["total_dirty" if one else "file_dirty"],
        )

    def peak(self) -> int | None:
        """Return the most bytes that it was ever charged with; None before Linux 5.19 with version 2."""
        return self._number("memory.max_usage_in_bytes" if self.version == 1 else "memory.peak")

    def failed_charges(self) -> int:
        """Return how often it reached its limit, and the kernel had to take pages back (or kill) first."""
        if self.version == 1:
            return self._number("memory.failcnt") or 0
        return self._pair("memory.events", "max")

    def oom_kills(self) -> int:
        """Return how many of its processes the kernel has killed because it was full."""
        return self._pair("memory.oom_control" if self.version == 1 else "memory.events", "oom_kill")

    def _number(self, name: str) -> int | None:
        try:
            return int((self.path / name).read_text())
        except FileNotFoundError:
            return None

    def _pair(self, name: str, key: str) -> int:
        for line in (self.path / name).read_text().splitlines():
            found, value = line.split()
            if found == key:
                return int(value)
        return 0


class FreshGroup(GroupFiles):
    """A memory cgroup that was made for this, of version 1 or 2.

    It is made below the group of this process where that is possible, so that it stays within that one's limit;
    else beside it, or further up. Version 2 allows no processes in a group that has groups below, so there it
    ends up beside. Made with a limit it does not swap either: the limit is for all that it has.

    Args:
        limit: how many bytes it may be charged with; None: as many as the groups above it.

    Raises:
        NoFreshGroup: this process may not make one, or not move a process into it.
    """

    def __init__(self, limit: int | None = None) -> None:
        refusals: dict[str, list[str]] = {}
        for parent, version in _places():
            super().__init__(parent / f"etl-{os.getpid()}-{time.monotonic_ns()}", version, limit)
            try:
                self._make()
            except OSError as error:
                refusals.setdefault(_explain(error, version), []).append(str(parent))
            else:
                return
        reasons = [f"{reason} ({', '.join(places)})" for reason, places in refusals.items()]
        raise NoFreshGroup(
            f"no memory cgroup can be made here: {'; '.join(reasons) or 'none is mounted'}. Run this as root, "
            "outside of a container, or in a container with a writable /sys/fs/cgroup"
        )

    def join(self) -> None:
        """Move the calling process in; for `preexec_fn`.

        Raises:
            OSError: the kernel refuses.
        """
        self._write("cgroup.procs", os.getpid())

    def inside(self, command: Sequence[str]) -> list[str]:
        """Return the command that joins it and becomes `command`: all of the program's memory is counted.

        Unlike `preexec_fn` that is safe in a process with threads.
        """
        script = 'echo $$ > "$0" && exec "$@"'
        return ["sh", "-c", script, str(self.path / "cgroup.procs"), *command]

    def remove(self) -> None:
        """Remove it; its processes have ended. May be repeated.

        Raises:
            OSError: a process is still in it.
        """
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self.path.rmdir()
            except FileNotFoundError:
                return
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > until:
                    raise
                time.sleep(0.005)
            else:
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _make(self) -> None:
        """Make it, set its limit, and try whether a process can be moved into it."""
        if self.version == 2:
            controllers = self.path.parent / "cgroup.subtree_control"
            if "memory" not in controllers.read_text().split():
                controllers.write_text("+memory\n")
        self.path.mkdir()
        try:
            if self.limit is not None:
                self._set_limit(self.limit)
            # Moving is a right of its own: version 2 asks for the group above both places.
            with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:  # noqa: S607 - ends with its input
                self._write("cgroup.procs", process.pid)
        except BaseException:
            self.remove()
            raise

    def _set_limit(self, limit: int) -> None:
        if self.version == 1:
            self._write("memory.limit_in_bytes", limit)
            # A limit on memory and swap together would be charged first, and where it equals this one
            # `memory.failcnt` stays 0 (Linux 6.18). Without swappiness nothing is swapped out at the limit.
            with suppress(OSError):
                self._write("memory.swappiness", 0)
        else:
            self._write("memory.max", limit)
            with suppress(OSError):  # the kernel has no swap
                self._write("memory.swap.max", 0)

    def _write(self, name: str, value: int) -> None:
        """Write to a file that exists: in a directory that is no cgroup, opening for writing would create it."""
        file = os.open(self.path / name, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(file, b"%d" % value)
        finally:
            os.close(file)


def _places() -> Iterator[tuple[Path, int]]:
    """Yield where a group may be made, and its version: below this process's own group, beside it, further up."""
    own = control_group.find("memory")
    if own is not None:
        for directory in own.directories:
            yield directory, own.version


def _explain(error: OSError, version: int) -> str:
    said = error.strerror or str(error)
    if error.errno == errno.EBUSY and version == 2:
        return f"{said}: it has processes of its own, so it may have no groups below (cgroup.subtree_control)"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{said}: it belongs to somebody else"
    if error.errno == errno.EROFS:
        return f"{said}: cgroups are mounted read-only, as containers have them"
    return said
