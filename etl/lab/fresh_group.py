"""A memory cgroup of one's own, to see what one process is charged with, and to set it a limit.

Example:
    with FreshGroup(limit=64 * 1024 * 1024) as group:
        subprocess.run(group.inside(command))
        print(group.memory().peak)
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

from etl.errors import NoFreshGroup
from sinks import control_group
from sinks.control_group import Memory

# A group whose last process has ended answers EBUSY for a moment: the kernel counts the process out later.
PATIENCE = 10.0  # seconds


class FreshGroup:
    """A memory cgroup that was made for this, of version 1 or 2.

    It is made below the group of this process where that is possible, so that it stays within that one's limit;
    else beside it, or further up. Version 2 allows no processes in a group that has groups below, so there it
    ends up beside. Made with a limit it does not swap either: the limit is for all that it has.

    Args:
        limit: how many bytes it may be charged with; None: as many as the groups above it.

    Attributes:
        path: its directory.
        version: of the control groups, 1 or 2.

    Raises:
        NoFreshGroup: this process may not make one, or not move a process into it.
    """

    def __init__(self, limit: int | None = None) -> None:
        refusals: dict[str, list[str]] = {}
        for parent, version in _places():
            self.path = parent / f"etl-{os.getpid()}-{time.monotonic_ns()}"
            self.version = version
            try:
                self._make(limit)
            except OSError as error:
                refusals.setdefault(_explain(error, version), []).append(str(parent))
            else:
                return
        reasons = [f"{reason} ({', '.join(places)})" for reason, places in refusals.items()]
        raise NoFreshGroup(
            f"no memory cgroup can be made here: {'; '.join(reasons) or 'none is mounted'}. Run this as root, "
            "outside of a container, or in a container with a writable /sys/fs/cgroup"
        )

    def inside(self, command: Sequence[str]) -> list[str]:
        """Return the command that joins it and becomes `command`: all of the program's memory is counted.

        Unlike `preexec_fn` that is safe in a process with threads.
        """
        script = 'echo $$ > "$0" && exec "$@"'
        return ["sh", "-c", script, str(self.path / "cgroup.procs"), *command]

    def memory(self) -> Memory:
        """Read what it is and was charged with, as `sinks.control_group.read_group`.

        Raises:
            OSError: it was removed.
        """
        return control_group.read_group(self.path, self.version)

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

    def _make(self, limit: int | None) -> None:
        """Make it, set its limit, and try whether a process can be moved into it."""
        if self.version == 2:
            controllers = self.path.parent / "cgroup.subtree_control"
            if "memory" not in controllers.read_text().split():
                controllers.write_text("+memory\n")
        self.path.mkdir()
        try:
            if limit is not None:
                self._set_limit(limit)
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
