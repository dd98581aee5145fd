"""Sources over the web server of the tests, impatient where that costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from etl.sources import Http
from tests.web import Answer, Request, WebServer, ranged

RECORDS = [{"id": number, "name": f"name {number}", "text": "é☃" * (number % 4)} for number in range(5)]


def source(urls: Any, **arguments: Any) -> Http:
    """Make a source that waits for milliseconds where others wait for seconds."""
    made = Http(urls, **{"deadline": 20.0, **arguments})
    made._first_wait = 0.001
    return made


@contextmanager
def serving(
    content: bytes, name: str = "/data.ndjson", **arguments: Any
) -> Iterator[tuple[WebServer, Callable[..., Http]]]:
    """Serve one file by ranges, with an ETag; yields the server and a function that makes a source of it."""

    def answer(request: Request) -> Answer:
        return ranged(request, content, etag='"one"') if request.path == name else Answer(status=404)

    with WebServer(answer) as server:
        yield server, lambda **more: source(server.url + name, **{**arguments, **more})
