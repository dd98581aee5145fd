"""Files, here or at another place: NDJSON, CSV, JSON or Parquet; plain, compressed or packed."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, Unpack, cast

import msgspec

from etl.errors import SourceChanged, SourceError, SourceUnfinished
from etl.records import Restart
from etl.sources import remote
from etl.sources.changes import NOT_READ_ON, OnChanged, Verdict, judge, may_grow, restarting, stepping
from etl.sources.content import Content, one_of
from etl.sources.content_options import ContentOptions
from etl.sources.content_source import ContentSource
from etl.sources.identity import Seen
from etl.sources.listing import Listed, Listing, listing
from etl.sources.origin import Origin
from etl.sources.paths import elsewhere, paths_of, root_of
from etl.sources.place import Place, Version
from etl.sources.refusals import Damaged, Replaced, Unended
from etl.sources.share import Share
from etl.sources.storage import Local, Opened, Storage, untouched
from sinks.base import Whereabouts

LOG = logging.getLogger("etl.sources")


class FilePlace(Place, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A place in one of several files.

    Attributes:
        before: how many files were listed before this one, when it was read; None: they were not counted.
        root: what `file` begins with, as the source's path was written; None: it was not noted. See
            `etl.sources.paths.root_of`.
    """

    before: int | None = None
    root: str | None = None


class Files(ContentSource):
    """Reads records out of files, and goes on where it was: after a stop, and when files grew or came.

    The order is that of `paths`, and by name within a glob or a directory. A later run goes on after the file
    that was read last: it takes what a plain NDJSON or CSV file has grown by since (that one file, no other), and
    the files that come after it in order. Files whose names sort before it are not read: name files so that
    new ones come last. When more files lie before it than did, so that some must have come too late, a warning
    says so, or `on_late = "fail"` stops the run. Files that were read may be deleted.

    A file that is another one under its name is `SourceChanged`, whether it is longer, shorter or as long: the one
    that was read last, when a run begins, and each while it is read. Its bytes tell (`etl.sources.changes` says which
    are compared), so that the same bytes may be put in its place, as on another machine. In a text that was not read
    to its end, what comes after the cursor may be corrected: a bad line, an end that was missing. Files before it are
    not looked at.

    They are on this machine, or at one other place, by their URIs: `s3://bucket/…`, `gs://bucket/…`,
    `az://container/…`, `sftp://host/…`, `ftp://host/…`, each by an extra of that name, through fsspec. There a file
    is read in pieces of 4 MiB at most, a connection that breaks is made again, and a file that is not what it was
    (by its ETag or generation, else by its bytes) is noticed when it is gone on with, and while it is read. A
    prefix in a bucket is a directory, and may be empty when it ends in `/`.

    Plain files are entered with a seek. Compressed ones, and those in UTF-16 and the like, are decoded up to the
    cursor. A Parquet file is read as it is, not out of a compressed one, which cannot be entered in the middle.
    What is of another kind (XML, HTML, Avro …) is refused by name.

    A record that cannot be decoded becomes a dead letter or stops the job, as its `on_error` says, with file, line
    and byte. A file that is cut short or damaged stops the job in any case. A file of no bytes holds no records.

    Args:
        paths: one or several: files, globs (`**` goes through directories), directories (the files in it, not
            in directories below, unless `hive_partitions` is set), or the URIs of such, all at one place. A glob that
            matches nothing is an error, an empty directory is none. Names that begin with `_` or `.`, such as Spark's
            `_SUCCESS`, are no data unless they are named, or a part of the glob begins with that sign; `_year=2024` is
            one.
        storage: what fsspec's file system for the URIs takes, such as `key`, `secret`, `endpoint_url`, `anon` (s3fs),
            `token` (gcsfs), `account_name` (adlfs), `username`, `password`, `key_filename` (sftp). It is neither
            part of the checkpoint nor of messages; without it each finds credentials as is usual for it.
        on_late: what is done about files that came too late: `warn` or `fail`.
        on_changed: what is done where the file that was read last is not what it was. `fail`: stop with an error.
            `restart`: read it again from its beginning; the records that were taken of it stay, so that this is for
            jobs that merge by a key.
        file_column: the name of a column for the path that a record came from; of a member, `a.zip/b.csv`.
        hive_partitions: make columns of directories that are called `name=value`, as Hive, Spark and DuckDB lay
            files out. The values are text (declare the warehouse's columns, or cast them), that of
            `__HIVE_DEFAULT_PARTITION__` is null. Where the records have such a column too, it must say the same.
        settle: for how many seconds a file must have stayed as it is before its last line is taken where that has no
            end, and may be half of one that is being written: any row of CSV, JSON that is not whole. Until then a run
            ends before it, in order, with the exit code 75, and a later one goes on there. Objects in buckets are never
            written on, and times more than that in the future say nothing. 0: take it at once.
        deadline: for how long a place that does not answer is tried again, in seconds.
        content: how the content is decoded; see `etl.sources.content_options.ContentOptions`.

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
        on_changed: OnChanged = "fail",
        file_column: str | None = None,
        hive_partitions: bool = False,
        settle: float = 10.0,
        deadline: float = 120.0,
        **content: Unpack[ContentOptions],
    ) -> None:
        self.paths = paths_of(paths)
        self._storage_options = dict(storage or {})
        self._elsewhere = elsewhere(self.paths, self._storage_options)
        self._on_late = one_of("on_late", on_late, ("warn", "fail"))
        if not deadline > 0:
            raise ValueError(f"deadline: {deadline} is not greater than 0")
        self._deadline = deadline
        if settle < 0:
            raise ValueError(f"settle: {settle} is less than 0")
        self._settle = settle
        super().__init__(Content(**content), on_changed)
        self._hive = hive_partitions
        self._names_told: list[str] = []
        self._origin = Origin(file_column, hive_partitions=hive_partitions)

    def fingerprint(self) -> str:
        """Return what gives cursors their meaning. Types and null words do not: changing them fixes a job."""
        return msgspec.json.encode({"files": self.paths, **self._content.fingerprint()}).decode()

    def whereabouts(self) -> Whereabouts | None:
        """Return how the files are read, and where they are; as `sinks.base.OnThisMachine`."""
        if self._elsewhere:
            return None
        what = msgspec.json.encode({"files": len(self.paths), **self._content.fingerprint()}).decode()
        return Whereabouts(what, tuple(map(os.path.realpath, self.paths)))

    def reads(self, path: str) -> bool:
        """Say whether a pull would read a file, whatever it is called; as `etl.records.ReadsFiles`."""
        if self._elsewhere:
            return False
        listed = listing(Local(), self.paths, None, below=self._hive).ahead
        files = (Path(each.path) for each in listed)
        return any(file.exists() and file.samefile(path) for file in files)

    def pull(self, cursor: Any) -> Iterator[Any]:
        """Yield records, `Unreadable`s, and a `Mark` after each block, at the beginning and end of each file.

        Args:
            cursor: that of an earlier mark; None: the beginning.

        Raises:
            SourceError: a file cannot be read, is damaged or cut short, or a path names nothing.
            SourceChanged: a file is not what it was when the cursor was taken.
        """
        self._waiting.begin()
        self._content.begin()
        storage: Storage = Local(self._deadline, self._waiting)
        if self._elsewhere:
            storage = remote.Remote.of(self.paths, self._storage_options, self._deadline, self._waiting)
        at = cast(FilePlace | None, FilePlace.of(cursor))  # it makes what it is a method of
        if at is not None and not self._elsewhere:
            self._follow(at)
        with closing(storage), closing(self._batches(storage, at)) as batches:
            for batch in batches:
                yield from batch
                # freed before the next is decoded, into the same memory, still in the processor's cache: a sixth
                del batch

    def _batches(self, storage: Storage, at: FilePlace | None) -> Generator[list[Any], None, None]:
        listed = listing(storage, self.paths, at, below=self._hive)
        self._look_for_late(listed, at)
        self._tell_of_names(listed)
        before = sum(file.size for file in listed.before)
        progress = self._progress = Share(before + sum(file.size for file in listed.ahead), before)
        known = {} if at is None else at.known()
        for before, file in enumerate(listed.ahead, len(listed.before)):
            place = at if at is not None and file.holds(at) else None
            place = place or FilePlace(file=file.path, entry=file.entry, offset=0, **known)
            place.before = before
            if not self._elsewhere:
                root = root_of(self.paths[file.entry], below=self._hive)
                place.root = root if file.path.startswith(root) else None
            known = yield from self._file(storage, file, place, progress)

    def _follow(self, at: FilePlace) -> None:
        """Call the file of a cursor as it is called now, where the job was moved, or writes its paths differently.

        Raises:
            SourceChanged: it cannot be told what it is called now.
        """
        if at.entry >= len(self.paths):
            return
        root = root_of(self.paths[at.entry], below=self._hive, like=at.root)
        if at.root is not None and at.file.startswith(at.root):
            at.file = root + at.file.removeprefix(at.root)
        elif not at.file.startswith(root):
            raise SourceChanged(
                f"{at} was read last, and is not among {self.paths[at.entry]!r}: the paths were written differently "
                "when it was. Write them as they were, or start the job over with another name and table"
            )

    def _tell_of_names(self, listed: Listing) -> None:
        """Tell of paths that lead to a file which another one leads to, and is read once."""
        if listed.again:
            file, first = listed.again[0]
            more = f", and so are {len(listed.again) - 1} more paths" if len(listed.again) > 1 else ""
            said = f"{file.path} is the same file as {first.path}{more}; each is read once"
            LOG.info("%s", said)
            self._names_told = [said]

    @property
    def told(self) -> Sequence[str]:
        """What was found out about the files, and the first contents; see `etl.records.Tells`."""
        return [*self._names_told, *super().told]

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
        before = set(listed.before)
        if hidden := [
            (file, first) for file, first in listed.again if first in before and not file.before(at)
        ]:
            file, first = hidden[0]
            raise SourceError(
                f"{said}; one of them may be {first.path}, which is the same file as {file.path}, which was not read "
                f"by its name: remove {first.path}, so that it is, or {file.path}, if the job has read it"
            )
        LOG.warning("%s; a job of its own can load these", said)

    def _file(
        self, storage: Storage, listed: Listed, place: FilePlace, progress: Share
    ) -> Generator[list[Any], None, dict[str, Any]]:
        """Read one file from `place` on; returns what is known of CSV after it."""
        opened = storage.open(listed.path)
        if place.nothing_was_there() and (opened.version is None or opened.version.length):
            place = FilePlace(
                file=listed.path,
                entry=listed.entry,
                offset=0,
                before=place.before,
                root=place.root,
                **place.known(),
            )
        seen = place.seen_of_file()
        with opened.watched(seen) as file:
            progress.reads(file, listed.size, lambda: listed.size)
            try:
                verdict = yield from self._judged(file, place, opened.version)
                if verdict.state != "changed":
                    at_its_end = place.done and verdict.state == "same"
                    place.version = opened.version
                    if place.seen is None or (place.offset == 0 and place.member is None):
                        place.seen = seen
                    if not at_its_end:
                        place.done = False
                        grows = partial(self._may_grow, opened)
                        batches = self._content.read(file, place, listed.path, progress.reached, grows)
                        yield from self._origin.added(batches, place, listed.path)
                        place.seen = seen
                        if not opened.pinned:
                            yield from self._see_that_it_stayed(storage, listed.path, place)
            except Unended as error:
                raise SourceUnfinished(
                    f"{place}: it ends within the line or row after record {place.record}, and was changed less than "
                    f"{self._settle:g} s ago: its writer may be about to write the rest, so that is not taken yet. Run "
                    f"again when it has not been changed for {self._settle:g} s (`settle` sets the time)"
                ) from error
            except Replaced as error:
                verdict = Verdict("changed", str(error))
            except Damaged as error:
                raise SourceError(error.told(place, "Fix the file or fetch it again")) from error
            except OSError as error:
                raise SourceError(
                    f"{place} cannot be read ({error.strerror or error}); {place.record} records of it were read. "
                    "Fix the cause, and run again: the job goes on from its last checkpoint"
                ) from error
        if verdict.state == "changed":
            return (yield from self._again(storage, listed, place, verdict.why, progress))
        progress.passed(listed.size)
        place.done = True
        yield [place.mark()]
        return place.known()

    def _may_grow(self, opened: Opened) -> bool:
        """Say whether a writer may be about to write on in a file; a time that lies far ahead says nothing."""
        idle = opened.idle() if self._settle else None
        return idle is not None and abs(idle) < self._settle

    def _judged(
        self, file: IO[bytes], place: FilePlace, now: Version | None
    ) -> Generator[list[Any], None, Verdict]:
        """Say what became of a file; only a plain text may have grown."""
        verdict = yield from stepping(judge(file, place, now), place)
        if verdict.state == "grown" and not may_grow(file, place, self._content.compression):
            return Verdict("changed", NOT_READ_ON)
        return verdict

    def _again(
        self, storage: Storage, listed: Listed, place: FilePlace, why: str, progress: Share
    ) -> Generator[list[Any], None, dict[str, Any]]:
        """Take a file from its beginning that is not what it was, if the job says so."""
        self._may_restart(place, why)
        fresh = FilePlace(
            file=listed.path,
            entry=listed.entry,
            offset=0,
            before=place.before,
            root=place.root,
            **place.known(),
        )
        yield [Restart(fresh.mark().cursor)]
        return (yield from self._file(storage, listed, fresh, progress))

    def _see_that_it_stayed(
        self, storage: Storage, path: str, place: FilePlace
    ) -> Generator[list[Any], None, None]:
        """See, at the end of a file, that it is still the one that was read; it may have grown."""
        now = storage.version(path)
        if place.version is None or now is None or untouched(place.version, now):
            return
        opened = storage.open(path)
        with opened.watched(Seen()) as file:
            verdict = yield from self._judged(file, place, opened.version)
        if verdict.state == "changed":
            raise SourceChanged(
                f"{place} was changed while it was being read: {verdict.why}. Records of both may have been taken: "
                f"when nobody writes to it, {restarting(place)}"
            )
