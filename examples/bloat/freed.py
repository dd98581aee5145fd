"""Show what frees the page cache of a file and what does not, in this process's own control group: python3 freed.py."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import bloat


def say(what: str) -> None:
    cached, dirty = (bloat.ask(kind) or 0 for kind in ("cache", "dirty"))
    print(f"{what:<22}{cached / bloat.MIB:>7.1f} MiB cached{dirty / bloat.MIB:>7.1f} MiB dirty")


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    with TemporaryDirectory() as directory:
        path = Path(directory) / "file"
        say("at the start")
        with path.open("wb", buffering=0) as file:
            file.write(bytes(40 * bloat.MIB))
            say("40 MiB written")
            os.fsync(file.fileno())
            say("fsync")
            os.ftruncate(file.fileno(), 20 * bloat.MIB)
            say("truncated to 20 MiB")
            path.unlink()
            say("deleted, still open")
        say("closed")


if __name__ == "__main__":
    main()
