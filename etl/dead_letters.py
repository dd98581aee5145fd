"""Dead letters: the records that were rejected, as parts of their own, committed with the part they belong to."""

from __future__ import annotations

from typing import Any

import orjson

from etl import secret_values
from etl.errors import TooManyRejects
from etl.formats import portable, portable_numbers
from etl.shown import shown
from sinks.base import PartWriter, SealedPart, Sink


class DeadLetters:
    """Writes one object a line: `number`, `transform`, `reason`, `record`.

    Args:
        sink: where they go; a part of dead letters has the number of the part that its records were cut into.
        limit: how many may be rejected over the whole job; None: any number.
        rejected: how many have been, in earlier runs.
    """

    def __init__(self, sink: Sink, limit: int | None, rejected: int) -> None:
        self._sink = sink
        self._limit = limit
        self._committed = rejected
        self._sequence = 0
        self._epoch = 0
        self._writer: PartWriter | None = None
        self.count = 0

    def begin(self, sequence: int, epoch: int) -> None:
        """Begin the letters of part `sequence`; a file is made only when there is one."""
        self._sequence = sequence
        self._epoch = epoch
        self._writer = None
        self.count = 0

    def add(self, record: Any, reason: str, origin: str, number: int) -> None:
        """Write one letter.

        Args:
            record: what was rejected; what JSON cannot hold is written as Python shows it.
            reason: why.
            origin: the transform's name, or `source`, or `format`.
            number: the number of the source's record that was taken last.

        Raises:
            TooManyRejects: this is one more than the job allows.
            sinks.SinkError: it cannot be written.
        """
        if self._limit is not None and self._committed + self.count >= self._limit:
            raise TooManyRejects(
                f"more than max_rejects = {self._limit} records were rejected; the last one is record {number}, "
                f"by {origin}: {reason}. Fix the cause, or allow more"
            )
        # It may quote the record, which UTF-8 may not have.
        said = secret_values.hide(reason if isinstance(reason, str) else shown(reason))
        said = said.encode("utf-8", "backslashreplace").decode()
        letter = {"number": number, "transform": origin, "reason": said, "record": record}
        try:
            line = orjson.dumps(portable_numbers(letter), portable, orjson.OPT_APPEND_NEWLINE)
        except Exception:  # of a value, which may be of a class of the user's: any
            line = orjson.dumps({**letter, "record": shown(record)}, None, orjson.OPT_APPEND_NEWLINE)
        if self._writer is None:
            self._writer = self._sink.open_part(self._sequence, epoch=self._epoch)
        self._writer.write(line)
        self.count += 1

    def seal(self) -> SealedPart | None:
        """Make the letters of this part durable; None: there are none."""
        return self._writer.seal() if self._writer is not None else None

    def commit(self) -> None:
        """Count the letters of this part as the job's: they are in the checkpoint."""
        self._committed += self.count
        self.count = 0

    def abort(self) -> None:
        """Leave no trace of the letters of this part."""
        if self._writer is not None:
            self._writer.abort()
        self.count = 0
