"""A web server whose answers a function makes, and that breaks them off where it is told to."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from http.client import responses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a client asked.

    Attributes:
        number: counted from 0 over the server's life.
        method: GET …
        path: without the query; of a proxy, the whole URL.
        query: each parameter's last value.
        headers: names in lower case.
        at: when it came, on the monotonic clock, in seconds.
        connection: which connection it came on, counted from 0.
        body: what came with it.
    """

    number: int
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    at: float
    connection: int
    body: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the server says.

    Attributes:
        status: the HTTP status.
        headers: added to `Content-Length` or `Transfer-Encoding`; a `Content-Length` here may be a lie, after
            which the connection is closed.
        body: the content. Pieces are sent in chunks, unless `headers` gives a length.
        chunked: send a whole body in chunks too.
        until_close: give neither a length nor chunks: the body ends when the connection does.
        cut_after: close the connection after so many bytes of the body.
        reset: break it, rather than close it in order.
        stall_after: after so many bytes of the body send nothing more, until the client leaves or the test ends.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Iterable[bytes] = b""
    chunked: bool = False
    until_close: bool = False
    cut_after: int | None = None
    reset: bool = False
    stall_after: int | None = None


class WebServer:
    """Serves on an address of this machine and a free port while its `with` lasts.

    Args:
        answer: makes the answers, on the thread of the connection; what it raises breaks the connection, and is
            raised again at the end of the `with`.
        certificate: a file with a certificate and its key: serve TLS.
        host: another address of this machine to serve on.

    Attributes:
        requests: what was asked so far.
    """

    def __init__(
        self,
        answer: Callable[[Request], Answer],
        *,
        certificate: str | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.failures: list[BaseException] = []
        self._lock = threading.Lock()
        self._connections = 0
        self._waker, self._closing = socket.socketpair()
        self._host = host
        self._server = _Server((host, 0), _Handler)
        self._server.web = self
        self._scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.tls = context
            self._scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The URL of the server, without a slash at its end."""
        return f"{self._scheme}://{self._host}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._waker.close()  # wakes those that stall
        self._server.shutdown()
        self._server.close_connections()
        self._server.server_close()
        self._thread.join()
        self._closing.close()
        if self.failures and exception[0] is None:
            raise self.failures[0]

    def connected(self) -> int:
        """Count a connection."""
        with self._lock:
            self._connections += 1
            return self._connections - 1

    def heard(
        self, method: str, target: str, headers: Mapping[str, str], connection: int, body: bytes
    ) -> Request:
        """Note a request."""
        parts = urlsplit(target)
        with self._lock:
            request = Request(
                number=len(self.requests),
                method=method,
                path=target.partition("?")[0],
                query={name: values[-1] for name, values in parse_qs(parts.query, True).items()},
                headers={name.lower(): value for name, value in headers.items()},
                at=time.monotonic(),
                connection=connection,
                body=body,
            )
            self.requests.append(request)
        return request

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than the test lasts: for answers that are meant to be slow."""
        select.select([self._closing], [], [], seconds)

    def stall(self, connection: socket.socket) -> None:
        """Wait until the client leaves or the test ends."""
        select.select([connection, self._closing], [], [])


def ranged(
    request: Request,
    content: bytes,
    *,
    etag: str | None = None,
    last_modified: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Answer as RFC 9110, section 14, has it: one range, `If-Range` by strong comparison, 206, 416 or the whole."""
    said = {"Accept-Ranges": "bytes", **(headers or {})}
    if etag is not None:
        said["ETag"] = etag
    if last_modified is not None:
        said["Last-Modified"] = last_modified
    condition = request.headers.get("if-range")
    strong = etag if etag is not None and not etag.startswith("W/") else None
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    if match is None or match[0] == "bytes=-" or condition not in (None, strong, last_modified):
        return Answer(headers=said, body=content)
    first, last = match[1], match[2]
    begin = int(first) if first else max(len(content) - int(last), 0)
    end = min(int(last) + 1, len(content)) if first and last else len(content)
    if begin >= end:
        return Answer(status=416, headers={**said, "Content-Range": f"bytes */{len(content)}"})
    said["Content-Range"] = f"bytes {begin}-{end - 1}/{len(content)}"
    return Answer(status=206, headers=said, body=content[begin:end])


def cut(answer: Answer, after: int) -> Answer:
    """Return the answer, broken off after so many bytes of its body."""
    return replace(answer, cut_after=after)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True
    web: WebServer
    tls: ssl.SSLContext | None = None

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.tls is not None:
            try:
                request = self.tls.wrap_socket(request, server_side=True)
            except OSError:  # the client does not trust us
                return
        try:
            super().finish_request(request, client_address)
        finally:
            if self.tls is not None:
                with contextlib.suppress(OSError):
                    request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # kept by the handler


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self._number = self.server.web.connected()

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        web = self.server.web
        try:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = web.heard(self.command, self.path, dict(self.headers.items()), self._number, body)
            self._say(web.answer(request))
        except OSError:
            self.close_connection = True  # the client left
        except BaseException as error:
            web.failures.append(error)
            self.close_connection = True

    do_HEAD = do_CONNECT = do_POST = do_GET  # noqa: N815 - so the base class calls them

    def _say(self, answer: Answer) -> None:
        whole = answer.body if isinstance(answer.body, bytes) else None
        headers = {"Date": self.date_time_string(), **answer.headers}
        told = {name.lower() for name in headers}
        chunked = answer.chunked or (
            whole is None and not answer.until_close and "content-length" not in told
        )
        if answer.until_close:
            self.close_connection = True
        elif chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif "content-length" not in told and whole is not None:
            headers["Content-Length"] = str(len(whole))
        elif whole is not None:
            self.close_connection = True  # the length may be a lie
        if self.close_connection:
            headers.setdefault("Connection", "close")
        head = f"HTTP/1.1 {answer.status} {responses.get(answer.status, 'Unknown')}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
        self._ahead = head.encode("latin-1")
        if self.command == "HEAD":
            self._flush()
            return
        stop = min((n for n in (answer.cut_after, answer.stall_after) if n is not None), default=None)
        sent = 0
        for piece in (whole,) if whole is not None else answer.body:
            assert isinstance(piece, bytes)
            part = piece if stop is None else piece[: stop - sent]
            sent += len(part)
            if part:
                self._ahead += b"%x\r\n%s\r\n" % (len(part), part) if chunked else part
                self._flush()
            if stop is not None and sent == stop:
                self._flush()
                self._break(answer)
                return
        if chunked:
            self._ahead += b"0\r\n\r\n"
        self._flush()

    def _flush(self) -> None:
        ahead, self._ahead = self._ahead, b""
        self.connection.sendall(ahead)

    def _break(self, answer: Answer) -> None:
        self.close_connection = True
        if answer.stall_after is not None and (
            answer.cut_after is None or answer.stall_after < answer.cut_after
        ):
            self.server.web.stall(self.connection)
        if answer.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()
