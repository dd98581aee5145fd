"""Downloads and lists, request by request."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from tests.testing.gcs_wire import BUCKET, Wire, crc32c, md5, reason

# Downloads


def test_a_download_says_what_it_is(wire: Wire) -> None:
    found = wire.upload("a", b"hello", headers={"Content-Type": "text/x"}).json()
    for path in ("/storage/v1", "/download/storage/v1"):
        answer = wire.call("GET", f"{path}/b/{BUCKET}/o/a", alt="media")
        headers = answer.headers
        assert (answer.status_code, answer.content) == (200, b"hello")
        assert headers["X-Goog-Hash"] == f"crc32c={crc32c(b'hello')}, md5={md5(b'hello')}"
        assert headers["X-Goog-Generation"] == found["generation"]
        assert headers["X-Goog-Metageneration"] == "1"
        assert headers["X-Goog-Stored-Content-Length"] == "5"
        assert headers["X-Goog-Stored-Content-Encoding"] == "identity"
        assert (headers["ETag"], headers["Content-Type"]) == (found["etag"], "text/x")


@pytest.mark.parametrize(
    ("header", "expected", "content_range"),
    [
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=3-5", b"345", "bytes 3-5/10"),
        ("bytes=3-", b"3456789", "bytes 3-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-30", b"0123456789", "bytes 0-9/10"),
        ("bytes=8-30", b"89", "bytes 8-9/10"),
        ("bytes=0-9", b"0123456789", "bytes 0-9/10"),
    ],
)
def test_a_range_is_a_piece(wire: Wire, header: str, expected: bytes, content_range: str) -> None:
    wire.upload("a", b"0123456789")
    answer = wire.download("a", headers={"Range": header})
    assert (answer.status_code, answer.content) == (206, expected)
    assert answer.headers["Content-Range"] == content_range
    assert answer.headers["X-Goog-Hash"].startswith(f"crc32c={crc32c(b'0123456789')}")


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0"])
def test_a_range_behind_the_end_cannot_be_satisfied(wire: Wire, header: str) -> None:
    wire.upload("a", b"0123456789")
    answer = wire.download("a", headers={"Range": header})
    assert (answer.status_code, reason(answer)) == (416, "requestedRangeNotSatisfiable")
    assert answer.headers["Content-Range"] == "bytes */10"


def test_gzip_is_served_as_it_is_stored(wire: Wire) -> None:
    data = gzip.compress(b"hello" * 100)
    wire.multipart({"name": "a", "contentEncoding": "gzip"}, data)
    with wire.session.get(wire.object_url("a"), params={"alt": "media"}, stream=True, timeout=60) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["X-Goog-Stored-Content-Encoding"] == "gzip"
        assert answer.headers["X-Goog-Stored-Content-Length"] == str(len(data))
        assert answer.raw.read() == data


# Lists


def listed(wire: Wire, **query: Any) -> tuple[list[str], list[str]]:
    """Return all names and folders, asked for page by page."""
    names: list[str] = []
    folders: list[str] = []
    token = None
    while True:
        page = wire.call("GET", f"/storage/v1/b/{BUCKET}/o", pageToken=token, **query).json()
        names += [item["name"] for item in page.get("items", [])]
        folders += page.get("prefixes", [])
        token = page.get("nextPageToken")
        if token is None:
            return names, folders


@pytest.mark.parametrize("size", [None, 1, 2, 3, 100])
@pytest.mark.parametrize(
    ("query", "names", "folders"),
    [
        ({}, ["a/1", "a/2", "a/b/3", "b", "ü", "😀"], []),
        ({"prefix": "a/"}, ["a/1", "a/2", "a/b/3"], []),
        ({"delimiter": "/"}, ["b", "ü", "😀"], ["a/"]),
        ({"prefix": "a/", "delimiter": "/"}, ["a/1", "a/2"], ["a/b/"]),
        ({"startOffset": "a/2", "endOffset": "b"}, ["a/2", "a/b/3"], []),
        ({"prefix": "nothing"}, [], []),
    ],
)
def test_a_list_is_in_order_and_in_pages(
    wire: Wire, query: dict[str, str], names: list[str], folders: list[str], size: int | None
) -> None:
    for name in ("😀", "ü", "b", "a/b/3", "a/2", "a/1"):
        wire.upload(name, b"")
    assert listed(wire, maxResults=size, **query) == (names, folders)


def test_a_page_holds_no_more_than_was_asked_for(wire: Wire) -> None:
    for number in range(5):
        wire.upload(f"{number}", b"")
    page = wire.call("GET", f"/storage/v1/b/{BUCKET}/o", maxResults=2).json()
    assert len(page["items"]) == 2
    assert page["nextPageToken"]


@pytest.mark.parametrize("query", [{"versions": "true"}, {"matchGlob": "**"}, {"softDeleted": "true"}])
def test_what_a_list_cannot_heed_is_refused(wire: Wire, query: dict[str, str]) -> None:
    assert wire.call("GET", f"/storage/v1/b/{BUCKET}/o", **query).status_code == 501
