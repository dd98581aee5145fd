"""`etl lab`: which way of writing files costs how much memory, measured."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from etl.commands import FAILED, debug_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etl.lab.report import Outcome, Report
    from etl.lab.strategies import Strategy


@click.command(
    epilog="""\b
Examples:
  etl lab --picture lab.svg --json lab.json
  etl lab --quick --only 'naive*' --only big_file
  etl lab --redraw lab.json --picture lab.png

Exit codes: 0 done, also where a strategy was killed at the limit: that is a result; 1 a strategy failed, or the
experiment; 2 wrong command line; 75 stopped."""
)
@click.option(
    "--lines", type=click.IntRange(min=1), help="How many lines each writes.  [default: 20,000,000]"
)
@click.option(
    "--line-bytes", type=click.IntRange(min=1), default=100, show_default=True, help="Their length."
)
@click.option(
    "--part-bytes",
    help="Size of a numbered file, a reused file, a part of a sink.  [default: 8MiB]",
)
@click.option("--limit", help="What each process may be charged with, or `none`.  [default: 64MiB]")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=".",
    show_default=True,
    help="Where to write; what is written there is removed again.",
)
@click.option("--only", multiple=True, metavar="NAME", help="Run this strategy; may be given again.")
@click.option("--json", "json_file", metavar="FILE", help="Write everything as JSON; `-`: standard output.")
@click.option("--picture", metavar="FILE", help="Draw the page cache into FILE.svg or FILE.png.")
@click.option("--quick", is_flag=True, help="A small form: 400,000 lines, parts of 2 MiB, a limit of 32 MiB.")
@click.option(
    "--redraw",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Measure nothing: show what an earlier --json wrote.",
)
@debug_option
@click.pass_context
def lab(
    context: click.Context,
    *,
    lines: int | None,
    line_bytes: int,
    part_bytes: str | None,
    limit: str | None,
    directory: Path,
    only: tuple[str, ...],
    json_file: str | None,
    picture: str | None,
    quick: bool,
    redraw: Path | None,
) -> None:
    """Write the same lines in each of several ways, and show what memory that takes.

    A container's memory is charged with the page cache of what is written in it. Plain files (naive_…) are compared
    with the sinks, as they are (drop), with their hygiene turned off (keep), and for small parts that are released
    before they are flushed (transit). dev_null and null write nothing: they are the control. Each runs in a memory
    cgroup of its own, with a limit, where this process may make one (as root); else in its own, without.

    naive_drop_caches, as root, drops all clean page cache of the machine each second.
    """
    from etl.config import parse_bytes
    from etl.errors import ConfigError
    from etl.lab import picture as drawing
    from etl.lab.experiment import Experiment
    from etl.lab.report import Report
    from etl.lab.strategies import select
    from etl.lab.stream import Stream

    for path in (json_file, picture):
        if path not in (None, "-") and not Path(path).parent.is_dir():
            raise ConfigError(
                f"{path} cannot be written: its directory does not exist; make it, or choose another"
            )
    drawable = picture is not None and drawing.check(picture)
    if picture is not None and not drawable:
        click.echo(f"warning: {drawing.WITHOUT}", err=True)
    if redraw is not None:
        report = Report.from_json(redraw.read_bytes(), str(redraw))
    else:
        experiment = Experiment(
            stream=Stream(
                lines=lines or (400_000 if quick else 20_000_000),
                line_bytes=line_bytes,
                part_bytes=parse_bytes(part_bytes or ("2MiB" if quick else "8MiB"), "--part-bytes"),
            ),
            strategies=select(only),
            limit=None
            if limit == "none"
            else parse_bytes(limit or ("32MiB" if quick else "64MiB"), "--limit"),
            directory=directory,
            tell=_tell,
        )
        with _stopped_in_order():
            report = experiment.run()
    _show(report, json_file)
    if picture is not None and drawable:
        drawing.draw(report, picture)
        click.echo(f"drawn: {picture}", err=True)
    if any(outcome.status == "failed" for outcome in report.outcomes) or (
        picture is not None and not drawable
    ):
        context.exit(FAILED)


def _tell(strategy: Strategy, outcome: Outcome | None) -> None:
    """Say on standard error what is being done: the experiment takes minutes."""
    if outcome is None:
        click.echo(f"{strategy.name} … ", err=True, nl=False)
    else:
        seconds = f" in {outcome.seconds:.1f} s" if outcome.seconds is not None else ""
        click.echo(f"{outcome.status}{seconds}{f': {outcome.reason}' if outcome.reason else ''}", err=True)


def _show(report: Report, json_file: str | None) -> None:
    """Write the table, and the JSON; where the JSON goes to standard output, the table goes to standard error."""
    from etl.lab.report import conditions, table

    to_stdout = json_file == "-"
    click.echo(f"\n{conditions(report)}\n\n{table(report)}\n", err=to_stdout)
    if report.measured_in != "fresh cgroup":
        click.echo(
            "measured without a fresh cgroup: no limit could be set, figures are differences to the beginning, and "
            f"whoever else is in the group is counted too. {report.measured_in_reason}",
            err=True,
        )
    if to_stdout:
        sys.stdout.buffer.write(report.to_json())
    elif json_file is not None:
        Path(json_file).write_bytes(report.to_json())


@contextmanager
def _stopped_in_order() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does: end the child, remove files and groups, then exit."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
