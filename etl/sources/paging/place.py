"""Where a pull of pages is: the page, and what of it was taken. The JSON form of it is the cursor."""

from __future__ import annotations

from base64 import b64encode
from hashlib import blake2b
from typing import Any

import msgspec

from etl.errors import SourceError
from etl.records import Mark

# A digest of a row's key. Among the 1,000 rows that are compared at a time, one of a billion rows is taken for
# another with a probability of 1 in 20 million.
DIGEST_BYTES = 8

# How many pages are compared with each new one: 2 KiB of digests.
TRAIL = 256


class Since(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a pass over the rows since a time has asked for, and what it has seen. Times are in microseconds.

    Attributes:
        bound: rows that changed before this were taken by an earlier pass; None: all are wanted.
        asked: the bound as the API is told it; None: it is not told.
        greatest: the greatest time of a row, as the API wrote it, and in microseconds.
        started: when this pass began, by the server's clock.
        floor: of the rows taken in this pass, those since this time are remembered.
        before: the rows since the bound that an earlier pass took: for each a digest and its time.
        taken: the same of this pass.
    """

    bound: int | None = None
    asked: str | None = None
    greatest: tuple[str | int | float, int] | None = None
    started: int | None = None
    floor: int | None = None
    before: bytes = b""
    taken: bytes = b""


class PagePlace(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A place between two rows of a page.

    Attributes:
        at: which page: an offset, a number, the API's cursor (which may be any JSON where it is put into a body), a
            URL without its secrets; None: the first.
        taken: how many rows at its beginning were taken.
        rows: how many rows the API gave before that page.
        previous: how many of them were on the page before it.
        longest: how many rows the longest page had, where pages have numbers or offsets.
        names: digests of the first names of the columns, where each page has a line of them.
        keys: digests of the last rows before this place, in their order.
        page: a digest of the rows of the page before, or of their keys.
        same: how many pages before that one were the same, or had no rows.
        steps: how many links or cursors were followed.
        mark: a digest of one of them; coming back to it is a loop (Brent's algorithm, BIT 20 (1980), 176-184).
        trail: digests of what the last pages gave: their rows, and what asks for the page after them where that is
            given. A page that gives the same again is part of a loop.
        stays: whether the API gives the same cursor with each page, so that the server alone knows which one is next.
        total: how many rows the API said that there are, where it is told.
        since: where the rows are those that changed since a time.
    """

    at: int | str | list[Any] | dict[str, Any] | None = None
    taken: int = 0
    rows: int = 0
    previous: int = 0
    longest: int = 0
    names: bytes = b""
    keys: bytes = b""
    page: bytes = b""
    same: int = 0
    steps: int = 0
    mark: bytes = b""
    trail: bytes = b""
    stays: bool = False
    total: int | None = None
    since: Since | None = None

    @classmethod
    def of(cls, cursor: Any) -> PagePlace:
        """Read a cursor; None is the beginning.

        Raises:
            SourceError: it is none of this source.
        """
        try:
            return cls() if cursor is None else msgspec.convert(cursor, cls)
        except msgspec.ValidationError as error:
            raise SourceError(
                f"{str(cursor)[:160]} is no cursor of etl.sources.Pages ({error}); it was made by another source "
                "or another version: start the job over with another name and table, or give another "
                "one to --from"
            ) from error

    def as_cursor(self) -> dict[str, Any]:
        """Return the JSON form of it."""
        return msgspec.to_builtins(self)  # type: ignore[no-any-return]  # of a struct it makes a dict

    def as_mark(self) -> Mark:
        """Make a mark of this place."""
        return Mark(self.as_cursor())


def mark_within(cursor: dict[str, Any], taken: int, keys: bytes) -> Mark:
    """Make a mark within a page.

    Args:
        cursor: that of the page's beginning: it is large, and made once a page.
        taken: how many rows of the page are taken.
        keys: digests of the last rows before it.
    """
    return Mark({**cursor, "taken": taken, "keys": b64encode(keys).decode()})


def holds(trail: bytes, step: bytes) -> bool:
    """Say whether a trail of digests has one."""
    return any(trail[n : n + DIGEST_BYTES] == step for n in range(0, len(trail), DIGEST_BYTES))


def with_step(trail: bytes, step: bytes) -> bytes:
    """Return a trail with one digest more, and without the oldest one where it grows too long."""
    return (trail + step)[-TRAIL * DIGEST_BYTES :]


def digest(value: Any) -> bytes:
    """Return 8 bytes that stand for a JSON value."""
    return blake2b(msgspec.json.encode(value), digest_size=DIGEST_BYTES).digest()
