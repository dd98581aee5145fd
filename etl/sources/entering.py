"""Going to the place in a text where reading goes on, and seeing that what stands before it is what was read."""

from __future__ import annotations

import codecs
import copy
from collections.abc import Iterator
from typing import Any

from etl.errors import SourceChanged
from etl.sources.decoding import Stream
from etl.sources.identity import Seen
from etl.sources.json_sequence import SEPARATOR
from etl.sources.json_text import BLANK
from etl.sources.place import Place
from etl.sources.refusals import Replaced
from sinks import checksum


def enter(stream: Stream, place: Place, separators: bytes) -> Iterator[list[Any]]:
    """Bring a text to `place`, and see that a record can begin there; yields that place while it is far away.

    Raises:
        Replaced: other bytes stand before it, or not as many. Where a seek leads there, that was seen before.
        SourceChanged: no record begins there.
    """
    if place.offset == 0:
        _see_what_was_taken(stream, place, 0)
        place.seen = Seen(of="start" if stream.entered else "text")
        while stream.peek(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8:
            place.advance(stream.read(len(codecs.BOM_UTF8)))
        return
    if place.offset is None:
        raise Replaced("it is a text, and was none")
    offset, seen = place.offset, place.seen
    if stream.entered and (seen is None or seen.of != "text"):
        stream.go_to(offset - 1)
        last = stream.read(1)
        if not last:
            raise Replaced(_shorter(offset))
        if seen is not None and seen.of == "file" and seen.upto == offset and not seen.apart:
            place.seen = copy.copy(seen)  # all of it was read, and it has grown
            place.seen.of = "start"
    else:
        passed = Seen(of="text")
        last = b""

        def take(data: bytes) -> None:
            nonlocal last
            passed.add(data)
            last = data[-1:]

        for _ in stream.pass_over(offset, take):
            yield [place.mark()]
        if passed.upto < offset:
            raise Replaced(_shorter(offset))
        if seen is not None and seen.of == "text" and passed.crc != seen.crc:
            raise Replaced("the bytes that were read of it are others now")
        place.seen = passed
    if place.seen is not None and place.seen.of != "file":
        _see_what_was_taken(stream, place, place.seen.crc)
    what = "line" if separators == b"\n" else "element"
    follows = stream.peek(2)
    # the last line may lack its end, and get it when the file grows
    ended = separators == b"\n" and (not follows or follows[:1] == b"\n" or follows == b"\r\n")
    if separators == SEPARATOR:  # which begins a text, and is not taken yet
        ended = follows.strip(BLANK)[:1] in (b"", SEPARATOR)
    if place.line_end is not None:
        ended = ended or b"\r" in (last, follows[:1])
    # what holds no record may have no end either: a header, a comment; but a byte order mark needs none
    began = place.line or place.record or (separators == b"\n" and last != codecs.BOM_UTF8[-1:])
    if last not in separators and not ended and began:
        raise SourceChanged(
            f"{place} has no {what} that begins at byte {offset}, where "
            "reading stopped: it was replaced, or its last line, which had no end, was written on after it had been "
            "taken (`settle` says when that is); put it back, or start the job over with another name and table"
        )


def _see_what_was_taken(stream: Stream, place: Place, crc: int) -> None:
    """See that what follows is still that of the records that were taken after the cursor, and are skipped.

    Args:
        stream: at `place`.
        place: tells what it should be.
        crc: of what stands before it.
    """
    if size := max(place.ahead - (place.offset or 0), 0):
        taken = stream.peek(size)
        if len(taken) < size or checksum.extend(crc, taken) != place.ahead_crc:
            raise Replaced("the bytes that were read of it are others now")
    place.ahead = place.ahead_crc = 0


def _shorter(offset: int) -> str:
    return f"it has become shorter than the {offset} bytes that were read of it"
