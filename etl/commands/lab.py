"""`etl lab`: which way of writing files costs how much memory, measured."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from etl.commands import FAILED, debug_option, interruptible
from etl.lab.stream import LEAST_LINE_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etl.lab.report import Outcome, Report
    from etl.lab.strategies import Strategy


@click.command(
    epilog="""\b
Examples:
  etl lab --picture lab.svg --json lab.json
  etl lab --quick --only 'naive*' --only big_file
  etl lab --only '*' --only naive_drop_caches   # all there is
  etl lab --redraw lab.json --picture lab.png

Exit codes: 0 done, also where a strategy was killed at the limit: that is a result; 1 a strategy failed, or the
experiment; 2 wrong command line; 75 stopped."""
)
@click.option(
    "--lines", type=click.IntRange(min=1), help="How many lines each writes.  [default: 20,000,000]"
)
@click.option(
    "--line-bytes",
    type=click.IntRange(min=LEAST_LINE_BYTES),
    default=100,
    show_default=True,
    help="Their length.",
)
@click.option(
    "--part-bytes",
    help="Size of a numbered file, a reused file, a part of a sink; 64KiB at least.  [default: 8MiB]",
)
@click.option(
    "--limit", help="What each process may be charged with, 24MiB at least, or `none`.  [default: 64MiB]"
)
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=".",
    show_default=True,
    help="Where to write, on a disk; it exists, and what is written there is removed again.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help="Run this strategy, or all of a sink, or of a pattern; may be given again.  [default: all but "
    "naive_drop_caches]",
)
@click.option("--json", "json_file", metavar="FILE", help="Write everything as JSON; `-`: standard output.")
@click.option("--picture", metavar="FILE", help="Draw the page cache into FILE.svg or FILE.png.")
@click.option("--quick", is_flag=True, help="A small form: 400,000 lines, parts of 2 MiB, a limit of 32 MiB.")
@click.option(
    "--redraw",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Measure nothing: show what an earlier --json wrote. Goes with --json and --picture only.",
)
@debug_option
@click.pass_context
@interruptible
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

    naive_drop_caches drops all clean page cache of the whole machine each second, of everything that runs on it. So
    it runs only when --only has its full name, and as root.
    """
    from etl.config import parse_bytes
    from etl.lab import picture as drawing
    from etl.lab.experiment import Experiment
    from etl.lab.report import Report
    from etl.lab.strategies import select
    from etl.lab.stream import Stream

    files = (json_file if json_file != "-" else None, picture, redraw)
    _check_files([Path(path) for path in files if path is not None])
    if picture is not None:
        drawing.check(picture)
    if redraw is not None:
        _check_goes_with_redraw(context)
        report = Report.from_json(redraw.read_bytes(), str(redraw))
    else:
        experiment = Experiment(
            stream=Stream(
                lines=lines or (400_000 if quick else 20_000_000),
                line_bytes=line_bytes,
                part_bytes=parse_bytes(part_bytes or ("2MiB" if quick else "8MiB"), "--part-bytes"),
            ),
            strategies=select(only),
            limit=_limit(limit or ("32MiB" if quick else "64MiB")),
            directory=directory,
            tell=_tell,
        )
        _warn_of_memory(directory)
        report = experiment.run()
    _show(report, json_file)
    if picture is not None:
        drawing.draw(report, picture)
        click.echo(f"drawn: {picture}", err=True)
    if any(outcome.status == "failed" for outcome in report.outcomes):
        context.exit(FAILED)


def _check_files(paths: Sequence[Path]) -> None:
    """Refuse files that cannot be made, or of which one would overwrite another, before minutes are spent."""
    from etl.errors import ConfigError
    from sinks.own_files import see

    for path in paths:
        if not path.parent.is_dir():
            raise ConfigError(
                f"{path} cannot be written: its directory does not exist; make it, or choose another"
            )
        try:
            if not path.is_char_device():  # /dev/null
                see(path.absolute())
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}; choose another file") from error
    if len({path.resolve() for path in paths}) < len(paths):
        raise ConfigError(
            f"{' and '.join(map(str, paths))}: these are not all different files; give each of --json, --picture and "
            "--redraw one of its own"
        )


def _check_goes_with_redraw(context: click.Context) -> None:
    """Refuse what is about measuring."""
    about_measuring = ("lines", "line_bytes", "part_bytes", "limit", "directory", "only", "quick")
    given = [
        f"--{name.replace('_', '-')}"
        for name in about_measuring
        if context.get_parameter_source(name) not in (ParameterSource.DEFAULT, None)
    ]
    if given:
        raise click.UsageError(
            f"--redraw measures nothing, so {', '.join(given)} would do nothing: leave it out"
        )


def _limit(text: str) -> int | None:
    from etl.config import parse_bytes
    from etl.errors import ConfigError
    from etl.lab.experiment import LEAST_LIMIT, PROCESS_ALONE
    from etl.words import size

    if text == "none":
        return None
    limit = parse_bytes(text, "--limit")
    if limit < LEAST_LIMIT:
        raise ConfigError(
            f"--limit: {size(limit)} are too little, the process alone takes {size(PROCESS_ALONE)}; give it "
            f"{size(LEAST_LIMIT)} or more"
        )
    return limit


def _warn_of_memory(directory: Path) -> None:
    from sinks import page_cache

    choice = page_cache.choose(directory)
    if choice.memory:
        click.echo(
            f"note: {directory} is on {choice.file_system}, which is memory: plain files there cannot be dropped, and "
            "sinks refuse to fill it. Choose a --directory on a disk to see how they compare",
            err=True,
        )


def _tell(strategy: Strategy, outcome: Outcome | None) -> None:
    """Say on standard error what is being done: the experiment takes minutes. Reasons are told below the table."""
    if outcome is None:
        also = (
            ", which drops the page cache of the whole machine each second" if strategy.drops_caches else ""
        )
        click.echo(f"{strategy.name}{also} … ", err=True, nl=False)
    else:
        seconds = f" in {outcome.seconds:.1f} s" if outcome.seconds is not None else ""
        click.echo(f"{outcome.status}{seconds}", err=True)


def _show(report: Report, json_file: str | None) -> None:
    """Write the table, and the JSON; where the JSON goes to standard output, the table goes to standard error.

    Raises:
        LabError: the JSON cannot be written.
    """
    from etl.errors import LabError
    from etl.lab.report import conditions, table

    to_stdout = json_file == "-"
    click.echo(f"\n{conditions(report)}\n\n{table(report)}\n", err=to_stdout)
    if report.measured_in != "fresh cgroup":
        click.echo(
            "measured without a fresh cgroup: no limit could be set, figures are differences to the beginning, and "
            f"others in the group are counted too. {report.measured_in_reason}",
            err=True,
        )
    try:
        if to_stdout:
            sys.stdout.buffer.write(report.to_json())
            sys.stdout.flush()
        elif json_file is not None:
            Path(json_file).write_bytes(report.to_json())
    except BrokenPipeError:
        raise  # its reader has enough
    except OSError as error:
        raise LabError(
            f"--json {json_file} cannot be written: {error.strerror or error}; choose another file, or make room"
        ) from error
