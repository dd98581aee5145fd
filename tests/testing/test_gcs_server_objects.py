"""Objects and buckets, request by request: how they come, are named, change and go."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from etl.testing.gcs_server import ApiError, GcsServer
from tests.testing.gcs_wire import BUCKET, Wire, crc32c, md5, reason

# Uploads in one request


def test_a_simple_upload_is_an_object_and_a_file(gcs: GcsServer, wire: Wire) -> None:
    found = wire.upload("folder/a", b"hello", headers={"Content-Type": "text/x"}).json()
    assert (found["size"], found["crc32c"], found["md5Hash"]) == ("5", crc32c(b"hello"), md5(b"hello"))
    assert (found["contentType"], found["metageneration"]) == ("text/x", "1")
    assert (gcs.root / BUCKET / "folder" / "a").read_bytes() == b"hello"
    assert gcs.objects(BUCKET) == {"folder/a": 5}


@pytest.mark.parametrize("end", ["", "\r\n"])
@pytest.mark.parametrize("data", [b"", b"x", b"\r\n--not the boundary--\r\n", bytes(3 * 1024 * 1024)])
def test_a_multipart_upload_has_its_metadata_with_it(wire: Wire, data: bytes, end: str) -> None:
    answer = wire.multipart({"name": "a", "metadata": {"k": "v"}}, data, end)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["metadata"], answer.json()["contentType"]) == ({"k": "v"}, "text/z")
    assert wire.download("a").content == data


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/related; boundary=B", b"--B\r\n\r\n{}\r\n--B\r\n\r\ndata, and no end"),
        ("multipart/related; boundary=B", b"--B\r\n\r\n{}"),
        ("multipart/related; boundary=B", b"--C\r\n\r\n{}"),
        ("multipart/related", b"--B\r\n\r\n{}"),
        ("text/plain", b"hello"),
    ],
)
def test_a_multipart_body_that_is_not_whole_stores_nothing(
    gcs: GcsServer, wire: Wire, content_type: str, body: bytes
) -> None:
    url = f"{wire.url}/upload/storage/v1/b/{BUCKET}/o?uploadType=multipart&name=a"
    answer = wire.session.post(url, data=body, headers={"Content-Type": content_type}, timeout=60)
    assert (answer.status_code, reason(answer)) == (400, "invalid")
    assert gcs.objects(BUCKET) == {}


@pytest.mark.parametrize("given", [f"crc32c={crc32c(b'?')}", f"md5={md5(b'?')}", "sha1=abc"])
def test_a_simple_upload_whose_checksum_differs_stores_nothing(
    gcs: GcsServer, wire: Wire, given: str
) -> None:
    answer = wire.upload("a", b"hello", headers={"x-goog-hash": given})
    assert (answer.status_code, reason(answer)) == (400, "invalid")
    assert gcs.objects(BUCKET) == {}


@pytest.mark.parametrize("resource", [{"crc32c": crc32c(b"?")}, {"md5Hash": md5(b"?")}])
def test_a_multipart_upload_whose_checksum_differs_stores_nothing(
    gcs: GcsServer, wire: Wire, resource: dict[str, str]
) -> None:
    assert wire.multipart({"name": "a", **resource}, b"hello").status_code == 400
    assert gcs.objects(BUCKET) == {}
    assert wire.multipart({"name": "a", **resource}, b"?").status_code == 200


def test_md5_is_verified_also_by_a_server_that_computes_none(tmp_path: Path) -> None:
    with GcsServer(tmp_path / "gcs", md5=False) as gcs:
        gcs.create_bucket(BUCKET)
        wire = Wire(gcs.url)
        with wire.session:
            assert wire.upload("a", b"hello", headers={"x-goog-hash": f"md5={md5(b'?')}"}).status_code == 400
            found = wire.upload("a", b"hello", headers={"x-goog-hash": f"md5={md5(b'hello')}"}).json()
            assert "md5Hash" not in found


def test_an_upload_of_an_unknown_kind_is_refused(wire: Wire) -> None:
    assert wire.upload("a", b"", uploadType="carrier-pigeon").status_code == 400
    assert reason(wire.call("POST", f"/upload/storage/v1/b/{BUCKET}/o", name="a")) == "required"


# Names


@pytest.mark.parametrize(
    "name", ["with space", "#1?x=y&z", "ünï/cödé 😀", "100%", "a+b", "%2F", "...", "a/.b"]
)
def test_any_name_of_a_file_is_a_name(gcs: GcsServer, wire: Wire, name: str) -> None:
    wire.upload(name, b"hello")
    assert gcs.objects(BUCKET) == {name: 5}
    assert (gcs.root / BUCKET / name).is_file()
    assert wire.on("GET", name).json()["name"] == name
    assert wire.download(name).content == b"hello"
    assert wire.on("DELETE", name).status_code == 204


@pytest.mark.parametrize(
    "name", ["..", "../x", "a/../../x", "/etc/x", "a//b", "a/", ".", "a\nb", "a\0b", "x" * 256, "é/" * 400]
)
def test_a_name_that_is_no_path_below_the_bucket_is_refused(gcs: GcsServer, wire: Wire, name: str) -> None:
    assert wire.upload(name, b"hello").status_code == 400
    assert wire.begin(name).status_code == 400
    assert gcs.objects(BUCKET) == {}


@pytest.mark.parametrize(("first", "second"), [("a", "a/b"), ("a/b", "a"), ("a", "a/b/c"), ("a/b/c", "a")])
def test_a_name_that_would_be_a_file_and_a_folder_is_refused(wire: Wire, first: str, second: str) -> None:
    wire.upload(first, b"")
    assert "folder" in wire.upload(second, b"").text
    wire.on("DELETE", first)
    assert wire.upload(second, b"").status_code == 200


def test_a_slash_that_is_not_encoded_belongs_to_the_path(wire: Wire) -> None:
    wire.upload("a/b", b"")
    assert wire.call("GET", f"/storage/v1/b/{BUCKET}/o/a/b").status_code == 404


# Changes


def test_a_patch_is_merged_and_none_takes_away(wire: Wire) -> None:
    wire.multipart({"name": "a", "metadata": {"k": "v", "l": "w"}, "cacheControl": "no-cache"}, b"")
    found = wire.on("PATCH", "a", {"metadata": {"k": None, "m": "x"}, "cacheControl": None}).json()
    assert found["metadata"] == {"l": "w", "m": "x"}
    assert "cacheControl" not in found
    assert "metadata" not in wire.on("PATCH", "a", {"metadata": None}).json()


def test_an_update_replaces_the_description(wire: Wire) -> None:
    wire.multipart({"name": "a", "metadata": {"k": "v"}, "cacheControl": "no-cache"}, b"")
    found = wire.on("PUT", "a", {"metadata": {"m": "x"}}).json()
    assert found["metadata"] == {"m": "x"}
    assert "cacheControl" not in found


@pytest.mark.parametrize("changes", [{"metadata": {"k": 1}}, {"metadata": "k"}, {"contentType": 1}, []])
def test_metadata_is_text(wire: Wire, changes: Any) -> None:
    wire.upload("a", b"")
    assert wire.on("PATCH", "a", changes or [1]).status_code == 400


def test_a_composition_is_its_sources_one_after_the_other(gcs: GcsServer, wire: Wire) -> None:
    for name in "abc":
        wire.upload(name, name.encode())
    sources = [{"name": "c"}, {"name": "a"}, {"name": "c"}]
    body = {"sourceObjects": sources, "destination": {"contentType": "text/x", "metadata": {"k": "v"}}}
    found = wire.call("POST", f"/storage/v1/b/{BUCKET}/o/all/compose", body).json()
    assert (found["componentCount"], found["crc32c"], found["metadata"]) == (3, crc32c(b"cac"), {"k": "v"})
    assert "md5Hash" not in found
    assert (gcs.root / BUCKET / "all").read_bytes() == b"cac"


def test_a_composition_may_name_the_generations_of_its_sources(gcs: GcsServer, wire: Wire) -> None:
    generation = int(wire.upload("a", b"a").json()["generation"])

    def compose(**source: Any) -> int:
        body = {"sourceObjects": [{"name": "a", **source}]}
        return wire.call("POST", f"/storage/v1/b/{BUCKET}/o/all/compose", body).status_code

    assert compose(generation=generation + 1) == 404
    assert compose(objectPreconditions={"ifGenerationMatch": generation + 1}) == 412
    assert gcs.objects(BUCKET) == {"a": 1}
    assert compose(generation=generation, objectPreconditions={"ifGenerationMatch": generation}) == 200


@pytest.mark.parametrize("count", [0, 33])
def test_a_composition_has_1_to_32_sources(wire: Wire, count: int) -> None:
    wire.upload("a", b"a")
    body = {"sourceObjects": [{"name": "a"}] * count}
    assert wire.call("POST", f"/storage/v1/b/{BUCKET}/o/all/compose", body).status_code == 400


def test_a_rewrite_keeps_the_description_unless_another_is_given(gcs: GcsServer, wire: Wire) -> None:
    gcs.create_bucket("other")
    wire.multipart({"name": "a/1", "metadata": {"k": "v"}}, b"hello")
    path = f"/storage/v1/b/{BUCKET}/o/a%2F1/rewriteTo/b/other/o/b%2F2"
    answer = wire.call("POST", path, {}).json()
    assert answer["done"]
    assert (answer["totalBytesRewritten"], answer["objectSize"]) == ("5", "5")
    assert answer["resource"]["metadata"] == {"k": "v"}
    assert gcs.objects("other") == {"b/2": 5}
    assert wire.call("POST", path, {"metadata": {"l": "w"}}).json()["resource"]["metadata"] == {"l": "w"}


def test_a_reader_keeps_the_object_it_began_to_read(wire: Wire) -> None:
    wire.upload("a", b"old" * 10_000_000)
    with wire.session.get(wire.object_url("a"), params={"alt": "media"}, stream=True, timeout=60) as answer:
        with requests.Session() as other:
            other.delete(wire.object_url("a"), timeout=60)
        assert answer.content == b"old" * 10_000_000


# Buckets


def test_buckets_are_made_listed_and_deleted(gcs: GcsServer, wire: Wire) -> None:
    assert wire.call("POST", "/storage/v1/b", {"name": "other"}, project="test").status_code == 200
    assert wire.call("GET", "/storage/v1/b/other").json()["name"] == "other"
    assert [item["name"] for item in wire.call("GET", "/storage/v1/b").json()["items"]] == ["other", BUCKET]
    assert reason(wire.call("POST", "/storage/v1/b", {"name": "other"})) == "conflict"
    assert wire.call("DELETE", "/storage/v1/b/other").status_code == 204
    wire.upload("a", b"")
    assert wire.call("DELETE", f"/storage/v1/b/{BUCKET}").status_code == 409


@pytest.mark.parametrize("name", ["..", "a/b", "UPPER", "x", ""])
def test_a_bucket_of_an_invalid_name_is_refused(gcs: GcsServer, wire: Wire, name: str) -> None:
    assert wire.call("POST", "/storage/v1/b", {"name": name}).status_code == 400
    with pytest.raises(ApiError, match="Invalid bucket name"):
        gcs.create_bucket(name)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/storage/v1/b/other"),
        ("GET", "/storage/v1/b/other/o"),
        ("GET", "/storage/v1/b/other/o/a"),
        ("DELETE", "/storage/v1/b/other/o/a"),
        ("PATCH", "/storage/v1/b/other/o/a"),
        ("POST", "/storage/v1/b/other/o/a/compose"),
        ("POST", "/upload/storage/v1/b/other/o?uploadType=media&name=a"),
        ("GET", f"/storage/v1/b/{quote('../gcs', safe='')}/o"),
    ],
)
def test_a_bucket_that_does_not_exist_is_not_found(wire: Wire, method: str, path: str) -> None:
    answer = wire.call(method, path, {"sourceObjects": [{"name": "a"}]} if "compose" in path else None)
    assert (answer.status_code, reason(answer)) == (404, "notFound")
    assert answer.json()["error"]["message"] == "The specified bucket does not exist."


def test_a_path_or_a_method_that_is_not_known_is_an_error_in_googles_form(wire: Wire) -> None:
    assert reason(wire.call("GET", "/storage/v1/x")) == "notFound"
    assert reason(wire.call("POST", f"/storage/v1/b/{BUCKET}/o/a")) == "methodNotAllowed"
    assert reason(wire.on("PATCH", "a", "no object")) == "invalid"
