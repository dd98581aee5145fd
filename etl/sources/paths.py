"""What the paths of a source of files may be."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from etl.sources import remote


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
