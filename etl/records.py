"""Records out of the source: marks, positions, rejects. A source yields records (dicts) and, between them, marks."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

from etl import secret_values
from etl.field_types import FieldTypes

# How much of a cursor a message shows, in characters.
SHOWN = 160
MOST_OF_A_GROUP = 3

Record = dict[str, Any]

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

    def cursor_within(self) -> Any:
        """Return a cursor to go on from when records were taken since, asked for between two of them.

        A source may add to it what shows, later, that they are still those.
        """
        return self.cursor


class Restart(Mark):
    """A mark from which a source takes something again that is not what it was.

    What was taken since the mark that it was asked to go on from is not skipped after it: those were other records.
    """

    __slots__ = ()


class Reject:
    """Yielded by a transform in place of a record that it does not want: it goes to the dead letters.

    Args:
        record: the record, or what there is of it.
        reason: why, for people who read the dead letters.
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
                taken after that mark are skipped by the caller, unless the source yields a `Restart` first.

        A source that yields no marks is read from the beginning when a job resumes, and the records already
        taken are skipped. The iterator is closed (`close`) when the run ends early.
        """


@runtime_checkable
class DescribesFields(Protocol):
    """A source that knows the types of the fields of its records, as Parquet does."""

    def field_types(self) -> FieldTypes:
        """Return the types of all records that the pull under way has given, and of more where it knows them.

        Asked between two records, and at the end of each part. What one field was in one file and in another one is
        the type that holds both, or `mixed`.
        """


@runtime_checkable
class Leaves(Protocol):
    """A source whose waits can be ended: for a server that is busy, or before it is tried again."""

    def leave(self) -> None:
        """Let the pull that is under way raise `SourceStopped` where it waits, now or later.

        Called from signal handlers and other threads. A pull that begins afterwards waits again.
        """


@runtime_checkable
class ReadsFiles(Protocol):
    """A source that reads files of this machine, its own job's output among them if it is not looked after."""

    def reads(self, path: str) -> bool:
        """Say whether a pull that begins now would read the file at `path`. Changes nothing."""


@runtime_checkable
class TakesMemory(Protocol):
    """A source that bounds what it holds of its content, such as a long line, by what the job may take."""

    def take_memory(self, memory: int | None) -> None:
        """Hear, before each `pull`, what the job may take.

        Args:
            memory: what it may be charged with, in bytes; None: there is no limit.
        """


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """What a field was declared as.

    Attributes:
        type: in upper case, as in `etl.columns.Column`: STRING, INTEGER, FLOAT, NUMERIC, …
        cast: whether a transform makes the type of it, which is to find the text as it stands.
    """

    type: str
    cast: bool = False


# Tells what the field of that name was declared as, with dots where it is one of an object; None: nobody declared it.
Declarations = Callable[[str], Declared | None]


def nobody(_field: str) -> Declared | None:
    """Say that nothing is declared."""
    return None


@runtime_checkable
class TakesDeclared(Protocol):
    """A source of texts that have no types, such as CSV, which makes values of them.

    A text is what it says only as long as nobody guesses: `1.10` is no number where a column of text is declared, and
    has all of its digits where a decimal is.
    """

    def declare(self, declared: Declarations) -> None:
        """Take what was declared of fields outside of the source: called before each `pull`.

        What the source's own options say of a field comes first, then this, and what its values look like last.
        """


@runtime_checkable
class PassesDeclared(Protocol):
    """A transform that knows what fields were called before it, or makes their types, as those of job files do."""

    def before(self, declared: Declarations) -> Declarations:
        """Return what is declared of the fields that come to it; `declared` is about those that leave it."""


def led_back(declared: Declarations, transforms: Sequence[object]) -> Declarations:
    """Return what is declared of the fields that come to the first transform, by what those behind the last one are."""
    for transform in reversed(transforms):
        if isinstance(transform, PassesDeclared):
            declared = transform.before(declared)
    return declared


@runtime_checkable
class MakesTypes(Protocol):
    """A transform that makes something of fields that their values do not tell, as a cast does.

    Attributes:
        makes: the names of the fields, and their types: `string`, also where it looks like a date; `json`, whatever it
            holds.
    """

    makes: Mapping[str, str]


@runtime_checkable
class Tells(Protocol):
    """A source that finds out how its content is to be read.

    Attributes:
        told: what was found out about the first contents, in words.
    """

    told: Sequence[str]


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
    """Say what kind of error it is and its message, in one line that UTF-8 can hold; our own need no kind."""
    text = secret_values.hide(" ".join(message_of(error).split()))
    if text and type(error).__module__.partition(".")[0] == "etl":
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def message_of(error: BaseException) -> str:
    r"""Return an error's message, whatever its class makes of it; halves of surrogate pairs are escaped: `\udce9`."""
    try:
        text = str(error)
    except BaseException as other:
        if not is_failure(other):
            raise
        text = f"its message cannot be shown: {type(other).__name__}"
    if isinstance(error, BaseExceptionGroup):  # which names no error that is in it
        within = [describe(each) for each in error.exceptions[:MOST_OF_A_GROUP]]
        text = f"{text}: {'; '.join(within)}{'; …' * (len(error.exceptions) > MOST_OF_A_GROUP)}"
    return text.encode("utf-8", "backslashreplace").decode()


def is_failure(error: BaseException) -> bool:
    """Say whether what the user's code raised is a failure of that code; asked where it was caught.

    That is anything, such as `SystemExit` and `asyncio.CancelledError`, but an interrupt, and the end of a generator of
    our own: then `GeneratorExit` is raised at its `yield`, and has come through no other frame.
    """
    if isinstance(error, GeneratorExit):
        return error.__traceback__ is not None and error.__traceback__.tb_next is not None
    return not isinstance(error, KeyboardInterrupt)


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
