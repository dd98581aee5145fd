"""Goes through the members of an archive, one after the other, each from its beginning or from a cursor to its end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from etl.sources import decoding
from etl.sources.archives import Archive
from etl.sources.bounds import UNLIMITED, Bounds
from etl.sources.decoding import Stream
from etl.sources.hidden import shortened
from etl.sources.members import WITHIN, Choice, Shape, Shapes
from etl.sources.place import Place
from etl.sources.refusals import Damaged, Replaced
from sinks import checksum

# Remembered to say what members there are, where the one of the cursor is gone.
_NAMES = 100


class Walk:
    """Reads the members of an archive; `place` goes from one to the next.

    Args:
        archive: hands them out.
        place: in a member, or at the beginning of the archive.
        within: the member that the archive is; None: it is the file.
        leading: a crc32c of what stands before that member.
        chosen: globs, or names, of the members that are read; None: those that may be data.
        shape: tells what the head of a member shows.
        content: reads a member from `place` to its end.
        bounds: what of a member may be held.
    """

    def __init__(
        self,
        archive: Archive,
        place: Place,
        within: str | None,
        leading: int,
        chosen: Sequence[str] | None,
        shape: Callable[[Stream, Place, str], Shape | None],
        content: Callable[[Stream, Place, str, None, None], Iterator[list[Any]]],
        bounds: Bounds = UNLIMITED,
    ) -> None:
        called = place.file if within is None else f"{place.file} (member {within})"
        self._archive = archive
        self._place = place
        self._within = within
        self._leading = leading
        self._above = "" if within is None else within + WITHIN
        self._choice = Choice(chosen, called)
        self._shapes = Shapes(called, chosen=chosen is not None)
        self._shape = shape
        self._content = content
        self._bounds = bounds

    def read(self) -> Iterator[list[Any]]:
        """Yield lists of records with marks.

        Raises:
            Damaged: a member cannot be decoded.
            SourceError: the members are not one table.
            Replaced: the member of the cursor is gone, or others stand before it.
        """
        archive, place = self._archive, self._place
        began = place.member if place.member != self._within else None
        if archive.at_random and began is None:
            self._look_at_all()
        names: deque[str] = deque(maxlen=_NAMES)
        resuming = began is not None
        for member in archive.members():
            if member is None:
                # behind a member that was read to its end a place says nothing
                yield [place.mark()] if resuming or place.offset is not None else []
                continue
            if not self._choice.takes(member) or member.open is None:
                continue
            name = self._above + member.name
            leading = checksum.extend(self._leading, b"%d " % archive.leading)  # before it is opened
            is_it = began is not None and (began == name or began.startswith(name + WITHIN))
            if resuming and not is_it and archive.at_random:
                names.append(name)
                continue
            with (
                member.open() as file,
                decoding.decompressed(file, None, within=archive.kind, window=self._bounds.window) as stream,
            ):
                if not archive.at_random:
                    try:
                        self._shapes.add(name, self._shape(stream, place, name))
                    except Damaged:
                        place.member = name  # for the message: it is the end
                        raise
                    self._shapes.check(begun=True)
                if resuming and not is_it:
                    names.append(name)
                    continue
                stream.leading = leading
                if not is_it:
                    place.begin(name)
                    place.leading = leading
                elif resuming and began == name and place.leading not in (0, leading):
                    raise Replaced("what stands before this member is something else now")
                resuming = False
                yield from self._content(stream, place, name, None, None)
        if resuming:
            raise Replaced(f"the member is not there any more; the file's members are: {shortened([*names])}")
        if not (archive.at_random and began is None):
            self._choice.end()
        place.begin(self._within)
        place.offset = None

    def _look_at_all(self) -> None:
        """See that all members are one table, before the first record is taken."""
        place = self._place
        for member in self._archive.members():
            if member is not None and self._choice.takes(member) and member.open is not None:
                place.member = self._above + member.name  # for messages
                with (
                    member.open() as file,
                    decoding.decompressed(
                        file, None, within=self._archive.kind, window=self._bounds.window
                    ) as stream,
                ):
                    self._shapes.add(
                        self._above + member.name, self._shape(stream, place, self._above + member.name)
                    )
        place.member = self._above.removesuffix(WITHIN) or None
        self._choice.end()
        self._shapes.check(begun=False)
