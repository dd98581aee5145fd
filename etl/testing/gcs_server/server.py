"""The server: threads, connections, and HTTP/1.1 around the routes."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from etl.testing.gcs_server.answers import Answer, ApiError, Slice, invalid
from etl.testing.gcs_server.contents import Body, BodyBroken
from etl.testing.gcs_server.requests import Request
from etl.testing.gcs_server.routes import answer
from etl.testing.gcs_server.sessions import Sessions, Superseded
from etl.testing.gcs_server.store import Store

logger = logging.getLogger(__name__)

# A connection on which nothing comes for so long is closed, in seconds: a client that was stopped inside of a request.
PATIENCE = 300.0


class GcsServer:
    """A strict Google Cloud Storage server for tests, on 127.0.0.1.

    It keeps its objects as `<root>/<bucket>/<object name>`, where other programs may read them, and all else (what is
    known of them, uploads that are not finished) in a folder beside `root`. Both survive the server: another one over
    the same root goes on where this one was stopped or killed. Two at once over one root are not supported.

        with GcsServer(tmp_path / "gcs") as server:
            server.create_bucket("parts")
            os.environ.update(server.environment())
            google.cloud.storage.Client().bucket("parts").blob("1").upload_from_string(b"…")
            assert server.objects("parts") == {"1": 3}

    Args:
        root: where the objects are; made when it is missing.
        port: 0 takes a free one.
        state: where all else is; by default `<root>.state`. On the same file system as `root`.
        md5: whether objects have an `md5Hash`. Without it, as composed objects are, large uploads go faster.
    """

    def __init__(
        self, root: str | os.PathLike[str], *, port: int = 0, state: Path | None = None, md5: bool = True
    ) -> None:
        self.root = Path(root)
        self.state = state or self.root.with_name(f"{self.root.name}.state")
        self._store = Store(self.root, self.state, md5=md5)
        self._sessions = Sessions(self._store, md5=md5)
        self._port = port
        self._http: Listener | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Return `http://127.0.0.1:PORT`; the port stays the same when the server is stopped and started again."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> Self:
        """Listen, and serve in threads of this process; on return the server is ready."""
        self._http = Listener(self._port, self._sessions)
        self._port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.accept_all, name="gcs-server", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Break all connections and listen no more; may be called twice."""
        if self._http and self._thread:
            self._http.stop_accepting()
            self._thread.join()
            self._http.server_close()
            self._http.break_connections()
        self._http = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def environment(self) -> dict[str, str]:
        """Return what makes Google's clients come here, and look for no credentials elsewhere."""
        return {
            "STORAGE_EMULATOR_HOST": self.url,
            "NO_GCE_CHECK": "true",
            "GCE_METADATA_HOST": "127.0.0.1:9",
        }

    def create_bucket(self, name: str) -> None:
        """Make a bucket.

        Raises:
            ApiError: it exists, or the name is none for a bucket.
        """
        self._store.create_bucket(name)

    def configure(self, bucket: str, resource: Mapping[str, Any]) -> None:
        """Change what a bucket demands, as a PATCH of its resource does.

        Args:
            bucket: the bucket.
            resource: any of `retentionPolicy` (`{"retentionPeriod": seconds}`; None: none), `defaultEventBasedHold`,
                `billing` (`{"requesterPays": True}`).

        Raises:
            ApiError: there is no such bucket, or a value makes no sense.
        """
        self._store.configure(bucket, self._store.policies(bucket).patched(bucket, resource))

    def objects(self, bucket: str) -> dict[str, int]:
        """Return the names and sizes in bytes of a bucket's finished objects.

        Raises:
            ApiError: there is no such bucket.
        """
        return {name: found.size for name, found in sorted(self._store.objects(bucket).items())}

    def sessions(self) -> int:
        """Return how many resumable uploads are open: neither finished, nor deleted, nor lost."""
        return len(self._sessions.open_ones())

    def persist_at_most(self, count: int | None, *, requests: int | None = 1) -> None:
        """Store less of a chunk than was sent, as the real service may: the client hears of it by a short 308.

        Args:
            count: in bytes, rounded down to a multiple of 256 KiB; None: store everything again.
            requests: of how many of the next requests with a chunk; None: of each one.
        """
        self._sessions.persist_at_most(count, requests)

    def expire_sessions(self) -> None:
        """Lose all open uploads, as the real service does after a week: what comes for them is answered 410."""
        for session in self._sessions.open_ones():
            self._sessions.close(session, "expired")


class Listener(ThreadingHTTPServer):
    """Accepts connections, and knows those that are open."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int, sessions: Sessions) -> None:
        self.sessions = sessions
        self._connections: set[socket.socket] = set()
        self._changed = threading.Condition()
        self._stopping = False
        super().__init__(("127.0.0.1", port), Connection)

    def accept_all(self) -> None:
        """Serve each connection in a thread, until told to stop; unlike `serve_forever`, that is heard at once."""
        while True:
            try:
                connection, address = self.get_request()
            except ConnectionAbortedError:
                continue  # it ended before it was accepted
            if self._stopping:
                connection.close()
                return
            self.process_request(connection, address)

    def stop_accepting(self) -> None:
        """Let `accept_all` return: it is woken by one last connection."""
        self._stopping = True
        socket.create_connection(("127.0.0.1", self.server_port)).close()

    def opened(self, connection: socket.socket) -> None:
        """Note a connection that is being served."""
        with self._changed:
            self._connections.add(connection)

    def closed(self, connection: socket.socket) -> None:
        """Forget a connection that is served no more."""
        with self._changed:
            self._connections.discard(connection)
            self._changed.notify_all()

    def break_connections(self) -> None:
        """End all connections, and wait until nobody serves one, for 10 seconds at the most."""
        with self._changed:
            for connection in self._connections:
                with suppress(OSError):  # it has ended already
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._connections, timeout=10.0)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 -- socketserver's
        """Clients that vanish are what this server is for; anything else is its own mistake, and is logged."""
        if not isinstance(sys.exc_info()[1], OSError):
            logger.exception("A connection from %s failed", client_address)


class Connection(BaseHTTPRequestHandler):
    """Reads requests from one connection, and writes answers."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = PATIENCE
    wbufsize = 64 * 1024  # head and body leave in one piece: two would cost a round trip
    server: Listener

    def setup(self) -> None:
        """Begin to serve the connection."""
        super().setup()
        self.server.opened(self.connection)

    def finish(self) -> None:
        """End it."""
        try:
            super().finish()
        finally:
            self.server.closed(self.connection)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""

    def serve(self) -> None:
        """Answer the request whose head was read."""
        split = urlsplit(self.path)
        chunked = self.headers.get("Transfer-Encoding", "").lower() == "chunked"
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal():
            self.close_connection = True  # nobody knows where the next request begins
            self._send(invalid(f"Invalid Content-Length: {length!r}").answer())
            return
        body = Body(self.rfile, None if chunked else int(length))
        request = Request(
            method=self.command,
            path=split.path,
            query=dict(parse_qsl(split.query, keep_blank_values=True)),
            headers=self.headers,
            body=body,
            url=f"http://{self.headers.get('Host') or '{}:{}'.format(*self.server.server_address)}",
        )
        try:
            found = self._answer(request)
            body.skip()  # so that the client is done sending, and reads
        except (BodyBroken, Superseded):
            self.close_connection = True  # there is nobody to answer
        else:
            self._send(found)

    do_DELETE = do_GET = do_PATCH = do_POST = do_PUT = serve  # noqa: N815 -- the names are http.server's

    def handle_expect_100(self) -> bool:
        """Let a client that asks first go on; at once, for it is waiting."""
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def _answer(self, request: Request) -> Answer:
        try:
            return answer(request, self.server.sessions)
        except ApiError as error:
            return error.answer()
        except (BodyBroken, Superseded):
            raise
        except Exception as error:
            logger.exception("%s %s failed", request.method, request.path)
            return ApiError(500, "internalError", f"{type(error).__name__}: {error}").answer()

    def _send(self, found: Answer) -> None:
        body = found.body
        bodiless = found.status in (204, 304)
        self.send_response(
            found.status, {308: "Resume Incomplete", 499: "Client Closed Request"}.get(found.status)
        )
        for name, value in found.headers:
            self.send_header(name, value)
        if not bodiless:
            self.send_header("Content-Length", str(body.count if isinstance(body, Slice) else len(body)))
        self.end_headers()
        if isinstance(body, Slice):
            self.wfile.flush()
            with body.file:
                if body.count:  # to sendfile, 0 means all
                    self.connection.sendfile(body.file, body.first, body.count)
        elif not bodiless:
            self.wfile.write(body)
