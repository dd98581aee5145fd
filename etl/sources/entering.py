"""Going to the place in a text where reading goes on."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Any

from etl.errors import SourceChanged
from etl.sources.decoding import Stream
from etl.sources.json_sequence import SEPARATOR
from etl.sources.place import Place


def enter(stream: Stream, place: Place, separators: bytes) -> Iterator[list[Any]]:
    """Bring a text to `place`, and see that a record can begin there; yields that place while it is far away."""
    if place.offset == 0:
        while stream.peek(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8:
            stream.read(len(codecs.BOM_UTF8))
            place.offset = (place.offset or 0) + len(codecs.BOM_UTF8)
        return
    offset = place.offset or 0
    for _ in stream.go_to(max(offset - 1, 0)):
        yield [place.mark()]
    last = stream.read(1) if offset else b""
    if not last:
        raise SourceChanged(
            f"{place} has become shorter than the {offset} bytes that were read of it: it was replaced or cut; "
            "put it back, or start the job anew with another name and table"
        )
    what = "line" if separators == b"\n" else "element"
    follows = stream.peek(2)
    # the last line may lack its end, and get it when the file grows
    ended = separators == b"\n" and (not follows or follows[:1] == b"\n" or follows == b"\r\n")
    if separators == SEPARATOR:  # which begins a text, and is not taken yet
        ended = not follows or follows[:1] == SEPARATOR
    if place.line_end is not None:
        ended = ended or b"\r" in (last, follows[:1])
    if last not in separators and not ended and (place.line or place.record):
        raise SourceChanged(
            f"{place} has no {what} that begins at byte {offset}, where "
            "reading stopped: it was replaced, or its last line was written on after it had been read; put it "
            "back, or start the job anew with another name and table"
        )
