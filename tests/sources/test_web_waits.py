"""Servers that keep a source waiting: each wait has a deadline, and ends when the run is stopped."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etl import Pipeline
from etl.errors import SourceError, SourceStopped, SourceUnavailable
from etl.sources import Http, Pages
from etl.sources.waiting import Waiting
from etl.sources.web import Web
from tests.bad_servers import TRICKLES, BadServer, full_backlog
from tests.web import Answer, WebServer

LONG = 1000.0
PLACES = [(name, scheme) for name in TRICKLES for scheme in (("https",) if "TLS" in name else ("http",))]


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the machine says of proxies."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def web(**arguments: Any) -> Web:
    options = {"headers": {}, "requests_per_second": None, "secrets": [], "first_wait": 0.001}
    return Web(**{**options, "deadline": 0.6, "read_timeout": 0.3, **arguments})


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def run(tmp_path: Path, source: Any) -> str | None:
    pipeline = Pipeline(
        "job", source=source, sink={"type": "null"}, checkpoint=str(tmp_path / "job.checkpoint.json")
    )
    return pipeline.run().stopped


@pytest.mark.parametrize(("name", "scheme"), PLACES)
def test_a_server_that_trickles_is_given_up_at_the_deadline(name: str, scheme: str) -> None:
    first, again = TRICKLES[name]
    with BadServer(first, again) as server:
        asking = web()
        with pytest.raises(SourceError):
            asking.fetch(server.url.replace("http", scheme))
        asking.close()
        assert server.left.wait(20)


@pytest.mark.parametrize("kind", ["http", "pages"])
@pytest.mark.parametrize(("name", "scheme"), PLACES)
def test_a_signal_ends_the_wait_for_a_server_that_trickles(
    tmp_path: Path, name: str, scheme: str, kind: str
) -> None:
    first, again = TRICKLES[name]
    with BadServer(first, again, reached=stop) as server:
        url = server.url.replace("http", scheme)
        patience = {"deadline": LONG, "read_timeout": LONG}
        source: Any = Http(url, **patience) if kind == "http" else Pages(url, style="offset", **patience)
        assert run(tmp_path, source) == "SIGTERM"
        assert server.left.wait(20)


def test_a_connection_that_is_not_taken_is_given_up_at_the_deadline() -> None:
    with full_backlog() as port, pytest.raises(SourceUnavailable, match="timed out"):
        web().fetch(f"http://127.0.0.1:{port}")


def test_a_signal_ends_the_wait_for_a_connection(tmp_path: Path) -> None:
    with full_backlog() as port:
        threading.Timer(0.2, stop).start()
        assert run(tmp_path, Http(f"http://127.0.0.1:{port}", deadline=LONG, read_timeout=LONG)) == "SIGTERM"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_trickles_is_given_up_at_the_deadline(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BadServer(b"HTTP/1.1 200 ", b"O") as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", proxy.url)
        asking = web()
        with pytest.raises(SourceUnavailable):
            asking.fetch(f"{scheme}://data.invalid/")
        asking.close()
        assert proxy.left.wait(20)


def test_redirects_that_are_slow_are_given_up_at_the_deadline() -> None:
    """Ten of them, each just quick enough for itself."""

    def answer(request: Any) -> Answer:
        server.pause(0.25)
        return Answer(status=302, headers={"Location": f"/{request.number}"})

    with WebServer(answer) as server, pytest.raises(SourceUnavailable, match=r"timed out"):
        web(deadline=0.6, read_timeout=0.5).fetch(server.url)


def hanging(release: threading.Event) -> Callable[..., Any]:
    look_up = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, family: int = 0, kind: int = 0, *more: int) -> Any:
        if len(more) > 1 and more[1] & socket.AI_NUMERICHOST:
            return look_up(host, port, family, kind, *more)
        release.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "released")

    return getaddrinfo


@pytest.fixture
def no_name_server(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have the C library's call not return, as where no name server answers (`resolv.conf` is the machine's)."""
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", hanging(release))
    yield
    release.set()


@pytest.mark.usefixtures("no_name_server")
def test_a_name_server_that_does_not_answer_is_given_up_at_the_deadline() -> None:
    with pytest.raises(SourceUnavailable, match="look at the name servers"):
        web().fetch("http://data.invalid/")


@pytest.mark.usefixtures("no_name_server")
def test_a_signal_ends_the_wait_for_a_name_server(tmp_path: Path) -> None:
    threading.Timer(0.2, stop).start()
    assert run(tmp_path, Http("http://data.invalid/", deadline=LONG, read_timeout=LONG)) == "SIGTERM"


def test_what_is_sent_to_a_server_that_does_not_read_ends_when_the_source_is_told_to_leave() -> None:
    from etl.sources.web_answers import Body

    waiting = Waiting()
    with BadServer(b"", b"", reads=False, reached=waiting.leave) as server:
        asking = web(deadline=LONG, read_timeout=LONG, waiting=waiting)
        with pytest.raises(SourceStopped):
            asking.fetch(server.url, body=Body(bytes(64 << 20), "text/plain"))
        asking.close()


def test_an_answer_that_is_slow_but_whole_is_taken() -> None:
    def answer(_: Any) -> Answer:
        def pieces() -> Any:
            for _ in range(5):
                server.pause(0.05)
                yield b"1,"

        return Answer(body=pieces())

    with WebServer(answer) as server:
        assert web(deadline=20, read_timeout=10).fetch(server.url).body == b"1," * 5
