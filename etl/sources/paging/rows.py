"""Which rows of a page are new. Rows are told apart by a key; without one, by their place alone."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from etl.errors import SourceChanged
from etl.records import Unreadable
from etl.sources.lines import not_an_object
from etl.sources.paging.answers import Page
from etl.sources.paging.paths import MISSING, lookup
from etl.sources.paging.place import DIGEST_BYTES, PagePlace, digest
from etl.sources.paging.since import Pass, Times
from etl.sources.place import unreadable

# How many rows before a place are remembered by their keys: those of the page before, but no fewer than the first
# and no more than the second, 11 kB in the checkpoint.
LEAST_REMEMBERED = 100
MOST_REMEMBERED = 1000

_CHANGED = (
    "rows were removed, or many were put in before it, while it was away: some may have been missed. Start over with "
    "--full-refresh; where that happens often, a larger overlap, another order or the cursor style may help"
)


@dataclass(frozen=True, slots=True)
class Sifted:
    """A row of a page that is wanted.

    Attributes:
        item: the row.
        taken: how many rows of the page are taken with it.
        keys: digests of the last rows before the place after it.
    """

    item: dict[str, Any] | Unreadable
    taken: int
    keys: bytes


class _Row(NamedTuple):
    item: dict[str, Any] | Unreadable
    digests: bytes  # of the key, and of the key with the time
    at: int | None
    written: Any  # the time as it stands in the row


class Sieve:
    """Lets the rows of pages through that were not taken before.

    Args:
        key: the paths of the fields that tell rows apart; none: they are told apart by their place.
        shifts: whether rows move from one page to another when there are new ones before them.
        times: reads when a row changed; None: that is not asked.
    """

    def __init__(self, key: Sequence[str], shifts: bool, times: Times | None) -> None:
        self._key = tuple(key)
        self._shifts = shifts
        self._times = times
        self._width = DIGEST_BYTES * (2 if times else 1)

    def shape_of(self, rows: Sequence[Any]) -> bytes:
        """Return a digest of the rows of a page, by their keys where all have one; empty: there are none."""
        if not rows:
            return b""
        keys = [[lookup(row, path) for path in self._key] for row in rows]
        whole = not self._key or any(value is MISSING for values in keys for value in values)
        return digest(rows if whole else keys)

    def remembers(self, rows: Sequence[Any], place: PagePlace) -> bool:
        """Say whether all of these rows are among the last ones before a place, so that they are not taken again."""
        known = {one[:DIGEST_BYTES] for one in self._parted(place.keys)}
        return all(self._read(row, 0, "").digests[:DIGEST_BYTES] in known for row in rows)

    def sift(self, page: Page, place: PagePlace, changes: Pass | None) -> Generator[Sifted, None, bytes]:
        """Yield what of a page is wanted; returns the digests to remember after it.

        Args:
            page: the page at `place`.
            place: before the page.
            changes: the pass over the rows since a time, if it is one; it is told when each row changed.

        Raises:
            SourceChanged: the rows are not where they were.
        """
        rows = [self._read(row, number, page.where) for number, row in enumerate(page.rows, 1)]
        if not self._key and len(rows) < place.taken:
            raise SourceChanged(
                f"{page.where}: it had {place.taken} rows and has {len(rows)} now: {_CHANGED}"
            )
        known = self._parted(place.keys)
        begin = max(place.taken - len(known), 0)
        self._in_order([row.digests for row in rows], known, begin, place, page)
        seen = set(known)
        window = bytearray(place.keys)
        most = MOST_REMEMBERED * self._width
        for number, row in enumerate(rows, 1):
            fresh = number > begin and row.digests not in seen
            if self._key and number > begin:
                seen.add(row.digests)
                window += row.digests
                del window[:-most]
            if changes is not None and row.at is not None:
                fresh = changes.wants(row.digests[DIGEST_BYTES:], row.at, row.written, fresh)
            if fresh:
                yield Sifted(row.item, number, bytes(window))
        if len(rows) <= place.taken:
            return place.keys
        return bytes(window[-max(len(rows), LEAST_REMEMBERED) * self._width :])

    def _in_order(
        self, rows: Sequence[bytes], parted: Sequence[bytes], begin: int, place: PagePlace, page: Page
    ) -> None:
        """See whether the page goes on where the rows that are known end, or before."""
        known = {one[:DIGEST_BYTES] for one in parted}
        ahead = [row[:DIGEST_BYTES] in known for row in rows[begin:]]
        if not known or ahead[:1] == [True]:
            return
        if not self._shifts and not begin:
            return
        if self._shifts and not place.taken and not any(ahead):
            return
        if self._shifts and not begin and any(ahead) and len(known) >= place.rows:
            return  # all rows so far are remembered: what is before those that are known is new
        raise SourceChanged(f"{page.where}: it does not hold the rows that it held: {_CHANGED}")

    def _parted(self, digests: bytes) -> list[bytes]:
        return [digests[n : n + self._width] for n in range(0, len(digests), self._width)]

    def _read(self, row: Any, number: int, where: str) -> _Row:
        where = f"{where}, row {number}"
        if not isinstance(row, dict):
            names = (
                f" of {len(row)} values; `columns` names them, as many as there are"
                if isinstance(row, list)
                else ""
            )
            return self._unreadable(row, where, not_an_object(row) + names)
        values = [lookup(row, path) for path in self._key]
        for path, value in zip(self._key, values, strict=True):
            if value is MISSING or value is None:
                return self._unreadable(row, where, f"it has no {path!r}, which is of the key")
        digests = digest(values) if values else b""
        if self._times is None:
            return _Row(row, digests, None, None)
        written = lookup(row, self._times.field)
        try:
            at = self._times.read(None if written is MISSING else written)
        except ValueError as error:
            return self._unreadable(row, where, f"its {self._times.field!r} is {error}")
        return _Row(row, digests and digests + digest([values, written]), at, written)

    def _unreadable(self, row: Any, where: str, why: str) -> _Row:
        # known by all of it, so that it is a dead letter once
        digests = digest([row]) * (self._width // DIGEST_BYTES) if self._key else b""
        return _Row(unreadable(msgspec.json.encode(row), where, why), digests, None, None)
