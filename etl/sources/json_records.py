"""The rows at a path of a large JSON document, or of several one after the other, in bounded memory.

What lies beside the rows is passed over. A cursor holds where in the text it is, and the containers around it, so
that reading goes on there: behind a comma between two rows, or behind the container of rows.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

from etl.errors import SourceError
from etl.sources import json_array
from etl.sources.decoding import Stream
from etl.sources.json_decoder import DECODER, Decoder
from etl.sources.json_path import EVERY, MOST_NAMES, below, goes_on, is_of_rows, no_array, nothing_at
from etl.sources.json_text import Text
from etl.sources.place import Place

_OPENS = b"{["
_CLOSES = {"{": b"}", "[": b"]"}
_KINDS = {b'"': "a string", b"{": "an object", b"t": "a boolean", b"f": "a boolean"}

# Says whether rows, or an array of none, were found in what was read.
_Batches = Generator[list[Any], None, bool]


def read(
    stream: Stream, place: Place, path: str, *, block: int, decoder: Decoder = DECODER
) -> Iterator[list[Any]]:
    """Read the rows at `path`; yields lists of records, and marks.

    Args:
        stream: the content, at `place`.
        place: moved on with what was read.
        path: of the rows, see `json_path`.
        block: how many bytes to decode at once.
        decoder: decodes records.

    Raises:
        SourceError: it is no JSON, ends within, or has no rows at the path.
    """
    return _Walk(Text(stream, place, block, decoder.most), place, path, block, decoder).documents()


class _Walk:
    """Goes through documents from a place on.

    A container on the path is written as the bracket that opens it and what is left of the path within it; those
    around the place are `place.within`, the innermost last.
    """

    def __init__(self, text: Text, place: Place, path: str, block: int, decoder: Decoder) -> None:
        self._decoder = decoder
        self._text = text
        self._place = place
        self._path = path
        self._block = block
        self._within = list(place.within)
        self._trail: list[str] = []
        self._missed: tuple[int, str] = (-1, "")

    def documents(self) -> Iterator[list[Any]]:
        """Read one document after the other."""
        text, place = self._text, self._place
        if self._within:
            yield from self._go_on(0)
            yield self._marked()
        while first := text.first():
            if first not in _OPENS:
                said = "it does not begin with { or [, as JSON with rows in it does, but with"
                if place.record or text.at > 3:
                    said = f"something follows the document's end, after {place.record} of its rows:"
                raise SourceError(f"{place}: {said} {text.data[:40]!r} (byte {text.at}); fix the file")
            self._missed = (-1, nothing_at(self._path, [], None))
            if not (yield from self._value(self._path)):
                raise SourceError(
                    f"{place}: {self._missed[1]}; the document ends at byte {text.at}. Let `records` name the path "
                    "of the rows"
                )
            yield self._marked()

    def _marked(self) -> list[Any]:
        """Make a mark behind what was just read."""
        self._text.settle()
        self._place.within = list(self._within)
        return [self._place.mark()]

    def _value(self, rest: str) -> _Batches:
        """Read the value that comes next, in which `rest` of the path is left."""
        first = self._text.first()
        if first == b"[" and is_of_rows(rest):
            return (yield from self._rows("[" + rest))
        if first == b"{" and rest == EVERY:
            return (yield from self._rows("{" + rest))
        if is_of_rows(rest) and first == b"n":
            self._text.word()
            return True
        if rest == "":
            if not first:
                raise self._text.cut_short()
            raise SourceError(
                f"{self._place}: {no_array(self._path, _KINDS.get(first, 'a number'))} (byte {self._text.at})"
            )
        if first not in (b"{", b"["):
            yield from self._passed()
            return False
        self._text.take(1)
        self._within.append(first.decode() + rest)
        found = yield from self._members(rest, first == b"[", False)
        self._within.pop()
        return found

    def _rows(self, frame: str) -> _Batches:
        """Read a container of rows, from the bracket that opens it."""
        self._text.take(1)
        self._within.append(frame)
        self._place.within = list(self._within)
        self._text.settle()
        return (yield from self._rest_of_rows(frame, begins=True))

    def _rest_of_rows(self, frame: str, *, begins: bool) -> _Batches:
        closing = _CLOSES[frame[0]]
        yield from json_array.elements(
            self._text, self._place, closing, begins=begins, block=self._block, decoder=self._decoder
        )
        self._within.pop()
        yield self._marked()
        return True

    def _go_on(self, level: int) -> _Batches:
        """Go on within the container at a level, in which reading stopped."""
        frame = self._within[level]
        rest = frame[1:]
        if is_of_rows(rest):
            return (yield from self._rest_of_rows(frame, begins=False))
        if level + 1 < len(self._within):
            yield from self._go_on(level + 1)
        yield from self._members(rest, frame[0] == "[", True)
        self._within.pop()
        return True

    def _members(self, rest: str, array: bool, taken: bool) -> _Batches:
        """Read the members of an object, or the elements of an array, up to its end.

        Args:
            rest: what is left of the path.
            array: it is an array.
            taken: reading goes on behind one of them, on the path.
        """
        text = self._text
        closing = b"]" if array else b"}"
        names: list[str] = []
        number = 0
        behind = taken
        while True:
            if behind:
                if text.expect(b"," + closing, f"a comma or {closing.decode()}") == closing:
                    break
            elif text.first() == closing:
                text.take(1)
                break
            name = str(number) if array else text.name()
            number += 1
            if number <= MOST_NAMES:
                names.append(name)
            behind = True
            left = below(rest, name)
            # of an array one element is on the path, and its number is not known where reading went on behind it
            if left is None or (array and taken and not goes_on(rest)):
                yield from self._passed()
                continue
            if taken and not goes_on(rest):
                raise SourceError(
                    f"{self._place}: records = {self._path!r} is there twice: the second time at byte {text.at}; "
                    f"{self._place.record} rows of the first were read. RFC 8259, section 4, leaves open which of "
                    "them counts: fix the file"
                )
            self._trail.append(name)
            found = yield from self._value(left)
            self._trail.pop()
            taken = taken or found
        if not taken and len(self._trail) > self._missed[0]:
            self._missed = (len(self._trail), nothing_at(self._path, self._trail, names))
        return taken

    def _passed(self) -> Iterator[list[Any]]:
        for _ in self._text.pass_over():
            yield [self._place.mark()]
