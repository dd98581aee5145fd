"""Write many lines and say what the control group is charged with; bloat.js beside it is the same program.

    python3 bloat.py --bloat single|many|reuse [--lines N] [--batch N] [--directory DIR]

single: one big file. many: a file for each batch, kept. reuse: one file, truncated before each batch.
Only the standard library is used, and nothing is held: what grows is the page cache. docker.md has the experiments.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path, PurePosixPath

LINE_BYTES = 100
LINES_A_WRITE = 1_000
REPORTS = 20
MIB = 1024 * 1024
COLUMNS = ["written", "process", "cache", "dirty", "usage", "limit"]

FILES = {  # a kind of number, and where control groups version 1 and 2 have it: a file, and a word in it
    1: {
        "cache": ("memory.stat", "total_cache"),
        "dirty": ("memory.stat", "total_dirty"),
        "usage": ("memory.usage_in_bytes", ""),
        "limit": ("memory.limit_in_bytes", ""),
        "peak": ("memory.max_usage_in_bytes", ""),
        "failed": ("memory.failcnt", ""),
        "killed": ("memory.oom_control", "oom_kill"),
    },
    2: {
        "cache": ("memory.stat", "file"),
        "dirty": ("memory.stat", "file_dirty"),
        "usage": ("memory.current", ""),
        "limit": ("memory.max", ""),
        "peak": ("memory.peak", ""),
        "failed": ("memory.events", "max"),
        "killed": ("memory.events", "oom_kill"),
    },
}


def find_group() -> tuple[int, Path] | None:
    """Return the version of this process's memory control group and its folder; None: there is none to be seen."""
    try:
        groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
        mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    except OSError:
        return None
    for version, kind in ((1, "cgroup"), (2, "cgroup2")):
        for _, controllers, group in groups:
            if ("memory" in controllers.split(",")) if version == 1 else not controllers:
                for mount in mounts:
                    # 35 24 0:30 ROOT MOUNT_POINT OPTIONS [more] - TYPE DEVICE OPTIONS (proc(5))
                    own_kind, _, options = mount[mount.index("-") + 1 :]
                    if own_kind != kind or (version == 1 and "memory" not in options.split(",")):
                        continue
                    path, root = PurePosixPath(group), PurePosixPath(mount[3])
                    # In a container the mount's root is the container's own group.
                    folder = Path(mount[4]) / (path.relative_to(root) if path.is_relative_to(root) else "")
                    if (folder / FILES[version]["usage"][0]).exists():
                        return version, folder
    return None


GROUP = find_group()


def ask(what: str) -> int | None:
    """Return one number of the control group; None: it is not there, or there is no limit."""
    if GROUP is None:
        return None
    version, folder = GROUP
    file, word = FILES[version][what]
    try:
        lines = (folder / file).read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        *words, value = line.split()
        if words == ([word] if word else []):
            return int(value) if value.isdigit() and int(value) < 1 << 60 else None
    return None


def resident() -> int | None:
    """Return what the process itself holds, in bytes: what `ps` and `top` show."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def report(lines: int) -> None:
    columns = [lines * LINE_BYTES, resident(), *map(ask, ("cache", "dirty", "usage", "limit"))]
    shown = ["-" if column is None else f"{column / MIB:.1f}" for column in columns]
    print(f"{lines:>10}" + "".join(f"{column:>10}" for column in shown), flush=True)


def chunks(first: int, last: int) -> Iterator[bytes]:
    """Yield the lines from `first` up to `last`, LINES_A_WRITE of them at a time."""
    filler = "x" * (LINE_BYTES - 12)
    for start in range(first, last, LINES_A_WRITE):
        numbers = range(start, min(start + LINES_A_WRITE, last))
        yield "".join(f"{number:>10} {filler}\n" for number in numbers).encode()


def write_all(file: FileIO, chunk: bytes) -> None:
    """Write `chunk`; an unbuffered file may write less than it was given."""
    done = 0
    while done < len(chunk):
        done += file.write(memoryview(chunk)[done:])


def write(bloat: str, directory: Path, lines: int, batch: int, progress: Callable[[int], None]) -> None:
    file = None
    for number, first in enumerate(range(0, lines, batch), 1):
        last = min(first + batch, lines)
        if file is None:
            name = f"bloat-{number:06}.txt" if bloat == "many" else "bloat.txt"
            file = (directory / name).open("wb", buffering=0)  # "wb" truncates
        for chunk in chunks(first, last):
            write_all(file, chunk)
        progress(last)
        if bloat != "single":
            file.close()
            file = None
    if file is not None:
        file.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Write many lines and watch the page cache.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    modes = "one big file; a file for each batch, kept; one file, truncated before each batch"
    parser.add_argument(
        "--bloat", choices=["single", "many", "reuse"], required=True, default=argparse.SUPPRESS, help=modes
    )
    parser.add_argument("--lines", type=int, default=20_000_000, help=f"of {LINE_BYTES} bytes each")
    parser.add_argument("--batch", type=int, default=100_000, help="lines in a file of many, or of reuse")
    parser.add_argument("--directory", type=Path, default=Path(), help="where to write")
    options = parser.parse_args()
    if options.lines < 1 or options.batch < 1:
        parser.error("--lines and --batch must be 1 or more")
    options.directory.mkdir(parents=True, exist_ok=True)
    group = "no memory control group" if GROUP is None else f"control group v{GROUP[0]}"
    print(f"{options.bloat}: {options.lines} lines, {options.batch} a batch; {group}; MiB")
    print(f"{'lines':>10}" + "".join(f"{name:>10}" for name in COLUMNS))
    said = 0

    def progress(lines: int) -> None:
        nonlocal said
        if lines == options.lines or lines * REPORTS // options.lines > said:
            said = lines * REPORTS // options.lines
            report(lines)

    write(options.bloat, options.directory, options.lines, options.batch, progress)
    peak, failed, killed = map(ask, ("peak", "failed", "killed"))
    shown = "-" if peak is None else f"{peak / MIB:.1f}"
    print(f"peak usage {shown}, failed charges {failed}, OOM kills {killed}".replace("None", "-"))


if __name__ == "__main__":
    main()
