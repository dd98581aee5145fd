"""Servers that keep a client waiting, each at another place of the conversation, until the client leaves."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

# After so many seconds a server gives up, and the test fails: far beyond any deadline of a test.
GIVES_UP_SECONDS = 30.0
# From one byte to the next.
PAUSE_SECONDS = 0.02

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

# What is sent at once, and what is sent again and again; nothing: the server is silent.
TRICKLES: dict[str, tuple[bytes, bytes]] = {
    "nothing": (b"", b""),
    "a status line": (b"HTTP/1.1 200 O", b"K"),
    "a header": (HEAD + b"X-Long: ", b"a"),
    "100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "no body": (HEAD + b"Content-Length: 100000\r\n\r\n", b""),
    "a body": (HEAD + b"Content-Length: 100000\r\n\r\n", b"["),
    "the size of a chunk": (CHUNKED, b"0"),
    "an extension of a chunk": (CHUNKED + b"5;", b"a"),
    "chunks of a byte": (CHUNKED, b"1\r\n[\r\n"),
    "trailers": (CHUNKED + b"2\r\n[]\r\n0\r\n", b"X-Trailer: a\r\n"),
    "an error page": (b"HTTP/1.1 400 Bad\r\nContent-Type: text/plain\r\nContent-Length: 9999\r\n\r\n", b"a"),
    "a greeting of TLS": (b"\x16\x03\x03\x40\x00\x02", b"\0"),
}


class BadServer:
    """Accepts connections, reads what is asked, and trickles; knows whether the client left before it gave up.

    Args:
        first: what is sent at once.
        again: what is sent after that, again and again.
        reached: called once, when a client waits.
        reads: whether it reads what a client sends, after the head of its request.
        waits: whether the client speaks first.
    """

    def __init__(
        self,
        first: bytes,
        again: bytes,
        *,
        reached: Callable[[], object] = lambda: None,
        reads: bool = True,
        waits: bool = True,
    ) -> None:
        self._first = first
        self._again = again
        self._reached = reached
        self._reads = reads
        self._waits = waits
        self._once = threading.Lock()
        self._over = threading.Event()
        self.left = threading.Event()
        self.gave_up = threading.Event()
        self.asked: list[bytes] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> BadServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._server.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._server.close()

    def _accept(self) -> None:
        while not self._over.is_set():
            with suppress(OSError):
                connection, _ = self._server.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            if self._waits:
                self.asked.append(connection.recv(1 << 16))
            connection.sendall(self._first)
            until = time.monotonic() + GIVES_UP_SECONDS
            count = 0
            while time.monotonic() < until and not self._over.wait(PAUSE_SECONDS):
                try:
                    if self._again:
                        connection.sendall(self._again)
                    if self._reads and select.select([connection], [], [], 0)[0] and not connection.recv(1):
                        raise ConnectionError
                except OSError:
                    self.left.set()
                    return
                count += 1
                if count == 3 and self._once.acquire(blocking=False):
                    self._reached()
            if not self._over.is_set():
                self.gave_up.set()


@contextmanager
def full_backlog() -> Iterator[int]:
    """Give a port that takes no connection: those that it may keep waiting are there, and nobody accepts them."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        try:
            yield address[1]
        finally:
            for one in waiting:
                one.close()
