"""How the sink kept the page cache small, over all parts of a run: told, and noted in the checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

import msgspec

from etl import checkpoint, progress
from etl.checkpoint import Checkpoint
from sinks import Hygiene, PartWriter, ReportsHygiene


class Housekeeping:
    """Sums up what the parts of one run say of their hygiene.

    Args:
        pipeline: the job's name.
        emit: takes the events: one when the method is known, one whenever it changes, one at the end.
    """

    def __init__(self, pipeline: str, emit: Callable[[progress.Event], None]) -> None:
        self._pipeline = pipeline
        self._emit = emit
        self._sum: Hygiene | None = None

    def noted(self, writer: PartWriter, document: Checkpoint) -> Checkpoint:
        """Return `document` with what `writer`, whose part is sealed, says; a third party's may say nothing."""
        if not isinstance(writer, ReportsHygiene):
            return document
        before, now = self._sum, _plain(writer.hygiene)
        if now is None:
            return document
        if before is not None:
            waited = round(before.waited + now.waited, 6)
            now = replace(now, peak=max(before.peak, now.peak), waited=waited)
        self._sum = now
        if before is None or (before.method, before.reason) != (now.method, now.reason):
            self.tell(at_end=False)
        return checkpoint.replace(document, hygiene=now)

    def tell(self, *, at_end: bool) -> None:
        """Emit what is known, if anything is."""
        if self._sum is not None:
            self._emit(progress.SinkHygiene(pipeline=self._pipeline, at_end=at_end, **asdict(self._sum)))


def _plain(found: Hygiene) -> Hygiene | None:
    """Return what can be read again from a checkpoint; None: a third party's cannot."""
    try:
        return msgspec.json.decode(msgspec.json.encode(found), type=Hygiene)
    except (msgspec.MsgspecError, TypeError):
        return None
