"""Install the server, or serve until interrupted: see `python -m etl.testing.bigquery_server --help`."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from pathlib import Path

from etl.testing.bigquery_server.install import NoPython, find_python, install
from etl.testing.bigquery_server.server import PYTHON, BigQueryServer


def main() -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m etl.testing.bigquery_server", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    installing = commands.add_parser(
        "install", help="make an environment for it; takes Python 3.13, and 600 MB"
    )
    installing.add_argument("directory", type=Path)
    serving = commands.add_parser("serve", help="serve on 127.0.0.1, and print the URL when it answers")
    serving.add_argument(
        "--root", type=Path, required=True, help="the GCS server's root: gs://b/o is ROOT/b/o"
    )
    serving.add_argument("--data", type=Path, required=True, help="where tables and jobs are kept")
    serving.add_argument("--python", type=Path, default=PYTHON, help=f"the interpreter that has it: {PYTHON}")
    serving.add_argument("--project", default="test")
    serving.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    if given.command == "install":
        return _install(given.directory)
    server = BigQueryServer(
        given.root, given.data, python=given.python, project=given.project, port=given.port
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with server:
            print(server.url, flush=True)  # noqa: T201 (a command)
            signal.pause()
    except KeyboardInterrupt:
        return 0
    except (OSError, RuntimeError) as error:
        print(error, file=sys.stderr)  # noqa: T201 (a command)
    return 1


def _install(directory: Path) -> int:
    try:
        install(directory, find_python())
    except (NoPython, subprocess.CalledProcessError, OSError) as error:
        print(f"local-bigquery is not installed: {error}", file=sys.stderr)  # noqa: T201 (a command)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
