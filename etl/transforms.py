"""Transforms on their way between the source and the encoder: generators over records, run afresh for each slice."""

from __future__ import annotations

import functools
import inspect
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

from etl.errors import EtlError, TransformError
from etl.reader import Reader
from etl.records import (
    Record,
    Reject,
    Transform,
    close_iterator,
    describe,
    is_failure,
    kind_of,
    name_of,
)
from sinks.errors import SinkError


class Stages:
    """The transforms of a job, run afresh for each slice.

    Args:
        transforms: generator functions over records, in order.
        on_error: `"fail"` or `"reject"`: what becomes of a record that makes a transform raise.
        on_reject: takes a rejected record, the reason, and the transform's name.
    """

    def __init__(
        self, transforms: Sequence[Transform], on_error: str, on_reject: Callable[[Any, str, str], None]
    ) -> None:
        self._transforms = [(transform, name_of(transform)) for transform in transforms]
        self._on_error = on_error
        self._on_reject = on_reject

    def run(self, reader: Reader) -> Generator[Record, None, None]:
        """Yield what the transforms make of the reader's next slice.

        Closing the generator closes every transform's, the last one first.

        Raises:
            TransformError: a transform raised, yielded what is no record, or ended before its input did.
        """
        with ExitStack() as stack:
            records = stack.enter_context(closing(reader.slice()))
            stage: Stage | None = None
            for transform, name in self._transforms:
                stage = Stage(transform, name, records, reader, stage)
                records = stack.enter_context(closing(self._stage(stage)))
            yield from records

    def _stage(self, stage: Stage) -> Generator[Record, None, None]:
        last = Last(stage.records) if self._on_error == "reject" else None
        while True:
            outputs = None
            try:
                outputs = stage.begin(last if last is not None else stage.records)
                for item in outputs:
                    if item.__class__ is dict:
                        yield item
                    elif isinstance(item, Reject):
                        self._on_reject(item.record, item.reason, stage.name)
                    elif isinstance(item, Mapping):
                        yield dict(item)
                    else:
                        raise TypeError(f"yielded {kind_of(item)}, not a record (a dict) or etl.Reject")
                break
            except (EtlError, SinkError):
                raise
            except BaseException as error:
                reader = stage.reader
                if error is reader.failure or not is_failure(error):
                    raise
                # What ends the program, or a task, is no fault of a record.
                ends = not isinstance(error, Exception)
                if ends or last is None or last.record is None:
                    instead = ', or set on_error = "reject"' if last is None and not ends else ""
                    raise TransformError(
                        f"transform {stage.name} failed at record {reader.number} (position: {reader.position}): "
                        f"{describe(error)}{_raised_at(error, stage.transform)}; fix it and run again{instead}"
                    ) from error
                rejected, reason = last.record, describe(error)
                last.record = None
            finally:
                close_iterator(outputs)
            # Its generator is dead; a fresh one takes the records that follow.
            self._on_reject(rejected, reason, stage.name)
        if not stage.input_ended:
            raise TransformError(
                f"transform {stage.name}{_defined_at(stage.transform)} ended before its input did, at record "
                f"{stage.reader.number}; what it did not read would be lost. Read all records "
                "(`for record in records:`), and leave one out with `continue`, not with `return`"
            )
        stage.ended = True


@dataclass(slots=True)
class Stage:
    """One transform at work on one slice: what it reads, the one before it, and whether it has ended."""

    transform: Transform
    name: str
    records: Iterator[Record]
    reader: Reader
    before: Stage | None
    ended: bool = False

    def begin(self, records: Iterator[Record]) -> Iterator[Any]:
        """Call the transform; what cannot be called, or gives nothing to iterate over, fails for every record.

        Raises:
            TransformError: it is no generator over records.
        """
        number = self.reader.number
        try:
            outputs = self.transform(records)
        except Exception as error:
            if isinstance(error, (EtlError, SinkError)) or self.reader.number > number:
                raise
            raise self._no_generator(f"could not be called with all records ({describe(error)})") from error
        if isinstance(outputs, Mapping) or not isinstance(outputs, Iterable):
            raise self._no_generator(f"returned {kind_of(outputs)}")
        return iter(outputs)

    def _no_generator(self, what: str) -> TransformError:
        name = self.name.rpartition(":")[2]
        return TransformError(
            f"transform {self.name}{_defined_at(self.transform)} {what}. A transform takes an iterator over records "
            "and yields records: `for record in records: yield record`. A function of one record is made one by "
            f"etl.each({name})"
        )

    @property
    def input_ended(self) -> bool:
        """Whether there is nothing left for the transform to read."""
        return self.reader.ended if self.before is None else self.before.ended


class Last:
    """An iterator that remembers the record it gave last, to know which one made a transform raise."""

    __slots__ = ("_records", "record")

    def __init__(self, records: Iterator[Record]) -> None:
        self._records = records
        self.record: Record | None = None

    def __iter__(self) -> Iterator[Record]:
        return self

    def __next__(self) -> Record:
        self.record = None
        self.record = record = next(self._records)
        return record


def _defined_at(transform: Transform) -> str:
    """Say where a function is defined: ` (jobs.py, line 5)`; empty: it is no function of Python's."""
    code = getattr(inspect.unwrap(transform), "__code__", None)
    return f" ({code.co_filename}, line {code.co_firstlineno})" if code else ""


def _raised_at(error: BaseException, transform: Transform) -> str:
    """Say which line of a transform's file raised an error: ` (jobs.py, line 7)`; empty: none of it did."""
    code = getattr(inspect.unwrap(transform), "__code__", None)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if code and frame.filename == code.co_filename]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


def each(function: Callable[[Record], Any]) -> Transform:
    """Turn a function of one record into a transform.

    Args:
        function: takes a record and returns one, several (any iterable), an `etl.Reject`, or None for none.
    """

    @functools.wraps(function)
    def transform(records: Iterator[Record]) -> Iterator[Any]:
        for record in records:
            result = function(record)
            if result is None:
                continue
            if isinstance(result, (Mapping, Reject)):
                yield result
            else:
                yield from result

    return transform
