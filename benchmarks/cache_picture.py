"""The picture of the page-cache benchmark: plain against ours, place by place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.cache_report import CACHE_MOST, MIB, OURS, PLAIN, READ_MOST, Row, size
from benchmarks.places import Place

COLOURS = {PLAIN: "#b8b8b8", OURS: "#1f6fb2"}  # grey and blue: apart in print and for the colour-blind
GOAL = "#c8553d"
BAR = 0.38  # of the height of a place


def draw(table: Sequence[Row], file: Path) -> None:
    """Draw four panels into `file`, whose suffix says in which format; an SVG comes out the same each time.

    Args:
        table: what was measured.
        file: where to.
    """
    # matplotlib is large, and of no use to who only wants the table.
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "page cache", "font.size": 9, "axes.titlesize": 9.5})
    from matplotlib import pyplot

    places = list(dict.fromkeys(row.place for row in table))
    figure, panels = pyplot.subplots(2, 2, figsize=(10, 1.6 + 0.9 * len(places)), layout="constrained")
    limit = max((row.case.limit for row in table if row.case.limit is not None), default=None)
    written = max((row.case.bytes for row in table if row.case.what == "write"), default=0)
    part = max((row.case.bytes for row in table if row.case.what == "read"), default=0)
    of_limit = f"a limit of {size(limit)}" if limit is not None else "a limit"
    _memory(panels[0, 0], places, _chosen(table, "write", limited=False), "cache", CACHE_MOST)
    panels[0, 0].set_title(f"peak page cache, {size(written)} written, no limit (MiB)", loc="left")
    _memory(panels[0, 1], places, _chosen(table, "read", limited=False), "cache", READ_MOST)
    panels[0, 1].set_title(f"peak page cache, {size(part)} read back (MiB)", loc="left")
    _memory(panels[1, 0], places, _chosen(table, "write", limited=True), "working_set", limit)
    panels[1, 0].set_title(f"peak working set, {size(written)} written, {of_limit} (MiB)", loc="left")
    _speed(panels[1, 1], places, table)
    panels[1, 1].set_title("throughput with the final fsync, plain = 1", loc="left")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda number: labels[number].startswith("target"))
    handles, labels = [handles[number] for number in order], [labels[number] for number in order]
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None, dpi=120)
    pyplot.close(figure)


def _chosen(table: Sequence[Row], what: str, *, limited: bool) -> list[Row]:
    return [row for row in table if row.case.what == what and (row.case.limit is not None) == limited]


def _axes(axes: Any, places: Sequence[Place]) -> None:
    axes.set_yticks(range(len(places)), [place.title for place in places])
    axes.set_ylim(len(places) - 0.4, -0.6)  # the first on top
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _memory(axes: Any, places: Sequence[Place], rows: Sequence[Row], name: str, line: int | None) -> None:
    """Draw the largest of all buffers and runs; on a logarithmic axis, or ours would not be seen."""
    _axes(axes, places)
    for method, offset in ((PLAIN, -BAR / 2), (OURS, BAR / 2)):
        found = {
            place: [most for row in rows if _at(row, place, method) and (most := row.most(name)) is not None]
            for place in places
        }
        at = [number + offset for number, place in enumerate(places) if found[place]]
        values = [max(found[place]) / MIB for place in places if found[place]]
        label = "plain" if method == PLAIN else "sinks.page_cache"
        bars = axes.barh(at, [max(value, 1) for value in values], BAR, color=COLOURS[method], label=label)
        words = [f"{value:,.0f}" for value in values]
        if name == "working_set":
            failed = [_failed(rows, place, method) for place in places if found[place]]
            words = [f"{word}, {count:,} failed charges" for word, count in zip(words, failed, strict=True)]
        for word in axes.bar_label(bars, words, padding=3):
            word.set_bbox(
                {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
            )  # above the line of the target
    if name == "cache":
        axes.set_xscale("log")
        axes.set_xlim(left=1, right=max(axes.get_xlim()[1] * 2.5, 100))
        axes.xaxis.set_major_formatter("{x:,.0f}")
    else:
        axes.set_xlim(right=1.9 * max((line or 0) / MIB, axes.get_xlim()[1]))  # room for the words
    if line is not None:
        said = "target; of the working set: the limit"
        axes.axvline(line / MIB, color=GOAL, linestyle="--", linewidth=1, label=said)


def _failed(rows: Sequence[Row], place: Place, method: str) -> int:
    return max(row.most("failed_charges") or 0 for row in rows if _at(row, place, method))


def _at(row: Row, place: Place, method: str) -> bool:
    return row.place == place and row.case.method == method


def _speed(axes: Any, places: Sequence[Place], table: Sequence[Row]) -> None:
    """Draw a dot for each buffer: light without the limit, dark with it."""
    _axes(axes, places)
    most = 1.0
    for limited, marker, offset in ((False, "o", -0.15), (True, "s", 0.15)):
        rows = _chosen(table, "write", limited=limited)
        plain = {(row.place, row.case.buffer): row.speed for row in rows if row.case.method == PLAIN}
        points = [
            (row.speed / plain[row.place, row.case.buffer], places.index(row.place) + offset)
            for row in rows
            if row.case.method == OURS and (row.place, row.case.buffer) in plain
        ]
        if points:
            most = max(most, *(ratio for ratio, _ in points))
            axes.plot(
                *zip(*points, strict=True),
                marker,
                color=COLOURS[OURS],
                markerfacecolor="white" if not limited else COLOURS[OURS],
                label="with the limit" if limited else "no limit",
            )
    axes.axvline(1, color=GOAL, linestyle="--", linewidth=1)
    axes.set_xlim(0, most * 1.1)
    axes.grid(axis="x", linewidth=0.4, alpha=0.6)
    if most > 1.0:
        axes.legend(loc="best", frameon=False, fontsize=8)
