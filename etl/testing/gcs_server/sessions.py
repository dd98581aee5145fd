"""Resumable uploads: where each one stands, in memory and on disk.

A session is kept as `<state>/uploads/<id>.json` beside the bytes that came so far, `<id>.data`, so that it goes on
after the server was killed, too.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from etl.testing.gcs_server.answers import ApiError
from etl.testing.gcs_server.conditions import Conditions
from etl.testing.gcs_server.contents import BLOCK, QUANTUM, Body, BodyBroken, Checksums, Expected, Incoming
from etl.testing.gcs_server.resources import Description, StoredObject
from etl.testing.gcs_server.store import Store, write_json

State = Literal["open", "finished", "cancelled", "expired", "spoilt"]


class Superseded(Exception):
    """Another request for the same session has come while this one was being read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intention:
    """What the request that began an upload said of it."""

    bucket: str
    name: str
    description: Description
    conditions: Conditions
    expected: Expected
    length: int | None

    @classmethod
    def load(cls, values: Mapping[str, Any]) -> Intention:
        """Make it from what `dataclasses.asdict` made of it."""
        return cls(
            bucket=values["bucket"],
            name=values["name"],
            description=Description(**values["description"]),
            conditions=Conditions(**values["conditions"]),
            expected=Expected(**values["expected"]),
            length=values["length"],
        )


@dataclass(slots=True)
class Session:
    """One resumable upload. `lock` guards everything in it; only the newest request may append."""

    id: str
    intention: Intention
    data: Path
    checksums: Checksums
    stored: int = 0
    state: State = "open"
    result: StoredObject | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)
    newest: object = None

    def take_over(self) -> object:
        """Make the caller the newest request: an older one that is still being read stores nothing more.

        A client that lost its connection and asks how far the upload is must be told the last word.
        """
        with self.lock:
            self.newest = object()
            return self.newest

    def append(self, body: Body, count: int, token: object) -> None:
        """Store the next `count` bytes of a body.

        Raises:
            BodyBroken: the connection ended; what came before is stored in multiples of 256 KiB.
            Superseded: a newer request has come; nothing more is stored.
        """
        buffer = memoryview(bytearray(min(BLOCK, count)))
        with Incoming(self.data, self.checksums) as incoming:
            while count:
                view = buffer[: min(len(buffer), count)]
                try:
                    self._append(incoming, view[: body.fill(view)], token)
                except BodyBroken as broken:
                    came = broken.args[0]
                    self._append(incoming, view[: came - came % QUANTUM], token)
                    raise
                count -= len(view)

    def _append(self, incoming: Incoming, view: memoryview, token: object) -> None:
        with self.lock:
            if self.newest is not token or self.state != "open":
                raise Superseded
            incoming.append(view)
            self.stored += len(view)


class Sessions:
    """All resumable uploads of a server; safe to use from many threads."""

    def __init__(self, store: Store, *, md5: bool) -> None:
        self.store = store
        self._md5 = md5
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._limit: int | None = None
        self._limited_requests: int | None = 0
        for path in store.uploads.glob("*.json"):
            self._recover(path)

    def begin(self, intention: Intention) -> Session:
        """Open a session; on return it is on disk."""
        name = uuid4().hex
        session = Session(name, intention, self._data(name), Checksums(md5=self._md5))
        session.data.touch()
        self.keep(session)
        with self._lock:
            self._sessions[name] = session
        return session

    def find(self, name: str) -> Session:
        """Return a session that is open or finished.

        Raises:
            ApiError: 404, there never was one; 410, it has expired or its bytes were refused; 499, it was cancelled.
        """
        with self._lock:
            session = self._sessions.get(name)
        if session is None:
            raise ApiError(404, "notFound", f"No such upload: {name}")
        if session.state == "cancelled":
            raise cancelled()
        if session.state in ("expired", "spoilt"):
            raise ApiError(410, "gone", f"The upload has {session.state}; it must start again: {name}")
        return session

    def finish(self, session: Session, expected: Expected) -> StoredObject:
        """Make the bytes of a session the object.

        Raises:
            ApiError: 412, a precondition no longer holds; 404, the bucket is gone; the session stays open.
                400, the checksums differ; nothing is stored, and the session is spoilt.
        """
        aim = session.intention
        with session.lock:
            try:
                session.checksums.verify(expected.or_else(aim.expected), session.data)
            except ApiError:
                self.close(session, "spoilt")
                raise
            session.result = self.store.commit(
                aim.bucket, aim.name, session.data, session.checksums, aim.description, aim.conditions
            )
            self.close(session, "finished")
            return session.result

    def close(self, session: Session, state: State) -> None:
        """Let a session be no longer open."""
        with session.lock:
            session.state = state
            session.newest = None
            self.keep(session)
            session.data.unlink(missing_ok=True)

    def open_ones(self) -> list[Session]:
        """Return the sessions that are neither finished, nor cancelled, nor lost."""
        with self._lock:
            return [session for session in self._sessions.values() if session.state == "open"]

    def persist_at_most(self, count: int | None, requests: int | None) -> None:
        """Store at most `count` bytes of a request, rounded down to 256 KiB; None: all of them.

        Args:
            count: in bytes.
            requests: of how many requests; None: of each one from now on.
        """
        with self._lock:
            self._limit = count
            self._limited_requests = requests

    def take_limit(self) -> int | None:
        """Return how many bytes of the request at hand may be stored; None: all."""
        with self._lock:
            if self._limit is None or self._limited_requests == 0:
                return None
            if self._limited_requests is not None:
                self._limited_requests -= 1
            return self._limit - self._limit % QUANTUM

    def keep(self, session: Session) -> None:
        """Write down what must be known of a session after a restart."""
        values = {
            "intention": asdict(session.intention),
            "state": session.state,
            "result": asdict(session.result) if session.result else None,
        }
        write_json(self.store.uploads / f"{session.id}.json", values)

    def _data(self, name: str) -> Path:
        return self.store.uploads / f"{name}.data"

    def _recover(self, path: Path) -> None:
        """Read a session of a server that is gone."""
        values = json.loads(path.read_text())
        data = self._data(path.stem)
        session = Session(path.stem, Intention.load(values["intention"]), data, Checksums(md5=self._md5))
        session.state = values["state"]
        if values["result"]:
            session.result = StoredObject.load(values["result"])
        elif data.name in self.store.origins:  # killed between the object and this line of its session
            session.state, session.result = "finished", self.store.origins[data.name]
        if session.state == "open":
            session.stored = reread(data, session.checksums.update)
        else:
            data.unlink(missing_ok=True)
        self._sessions[path.stem] = session


def reread(data: Path, update: Callable[[memoryview], None]) -> int:
    """Take a file of unfinished bytes in again; return its length, cut to a multiple of 256 KiB."""
    length = data.stat().st_size // QUANTUM * QUANTUM
    with data.open("r+b") as file:
        file.truncate(length)
        while block := file.read(BLOCK):
            update(memoryview(block))
    return length


def cancelled() -> ApiError:
    """Return what is answered to the DELETE of a session, and to whatever comes after it.

    Source: https://cloud.google.com/storage/docs/performing-resumable-uploads#cancel-upload
    """
    return ApiError(499, "cancelled", "Client Closed Request: the upload was cancelled.")
