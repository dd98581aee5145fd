"""What the sinks' conformance suite needs to know of a sink, and how it makes a sink's process die."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from etl.testing.sink_runs import FAILED, Ledger, content
from sinks import page_cache
from sinks.base import SealedPart, Sink
from sinks.local_files import locate

# What changes files; a question mark: not every architecture has it. Left out are `openat`, for Python's own
# start is full of it and the call after it sees what it created, and `write`, for the ledger and stderr use it.
CALLS = (
    "?pwrite64,?pwritev,?pwritev2,?fsync,?fdatasync,?sync_file_range,?ftruncate,?fallocate,?flock,"
    "?link,?linkat,?unlink,?unlinkat,?rename,?renameat,?renameat2,?mkdir,?mkdirat"
)


class SinkHarness:
    """Override `make_sink`; for a sink whose bytes are not in local files, also what reads, puts and harms them.

    A directory stands for a place then: whatever the sink puts its parts under (a prefix, a table), another one
    for another directory, and the same in another process.

    Attributes:
        keeps_bytes: whether parts can be read back; all but the null sink.
        is_local: whether it writes through system calls of its process, so that strace and a full disk count,
            and each number has one name, so that a part which stands there is in the way.
    """

    keeps_bytes: bool = True
    is_local: bool = True

    def make_sink(self, directory: Path) -> Sink:
        """Return an unused sink that writes in `directory`; each call with the same one, the same sink."""
        raise AssertionError(f"{type(self).__name__} must define make_sink, which {directory} is for")

    def read(self, part: SealedPart) -> bytes:
        """Return the bytes of a sealed part."""
        location = locate(part.uri)
        with page_cache.open_for_reading(location.path, location.start, location.end) as file:
            return file.readall()

    def stored(self, directory: Path) -> dict[str, int]:
        """Return the size in bytes of everything that is stored under `directory`, by its URI."""
        files = (path for path in directory.rglob("*") if path.is_file())
        return {path.as_uri(): path.stat().st_size for path in files}

    def cut(self, part: SealedPart) -> None:
        """Take the last byte of a sealed part away, behind the sink's back."""
        location = locate(part.uri)
        os.truncate(location.path, location.start + part.bytes - 1)

    def damage(self, part: SealedPart) -> None:
        """Change a byte in the middle of a sealed part, behind the sink's back."""
        location = locate(part.uri)
        with location.path.open("r+b") as file:
            file.seek(location.start + part.bytes // 2)
            file.write(b"\0")

    def remove(self, part: SealedPart) -> None:
        """Remove a sealed part, behind the sink's back."""
        locate(part.uri).path.unlink()

    def clear(self, directory: Path) -> None:
        """Remove everything under `directory`, behind the sink's back."""
        shutil.rmtree(directory)

    def put_notes(self, directory: Path) -> None:
        """Put something that is not the sink's where it writes: text, under the name `notes.txt`."""
        (directory / "notes.txt").write_text("mine")

    def has_notes(self, directory: Path) -> bool:
        """Say whether that is there still, as it was."""
        return (directory / "notes.txt").read_text() == "mine"

    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        """Make an empty directory for the sink."""
        path = tmp_path / "out"
        path.mkdir()
        return path

    @pytest.fixture
    def sink(self, directory: Path) -> Iterator[Sink]:
        """Make a sink, and close it in the end."""
        sink = self.make_sink(directory)
        yield sink
        sink.close()

    def write(self, sink: Sink, sequence: int, data: bytes | None = None) -> SealedPart:
        """Write and seal one part, with the content that belongs to its number."""
        with sink.open_part(sequence) as part:
            part.write(content(sequence) if data is None else data)
        assert part.sealed is not None
        return part.sealed

    def write_all(self, sink: Sink) -> list[SealedPart]:
        """Write as many parts as may wait at once, two or one."""
        return [self.write(sink, sequence) for sequence in range(1, min(sink.slots or 2, 2) + 1)]

    def assert_stored(self, directory: Path, parts: Sequence[SealedPart]) -> None:
        """Check that `parts` are stored, each with the content of its number, and not a byte or name more."""
        if self.keeps_bytes:
            sizes: dict[str, int] = {}
            for part in parts:
                uri = part.uri.partition("#")[0]
                sizes[uri] = sizes.get(uri, 0) + part.bytes
                assert self.read(part) == content(part.sequence)
            assert self.stored(directory) == sizes

    def assert_recovers(self, directory: Path, ledger: Ledger) -> None:
        """Check that a new sink finds what `ledger` says, and nothing else; that it can go on, and let go."""
        sink = self.make_sink(directory)
        sink.recover(ledger.sealed, ledger.last)
        while ledger.sealed and len(ledger.sealed) >= (sink.slots or len(ledger.sealed) + 1):
            oldest = ledger.sealed[0]
            ledger.release(oldest)
            sink.release(oldest)
        ledger.commit(self.write(sink, ledger.last.sequence + 1 if ledger.last else 1))
        sink.close()
        self.assert_stored(directory, ledger.parts if sink.lasting else ledger.sealed)

    def assert_stored_and_released(self, directory: Path, parts: Sequence[SealedPart]) -> None:
        """Check the content of `parts`, and that nothing else takes space."""
        if self.keeps_bytes:
            assert [self.read(part) for part in parts] == [content(part.sequence) for part in parts]
            assert sum(self.stored(directory).values()) == sum(part.bytes for part in parts)

    def run(
        self, action: str, directory: Path, ledger: Path, *before: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `sink_runs` in a process of its own, with a command line before it."""
        directory.mkdir(exist_ok=True)
        pickled = pickle.dumps(self.make_sink(directory)).hex()
        main = "from etl.testing.sink_runs import main; main()"
        return subprocess.run(  # noqa: S603
            [*before, sys.executable, "-S", "-c", main, action, pickled, str(ledger)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
        )

    def at_every_call(self, action: str, fault: str, tmp_path: Path) -> Iterator[tuple[Path, Ledger]]:
        """Run `action` with a fault at each of the system calls in turn that change files.

        Each run has a fresh directory; `recover` gets one whose writer was killed. Yields the directory and
        the ledger after each.
        """
        if not self.is_local or not shutil.which("strace"):
            pytest.skip("takes a local sink and strace")
        strace = ["strace", "-f", "-qq"]
        if fault.startswith("error="):
            strace.append("--seccomp-bpf")  # takes a third of the time; strace 6.1 injects no signals with it
        if subprocess.run([*strace, "-o", "/dev/null", "true"], capture_output=True).returncode:  # noqa: S603
            pytest.skip("strace may not trace here")

        def traced(name: str, *options: str) -> tuple[int, Path, Ledger]:
            directory, ledger, log = (tmp_path / f"{each}-{name}" for each in ("out", "ledger", "calls"))
            if action == "recover":
                self.run("die", directory, ledger)
            done = self.run(action, directory, ledger, *strace, "-o", str(log), *options)
            assert done.returncode in (0, FAILED, -signal.SIGKILL), done.stderr
            return done.returncode, directory, Ledger(ledger)

        # strace counts each system call by itself, so "the Nth of any" has to be spelt out.
        assert traced("none", "-e", f"trace={CALLS}")[0] == 0
        calls = re.findall(r"^\d+ +(\w+)\(", (tmp_path / "calls-none").read_text(), re.MULTILINE)
        assert calls
        for call, times in Counter(calls).items():
            for nth in range(1, times + 1):
                inject = ["-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={nth}"]
                code, directory, ledger = traced(f"{call}-{nth}", *inject)
                assert code or "KILL" not in fault
                yield directory, ledger
