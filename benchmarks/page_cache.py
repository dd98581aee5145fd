"""Show what a written file leaves in the page cache, and what it costs to leave nothing: plain, and `sinks.page_cache`.

make bench-cache        as root, on a machine that does nothing else; some ten minutes and 6 GiB of disk

Plain and ours take turns in every row, each in a process and a fresh memory cgroup of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import cache_picture, cache_report
from benchmarks.cache_report import OURS, PLAIN, size
from benchmarks.cache_runs import Case, Run, RunFailed, run
from benchmarks.places import NotHere, Place, makers, own_mounts
from etl.config import parse_bytes
from etl.errors import ConfigError
from etl.words import duration
from sinks.page_cache import POLICIES

WIDE = ("directory", "overlayfs")  # where all buffers are tried, and the growth; elsewhere one buffer
# The second is no multiple of anything: the kernel drops only what lies within a range as a whole.
READ_BUFFERS = (1 << 20, 1_000_003)
GROWTH = 16
GROWN_FROM = 1 << 30
GROWTH_BUFFER = 1 << 20


def cases(place: str, options: argparse.Namespace, limits: Sequence[int | None]) -> Iterator[Case]:
    """Yield all runs at one place, in their order: plain, then each policy, then plain again."""
    buffers = options.buffers if place in WIDE else [options.buffers[len(options.buffers) // 2]]
    methods = [PLAIN, *options.policies]
    for limit in limits:
        for buffer in buffers:
            for _ in range(options.runs):
                for method in methods:
                    yield Case(
                        place=place,
                        what="write",
                        method=method,
                        bytes=options.bytes,
                        buffer=buffer,
                        limit=limit,
                    )
    for buffer in READ_BUFFERS if place in WIDE else READ_BUFFERS[:1]:
        for _ in range(options.runs):
            for method in (PLAIN, OURS):
                yield Case(place=place, what="read", method=method, bytes=options.read, buffer=buffer)
    if options.growth and place in WIDE:
        small = min(GROWN_FROM, options.growth // GROWTH)
        # As many windows are looked at in both, or the larger one would win by chance alone.
        for length in (*[small] * (options.growth // small), options.growth):
            yield Case(place=place, what="growth", method=OURS, bytes=length, buffer=GROWTH_BUFFER)


def measure(options: argparse.Namespace, *, root: bool) -> tuple[list[Run], list[Place], dict[str, str]]:
    """Run everything; return the runs, the places, and which places could not be had, with the reason."""
    runs: list[Run] = []
    places: list[Place] = []
    skipped: dict[str, str] = {}
    limits = [None, options.limit] if root and options.limit else [None]
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="run-") as work:
        for name in options.places:
            todo = list(cases(name, options, limits))
            most = max(case.bytes for case in todo)
            try:
                with makers(options.image)[name](Path(work).resolve(), most) as place:
                    places.append(place)
                    print(f"\n{place.title}: {place.made}", flush=True)
                    for number, case in enumerate(todo, 1):
                        if case.what != "read" or todo[number - 2].what != "read":  # they read the same file
                            place.clear()
                        runs.append(run(case, place, in_group=root))
                        print(f"  {number:>3}/{len(todo)}  {_line(runs[-1])}", flush=True)
            except NotHere as reason:
                skipped[name] = str(reason)
                print(f"\n{name}: skipped: {reason}", flush=True)
    return runs, places, skipped


def _line(done: Run) -> str:
    case = done.case
    limit = f", limit {size(case.limit)}" if case.limit else ""
    cache = f", page cache {cache_report.mebibytes(done.cache)}" if done.cache is not None else ""
    return (
        f"{case.what} {size(case.bytes)} by {size(case.buffer)}{limit}, {case.method}: {done.seconds:.2f} s, "
        f"{done.speed / 1e6:,.0f} MB/s{cache}{f', {done.chosen}' if done.chosen else ''}"
    )


def notes(
    options: argparse.Namespace, places: Sequence[Place], skipped: dict[str, str], *, root: bool
) -> list[str]:
    """Say how and where it was measured, so that nobody takes the figures for more than they are."""
    group = "in a fresh memory cgroup" if root else "not in a memory cgroup, which takes root"
    limited = root and options.limit
    limit = f", without a limit and with one of {size(options.limit)}" if limited else ", without a limit"
    return [
        f"{datetime.now(UTC):%Y-%m-%d}, Linux {platform.release()}, {os.cpu_count()} processors, "
        f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / (1 << 30):.0f} GiB of memory, "
        f"Python {platform.python_version()}.",
        f"Each row: {size(options.bytes)} of random bytes{limit}; {options.runs} runs, plain and ours in turn, "
        f"each in a process of its own, {group}. Speeds are medians; for memory and failed charges the worst run "
        "counts, for a target the worst buffer too.",
        "The clock runs from before the file is opened until it is synced and closed. Ours also syncs the "
        "directory.",
        "*Page cache* and *working set* (usage less inactive file, what the kubelet compares with a limit) are the "
        "most that a sampler outside of the process saw every 10 ms, the page cache less what it was before the file "
        "was opened (in a container the files of Python itself). *Charged* is the kernel's own maximum of "
        "everything, less what was charged before the file was opened: no peak is missed, and the writer's own "
        "buffers and the kernel's memory for the cache count too.",
        "*Left* is the page cache after the file was closed. Growth: the worst of as many small files as make the "
        "large one, against the large one, each less what is left, which is the file system's own and not the "
        "file's: block bitmaps and extents, on ext4 some 0.1 MiB a GiB, with O_DIRECT too.",
        "Plain without a limit fills memory that nobody touched before, which on a virtual machine may cost "
        "seconds a GiB: its speed is pessimistic there. With the limit it uses the same pages again.",
        "On an overlay that is mounted `volatile` no sync does anything: what plain wrote there is not on the disk "
        "when the clock stops, and its speed without a limit is that of memory.",
        *(f"{place.title}: {place.file_system}, {place.made}." for place in places),
        *(f"Not measured: {name}: {reason}." for name, reason in skipped.items()),
    ]


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.page_cache",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    every = list(makers())
    add = parser.add_argument
    add("--bytes", type=_size, default="4GiB", help="length of each file (4GiB)")
    add("--buffers", type=_sizes, default="64KiB,1MiB,8MiB", help="of one write; elsewhere than on the disk and "
        "on overlayfs only the middle one (64KiB,1MiB,8MiB)")  # fmt: skip
    add("--limit", type=_size, default="64MiB", help="of the cgroup; 0: only without one (64MiB)")
    add("--runs", type=int, default=3, help="of each case (3)")
    add("--policies", type=_words(POLICIES), default=OURS, help=f"out of {', '.join(POLICIES)} ({OURS})")
    add("--places", type=_words(every), default=",".join(every), help=f"out of {', '.join(every)} (all)")
    add("--read", type=_size, default="1GiB", help="length of the part that is read back (1GiB)")
    add("--growth", type=_size, default="16GiB", help="length of the file to compare with one of a sixteenth, at "
        "most 1 GiB; 0: none (16GiB)")  # fmt: skip
    add("--image", help="of a container that has Python and what sinks needs, for the place `container`")
    add("--directory", type=Path, default=Path("build/page-cache"), help="where to work (build/page-cache)")
    add("--json", type=Path, help="file for every run")
    add("--markdown", type=Path, help="file for the table")
    add("--picture", type=Path, help="file for the picture, .svg or .png; needs matplotlib")
    options = parser.parse_args(given)
    if OURS not in options.policies:
        options.policies = [OURS, *options.policies]
    return options


def _size(text: str) -> int:
    if text == "0":
        return 0
    try:
        return parse_bytes(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _sizes(text: str) -> list[int]:
    return [_size(each) for each in text.split(",")]


def _words(known: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        words = text.split(",")
        if unknown := set(words) - set(known):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not one of {', '.join(known)}")
        return words

    return parse


def main(given: Sequence[str] | None = None) -> None:
    """Measure, and print."""
    options = arguments(given)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was mounted is unmounted
    root = True
    try:
        own_mounts()
    except NotHere as reason:
        root = False
        options.places = ["directory"]
        print(f"{reason}: only a directory on this disk, no limit, and memory is not measured")
    options.directory.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    try:
        runs, places, skipped = measure(options, root=root)
    except RunFailed as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("stopped; everything that was made is gone")
    table = cache_report.rows(runs, places)
    found = cache_report.targets(table)
    said = notes(options, places, skipped, root=root)
    print(f"\n{cache_report.text(table)}\n\n{cache_report.verdicts(found)}\n")
    print("\n".join(f"- {note}" for note in said))
    print(f"\n{duration(time.monotonic() - began)}, {len(runs)} runs")
    for file in (options.json, options.markdown, options.picture):
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
    if options.json:
        whole = {
            "notes": said,
            "targets": [asdict(each) for each in found],
            "runs": [asdict(each) for each in runs],
        }
        options.json.write_text(json.dumps(whole, indent=1) + "\n")
    if options.picture:
        cache_picture.draw(table, options.picture)
    if options.markdown:
        options.markdown.write_text(cache_report.markdown(found, table, said, options.picture))


if __name__ == "__main__":
    main()
