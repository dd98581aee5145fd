"""Runs that ask only for rows that changed since a time: how it is written, and what a pass over them remembers."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import msgspec

from etl.errors import SourceError
from etl.sources.paging.place import DIGEST_BYTES, Since
from etl.sources.web_session import moment

# How many rows of the look-back are remembered: 64 KiB, and a third more in the checkpoint.
MOST_REMEMBERED = 4096

_TIME_BYTES = 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Times(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an API says when a row changed, and is asked for the rows since then; `Pages` documents the fields."""

    field: str
    param: str
    template: str = "{}"
    start: str | int | float | None = None
    look_back: float = 0.0
    format: Literal["iso", "date", "seconds", "milliseconds"] = "iso"
    repeat: bool = False

    @classmethod
    def of(cls, table: Mapping[str, Any] | None) -> Times | None:
        """Make it of a table of a job file; None stays None.

        Raises:
            ValueError: the table is wrong.
        """
        if table is None:
            return None
        written = {
            name: value.isoformat() if isinstance(value, date) else value
            for name, value in dict(table).items()
        }
        try:
            times = msgspec.convert(written, cls)
        except msgspec.ValidationError as error:
            allowed = ", ".join(cls.__struct_fields__)
            raise ValueError(f"updated_at: {error}; it takes: {allowed}") from error
        if not times.field or not times.param:
            raise ValueError("updated_at: field and param must be named")
        if "{}" not in times.template:
            raise ValueError(f"updated_at: template = {times.template!r} has no {{}}, where the time is put")
        if not 0 <= times.look_back < 10**10:
            raise ValueError(f"updated_at: look_back = {times.look_back} is no number of seconds from 0 on")
        if times.start is not None:
            try:
                times.read(times.start)
            except ValueError as error:
                raise ValueError(f"updated_at: start is {error}") from error
        return times

    def read(self, value: Any) -> int:
        """Return a time as the API writes it in microseconds since 1970; one without a zone is taken for UTC.

        Raises:
            ValueError: it is none.
        """
        if self.format in ("iso", "date"):
            if isinstance(value, str):
                try:
                    at = datetime.fromisoformat(value)
                    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND
                except (ValueError, OverflowError):
                    pass
            raise ValueError(f"no time as ISO 8601 writes it but {value!r:.80}")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                return round(value * (10**6 if self.format == "seconds" else 1000))
            except (ValueError, OverflowError):
                pass
        raise ValueError(f"no number of {self.format} but {value!r:.80}")

    def write(self, at: int, like: str | int | float) -> str:
        """Write a time for the API, no later than it is.

        Args:
            at: microseconds since 1970.
            like: a time as the API writes it.
        """
        if self.format == "seconds":
            return str(at // 10**6)
        if self.format == "milliseconds":
            return str(at // 1000)
        when = _EPOCH + at * _MICROSECOND
        text = str(like)
        if self.format == "date" or len(text) == len("2024-01-31"):
            return when.date().isoformat()
        zone = datetime.fromisoformat(text).tzinfo
        when = when.astimezone(zone) if zone else when.replace(tzinfo=None)
        digits = len(found[1]) if (found := re.search(r"[.,](\d+)", text)) else 0
        spec = "seconds" if not digits else "milliseconds" if digits <= 3 else "microseconds"
        written = when.isoformat("T" if "T" in text else " ", spec)
        return written.replace("+00:00", "Z") if text.endswith("Z") else written

    def params(self, since: Since | None) -> dict[str, str]:
        """Return the parameter that asks for the rows since the bound."""
        if since is None or since.asked is None:
            return {}
        return {self.param: self.template.replace("{}", since.asked)}

    def beginning(self) -> Since:
        """Return what the first pass begins with."""
        if self.start is None:
            return Since()
        return Since(bound=self.read(self.start), asked=str(self.start))


class Pass:
    """The pass that is under way over the rows since a bound, which stays the same until its end.

    Args:
        times: reads and writes times.
        since: what the pass had seen at the beginning of this page.
        remembers: whether rows are remembered, so that the next pass does not take them again.
    """

    def __init__(self, times: Times, since: Since, remembers: bool) -> None:
        self._times = times
        self._since = since
        self._remembers = remembers
        self._greatest = since.greatest
        self._started = since.started
        self._before = _unpacked(since.before)
        self._taken = _unpacked(since.taken)

    def begin(self, date_header: str) -> Since:
        """Note when the pass began, once, by the server's clock where it tells it."""
        if self._started is None:
            now = moment(date_header)
            self._started = int((now.timestamp() if now else time.time()) * 10**6)
        return msgspec.structs.replace(self._since, started=self._started)

    def wants(self, identity: bytes, at: int, written: Any, fresh: bool) -> bool:
        """Say whether a row is new, and remember it.

        Args:
            identity: a digest of its key and time.
            at: when it changed.
            written: the same as the API wrote it.
            fresh: whether it is new so far.
        """
        if self._since.bound is not None and at < self._since.bound:
            return False
        if self._greatest is None or at > self._greatest[1]:
            self._greatest = (written, at)
        if not self._remembers:
            return fresh
        fresh = fresh and identity not in self._before and identity not in self._taken
        self._taken[identity] = at
        return fresh

    def page_ended(self) -> Since:
        """Return what the pass has seen."""
        floor = self._since.floor
        least = self._least()
        taken = {one: at for one, at in self._taken.items() if at >= least}
        if len(taken) > MOST_REMEMBERED:
            # what is forgotten is no loss if rows come that are so much later that the look-back begins after it
            latest = sorted(taken.items(), key=lambda pair: pair[1])
            floor = max(floor or 0, latest[-MOST_REMEMBERED - 1][1] + 1)
            taken = dict(latest[-MOST_REMEMBERED:])
        return msgspec.structs.replace(
            self._since,
            greatest=self._greatest,
            started=self._started,
            floor=floor,
            taken=_packed(taken),
        )

    def ended(self) -> Since:
        """Return what the next pass begins with.

        Raises:
            SourceError: too many rows lie within the look-back.
        """
        since = self.page_ended()
        if self._greatest is None:
            return msgspec.structs.replace(since, started=None)
        written, greatest = self._greatest
        if not self._remembers and not self._times.repeat:
            asked = str(written) if self._times.format != "date" else self._times.write(greatest, written)
            return Since(bound=greatest + 1, asked=asked, greatest=self._greatest)
        bound = self._least()
        before: dict[bytes, int] = {}
        if self._remembers:
            bound = max(bound, since.bound) if since.bound is not None else bound
            both = _unpacked(since.before) | _unpacked(since.taken)
            before = {one: at for one, at in both.items() if at >= bound}
            if (since.floor is not None and since.floor > bound) or len(before) > MOST_REMEMBERED:
                raise SourceError(
                    f"more than {MOST_REMEMBERED} rows lie within the look-back of {self._times.look_back:g} s before "
                    f"{written}, too many to remember: shorten updated_at.look_back; or set updated_at.repeat = true, "
                    'so that they come again, into a table with disposition = "merge"'
                )
        exact = bound == greatest and self._times.format != "date"
        asked = str(written) if exact else self._times.write(bound, written)
        return Since(bound=bound, asked=asked, greatest=self._greatest, before=_packed(before))

    def _least(self) -> int:
        """Return since when rows may come again: no later than this pass began, as it may have gone past them."""
        if self._greatest is None:
            return 0
        at = self._greatest[1] if self._started is None else min(self._greatest[1], self._started)
        return at - round(self._times.look_back * 10**6)


def _packed(rows: Mapping[bytes, int]) -> bytes:
    return b"".join(one + at.to_bytes(_TIME_BYTES, "big", signed=True) for one, at in rows.items())


def _unpacked(data: bytes) -> dict[bytes, int]:
    size = DIGEST_BYTES + _TIME_BYTES
    return {
        data[n : n + DIGEST_BYTES]: int.from_bytes(data[n + DIGEST_BYTES : n + size], "big", signed=True)
        for n in range(0, len(data), size)
    }
