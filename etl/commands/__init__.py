"""The commands of `etl`, one module each, and what they share: exit codes, options, how errors are told."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import wraps
from typing import Any, TypeVar, cast

import click

from etl.escaping import printable, printable_json
from etl.interrupts import interrupted
from etl.secret_values import hide

# 0 is what a command that returns exits with.
# sysexits.h: EX_CANTCREAT is 73, "a (user specified) output file cannot be created": another process has the job;
# EX_TEMPFAIL is 75, "try again later". 2 is what shells and click use for a wrong command line.
FAILED = 1
MISCONFIGURED = 2
UNCOMPARED = 3
TAKEN = 73
AGAIN = 75

# What a command prints of its own may have several lines; tabs are harmless.
_LAID_OUT = "\n\t"

Function = TypeVar("Function", bound=Callable[..., Any])


def job_argument(function: Function) -> Function:
    """Add the argument JOB to a command."""
    return click.argument("job", metavar="JOB.toml", type=click.Path())(function)


def debug_option(function: Function) -> Function:
    """Add `--debug` to a command."""

    def remember(context: click.Context, _option: click.Parameter, value: bool) -> None:
        context.meta["etl.debug"] = value

    option = click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        callback=remember,
        help="Show the traceback of an error.",
    )
    return option(function)


def interruptible(function: Function) -> Function:
    """Let SIGTERM and SIGHUP do to a command what Ctrl-C does: it clears up, and exits with `AGAIN`."""

    @wraps(function)
    def called(*arguments: Any, **options: Any) -> Any:
        with interrupted():
            return function(*arguments, **options)

    return cast("Function", called)


def say(text: str, *, err: bool = False) -> None:
    """Print lines for people, without secrets; what came from outside is escaped where a terminal would obey it.

    Args:
        text: one line or several.
        err: whether it goes to standard error.
    """
    click.echo(printable(hide(text), keep=_LAID_OUT), err=err)


def say_json(text: str, *, err: bool = False) -> None:
    """Print JSON for programs, which a person may look at in a terminal.

    Args:
        text: one line or several.
        err: whether it goes to standard error.
    """
    click.echo(printable_json(hide(text)), err=err)


def tell(context: click.Context, error: BaseException) -> int:
    """Print an error on standard error, as one block without a traceback, and return the exit code for it."""
    from etl.errors import ConfigError, EtlError, Fenced
    from etl.records import message_of
    from sinks.errors import SinkError

    message = message_of(error) or type(error).__name__
    if not isinstance(error, (EtlError, SinkError)):
        frame = traceback.extract_tb(error.__traceback__)[-1]
        message = (
            f"unexpected {type(error).__name__}: {message} ({frame.filename}, line {frame.lineno}); "
            "`--debug` shows the traceback"
        )
    with suppress(OSError):  # where nobody can be told, the exit code tells what happened
        _print(context, error, message)
    if isinstance(error, Fenced):
        return TAKEN
    return MISCONFIGURED if isinstance(error, ConfigError) else FAILED


def _print(context: click.Context, error: BaseException, message: str) -> None:
    debug = traceback.format_exception(error) if context.meta.get("etl.debug") else []
    if context.meta.get("etl.log_format") == "json":
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": now, "level": "error", "message": message, "event": type(error).__name__}
        say_json(json.dumps(line | ({"traceback": "".join(debug)} if debug else {})), err=True)
    else:
        say("".join(debug) + f"error: {printable(message)}", err=True)


def lines(*pairs: tuple[str, str]) -> str:
    """Lay pairs out as two columns."""
    width = max(len(name) for name, _ in pairs)
    return "\n".join(f"{name:<{width}}  {printable(value)}" for name, value in pairs)


def is_terminal() -> bool:
    """Say whether standard error is a terminal that can move its cursor."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
