"""The server as a process of its own: see the package."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from etl.testing.gcs_server.server import GcsServer


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m etl.testing.gcs_server")
    parser.add_argument("--root", type=Path, required=True, help="where the objects are, as files")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument(
        "--bucket", action="append", default=[], metavar="NAME", help="made when it is missing"
    )
    parser.add_argument(
        "--no-md5", action="store_true", help="objects without md5Hash: large uploads go faster"
    )
    options = parser.parse_args()
    # Blocked before any thread is started, so that every thread inherits it and sigwait below sees the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    with GcsServer(options.root, port=options.port, md5=not options.no_md5) as server:
        for name in options.bucket:
            if not (server.root / name).is_dir():
                server.create_bucket(name)
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
