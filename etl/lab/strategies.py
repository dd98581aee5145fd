"""The ways of writing that are compared: plain files as a program writes them by itself, and the sinks.

A new sink is one entry of `SINKS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal

import sinks
from etl.errors import ConfigError
from etl.lab.stream import Stream
from sinks import control_group
from sinks.base import Sink, TakesBudget
from sinks.page_cache import Policy

# Told how many bytes more are written, after each batch of lines.
Tell = Callable[[int], None]

# naive: plain files. control: writes nothing. keep: a sink whose hygiene is turned off. drop: a sink as it is.
# transit: a sink as a pipeline uses it whose warehouse keeps a ledger: small parts, gone before they are flushed.
Kind = Literal["naive", "control", "keep", "drop", "transit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """A way of writing a stream.

    Attributes:
        name: as the report and `--only` call it.
        kind: what it stands for.
        write: writes the stream into a directory, and returns by which method, in words.
        keeps: whether its files stay, all of them, when it is done.
        drops_caches: whether the kernel is told each second to drop all of the machine's clean caches.
    """

    name: str
    kind: Kind
    write: Callable[[Stream, Path, Tell], str]
    keeps: bool = False
    drops_caches: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkUse:
    """A sink, and how the experiment uses it.

    Attributes:
        name: as the report calls it.
        make: makes it; takes the path of its file and its policy.
        releases: whether each part is released when it is sealed, as one that is loaded would be.
        kinds: what to run it as.
    """

    name: str
    make: Callable[[Path, Policy], Sink]
    releases: bool = False
    kinds: tuple[Kind, ...] = ("keep", "drop")


SINKS = (
    SinkUse(name="big_file", make=lambda path, policy: sinks.BigFile(path, policy=policy)),
    SinkUse(name="numbered_chunks", make=lambda path, policy: sinks.NumberedChunks(path, policy=policy)),
    SinkUse(
        name="released_chunks",
        make=lambda path, policy: sinks.NumberedChunks(path, keep=False, policy=policy),
        releases=True,
        kinds=("keep", "drop", "transit"),
    ),
    SinkUse(
        name="reused_file",
        make=lambda path, policy: sinks.ReusedFile(path, policy=policy),
        releases=True,
        kinds=("keep", "drop", "transit"),
    ),
    SinkUse(name="null", make=lambda *_: sinks.Null(), releases=True, kinds=("control",)),
)


def all_strategies() -> list[Strategy]:
    """Return them in the order in which they are shown."""
    return [
        Strategy(name="naive_big_file", kind="naive", write=_one_file, keeps=True),
        Strategy(name="naive_numbered_files", kind="naive", write=_numbered_files, keeps=True),
        Strategy(name="naive_reused_file", kind="naive", write=_reused_file),
        Strategy(name="naive_drop_caches", kind="naive", write=_one_file, keeps=True, drops_caches=True),
        *(strategy for use in SINKS for strategy in _through(use)),
        Strategy(name="dev_null", kind="control", write=_nothing),
    ]


def select(names: Iterable[str]) -> list[Strategy]:
    """Return the strategies that are called so; without a name all but the one that drops the machine's caches.

    Args:
        names: full names; or those of sinks, for all of their policies; or patterns with `*`, which do not find the
            one that drops the machine's caches: that slows down whatever else runs there.

    Raises:
        ConfigError: nothing is called so.
    """
    strategies = all_strategies()
    wanted = list(names)
    for name in wanted:
        if not any(_is_called(strategy, name) for strategy in strategies):
            there_are = ", ".join(strategy.name for strategy in strategies)
            raise ConfigError(f"no strategy is called {name!r}; there are: {there_are}")
    return [
        strategy
        for strategy in strategies
        if any(_is_called(strategy, name) for name in wanted) or not (wanted or strategy.drops_caches)
    ]


def _is_called(strategy: Strategy, name: str) -> bool:
    if name in (strategy.name, strategy.name.partition(" ")[0]):
        return True
    return fnmatchcase(strategy.name, name) and not strategy.drops_caches


def _one_file(stream: Stream, directory: Path, tell: Tell) -> str:
    with (directory / "bloat.ndjson").open("wb") as file:
        for part in range(stream.parts):
            _write_lines(file, stream, part, tell)
    return "plain"


def _numbered_files(stream: Stream, directory: Path, tell: Tell) -> str:
    for part in range(stream.parts):
        with (directory / f"bloat-{part + 1:06d}.ndjson").open("wb") as file:
            _write_lines(file, stream, part, tell)
    return "plain"


def _reused_file(stream: Stream, directory: Path, tell: Tell) -> str:
    for part in range(stream.parts):
        with (directory / "bloat.ndjson").open("wb") as file:  # cuts it to nothing
            _write_lines(file, stream, part, tell)
    return "plain"


def _nothing(stream: Stream, _directory: Path, tell: Tell) -> str:
    with Path(os.devnull).open("wb") as file:
        for part in range(stream.parts):
            _write_lines(file, stream, part, tell)
    return "none"


def _write_lines(file: BinaryIO, stream: Stream, part: int, tell: Tell) -> None:
    """Write a line at a time, as programs do; Python gathers them into its buffer."""
    for batch in stream.batches(part):
        for line in batch:
            file.write(line)
        tell(len(batch) * stream.line_bytes)


def _through(use: SinkUse) -> Iterator[Strategy]:
    for kind in use.kinds:
        yield Strategy(
            name=use.name if use.kinds == ("control",) else f"{use.name} ({kind})",
            kind=kind,
            write=partial(_into_sink, use, kind),
            keeps=not use.releases,
        )


def _into_sink(use: SinkUse, kind: Kind, stream: Stream, directory: Path, tell: Tell) -> str:
    """Write batches of lines, as a pipeline does."""
    sink = use.make(directory / "job.ndjson", "keep" if kind == "keep" else "auto")
    if isinstance(sink, TakesBudget):
        group = control_group.read()
        sink.take_budget(memory=group.limit if group else None, durable=kind != "transit")
    method = "none"
    try:
        for part in range(stream.parts):
            with sink.open_part(part + 1) as writer:
                for block in stream.blocks(part):
                    writer.write(block)
                    tell(len(block))
            hygiene = getattr(writer, "hygiene", None)
            if hygiene is not None:
                method = f"{hygiene.method} ({hygiene.reason})"
            if use.releases and writer.sealed is not None:
                sink.release(writer.sealed)
    finally:
        sink.close()
    return method
