"""Write or read one file in one way; the process that the page-cache benchmark measures from outside.

python -m benchmarks.one_file write FILE METHOD BYTES BUFFER
python -m benchmarks.one_file read FILE METHOD BYTES BUFFER

METHOD is `plain` or a policy of `sinks.page_cache`. It says `ready`, waits for a line, does it, prints a line of
JSON, and waits for its input to end, so that whoever measures can read its cgroup before it goes. Before a read
it makes the file where there is none of that size, past the page cache.
"""

from __future__ import annotations

import dataclasses
import json
import mmap
import os
import sys
import time
from typing import Any

from sinks import page_cache

ALIGNED = 1 << 20  # O_DIRECT wants whole blocks at aligned addresses; a mapping begins at a page


def write_plain(path: str, data: memoryview, size: int) -> None:
    """Write `size` bytes of `data` over and over, as anybody would, and make them durable."""
    with open(path, "wb", buffering=0) as file:  # noqa: PTH123 - what anybody would write
        done = 0
        while done < size:
            done += file.write(data[: size - done])
        os.fsync(file.fileno())


def write(path: str, data: memoryview, size: int, policy: page_cache.Policy) -> dict[str, Any]:
    """Write the same with `sinks.page_cache`; return what it says about how."""
    with page_cache.open_for_writing(path, policy=policy) as file:
        for done in range(0, size, len(data)):
            file.write(data[: size - done])
    return dataclasses.asdict(file.hygiene)


def read_plain(path: str, buffer: memoryview) -> int:
    """Read the file as anybody would; return its length in bytes."""
    size = 0
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        while count := file.readinto(buffer):
            size += count
    return size


def read(path: str, buffer: memoryview) -> int:
    """Read the same with `sinks.page_cache`; return its length in bytes."""
    size = 0
    with page_cache.open_for_reading(path) as file:
        while count := file.readinto(buffer):
            size += count
    return size


def make(path: str, size: int) -> None:
    """Make a file of `size` bytes, if it is not there, and see that nothing of it is cached.

    It is written past the page cache, because on an overlay that is mounted `volatile` nothing else works.
    """
    if os.path.exists(path) and os.path.getsize(path) == size:  # noqa: PTH110, PTH202
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)
        return
    with mmap.mmap(-1, ALIGNED) as block:
        block.write(os.urandom(ALIGNED))
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_DIRECT)
        try:
            for _ in range(0, size, ALIGNED):
                os.write(file, block)
            os.fsync(file)
        finally:
            os.close(file)


def main(action: str, path: str, method: str, size: int, buffer: int) -> None:
    """Do it, between the lines of the one who measures."""
    # Random, so that no layer below can compress it; its memory is touched before the clock starts.
    data = memoryview(bytearray(os.urandom(buffer)))
    if action == "read":
        make(path, size)
    print("ready", flush=True)
    sys.stdin.readline()
    hygiene = None
    began = time.perf_counter()
    if action == "write" and method == "plain":
        write_plain(path, data, size)
    elif action == "write":
        hygiene = write(path, data, size, method)  # type: ignore[arg-type] # checked by whoever takes options
    elif method == "plain":
        size = read_plain(path, data)
    else:
        size = read(path, data)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "bytes": size, "hygiene": hygiene}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
