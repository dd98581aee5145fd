"""One pull of a source, handed out in slices.

A `Reader` keeps one pull of the source open over the whole run and hands it out in slices, one a part. Each part runs
the transforms afresh over its slice, so a generator may keep state within a part; when the slice ends it flushes what
it holds. At a cut nothing is in flight, and the position (the last mark, and the records since) is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

import msgspec

from etl.errors import (
    EtlError,
    SourceError,
    SourceMissing,
    SourceRefused,
    SourceStopped,
    SourceUnavailable,
    SourceUnfinished,
)
from etl.masking import filled, masked, masked_bytes
from etl.records import (
    Leaves,
    Mark,
    Position,
    Record,
    Restart,
    Unreadable,
    close_iterator,
    describe,
    is_failure,
    is_json,
    kind_of,
    name_of,
    puller,
)
from etl.shown import shown
from sinks.errors import SinkError

_END = object()  # what a source cannot yield


class Reader:
    """Hands one pull of a source out in slices and knows the exact position after each.

    Args:
        source: anything with `pull(cursor)`, or a generator function with or without that argument.
        position: where to go on.
        on_unreadable: takes what the source could not decode, with the record's number; it raises, or keeps
            a dead letter.
        on_nudge: called between two records after `nudge`.
    """

    def __init__(
        self,
        source: Any,
        position: Position,
        on_unreadable: Callable[[Unreadable, int], None],
        on_nudge: Callable[[], None] = lambda: None,
    ) -> None:
        self._pull, self._takes_cursor = puller(source)
        self._name = name_of(source)
        self._source = source
        self._on_unreadable = on_unreadable
        self._on_nudge = on_nudge
        self.open(position)

    def open(self, position: Position) -> None:
        """Start pulling from `position`, again if a pull is under way."""
        self.close()
        self._cursor = msgspec.json.encode(position.cursor)
        self._last: Mark | None = None
        self._since_mark = position.skip
        self._number = position.number
        self._items: Iterator[Any] | None = None
        self.exhausted = False
        self.ended = False
        self.cut: str | None = None
        # The one flag that is looked at for each record; set last, cleared first, so that nothing is missed.
        self._attention = False
        self._nudging = False
        self.failure: BaseException | None = None
        self.unavailable: SourceError | None = None
        self.unfinished: SourceUnfinished | None = None

    @property
    def position(self) -> Position:
        """The position after the record handed out last, without secrets. Asked between slices only."""
        cursor = msgspec.json.decode(self._cursor)
        if self._since_mark and self._last is not None:
            cursor = masked(self._last.cursor_within())
        return Position(cursor=cursor, skip=self._since_mark, number=self._number)

    @property
    def number(self) -> int:
        """The number of the record handed out last, counted from 1 over the whole job."""
        return self._number

    def end_slice(self, reason: str) -> None:
        """Let the slice end before its next record. Safe from other threads and signal handlers.

        Args:
            reason: why: the first one given for a slice stays.
        """
        if self.cut is None:
            self.cut = reason
        self._attention = True

    def leave(self, reason: str) -> None:
        """End the slice, also where the source waits. Safe from other threads and signal handlers.

        Args:
            reason: why.
        """
        self.end_slice(reason)
        if isinstance(self._source, Leaves):
            self._source.leave()

    def nudge(self) -> None:
        """Let `on_nudge` be called before the next record, on the thread that pulls. Safe from other threads."""
        self._attention = True

    def begin_slice(self) -> None:
        """Forget why the last slice ended, so that another can begin."""
        self.cut = None
        self.ended = False

    def slice(self) -> Generator[Record, None, None]:
        """Yield records until the slice is ended or the source is; then `ended` is true.

        Where the source cannot be had for now, what was taken before is whole: the slice ends, `unavailable` says why;
        so does `unfinished` where its last record may be half of one.

        Raises:
            SourceError: the source raised something that is no `EtlError`, or is shorter than it was.
        """
        began_at = self._number
        try:
            if self._items is None:
                cursor = (filled(msgspec.json.decode(self._cursor)),) if self._takes_cursor else ()
                self._items = iter(self._pull(*cursor))
                self._skip()
            for item in self._items if self.cut is None else ():
                if item.__class__ is dict:
                    self._since_mark += 1
                    self._number += 1
                    yield item
                elif (record := self._unusual(item)) is not None:
                    yield record
                if self._attention and self._asked_to_end():
                    break
            else:
                self.exhausted = self.cut is None
        except SourceStopped:
            if self.cut is None:
                raise
            self.close()  # what it was about to give is asked for again by the next pull
        except SourceUnfinished as error:
            self.end_slice("source")
            self.unfinished = error
            self.close()
        except (SourceUnavailable, SourceMissing, SourceRefused) as error:
            if self._number <= began_at:
                raise
            self.end_slice("source")
            self.unavailable = error
            self.close()
        except (EtlError, SinkError):
            raise
        except BaseException as error:
            if not is_failure(error):
                raise
            self.failure = error
            if self._nudging:
                raise
            raise SourceError(
                f"the source {self._name} failed after record {self._number} (position: {self.position}): "
                f"{describe(error)}; fix the cause and run again, the job goes on from its last checkpoint"
            ) from error
        self.ended = True

    def _asked_to_end(self) -> bool:
        self._attention = False
        if self.cut is None:
            self._nudging = True
            self._on_nudge()
            self._nudging = False
        return self.cut is not None

    def _unusual(self, item: Any) -> Record | None:
        if isinstance(item, Mark):
            self._mark(item)
            return None
        self._since_mark += 1
        self._number += 1
        if isinstance(item, Unreadable):
            self._on_unreadable(item, self._number)
            return None
        if isinstance(item, Mapping):
            return dict(item)
        self._on_unreadable(
            Unreadable(shown(item)[:1000], f"not an object but {kind_of(item)} (position: {self.position})"),
            self._number,
        )
        return None

    def _mark(self, mark: Mark) -> None:
        if not is_json(mark.cursor):
            raise SourceError(
                f"the source {self._name} gave a cursor that is no JSON value after record {self._number}: "
                f"{mark.cursor!r}; a cursor is made of strings, numbers, lists and dicts with strings as keys"
            )
        # Its bytes: a source may go on to change what it gave.
        self._cursor = masked_bytes(msgspec.json.encode(mark.cursor))
        self._last = mark
        self._since_mark = 0

    def _skip(self) -> None:
        """Take the records that were taken after the mark before the job was resumed.

        Where the slice is ended on the way, nothing was taken: the next one begins the way again.
        """
        assert self._items is not None
        to_skip, self._since_mark = self._since_mark, 0
        self._number -= to_skip
        while self._since_mark < to_skip:
            if self.cut is not None:
                self._number += to_skip - self._since_mark
                self._since_mark = to_skip
                self.close()
                return
            try:
                item = next(self._items, _END)
            except (SourceStopped, SourceUnfinished):
                self._number += to_skip - self._since_mark
                self._since_mark = to_skip
                raise
            if item is _END:
                raise SourceError(
                    f"the source {self._name} ended {to_skip - self._since_mark} records before the "
                    f"position of the checkpoint ({self._cursor.decode()} + {to_skip}): it holds less than "
                    "it did; give it back its content, or start the job over with another name and table"
                )
            if isinstance(item, Mark):
                # a mark before the position is a better one to resume from, and saves skipping next time
                left = to_skip - self._since_mark
                self._mark(item)
                if isinstance(item, Restart):
                    self._number += left
                    return
                to_skip = left
                continue
            self._since_mark += 1
            self._number += 1

    def close(self) -> None:
        """Close the pull that is under way. May be repeated.

        Raises:
            SourceError: the source raised while it was closed.
        """
        items, self._items = getattr(self, "_items", None), None
        try:
            close_iterator(items)
        except BaseException as error:
            if not is_failure(error):
                raise
            raise SourceError(
                f"the source {self._name} failed while it was closed: {describe(error)}"
            ) from error
