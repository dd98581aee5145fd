"""A small HTTP server that notes what reaches it, for the fault proxy to stand in front of."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Target(ThreadingHTTPServer):
    """Answers a PUT with what it got, a GET /bytes/N with N bytes, /chunks/N in chunks; notes what it saw."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str]] = []
        self.cut_at: list[int] = []
        self.hosts: set[str] = set()
        self.noticed = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a connection that broke: the proxy is made for it


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Target

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def note(self) -> None:
        self.server.seen.append((self.command, self.path))
        self.server.hosts.add(self.headers["Host"])

    def reply(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        self.note()
        words = self.path.strip("/").split("/")
        if words[0] == "nothing":
            self.send_response(204)
            self.end_headers()
        elif words[0] == "chunks":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for number in range(int(words[1])):
                self.wfile.write(b"5;x=y\r\n%05d\r\n" % number)
            self.wfile.write(b"0\r\nTrailer: yes\r\n\r\n")
        elif words[0] == "endless":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"until the end")
            self.close_connection = True
        else:
            self.reply(b"x" * int(words[1]) if words[0] == "bytes" else self.path.encode())

    do_HEAD = do_GET  # noqa: N815 - the name is http.server's

    def do_PUT(self) -> None:
        self.note()
        digest, size = hashlib.sha256(), 0
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while length := int(self.rfile.readline(), 16):
                digest.update(self.rfile.read(length))
                size += length
                self.rfile.readline()
            self.rfile.readline()
        else:
            expected = int(self.headers["Content-Length"])
            while size < expected and (piece := self.rfile.read1(min(65536, expected - size))):
                digest.update(piece)
                size += len(piece)
            if size < expected:
                self.server.cut_at.append(size)
                self.server.noticed.set()
                self.close_connection = True
                return
        self.reply(f"{size} {digest.hexdigest()}".encode())


@contextmanager
def serving() -> Iterator[Target]:
    with Target() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)
