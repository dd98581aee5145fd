"""Shared by all tests."""

from __future__ import annotations

import compileall
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from sinks import page_cache
from sinks.page_cache.choice import WRITE_BEHIND
from tests import disks
from tests.google import GoogleServers, google

# How long a case takes says nothing on a machine that others use too: a time is never asserted. The examples are the
# same in each run, which is red for a change and not by chance; `--hypothesis-profile explore` looks for other ones.
settings.register_profile("explore", deadline=None)
settings.register_profile("the same", deadline=None, derandomize=True)
settings.load_profile("the same")

# A shell that starts a command in the background has it ignore SIGINT, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure() -> None:
    """Compile all there is, once: the processes that tests start would do it each time where none may be kept.

    Where they may, the first would write files at which others are not killed.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        for name in ("benchmarks", "etl", "sinks", "tests"):
            compileall.compile_dir(Path(__file__).parent.parent / name, quiet=2)


@pytest.hookimpl(trylast=True)  # after pytest-randomly, which shuffles them
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have each of the test runner's processes begin with its share of the slow tests: none is left for the end."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    slow = [item for item in items if item.get_closest_marker("slow")]
    rest = [item for item in items if not item.get_closest_marker("slow")]
    items[:] = [
        item
        for worker in range(workers)
        for group in (slow, rest)
        for item in group[len(group) * worker // workers : len(group) * (worker + 1) // workers]
    ]


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a case of bytes after its argument: what it holds (the time in a gzip header) differs between workers."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def strace() -> None:
    """Skip the test where strace is missing or may not trace."""
    if not shutil.which("strace") or subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"]).returncode:
        pytest.skip("takes strace, and the right to trace")


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a directory on a file system that writes back a range when it is told to; mount one where need be."""
    found = page_cache.choose(tmp_path).file_system
    if found in WRITE_BEHIND:
        yield tmp_path
        return
    if not disks.can_mount():
        pytest.skip(f"takes a disk: {tmp_path} is on {found}, and only root can mount another")
    with disks.disk(tmp_path, "ext4") as place:
        yield place


@pytest.fixture(scope="session")
def shared_google_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoogleServers]:
    """Start the servers that all tests of this process share."""
    with google(tmp_path_factory.mktemp("google")) as servers:
        yield servers


@pytest.fixture
def google_servers(shared_google_servers: GoogleServers) -> Iterator[GoogleServers]:
    """Give a GCS and a BigQuery server, and drop the datasets that the test makes; skip without local-bigquery."""
    yield shared_google_servers
    for dataset in [*shared_google_servers.datasets]:
        shared_google_servers.drop(dataset)


@pytest.fixture
def google_environment(google_servers: GoogleServers, monkeypatch: pytest.MonkeyPatch) -> GoogleServers:
    """Lead Google's clients to the servers, in this process and in those that it starts."""
    for name, value in google_servers.environment().items():
        monkeypatch.setenv(name, value)
    return google_servers
