"""Zip files: their members, each a file of its own."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import IO

from etl.sources.decoding import Damaged, reason


@contextmanager
def archive(file: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    """Open a zip file.

    Raises:
        Damaged: it is none, or cut short: its directory is at its end.
    """
    try:
        opened = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError) as error:
        raise Damaged(reason(error, "zip")) from error
    with opened:
        yield opened


def members(opened: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return the members of a zip file that hold data, in its own order: no directories, no hidden files.

    Raises:
        Damaged: two have the same name, so that a cursor could not tell them apart.
    """
    found: dict[str, zipfile.ZipInfo] = {}
    for info in opened.infolist():
        if info.is_dir() or any(part.startswith((".", "__MACOSX")) for part in info.filename.split("/")):
            continue
        if info.filename in found:
            raise Damaged(f"two of its members are called {info.filename!r}; unpack it, or pack it again")
        found[info.filename] = info
    return list(found.values())


def member(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> AbstractContextManager[IO[bytes]]:
    """Open a member.

    Raises:
        Damaged: it is encrypted, or compressed in a way that Python does not know.
    """
    try:
        return opened.open(info)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError) as error:
        raise Damaged(reason(error, "zip")) from error
