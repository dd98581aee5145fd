"""What another user may plant in a folder that all write to, and a job that finds it there.

As a program, started by root: becomes the user who is attacked, runs a job in each folder that it is told, and says
what came of it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

# The users: 1 is attacked, by the other.
ATTACKED, OTHER = 12345, 12346

PRECIOUS = '{"precious": true}\n'

# For each kind of job, the names at which it makes or opens files.
NAMES = {
    "numbered_chunks": [
        "job.json",
        ".job.json.lock",
        ".job.json.new",
        "out-000001.ndjson",
        "job-rejects-000001.ndjson",
    ],
    "reused_file": ["out.ndjson", "w.duckdb", "w.duckdb.wal", "w.duckdb.tmp"],
    "big_file": ["out.ndjson"],
}
PLANTS = [
    "symbolic link",
    "dangling link",
    "hard link",
    "fifo",
    "directory",
    "file of theirs",
    "empty file of theirs",
]


def plant(what: str, path: Path, precious: Path) -> None:
    """Put a trap at a path, as the other user would."""
    if what == "symbolic link":
        path.symlink_to(precious)
    elif what == "dangling link":
        path.symlink_to(precious.with_name("new"))
    elif what == "hard link":
        path.hardlink_to(precious)
        return
    elif what == "fifo":
        os.mkfifo(path, 0o666)
        path.chmod(0o666)
    elif what == "directory":
        path.mkdir()
        path.chmod(0o777)
    else:
        path.write_text("" if what.startswith("empty") else "theirs\n")
        path.chmod(0o666)
    os.chown(path, OTHER, OTHER, follow_symlinks=False)


def run(kind: str, folder: Path) -> str:
    """Run a job that writes all of its files into a folder; return the error's message, or nothing."""
    import etl
    from etl import Unreadable
    from sinks import SinkError

    def source():
        yield {"number": 1}
        yield Unreadable("x", "no record")

    warehouse = {"type": "duckdb", "path": str(folder / "w.duckdb"), "table": "numbers"}
    suffix = "out.ndjson"
    try:
        etl.Pipeline(
            "job",
            source=source,
            sink={"type": kind, "path": str(folder / suffix)},
            warehouse=warehouse if kind == "reused_file" else None,
            checkpoint=folder / "job.json",
            on_error="reject",
        ).run()
    except (etl.EtlError, SinkError) as error:
        return str(error)
    return ""


def main() -> None:
    """Run each job as the user who is attacked; all is imported before, as that one may not read this interpreter."""
    told = json.loads(sys.stdin.read())
    with tempfile.TemporaryDirectory() as directory:
        for kind in NAMES:
            path = Path(directory, kind)
            path.mkdir()
            assert not (said := run(kind, path)), said
    os.setgroups([])
    os.setresgid(ATTACKED, ATTACKED, ATTACKED)
    os.setresuid(ATTACKED, ATTACKED, ATTACKED)
    for number, (kind, folder) in enumerate(told):
        sys.stdout.write(json.dumps([number, run(kind, Path(folder))]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
