"""The fault proxy in front of a real server: it changes nothing, but for the one request that it is told to."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from etl.testing.fault_proxy import Answer, Counter, CutRequest, Delay, Drop, FaultProxy, Truncate
from tests.ports import kept_port
from tests.testing.http_target import Target, wait_until

MANY = 300
LARGE = 20 * 1024 * 1024


def sent(body: bytes) -> str:
    return f"{len(body)} {hashlib.sha256(body).hexdigest()}"


# What it passes on


def test_requests_and_answers_go_by_unchanged(proxy: FaultProxy, session: requests.Session) -> None:
    body = os.urandom(3_000_000)
    assert session.put(f"{proxy.url}/a", data=body, timeout=60).text == sent(body)
    assert session.get(f"{proxy.url}/b?c=d%20e", timeout=60).text == "/b?c=d%20e"
    assert [tuple(seen) for seen in proxy.log] == [(1, "PUT", "/a"), (2, "GET", "/b?c=d%20e")]


def test_chunked_bodies_go_by_both_ways(proxy: FaultProxy, session: requests.Session) -> None:
    pieces = [os.urandom(size) for size in (1, 70_000, 300_000)]
    assert session.put(f"{proxy.url}/a", data=iter(pieces), timeout=60).text == sent(b"".join(pieces))
    numbers = "".join(f"{number:05d}" for number in range(5000))
    assert session.get(f"{proxy.url}/chunks/5000", timeout=60).text == numbers
    assert session.get(f"{proxy.url}/after", timeout=60).text == "/after"


def test_answers_without_a_length_end_with_the_connection(
    proxy: FaultProxy, session: requests.Session
) -> None:
    assert session.get(f"{proxy.url}/endless", timeout=60).text == "until the end"
    assert session.get(f"{proxy.url}/after", timeout=60).text == "/after"


def test_answers_without_a_body_are_not_waited_for(proxy: FaultProxy, session: requests.Session) -> None:
    assert session.head(f"{proxy.url}/bytes/1000", timeout=60).headers["Content-Length"] == "1000"
    assert session.get(f"{proxy.url}/nothing", timeout=60).status_code == 204
    assert session.get(f"{proxy.url}/after", timeout=60).text == "/after"


def test_connections_are_kept_alive(proxy: FaultProxy, target: Target) -> None:
    connection = http.client.HTTPConnection(proxy.url.removeprefix("http://"), timeout=60)
    connection.request("GET", "/one")
    first = connection.sock
    connection.getresponse().read()
    connection.request("GET", "/two")
    assert connection.getresponse().read() == b"/two"
    assert connection.sock is first
    connection.close()


def test_a_server_sees_the_address_that_the_client_called(
    proxy: FaultProxy, target: Target, session: requests.Session
) -> None:
    session.get(f"{proxy.url}/a", timeout=60)
    assert target.hosts == {proxy.url.removeprefix("http://")}


def test_a_client_that_asks_before_it_sends_a_body_is_told_to_go_on(proxy: FaultProxy) -> None:
    host, port = proxy.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"hello")
        assert b"200 OK" in connection.recv(1000)


def test_hundreds_of_connections_at_once_are_served(proxy: FaultProxy) -> None:
    barrier = threading.Barrier(MANY)

    def ask(number: int) -> str:
        connection = http.client.HTTPConnection(proxy.url.removeprefix("http://"), timeout=60)
        connection.connect()
        barrier.wait(60)
        connection.request("GET", f"/{number}")
        answer = connection.getresponse().read().decode()
        connection.close()
        return answer

    with ThreadPoolExecutor(MANY) as threads:
        assert list(threads.map(ask, range(MANY))) == [f"/{number}" for number in range(MANY)]
    assert sorted(seen.number for seen in proxy.log) == list(range(1, MANY + 1))


def test_clients_that_vanish_leave_no_trace(
    proxy: FaultProxy, session: requests.Session, capfd: pytest.CaptureFixture[str]
) -> None:
    host, port = proxy.url.removeprefix("http://").split(":")
    for half in (
        b"",
        b"GET / HT",
        b"no http at all\r\n\r\n",
        b"PUT /a HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc",
        b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /bytes/10000000 HTTP/1.1\r\nHost: x\r\n\r\n",
    ):
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(half)
    assert session.get(f"{proxy.url}/after", timeout=60).text == "/after"
    assert capfd.readouterr().err == ""


def test_without_a_server_the_connection_is_closed(session: requests.Session) -> None:
    with (
        kept_port() as nobody,
        FaultProxy(f"http://127.0.0.1:{nobody}") as proxy,
        pytest.raises(requests.ConnectionError),
    ):
        session.get(proxy.url, timeout=60)


def test_leaving_it_ends_connections_that_wait(target: Target) -> None:
    with FaultProxy(target.url) as proxy:
        delay = Delay(3600)
        proxy.at(1, delay)
        host, port = proxy.url.removeprefix("http://").split(":")
        idle = socket.create_connection((host, int(port)), timeout=60)
        waiting = socket.create_connection((host, int(port)), timeout=60)
        waiting.sendall(b"GET /a HTTP/1.1\r\n\r\n")
        wait_until(lambda: bool(proxy.log))
    with idle, waiting:
        assert idle.recv(1) == b""
        assert waiting.recv(1000) == b""


def test_a_target_is_an_address_with_a_port() -> None:
    with pytest.raises(ValueError, match="http://HOST:PORT"):
        FaultProxy("127.0.0.1:80")


# Which request is struck


def test_the_nth_request_counts_from_when_it_was_said(proxy: FaultProxy, session: requests.Session) -> None:
    session.get(f"{proxy.url}/before", timeout=60)
    proxy.at(2, Answer(503))
    statuses = [session.get(f"{proxy.url}/{number}", timeout=60).status_code for number in range(3)]
    assert statuses == [200, 503, 200]


def test_only_requests_that_are_meant_are_counted(proxy: FaultProxy, session: requests.Session) -> None:
    proxy.at(2, Answer(500), of=lambda head: head.method == "PUT" and head.headers["content-length"] == "3")
    statuses = [session.get(f"{proxy.url}/a", timeout=60).status_code]
    statuses += [
        session.put(f"{proxy.url}/a", data=b"x" * size, timeout=60).status_code for size in (3, 4, 3)
    ]
    assert statuses == [200, 200, 200, 500]


def test_proxies_that_share_a_counter_count_together(target: Target, session: requests.Session) -> None:
    counter = Counter()
    with FaultProxy(target.url, counter=counter) as one, FaultProxy(target.url, counter=counter) as other:
        one.at(2, Answer(503))
        assert session.get(f"{one.url}/one", timeout=60).status_code == 200
        assert session.get(f"{other.url}/other", timeout=60).status_code == 503
    assert [seen.number for seen in other.log] == [2]
    assert [seen.path for seen in counter.log] == ["/one", "/other"]


def test_two_faults_of_one_request_strike_one_after_the_other(
    proxy: FaultProxy, session: requests.Session
) -> None:
    proxy.at(1, Answer(503))
    proxy.at(1, Answer(429))
    assert [session.get(proxy.url, timeout=60).status_code for _ in range(3)] == [503, 429, 200]


def test_there_is_no_zeroth_request(proxy: FaultProxy) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        proxy.at(0, Drop())


# What strikes


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_an_error_is_answered_as_google_does(
    proxy: FaultProxy, target: Target, session: requests.Session, status: int
) -> None:
    proxy.at(1, Answer(status, {"Retry-After": "7"}, times=2))
    for _ in range(2):
        answer = session.put(f"{proxy.url}/a", data=b"x" * 1_000_000, timeout=60)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], answer.headers["Retry-After"]) == (status, status, "7")
        assert error["errors"][0]["reason"]
    assert target.seen == []
    assert session.put(f"{proxy.url}/a", data=b"x", timeout=60).status_code == 200


def test_an_error_may_come_although_the_server_did_it(
    proxy: FaultProxy, target: Target, session: requests.Session
) -> None:
    proxy.at(1, Answer(503, when="after", reason="jobBackendError"))
    answer = session.put(f"{proxy.url}/a", data=b"x", timeout=60)
    assert answer.json()["error"]["errors"][0]["reason"] == "jobBackendError"
    assert target.seen == [("PUT", "/a")]
    assert session.get(f"{proxy.url}/after", timeout=60).text == "/after"


@pytest.mark.parametrize(("when", "seen"), [("before", []), ("after", [("GET", "/a")])])
def test_a_dropped_request_has_no_answer(
    proxy: FaultProxy, target: Target, session: requests.Session, when: Any, seen: list[Any]
) -> None:
    fault = Drop(when)
    proxy.at(1, fault)
    with pytest.raises(requests.ConnectionError):
        session.get(f"{proxy.url}/a", timeout=60)
    assert fault.happened.is_set()
    assert target.seen == seen


@pytest.mark.parametrize("path", ["/bytes/1000", f"/bytes/{LARGE}", "/chunks/1000"])
def test_a_truncated_answer_has_so_many_bytes(proxy: FaultProxy, path: str) -> None:
    proxy.at(1, Truncate(77))
    host, port = proxy.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode())
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert len(received.partition(b"\r\n\r\n")[2]) == 77


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_a_cut_request_arrives_up_to_the_cut(proxy: FaultProxy, target: Target, size: int) -> None:
    fault = CutRequest(size)
    proxy.at(1, fault)
    with pytest.raises(requests.ConnectionError):
        requests.put(f"{proxy.url}/a", data=b"x" * 1_000_000, timeout=60)
    assert fault.happened.wait(60)
    assert target.cut_at == [size]  # it has noticed by the time that the fault has happened


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_delayed_request_is_answered_late(
    proxy: FaultProxy, target: Target, session: requests.Session, when: Any
) -> None:
    fault = Delay(1.0, when)
    proxy.at(1, fault)
    with pytest.raises(requests.ReadTimeout):
        session.get(f"{proxy.url}/a", timeout=0.2)
    assert fault.happened.wait(60)
    assert session.get(f"{proxy.url}/b", timeout=60).text == "/b"


def test_a_delayed_request_arrives_although_the_client_gave_up(
    proxy: FaultProxy, target: Target, session: requests.Session
) -> None:
    proxy.at(1, Delay(2.0))
    with pytest.raises(requests.ReadTimeout):
        session.put(f"{proxy.url}/late", data=b"x", timeout=0.1)
    assert session.get(f"{proxy.url}/soon", timeout=60).text == "/soon"
    wait_until(lambda: len(target.seen) == 2)
    assert target.seen == [("GET", "/soon"), ("PUT", "/late")]


def test_bodies_are_never_held_whole() -> None:
    script = f"""
import http.client, resource, socket, threading
from etl.testing.fault_proxy import FaultProxy
from tests.testing.http_target import Target
with Target() as target, FaultProxy(target.url) as proxy:
    threading.Thread(target=target.serve_forever, daemon=True).start()
    connection = http.client.HTTPConnection(proxy.url.removeprefix("http://"))
    def body(count):
        for _ in range(count):
            yield b"x" * 65536
    def put(count):
        connection.request("PUT", "/a", body=body(count), headers={{"Content-Length": str(count * 65536)}})
        connection.getresponse().read()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(put(64), put({LARGE // 65536 * 5}))
    target.shutdown()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    first, second = (json.loads(word) for word in done.stdout.split())
    assert second - first < 8 * 1024  # KiB; 100 MiB went by
