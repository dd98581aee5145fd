"""Which members of an archive are read: those that may be data, or those that a job names; all of one table."""

from __future__ import annotations

import fnmatch
import glob
import logging
import re
from collections.abc import Sequence
from typing import NamedTuple

from etl.errors import SourceError
from etl.sources.archives import Member
from etl.sources.hidden import is_hidden, shortened

LOG = logging.getLogger("etl.sources")

# Between a member that is an archive itself and its own members, as in the URLs of Java's JarURLConnection.
WITHIN = "!/"
_DATA = (
    ".csv",
    ".tsv",
    ".json",
    ".ndjson",
    ".jsonl",
    ".geojson",
    ".parquet",
    ".xlsx",
    ".xls",
    ".xlsb",
    ".ods",
)
_PACKED = (".gz", ".gzip", ".bz2", ".xz", ".zst", ".zstd")
_TAR = re.compile(r"\.(tar(\.\w+)?|tgz|tbz2?|txz|tzst)$", re.IGNORECASE)
# What people put beside data to say what it is, and what systems put beside files.
_ABOUT = re.compile(
    r"(?:\d+[ _-]?)?(?:read[ _-]?me.*|(?:licen[cs]e|copying|copyright|notice|authors|changelog|changes|citation"
    r"|terms|disclaimer|md5sums?|sha\d+sums?|checksums?)(?:[^a-z].*)?)|thumbs\.db|desktop\.ini",
    re.IGNORECASE | re.DOTALL,
)
_NO_DATA = re.compile(
    r"\.(?:pdf|md|rst|rtf|docx?|pptx?|odt|html?|xml|xsd|xslt?|dtd|css|js|py|r|sh|sql|png|jpe?g|gif|svg|ico|bmp|webp"
    r"|tiff?|md5|sha\d+|crc|asc|sig|url|lnk)$",
    re.IGNORECASE,
)
_COLUMNS_TOLD = 3
_TABLES_TOLD = 5
# An archive may have a million members.
_REMEMBERED = 1000


def checked_members(members: str | Sequence[str] | None) -> list[str] | None:
    """Return the globs of a job; ValueError: they are none."""
    if members is None:
        return None
    patterns = [members] if isinstance(members, str) else list(members)
    if not patterns or not all(isinstance(pattern, str) and pattern for pattern in patterns):
        raise ValueError(f"members: {members!r} is neither a glob nor a list of globs")
    return patterns


class Shape(NamedTuple):
    """What the head of a member shows.

    Attributes:
        kind: `CSV`, `JSON`, `Parquet`, or what else it is.
        columns: the names of its columns; None: they do not tell.
    """

    kind: str
    columns: tuple[str, ...] | None


class Choice:
    """Takes the members that are read, and tells of those that are not.

    Args:
        patterns: globs, or names, of which a member's path or the last part of it has to match one; None: all are
            taken that may be data by their names.
        archive: what the archive is called, for messages.
    """

    def __init__(self, patterns: Sequence[str] | None, archive: str) -> None:
        self._patterns = patterns
        # An archive may have as many members as a job names: what is no glob is looked up.
        self._names = frozenset(patterns or ())
        self._globs = [pattern for pattern in patterns or () if glob.has_magic(pattern)]
        self._archive = archive
        self._taken = 0
        self._left: list[str] = []

    def takes(self, member: Member) -> bool:
        """Say whether a member is read."""
        taken = self._takes(member)
        if taken:
            self._taken += 1
        elif len(self._left) < _REMEMBERED:
            self._left.append(member.name)
        return taken

    def end(self) -> None:
        """Tell of the members that are left out; all were seen.

        Raises:
            SourceError: all of them are.
        """
        if self._left and not self._taken:
            said = (
                "is data by its name"
                if self._patterns is None
                else f"is called {' or '.join(self._patterns)}"
            )
            raise SourceError(
                f"{self._archive}: no member {said}: {shortened(self._left)}; name the one to read, exactly, such as "
                f'members = "{self._left[0]}"'
            )
        if self._left and self._patterns is None:
            LOG.info(
                "%s: left out, as no data by their names: %s; `members` names those to read",
                self._archive,
                shortened(self._left),
            )
        self._left.clear()

    def _takes(self, member: Member) -> bool:
        path = member.name.replace("\\", "/")
        parts = path.rpartition(WITHIN)[2].split("/")
        name = parts[-1]
        if member.open is None:
            return False
        if self._patterns is None:
            return not any(is_hidden(part) or part == "__MACOSX" for part in parts) and not _is_no_data(name)
        if _TAR.search(name):
            return True  # its own members are chosen
        if path in self._names or name in self._names:
            return True
        for pattern in self._globs:
            if fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(name, pattern):
                shown = not is_hidden(name) or pattern.rpartition("/")[2].startswith(("_", "."))
                if shown and "__MACOSX" not in parts and not _is_no_data(name):
                    return True
        return False


class Shapes:
    """Sees that the members of an archive are one table.

    Without a choice CSV is where a member and those before it have more than half of the columns of whichever has fewer
    in common, and a quarter of the others': yearly files of one table change a column or two, different tables share
    a key, and a sample of answers has two columns of many.
    Objects need one key in common, as they leave out what they lack. Where a job names the members, one column in
    common is enough for CSV, and objects are not compared.

    Args:
        archive: what the archive is called, for messages.
        chosen: whether the job names the members.
    """

    def __init__(self, archive: str, *, chosen: bool) -> None:
        self._archive = archive
        self._chosen = chosen
        self._tables: list[tuple[str, dict[str, None], list[str]]] = []

    def add(self, name: str, shape: Shape | None) -> None:
        """Note the shape of a member; None: it shows none, as an empty one."""
        if shape is None:
            return
        for kind, columns, names in self._tables:
            if kind == shape.kind and self._alike(kind, columns, shape.columns):
                if len(names) < _REMEMBERED:
                    columns.update(dict.fromkeys(shape.columns or ()))
                    names.append(name)
                return
        if len(self._tables) < _TABLES_TOLD:
            self._tables.append((shape.kind, dict.fromkeys(shape.columns or ()), [name]))

    def check(self, *, begun: bool) -> None:
        """See that there is one table.

        Args:
            begun: whether records were taken from the archive.

        Raises:
            SourceError: there are several.
        """
        if len(self._tables) < 2:
            return
        tables = "; ".join(
            f"{shortened(names)} ({_said(kind, list(columns))})" for kind, columns, names in self._tables
        )
        again = ", and start the job over: those before the last of these were read" if begun else ""
        raise SourceError(
            f"{self._archive}: its members hold different tables, or one has no header: {tables}; choose those of one "
            f'table with `members`, a glob, a name, or a list of them, such as members = "{self._tables[0][2][0]}"'
            f"{again}"
        )

    def _alike(self, kind: str, known: dict[str, None], columns: tuple[str, ...] | None) -> bool:
        if not columns or not known or (self._chosen and kind != "CSV"):
            return True
        shared = sum(column in known for column in columns)
        if self._chosen or kind != "CSV":
            return shared > 0
        fewer, more = sorted((len(known), len(columns)))
        return 2 * shared > fewer and 4 * shared >= more


def _said(kind: str, columns: list[str]) -> str:
    more = ", …" if len(columns) > _COLUMNS_TOLD else ""
    return f"{kind}: {', '.join(name[:40] for name in columns[:_COLUMNS_TOLD])}{more}" if columns else kind


def _is_no_data(name: str) -> bool:
    bare = name.lower()
    while bare.endswith(_PACKED):
        bare = bare.rpartition(".")[0]
    if _NO_DATA.search(bare) or bare == "datapackage.json":
        return True
    return not bare.endswith(_DATA) and _ABOUT.fullmatch(bare) is not None
