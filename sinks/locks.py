"""Locks of files that belong to one process: a child does not inherit them, and one that outlives its process says so.

An flock(2) belongs to the open file, which a fork shares: a pool's idle worker would hold the lock of a process that
was killed. So a child closes its descriptors of such files as it begins, which leaves the parent's lock as it is.
Programs that are started inherit none: each is opened with O_CLOEXEC. What forks without Python (a library in C) runs
no such hook; `keepers` finds it.
"""

from __future__ import annotations

import fcntl
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sinks.local_files import OpenFile

_locked: weakref.WeakSet[OpenFile] = weakref.WeakSet()
# Held from before a file is opened until it is known here, and during a fork: no child gets one in between.
_forking = threading.RLock()


def opened(opening: Callable[[], int], path: Path) -> OpenFile:
    """Open a file that is to be locked, so that no child has it.

    Args:
        opening: opens it; returns the descriptor.
        path: where it is.
    """
    with _forking:
        file = OpenFile(opening(), path)
        _locked.add(file)
    return file


def lock(file: OpenFile, *, shared: bool = False) -> bool:
    """Lock a file that `opened` returned, for this process alone; False: it is locked.

    Args:
        file: open for writing too, which NFS wants, unless the lock is shared.
        shared: whether others may have such a lock too: to see whether anybody has the other kind.

    Raises:
        OSError: the file system gives no locks.
    """
    try:
        fcntl.flock(file.descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def keepers(path: Path) -> list[int]:
    """Return the ids of the processes that have a lock on a file now, as far as this user may see them.

    Each that shares it by a fork has it. The kernel writes it into /proc/<id>/fdinfo (proc_pid_fdinfo(5)); /proc/locks
    names only who took it.

    Args:
        path: the file.
    """
    with suppress(OSError):
        wanted = path.stat()
        processes = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        return sorted(process for process in processes if _taker(process, wanted) is not None)
    return []


def keeps(process: int, path: Path) -> bool:
    """Say whether a process has a lock on a file now, as far as this user may see that; see `keepers`."""
    with suppress(OSError):
        return _taker(process, path.stat()) is not None
    return False


def took(process: int, path: Path) -> bool:
    """Say whether a process took the lock that it has, rather than shares it with one that did; see `keepers`."""
    with suppress(OSError):
        return _taker(process, path.stat()) == process
    return False


def is_hidden(process: int) -> bool:
    """Say whether a process is there that this user may not look into: it may have any lock."""
    place = f"/proc/{process}"
    return Path(place).exists() and not os.access(f"{place}/fd", os.R_OK)


def command(process: int) -> str:
    """Return what a process runs, shortened; empty: it is gone."""
    with suppress(OSError):
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        return " ".join(os.fsdecode(word) for word in words if word)[:60]
    return ""


def _taker(process: int, wanted: os.stat_result) -> int | None:
    """Return who took the lock that a process has on a file: 0, that one has ended; None: it has no lock."""
    with suppress(OSError):  # it ends, or is another user's
        for entry in Path(f"/proc/{process}/fd").iterdir():
            with suppress(OSError):  # closed in between
                if os.path.samestat(entry.stat(), wanted):
                    lines = Path(f"/proc/{process}/fdinfo/{entry.name}").read_text().splitlines()
                    for line in lines:
                        words = line.split()  # lock: 1: FLOCK ADVISORY WRITE 7331 fe:00:2383922 0 EOF
                        if words[:1] == ["lock:"] and "FLOCK" in words:
                            return int(words[words.index("FLOCK") + 3])
    return None


def _leave_to_parent() -> None:
    for file in list(_locked):
        with suppress(Exception):
            file.close()
    _forking.release()


os.register_at_fork(
    before=_forking.acquire, after_in_parent=_forking.release, after_in_child=_leave_to_parent
)
