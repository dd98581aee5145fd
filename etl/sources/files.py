"""Files, here or at another place: NDJSON, CSV, a JSON array or Parquet; plain, gzip, zip or zstd."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Literal, Unpack, cast

import msgspec

from etl.errors import SourceChanged, SourceError
from etl.sources import decoding, remote
from etl.sources.compressions import compression_of
from etl.sources.content import Content, ContentOptions, one_of
from etl.sources.listing import Listed, Listing, listing
from etl.sources.place import Place, Version
from etl.sources.refusals import Damaged
from etl.sources.share import Share
from etl.sources.storage import Local, Opened, Storage, same
from etl.sources.waiting import Waiting

LOG = logging.getLogger("etl.sources")


class FilePlace(Place, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A place in one of several files.

    Attributes:
        before: how many files were listed before this one, when it was read; None: they were not counted.
    """

    before: int | None = None


class Files:
    """Reads records out of files, and goes on where it was: after a stop, and when files grew or came.

    The order is that of `paths`, and by name within a glob or a directory. A later run goes on after the file
    that was read last: it takes what a plain NDJSON or CSV file has grown by since (that one file, no other), and
    the files that come after it in order. Files whose names sort before it are not read: name files so that
    new ones come last. When more files lie before it than did, so that some must have come too late, a warning
    says so, or `on_late = "fail"` stops the run. Files that were read may be deleted.

    They are on this machine, or at one other place, by their URIs: `s3://bucket/…`, `gs://bucket/…`,
    `az://container/…`, `sftp://host/…`, `ftp://host/…`, each by an extra of that name, through fsspec. There a file
    is read in pieces of 4 MiB at most, a connection that breaks is made again, and a file that is not what it was
    (by its ETag, generation, time or size) is noticed when it is gone on with, and while it is read. A prefix in a
    bucket is a directory, and may be empty when it ends in `/`.

    Plain files are entered with a seek. Compressed ones are decompressed up to the cursor. One JSON array and
    NDJSON are UTF-8. A Parquet file is read as it is, not out of gzip, zip or zstd, which cannot be entered in the
    middle.

    A record that cannot be decoded becomes a dead letter or stops the job, as its `on_error` says, with file, line
    and byte. A file that is cut short or damaged stops the job in any case. A file of no bytes holds no records.

    Args:
        paths: one or several: files, globs (`**` goes through directories), directories (the files in it, not
            in directories below), or the URIs of such, all at one place. A glob that matches nothing is an
            error, an empty directory is none. Names that begin with `_` or `.`, such as Spark's `_SUCCESS`, are
            no data unless they are named, or a part of the glob begins with that sign; `_year=2024` is one.
        storage: what fsspec's file system for the URIs takes, such as `key`, `secret`, `endpoint_url`, `anon` (s3fs),
            `token` (gcsfs), `account_name` (adlfs), `username`, `password`, `key_filename` (sftp). It is neither
            part of the checkpoint nor of messages; without it each finds credentials as is usual for it.
        on_late: what is done about files that came too late: `warn` or `fail`.
        deadline: for how long a place that does not answer is tried again, in seconds.
        content: how the content is decoded; see `etl.sources.content.ContentOptions`.

    Raises:
        ValueError: an argument is wrong. Nothing is read before `pull`.
        ConfigError: a package is missing that the URIs need.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        storage: Mapping[str, Any] | None = None,
        on_late: Literal["warn", "fail"] = "warn",
        deadline: float = 120.0,
        **content: Unpack[ContentOptions],
    ) -> None:
        self.paths = _paths(paths)
        self._waiting = Waiting()
        self._storage_options = dict(storage or {})
        self._elsewhere = _elsewhere(self.paths, self._storage_options)
        self._on_late = one_of("on_late", on_late, ("warn", "fail"))
        if not deadline > 0:
            raise ValueError(f"deadline: {deadline} is not greater than 0")
        self._deadline = deadline
        self._content = Content(**content)
        self._progress: Share | None = None

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

    def leave(self) -> None:
        """Let a pull that waits for a connection end; see `etl.records.Leaves`."""
        self._waiting.leave()

    def pull(self, cursor: Any) -> Iterator[Any]:
        """Yield records, `Unreadable`s, and a `Mark` after each block, at the beginning and end of each file.

        Args:
            cursor: that of an earlier mark; None: the beginning.

        Raises:
            SourceError: a file cannot be read, is damaged or cut short, or a path names nothing.
            SourceChanged: a file is not what it was when the cursor was taken.
        """
        self._waiting.begin()
        storage: Storage = Local()
        if self._elsewhere:
            storage = remote.Remote.of(self.paths, self._storage_options, self._deadline, self._waiting)
        at = cast(FilePlace | None, FilePlace.of(cursor))  # it makes what it is a method of
        with closing(storage), closing(self._batches(storage, at)) as batches:
            for batch in batches:
                yield from batch
                # freed before the next is decoded, into the same memory, still in the processor's cache: a sixth
                del batch

    def _batches(self, storage: Storage, at: FilePlace | None) -> Generator[list[Any], None, None]:
        listed = listing(storage, self.paths, at)
        self._look_for_late(listed, at)
        before = sum(file.size for file in listed.before)
        progress = self._progress = Share(before + sum(file.size for file in listed.ahead), before)
        known = {} if at is None else at.known()
        for before, file in enumerate(listed.ahead, len(listed.before)):
            place = at if at is not None and file.holds(at) else None
            if place is not None and place.done and place.offset is None:
                progress.passed(file.size)
                continue
            place = place or FilePlace(file=file.path, entry=file.entry, offset=0, **known)
            place.before = before
            known = yield from self._file(storage, file, place, progress)

    def _look_for_late(self, listed: Listing, at: FilePlace | None) -> None:
        """Tell of files that lie before the cursor, and did not when it was taken.

        Their number is all that is remembered, whatever it grows to: files that were deleted since hide as many.
        """
        late = 0 if at is None or at.before is None else len(listed.before) - at.before
        if late <= 0:
            return
        said = (
            f"{late} or more files came too late: they sort before {at}, up to which the job has read, and are "
            "not read; name files so that new ones come last"
        )
        if self._on_late == "fail":
            raise SourceError(f"{said}, or move these to names behind it, and run again")
        LOG.warning("%s; a job of its own can load these", said)

    def _file(
        self, storage: Storage, listed: Listed, place: FilePlace, progress: Share
    ) -> Generator[list[Any], None, dict[str, Any]]:
        """Read one file from `place` on; returns what is known of CSV after it."""
        opened = storage.open(listed.path)
        with opened.file:
            progress.reads(opened.file, listed.size, lambda: listed.size)
            try:
                if self._is_at_its_end(opened, place):
                    progress.passed(listed.size)
                    return place.known()
                place.done, place.version = False, opened.version
                yield from self._content.read(opened.file, place, listed.path, progress.reached)
                if not opened.pinned:
                    self._see_that_it_stayed(opened, place, storage.version(listed.path))
            except Damaged as error:
                raise SourceError(error.told(place, "Mend the file or fetch it again")) from error
            except OSError as error:
                raise SourceError(
                    f"{place} cannot be read ({error.strerror or error}); {place.record} records of it were read. "
                    "Mend the cause, and run again: the job goes on from its last checkpoint"
                ) from error
        progress.passed(listed.size)
        place.done = True
        yield [place.mark()]
        return place.known()

    def _is_at_its_end(self, opened: Opened, place: FilePlace) -> bool:
        """Say whether a file holds nothing after `place`, as far as versions tell; they tell whether it is another."""
        was, now = place.version, opened.version
        if was is None or now is None:
            return False
        if same(was, now):
            return place.done
        # What was read to its end may be replaced by more, as an object that is appended to is: where the old
        # part ends is looked at. In the middle it may have grown only where nobody says that all of it is new.
        if not self._may_have_grown(opened, place, was, now) or (now.tag is not None and not place.done):
            raise SourceChanged(
                f"{place} is not what it was, and {place.record} records of it were read: put it back, or start the "
                "job anew with another name and table"
            )
        return False

    def _see_that_it_stayed(self, opened: Opened, place: FilePlace, now: Version | None) -> None:
        was = place.version
        if was is None or now is None or same(was, now):
            return
        if now.tag is not None or not self._may_have_grown(opened, place, was, now):
            raise SourceChanged(
                f"{place} was changed while it was being read, and records of both may have been taken: start the "
                "job anew with another name and table, when nobody writes to it"
            )

    def _may_have_grown(self, opened: Opened, place: FilePlace, was: Version, now: Version) -> bool:
        """Say whether a plain text may be what it was, and more."""
        if place.offset is None or place.member is not None or (now.length or 0) <= (was.length or 0):
            return False
        opened.file.seek(0)
        head = decoding.first_bytes(opened.file)
        return (self._content.compression or compression_of(head)) == "none"


def _paths(paths: Any) -> list[str]:
    listed = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not listed:
        raise ValueError("paths: name at least one file, glob or directory")
    for path in listed:
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
            raise ValueError(f"paths: {path!r} is no path")
    return [os.fspath(path) for path in listed]


def _elsewhere(paths: Sequence[str], options: Mapping[str, Any]) -> bool:
    """Say whether the files are at another place than this machine, and see that they can be read there."""
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
