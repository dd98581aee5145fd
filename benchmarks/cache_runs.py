"""One run of the page-cache benchmark: a process in a fresh memory cgroup, watched from outside.

What is what: `cache` and `working_set` are the most that a sampler saw every 10 ms in the cgroup's own accounts, so
a peak between two looks is missed. `charged` is the kernel's own maximum and misses nothing, but counts
everything: the page cache, the kernel's memory for it, and Python, which has about 10 MiB before the first byte.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

from benchmarks.measured import Sampler
from benchmarks.places import NotHere, Place
from etl.errors import NoFreshGroup
from etl.lab.fresh_group import FreshGroup
from sinks import control_group
from sinks.control_group import Memory

SAMPLED_EVERY = 0.01  # seconds
REPOSITORY = Path(__file__).resolve().parents[1]
# Debian's crun refuses cgroups of version 1, and the limits of a nested machine are lower than podman's own.
PODMAN = (
    *("podman", "--runtime", "/usr/sbin/runc", "run", "--interactive", "--network", "none", "--user", "0"),
    *("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000", "--entrypoint", "python3"),
    *("--volume", f"{REPOSITORY}:/repository:ro", "--workdir", "/repository"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is done in one run.

    Attributes:
        place: the name of the place.
        what: "write"; "read": a file that is there and not cached; "growth": a write, to be compared with one
            of another length.
        method: "plain", or a policy of `sinks.page_cache`.
        bytes: the length of the file.
        buffer: the length in bytes of one write or read.
        limit: of the cgroup, in bytes; None: none.
    """

    place: str
    what: Literal["write", "read", "growth"]
    method: str
    bytes: int
    buffer: int
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run took; sizes in bytes, None where no cgroup could be made or the kernel does not say.

    Attributes:
        case: what was done.
        seconds: from before the file is opened until it is closed, for a write with the fsync.
        cache: the most page cache that the sampler saw, beyond `cache_before`.
        left: the page cache after the file was closed, beyond `cache_before`; where nothing of the file is left it
            is the file system's own: block bitmaps, extents.
        working_set: the most that the sampler saw of what the kubelet compares with a limit.
        charged: the most that the cgroup was ever charged with, by the kernel.
        before: what it was charged with before the file was opened: Python and the buffer.
        cache_before: the page cache in that: Python's own files, where it is the first to read them, as in a
            container; elsewhere nothing.
        failed_charges: how often the limit was reached.
        samples: how often the sampler looked.
        chosen: the method that the writer chose; None: a plain write, or a read.
        reason: why, in its words.
        window: how many bytes it let be cached before it waited.
        seen: the most bytes of its file that the writer itself saw in the page cache.
        waited: seconds that the writer waited for the disk.
    """

    case: Case
    seconds: float
    cache: int | None = None
    left: int | None = None
    working_set: int | None = None
    charged: int | None = None
    before: int | None = None
    cache_before: int | None = None
    failed_charges: int | None = None
    samples: int = 0
    chosen: str | None = None
    reason: str | None = None
    window: int | None = None
    seen: int | None = None
    waited: float | None = None

    @property
    def speed(self) -> float:
        """Bytes a second."""
        return self.case.bytes / self.seconds


# A process that is ready, and what reads its group's memory; None: it has no group of its own.
Started = tuple[subprocess.Popen[str], Callable[[], Memory] | None]


class RunFailed(Exception):
    """The process that writes or reads ended with an error; the message is its own."""


def run(case: Case, place: Place, *, in_group: bool = True) -> Run:
    """Do what `case` says, in a process of its own; its file stays until `place.clear`.

    Args:
        case: what to do.
        place: where.
        in_group: whether to make a cgroup for it; if not, memory is not measured.

    Raises:
        RunFailed: it ended with an error, or was killed for lack of memory.
        NotHere: no cgroup can be made, or no container started.
    """
    os.sync()  # what others have still to write would be written in this one's time
    with _started(case, place, in_group) as (process, memory):
        assert process.stdin is not None
        assert process.stdout is not None
        if memory is None:
            return _result(case, _tell(process.stdin, process.stdout), {})
        before = memory()
        with Sampler(memory, SAMPLED_EVERY) as sampler:
            done = _tell(process.stdin, process.stdout)
        after = memory()
        taken = {
            "cache": max(0, sampler.cache - before.file),
            "left": max(0, after.file - before.file),
            "working_set": sampler.working_set,
            "charged": after.peak,
            "before": before.usage,
            "cache_before": before.file,
            "failed_charges": after.failed_charges,
            "samples": sampler.samples,
        }
        if done is None and after.oom_kills:
            raise RunFailed(f"{case} was killed: its cgroup was full")
        return _result(case, done, taken)


def _tell(say: IO[str], hear: IO[str]) -> dict[str, Any] | None:
    say.write("go\n")
    say.flush()
    line = hear.readline()
    return json.loads(line) if line else None


def _result(case: Case, done: dict[str, Any] | None, taken: dict[str, Any]) -> Run:
    if done is None:
        raise RunFailed(f"{case} ended early; what it said is above")
    if done["bytes"] != case.bytes:
        raise RunFailed(f"{case} moved {done['bytes']:,} bytes")
    hygiene = done["hygiene"] or {}
    return Run(
        case=case,
        seconds=done["seconds"],
        chosen=hygiene.get("method"),
        reason=hygiene.get("reason"),
        window=hygiene.get("window"),
        seen=hygiene.get("peak"),
        waited=hygiene.get("waited"),
        **taken,
    )


@contextmanager
def _started(case: Case, place: Place, in_group: bool) -> Iterator[Started]:
    """Start the process, in its group, up to where it is ready; end both in the end."""
    child = (
        *("-m", "benchmarks.one_file", "read" if case.what == "read" else "write"),
        *(str(place.file), case.method, str(case.bytes), str(case.buffer)),
    )
    if place.image is not None:
        with _in_container(case, place.image, child) as started:
            yield started
    elif not in_group:
        with _ready((sys.executable, *child)) as process:
            yield process, None
    else:
        try:
            group = FreshGroup(case.limit)
        except NoFreshGroup as error:
            raise NotHere(str(error)) from error
        with group, _ready(group.inside((sys.executable, *child))) as process:
            yield process, group.memory


@contextmanager
def _in_container(case: Case, image: str, child: tuple[str, ...]) -> Iterator[Started]:
    name = f"page-cache-{os.getpid()}-{time.monotonic_ns()}"
    # With the same limit for memory and swap Linux 6.18 (cgroups of version 1) counts no failed charges.
    limit = () if case.limit is None else ("--memory", str(case.limit), "--memory-swap", "-1")
    # Not --rm: podman mounts the root of such a container `volatile`, which is another place.
    try:
        with _ready((*PODMAN, "--name", name, *limit, image, *child)) as process:
            inspect = ("podman", "inspect", "--format", "{{.State.Pid}}", name)
            inside = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout
            yield process, _memory_of(int(inside))
    finally:
        gone = ("podman", "rm", "--force", "--time", "0", name)
        subprocess.run(gone, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def _memory_of(process: int) -> Callable[[], Memory]:
    """Return what reads the group that a container engine made for `process`; it goes with its container."""
    groups = control_group.find("memory", process=process)
    if groups is not None:
        own = groups.directories[0]
        if str(process) in (own / "cgroup.procs").read_text().split():
            return partial(control_group.read_group, own, groups.version)
    raise NotHere(f"the memory cgroup of process {process} is not to be seen from here")


@contextmanager
def _ready(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a Ctrl-C is for the one who measures
        cwd=REPOSITORY,
    ) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline().strip() != "ready":
                raise RunFailed(f"`{' '.join(command)}` did not start; what it said is above")
            yield process
        except BaseException:
            process.kill()
            raise
        # Leaving closes its input, on which it ends.
