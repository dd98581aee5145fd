"""Where a server that redirects may lead a job: never into a private network that the job has not named itself.

All there is on this machine is loopback: 127.0.0.1 stands for a public address here, all others are what they are.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pulling import taken

from etl.errors import RedirectRefused, SourceError, SourceUnavailable
from etl.sources import Http, Pages, private
from tests.web import Answer, Request, WebServer

PUBLIC, PRIVATE = "127.0.0.1", "127.0.0.2"
ROWS = [{"id": 1}, {"id": 2}]
SOURCES: dict[str, Callable[..., Any]] = {
    "http": lambda url, **more: Http(url, format="ndjson", deadline=5.0, **more),
    "pages": lambda url, **more: Pages(url, style="next_link", records="rows", deadline=5.0, **more),
}


def rows(request: Request) -> Answer:
    page = {"rows": ROWS} if "pages" in request.path else None
    text = json.dumps(page) if page else "".join(json.dumps(row) + "\n" for row in ROWS)
    return Answer(headers={"Content-Type": "application/json"}, body=text.encode())


def redirecting(*hops: str) -> Callable[[Request], Answer]:
    """Lead from any URL to the first of these, and from `/0` to the second, from `/1` to the third."""

    def answer(request: Request) -> Answer:
        number = int(request.path[1:]) + 1 if request.path[1:].isdigit() else 0
        return Answer(status=302, headers={"Location": hops[number]})

    return answer


@contextmanager
def silent() -> Iterator[int]:
    """Give a port at the private address to which nobody may connect."""
    with socket.create_server((PRIVATE, 0)) as server:
        server.setblocking(False)
        yield server.getsockname()[1]
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.fixture(autouse=True)
def public(monkeypatch: pytest.MonkeyPatch) -> None:
    real = private.is_private
    monkeypatch.setattr(private, "is_private", lambda address: address != PUBLIC and real(address))
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("hops", [0, 2])
@pytest.mark.parametrize(
    "host", [PRIVATE, "2130706434", "0x7f.2", "0177.0.0.2", "127.2", "[::ffff:127.0.0.2]"]
)
def test_a_redirect_into_a_private_network_is_refused_before_anything_is_sent(
    kind: str, hops: int, host: str
) -> None:
    with silent() as port:
        target = f"http://{host}:{port}/{kind}?token=secret-word"
        way = [*(f"/{number}" for number in range(hops)), target]
        with WebServer(redirecting(*way)) as server, pytest.raises(RedirectRefused) as caught:
            taken(SOURCES[kind](f"{server.url}/{kind}"))
    said = str(caught.value)
    assert f"hop {hops + 1} of its redirects leads to http://{host}:{port}/{kind}?token=***" in said
    assert "127.0.0.2" in said
    assert "allow_private = true" in said


@pytest.mark.parametrize("kind", SOURCES)
def test_a_job_may_say_that_redirects_lead_anywhere(kind: str) -> None:
    with (
        WebServer(rows, host=PRIVATE) as inner,
        WebServer(redirecting(f"{inner.url}/{kind}")) as server,
    ):
        assert taken(SOURCES[kind](f"{server.url}/{kind}", allow_private=True)) == ROWS


@pytest.mark.parametrize("kind", SOURCES)
def test_a_job_that_names_a_private_address_is_led_to_others(kind: str) -> None:
    with (
        WebServer(rows, host="127.0.0.3") as inner,
        WebServer(redirecting(f"{inner.url}/{kind}"), host=PRIVATE) as server,
    ):
        assert taken(SOURCES[kind](f"{server.url}/{kind}")) == ROWS


@pytest.mark.parametrize("kind", SOURCES)
def test_redirects_between_public_addresses_are_followed(kind: str) -> None:
    with WebServer(rows) as inner, WebServer(redirecting(f"{inner.url}/{kind}")) as server:
        assert taken(SOURCES[kind](f"{server.url}/{kind}")) == ROWS


def test_one_url_in_a_private_network_does_not_open_it_to_the_next_one() -> None:
    with (
        silent() as port,
        WebServer(rows, host=PRIVATE) as inner,
        WebServer(redirecting(f"http://{PRIVATE}:{port}/")) as server,
        pytest.raises(RedirectRefused),
    ):
        taken(Http([f"{inner.url}/a.ndjson", f"{server.url}/b.ndjson"]))


def test_a_connection_that_is_open_already_is_no_way_in() -> None:
    """The session has one to the private address, as the job's first URL is there."""
    with WebServer(rows, host=PRIVATE) as inner:
        with WebServer(redirecting(f"{inner.url}/c.ndjson")) as server, pytest.raises(RedirectRefused):
            taken(Http([f"{inner.url}/a.ndjson", f"{server.url}/b.ndjson"]))
        assert [request.path for request in inner.requests] == ["/a.ndjson"]


def test_a_token_server_leads_nowhere_either() -> None:
    oauth2 = {"client_id": "me", "client_secret": "a-secret-word"}
    with (
        silent() as port,
        WebServer(redirecting(f"http://{PRIVATE}:{port}/")) as server,
        pytest.raises(SourceError, match="redirected"),  # a POST goes to no other host at all
    ):
        taken(
            Pages(
                f"{server.url}/pages", style="offset", oauth2={**oauth2, "token_url": f"{server.url}/token"}
            )
        )


def test_a_name_that_gets_a_private_address_while_the_job_runs_is_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rebinding: the same name leads to one address when it is looked at, and to another one later."""
    real = socket.getaddrinfo
    answers = [PUBLIC, PRIVATE]

    def getaddrinfo(host: Any, port: Any, *more: Any) -> Any:
        return real(answers.pop(0) if host == "data.example" and not more[3:] else host, port, *more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    def answer(request: Request) -> Answer:
        return Answer(
            headers={"Content-Type": "application/json", "Connection": "close"},
            body=json.dumps({"rows": ROWS, "next": f"http://data.example:{server.port}/pages/2"}).encode(),
        )

    with WebServer(answer) as server, pytest.raises(RedirectRefused, match="had a public address before"):
        taken(SOURCES["pages"](f"http://data.example:{server.port}/pages", next_path="next"))


def test_through_a_proxy_what_a_url_names_by_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: Request) -> Answer:
        return Answer(status=302, headers={"Location": "http://169.254.169.254/latest"})

    with WebServer(answer) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with pytest.raises(RedirectRefused, match=r"169\.254\.169\.254"):
            taken(Http("http://data.invalid/a.ndjson"))
        assert len(proxy.requests) == 1


def test_a_private_address_where_nobody_listens_is_refused_all_the_same() -> None:
    with WebServer(redirecting("http://10.255.255.1:9/")) as server, pytest.raises(RedirectRefused):
        taken(Http(f"{server.url}/a.ndjson"))


def test_a_public_address_where_nobody_listens_is_an_error_as_ever() -> None:
    with socket.create_server((PUBLIC, 0)) as closed:
        port = closed.getsockname()[1]
    with WebServer(redirecting(f"http://{PUBLIC}:{port}/")) as server, pytest.raises(SourceUnavailable):
        taken(Http(f"{server.url}/a.ndjson", deadline=0.1))


class TestAddresses:
    @pytest.mark.parametrize(
        "address",
        [
            *("127.0.0.1", "127.255.255.254", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255"),
            *("192.168.0.1", "169.254.169.254", "100.64.0.1", "100.127.255.255", "224.0.0.1", "240.0.0.1"),
            *("255.255.255.255", "198.18.0.1", "192.0.2.1", "::", "::1", "fe80::1", "fe80::1%eth0"),
            *("fc00::1", "fd12::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe"),
            *("64:ff9b::a00:1", "2002:7f00:1::", "2002:a00:1::1", "::7f00:1", "2001:db8::1"),
            *(
                "64:ff9b:1::a00:1",
                "::ffff:0:127.0.0.1",
                "2606:4700::5efe:10.0.0.1",
                "2606:4700::200:5efe:10.0.0.1",
            ),
            *(
                "fe80::5efe:8.8.8.8",
                "fec0::1",
                "3fff::1",
                "5f00::1",
                "192.0.0.192",
                "168.63.129.16",
                "::ffff:168.63.129.16",
            ),
        ],
    )
    def test_these_are_private(self, address: str) -> None:
        private_ = private.is_private.__closure__[0].cell_contents  # type: ignore[attr-defined]
        assert private_(address)

    @pytest.mark.parametrize(
        "address",
        [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "168.63.129.17",
        ],
    )
    def test_these_are_public(self, address: str) -> None:
        assert not private.is_private(address)

    @pytest.mark.parametrize(
        ("host", "address"),
        [
            *((name, "127.0.0.1") for name in ("127.1", "0x7f000001", "2130706433", "0177.0.0.1")),
            *((name, "127.0.0.1") for name in ("localhost", "LOCALHOST.", "a.localhost", "127.0.0.1.")),
            ("[::1]", "::1"),
            ("[fe80::1%25eth0]", "fe80::1"),
            ("data.example", None),
            ("10.example", None),
        ],
    )
    def test_hosts_that_are_addresses_in_some_notation(self, host: str, address: str | None) -> None:
        assert private.literal(f"http://{host}:80/a") == address
