"""The lease on a job: the document as this process last wrote it, swapped in step by step; the port of its store."""

from __future__ import annotations

import secrets
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from etl.checkpoint import Checkpoint, decode, encode, replace
from etl.errors import Fenced
from sinks.base import Sink


class Conflict(Exception):
    """The document is not at the version that a write expected; nothing was written."""


class Store(Protocol):
    """Where the checkpoint lives: a local file, a GCS object.

    Attributes:
        uri: where, for messages.
    """

    uri: str

    def hold(self, *, wait: bool) -> AbstractContextManager[None]:
        """Hold the job for this process while the context lasts.

        Where the store can, that is a lock that the kernel drops with the process; a store that cannot
        relies on `swap` alone.

        Args:
            wait: wait for a process that holds it, for any time, rather than raise.

        Raises:
            Fenced: another process holds it.
        """

    def read(self) -> tuple[bytes, str] | None:
        """Return the document and its version (a word only this store understands), or None: there is none.

        Raises:
            CheckpointError: it cannot be read.
        """

    def swap(self, data: bytes, expected: str | None) -> str:
        """Replace the document if it is still at version `expected` (None: if there is none).

        On return it is durable, and the new version is returned. After a crash in between, the store holds
        the old document or the new one, whole.

        Raises:
            Conflict: the document is at another version; nothing was written.
            CheckpointError: the write failed; it may or may not have landed.
        """


@runtime_checkable
class TellsHolder(Protocol):
    """A store whose hold others can see."""

    def holder(self) -> str | None:
        """Say which process holds the job now, for people; None: none that this machine can see. Changes nothing.

        Raises:
            CheckpointError: it cannot be found out.
        """


@runtime_checkable
class KeepsDeadLetters(Protocol):
    """A store beside whose document dead letters can be kept; a second, optional protocol."""

    def dead_letters(self, pipeline: str) -> Sink:
        """Return the sink for the dead letters of `pipeline`, where its job file names none."""


class Lease:
    """The document as this process last wrote it, and the way to write the next one.

    Args:
        store: where it lives.
        document: what was read from it, or a new one.
        version: the version read; None: there was none.
    """

    def __init__(self, store: Store, document: Checkpoint, version: str | None) -> None:
        self._store = store
        self._version = version
        self.document = document

    def write(self, document: Checkpoint) -> None:
        """Swap `document` in; durable on return.

        Raises:
            Fenced: another process has taken the job over.
            CheckpointError: the write failed.
        """
        document = replace(document, write_nonce=secrets.token_hex(8))
        try:
            self._version = self._store.swap(encode(document), self._version)
        except Conflict:
            self._version = self._recognise(document)
        self.document = document

    def note_output(self) -> None:
        """Note, before the first byte of the job is written, that what stands in its sinks may be its own.

        Raises:
            CheckpointError: as `write`; nothing may be written then.
        """
        if not self.document.wrote:
            self.write(replace(self.document, wrote=True))

    def _recognise(self, document: Checkpoint) -> str:
        """Find out who wrote: this process, whose answer was lost, or another."""
        found = self._store.read()
        current = decode(found[0], self._store.uri) if found else None
        if found and current and current.write_nonce == document.write_nonce:
            return found[1]
        by = f"{current.owner}, epoch {current.epoch}" if current else "somebody who deleted the checkpoint"
        raise Fenced(
            f"job {document.pipeline!r} was taken over by {by} ({self._store.uri}); this process, epoch "
            f"{document.epoch}, stops and touches nothing more"
        )

    def successor(self) -> Checkpoint | None:
        """Return the document as it is now, which may be another process's; None: it is gone.

        Raises:
            CheckpointError: it cannot be read.
        """
        found = self._store.read()
        return decode(found[0], self._store.uri) if found else None

    def check(self) -> None:
        """Make sure that the job is still this process's.

        Raises:
            Fenced: another process has taken it over.
        """
        found = self._store.read()
        if (found[1] if found else None) != self._version:
            self._version = self._recognise(self.document)
