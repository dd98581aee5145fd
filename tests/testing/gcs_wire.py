"""What goes over the wire to a GCS server, request by request."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import google_crc32c
import requests

QUANTUM = 256 * 1024
BUCKET = "parts"


def crc32c(data: bytes) -> str:
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def reason(answer: requests.Response) -> str:
    """Return the reason in an error, which must have Google's form."""
    error = answer.json()["error"]
    assert error["code"] == answer.status_code
    assert error["message"] == error["errors"][0]["message"]
    return str(error["errors"][0]["reason"])


class Wire:
    """Plain requests to one server; parameters of the API are keywords."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.trust_env = False

    def object_url(self, name: str) -> str:
        return f"{self.url}/storage/v1/b/{BUCKET}/o/{quote(name, safe='')}"

    def call(self, method: str, path: str, resource: Any = None, **query: Any) -> requests.Response:
        return self.session.request(method, f"{self.url}{path}", json=resource, params=query, timeout=60)

    def on(self, method: str, name: str, resource: Any = None, **query: Any) -> requests.Response:
        return self.session.request(method, self.object_url(name), json=resource, params=query, timeout=60)

    def download(
        self, name: str, *, headers: Mapping[str, str] | None = None, **query: Any
    ) -> requests.Response:
        url = self.object_url(name)
        return self.session.get(url, params={"alt": "media", **query}, headers=headers, timeout=60)

    def upload(
        self, name: str, data: bytes, *, headers: Mapping[str, str] | None = None, **query: Any
    ) -> requests.Response:
        """Upload in one request, without metadata."""
        url = f"{self.url}/upload/storage/v1/b/{BUCKET}/o"
        params = {"uploadType": "media", "name": name, **query}
        return self.session.post(url, params=params, data=data, headers=headers, timeout=60)

    def multipart(
        self, resource: dict[str, Any], data: bytes, end: str = "", **query: Any
    ) -> requests.Response:
        """Upload in one request, metadata and data; `end` comes after the last boundary."""
        metadata = f"--B\r\nContent-Type: application/json\r\n\r\n{json.dumps(resource)}\r\n"
        head = f"{metadata}--B\r\nContent-Type: text/z\r\n\r\n"
        return self.session.post(
            f"{self.url}/upload/storage/v1/b/{BUCKET}/o",
            params={"uploadType": "multipart", **query},
            data=head.encode() + data + f"\r\n--B--{end}".encode(),
            headers={"Content-Type": 'multipart/related; boundary="B"'},
            timeout=60,
        )

    def begin(
        self, name: str, resource: Any = None, *, headers: Mapping[str, str] | None = None, **query: Any
    ) -> requests.Response:
        """Begin a resumable upload."""
        url = f"{self.url}/upload/storage/v1/b/{BUCKET}/o"
        params = {"uploadType": "resumable", "name": name, **query}
        return self.session.post(url, params=params, json=resource, headers=headers, timeout=60)

    def location(self, name: str, resource: Any = None, **query: Any) -> str:
        answer = self.begin(name, resource, **query)
        assert answer.status_code == 200, answer.text
        return str(answer.headers["Location"])

    def put(self, location: str, content_range: str, data: bytes = b"", **headers: str) -> requests.Response:
        """Send a chunk, or with no data a question; `x_goog_hash=…` is a header."""
        sent = {"Content-Range": content_range} | {k.replace("_", "-"): v for k, v in headers.items()}
        return self.session.put(location, data=data, headers=sent, timeout=60)


def send_and_break(location: str, content_range: str, promised: int, sent: bytes) -> None:
    """PUT less than was promised, and break the connection; return when the server has let go of it."""
    with begin_put(location, content_range, promised, sent) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""


def begin_put(location: str, content_range: str, promised: int, sent: bytes) -> socket.socket:
    """Send the head of a PUT and the start of its body; the connection stays open."""
    split = urlsplit(location)
    assert split.hostname is not None
    connection = socket.create_connection((split.hostname, split.port or 80), timeout=60)
    head = (
        f"PUT {split.path}?{split.query} HTTP/1.1\r\nHost: {split.netloc}\r\n"
        f"Content-Length: {promised}\r\nContent-Range: {content_range}\r\n\r\n"
    )
    connection.sendall(head.encode() + sent)
    return connection
