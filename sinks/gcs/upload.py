"""An upload of bytes as they come: two chunks in memory, one filled while the other is sent.

Google's own writer is not used (`tests/testing/test_gcs_client_traps.py` shows why): in text mode, and when it is
dropped unclosed, it finalises an object that is not whole, and a short answer of the server is the end of it.
"""

from __future__ import annotations

import secrets
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from sinks import checksum
from sinks.base import Data
from sinks.errors import NotDeleted, SinkError
from sinks.gcs import turns
from sinks.gcs.client import Client
from sinks.gcs.objects import Objects, StoredObject
from sinks.gcs.session import MARK, Session
from sinks.hurry import HurriedAway
from sinks.retry import Retry

# What every chunk but the last must be a multiple of, in bytes (Cloud Storage documentation, "Resumable uploads").
CHUNK_UNIT = 256 * 1024
# Two of them are in memory. A server on the same machine takes 240 MiB/s in chunks of 1 MiB, 1,050 in chunks of 8
# (benchmark of 512 MiB, 2 cores): from there on the bytes count, not the requests.
CHUNK_BYTES = 8 * 1024 * 1024

# Custom metadata takes this much with all its names and values, and a value this much, in bytes (Cloud Storage
# documentation, "Quotas", and the constants of "Package google.storage.v1").
METADATA_BYTES = 8 * 1024
VALUE_BYTES = 4 * 1024

# How long an abort waits for what it need not wait for: a session that nobody finalises expires after a week.
ABORT_SECONDS = 10.0


class Upload:
    """One object that is written as its bytes come. It must not exist, and does not before `finish` returns.

    Used from one thread. Memory: two chunks. As a context manager it finishes at the end, and aborts when an exception
    leaves it. Dropped without either it is aborted, as far as that takes no waiting.

    Args:
        client: a `google.cloud.storage.Client`.
        bucket: the bucket's name.
        name: the object's name.
        chunk_bytes: what is sent with one request; a multiple of 256 KiB.
        content_type: as in HTTP.
        metadata: custom metadata of the object, cut to what Cloud Storage takes.
        retry: how long each request is tried again; its deadline begins again when the server has got more.
        spare: buffers of `chunk_bytes` of an earlier upload; taken from here, and given back.
        user_project: the project that pays for each request, where the requester does.

    Raises:
        ValueError: `chunk_bytes` is no multiple of 256 KiB.
    """

    def __init__(
        self,
        client: Client,
        bucket: str,
        name: str,
        *,
        chunk_bytes: int = CHUNK_BYTES,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
        retry: Retry | None = None,
        spare: list[bytearray] | None = None,
        user_project: str | None = None,
    ) -> None:
        check_chunk_bytes(chunk_bytes)
        self._retry = retry or Retry()
        self._objects = Objects(client, bucket, retry=self._retry, user_project=user_project)
        self._name = name
        self._chunk_bytes = chunk_bytes
        self._mark = secrets.token_hex(8)
        self._facts: dict[str, str] = {}
        self._session = Session(
            client, bucket, name, content_type=content_type, retry=self._retry, user_project=user_project
        )
        self._spare = [] if spare is None else spare
        self._buffer: bytearray | None = None
        self._filled = 0
        # The first chunk is half of one: the parts of a job are mostly a whole number of chunks long, and so the last
        # request, which nothing is encoded beside, has half a chunk and not a whole one.
        self._wanted = max(chunk_bytes // 2 // CHUNK_UNIT, 1) * CHUNK_UNIT
        self._bytes = 0
        self._flight: _Flight | None = None
        self._tasks: SimpleQueue[_Flight | bool] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stored: StoredObject | None = None
        self._aborted = False
        self._dropped = weakref.finalize(self, _drop, self._session, self._tasks)
        self._dropped.atexit = False
        self.describe(metadata or {})

    @property
    def bytes(self) -> int:
        """The number of bytes written so far."""
        return self._bytes

    @property
    def crc32c(self) -> int:
        """The CRC-32C of the bytes written so far."""
        return self._session.crc32c

    def describe(self, metadata: Mapping[str, str]) -> None:
        """Add custom metadata; later values replace earlier ones. Durable once `finish` has returned."""
        self._facts |= metadata
        self._session.metadata = fitting({**self._facts, MARK: self._mark})

    def write(self, data: Data) -> None:
        """Take `data`; it is copied before the call returns. Waits while both chunks are full.

        Raises:
            SinkOccupied: an object of that name exists, and this upload did not make it.
            UploadLost: the server has lost what was written; aborted, it may be written again.
            SinkError: anything else; the upload can only be aborted.
        """
        self._check()
        data = checksum.flat(data)
        with memoryview(data).cast("B") as view:
            taken = 0
            while taken < len(view):
                if self._filled == self._wanted:
                    self._launch()
                if self._buffer is None:
                    self._buffer = self._spare.pop() if self._spare else bytearray(self._chunk_bytes)
                count = min(self._wanted - self._filled, len(view) - taken)
                with memoryview(self._buffer) as room:  # a slice of the bytearray itself would copy twice
                    room[self._filled : self._filled + count] = view[taken : taken + count]
                self._filled += count
                taken += count
            self._bytes += taken
        # Of what was given, not of the copy: the server is told this one, and refuses a copy that was damaged here.
        self._session.crc32c = checksum.extend(self._session.crc32c, data)

    def finish(self) -> StoredObject:
        """Make the object, and return what Cloud Storage says of it. May be repeated.

        On return it is durable, has the length and the CRC-32C of what was written, and its metadata.

        Raises:
            SinkOccupied: an object of that name exists, and this upload did not make it.
            UploadLost: the server has lost what was written; aborted, it may be written again.
            SinkError: anything else; the upload can only be aborted.
        """
        if self._stored is not None:
            return self._stored
        self._check()
        self._land()
        self._session.send(memoryview(self._buffer or b"")[: self._filled], last=True)
        stored = self._session.finished
        if stored is None:  # never reached: `send` returns with it
            raise AssertionError
        self._verify(stored)
        if self._session.metadata != self._session.described:
            # Only of more than a chunk: a session that begins in `finish` begins with all that is known.
            self._objects.describe(stored, self._session.metadata)
            stored = replace(
                stored, metageneration=stored.metageneration + 1, metadata=self._session.metadata
            )
        self._stored = stored
        self._dropped.detach()
        self._tasks.put(False)
        self._recycle(self._buffer)
        self._buffer = None
        return stored

    def abort(self) -> None:
        """Leave no object behind. May be repeated, and after an error of any other method; does nothing after `finish`.

        Returns soon unless the object may exist already: then it makes sure that it does not.

        Raises:
            SinkError: it may exist, and that could not be found out or undone. Nothing else must be written in its
                place before that is settled.
        """
        if self._stored is not None or self._aborted:
            return
        self._dropped.detach()
        self._session.stop()
        self._buffer = None
        if self._session.finishing:
            self._tasks.put(False)
            with suppress(HurriedAway):  # as after a crash: whoever has the job next clears it away
                self._undo()
        elif self._thread is not None:
            self._tasks.put(True)
            self._thread.join(ABORT_SECONDS)
        else:
            _end(self._session)
        self._aborted = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abort()
            return
        if self._aborted:
            return
        try:
            self.finish()
        except BaseException:
            self.abort()
            raise

    def _check(self) -> None:
        if self._stored is not None or self._session.stopped:
            state = "aborted" if self._stored is None else "finished"
            raise RuntimeError(f"the upload of {self._session.place} is {state} already")
        if self._flight is not None and self._flight.error is not None:
            raise self._flight.error

    def _launch(self) -> None:
        """Hand the full chunk to the thread, as soon as that is done with the one before."""
        self._land()
        assert self._buffer is not None  # it is full
        self._flight = _Flight(self._buffer, self._filled)
        self._buffer, self._filled, self._wanted = None, 0, self._chunk_bytes
        if self._thread is None:
            # A daemon: a host that does not answer must not keep the process from ending.
            self._thread = threading.Thread(
                target=_carry, args=(self._session, self._tasks), name=f"upload {self._name}", daemon=True
            )
            self._thread.start()
        self._tasks.put(self._flight)

    def _land(self) -> None:
        """Wait until the server has the chunk that is being sent.

        Raises:
            SinkError: it could not be sent.
        """
        if self._flight is None:
            return
        self._flight.done.wait()
        if self._flight.error is not None:
            raise self._flight.error
        self._recycle(self._flight.buffer)
        self._flight = None

    def _recycle(self, buffer: bytearray | None) -> None:
        if buffer is not None and len(self._spare) < 2:
            self._spare.append(buffer)

    def _verify(self, stored: StoredObject) -> None:
        size, crc = self._session.size, self._session.crc32c
        if stored.bytes != size or stored.crc32c != crc:
            found = "none" if stored.crc32c is None else f"{stored.crc32c:08x}"
            raise SinkError(
                f"{self._session.place} has {stored.bytes:,} bytes and the CRC-32C {found}, not {size:,} and {crc:08x} "
                "as they were sent: it was damaged on its way; abort the part, and write it again"
            )

    def _undo(self) -> None:
        """Make sure that the object is not there, and never will be.

        First the session is ended, so that no request that is still on its way can finalise it; then the
        object is looked for. Its mark says whose it is.
        """
        try:
            self._session.cancel(self._retry)
            found = self._objects.find(self._name)
            if found is not None and found.metadata.get(MARK) == self._mark:
                # One that may not be deleted is no part all the same: nobody has been told of it.
                with suppress(NotDeleted):
                    self._objects.delete(self._name, found.generation)
        except SinkError as error:
            raise SinkError(
                f"{self._session.place} may exist, though it was not sealed, and could not be removed: {error}; "
                "the job must not go on before that is settled: run it again, which clears it away"
            ) from error


class _Flight:
    """A chunk on its way."""

    __slots__ = ("buffer", "done", "error", "length")

    def __init__(self, buffer: bytearray, length: int) -> None:
        self.buffer = buffer
        self.length = length
        self.done = threading.Event()
        self.error: BaseException | None = None


def check_chunk_bytes(size: int) -> None:
    """Make sure that chunks may have that size.

    Raises:
        ValueError: they may not.
    """
    if size < CHUNK_UNIT or size % CHUNK_UNIT:
        raise ValueError(f"chunk_bytes={size}: expected a multiple of {CHUNK_UNIT} (256 KiB)")


def fitting(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return custom metadata with its values cut so that all of it fits, each to an equal share."""
    names = sum(len(name.encode()) for name in metadata)
    share = min(VALUE_BYTES, max(0, METADATA_BYTES - names) // max(1, len(metadata)))
    return {name: value.encode()[:share].decode(errors="ignore") for name, value in metadata.items()}


def _carry(session: Session, tasks: SimpleQueue[_Flight | bool]) -> None:
    """Send what comes, in a thread; it must not know the upload, which could not be dropped then."""
    with turns.often():
        while isinstance(task := tasks.get(), _Flight):
            try:
                with memoryview(task.buffer) as buffer:
                    session.send(buffer[: task.length])
            except BaseException as error:  # raised in the thread that writes
                task.error = error
            task.done.set()
            del task
    if task:
        _end(session)


def _drop(session: Session, tasks: SimpleQueue[_Flight | bool]) -> None:
    """Call off an upload that nobody refers to any more; the thread ends the session, if there are any."""
    session.stop()
    tasks.put(True)


def _end(session: Session) -> None:
    """End a session by which nothing was finalised, if it takes no long time; otherwise it expires by itself."""
    with suppress(SinkError, HurriedAway):
        session.cancel(Retry(deadline=ABORT_SECONDS, first_wait=0.1))
