"""Generations, metagenerations, and the preconditions on them, on every kind of request."""

from __future__ import annotations

import pytest

from tests.testing.gcs_wire import BUCKET, Wire, reason


def test_generations_grow_also_after_a_deletion(wire: Wire) -> None:
    found = []
    for _ in range(3):
        found.append(int(wire.upload("a", b"").json()["generation"]))
        wire.on("DELETE", "a")
    assert found == sorted(set(found))


def test_a_new_description_is_a_new_metageneration(wire: Wire) -> None:
    first = wire.upload("a", b"").json()
    second = wire.on("PATCH", "a", {"metadata": {"k": "v"}}).json()
    assert second["metageneration"] == "2"
    assert second["generation"] == first["generation"]
    assert second["etag"] != first["etag"]
    assert wire.upload("a", b"").json()["metageneration"] == "1"


HOLD, FAIL = "hold", "fail"
CONDITIONS = {
    "ifGenerationMatch": {HOLD: "{g}", FAIL: "1"},
    "ifGenerationNotMatch": {HOLD: "1", FAIL: "{g}"},
    "ifMetagenerationMatch": {HOLD: "2", FAIL: "3"},
    "ifMetagenerationNotMatch": {HOLD: "3", FAIL: "2"},
}
CALLS = {
    "simple upload": lambda wire, query: wire.upload("a", b"new", **query),
    "multipart upload": lambda wire, query: wire.multipart({"name": "a"}, b"new", **query),
    "start of a resumable upload": lambda wire, query: wire.begin("a", **query),
    "metadata": lambda wire, query: wire.on("GET", "a", **query),
    "download": lambda wire, query: wire.download("a", **query),
    "patch": lambda wire, query: wire.on("PATCH", "a", {}, **query),
    "update": lambda wire, query: wire.on("PUT", "a", {}, **query),
    "delete": lambda wire, query: wire.on("DELETE", "a", **query),
    "compose": lambda wire, query: wire.call(
        "POST", f"/storage/v1/b/{BUCKET}/o/a/compose", {"sourceObjects": [{"name": "b"}]}, **query
    ),
    "rewrite": lambda wire, query: wire.call(
        "POST", f"/storage/v1/b/{BUCKET}/o/b/rewriteTo/b/{BUCKET}/o/a", {}, **query
    ),
    "copy": lambda wire, query: wire.call(
        "POST", f"/storage/v1/b/{BUCKET}/o/b/copyTo/b/{BUCKET}/o/a", {}, **query
    ),
    "source of a rewrite": lambda wire, query: wire.call(
        "POST",
        f"/storage/v1/b/{BUCKET}/o/a/rewriteTo/b/{BUCKET}/o/b",
        {},
        **{name.replace("if", "ifSource", 1): value for name, value in query.items()},
    ),
}


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("call", CALLS)
def test_every_request_heeds_every_precondition(wire: Wire, call: str, condition: str) -> None:
    wire.upload("b", b"other")
    generation = wire.upload("a", b"old").json()["generation"]
    before = wire.on("PATCH", "a", {"metadata": {"k": "v"}}).json()
    fails, holds = (CONDITIONS[condition][kind].format(g=generation) for kind in (FAIL, HOLD))
    refused = CALLS[call](wire, {condition: fails})
    reading = call in ("metadata", "download", "source of a rewrite")
    assert refused.status_code == (304 if reading and "Not" in condition else 412)
    if refused.status_code == 412:
        assert reason(refused) == "conditionNotMet"
    assert wire.on("GET", "a").json() == before
    assert CALLS[call](wire, {condition: holds}).ok


@pytest.mark.parametrize(
    "call", ["simple upload", "multipart upload", "start of a resumable upload", "compose", "rewrite"]
)
def test_what_does_not_exist_is_generation_0(wire: Wire, call: str) -> None:
    wire.upload("b", b"other")
    assert CALLS[call](wire, {"ifGenerationMatch": 7}).status_code == 412
    assert CALLS[call](wire, {"ifGenerationNotMatch": 0}).status_code == 412
    assert CALLS[call](wire, {"ifGenerationMatch": 0}).status_code == 200


@pytest.mark.parametrize("value", ["soon", "-1", "1.5", ""])
def test_a_precondition_that_is_no_number_is_refused(wire: Wire, value: str) -> None:
    assert reason(wire.upload("a", b"", ifGenerationMatch=value)) == "invalidParameter"


@pytest.mark.parametrize("call", ["metadata", "download", "delete"])
def test_a_generation_that_is_not_the_live_one_is_not_found(wire: Wire, call: str) -> None:
    old = wire.upload("a", b"old").json()["generation"]
    new = wire.upload("a", b"new").json()["generation"]
    assert reason(CALLS[call](wire, {"generation": old})) == "notFound"
    assert CALLS[call](wire, {"generation": new}).ok


@pytest.mark.parametrize("call", ["metadata", "download", "patch", "update", "delete", "source of a rewrite"])
def test_an_object_that_does_not_exist_is_not_found(wire: Wire, call: str) -> None:
    answer = CALLS[call](wire, {})
    assert (answer.status_code, reason(answer)) == (404, "notFound")
    assert f"No such object: {BUCKET}/a" in answer.text
