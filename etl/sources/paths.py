"""What the paths of a source of files may be."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etl.sources import remote

_MAGIC = re.compile(r"[*?[]")  # as `glob.has_magic` has it


def paths_of(paths: Any) -> list[str]:
    """Return paths as texts, whether it is one or several.

    Raises:
        ValueError: there is none, or one is no path.
    """
    listed = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not listed:
        raise ValueError("paths: name at least one file, glob or directory")
    for path in listed:
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
            raise ValueError(f"paths: {path!r} is no path")
    return [os.fspath(path) for path in listed]


def root_of(path: str, *, below: bool = False, like: str | None = None) -> str:
    """Return what the paths of the files begin with that a path lists on this machine, whatever they are called.

    Of a glob, that is what stands before the first part that holds a pattern; of a directory, itself with a slash; of
    a file, all of its path. So the rest is the same wherever the files are, and however their path is written.

    Args:
        path: as the source was given it.
        below: whether a directory stands for those below it as well.
        like: what was returned before, of a path that may be gone by now: of a directory, if it ends in a slash.
    """
    if glob.has_magic(path):
        fixed = path[: _MAGIC.search(path).start()]  # type: ignore[union-attr]  # it has magic
        return fixed[: fixed.rfind("/") + 1]
    if not (Path(path).is_dir() or (like is not None and (like == "" or like.endswith("/")))):
        return path
    if below:
        return path.rstrip("/") + "/"
    return "" if Path(path) == Path() else str(Path(path) / "x")[:-1]


def elsewhere(paths: Sequence[str], options: Mapping[str, Any]) -> bool:
    """Say whether the files are at another place than this machine, and see that they can be read there.

    Raises:
        ValueError: they are at several places, or `options` are not for them.
        ConfigError: a package is missing.
    """
    uris = ["://" in path for path in paths]
    if not any(uris):
        if options:
            raise ValueError("storage: it is for URIs, and the paths are those of files on this machine")
        return False
    if not all(uris):
        raise ValueError(
            "paths: they are on this machine and elsewhere; one source reads from one place: make it two"
        )
    remote.check(paths, options)
    return True
