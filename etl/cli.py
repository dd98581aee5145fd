"""The command line: `etl run`, `etl status`, `etl check`, `etl verify`, `etl doctor`, `etl lab`.

Each command is a module of `etl.commands`, imported when it is called.
"""

from __future__ import annotations

import importlib
from contextlib import suppress

import click

from etl.commands import AGAIN, tell

COMMANDS = ("run", "status", "check", "verify", "doctor", "lab")


class Commands(click.Group):
    """Finds commands by their module's name, and turns errors into messages and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of their use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command `cmd_name`."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"etl.commands.{cmd_name}"), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; an error becomes a message without a traceback, and an exit code."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            with suppress(OSError):  # the terminal may be gone
                click.echo("interrupted", err=True)
            ctx.exit(AGAIN)
        except (Exception, SystemExit) as error:  # the last place where it can be told in words
            ctx.exit(tell(ctx, error))


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Exit codes:
   0  done: all of the source is taken and loaded
  75  stopped early (SIGTERM, SIGINT, SIGHUP, a record that is being written), in order: run it again
  73  another process has the job, or has taken it over; this one touched nothing more
   2  the job file, or the command line, is wrong; nothing was touched
   1  failed; what is committed stays: fix the cause and run it again""",
)
@click.version_option(package_name="etl-sinks", prog_name="etl", message="%(prog)s %(version)s (etl-sinks)")
def main() -> None:
    """Streaming ETL: pull, transform, write in parts through a sink, load exactly once.

    A job is a TOML file; `etl check JOB.toml` says what is wrong with it. Relative paths in it are relative to
    the current directory.
    """
