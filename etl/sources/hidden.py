"""Names that are no data: what writers of data put beside it, and hide by how its name begins.

The rule is that of Spark (`InMemoryFileIndex.shouldFilterOutPathName`), which Hadoop's FileInputFormat
(`hiddenFileFilter`) and Arrow's dataset discovery (`selector_ignore_prefixes`) share but for partitions: names that
begin with `.`; names that begin with `_`, such as `_SUCCESS`, `_committed_…`, `_started_…`, `_delta_log`, unless they
are a partition (`_year=2024`); and files that `hdfs dfs -put` is still writing (`….csv._COPYING_`).
"""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Iterable, Sequence

LOG = logging.getLogger("etl.sources")

_SIGNS = (".", "_")
_NAMES_TOLD = 5


def is_hidden(name: str) -> bool:
    """Say whether a file or directory is left out wherever nobody names it: `name` is the last part of its path."""
    if name.startswith("_"):
        return "=" not in name
    return name.startswith(".") or name.endswith("._COPYING_")


def matches(name: str, pattern: str) -> bool:
    """Say whether a name matches one part of a glob; a hidden one does where the part begins with its sign."""
    if is_hidden(name) and not pattern.startswith(_SIGNS):
        return False
    return fnmatch.fnmatchcase(name, pattern)


def tell(path: str, names: Iterable[str]) -> None:
    """Tell which files of a directory or a glob were left out, those that begin with `_`: some people's data do."""
    left = sorted({name for name in names if name.startswith("_") and is_hidden(name)})
    if left:
        LOG.info("%s: left out as hidden: %s; name them to read them", path, shortened(left))


def shortened(names: Sequence[str]) -> str:
    """Name the first few of many."""
    more = len(names) - _NAMES_TOLD
    return ", ".join(names[:_NAMES_TOLD]) + (f" and {more} more" if more > 0 else "")
