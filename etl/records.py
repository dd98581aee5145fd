"""Records out of the source: marks, positions, slices, rejects.

A source yields records (dicts) and, between them, marks. A `Reader` keeps one pull of the source open over
the whole run and hands it out in slices, one a part. Each part runs the transforms afresh over its slice,
so a generator may keep state within a part; when the slice ends it flushes what it holds. At a cut nothing
is in flight, and the position (the last mark, and the records since) is exact.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import msgspec

from etl.errors import (
    EtlError,
    SourceError,
    SourceMissing,
    SourceRefused,
    SourceStopped,
    SourceUnavailable,
)
from sinks.errors import SinkError

# How much of a cursor a message shows, in characters.
SHOWN = 160

Record = dict[str, Any]
_END = object()  # what a source cannot yield

Transform = Callable[[Iterator[Record]], Iterable[Any]]


class Mark:
    """Yielded by a source between two records: it is safe to go on from here.

    Args:
        cursor: a JSON value that tells the source where to go on, handed to `pull` by a later run.
    """

    __slots__ = ("cursor",)

    def __init__(self, cursor: Any) -> None:
        self.cursor = cursor

    def __repr__(self) -> str:
        return f"Mark({self.cursor!r})"


class Reject:
    """Yielded by a transform in place of a record that it does not want: it goes to the dead letters.

    Args:
        record: the record, or what there is of it.
        reason: why, for whoever reads the dead letters.
    """

    __slots__ = ("reason", "record")

    def __init__(self, record: Any, reason: str) -> None:
        self.record = record
        self.reason = reason

    def __repr__(self) -> str:
        return f"Reject({self.record!r}, {self.reason!r})"


class Unreadable:
    """Yielded by a source in place of a record that it could not decode; it counts as one record.

    With `on_error = "fail"` the run stops with the reason, with `"reject"` the raw text is a dead letter.

    Args:
        raw: the text as it was found, shortened by the source where it is very long.
        reason: what is wrong and where: file, line, offset.
    """

    __slots__ = ("raw", "reason")

    def __init__(self, raw: str, reason: str) -> None:
        self.raw = raw
        self.reason = reason

    def __repr__(self) -> str:
        return f"Unreadable({self.raw!r}, {self.reason!r})"


@runtime_checkable
class Source(Protocol):
    """Where records come from."""

    def pull(self, cursor: Any) -> Iterable[Any]:
        """Yield records (dicts) in an order that is the same each time, and now and then a `Mark`.

        Args:
            cursor: that of an earlier mark, to go on after; None: from the beginning. Records that were
                taken after that mark are skipped by the caller.

        A source that yields no marks is read from the beginning when a job resumes, and the records already
        taken are skipped. The iterator is closed (`close`) when the run ends early.
        """


@runtime_checkable
class Leaves(Protocol):
    """A source whose waits can be ended: for a server that is busy, or before it is tried again."""

    def leave(self) -> None:
        """Let the pull that is under way raise `SourceStopped` where it waits, now or later.

        Called from signal handlers and other threads. A pull that begins afterwards waits again.
        """


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """How far a source has been taken: resume by pulling from `cursor` and skipping `skip` records.

    Attributes:
        cursor: that of the last mark; None: the beginning.
        skip: the number of records taken since that mark.
        number: the number of records taken since the job began, for messages and totals.
    """

    cursor: Any = None
    skip: int = 0
    number: int = 0

    def __str__(self) -> str:
        cursor = (
            msgspec.json.encode(_short(self.cursor)).decode() if self.cursor is not None else "the beginning"
        )
        if len(cursor) > SHOWN:  # the whole of it is in the checkpoint
            cursor = cursor[:SHOWN] + "…"
        return f"{cursor} + {self.skip}" if self.skip else cursor


def _short(cursor: Any) -> Any:
    """Leave out of a cursor what says nothing to a person: what it holds besides plain values."""
    if not isinstance(cursor, dict):
        return cursor
    plain = {key: value for key, value in cursor.items() if not isinstance(value, (dict, list))}
    return plain or cursor


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
        """Start pulling from `position`, anew if a pull is under way."""
        self.close()
        self._cursor = msgspec.json.encode(position.cursor)
        self._since_mark = position.skip
        self._number = position.number
        self._items: Iterator[Any] | None = None
        self.exhausted = False
        self.ended = False
        self.cut: str | None = None
        # The one flag that is looked at for each record; set last, cleared first, so that nothing is missed.
        self._attention = False
        self._nudging = False
        self.failure: Exception | None = None
        self.unavailable: SourceError | None = None

    @property
    def position(self) -> Position:
        """The position after the record handed out last. Asked between slices only."""
        return Position(cursor=msgspec.json.decode(self._cursor), skip=self._since_mark, number=self._number)

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

        Where the source cannot be had for now, what was taken before is whole: the slice ends, `unavailable` says why.

        Raises:
            SourceError: the source raised something that is no `EtlError`, or is shorter than it was.
        """
        began_at = self._number
        try:
            if self._items is None:
                cursor = (msgspec.json.decode(self._cursor),) if self._takes_cursor else ()
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
        except (SourceUnavailable, SourceMissing, SourceRefused) as error:
            if self._number <= began_at:
                raise
            self.end_slice("source")
            self.unavailable = error
            self.close()
        except (EtlError, SinkError):
            raise
        except Exception as error:
            self.failure = error
            if self._nudging:
                raise
            raise SourceError(
                f"the source {self._name} failed after record {self._number} (position: {self.position}): "
                f"{describe(error)}; mend the cause and run again, the job goes on from its last checkpoint"
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
            Unreadable(repr(item)[:1000], f"not an object but {kind_of(item)} (position: {self.position})"),
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
        self._cursor = msgspec.json.encode(mark.cursor)
        self._since_mark = 0

    def _skip(self) -> None:
        """Take the records that were taken after the mark before the job was resumed.

        Where the slice is ended on the way, nothing was taken: the next one begins the way anew.
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
            except SourceStopped:
                self._number += to_skip - self._since_mark
                self._since_mark = to_skip
                raise
            if item is _END:
                raise SourceError(
                    f"the source {self._name} ended {to_skip - self._since_mark} records before the "
                    f"position of the checkpoint ({self._cursor.decode()} + {to_skip}): it holds less than "
                    "it did; give it back its content, or start the job anew with another name and table"
                )
            if isinstance(item, Mark):
                # a mark before the position is a better one to resume from, and saves skipping next time
                to_skip -= self._since_mark
                self._mark(item)
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
        except Exception as error:
            raise SourceError(
                f"the source {self._name} failed while it was closed: {describe(error)}"
            ) from error


def puller(source: Any) -> tuple[Callable[..., Iterable[Any]], bool]:
    """Find how to pull from `source`: the function, and whether it takes a cursor.

    Raises:
        TypeError: it is neither an object with `pull` nor a function.
    """
    pull = getattr(source, "pull", source)
    if not callable(pull):
        raise TypeError(
            f"a source is an object with pull(cursor) or a generator function, not {kind_of(source)}"
        )
    try:
        parameters = inspect.signature(pull).parameters
    except (TypeError, ValueError):
        return pull, True
    return pull, bool(parameters)


def name_of(thing: Any) -> str:
    """Name a transform or a source as its author knows it: `package.module:function`, or its class."""
    name = getattr(thing, "__qualname__", None)
    if name is None:
        return type(thing).__name__
    return f"{getattr(thing, '__module__', None) or '?'}:{name}"


def describe(error: BaseException) -> str:
    """Say what kind of error it is and its message, in one line; those of this library need no kind."""
    text = " ".join(str(error).split())
    if text and type(error).__module__.partition(".")[0] == "etl":
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def close_iterator(iterator: Any) -> None:
    """Close a generator; other iterators, and None, need none of that."""
    close = getattr(iterator, "close", None)
    if close is not None:
        close()


def is_json(value: Any) -> bool:
    """Say whether JSON gives `value` back as it is; a tuple comes back as a list."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_json(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(is_json, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, (bool, int, str))


def kind_of(value: Any) -> str:
    """Say what JSON calls a value, or its Python type."""
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    if isinstance(value, (list, tuple)):
        return f"an array ({type(value).__name__})"
    return names.get(type(value), f"a {type(value).__name__}")
