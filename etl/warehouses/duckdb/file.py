"""Make a database file in one step.

DuckDB writes the headers of a new file one after the other, and cannot open one that was killed in between
(seen with DuckDB 2.0.0: "could not read enough bytes"). So a new file is made under another name, and linked
to its own when it is whole.
"""

from __future__ import annotations

import errno
import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from etl.warehouses.duckdb import identity
from sinks import own_files
from sinks.local_files import sync_directory


def see(path: Path) -> None:
    """Make sure that none of the database's files was planted by another user: DuckDB replays the log that it finds.

    Args:
        path: of the database, with symbolic links resolved.

    Raises:
        sinks.own_files.Planted: one of them is another user's, in a folder that others write to.
        OSError: one of them cannot be looked at.
    """
    for suffix in ("", ".wal", ".tmp"):
        own_files.see(path.with_name(path.name + suffix), alone=bool(suffix))


def ensure(path: Path) -> None:
    """Make the database file `path`, whole, durable and with an id of its own, unless it is there.

    Two processes may do so at once: the one that is later takes the file of the other.

    Raises:
        duckdb.Error: it cannot be made.
        OSError: the same.
        sinks.SinkError: the same.
    """
    import duckdb

    see(path)
    while not path.exists():
        new = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
        # Gone in between, if another process tidied up: then it made the file, or is about to.
        with suppress(FileNotFoundError), _removed(new):
            with duckdb.connect(str(new)) as connection:
                identity.draw(connection)
            descriptor = os.open(new, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            with suppress(FileExistsError):  # never over a file that is there
                _give_name(new, path)
            sync_directory(path.parent)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.new*"):  # and its log, of one that was killed
        left.unlink(missing_ok=True)


@contextmanager
def _removed(path: Path) -> Iterator[None]:
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _give_name(new: Path, path: Path) -> None:
    try:
        path.hardlink_to(new)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
            raise
        new.rename(path)  # a file system without hard links
