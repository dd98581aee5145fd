"""What a bucket demands: retention policies, holds, who pays; and how much metadata an object may have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests

from etl.testing.gcs_server import GcsServer
from tests.testing.gcs_wire import BUCKET, QUANTUM, Wire, reason

BUCKET_PATH = f"/storage/v1/b/{BUCKET}"
DAY = {"retentionPolicy": {"retentionPeriod": "86400"}}
RETAINED = "is subject to bucket's retention policy"


def finish(wire: Wire) -> requests.Response:
    location = wire.begin("a").headers["Location"]
    return wire.session.put(location, data=b"new", timeout=60)


WRITES: dict[str, Callable[[Wire], requests.Response]] = {
    "delete": lambda wire: wire.on("DELETE", "a"),
    "simple upload": lambda wire: wire.upload("a", b"new"),
    "multipart upload": lambda wire: wire.multipart({"name": "a"}, b"new"),
    "end of a resumable upload": finish,
    "compose": lambda wire: wire.call(
        "POST", f"{BUCKET_PATH}/o/a/compose", {"sourceObjects": [{"name": "b"}]}
    ),
    "rewrite": lambda wire: wire.call("POST", f"{BUCKET_PATH}/o/b/rewriteTo/b/{BUCKET}/o/a", {}),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_retention_policy_keeps_what_is_there_and_what_comes(wire: Wire, write: str) -> None:
    wire.upload("a", b"old")
    wire.upload("b", b"")
    assert wire.call("PATCH", BUCKET_PATH, DAY).status_code == 200
    refused = WRITES[write](wire)
    assert (refused.status_code, reason(refused)) == (403, "retentionPolicyNotMet")
    assert RETAINED in refused.json()["error"]["message"]
    assert wire.download("a").content == b"old"
    wire.upload("c", b"")
    assert wire.on("DELETE", "c").status_code == 403
    wire.call("PATCH", BUCKET_PATH, {"retentionPolicy": None})
    assert WRITES[write](wire).ok


@pytest.mark.parametrize("hold", ["temporaryHold", "eventBasedHold"])
@pytest.mark.parametrize("write", WRITES)
def test_a_hold_keeps_its_object(wire: Wire, write: str, hold: str) -> None:
    wire.upload("a", b"old")
    wire.upload("b", b"")
    assert wire.on("PATCH", "a", {hold: True}).json()[hold] is True
    refused = WRITES[write](wire)
    assert (refused.status_code, reason(refused)) == (403, "forbidden")
    assert "hold and cannot be deleted, overwritten or archived" in refused.json()["error"]["message"]
    wire.on("PATCH", "a", {hold: False})
    assert WRITES[write](wire).ok


def test_a_precondition_is_judged_before_a_retention_policy(wire: Wire) -> None:
    wire.upload("a", b"")
    wire.call("PATCH", BUCKET_PATH, DAY)
    assert wire.on("DELETE", "a", ifGenerationMatch=1).status_code == 412


def test_an_upload_over_what_is_kept_takes_every_byte_and_is_refused_at_the_end(wire: Wire) -> None:
    wire.upload("a", b"old")
    wire.call("PATCH", BUCKET_PATH, DAY)
    location = wire.begin("a").headers["Location"]
    headers = {"Content-Range": f"bytes 0-{QUANTUM - 1}/*"}
    assert wire.session.put(location, data=bytes(QUANTUM), headers=headers, timeout=60).status_code == 308
    headers = {"Content-Range": f"bytes */{QUANTUM}"}
    assert wire.session.put(location, headers=headers, timeout=60).status_code == 403


def test_an_object_says_until_when_it_is_kept(wire: Wire) -> None:
    wire.call("PATCH", BUCKET_PATH, {**DAY, "defaultEventBasedHold": True})
    made = wire.upload("a", b"").json()
    assert made["eventBasedHold"] is True
    assert "retentionExpirationTime" not in made  # nobody knows before the hold ends
    released = wire.on("PATCH", "a", {"eventBasedHold": False}).json()
    assert released["retentionExpirationTime"] > made["timeCreated"]
    (listed,) = wire.call("GET", f"{BUCKET_PATH}/o").json()["items"]
    assert listed["retentionExpirationTime"] == released["retentionExpirationTime"]


def test_a_locked_policy_only_becomes_longer(wire: Wire) -> None:
    found = wire.call("PATCH", BUCKET_PATH, DAY).json()
    locked = wire.call(
        "POST", f"{BUCKET_PATH}/lockRetentionPolicy", ifMetagenerationMatch=found["metageneration"]
    )
    assert locked.json()["retentionPolicy"]["isLocked"] is True
    for change in (None, {"retentionPeriod": "1"}):
        refused = wire.call("PATCH", BUCKET_PATH, {"retentionPolicy": change})
        assert (refused.status_code, reason(refused)) == (403, "retentionPolicyNotMet")
    assert wire.call("PATCH", BUCKET_PATH, {"retentionPolicy": {"retentionPeriod": "90000"}}).ok


def test_policies_outlast_the_server(gcs: GcsServer, wire: Wire) -> None:
    wire.call("PATCH", BUCKET_PATH, DAY)
    wire.upload("a", b"")
    wire.on("PATCH", "a", {"temporaryHold": True})
    with GcsServer(gcs.root) as other:
        again = Wire(other.url)
        assert again.call("GET", BUCKET_PATH).json()["retentionPolicy"]["retentionPeriod"] == "86400"
        assert "Temporary hold" in again.on("DELETE", "a").json()["error"]["message"]
        again.session.close()


REQUESTS: dict[str, Callable[..., requests.Response]] = {
    "bucket": lambda wire, **query: wire.call("GET", BUCKET_PATH, **query),
    "list": lambda wire, **query: wire.call("GET", f"{BUCKET_PATH}/o", **query),
    "metadata": lambda wire, **query: wire.on("GET", "a", **query),
    "upload": lambda wire, **query: wire.upload("a", b"", **query),
    "start of a resumable upload": lambda wire, **query: wire.begin("a", **query),
    "patch": lambda wire, **query: wire.on("PATCH", "a", {}, **query),
    "delete": lambda wire, **query: wire.on("DELETE", "a", **query),
}


@pytest.mark.parametrize("call", REQUESTS)
def test_where_requesters_pay_each_request_must_say_who(wire: Wire, call: str) -> None:
    wire.upload("a", b"")
    wire.call("PATCH", BUCKET_PATH, {"billing": {"requesterPays": True}})
    refused = REQUESTS[call](wire)
    assert (refused.status_code, reason(refused)) == (400, "required")
    assert "no user project provided" in refused.json()["error"]["message"]
    assert REQUESTS[call](wire, userProject="mine").ok


def test_where_requesters_pay_a_download_is_refused_in_plain_text(wire: Wire) -> None:
    wire.upload("a", b"bytes")
    wire.call("PATCH", BUCKET_PATH, {"billing": {"requesterPays": True}})
    refused = wire.download("a")
    assert refused.status_code == 400
    assert refused.text.startswith("Bucket is a requester pays bucket")
    assert wire.download("a", userProject="mine").content == b"bytes"


def test_a_session_goes_on_for_who_pays(wire: Wire) -> None:
    wire.call("PATCH", BUCKET_PATH, {"billing": {"requesterPays": True}})
    location = wire.begin("a", userProject="mine").headers["Location"]
    assert wire.session.put(location, data=b"bytes", timeout=60).ok
    assert wire.session.put(location.replace("userProject", "other"), data=b"", timeout=60).status_code == 400


@pytest.mark.parametrize(
    ("metadata", "status"),
    [
        ({"a": "x" * 4096, "b": "x" * 4094}, 200),
        ({"a": "x" * 4096, "b": "x" * 4095}, 400),
        ({"a": "x" * 4097}, 400),
        ({"a" * 1025: ""}, 400),
        ({str(number): "ü" * 40 for number in range(101)}, 400),
    ],
)
def test_custom_metadata_has_its_limits(wire: Wire, metadata: dict[str, Any], status: int) -> None:
    wire.upload("a", b"")
    assert wire.on("PATCH", "a", {"metadata": metadata}).status_code == status
    assert wire.multipart({"name": "b", "metadata": metadata}, b"").status_code == status
