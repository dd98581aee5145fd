"""Processes that are forked from one that has imported everything: a run takes little more than its own work.

To import the pipeline and its warehouses takes several times as long as the small jobs of these tests, and tests that
kill a job at each of its calls run hundreds. The process that is forked imports and waits; it has no threads, which
a fork would leave in the middle of something.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import subprocess
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "duckdb",
        "etl.engine",
        "etl.sources",
        "etl.stores.gcs",
        "etl.stores.local",
        "etl.warehouses.bigquery",
        "etl.warehouses.duckdb",
        "fsspec",
        "google.cloud.bigquery",
        "google.cloud.storage",
        "google_crc32c",
        "isal.igzip",
        "orjson",
        "pyarrow.parquet",
        "requests",
        "tenacity",
        "tests.google_jobs",
    ]
)

# Lets any process of this user trace this one, where the kernel allows that to a parent alone (prctl(2), Yama).
PR_SET_PTRACER, PR_SET_PTRACER_ANY = 0x59616D61, ctypes.c_ulong(-1)

# How long a run may take: it takes less than one, and many more on a machine that others use, too.
SECONDS = 600.0


def run(
    target: Callable[..., object],
    *arguments: object,
    under: tuple[str, ...] = (),
    beside: Callable[[int], None] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Call a function in a process of its own, and wait for its end.

    Args:
        target: the function; a module has it by its name.
        arguments: what it is called with, pickled.
        under: the command of strace (`tests.tracing.strace`) that attaches to the process before the call begins.
        beside: what is done meanwhile, here, with the id of the process.

    Returns:
        how it ended, as for a command: 1 after an exception, which is on its standard error; and what it wrote.
    """
    with tempfile.TemporaryDirectory() as name:
        said = Path(name)
        here, there = FORKS.Pipe()
        process = FORKS.Process(target=_called, args=(there, said, target, arguments))
        process.start()
        there.close()
        tracer = _attached(under, process.pid) if under else None
        here.send("go on")
        here.close()
        if beside is not None and process.pid is not None:
            beside(process.pid)
        process.join(SECONDS)
        late = process.is_alive()
        process.kill()
        process.join()
        if tracer is not None:
            tracer.communicate()
        ended = subprocess.CompletedProcess(
            [target.__qualname__],
            process.exitcode or 0,
            (said / "stdout").read_text(),
            (said / "stderr").read_text(),
        )
        process.close()
    assert not late, f"{target.__qualname__} was not done after {SECONDS} s: {ended.stderr}"
    return ended


def _called(begin: Connection, said: Path, target: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(said / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, descriptor)
        os.close(file)
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY)
    begin.recv()
    begin.close()
    target(*arguments)


def _attached(strace: tuple[str, ...], pid: int | None) -> subprocess.Popen[str]:
    """Start strace; return when it holds the process."""
    tracer = subprocess.Popen([*strace, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    said = tracer.stderr.readline()
    assert "attached" in said, said
    return tracer
