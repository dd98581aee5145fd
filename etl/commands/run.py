"""`etl run`: run a job from its checkpoint to the source's end."""

from __future__ import annotations

import json
import logging
import sys
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from etl.commands import AGAIN, debug_option, is_terminal, job_argument

if TYPE_CHECKING:
    from etl.records import Mark


@click.command(
    epilog="Exit codes: 0 done; 75 stopped early, run it again; 73 another process has the job; 2 bad configuration; "
    "1 failed."
)
@job_argument
@click.option("--wait", is_flag=True, help="If another process runs the job, wait for it to end.")
@click.option(
    "--retry-failed",
    is_flag=True,
    help="After a load that failed for good: its cause is fixed, pull its records again.",
)
@click.option(
    "--full-refresh",
    is_flag=True,
    help="Pull everything again into a new table, and put it in the place of the old one when all is loaded.",
)
@click.option(
    "--adopt-table",
    is_flag=True,
    help="After a run that refused because table and checkpoint do not fit, or nobody can tell: the table is right as "
    "it is, load what the checkpoint does not have (BigQuery).",
)
@click.option(
    "--from",
    "start",
    metavar="CURSOR",
    help="Go on from this cursor of the source (JSON, as `etl status --json` shows it); null: its beginning.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default=None,
    help="Log lines on standard error, also in a terminal: text, or one JSON object a line.",
)
@click.option("--quiet", "-q", is_flag=True, help="Only warnings and errors.")
@debug_option
@click.pass_context
def run(
    context: click.Context,
    job: str,
    *,
    wait: bool,
    retry_failed: bool,
    full_refresh: bool,
    adopt_table: bool,
    start: str | None,
    log_format: str | None,
    quiet: bool,
) -> None:
    """Run a job: from its checkpoint, or the beginning, to the end of its source.

    In a terminal one line shows how it goes, elsewhere a line of log comes every ten seconds.
    SIGTERM, SIGINT (Ctrl-C) and SIGHUP stop it in order: the open part is sealed and committed, and loaded where the
    warehouse is on this machine; a load in BigQuery goes on by itself. A second one stops it at once. Either way,
    running it again goes on without loss and without duplicates.
    """
    from etl import config, display, interrupts

    context.meta["etl.log_format"] = log_format
    live = log_format is None and not quiet and is_terminal()
    logger = logging.getLogger("etl")
    pipeline = config.read(job).pipeline()
    listener: Any = display.LiveListener(time.monotonic) if live else None
    formatter = display.JsonLines() if log_format == "json" else display.TextLines(times=not live)
    with interrupts.noted(), listener or nullcontext():
        # Made in here, because the live display puts itself between this process and the terminal.
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(formatter)
        root = logging.getLogger()
        root.addHandler(handler)
        for noisy in (
            "google",
            "urllib3",
        ):  # what they warn of is tried again, or arrives as an error of ours
            logging.getLogger(noisy).setLevel(logging.ERROR)
        logger.setLevel(logging.WARNING if quiet else logging.INFO)
        try:
            result = pipeline.run(
                wait=wait,
                retry_failed=retry_failed,
                full_refresh=full_refresh,
                adopt_table=adopt_table,
                start=None if start is None else _start(start, full_refresh=full_refresh),
                listeners=[listener or display.LogListener(logger, time.monotonic)],
            )
            if result.stopped:
                logger.warning("%s: not done yet; go on with: etl run %s", pipeline.name, job)
                context.exit(AGAIN)
        except KeyboardInterrupt:
            logger.warning(
                "%s: interrupted; what is committed stays, go on with: etl run %s", pipeline.name, job
            )
            context.exit(AGAIN)
        finally:
            root.removeHandler(handler)


def _start(text: str, *, full_refresh: bool) -> Mark:
    """Read the cursor of `--from`."""
    from etl.records import Mark

    if full_refresh:
        raise click.UsageError(
            "--from and --full-refresh: a refresh begins at the source's beginning; choose one"
        )
    try:
        return Mark(json.loads(text))
    except ValueError as error:
        raise click.UsageError(
            f"--from: {text!r} is no JSON ({error}); a text is written in quotes, as in --from '\"2024-01-01\"'"
        ) from error
