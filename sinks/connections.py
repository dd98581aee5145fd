"""HTTP connections whose every wait has a deadline, and may be ended from outside.

A timeout of `requests` counts from one byte to the next, so that a server which sends one now and then holds a client
for days; a name server that does not answer holds it as long as the C library likes. Here each wait is cut into
slices, after each of which the clock and the `Guard` are looked at:

- a name is resolved, the connection made and TLS agreed on within the timeout for connecting, all together;
- what one call sends is sent within the timeout that the socket has;
- an answer's head, with all that comes before it (100 Continue), has come within the timeout for reading;
- while its body comes, no wait for some of it is longer than that, and over the time that was spent waiting it comes
  at `Guard.least_speed`.

A signal that Python handles interrupts a wait, and what the handler has set is seen within a slice.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import urllib3.exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.connection import allowed_gai_family
from urllib3.util.ssl_ import create_urllib3_context, resolve_cert_reqs, resolve_ssl_version
from urllib3.util.wait import wait_for_write

from sinks.hurry import SLICE

if TYPE_CHECKING:
    import requests
    from requests.adapters import HTTPAdapter

T = TypeVar("T")

# So much of a body, in bytes, is progress: a byte now and then is none.
PROGRESS_BYTES = 1024


class Guard(Protocol):
    """What the connections of a session ask while they wait. Called on the thread that waits.

    Attributes:
        least_speed: the bytes a second with which the body of an answer must come; 0: any.
    """

    least_speed: float

    def look(self, idle: float) -> None:
        """Return if the wait may go on.

        Args:
            idle: for how many seconds nothing has come or gone but some bytes.

        Raises:
            TimeoutError: it has gone on for too long: the request fails, and may be made again.
            Exception: goes through to the caller of the session.
        """

    def may_connect(self, address: str, *, proxied: bool) -> None:
        """Return if a connection may be made to an address, which a name was resolved to.

        Args:
            address: of IPv4 or IPv6.
            proxied: it is a proxy's.

        Raises:
            Exception: it may not; goes through to the caller of the session.
        """

    def connected(self, address: str, *, proxied: bool) -> None:
        """Return if a request may be sent to an address, over a connection that is made; as `may_connect`."""


def guard_session(session: requests.Session, guard: Guard) -> None:
    """Let a guard watch the connections that a session makes from now on. Proxies of SOCKS are left as they are."""
    for adapter in session.adapters.values():
        _guard_adapter(adapter, guard)  # type: ignore[arg-type]  # all that requests and Google's clients mount are


def _guard_adapter(adapter: HTTPAdapter, guard: Guard) -> None:
    classes = {
        "http": type(
            "HTTPConnectionPool",
            (HTTPConnectionPool,),
            {"ConnectionCls": _named("HTTPConnection", _Guarded, guard)},
        ),
        "https": type(
            "Pool", (HTTPSConnectionPool,), {"ConnectionCls": _named("HTTPSConnection", _Tls, guard)}
        ),
    }
    adapter.poolmanager.pool_classes_by_scheme = classes
    make = adapter.proxy_manager_for

    def proxy_manager_for(proxy: str, **options: Any) -> Any:
        manager = make(proxy, **options)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = classes
        return manager

    adapter.proxy_manager_for = proxy_manager_for  # type: ignore[method-assign]  # of an adapter that others made


def _named(name: str, kind: type[T], guard: Guard) -> type[T]:
    """Make a class that knows its guard, called as urllib3 calls it in messages."""
    return type(name, (kind,), {"guard": guard})


class _Waits(socket.socket):
    """A socket whose calls wait in slices."""

    guard: Guard
    until = float("inf")  # the end of what is read now, whatever comes, on the monotonic clock
    _patience: float | None = None
    _in_body = False
    _idle = 0.0  # the seconds that were waited since an answer's head, or the last KiB of its body, has come
    _come = 0
    _seconds = 0.0
    _bytes = 0

    def settimeout(self, value: float | None) -> None:
        """Say for how long one call may wait."""
        self._patience = value
        super().settimeout(SLICE if value is None else min(value, SLICE))

    def gettimeout(self) -> float | None:
        """Return for how long one call may wait."""
        return self._patience

    def recv_into(self, *arguments: Any) -> int:
        """Receive some bytes; as `socket.recv_into`."""
        began = time.monotonic()
        call = super().recv_into
        size = self.patiently(lambda: call(*arguments), self.until, self._idle)
        seconds = time.monotonic() - began
        self._idle += seconds
        if self._in_body:
            self._come += size
            if self._come >= PROGRESS_BYTES:
                self._idle, self._come = 0.0, 0
            self._see_that_it_is_fast(size, seconds)
        return size

    def recv(self, *arguments: Any) -> bytes:
        """Receive some bytes; as `socket.recv`."""
        call = super().recv
        return self.patiently(lambda: call(*arguments), self.until)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of it; as `socket.sendall`, whose timeout counts over the whole of it."""
        call = super().send
        until = self._end()
        with memoryview(data) as view, view.cast("B") as octets:
            sent = 0
            while sent < len(octets):
                # TLS wants the same bytes again after a wait that was cut
                sent += self.patiently(lambda: call(octets[sent:], flags), until)  # noqa: B023 - called at once

    def patiently(self, call: Callable[[], T], until: float, idle: float = 0.0) -> T:
        """Call what waits for a slice until it returns; `idle` seconds were waited in vain before."""
        began = time.monotonic()
        until = min(until, self._end())
        while True:
            now = time.monotonic()
            self.guard.look(idle + now - began)
            if now >= until:
                raise TimeoutError("timed out")
            try:
                return call()
            except TimeoutError:
                continue

    def begin_body(self) -> None:
        """The head of an answer has come, its body begins."""
        self.until = float("inf")
        self._in_body, self._seconds, self._bytes = True, 0.0, 0
        self._idle, self._come = 0.0, 0

    def begin_head(self, seconds: float | None) -> None:
        """An answer is waited for, whose head must have come in so many seconds."""
        self._in_body = False
        self._idle = 0.0
        if seconds is not None:
            self.until = time.monotonic() + seconds

    def _end(self) -> float:
        return float("inf") if self._patience is None else time.monotonic() + self._patience

    def _see_that_it_is_fast(self, size: int, seconds: float) -> None:
        self._seconds += seconds
        self._bytes += size
        window = self._patience
        if window is None or self._seconds < window:
            return
        if size and self._bytes < self.guard.least_speed * self._seconds:
            raise TimeoutError("timed out")  # it sends, but too slowly
        self._seconds, self._bytes = 0.0, 0


class _TlsSocket(_Waits, ssl.SSLSocket):
    """One that speaks TLS."""

    def do_handshake(self, block: bool = False) -> None:
        """Agree on keys; as `ssl.SSLSocket.do_handshake`, within the time that is left for connecting."""
        call = super().do_handshake
        try:
            self.patiently(lambda: call(block), self._end())
        except BaseException:
            self.close()  # `ssl` does so for errors of its own alone
            raise


class _Guarded(HTTPConnection):
    """A connection that asks a guard while it waits."""

    guard: Guard

    def request(self, *arguments: Any, **options: Any) -> None:
        """Send a request, where the guard lets it go."""
        if self.sock is None:
            self.connect()
        self.guard.connected(self.sock.getpeername()[0], proxied=self.proxy is not None)
        super().request(*arguments, **options)

    def connect(self) -> None:
        """Connect, and let what is sent take as long as that may."""
        super().connect()
        self.sock.settimeout(self.timeout)

    def getresponse(self) -> Any:
        """Wait for the head of an answer."""
        sock = self.sock
        if not isinstance(sock, _Waits):  # TLS within TLS: a proxy that is asked by https
            return super().getresponse()
        sock.begin_head(self.timeout)
        response = super().getresponse()
        sock.begin_body()
        return response

    def _new_conn(self) -> socket.socket:
        """Resolve the name, and connect; errors are those that urllib3 raises."""
        began = time.monotonic()
        until = float("inf") if self.timeout is None else began + self.timeout
        try:
            sock = self._connected(until)
        except socket.gaierror as error:
            raise urllib3.exceptions.NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise urllib3.exceptions.ConnectTimeoutError(
                self, f"Connection to {self.host} timed out. (connect timeout={self.timeout})"
            ) from error
        except OSError as error:
            raise urllib3.exceptions.NewConnectionError(
                self, f"Failed to establish a new connection: {error}"
            ) from error
        if self.timeout is not None:  # what is left is for the proxy and TLS
            sock.begin_head(max(until - time.monotonic(), SLICE))
            sock.settimeout(max(until - time.monotonic(), SLICE))
        return sock

    def _connected(self, until: float) -> _Waits:
        failed: OSError = OSError("the name has no addresses")
        host = self._dns_host.strip("[]")
        for family, kind, protocol, _, address in _addresses(host, self.port, self.guard, until):
            self.guard.may_connect(address[0], proxied=self.proxy is not None)
            sock = _named("Socket", _Waits, self.guard)(family, kind, protocol)
            try:
                for option in self.socket_options or ():
                    sock.setsockopt(*option)
                _connect(sock, address, self.guard, until)
            except BaseException as error:
                sock.close()
                if not isinstance(error, OSError) or time.monotonic() >= until:
                    raise
                failed = error
            else:
                return sock
        raise failed


class _Tls(_Guarded, HTTPSConnection):
    """A connection with TLS."""

    def connect(self) -> None:
        """Connect, and agree on keys."""
        if self.ssl_context is None:
            self.ssl_context = create_urllib3_context(
                ssl_version=resolve_ssl_version(self.ssl_version),
                ssl_minimum_version=self.ssl_minimum_version,
                ssl_maximum_version=self.ssl_maximum_version,
                cert_reqs=resolve_cert_reqs(self.cert_reqs),
            )
        self.ssl_context.sslsocket_class = _named("TlsSocket", _TlsSocket, self.guard)
        super().connect()


def _addresses(host: str, port: int, guard: Guard, until: float) -> list[Any]:
    """Resolve a name, in a thread: the C library asks name servers for as long as it likes.

    Raises:
        socket.gaierror: it has no address, or there was no answer by then.
    """
    family = allowed_gai_family()
    try:  # no name server is asked
        return socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
    except OSError:
        pass
    try:
        host.encode("idna")
    except UnicodeError:
        raise urllib3.exceptions.LocationParseError(f"'{host}', label empty or too long") from None
    found: list[Any] = []
    failed: list[Exception] = []
    done = threading.Event()

    def look_up() -> None:
        try:
            found.extend(socket.getaddrinfo(host, port, family, socket.SOCK_STREAM))
        except Exception as error:  # raised below, in the thread that asked
            failed.append(error)
        done.set()

    began = time.monotonic()
    # A daemon: a name server that does not answer must not keep the process from ending.
    threading.Thread(target=look_up, name="resolve", daemon=True).start()
    while not done.wait(SLICE):
        guard.look(time.monotonic() - began)
        if time.monotonic() >= until:
            raise socket.gaierror(
                socket.EAI_AGAIN, f"no answer in {time.monotonic() - began:.1f} s; look at the name servers"
            )
    if failed:
        raise failed[0]
    return found


def _connect(sock: _Waits, address: Any, guard: Guard, until: float) -> None:
    """Connect a socket.

    Raises:
        OSError: it cannot be.
        TimeoutError: it was not by then.
    """
    sock.setblocking(False)
    state = sock.connect_ex(address)
    began = time.monotonic()
    while state in (errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK):
        guard.look(time.monotonic() - began)
        if time.monotonic() >= until:
            raise TimeoutError("timed out")
        if wait_for_write(sock, SLICE):
            state = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            break
    if state:
        raise OSError(state, os.strerror(state))
