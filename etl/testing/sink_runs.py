"""A small job that writes parts, for the sinks' conformance suite to kill: run in a process of its own.

    python -c "from etl.testing.sink_runs import main; main()" write SINK LEDGER

SINK is a pickled, unused sink in hexadecimal digits; LEDGER is a file that stands for the checkpoint.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from sinks.base import PartWriter, SealedPart, Sink
from sinks.errors import SinkError, SinkFull

FAILED = 3  # the exit code after a SinkError


def content(sequence: int) -> bytes:
    """Return what part `sequence` holds: some 3 KB, another length for each."""
    return b"part %d; " % sequence * (300 + sequence)


class Ledger:
    """What a checkpoint would know: which parts were sealed and committed, and which of them released.

    Args:
        path: a file of JSON lines, made when it is needed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.parts: list[SealedPart] = []
        self._released: set[int] = set()
        for line in path.read_text().splitlines() if path.exists() else []:
            entry = json.loads(line)
            if "released" in entry:
                self._released.add(entry["released"])
            else:
                self.parts.append(SealedPart(**entry))

    @property
    def sealed(self) -> list[SealedPart]:
        """The parts that are sealed and not released, in order."""
        return [part for part in self.parts if part.sequence not in self._released]

    @property
    def last(self) -> SealedPart | None:
        """The part that was sealed last."""
        return self.parts[-1] if self.parts else None

    def commit(self, part: SealedPart) -> None:
        """Note that `part` is sealed."""
        self._append(asdict(part))
        self.parts.append(part)

    def release(self, part: SealedPart) -> None:
        """Note that `part` is released."""
        self._append({"released": part.sequence})
        self._released.add(part.sequence)

    def _append(self, entry: object) -> None:
        with self._path.open("ab", buffering=0) as file:
            with suppress(OSError):
                os.fsync(file.fileno())  # a place to be killed at: after the sink's step, before it is noted
            file.write(json.dumps(entry).encode() + b"\n")


def run(sink: Sink, ledger: Ledger, parts: int) -> Iterator[PartWriter]:
    """Recover `sink` and write `parts` parts; yield each while it is open, half written.

    Parts are released as late as the sink's slots allow, at most two wait. An aborted part comes first.
    """
    sink.recover(ledger.sealed, ledger.last)
    first = ledger.last.sequence + 1 if ledger.last else 1
    if parts:
        aborted = sink.open_part(first)
        aborted.write(b"never to be seen")
        aborted.abort()
    waiting = min(sink.slots or 3, 3) - 1
    for sequence in range(first, first + parts):
        data = content(sequence)
        with sink.open_part(sequence) as part:
            part.write(data[: len(data) // 2])
            yield part
            part.write(data[len(data) // 2 :])
        assert part.sealed is not None
        ledger.commit(part.sealed)
        while len(ledger.sealed) > waiting:
            oldest = ledger.sealed[0]
            ledger.release(oldest)
            sink.release(oldest)


def fill(sink: Sink, ledger: Ledger) -> None:
    """Write a part, then one that is larger than the disk (1 MiB), then a smaller one; check what is there."""
    for part in run(sink, ledger, 1):
        part.write(b"")
    if sink.slots == 1:
        sink.release(ledger.parts[0])
        ledger.release(ledger.parts[0])
    try:
        with sink.open_part(2) as part:
            for _ in range(20):
                part.write(bytes(100_000))
    except SinkFull as error:
        print(error)  # noqa: T201  # to the test
    else:
        raise AssertionError("a part of 2 MB was sealed on a disk of 1 MiB")
    with sink.open_part(2) as part:
        part.write(bytes(600_000))
    assert part.sealed is not None
    ledger.commit(part.sealed)
    sink.recover(ledger.sealed, ledger.last)


def main() -> None:
    """Do what the command line says: `write`, `recover`, `die` (write, and die in the fourth part), `fill`."""
    action, pickled, path = sys.argv[1:]
    sink: Sink = pickle.loads(bytes.fromhex(pickled))  # noqa: S301  # our parent's own
    ledger = Ledger(Path(path))
    try:
        if action == "fill":
            return fill(sink, ledger)
        for part in run(sink, ledger, {"recover": 0, "write": 3, "die": 4}[action]):
            if action == "die" and len(ledger.parts) == 3:
                part.write(bytes(1 << 20))  # more than any buffer keeps back
                os.kill(os.getpid(), signal.SIGKILL)
        sink.close()
    except SinkError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(FAILED)
