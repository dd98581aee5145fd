"""One file, or a few, truncated and written again once their part is not needed any more."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from sinks.base import SealedPart
from sinks.errors import SinkOccupied
from sinks.local_files import OpenFile, explained, locate, names, sync_directory, unlink, uri
from sinks.page_cache import Policy
from sinks.parts import FilePart, LocalSink, Part, check, check_places


class ReusedFile(LocalSink):
    """Writes each part to one of a few files, which it uses again: disk use is that of `slots` parts.

    A slot's file is created once and its descriptor kept; truncating it at the release frees space and
    cached pages at once. What another process may have open is never truncated, only unlinked, so that a
    half-dead predecessor writes into a file that nobody can see.

    Args:
        path: the first slot, `out/job.ndjson`; the second is `out/job.slot2.ndjson`, and so on.
        slots: how many parts may exist at once; with 2 one can be written while the one before it loads.
        policy: how the page cache is kept small: "auto" as suits the file system, "write_behind", "fdatasync",
            "direct", "uncached", or "keep": not at all.

    Raises:
        ValueError: `slots` is less than 1, or there is no such policy.
    """

    lasting: bool = False

    def __init__(self, path: str | os.PathLike[str], *, slots: int = 2, policy: Policy = "auto") -> None:
        super().__init__(path, policy)
        if slots < 1:
            raise ValueError(f"ReusedFile(slots={slots!r}): there must be 1 slot or more")
        self.slots: int | None = slots
        self._paths = [self._slot(number) for number in range(1, slots + 1)]
        # Any number: a job that had more slots before leaves nothing behind either.
        self._slots = re.compile(self._pattern(r"(?:\.slot([2-9]|[1-9]\d+))?"))
        self._files: dict[Path, OpenFile] = {}
        self._held: dict[Path, SealedPart] = {}

    def occupied_by(self) -> str | None:
        """Return the path of a slot's file that exists and is not empty, or None."""
        for path, _ in names(self.path.parent, self._slots):
            with explained("look at", path), suppress(FileNotFoundError):
                if path.lstat().st_size:
                    return str(path)
        return None

    def recover(
        self,
        sealed: Sequence[SealedPart],
        last: SealedPart | None,
        *,
        epoch: int = 0,  # noqa: ARG002 - it counts on shared storage alone
    ) -> None:
        """Keep the files that hold a part of `sealed` as they are, unlink every other slot's."""
        places = [locate(part.uri).path for part in sealed]
        check_places(sealed, [path if self._is_slot(path) else self.path for path in places], self)
        for part in sealed:
            check(part, whole=True, in_transit=not self._durable)
        self._abort_open()
        self._let_go()
        self._held = dict(zip(places, sealed, strict=True))
        for path, _ in names(self.path.parent, self._slots):
            if path not in self._held:
                # Not synced: the name is scratch, and if it comes back the next `recover` unlinks it again.
                unlink(path)
        self._start(last)

    def open_part(self, sequence: int, *, epoch: int = 0) -> Part:  # noqa: ARG002
        """Open part `sequence` in the first free slot.

        Raises:
            RuntimeError: no slot is free.
            SinkOccupied: something that this sink did not write stands in its place.
            SinkFull: there is no space.
            SinkError: anything else.
        """
        self._expect(sequence)
        free = [path for path in self._paths if path not in self._held]
        if len(self._held) >= len(self._paths) or not free:
            parts = ", ".join(str(part.sequence) for part in self._held.values())
            raise RuntimeError(
                f"all {self.slots} slots of {self!r} are taken: release a part of {parts} first"
            )
        path = free[0]
        new = path not in self._files
        if new:
            self._files[path] = OpenFile.create(path)
        self._current = _Slot(self, sequence, self._files[path], new=new)
        return self._current

    def release(self, part: SealedPart) -> None:
        """Truncate the part's file; one that was found by `recover` is unlinked and made again later."""
        path = locate(part.uri).path
        if self._held.get(path) != part:
            return
        if path in self._files:
            # Not synced: after a power cut `recover` unlinks the file, whatever it holds.
            self._files[path].truncate(0)
        else:
            unlink(path)
        del self._held[path]

    def close(self) -> None:
        """Unlink the files that hold no part, keep those that do, close all."""
        self._abort_open()
        for path, file in self._files.items():
            if path not in self._held and file.in_place:
                unlink(path)
        self._let_go()

    def _slot(self, number: int) -> Path:
        return self.path if number == 1 else self.path.with_name(self._name(f".slot{number}"))

    def _let_go(self) -> None:
        """Forget all slots and close their files; the files stay."""
        files, self._files, self._held = self._files, {}, {}
        for file in files.values():
            file.close()

    def _is_slot(self, path: Path) -> bool:
        return path.parent == self.path.parent and bool(self._slots.fullmatch(path.name))

    def _held_bytes(self) -> int:
        return sum(part.bytes for part in self._held.values())

    def _keep(self, path: Path, part: SealedPart) -> None:
        """Note that the slot at `path` holds `part`."""
        self._held[path] = part

    def _drop(self, path: Path) -> None:
        """Take the slot at `path` out of use; it is made again when it is needed."""
        self._held.pop(path, None)
        file = self._files.get(path)
        if file:
            if file.in_place:
                unlink(path)
            del self._files[path]
            file.close()

    def __reduce__(self) -> tuple[partial[ReusedFile], tuple[()]]:
        return partial(ReusedFile, self.path, slots=len(self._paths), policy=self.policy), ()


class _Slot(FilePart):
    def __init__(self, sink: ReusedFile, sequence: int, file: OpenFile, *, new: bool) -> None:
        super().__init__(sink, sequence, file, generation=sequence)
        self._sink = sink
        self._new = new

    def _uri(self) -> str:
        return uri(self._file.path)

    def _finish(self, sealed: SealedPart) -> None:
        self._store()
        if not self._file.in_place:
            raise SinkOccupied(
                f"{self._file.path} was moved or replaced while part {self.sequence} was written: another "
                "process has the job, or somebody tidied up; run again when it is the only one"
            )
        if self._new and self._durable:
            sync_directory(self._file.path.parent)
        self._sink._keep(self._file.path, sealed)

    def _undo(self) -> None:
        # Not truncated for the next part: after an error of the disk a new file is worth more than this one.
        self._writer.abandon()
        self._sink._drop(self._file.path)
