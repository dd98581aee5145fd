"""The picture of an experiment: for each strategy the page cache against what was written, with the limit.

A panel each, all with the same axes, because most lines would lie on each other: at the limit, or near nothing.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.errors import ConfigError
from etl.lab.report import MIB, Outcome, Report, conditions
from etl.lab.strategies import Kind
from etl.words import size

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png")
WITHOUT = (
    "no picture can be drawn without matplotlib: pip install 'etl-sinks[lab]'; or leave --picture out, and later "
    "draw what --json wrote: etl lab --redraw FILE.json --picture FILE.svg"
)
COLUMNS = 4
WIDTH, PANEL_HEIGHT, HEAD, FOOT = 8.0, 1.25, 1.1, 0.45  # inches; 100 pixels each on GitHub
DOTS_PER_INCH = 200  # for screens that show two pixels where one is asked for

# Warm where the page cache is left alone, cool where it is kept small.
COLOURS: dict[Kind, tuple[str, str]] = {
    "naive": ("#c8352b", "plain files"),
    "keep": ("#bf6a0a", "a sink with its hygiene turned off"),
    "drop": ("#14808f", "a sink as it is"),
    "transit": ("#3b6fd4", "small parts, gone before they are flushed"),
    "control": ("#6e7781", "control: nothing is written"),
}
TEXT, FAINT = "#1f2328", "#59636e"


def check(path: str) -> None:
    """Make sure that a picture can be drawn here; to be asked before an experiment of minutes.

    Raises:
        ConfigError: `path` has neither the suffix `.svg` nor `.png`, or there is no matplotlib.
    """
    if Path(path).suffix not in SUFFIXES:
        raise ConfigError(f"--picture {path}: the name must end in {' or '.join(SUFFIXES)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError(WITHOUT)


def finding(report: Report) -> str:
    """Say in one sentence what was found."""
    plain = [
        peak for peak in (_peak(outcome) for outcome in report.outcomes if outcome.kind == "naive") if peak
    ]
    clean = [
        peak for outcome in report.outcomes if outcome.kind in ("drop", "transit") if (peak := _peak(outcome))
    ]
    words = [f"a plain file holds {max(plain) / MIB:,.0f} MiB of page cache"] if plain else []
    if clean:
        words.append(f"the sinks {'' if plain else 'hold '}{max(clean) / MIB:,.0f} MiB")
    return f"{size(report.stream_bytes)} written" + (f": {', '.join(words)}" if words else "")


def _peak(outcome: Outcome) -> int:
    return outcome.peak_page_cache_bytes or 0


def draw(report: Report, path: str) -> None:
    """Draw the picture into `path`, as SVG or PNG by its suffix; 800 pixels wide, on white.

    Its description holds what the panels show, strategy by strategy.

    Raises:
        ConfigError: nothing was measured that could be drawn, or `path` cannot be written.
    """
    shown = [outcome for outcome in report.outcomes if outcome.samples]
    if not shown:
        raise ConfigError(f"there is nothing to draw in {path}: the page cache of no strategy was measured")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = -(-len(shown) // COLUMNS)
    height = HEAD + FOOT + rows * PANEL_HEIGHT
    # Text stays text in SVG: it can be searched and read aloud.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "etl", "font.size": 8}):
        figure = Figure(figsize=(WIDTH, height), facecolor="white")
        panels = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
        figure.subplots_adjust(
            left=0.075, right=0.985, top=1 - HEAD / height, bottom=FOOT / height, wspace=0.09, hspace=0.62
        )
        _write_head(figure, report, shown, height)
        flat = list(panels.flat)
        for panel, outcome in zip(flat, shown, strict=False):
            _draw_panel(panel, outcome, report)
        _set_axes(flat, len(shown), report)
        try:
            figure.savefig(
                path,
                dpi=DOTS_PER_INCH,
                metadata={"Title": finding(report), "Description": _describe(report)},
            )
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from error


def _write_head(figure: Figure, report: Report, shown: Sequence[Outcome], height: float) -> None:
    figure.text(0.012, 1 - 0.12 / height, finding(report), size=13, weight="bold", color=TEXT, va="top")
    own = max((outcome.peak_anonymous_bytes or 0 for outcome in shown), default=0)
    below = f"{conditions(report)} · the process itself: {own / MIB:.0f} MiB"
    figure.text(0.012, 1 - 0.37 / height, below, size=7.5, color=FAINT, va="top")
    from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea

    kinds = {outcome.kind for outcome in shown}
    meanings: list[Artist] = [
        TextArea(f"■ {meaning}", textprops={"color": colour, "size": 7.5})
        for kind, (colour, meaning) in COLOURS.items()
        if kind in kinds
    ]
    legend = AnchoredOffsetbox(
        "upper left",
        child=HPacker(children=meanings, pad=0, sep=12),
        pad=0,
        borderpad=0,
        frameon=False,
        bbox_to_anchor=(0.012, 1 - 0.56 / height),
        bbox_transform=figure.transFigure,
    )
    figure.add_artist(legend)


def _draw_panel(panel: Axes, outcome: Outcome, report: Report) -> None:
    colour = COLOURS[outcome.kind][0]
    unit = _unit(report)
    written = [sample.written_bytes / unit for sample in outcome.samples]
    cache = [sample.page_cache_bytes / MIB for sample in outcome.samples]
    panel.fill_between(written, cache, color=colour, alpha=0.25, linewidth=0)
    panel.plot(written, cache, color=colour, linewidth=1.3, solid_joinstyle="round")
    if report.limit_bytes is not None:
        panel.axhline(report.limit_bytes / MIB, color=TEXT, linewidth=0.8, linestyle=(0, (4, 3)))
    ended = f"{outcome.seconds:.1f} s" if outcome.seconds is not None else outcome.status
    _write_above(panel, outcome.strategy, 12, size=8, weight="bold", color=colour)
    _write_above(panel, f"peak {_peak(outcome) / MIB:,.0f} MiB · {ended}", 3, size=7, color=FAINT)


def _write_above(panel: Axes, text: str, points: int, **style: Any) -> None:
    """Write above the panel's upper left corner; a title has room for one line only."""
    panel.annotate(
        text, (0, 1), xytext=(0, points), xycoords="axes fraction", textcoords="offset points", **style
    )


def _set_axes(panels: Sequence[Axes], shown: int, report: Report) -> None:
    top = max([*map(_peak, report.outcomes), report.limit_bytes or 0, MIB]) / MIB
    for number, panel in enumerate(panels):
        if number >= shown:
            panel.set_visible(False)
            continue
        panel.set_xlim(0, report.stream_bytes / _unit(report))
        panel.set_ylim(0, top * 1.2)
        panel.tick_params(colors=FAINT, labelsize=7, length=2)
        panel.tick_params(labelbottom=number + COLUMNS >= shown)
        panel.grid(axis="y", color="#d8dce1", linewidth=0.5)
        panel.set_axisbelow(True)
        for side in ("top", "right", "left"):
            panel.spines[side].set_visible(False)
        panel.spines["bottom"].set_color("#afb6bf")
    first = panels[0]
    first.figure.supylabel("page cache of the process's cgroup, MiB", size=8, color=FAINT, x=0.008)
    first.figure.supxlabel(f"written so far, {_unit_name(report)}", size=8, color=FAINT, y=0.015)
    if report.limit_bytes is not None:
        first.annotate(
            f"limit {size(report.limit_bytes)}",
            (report.stream_bytes / _unit(report), report.limit_bytes / MIB),
            xytext=(0, 2),
            textcoords="offset points",
            ha="right",
            va="bottom",
            size=7,
            color=TEXT,
        )


def _unit(report: Report) -> int:
    return 1024 * MIB if report.stream_bytes >= 1024 * MIB else MIB


def _unit_name(report: Report) -> str:
    return "MiB" if _unit(report) == MIB else "GiB"


def _describe(report: Report) -> str:
    """Say in words what the picture shows, for those who cannot see it."""
    peaks = [f"{outcome.strategy} {_peak(outcome) / MIB:,.1f} MiB" for outcome in report.outcomes]
    return f"{conditions(report)}. Peak of the page cache: {'; '.join(peaks)}."
