"""What a server says other than the content: busy, moved, gone, forbidden; and what it is told."""

from __future__ import annotations

import json
import pickle
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from http_sources import RECORDS, serving, source
from pulling import ndjson, pull, taken

from etl.errors import (
    SourceError,
    SourceMissing,
    SourceRefused,
    SourceUnavailable,
    SourceUntrusted,
    TooManyRedirects,
)
from etl.records import Mark
from tests.ports import kept_port
from tests.web import Answer, Request, WebServer, ranged

NDJSON = ndjson(RECORDS)
TOKEN = "s3cr3t-t0ken-0123456789"


@pytest.mark.parametrize("status", [202, 408, 425, 429, 500, 502, 503, 504, 522])
def test_these_pass(status: int) -> None:
    with WebServer(lambda r: Answer(status=status) if r.number < 3 else Answer(body=NDJSON)) as server:
        assert taken(source(server.url)) == RECORDS


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, SourceError),
        (401, SourceRefused),
        (403, SourceRefused),
        (404, SourceMissing),
        (405, SourceError),
        (410, SourceMissing),
        (451, SourceError),
        (501, SourceError),
        (304, SourceError),
    ],
)
def test_these_do_not_pass(status: int, error: type[SourceError]) -> None:
    with (
        WebServer(lambda _: Answer(status=status)) as server,
        pytest.raises(SourceError, match=f"the server said {status}") as caught,
    ):
        taken(source(server.url))
    assert type(caught.value) is error
    assert len(server.requests) == 1


def test_a_server_that_stays_busy_is_a_named_error() -> None:
    said = Answer(status=503, headers={"Content-Type": "text/plain"}, body=b"come back\nlater")
    with (
        WebServer(lambda _: said) as server,
        pytest.raises(SourceUnavailable, match=r"the server said 503 \(come back later\); it was tried for"),
    ):
        taken(source(server.url, deadline=1.0))
    assert len(server.requests) > 2


@pytest.mark.parametrize("status", [429, 503])
def test_what_retry_after_asks_is_waited(status: int) -> None:
    busy = Answer(status=status, headers={"Retry-After": "1"})
    with WebServer(lambda r: Answer(body=NDJSON) if r.number else busy) as server:
        assert taken(source(server.url)) == RECORDS
    first, second = server.requests
    assert second.at - first.at >= 1.0


def test_a_date_in_retry_after_is_waited_for_by_the_servers_own_clock() -> None:
    def answer(request: Request) -> Answer:
        if request.number:
            return Answer(body=NDJSON)
        # a server whose clock is a day behind
        then = time.time() - 86_400
        return Answer(
            status=429,
            headers={
                "Date": formatdate(then, usegmt=True),
                "Retry-After": formatdate(then + 1.0, usegmt=True),
            },
        )

    with WebServer(answer) as server:
        assert taken(source(server.url)) == RECORDS
    first, second = server.requests
    assert second.at - first.at >= 1.0


@pytest.mark.parametrize("asked", ["", "soon", "-1", "Mon, 01 Jan 2001 00:00:00 GMT", "1.5", "²"])
def test_a_retry_after_that_is_none_or_past_is_not_waited(asked: str) -> None:
    busy = Answer(status=429, headers={"Retry-After": asked})
    with WebServer(lambda r: Answer(body=NDJSON) if r.number else busy) as server:
        assert taken(source(server.url)) == RECORDS


def test_a_retry_after_past_the_deadline_is_a_named_error_at_once() -> None:
    busy = Answer(status=429, headers={"Retry-After": "3600"})
    with (
        WebServer(lambda _: busy) as server,
        pytest.raises(
            SourceUnavailable, match=r"asks to wait 3600 s \(Retry-After\), longer than the deadline"
        ),
    ):
        taken(source(server.url))
    assert len(server.requests) == 1


def test_a_busy_server_in_the_middle_is_asked_again_for_the_rest() -> None:
    def answer(request: Request) -> Answer:
        if request.number in (1, 2):
            return Answer(status=503)
        made = ranged(request, NDJSON, etag='"one"')
        return Answer(headers=made.headers, body=NDJSON, cut_after=50) if request.number == 0 else made

    with WebServer(answer) as server:
        assert taken(source(server.url)) == RECORDS
        assert server.requests[3].headers["range"] == "bytes=50-"


def test_a_content_that_is_gone_in_the_middle_is_missing_whatever_the_mode() -> None:
    for mode in ("fail", "skip", "wait"):
        with (
            WebServer(
                lambda r: Answer(status=404) if r.number else Answer(body=NDJSON, cut_after=50)
            ) as server,
            pytest.raises(SourceMissing),
        ):
            taken(source(server.url, on_missing=mode))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(status: int) -> None:
    def answer(request: Request) -> Answer:
        if request.path == "/":
            return Answer(status=status, headers={"Location": "/a/b?x=1"}, body=b"moved")
        if request.path == "/a/b":
            return Answer(status=status, headers={"Location": "c%20d"})
        return ranged(request, NDJSON)

    with WebServer(answer) as server:
        assert taken(source(server.url + "/")) == RECORDS
        assert [request.path for request in server.requests] == ["/", "/a/b", "/a/c%20d"]


def test_the_cursor_holds_the_url_that_was_asked_for() -> None:
    def answer(request: Request) -> Answer:
        if request.path == "/data":
            return Answer(status=302, headers={"Location": "/signed?expires=soon"})
        return ranged(request, NDJSON)

    with WebServer(answer) as server:
        marks = [item.cursor for item in pull(source(server.url + "/data")) if isinstance(item, Mark)]
        assert {mark["file"] for mark in marks} == {server.url + "/data"}


@pytest.mark.parametrize("where", ["/", "/other"])
def test_a_redirect_loop_is_a_named_error(where: str) -> None:
    def answer(request: Request) -> Answer:
        return Answer(status=302, headers={"Location": where if request.path == "/" else "/"})

    with WebServer(answer) as server, pytest.raises(TooManyRedirects, match="more than 10 times"):
        taken(source(server.url + "/"))
    assert len(server.requests) == 11


def test_a_redirect_to_what_is_not_http_is_a_named_error() -> None:
    moved = Answer(status=302, headers={"Location": "file:///etc/passwd"})
    with WebServer(lambda _: moved) as server, pytest.raises(SourceError, match="which is not HTTP"):
        taken(source(server.url))


def test_credentials_are_sent_to_no_other_server() -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "X-App-Token": TOKEN, "Accept": "text/x-special"}
    with (
        WebServer(lambda r: ranged(r, NDJSON)) as other,
        WebServer(lambda _: Answer(status=302, headers={"Location": other.url + "/x"})) as server,
    ):
        assert taken(source(server.url, headers=headers)) == RECORDS
        assert server.requests[0].headers["authorization"] == f"Bearer {TOKEN}"
        assert server.requests[0].headers["x-app-token"] == TOKEN
        assert TOKEN not in str(other.requests[0].headers)
        assert other.requests[0].headers["accept"] == "text/x-special"


def test_who_is_refused_by_another_server_is_told_that_it_was_sent_no_credentials() -> None:
    with (
        WebServer(lambda _: Answer(status=403)) as other,
        WebServer(lambda _: Answer(status=302, headers={"Location": other.url + "/x"})) as server,
        pytest.raises(SourceRefused, match=rf"redirects to, {other.url}/x: `headers` go to no other host"),
    ):
        taken(source(server.url, headers={"X-App-Token": TOKEN}))


def test_a_server_that_is_gone_is_told_in_plain_words() -> None:
    with (
        kept_port() as nobody,
        pytest.raises(SourceUnavailable, match=r"no answer \(Failed to establish .* \(deadline = 1\)"),
    ):
        taken(source(f"http://127.0.0.1:{nobody}", deadline=1.0))


def test_credentials_stay_with_a_redirect_on_the_same_server() -> None:
    def answer(request: Request) -> Answer:
        if request.path == "/":
            return Answer(status=302, headers={"Location": "/x"})
        return ranged(request, NDJSON)

    with WebServer(answer) as server:
        assert taken(source(server.url + "/", headers={"X-App-Token": TOKEN})) == RECORDS
        assert server.requests[1].headers["x-app-token"] == TOKEN


def test_a_secret_is_in_no_message_no_cursor_and_no_fingerprint() -> None:
    def answer(request: Request) -> Answer:
        said = f"no right for {TOKEN}, {request.headers['authorization']}"
        return Answer(status=403, headers={"Content-Type": "text/plain"}, body=said.encode())

    headers = {"Authorization": f"Bearer {TOKEN}"}
    with WebServer(answer) as server:
        url = f"{server.url}/x?api_key={TOKEN}&page=1&$$app_token={TOKEN}&X-Amz-Signature={TOKEN}"
        made = source(url.replace("//", f"//user:{TOKEN}@", 1), headers=headers)
        with pytest.raises(SourceRefused, match="no right for") as caught:
            taken(made)
        server.answer = lambda r: ranged(r, NDJSON)
        marks = [item.cursor for item in pull(made) if isinstance(item, Mark)]
    shown = f"{server.url}/x?api_key=***&page=1&$$app_token=***&X-Amz-Signature=***"
    assert str(caught.value).startswith(shown)
    assert marks[0]["file"] == shown
    chain: BaseException | None = caught.value
    while chain is not None:
        assert TOKEN not in repr(chain)
        chain = chain.__cause__ or chain.__context__
    assert TOKEN not in json.dumps(marks) + made.fingerprint()
    assert server.requests[-1].query["api_key"] == TOKEN


def test_a_secret_of_the_url_that_the_server_repeats_is_in_no_message() -> None:
    def answer(request: Request) -> Answer:
        if request.path == "/x":
            return Answer(status=302, headers={"Location": "/y?X-Amz-Signature=other%2Fsecret"})
        said = f"for {TOKEN}: {request.query['X-Amz-Signature']} is not right"
        return Answer(status=403, headers={"Content-Type": "text/plain"}, body=said.encode())

    with (
        WebServer(answer) as server,
        pytest.raises(SourceRefused, match=r"said 403 \(for \*\*\*: \*\*\* is not right\)"),
    ):
        taken(source(f"{server.url}/x?token={TOKEN}"))


def test_the_body_of_a_redirect_is_not_read() -> None:
    sent: list[int] = []

    def endless() -> Iterator[bytes]:
        for number in range(1000):
            sent.append(number)
            yield bytes(1 << 20)

    def answer(request: Request) -> Answer:
        if request.path == "/there":
            return ranged(request, NDJSON)
        return Answer(status=302, headers={"Location": "/there"}, body=endless())

    with WebServer(answer) as server:
        assert taken(source(server.url)) == RECORDS
    assert len(sent) < 100  # what fits into the buffers of a connection


@pytest.mark.parametrize("location", ["http://[", "http://a:port/"])
def test_a_redirect_to_what_is_no_url_is_a_named_error(location: str) -> None:
    with (
        WebServer(lambda _: Answer(status=302, headers={"Location": location})) as server,
        pytest.raises(SourceError, match="redirected to what is no URL"),
    ):
        taken(source(server.url))


@pytest.mark.parametrize("status", [204, 205])
def test_no_content_is_missing_and_no_empty_file(status: int) -> None:
    with WebServer(lambda _: Answer(status=status, headers={"Content-Length": "0"})) as server:
        with pytest.raises(SourceMissing, match=f"the server said {status}"):
            taken(source(server.url))
        assert pull(source(server.url, on_missing="wait")) == []


def test_an_unreachable_server_is_a_named_error_without_the_secret() -> None:
    with kept_port() as nobody, pytest.raises(SourceUnavailable, match="Connection refused") as caught:
        taken(source(f"http://127.0.0.1:{nobody}/x?token={TOKEN}", deadline=1.0))
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("headers", [{"X-A": "a\r\nX-B: b"}, {"X A": "a"}, {"X-A": "☃"}, {"": "a"}])
def test_a_header_that_cannot_be_sent_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="cannot be sent"):
        source("http://127.0.0.1/", headers=headers)


def test_requests_say_who_asks_and_want_the_bytes_as_they_are() -> None:
    with serving(NDJSON) as (server, made):
        assert taken(made()) == RECORDS
        assert server.requests[0].headers["user-agent"].startswith("etl-sinks/")
        assert server.requests[0].headers["accept-encoding"] == "identity"


def test_one_connection_serves_all_urls() -> None:
    with WebServer(lambda r: ranged(r, NDJSON)) as server:
        assert len(taken(source(server.url + "/{1..9}"))) == 9 * len(RECORDS)
        assert {request.connection for request in server.requests} == {0}


def test_a_connection_that_the_server_closed_in_between_is_made_again() -> None:
    def answer(request: Request) -> Answer:
        # says that it stays open, and closes it behind the last byte
        return replace(ranged(request, NDJSON), cut_after=len(NDJSON))

    with WebServer(answer) as server:
        assert len(taken(source(server.url + "/{1..9}"))) == 9 * len(RECORDS)


def test_requests_a_second_are_no_more_than_these() -> None:
    with WebServer(lambda r: ranged(r, NDJSON)) as server:
        begun = time.monotonic()  # when the server hears of a request is later, and by how much is luck
        taken(source(server.url + "/{1..4}", requests_per_second=20.0))
        assert time.monotonic() - begun >= 3 / 20
    assert len(server.requests) == 4


def test_a_source_survives_pickling() -> None:
    with serving(NDJSON) as (_, made):
        one = made(headers={"X-Token": TOKEN})
        assert taken(one) == RECORDS
        assert taken(pickle.loads(pickle.dumps(one))) == RECORDS


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the machine says of proxies and certificates."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate for 127.0.0.1 that signs itself, and its key, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    key, signed, both = folder / "key.pem", folder / "signed.pem", folder / "both.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", key, "-out", signed], check=True, capture_output=True)
    both.write_bytes(key.read_bytes() + signed.read_bytes())
    return both


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificates_come_from_the_environment(
    certificate: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(certificate.parent / "signed.pem"))
    with WebServer(lambda r: ranged(r, NDJSON), certificate=str(certificate)) as server:
        assert taken(source(server.url)) == RECORDS


def test_a_certificate_that_nobody_trusts_is_a_named_error_at_once(certificate: Path) -> None:
    with (
        WebServer(lambda r: ranged(r, NDJSON), certificate=str(certificate)) as server,
        pytest.raises(SourceUntrusted, match="SSL_CERT_FILE"),
    ):
        taken(source(server.url))
    assert not server.requests


def test_a_file_of_certificates_that_is_not_there_is_a_named_error(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/certificates.pem")
    with (
        WebServer(lambda r: ranged(r, NDJSON), certificate=str(certificate)) as server,
        pytest.raises(SourceError, match=r"/nowhere/certificates.pem"),
    ):
        taken(source(server.url))


def test_a_page_in_place_of_data_is_a_named_error() -> None:
    page = Answer(headers={"Content-Type": "text/html; charset=utf-8"}, body=b"\n<!DOCTYPE html><p>Log in")
    with WebServer(lambda _: page) as server, pytest.raises(SourceError, match=r"a page \(text/html\)"):
        taken(source(server.url + "/data.csv"))


def test_data_that_is_called_a_page_is_read() -> None:
    with WebServer(lambda _: Answer(headers={"Content-Type": "text/html"}, body=NDJSON)) as server:
        assert taken(source(server.url)) == RECORDS


def test_a_proxy_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with WebServer(lambda r: ranged(r, NDJSON)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        assert taken(source("http://data.invalid/a.ndjson")) == RECORDS
        assert proxy.requests[0].path == "http://data.invalid/a.ndjson"


def test_a_login_of_netrc_does_not_replace_the_jobs_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password other\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    with serving(NDJSON) as (server, made):
        taken(made(headers={"Authorization": f"Bearer {TOKEN}"}))
        taken(made())
    told: list[Any] = [request.headers.get("authorization") for request in server.requests]
    assert told == [f"Bearer {TOKEN}", "Basic bWU6b3RoZXI="]
