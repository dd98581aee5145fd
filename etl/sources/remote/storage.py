"""Files at other places, through fsspec: s3://, gs://, az://, sftp://, ftp://; memory:// for tests of one's own."""

from __future__ import annotations

import posixpath
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from etl.errors import SourceChanged, SourceError
from etl.sources.aside import Aside
from etl.sources.place import Version
from etl.sources.remote import errors, listing
from etl.sources.remote.file import MOST_BYTES, RemoteFile
from etl.sources.remote.kinds import KINDS, options_of, root_of, secrets_of
from etl.sources.remote.readers import Reader, changed_at, information, opener, version_of
from etl.sources.storage import Found, Opened, same
from etl.sources.waiting import Waiting
from sinks.retry import Retry

T = TypeVar("T")

# An object is there when all of it is, and is not written on. (Of Azure's some are: append blobs.)
_WHOLE = ("s3", "gs")
# A listing may take so many times the deadline, as it may be of a million files, a thousand at once.
_LISTING = 10
# And a piece of a file so much as it takes at that speed, in bytes a second.
_LEAST_SPEED = 16 << 10


class Remote:
    """A place that fsspec reaches; the port is `etl.sources.storage.Storage`. For one thread.

    Args:
        root: the scheme, and the host where there is one.
        options: what fsspec's file system takes.
        retry: how long is waited for what may pass.
        waiting: ends waits when it is told to.

    Attributes:
        left_behind: how many calls did not return in time: what they use, nobody else may.
    """

    whence = ""

    def __init__(self, root: str, options: Mapping[str, Any], retry: Retry, waiting: Waiting) -> None:
        self._kind = KINDS[root.partition("://")[0]]
        self._root = root
        self._options = options_of(root, options)
        self._secrets = secrets_of(options)
        self._retry = retry
        self._waiting = waiting
        self._connection: Any = None
        self._aside = Aside(waiting.look)
        self.left_behind = 0

    @classmethod
    def of(
        cls, paths: Sequence[str], options: Mapping[str, Any], deadline: float, waiting: Waiting
    ) -> Remote:
        """Make the place of `paths`, which `check` has seen."""
        return cls(root_of(paths[0]), options, Retry(deadline=deadline), waiting)

    def files(self, path: str) -> Iterator[Found] | None:
        """List the files that `path` names; a path that ends in `/` is a prefix, under which there may be nothing."""
        found = self.attempt(
            path,
            lambda system: listing.files(system, self._name(path), self.scheme),
            more=_LISTING * self._retry.deadline,
        )
        if found is None:
            return None
        return (Found(self._path(name), size, self._identity(name)) for name, size in sorted(found.items()))

    def open(self, path: str) -> Opened:
        """Open a file; it is read in pieces of some MiB at most."""
        ranges = _Ranges(self, path, self._name(path))
        version = self.attempt(path, ranges.connect)
        file = RemoteFile(path, version.length or 0, ranges.fetch, ranges.close)
        return Opened(
            file, MOST_BYTES, version, pinned=self.scheme == "s3", idle=partial(self._idle, path, version)
        )

    def _idle(self, path: str, was: Version) -> float | None:
        if self.scheme in _WHOLE:
            return None
        details = self.attempt(path, lambda system: information(system, self._name(path), self.scheme))
        changed = changed_at(details)
        if int(details["size"]) != was.length:
            return 0.0
        return None if changed is None else time.time() - changed

    def version(self, path: str) -> Version:
        """Ask what a file is now."""
        return self.attempt(
            path, lambda system: version_of(information(system, self._name(path), self.scheme))
        )

    def close(self) -> None:
        """End the connection; another call makes a new one."""
        self._aside.close()
        connection, self._connection = self._connection, None
        if connection is not None and self._kind.host:
            (connection.client if self.scheme == "sftp" else connection.ftp).close()

    @property
    def scheme(self) -> str:
        """What kind of place it is."""
        return self._kind.scheme

    def attempt(self, path: str, function: Callable[[Any], T], *, more: float = 0.0) -> T:
        """Call `function` with fsspec's file system, again and again while what it raises may pass.

        It is called aside: what packages take for a timeout, if they have one, counts from one byte to the next.

        Args:
            path: for messages.
            function: must do nothing but read.
            more: how many seconds one call may take beyond half of the deadline.

        Raises:
            SourceError: it failed; says what to do.
            SourceStopped: the source was told to leave.
        """
        scheme = self.scheme
        seconds = self._retry.deadline / 2  # so that there is time for another attempt

        def once() -> T:
            try:
                if self._connection is None:
                    self._import()
                    self._connection = self._aside.call(self._connect, seconds)
                return self._aside.call(partial(function, self._connection), seconds + more)
            except Exception as error:
                if isinstance(error, TimeoutError):
                    self.left_behind += 1
                if self._kind.host and not errors.missing(error):
                    self.close()  # it may be out of step with the server
                raise

        try:
            return self._retry.call(
                once,
                passing=lambda error: not isinstance(error, SourceError) and errors.passing(error, scheme),
                sleep=self._waiting.sleep,
            )
        except SourceError:
            raise
        except Exception as error:
            raise SourceError(f"{path}: {errors.explain(error, scheme, self._secrets)}") from error

    def _import(self) -> None:
        """Import what connects, here: a process that ends while another thread imports it is aborted."""
        import fsspec

        if self.scheme == "gs":
            import gcsfs.core  # noqa: F401 - see `_connect`
        else:
            fsspec.get_filesystem_class(self.scheme)

    def _connect(self) -> Any:
        if self.scheme == "gs":
            # Not the class that gcsfs registers: that asks each bucket's type by gRPC first, with a client and a
            # permission of its own, and for a minute where it gets no answer (2026.10).
            from gcsfs.core import GCSFileSystem

            return GCSFileSystem(**self._options)
        import fsspec

        system = fsspec.filesystem(self.scheme, **self._options)
        if self.scheme == "sftp":
            # paramiko waits for ever otherwise
            system.ftp.get_channel().settimeout(self._retry.timeout[1])
        elif self.scheme == "s3":
            system.retries = 1  # one policy is enough
        return system

    def _name(self, path: str) -> str:
        """Return what fsspec calls a path; not by its own parser, to which `#` and `?` are no part of it."""
        rest = path.partition("://")[2]
        if self._kind.host:
            return "/" + rest.partition("/")[2]
        return "/" + rest if self.scheme == "memory" else rest

    def _identity(self, name: str) -> str:
        """Return a name without what says nothing; in a bucket each sign of a name says something."""
        return posixpath.normpath(name) if self._kind.host else name

    def _path(self, name: str) -> str:
        return self._root + (name if self._kind.host else name.lstrip("/"))


class _Ranges:
    """Reads ranges of one file, as long as it is what it was."""

    def __init__(self, remote: Remote, path: str, name: str) -> None:
        self._remote = remote
        self._path = path
        self._name = name
        self._reader: Reader | None = None
        self._left_behind = 0
        self._version: Version | None = None

    def connect(self, system: Any) -> Version:
        """Open the file, and see that it is still the same."""
        self.close()
        reader = opener(self._remote.scheme)(system, self._name)
        version = version_of(reader.details)
        if self._version is not None and not same(self._version, version):
            reader.close()
            raise self._changed()
        self._reader, self._version = reader, version
        self._left_behind = self._remote.left_behind
        return version

    def fetch(self, offset: int, size: int) -> bytes:
        """Return bytes from `offset` on, `size` at most."""
        more = size / _LEAST_SPEED
        return self._remote.attempt(self._path, partial(self._fetch, offset, size), more=more)

    def _fetch(self, offset: int, size: int, system: Any) -> bytes:
        if self._left_behind != self._remote.left_behind:
            self._reader = None  # and not closed: it may be read from still
        if self._reader is None:
            self.connect(system)
        reader = self._reader
        assert reader is not None
        try:
            data = reader.read(offset, size)
            if not data:
                raise ConnectionError(f"it ended at byte {offset}, before its end")
        except Exception as error:
            if self._reader is not reader:  # it was left behind: another one reads by now
                raise
            self.close()
            if errors.changed(error):
                raise self._changed() from error
            if not errors.passing(error, self._remote.scheme):
                self.connect(system)  # where it is another file by now, that is what went wrong
            raise
        return data[:size]

    def _changed(self) -> SourceChanged:
        return SourceChanged(
            f"{self._path} was changed while it was being read: run again; where it only grew the job goes on"
        )

    def close(self) -> None:
        """Free the file at the other place."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
