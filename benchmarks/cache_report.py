"""What the runs of the page-cache benchmark say: against its targets, as a table, as Markdown, as a picture."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cache_runs import Case, Run
from benchmarks.places import Place

MIB = 1 << 20
PLAIN, OURS = "plain", "auto"
# The targets that this was built to; the sizes in bytes.
CACHE_MOST = 24 * MIB
READ_MOST = 16 * MIB
RATIO_LEAST = 1.0
GROWTH_MOST = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The runs of one case together.

    Attributes:
        case: what was done.
        place: where.
        runs: all of them.
    """

    case: Case
    place: Place
    runs: tuple[Run, ...]

    @property
    def speed(self) -> float:
        """Bytes a second, the median."""
        return statistics.median(run.speed for run in self.runs)

    @property
    def waited(self) -> float | None:
        """Seconds that the writer waited for the disk, the median."""
        times = [run.waited for run in self.runs if run.waited is not None]
        return statistics.median(times) if times else None

    @property
    def chosen(self) -> str:
        """The method that was used, in a word."""
        found = {run.chosen for run in self.runs if run.chosen is not None}
        return " / ".join(sorted(found)) or self.case.method

    def most(self, name: str) -> int | None:
        """The largest of an attribute of the runs, in bytes or as a count; None: it was not measured."""
        found = [getattr(run, name) for run in self.runs if getattr(run, name) is not None]
        return max(found, default=None)

    @property
    def of_file(self) -> int | None:
        """The most page cache of all runs, less what the file system itself has in it, in bytes."""
        return max(
            (r.cache - r.left for r in self.runs if r.cache is not None and r.left is not None), default=None
        )

    @property
    def beyond(self) -> int | None:
        """The most bytes that the kernel charged for the file beyond Python and its buffer, of all runs."""
        found = [
            run.charged - run.before
            for run in self.runs
            if run.charged is not None and run.before is not None
        ]
        return max(found, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One promise at one place, and whether it was kept.

    Attributes:
        what: is measured, in words.
        goal: in words.
        place: the title of the place.
        plain: what the plain writer or reader did; "": nothing to compare with.
        ours: what ours did.
        reached: whether that is enough.
    """

    what: str
    goal: str
    place: str
    plain: str
    ours: str
    reached: bool

    @property
    def verdict(self) -> str:
        """In a word."""
        return "reached" if self.reached else "MISSED"


def rows(runs: Sequence[Run], places: Sequence[Place]) -> list[Row]:
    """Put the runs of each case together, in the order in which they came first."""
    where = {place.name: place for place in places}
    cases: dict[Case, list[Run]] = {}
    for run in runs:
        cases.setdefault(run.case, []).append(run)
    return [Row(case=case, place=where[case.place], runs=tuple(found)) for case, found in cases.items()]


def targets(table: Sequence[Row]) -> list[Target]:
    """Hold what was measured against what was promised; the worst buffer and the worst run count."""
    found = []
    for place in dict.fromkeys(row.place for row in table):
        here = [row for row in table if row.place == place]
        found += [*_memory(here), *_speed(here), *_growth(here)]
    order = list(dict.fromkeys(target.what for target in found))
    return sorted(found, key=lambda target: order.index(target.what))


def _pairs(here: Sequence[Row], what: str, *, limited: bool) -> list[tuple[Row, Row]]:
    """Return plain and ours, buffer by buffer."""
    found = {row.case.method + str(row.case.buffer): row for row in here if _is(row, what, limited=limited)}
    buffers = dict.fromkeys(row.case.buffer for row in found.values())
    both = [(found.get(f"{PLAIN}{buffer}"), found.get(f"{OURS}{buffer}")) for buffer in buffers]
    return [(plain, ours) for plain, ours in both if plain and ours]


def _is(row: Row, what: str, *, limited: bool) -> bool:
    return row.case.what == what and (row.case.limit is not None) == limited


def _worst(rows: Sequence[Row], name: str) -> int | None:
    return max((most for row in rows if (most := row.most(name)) is not None), default=None)


def _memory(here: Sequence[Row]) -> Iterator[Target]:
    for what, limited, name, title, most in (
        ("write", False, "cache", "peak page cache of a write, no limit", CACHE_MOST),
        ("write", True, "failed_charges", "failed charges of a write, with the limit", 0),
        ("read", False, "cache", "peak page cache of reading a part back", READ_MOST),
    ):
        pairs = _pairs(here, what, limited=limited)
        plain, ours = (_worst([pair[side] for pair in pairs], name) for side in (0, 1))
        if plain is None or ours is None:
            continue
        sizes = name == "cache"
        yield Target(
            what=title,
            goal=f"{most / MIB:.0f} MiB or less" if sizes else f"{most}",
            place=here[0].place.title,
            plain=mebibytes(plain) if sizes else f"{plain:,}",
            ours=mebibytes(ours) if sizes else f"{ours:,}",
            reached=ours <= most,
        )


def _speed(here: Sequence[Row]) -> Iterator[Target]:
    for limited in (False, True):
        pairs = _pairs(here, "write", limited=limited)
        if not pairs:
            continue
        ratio, plain, ours = min(
            ((ours.speed / plain.speed, plain, ours) for plain, ours in pairs), key=lambda found: found[0]
        )
        yield Target(
            what=f"throughput with the final fsync, {'with the' if limited else 'no'} limit",
            goal=f"{RATIO_LEAST} times plain or more",
            place=here[0].place.title,
            plain=f"{plain.speed / 1e6:,.0f} MB/s",
            ours=f"{ratio:.2f} times ({ours.speed / 1e6:,.0f} MB/s, {size(ours.case.buffer)} at a time)",
            reached=ratio >= RATIO_LEAST,
        )


def _growth(here: Sequence[Row]) -> Iterator[Target]:
    grown = sorted((row for row in here if row.case.what == "growth"), key=lambda row: row.case.bytes)
    if len(grown) < 2:
        return
    small, large = grown[0], grown[-1]
    first, last = small.of_file, large.of_file
    whole = small.most("cache"), large.most("cache")
    if first and last is not None and whole[0] is not None and whole[1] is not None:
        growth = last / first - 1
        yield Target(
            what=f"growth of the peak from {size(small.case.bytes)} to {size(large.case.bytes)} written",
            goal=f"{GROWTH_MOST:.0%} or less",
            place=here[0].place.title,
            plain="",
            ours=f"{growth:+.1%} ({mebibytes(first)} to {mebibytes(last)}; with the file system's own "
            f"{mebibytes(whole[0])} to {mebibytes(whole[1])})",
            reached=growth <= GROWTH_MOST,
        )


HEADINGS = (
    *("place", "what", "buffer", "limit", "method", "MB/s", "to plain", "page cache", "left", "working set"),
    *("charged", "failed charges", "waited"),
)


def cells(table: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the whole table as text, a tuple a row, as `HEADINGS` names them; sizes in MiB."""
    plain = {
        (row.place, row.case.what, row.case.buffer, row.case.limit): row.speed
        for row in table
        if row.case.method == PLAIN
    }
    return [
        (
            row.place.title,
            row.case.what if row.case.what != "growth" else f"write {size(row.case.bytes)}",
            size(row.case.buffer),
            size(row.case.limit) if row.case.limit is not None else "none",
            row.case.method if row.chosen == row.case.method else f"{row.case.method}: {row.chosen}",
            f"{row.speed / 1e6:,.0f}",
            f"{row.speed / base:.2f}"
            if (base := plain.get((row.place, row.case.what, row.case.buffer, row.case.limit)))
            else "",
            _mebibytes(row.most("cache")),
            _mebibytes(row.most("left")),
            _mebibytes(row.most("working_set")),
            _mebibytes(row.beyond),
            f"{failed:,}" if (failed := row.most("failed_charges")) is not None else "",
            f"{row.waited:.2f} s" if row.waited is not None else "",
        )
        for row in table
    ]


def text(table: Sequence[Row]) -> str:
    """Return the table for a terminal."""
    lines = [HEADINGS, *cells(table)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    words = 5  # columns of words, which stand left; the others are numbers
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def verdicts(found: Sequence[Target]) -> str:
    """Return the targets for a terminal, and how many were reached."""
    lines, what = [], ""
    for target in found:
        if target.what != what:
            what = target.what
            lines.append(f"{what}: {target.goal}")
        plain = f"plain {target.plain}" if target.plain else ""
        lines.append(f"  {target.verdict:<8} {target.place:<20} {plain:<18} {target.ours}")
    lines.append(f"{sum(target.reached for target in found)} of {len(found)} reached")
    return "\n".join(lines)


def size(number: int) -> str:
    """Write a number of bytes that was given as an option: `64 KiB`, `4 GiB`, `1,000,003 B`."""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if number >= 1 << power and number % (1 << power - 2) == 0:
            return f"{number / (1 << power):g} {unit}"
    return f"{number:,} B"


def mebibytes(number: int) -> str:
    """Write a number of bytes in MiB, small ones with a decimal."""
    value = number / MIB
    return f"{value:,.0f} MiB" if value >= 100 else f"{value:.1f} MiB"


def _mebibytes(number: int | None) -> str:
    return "" if number is None else mebibytes(number).removesuffix(" MiB")


def markdown(
    found: Sequence[Target], table: Sequence[Row], notes: Sequence[str], picture: Path | None
) -> str:
    """Return a page: the targets, place by place, the picture, the whole table, and how it was measured."""
    whats = list(dict.fromkeys(target.what for target in found))
    places = list(dict.fromkeys(target.place for target in found))
    cell = {(target.place, target.what): target for target in found}
    goals = {target.what: target.goal for target in found}
    lines = ["# The page cache of a written file: plain, and with `sinks.page_cache`", ""]
    lines += [f"{sum(target.reached for target in found)} of {len(found)} targets reached.", ""]
    if picture is not None:
        lines += [f"![plain and ours, place by place]({picture.name})", ""]
    lines += _table(
        ["", "target", *places],
        [[what, goals[what], *(_cell(cell.get((place, what))) for place in places)] for what in whats],
    )
    lines += ["", "## How it was measured", "", *(f"- {note}" for note in notes)]
    lines += ["", "## All of it", "", "Sizes in MiB.", "", *_table(HEADINGS, cells(table)), ""]
    return "\n".join(lines)


def _cell(target: Target | None) -> str:
    if target is None:
        return ""
    figure = target.ours if target.reached else f"**missed**: {target.ours}"
    return f"{figure}; plain {target.plain}" if target.plain else figure


def _table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    rule = "|".join("---" for _ in headings)
    return [f"| {' | '.join(headings)} |", f"|{rule}|", *(f"| {' | '.join(line)} |" for line in lines)]
