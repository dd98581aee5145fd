"""Files on this machine: NDJSON, CSV, a JSON array or Parquet; plain, gzip, zip or zstd."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import msgspec

from etl.errors import SourceError
from etl.sources.content import Content, Format
from etl.sources.decoding import Compression, Damaged
from etl.sources.listing import Listed, listing
from etl.sources.place import Place
from sinks.page_cache import open_guest


class Files:
    """Reads records out of files, and goes on where it was: after a stop, and when files grew or came.

    The order is that of `paths`, and by name within a glob or a directory. A later run goes on after the file
    that was read last: it takes what a plain NDJSON or CSV file has grown by since (that one file, no other), and
    the files that come after it in order. Files whose names sort before it are not seen: name files so that
    new ones come last. Files that were read may be deleted.

    Plain files are entered with a seek. Compressed ones are decompressed up to the cursor. One JSON array and
    NDJSON are UTF-8. A Parquet file is read as it is, not out of gzip, zip or zstd, which cannot be entered in the
    middle.

    A record that cannot be decoded becomes a dead letter or stops the job, as its `on_error` says, with file, line
    and byte. A file that is cut short or damaged stops the job in any case. A file of no bytes holds no records.

    Args:
        paths: one or several: files, globs (`**` goes through directories), directories (the files in it, not
            in directories below). A glob that matches nothing is an error, an empty directory is none.
        format: `ndjson`, `csv`, `json` (one array of objects), `parquet`; None: as the file's name ends, or else
            as its first bytes look; a name that ends in `.json` may be both, an array and NDJSON.
        compression: `none`, `gzip`, `zip`, `zstd`; None: as the file's first bytes say, whatever its name is.
            The members of a zip file are files of their own, in its order.
        types: the types of CSV columns by name: `string`, `integer`, `float`, `boolean`, `date`, `timestamp`
            (`csv_types` says what each takes). The types of other columns are inferred from the first 10,000
            rows, or the first MiB, of the first file that has them. They may be changed while the job is under way.
        delimiter: what separates CSV fields; None: one of `,` `;` tab `|`, whichever fits the first rows.
        header: True: the first line of a CSV file names its columns. False: it does not; they are called
            `column_1`, `column_2` … A list: it does not, and these are their names.
        null: words that stand for a missing value in CSV columns of every type, `""` among them only if it is
            given. Mind `NA` where it means Namibia.
        encoding: of CSV: one that writes ASCII as ASCII does, such as `utf-8`, `latin-1`, `cp1252`.

    Raises:
        ValueError: an argument is wrong. Nothing is read before `pull`.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        format: Format | None = None,
        compression: Compression | None = None,
        types: Mapping[str, str] | None = None,
        delimiter: str | None = None,
        header: bool | Sequence[str] = True,
        null: Sequence[str] = ("", "NA", "N/A", "NULL", "null"),
        encoding: str = "utf-8",
    ) -> None:
        self.paths = _paths(paths)
        self._content = Content(
            format=format,
            compression=compression,
            types=types,
            delimiter=delimiter,
            header=header,
            null=null,
            encoding=encoding,
        )
        self._progress: _Progress | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_progress": None}

    def fingerprint(self) -> str:
        """Return what gives cursors their meaning. Types and null words do not: changing them mends a job."""
        return msgspec.json.encode({"files": self.paths, **self._content.fingerprint()}).decode()

    def progress(self) -> float | None:
        """Return the share of the bytes on disk that has been read, 0 to 1; None: nothing is known.

        Of the pull that began last, from its thread. What earlier runs have read counts as read.
        """
        return None if self._progress is None else self._progress.share()

    def pull(self, cursor: Any) -> Iterator[Any]:
        """Yield records, `Unreadable`s, and a `Mark` after each block, at the beginning and end of each file.

        Args:
            cursor: that of an earlier mark; None: the beginning.

        Raises:
            SourceError: a file cannot be read, is damaged or cut short, or a path names nothing.
            SourceChanged: a file is not what it was when the cursor was taken.
        """
        with closing(self._batches(Place.of(cursor))) as batches:
            for batch in batches:
                yield from batch
                # freed before the next is decoded, into the same memory, still in the processor's cache: a sixth
                del batch

    def _batches(self, at: Place | None) -> Generator[list[Any], None, None]:
        before, ahead = listing(self.paths, at)
        progress = self._progress = _Progress(before, ahead)
        types = {} if at is None else at.types
        for listed in ahead:
            resumed = at if at is not None and (at.entry, at.file) == listed else None
            if resumed is None or not resumed.done or resumed.offset is not None:
                types = yield from self._file(listed, resumed, types, progress)
            else:
                progress.passed(listed)

    def _file(
        self, listed: Listed, resumed: Place | None, types: dict[str, str], progress: _Progress
    ) -> Generator[list[Any], None, dict[str, str]]:
        """Read one file; returns the types of CSV columns that are known after it."""
        place = resumed or Place(file=listed.path, entry=listed.entry, offset=0, types=types)
        place.done = False
        try:
            file = open_guest(listed.path)
        except OSError as error:
            raise SourceError(
                f"{listed.path} cannot be opened ({error.strerror}): it was there when the files were listed, or "
                "may not be read; put it back or mend its permissions, and run again"
            ) from error
        with file:
            progress.reads(file)
            try:
                yield from self._content.read(file, place, listed.path, progress.reached)
            except Damaged as error:
                raise SourceError(
                    f"{place}: {error}; {place.record} records of it were read. Mend the file or fetch it again, "
                    "and run again: the job goes on from its last checkpoint"
                ) from error
            except OSError as error:
                raise SourceError(
                    f"{place} cannot be read ({error.strerror or error}); {place.record} records of it were read. "
                    "Mend the cause, and run again: the job goes on from its last checkpoint"
                ) from error
        progress.passed(listed)
        place.done = True
        yield [place.mark()]
        return place.types


class _Progress:
    """How much of all the files has been read, in bytes on disk."""

    def __init__(self, before: Sequence[Listed], ahead: Sequence[Listed]) -> None:
        self._sizes = {listed.path: _size(listed.path) for listed in (*before, *ahead)}
        self._total = sum(self._sizes.values())
        self._passed = sum(self._sizes[listed.path] for listed in before)
        self._file: IO[bytes] | None = None
        self._reached = 0.0

    def reads(self, file: IO[bytes]) -> None:
        """Count what is read of `file`."""
        self._file = file
        self._reached = 0.0

    def reached(self, share: float) -> None:
        """Note how much of the file has been read, where it is not read through."""
        self._reached = share

    def passed(self, listed: Listed) -> None:
        """Count a file as a whole."""
        self._passed += self._sizes[listed.path]
        self._file = None

    def share(self) -> float | None:
        """Return the share, 0 to 1."""
        if not self._total:
            return None
        read: float = self._passed
        if self._file is not None and not self._file.closed:
            name: str = self._file.name
            read += self._reached * self._sizes[name] if self._reached else self._file.tell()
        return min(read / self._total, 1.0)


def _paths(paths: Any) -> list[str]:
    listed = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not listed:
        raise ValueError("paths: name at least one file, glob or directory")
    for path in listed:
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
            raise ValueError(f"paths: {path!r} is no path")
        if "://" in os.fspath(path):
            raise ValueError(f"paths: {os.fspath(path)!r} is a URI; Files reads files of this machine")
    return [os.fspath(path) for path in listed]


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0  # opening it will say why
