"""HTTP/1.1 messages on a socket: the head is understood as far as its length needs, the body goes by in pieces."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

# A head that is longer is none: servers refuse more than 8 to 64 KiB.
LONGEST_HEAD = 256 * 1024
PIECE = 256 * 1024


class Broken(ConnectionError):
    """The other side ended in the middle of a message, or spoke no HTTP."""


@dataclass(frozen=True, slots=True)
class Head:
    """The first line and the headers of a message; header names are in lower case.

    Attributes:
        start: The words of the first line.
        headers: Of a name that comes twice, the last.
        raw: The head as it came, with the empty line that ends it.
    """

    start: tuple[str, str, str]
    headers: dict[str, str]
    raw: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Head:
        """Read a head that ends with an empty line.

        Raises:
            Broken: It is no HTTP.
        """
        first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        words = (*first.split(" ", 2), "")[:3]
        if "HTTP/1." not in first or len(words) < 3:
            raise Broken(f"not HTTP/1: {first[:80]!r}")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return cls((words[0], words[1], words[2]), headers, raw)

    @property
    def method(self) -> str:
        """Of a request: GET, PUT and so on."""
        return self.start[0]

    @property
    def path(self) -> str:
        """Of a request: its target, with the query."""
        return self.start[1]

    @property
    def status(self) -> int:
        """Of an answer: 200 and so on."""
        return int(self.start[1])

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks that tell their length."""
        return "chunked" in self.headers.get("transfer-encoding", "").lower()

    @property
    def length(self) -> int | None:
        """How many bytes the body has; None when the head does not say."""
        given = self.headers.get("content-length", "")
        return int(given) if given.isdecimal() else None

    @property
    def last(self) -> bool:
        """Whether the connection ends with this message."""
        connection = self.headers.get("connection", "").lower()
        return "close" in connection or ("HTTP/1.0" in self.start and "keep-alive" not in connection)

    def without(self, name: str) -> bytes:
        """Return the head as it came, but for one header."""
        lines = self.raw.split(b"\r\n")
        return b"\r\n".join(
            line for line in lines if line.partition(b":")[0].strip().lower() != name.encode()
        )


class Peer:
    """One side of a connection: whole heads and pieces of bodies come out, bytes go in."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection = connection
        self._ahead = b""  # what was received beyond the last message

    @property
    def idle(self) -> bool:
        """Whether nothing came since the last message: no byte, and no end."""
        if self._ahead:
            return False
        self.connection.setblocking(False)
        try:
            self.connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            self.connection.setblocking(True)
        return False

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.connection.sendall(data)

    def head(self) -> Head | None:
        """Return the head of the next message; None when the other side has ended.

        Raises:
            Broken: It ended in the middle, or spoke no HTTP.
        """
        data = bytearray(self._ahead)
        searched = 0
        while (end := data.find(b"\r\n\r\n", searched)) < 0:
            searched = max(0, len(data) - 3)
            received = self.connection.recv(PIECE)
            if not received and not data:
                return None
            if not received or len(data) > LONGEST_HEAD:
                raise Broken(f"no whole head in {len(data)} bytes")
            data += received
        self._ahead = bytes(data[end + 4 :])
        return Head.parse(bytes(data[: end + 4]))

    def request_body(self, head: Head) -> Iterator[bytes]:
        """Yield the body that follows the head of a request, as it comes over the wire."""
        return self._chunks() if head.chunked else self._exactly(head.length or 0)

    def answer_body(self, head: Head, method: str) -> Iterator[bytes]:
        """Yield the body that follows the head of an answer to a request with that method."""
        if method == "HEAD" or head.status in (204, 304):
            return iter(())
        if head.chunked:
            return self._chunks()
        return self._exactly(head.length) if head.length is not None else self._until_the_end()

    def _receive(self, most: int) -> bytes:
        if self._ahead:
            data, self._ahead = self._ahead[:most], self._ahead[most:]
            return data
        return self.connection.recv(min(most, PIECE))

    def _exactly(self, count: int) -> Iterator[bytes]:
        while count:
            data = self._receive(count)
            if not data:
                raise Broken(f"the body ended {count} bytes too early")
            count -= len(data)
            yield data

    def _until_the_end(self) -> Iterator[bytes]:
        while data := self._receive(PIECE):
            yield data

    def _chunks(self) -> Iterator[bytes]:
        while True:
            line = self._line()
            yield line
            try:
                size = int(line.split(b";")[0], 16)
            except ValueError:
                raise Broken(f"not the length of a chunk: {line[:80]!r}") from None
            if not size:
                break
            yield from self._exactly(size + 2)
        while line.strip():  # trailers, and the empty line that ends them
            line = self._line()
            yield line

    def _line(self) -> bytes:
        while (end := self._ahead.find(b"\n")) < 0:
            received = self.connection.recv(PIECE)
            if not received or len(self._ahead) > LONGEST_HEAD:
                raise Broken("a chunked body ended in the middle")
            self._ahead += received
        line, self._ahead = self._ahead[: end + 1], self._ahead[end + 1 :]
        return line
