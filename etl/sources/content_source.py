"""What sources of files have in common, wherever the files are: what a pipeline asks them, and what it tells them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, get_args

from etl.errors import SourceChanged
from etl.field_types import FieldTypes
from etl.records import Declarations
from etl.sources.changes import OnChanged, restarting
from etl.sources.content import Content, one_of
from etl.sources.place import Place
from etl.sources.share import Share
from etl.sources.waiting import Waiting

LOG = logging.getLogger("etl.sources")


class ContentSource:
    """A source whose records come out of the contents of files; its `pull` is its own.

    Args:
        content: how the files are decoded.
        on_changed: what is done where the file that was read last is not what it was.

    Raises:
        ValueError: an argument is wrong.
    """

    def __init__(self, content: Content, on_changed: OnChanged) -> None:
        self._content = content
        self._on_changed: OnChanged = one_of("on_changed", on_changed, get_args(OnChanged))
        self._waiting = Waiting()
        self._progress: Share | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_progress": None}

    def progress(self) -> float | None:
        """Return the share of all that is there which has been read, 0 to 1; None: nothing is known.

        Of the pull that began last, from its thread. What earlier runs have read counts as read. Files are counted by
        their bytes on the disk, URLs by their number.
        """
        return None if self._progress is None else self._progress.share()

    @property
    def told(self) -> Sequence[str]:
        """What was found out about the first contents; see `etl.records.Tells`."""
        return self._content.told

    def declare(self, declared: Declarations) -> None:
        """Take what was declared of fields outside of the source; see `etl.records.TakesDeclared`."""
        self._content.declare(declared)

    def take_memory(self, memory: int | None) -> None:
        """Bound what is held of a content by what the job may take; see `etl.records.TakesMemory`."""
        self._content.take_memory(memory)

    def field_types(self) -> FieldTypes:
        """Return what the files say of the types of their fields; see `etl.records.DescribesFields`."""
        return self._content.field_types

    def leave(self) -> None:
        """Let a pull that waits for a server or a connection end; see `etl.records.Leaves`."""
        self._waiting.leave()

    def _may_restart(self, place: Place, why: str) -> None:
        """See that a file which is not what it was may be read again from its beginning, and tell of it.

        Raises:
            SourceChanged: the job does not say so.
        """
        said = f"{place} is not what it was: {why}"
        if self._on_changed == "fail":
            raise SourceChanged(f"{said}; {place.record} records of it were read: {restarting(place)}")
        LOG.warning(
            "%s; it is read again from its beginning, and the %s records that were read of it before stay",
            said,
            place.record,
        )
