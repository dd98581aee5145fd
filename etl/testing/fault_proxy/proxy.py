"""The proxy: a thread for each connection reads a request, passes it on, and passes the answer back."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from urllib.parse import urlsplit

from etl.testing.fault_proxy.answers import head_and_body
from etl.testing.fault_proxy.counter import Counter, Seen
from etl.testing.fault_proxy.faults import (
    Answer,
    CutRequest,
    Damage,
    Delay,
    Drop,
    Fault,
    Kill,
    Stop,
    Truncate,
    kill,
    stop,
)
from etl.testing.fault_proxy.messages import Broken, Head, Peer

# So much of an answer's body, in bytes, is read before a fault strikes "after". An answer that is longer is a
# download: then what it does at the server is done once the head is there.
HELD = 1024 * 1024

# A connection to the server is used again only when it lay idle for less than so many seconds: the server may
# close an older one just as a request is sent, and that would be a fault that nobody asked for.
IDLE = 1.0

# How long, in seconds, a server may take to notice that a request was cut short.
NOTICE = 10.0


class FaultProxy:
    """Pass requests on to an HTTP server on this machine, and make chosen ones go wrong; a context manager.

    HTTP/1.1 with connections that are kept alive; bodies go by in pieces and are never held whole. The Host header
    is passed on as it is, so that the addresses that a server builds from it lead through the proxy again.

    Args:
        target: The server, as `http://127.0.0.1:PORT`.
        counter: Who numbers the requests; give several proxies the same one, and "the Nth" counts over all of them.

    Attributes:
        log: The requests that came by here; those of all proxies that share the counter are in `counter.log`.
    """

    def __init__(self, target: str, *, counter: Counter | None = None) -> None:
        address = urlsplit(target)
        if address.scheme != "http" or not address.hostname or not address.port:
            raise ValueError(f"the target is http://HOST:PORT, not {target!r}")
        self.target = (address.hostname, address.port)
        self.counter = counter or Counter()
        self.log: list[Seen] = []
        self._listener: socket.socket | None = None
        self._connections: dict[threading.Thread, _Connection] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()

    @property
    def url(self) -> str:
        """The address of the proxy, without a slash at the end."""
        if self._listener is None:
            raise RuntimeError("the proxy has no address before it is entered")
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def at(self, nth: int, fault: Fault, *, of: Callable[[Head], bool] | None = None) -> None:
        """Have a fault strike at the nth request from now on: see `Counter.at`."""
        self.counter.at(nth, fault, of=of)

    def __enter__(self) -> FaultProxy:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections, also those in the middle of a request, and wait for their threads."""
        if self._listener is None:
            return
        self._closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts, on Linux
        with self._lock:
            connections = dict(self._connections)
        for thread, connection in connections.items():
            connection.wake()
            thread.join()
        self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _address = listener.accept()
            except OSError:  # it was closed
                return
            try:
                connection = _Connection(self, client)
            except OSError:  # it has gone already
                client.close()
                continue
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            with self._lock:
                if self._closing.is_set():
                    connection.close()
                    return
                self._connections[thread] = connection
                thread.start()

    def _serve(self, connection: _Connection) -> None:
        try:
            connection.serve()
        except OSError:
            pass  # one of the two went away: that is what the other one is to see
        finally:
            connection.close()
            with self._lock:
                self._connections.pop(threading.current_thread(), None)

    @property
    def closing(self) -> bool:
        """Whether the proxy is being left."""
        return self._closing.is_set()

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the end of the proxy."""
        self._closing.wait(seconds)


class _Connection:
    """A client's connection, and the one to the server that its requests go over."""

    def __init__(self, proxy: FaultProxy, client: socket.socket) -> None:
        self._proxy = proxy
        self._client = Peer(client)
        self._server: Peer | None = None
        self._used = 0.0

    def wake(self) -> None:
        """End both sides, so that the thread that waits for one of them goes on; for other threads."""
        for peer in (self._client, self._server):
            if peer is not None:
                with contextlib.suppress(OSError):
                    peer.connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close both sides."""
        for peer in (self._client, self._server):
            if peer is not None:
                peer.connection.close()

    def serve(self) -> None:
        """Handle requests until the connection ends."""
        while (head := self._client.head()) is not None:
            fault = self._proxy.counter.take(head, self._proxy.log)
            if not self._exchange(head, fault):
                return

    def _exchange(self, head: Head, fault: Fault | None) -> bool:
        """Handle one request; return whether the connection goes on."""
        if isinstance(fault, (Kill, Stop, Drop, Delay, Answer)) and fault.when == "before":
            self._strike(fault)
            if isinstance(fault, (Kill, Drop)):
                return False
            if isinstance(fault, Answer):
                self._go_ahead(head)
                for _piece in self._client.request_body(head):
                    pass
                return self._answer(fault, head)
        if isinstance(fault, CutRequest):
            self._cut(head, fault)
            return False
        server, answer = self._ask(head)
        body = server.answer_body(answer, head.method)
        held: list[bytes] = []
        if isinstance(fault, (Kill, Stop, Drop, Delay, Answer)) and fault.when == "after":
            size = 0
            while size < HELD and (piece := next(body, b"")):
                held.append(piece)
                size += len(piece)
            self._strike(fault)
            if isinstance(fault, (Kill, Drop)):
                return False
            if isinstance(fault, Answer):
                for _piece in body:
                    pass
                self._used = time.monotonic()
                return self._answer(fault, head)
        self._client.send(answer.raw)
        if isinstance(fault, Truncate):
            for piece in _at_most(fault.bytes, body):
                self._client.send(piece)
            fault.happened.set()
            return False
        if isinstance(fault, Damage):
            fault.happened.set()
            body = _damaged(fault.at, body)
        for piece in held:
            self._client.send(piece)
        for piece in body:
            self._client.send(piece)
        self._used = time.monotonic()
        endless = not answer.chunked and answer.length is None and answer.status not in (204, 304)
        return not (head.last or answer.last or (endless and head.method != "HEAD"))

    def _strike(self, fault: Fault) -> None:
        if isinstance(fault, (Kill, Stop)):
            pid = fault.pid() if callable(fault.pid) else fault.pid
            (kill if isinstance(fault, Kill) else stop)(pid)
        elif isinstance(fault, Delay):
            self._proxy.pause(fault.seconds)
        fault.happened.set()

    def _ask(self, head: Head) -> tuple[Peer, Head]:
        """Pass a request on, and return the server with the head of its answer."""
        server = self._connect()
        self._go_ahead(head)
        server.send(head.without("expect"))
        wanted = True
        for piece in self._client.request_body(head):
            if wanted:
                try:
                    server.send(piece)
                except OSError:
                    wanted = False  # it closed, and may have said why: the client hears of it as soon as it listens
        while (answer := server.head()) is not None and answer.status < 200:
            pass
        if answer is None:
            raise Broken("the server closed the connection without an answer")
        return server, answer

    def _connect(self) -> Peer:
        if self._server is not None:
            if time.monotonic() - self._used < IDLE and self._server.idle:
                return self._server
            self._server.connection.close()
        self._server = Peer(socket.create_connection(self._proxy.target))
        if self._proxy.closing:  # nobody would wake a thread that waits for this one
            raise Broken("the proxy is closing")
        return self._server

    def _go_ahead(self, head: Head) -> None:
        """Let a client that waits to be told to send its body do so."""
        if head.headers.get("expect", "").lower() == "100-continue":
            self._client.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _cut(self, head: Head, fault: CutRequest) -> None:
        server = self._connect()
        self._go_ahead(head)
        with contextlib.suppress(OSError):
            server.send(head.without("expect"))
            for piece in _at_most(fault.bytes, self._client.request_body(head)):
                server.send(piece)
            server.connection.shutdown(socket.SHUT_WR)
            server.connection.settimeout(NOTICE)
            while server.connection.recv(65536):
                pass
        fault.happened.set()

    def _answer(self, fault: Answer, head: Head) -> bool:
        """Answer in place of the server; return whether the connection goes on."""
        own_head, body = head_and_body(fault)
        self._client.send(own_head if head.method == "HEAD" else own_head + body)
        return not head.last


def _damaged(at: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield a body with one byte changed in all its bits."""
    for piece in pieces:
        if 0 <= at < len(piece):
            yield piece[:at] + bytes([piece[at] ^ 0xFF]) + piece[at + 1 :]
        else:
            yield piece
        at -= len(piece)


def _at_most(count: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the first bytes of a body, and take no more of it than the piece that has the last of them."""
    while count > 0 and (piece := next(pieces, b"")):
        yield piece[:count]
        count -= len(piece)
