"""The experiment: each strategy writes the same stream, in a process and a memory cgroup of its own."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from etl.errors import LabError, NoFreshGroup, NoRoom
from etl.lab.fresh_group import FreshGroup
from etl.lab.report import Outcome, Place, Report, Status
from etl.lab.sampling import Group, OwnGroup, Sample, Sampler, thin
from etl.lab.strategies import Strategy
from etl.lab.stream import Stream
from etl.lab.verification import verify
from etl.lab.writer import Board
from etl.repeating import repeated
from etl.words import size
from sinks import control_group, page_cache
from sinks.control_group import Memory

DROP_CACHES = Path("/proc/sys/vm/drop_caches")
DROPPED_EVERY = 1.0  # seconds
# Measured: Python with the modules of the experiment has 15 MiB, and with a sink it is killed at a limit of 16 MiB.
PROCESS_ALONE = 15 * 1024 * 1024  # bytes
LEAST_LIMIT = 24 * 1024 * 1024  # bytes
SPARE_DISK = 64 * 1024 * 1024  # bytes that stay free: for the directories, and for others


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """An experiment, as it is to be run.

    Attributes:
        stream: what is written.
        strategies: how, one after the other.
        limit: what each process may be charged with, in bytes; None: no limit.
        directory: where files are written, in a directory of their own that is removed again; it exists.
        tell: hears each outcome as soon as it is there, and before, with None, which strategy is next.
    """

    stream: Stream
    strategies: Sequence[Strategy]
    limit: int | None
    directory: Path
    tell: Callable[[Strategy, Outcome | None], None] = field(default=lambda *_: None)

    def run(self) -> Report:
        """Run each strategy and say what it took; files, groups and processes are gone on return, also on errors.

        A strategy that fails, or is killed by the kernel, is an outcome like others.

        Raises:
            NoRoom: the disk has no room for the one that needs the most; nothing was written.
            LabError: the directory cannot be written to.
        """
        own = control_group.read()
        measured_in: Place = "own cgroup" if own is not None else "nothing"
        version, reason = None, ""
        try:
            with FreshGroup(self.limit) as fresh:
                measured_in, version = "fresh cgroup", fresh.version
        except NoFreshGroup as error:
            reason = str(error)
        limits = [self.limit if version is not None else None, own.limit if own is not None else None]
        with self._scratch() as scratch:
            for strategy in self.strategies:
                self._make_sure_of_room(strategy, scratch)
            # Dropping the caches comes last: the next process is charged with the interpreter's files as well.
            outcomes = {
                strategy.name: self._outcome(strategy, scratch, fresh=version is not None)
                for strategy in sorted(self.strategies, key=lambda strategy: strategy.drops_caches)
            }
            file_system = page_cache.choose(scratch).file_system
        return Report(
            lines=self.stream.lines,
            line_bytes=self.stream.line_bytes,
            stream_bytes=self.stream.length,
            part_bytes=self.stream.part_bytes,
            limit_bytes=min((limit for limit in limits if limit is not None), default=None),
            measured_in=measured_in,
            measured_in_reason=reason,
            cgroup_version=version,
            kernel=f"{platform.system()} {platform.release()}",
            file_system=file_system,
            python=platform.python_version(),
            outcomes=[outcomes[strategy.name] for strategy in self.strategies],
        )

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        try:
            scratch = Path(tempfile.mkdtemp(prefix="etl-lab-", dir=self.directory)).absolute()
        except OSError as error:
            raise LabError(
                f"cannot write into {self.directory}: {error.strerror}; choose another --directory"
            ) from error
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _make_sure_of_room(self, strategy: Strategy, scratch: Path) -> None:
        needed = SPARE_DISK + (self.stream.length if strategy.keeps else 2 * self.stream.part_bytes)
        if strategy.kind == "control":
            needed = 0
        free = shutil.disk_usage(scratch).free
        if free < needed:
            raise NoRoom(
                f"{strategy.name} needs {size(needed)} in {self.directory}, where {size(free)} are free: choose "
                "another --directory, fewer --lines, or with --only strategies that keep no files"
            )

    def _outcome(self, strategy: Strategy, scratch: Path, *, fresh: bool) -> Outcome:
        self.tell(strategy, None)
        if strategy.drops_caches and not os.access(DROP_CACHES, os.W_OK):
            outcome = Outcome(
                strategy=strategy.name,
                kind=strategy.kind,
                status="skipped",
                reason=f"{DROP_CACHES} cannot be written to; only root may, outside of a container",
            )
        else:
            try:
                self._make_sure_of_room(strategy, scratch)
                outcome = self._measure(strategy, scratch, fresh=fresh)
            except NoRoom as error:  # there was room at the beginning
                outcome = Outcome(
                    strategy=strategy.name, kind=strategy.kind, status="failed", reason=str(error)
                )
        self.tell(strategy, outcome)
        return outcome

    def _measure(self, strategy: Strategy, scratch: Path, *, fresh: bool) -> Outcome:
        directory = scratch / "files"
        group: Group = FreshGroup(self.limit) if fresh else OwnGroup()
        try:
            directory.mkdir()
            with closing(Board()) as board:
                with _process(self._command(strategy, directory, board), group, board) as process:
                    with _dropping_caches(strategy.drops_caches), Sampler(group, board, directory) as sampler:
                        said, complaint = process.communicate()
                    counted = group.memory()
                    status, reason = self._judge(process.returncode, complaint, counted)
                kept = None
                if status == "done":
                    kept, reason = verify(self.stream, strategy, directory, board.bytes)
                    status = "failed" if reason else "done"
                return _summary(strategy, status, reason, said, kept, board, sampler, counted)
        finally:
            # The files first: what is cached of them is charged to the group.
            shutil.rmtree(directory, ignore_errors=True)
            group.remove()

    def _command(self, strategy: Strategy, directory: Path, board: Board) -> list[str]:
        specification = {
            "strategy": strategy.name,
            "lines": self.stream.lines,
            "line_bytes": self.stream.line_bytes,
            "part_bytes": self.stream.part_bytes,
            "directory": str(directory),
            "board": board.descriptor,
        }
        # -P: modules in the current directory are not its own.
        return [sys.executable, "-P", "-m", "etl.lab.writer", json.dumps(specification)]

    def _judge(self, code: int, complaint: str, counted: Memory | None) -> tuple[Status, str]:
        """Say how a process ended, by its exit code, its standard error, and what its group counted."""
        if code == 0:
            return "done", ""
        if code == -signal.SIGKILL and counted is not None and counted.oom_kills:
            limit = f"of {size(self.limit)} " if self.limit is not None else ""
            return "killed", f"by the kernel, at the limit {limit}of its cgroup"
        said = complaint.strip().splitlines()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        if not said:
            return "failed", f"its process ended with {how}"
        return "failed", re.sub(r"^(?:etl|sinks)[.\w]*: ", "", said[-1])  # our own messages need no class


def _summary(
    strategy: Strategy,
    status: Status,
    reason: str,
    method: str,
    kept: int | None,
    board: Board,
    sampler: Sampler,
    counted: Memory | None,
) -> Outcome:
    samples = sampler.samples()

    def peak(value: Callable[[Sample], int]) -> int | None:
        return max(map(value, samples), default=None)

    until_written, seconds = board.seconds()
    return Outcome(
        strategy=strategy.name,
        kind=strategy.kind,
        status=status,
        reason=reason,
        method=method,
        written_bytes=board.bytes,
        kept_bytes=kept,
        seconds=seconds,
        seconds_until_written=until_written,
        bytes_per_second=board.bytes / seconds if seconds else None,
        peak_page_cache_bytes=peak(lambda sample: sample.page_cache_bytes),
        peak_working_set_bytes=peak(lambda sample: sample.working_set_bytes),
        peak_dirty_bytes=peak(lambda sample: sample.dirty_bytes),
        peak_anonymous_bytes=peak(lambda sample: sample.anonymous_bytes),
        peak_charged_bytes=counted.peak if counted is not None else None,
        failed_charges=counted.failed_charges if counted is not None else None,
        oom_kills=counted.oom_kills if counted is not None else None,
        disk_bytes=sampler.disk_bytes,
        samples=thin(samples[_first(samples) :]),
    )


def _first(samples: Sequence[Sample]) -> int:
    """Return the place of the last sample before writing began."""
    return max(0, sum(sample.seconds < 0 for sample in samples) - 1)


@contextmanager
def _process(command: list[str], group: Group, board: Board) -> Iterator[subprocess.Popen[str]]:
    """Start the process that writes in its group; when it is left early, the process is killed.

    It has a session of its own: Ctrl-C in the terminal reaches this process alone, which ends that one.
    """
    process = subprocess.Popen(  # noqa: S603 - our own program
        group.inside(command),
        pass_fds=(board.descriptor,),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def _dropping_caches(wanted: bool) -> AbstractContextManager[None]:
    """Tell the kernel each second to drop all clean page cache of the machine (proc(5)), if wanted."""
    if not wanted:
        return nullcontext()
    return repeated(lambda: DROP_CACHES.write_text("1\n"), DROPPED_EVERY, "drop_caches")
