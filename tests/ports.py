"""A port of this machine for a test alone, also while no server is there."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_port() -> Iterator[int]:
    """Give a port of 127.0.0.1 that nobody else is given meanwhile.

    Without a server connections to it are refused; one that sets SO_REUSEADDR, as those of `http.server` do, may come,
    go, and come again. A port that was closed may belong to another process a moment later.
    """
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", 0))
        yield int(bound.getsockname()[1])
