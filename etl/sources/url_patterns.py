"""Which URLs a pattern stands for: `{01..31}` counts, `{date}` and `{hour}` go with the time.

A pattern's URLs come in order, and one after the other: a list of them is never held.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple, Protocol

from etl.sources import urls

Moment = str | date | datetime

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)(?:\.\.(\d+))?")
# A format that repeats does so within a year and some days.
_REPEATS_WITHIN = 800


class Named(NamedTuple):
    """A URL that a pattern stands for.

    Attributes:
        entry: which of the source's URLs or patterns, from 0.
        url: the URL.
        over: when its hour, day or month is over; long ago, where it does not go with the time.
    """

    entry: int
    url: str
    over: datetime


class _Piece(Protocol):
    def texts(self, at: datetime) -> Iterator[str]: ...


class _Literal(NamedTuple):
    text: str

    def texts(self, _at: datetime) -> Iterator[str]:
        yield self.text


class _Range(NamedTuple):
    """Numbers from the first to the last, padded as bash does: when one of both begins with a zero."""

    first: int
    last: int
    step: int
    width: int

    @classmethod
    def of(cls, first: str, last: str, step: str | None) -> _Range:
        padded = any(len(number) > 1 and number.startswith("0") for number in (first, last))
        return cls(int(first), int(last), int(step or 1), max(len(first), len(last)) if padded else 0)

    def numbers(self) -> range:
        if self.first <= self.last:
            return range(self.first, self.last + 1, self.step)
        return range(self.first, self.last - 1, -self.step)

    def texts(self, _at: datetime) -> Iterator[str]:
        for number in self.numbers():
            yield f"{number:0{self.width}d}"

    def of_one_width(self) -> bool:
        return len({len(str(number)) for number in (self.first, self.last)}) == 1 or self.width > 0


class _Date(NamedTuple):
    format: str

    def text(self, at: datetime) -> str:
        return at.strftime(self.format)

    def texts(self, at: datetime) -> Iterator[str]:
        yield self.text(at)


class _Hour(NamedTuple):
    format: str

    def text(self, at: datetime) -> str:
        return format(at.hour, self.format)

    def of_one_width(self) -> bool:
        return len(format(1, self.format)) == len(format(11, self.format))

    def texts(self, at: datetime) -> Iterator[str]:
        yield self.text(at)


class _Pattern:
    """One URL, or many."""

    def __init__(self, entry: int, text: str) -> None:
        self.entry = entry
        self._pieces = list(_parsed(text))
        self._of_time = [piece for piece in self._pieces if isinstance(piece, (_Date, _Hour))]
        self._told_apart(text)
        urls.check(next(self.urls(datetime(2001, 1, 1, tzinfo=UTC))), "urls")

    @property
    def timed(self) -> bool:
        """Whether it goes with the time."""
        return bool(self._of_time)

    @property
    def count(self) -> int:
        """How many URLs it stands for, at one time."""
        count = 1
        for piece in self._pieces:
            if isinstance(piece, _Range):
                count *= len(piece.numbers())
        return count

    def when(self, at: datetime) -> tuple[str, ...]:
        """Return the texts that stand for a time."""
        return tuple(piece.text(at) for piece in self._of_time)

    def urls(self, at: datetime, begin: int = 0) -> Iterator[str]:
        """Yield the URLs of one time; the leftmost range is the slowest."""
        if begin == len(self._pieces):
            yield ""
            return
        for text in self._pieces[begin].texts(at):
            for rest in self.urls(at, begin + 1):
                yield text + rest

    def check_time(self, text: str) -> None:
        """See that no two times give the same URL: a cursor could not tell them apart.

        Raises:
            ValueError: two do.
        """
        begin = datetime(2001, 1, 1, tzinfo=UTC)
        hours = [begin + number * _HOUR for number in range(48)]
        days = [begin + number * _DAY for number in range(_REPEATS_WITHIN)]
        for moments in (hours, days):
            seen: dict[tuple[str, ...], datetime] = {}
            last: tuple[str, ...] | None = None
            for at in moments:
                when = self.when(at)
                if when != last and when in seen:
                    raise ValueError(
                        f"urls: {urls.without_credentials(text)!r} gives the same URL for {seen[when]:%Y-%m-%d %H} h "
                        f"as for {at:%Y-%m-%d %H} h, and others in between: let it hold the whole date, "
                        "{date} or {date:%Y-%m}, beside the hour"
                    )
                seen[when], last = at, when

    def _told_apart(self, text: str) -> None:
        """See that no two combinations of numbers give the same URL."""
        open_ended = False
        some = datetime(2001, 1, 1, tzinfo=UTC)
        for piece in self._pieces:
            if isinstance(piece, (_Range, _Hour)):
                if open_ended:
                    raise ValueError(
                        f"urls: {urls.without_credentials(text)!r} has two numbers with nothing but digits in "
                        "between, so that different ones may give the same URL: pad the first, as in {01..31} "
                        "or {hour:02}"
                    )
                open_ended = not piece.of_one_width()
            elif not next(piece.texts(some)).isdigit():
                open_ended = False


def open_ended(text: str) -> str:
    """Return a pattern without the end of its slowest range, which may grow: what it adds comes last."""
    placeholders = [(match, _RANGE.fullmatch(match[1])) for match in _PLACEHOLDER.finditer(text)]
    if not placeholders or not all(numbers for _, numbers in placeholders):
        return text  # one URL; or the time goes slowest of all
    match, numbers = placeholders[0]
    assert numbers is not None
    piece = _Range.of(*numbers.groups())
    if piece.first > piece.last:
        return text
    return f"{text[: match.start()]}{{{piece.first:0{piece.width}d}..*{piece.step}}}{text[match.end() :]}"


class Patterns:
    """The URLs of a source.

    Args:
        patterns: URLs and patterns.
        start: the first moment of `{date}` and `{hour}`, in UTC: a date, or a date and a time, or its text.
        end: the last one; a date means the whole of that day. None: now.

    Raises:
        ValueError: an argument is wrong.
    """

    def __init__(self, patterns: Sequence[str], start: Moment | None, end: Moment | None) -> None:
        self._patterns = [_Pattern(entry, text) for entry, text in enumerate(patterns)]
        timed = [pattern.timed for pattern in self._patterns]
        if timed != sorted(timed):
            raise ValueError(
                "urls: those with {date} or {hour} go last in the list, as there are ever more of them"
            )
        if any(timed) and start is None:
            raise ValueError("start: missing; {date} and {hour} need the first day: start = 2024-01-01")
        if not any(timed) and (start is not None or end is not None):
            raise ValueError("start and end are for {date} and {hour} in a URL, and none has one")
        for pattern, text in zip(self._patterns, patterns, strict=True):
            if pattern.timed:
                pattern.check_time(text)
        self._start = None if start is None else _moment("start", start, at_end=False)
        self._end = None if end is None else _moment("end", end, at_end=True)
        if self._start and self._end and self._end < self._start:
            raise ValueError(f"end: {end} lies before start: {start}")
        self.timed = any(timed)

    def expand(self, now: datetime) -> Iterator[Named]:
        """Yield the URLs of what is over by now: no hour, day or month that is still going on.

        The time is slowest, whatever stands on its left: what is new comes last.
        """
        for pattern, at, over in self._at_times(now):
            for url in pattern.urls(at):
                yield Named(pattern.entry, url, over)

    def count(self, now: datetime) -> int:
        """Return how many URLs that is."""
        return sum(pattern.count for pattern, *_ in self._at_times(now))

    def _at_times(self, now: datetime) -> Iterator[tuple[_Pattern, datetime, datetime]]:
        """Yield each pattern with each time that is over by now, and when it was."""
        timed = [pattern for pattern in self._patterns if pattern.timed]
        for pattern in self._patterns:
            if not pattern.timed:
                yield pattern, now, _LONG_AGO
        if self._start is None:
            return
        # hour by hour, as a pattern may name the hour; a day is one URL when all of its hours give the same
        at = self._start.replace(minute=0, second=0, microsecond=0)
        began = [(pattern.when(at), at) for pattern in timed]
        while at + _HOUR <= now:
            at += _HOUR
            for number, pattern in enumerate(timed):
                when, since = began[number]
                if (after := pattern.when(at)) != when:
                    if self._end is None or since <= self._end:
                        yield pattern, since, at
                    began[number] = (after, at)
            if self._end is not None and all(since > self._end for _, since in began):
                return


def _parsed(text: str) -> Iterator[_Piece]:
    if not isinstance(text, str):
        raise ValueError(f"urls: {text!r} is no URL")  # noqa: TRY004 - as every wrong argument
    shown = urls.without_credentials(text)
    position = 0
    for match in _PLACEHOLDER.finditer(text):
        yield from _literal(text[position : match.start()], shown)
        yield _placeholder(match[1], shown)
        position = match.end()
    yield from _literal(text[position:], shown)


def _literal(text: str, shown: str) -> Iterator[_Literal]:
    if "{" in text or "}" in text:
        raise ValueError(
            f"urls: {shown!r} has a brace without its other one; write %7B and %7D for braces that are meant"
        )
    if text:
        yield _Literal(text)


def _placeholder(body: str, shown: str) -> _Piece:
    if match := _RANGE.fullmatch(body):
        if match[3] is not None and int(match[3]) == 0:
            raise ValueError(f"urls: {{{body}}} in {shown!r} counts in steps of 0")
        return _Range.of(match[1], match[2], match[3])
    name, _, wanted = body.partition(":")
    one, other = datetime(2001, 1, 1, 1, tzinfo=UTC), datetime(2022, 12, 31, 23, tzinfo=UTC)
    if name == "date":
        piece = _Date(wanted or "%Y-%m-%d")
        if piece.text(one) == piece.text(other):
            raise ValueError(f"urls: {{{body}}} in {shown!r} is no date format, as %Y-%m-%d is")
        return piece
    if name == "hour":
        try:
            f"{one.hour:{wanted}}"
        except ValueError as error:
            raise ValueError(
                f"urls: {{{body}}} in {shown!r}: {error}; say {{hour}} or {{hour:02}}"
            ) from error
        return _Hour(wanted)
    raise ValueError(
        f"urls: {{{body}}} in {shown!r} is none of {{01..31}}, {{date}}, {{date:%Y-%m}}, {{hour}}, {{hour:02}}"
    )


def _moment(name: str, value: Moment, *, at_end: bool) -> datetime:
    read: object = value
    if isinstance(value, str):
        try:
            read = date.fromisoformat(value) if len(value) <= 10 else datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError(f"{name}: {value!r} is no date, as 2024-01-31 is, or 2024-01-31T15") from error
    if isinstance(read, datetime):
        if read.tzinfo is None:
            return read.replace(tzinfo=UTC)
        return read.astimezone(UTC)
    if not isinstance(read, date):
        raise ValueError(f"{name}: {value!r} is no date, as 2024-01-31 is")  # noqa: TRY004 - as every wrong argument
    return datetime.combine(read, time.max if at_end else time.min, UTC)
