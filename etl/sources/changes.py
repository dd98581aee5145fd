"""Whether a file is what it was when a cursor was taken, or has grown, or is another one."""

from __future__ import annotations

from collections.abc import Generator
from typing import IO, Any, Literal, NamedTuple

from etl.sources.compressions import compression_of
from etl.sources.decoding import first_bytes
from etl.sources.identity import Comparison
from etl.sources.place import Place, Version
from etl.sources.storage import same

OnChanged = Literal["fail", "restart"]
NOT_READ_ON = "it is longer, and only plain NDJSON and CSV are read on"


class Verdict(NamedTuple):
    """What became of a file.

    Attributes:
        state: it is the same, it is longer, or it is another one.
        why: what shows that it is another one.
    """

    state: Literal["same", "grown", "changed"]
    why: str = ""


def judge(file: IO[bytes], place: Place, now: Version | None) -> Generator[None, None, Verdict]:
    """Say what became of the file that `place` is in; steps now and then, so that a caller who waits may leave.

    Where its keeper does not vouch for it with a tag, the bytes decide that were read of it: their first and last 64
    KiB at least; all of them up to 8 MiB, or where the size is the same and the time is not. So it may be put
    elsewhere, or be written again with the same bytes. Where a text was not read to its end, they are those before
    the cursor, and what comes after may be corrected. What is decompressed or decoded is read again up to the cursor,
    and compared on the way (`entering`).

    Not found: where the time is the same, or the file grew, other bytes in the middle of more than 8 MiB; in a file
    that is not read front to back, other bytes that neither its beginning, its end nor its size shows.

    Args:
        file: the file; it is left at its beginning.
        place: where it was read up to, and what it was.
        now: what it is; None: it is a pipe or a device.
    """
    was, seen = place.version, place.seen
    if was is None or now is None or (was.tag and (was.tag, was.length) == (now.tag, now.length)):
        return Verdict("same")
    if seen is not None and seen.of == "text":
        return Verdict("same")  # so far
    partly = seen is not None and seen.of == "start"
    before, after = (
        max(0 if partly else was.length or 0, seen.upto if seen is not None else 0),
        now.length or 0,
    )
    if after < before:
        return Verdict(
            "changed", f"it is shorter than the {before} bytes that {'were read' if partly else 'it had'}"
        )
    grown = after > (was.length or 0)
    if seen is None:
        # the cursor is one of a former version, which kept no checksums
        if same(was, now) or (grown and (now.tag is None or place.done)):
            return Verdict("grown" if grown else "same")
        return Verdict("changed", "its tag, its time or its size is another")
    same_time = was.modified is not None and was.modified == now.modified
    comparison = Comparison(file, seen, whole=not grown and not same_time)
    yield from comparison
    file.seek(0)
    if not comparison.same:
        return Verdict("changed", "the bytes that were read of it are others now")
    return Verdict("grown" if grown and not partly else "same")


def stepping(judging: Generator[None, None, Verdict], place: Place) -> Generator[list[Any], None, Verdict]:
    """Yield the mark of `place` at each step of a judgement; return that."""
    while True:
        try:
            next(judging)
        except StopIteration as ended:
            verdict: Verdict = ended.value
            return verdict
        yield [place.mark()]


def may_grow(file: IO[bytes], place: Place, compression: str | None) -> bool:
    """Say whether a file is a plain text, which is read on when it has grown."""
    if place.offset is None or place.member is not None:
        return False
    return (compression or compression_of(first_bytes(file))) == "none"


def restarting(place: Place) -> str:
    """Say what may be done about a file that is another one."""
    taken = "" if not place.record else f" (the {place.record} that were taken of it stay)"
    return (
        'put it back; or set on_changed = "restart", which reads it again from its beginning, as is right for a job '
        f"that merges by a key{taken}; or start the job over with another name and table"
    )
