"""Connections: kept, broken, many at once."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from etl.testing.gcs_server import GcsServer
from tests.testing.gcs_wire import BUCKET, Wire


def connect(gcs: GcsServer) -> socket.socket:
    host, _, port = gcs.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def receive(connection: socket.socket, end: bytes) -> bytes:
    """Read until what came ends with `end`, or the server closes."""
    found = b""
    while not found.endswith(end) and (piece := connection.recv(1024)):
        found += piece
    return found


def test_a_connection_is_kept_after_an_error_though_the_body_was_of_no_use(wire: Wire) -> None:
    wire.upload("warm", b"")
    (pool,) = wire.session.adapters["http://"].poolmanager.pools._container.values()  # type: ignore[attr-defined]
    before = pool.num_connections
    assert wire.upload("..", bytes(3_000_000)).status_code == 400
    assert wire.upload("a", b"hello").status_code == 200
    assert pool.num_connections == before


@pytest.mark.parametrize("query", ["uploadType=media&name=a", "uploadType=multipart"])
def test_an_upload_in_one_request_that_broke_stores_nothing(gcs: GcsServer, query: str) -> None:
    with connect(gcs) as connection:
        head = (
            f"POST /upload/storage/v1/b/{BUCKET}/o?{query} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
            "Content-Type: multipart/related; boundary=B\r\n\r\n"
        )
        body = '--B\r\n\r\n{"name":"a"}\r\n--B\r\n\r\nhalf of it'
        connection.sendall((head + body).encode())
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert gcs.objects(BUCKET) == {}
    assert not list(gcs.state.glob("uploads/*"))


def test_a_client_that_asks_before_it_sends_is_told_to_go_on(gcs: GcsServer) -> None:
    with connect(gcs) as connection:
        connection.sendall(
            f"POST /upload/storage/v1/b/{BUCKET}/o?uploadType=media&name=a HTTP/1.1\r\nHost: x\r\n"
            "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        assert receive(connection, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"hello")
        assert receive(connection, b"}").startswith(b"HTTP/1.1 200 ")
    assert gcs.objects(BUCKET) == {"a": 5}


@pytest.mark.parametrize("length", ["-1", "five", "0x5"])
def test_a_length_that_is_no_number_is_refused(gcs: GcsServer, length: str) -> None:
    with connect(gcs) as connection:
        head = f"POST /upload/storage/v1/b/{BUCKET}/o HTTP/1.1\r\nContent-Length: {length}\r\n\r\n"
        connection.sendall(head.encode())
        assert receive(connection, b"}]}}").startswith(b"HTTP/1.1 400 ")
        assert connection.recv(1) == b""


def test_a_client_that_vanishes_while_it_reads_harms_nobody(gcs: GcsServer, wire: Wire) -> None:
    wire.upload("a", bytes(20_000_000))
    with connect(gcs) as connection:
        connection.sendall(f"GET /storage/v1/b/{BUCKET}/o/a?alt=media HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        connection.recv(1000)
    assert len(wire.download("a").content) == 20_000_000


def test_of_many_creations_at_once_one_lands(gcs: GcsServer) -> None:
    def create(number: int) -> int:
        with requests.Session() as session:
            wire = Wire(gcs.url)
            wire.session = session
            return wire.upload("a", b"%d" % number, ifGenerationMatch=0).status_code

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(create, range(64)))
    assert sorted(answers) == [200] + [412] * 63
    assert (gcs.root / BUCKET / "a").read_bytes() == b"%d" % answers.index(200)


def test_what_is_listed_can_be_read_while_it_is_replaced(gcs: GcsServer) -> None:
    def replace(number: int) -> None:
        with requests.Session() as session:
            session.post(
                f"{gcs.url}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name=a",
                data=b"%d" % number * 100_000,
                timeout=60,
            )

    def read(_: int) -> bool:
        wire = Wire(gcs.url)
        with wire.session:
            content = wire.download("a").content
        return len(content) == 100_000 and len(set(content)) == 1

    replace(0)
    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(replace, number % 10) for number in range(30)]
        assert all(pool.map(read, range(30)))
        for write in writes:
            write.result()
