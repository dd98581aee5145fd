"""The resumable protocol, request by request."""

from __future__ import annotations

import random
import time
from contextlib import suppress

import pytest
import requests

from etl.testing.gcs_server import GcsServer
from tests.testing.gcs_wire import BUCKET, QUANTUM, Wire, begin_put, crc32c, md5, reason, send_and_break

DATA = random.Random(4).randbytes(2 * QUANTUM + 1000)  # the same in each worker: it is in names of tests
CHUNKS = [
    ("bytes 0-262143/*", DATA[:QUANTUM]),
    ("bytes 262144-524287/*", DATA[QUANTUM : 2 * QUANTUM]),
    (f"bytes 524288-{len(DATA) - 1}/{len(DATA)}", DATA[2 * QUANTUM :]),
]


def stored(answer: requests.Response) -> int:
    """Return how many bytes a 308 says are stored."""
    assert answer.status_code == 308, answer.text
    assert answer.content == b""
    header = answer.headers.get("Range")
    return int(header.removeprefix("bytes=0-")) + 1 if header else 0


def test_chunks_become_an_object(gcs: GcsServer, wire: Wire) -> None:
    location = wire.location("a", {"metadata": {"part": "1"}, "contentType": "text/x"})
    assert [stored(wire.put(location, *chunk)) for chunk in CHUNKS[:2]] == [QUANTUM, 2 * QUANTUM]
    assert gcs.objects(BUCKET) == {}
    answer = wire.put(location, *CHUNKS[2])
    assert answer.status_code == 200
    found = answer.json()
    assert (found["size"], found["crc32c"], found["md5Hash"]) == (str(len(DATA)), crc32c(DATA), md5(DATA))
    assert (found["metadata"], found["contentType"]) == ({"part": "1"}, "text/x")
    assert (gcs.root / BUCKET / "a").read_bytes() == DATA


def test_the_location_leads_through_whatever_the_client_came_through(wire: Wire) -> None:
    answer = wire.begin("a", headers={"Host": "proxy.example:4443"})
    assert answer.headers["Location"].startswith("http://proxy.example:4443/upload/storage/v1/b/parts/o?")


def test_the_content_type_may_come_as_a_header(wire: Wire) -> None:
    answer = wire.begin("a", headers={"X-Upload-Content-Type": "text/y"})
    assert wire.put(answer.headers["Location"], "bytes */0").json()["contentType"] == "text/y"


def test_a_put_without_a_range_is_the_whole_object(gcs: GcsServer, wire: Wire) -> None:
    assert wire.session.put(wire.location("a"), data=b"whole", timeout=60).status_code == 200
    assert gcs.objects(BUCKET) == {"a": 5}


def test_an_empty_object_is_finished_by_its_length(gcs: GcsServer, wire: Wire) -> None:
    assert wire.put(wire.location("a"), "bytes */0").status_code == 200
    assert gcs.objects(BUCKET) == {"a": 0}


def test_an_empty_rest_is_finished_by_the_total(gcs: GcsServer, wire: Wire) -> None:
    location = wire.location("a")
    wire.put(location, *CHUNKS[0])
    assert wire.put(location, f"bytes */{QUANTUM}").status_code == 200
    assert gcs.objects(BUCKET) == {"a": QUANTUM}


@pytest.mark.parametrize("question", ["bytes */*", f"bytes */{len(DATA)}"])
def test_the_status_has_no_range_while_nothing_is_stored(wire: Wire, question: str) -> None:
    answer = wire.put(wire.location("a"), question)
    assert stored(answer) == 0
    assert "Range" not in answer.headers


@pytest.mark.parametrize("question", ["bytes */*", f"bytes */{len(DATA)}"])
def test_the_status_says_what_is_stored_and_changes_nothing(wire: Wire, question: str) -> None:
    location = wire.location("a")
    wire.put(location, *CHUNKS[0])
    assert [stored(wire.put(location, question)) for _ in range(2)] == [QUANTUM] * 2


def test_a_finished_upload_answers_with_its_object_ever_after(wire: Wire) -> None:
    location = wire.location("a")
    first = wire.put(location, "bytes 0-2/3", b"abc").json()
    wire.upload("a", b"another one")
    for again in (("bytes 0-2/3", b"abc"), ("bytes */*",), ("bytes */3",), CHUNKS[0]):
        answer = wire.put(location, *again)
        assert (answer.status_code, answer.json()["generation"]) == (200, first["generation"])


def test_a_total_below_what_is_stored_finishes_nothing(gcs: GcsServer, wire: Wire) -> None:
    location = wire.location("a")
    wire.put(location, *CHUNKS[0])
    wire.put(location, *CHUNKS[1])
    assert stored(wire.put(location, f"bytes */{QUANTUM}")) == 2 * QUANTUM
    assert gcs.objects(BUCKET) == {}


def test_a_chunk_beyond_what_is_stored_is_refused(wire: Wire) -> None:
    location = wire.location("a")
    answer = wire.put(location, *CHUNKS[1])
    assert answer.status_code == 503
    assert "exceeds already uploaded size of 0 byte(s)" in answer.text
    assert stored(wire.put(location, "bytes */*")) == 0


def test_an_overlapping_chunk_is_taken_from_where_the_server_stands(gcs: GcsServer, wire: Wire) -> None:
    location = wire.location("a")
    wire.put(location, *CHUNKS[0])
    assert wire.put(location, f"bytes 0-{len(DATA) - 1}/{len(DATA)}", DATA).status_code == 200
    assert (gcs.root / BUCKET / "a").read_bytes() == DATA


def test_a_chunk_that_is_there_already_changes_nothing(wire: Wire) -> None:
    location = wire.location("a")
    wire.put(location, *CHUNKS[0])
    wire.put(location, *CHUNKS[1])
    assert stored(wire.put(location, CHUNKS[0][0], bytes(QUANTUM))) == 2 * QUANTUM
    assert wire.put(location, *CHUNKS[2]).json()["crc32c"] == crc32c(DATA)


@pytest.mark.parametrize(
    ("content_range", "length"),
    [
        ("bytes 0-999/*", 1000),  # no multiple of 256 KiB
        ("bytes 0-262144/*", QUANTUM + 1),
        ("bytes 0-262143/524289", 1000),  # not the body's length
        ("bytes 0-262143/1000", QUANTUM),  # longer than the total
        ("bytes 5-3/*", 0),
        ("bytes */*", 5),
        ("bytes 0-", 5),
        ("megabytes 0-4/5", 5),
    ],
)
def test_a_chunk_that_makes_no_sense_is_refused(wire: Wire, content_range: str, length: int) -> None:
    location = wire.location("a")
    answer = wire.put(location, content_range, bytes(length))
    assert (answer.status_code, reason(answer)) == (400, "invalid")
    assert stored(wire.put(location, "bytes */*")) == 0


def test_a_total_that_was_not_declared_is_refused(wire: Wire) -> None:
    location = wire.begin("a", headers={"x-upload-content-length": "10"}).headers["Location"]
    assert wire.put(location, "bytes 0-4/5", b"hello").status_code == 400
    assert wire.put(location, "bytes 0-9/10", b"0123456789").status_code == 200


# Less is stored than was sent


def test_one_chunk_may_be_stored_in_part(gcs: GcsServer, wire: Wire) -> None:
    location = wire.location("a")
    gcs.persist_at_most(QUANTUM + 1000)
    assert stored(wire.put(location, "bytes 0-524287/*", DATA[: 2 * QUANTUM])) == QUANTUM
    assert stored(wire.put(location, *CHUNKS[1])) == 2 * QUANTUM


def test_the_last_chunk_may_be_stored_in_part(gcs: GcsServer, wire: Wire) -> None:
    location = wire.location("a")
    gcs.persist_at_most(QUANTUM)
    assert stored(wire.put(location, f"bytes 0-{len(DATA) - 1}/{len(DATA)}", DATA)) == QUANTUM
    rest = wire.put(location, f"bytes {QUANTUM}-{len(DATA) - 1}/{len(DATA)}", DATA[QUANTUM:])
    assert rest.json()["crc32c"] == crc32c(DATA)


def test_each_chunk_may_be_stored_in_part_and_then_whole_again(gcs: GcsServer, wire: Wire) -> None:
    location = wire.location("a")
    gcs.persist_at_most(0, requests=None)
    assert [stored(wire.put(location, *CHUNKS[0])) for _ in range(3)] == [0, 0, 0]
    gcs.persist_at_most(None)
    assert stored(wire.put(location, *CHUNKS[0])) == QUANTUM


@pytest.mark.parametrize(("sent", "kept"), [(1000, 0), (QUANTUM, QUANTUM), (2 * QUANTUM - 1, QUANTUM)])
def test_what_came_before_a_connection_broke_stays_in_whole_pieces(wire: Wire, sent: int, kept: int) -> None:
    location = wire.location("a")
    send_and_break(location, "bytes 0-786431/*", 3 * QUANTUM, DATA[:sent])
    assert stored(wire.put(location, "bytes */*")) == kept


def test_a_last_chunk_that_broke_finishes_nothing(gcs: GcsServer, wire: Wire) -> None:
    location = wire.location("a")
    send_and_break(location, f"bytes 0-{len(DATA) - 1}/{len(DATA)}", len(DATA), DATA[:-1])
    assert gcs.objects(BUCKET) == {}
    assert stored(wire.put(location, "bytes */*")) == 2 * QUANTUM
    assert wire.put(location, *CHUNKS[2]).json()["crc32c"] == crc32c(DATA)


def test_an_older_request_stores_nothing_after_a_newer_one_was_answered(gcs: GcsServer, wire: Wire) -> None:
    location, block = wire.location("a"), 4 * QUANTUM
    data = bytes(3 * block)
    with begin_put(location, f"bytes 0-{len(data) - 1}/*", len(data), data[:block]) as older:
        deadline = time.monotonic() + 60
        while sum(path.stat().st_size for path in gcs.state.glob("uploads/*.data")) < block:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        assert stored(wire.put(location, "bytes */*")) == block
        with suppress(ConnectionError):  # it is broken as soon as the server reads on
            older.sendall(data[block:])
            assert older.recv(1) == b""
    assert stored(wire.put(location, "bytes */*")) == block


# Sessions that end


def test_sessions_are_counted_while_they_are_open(gcs: GcsServer, wire: Wire) -> None:
    first, second, _ = wire.location("a"), wire.location("a"), wire.location("b")
    assert gcs.sessions() == 3
    wire.put(first, "bytes */0")
    wire.session.delete(second, timeout=60)
    assert gcs.sessions() == 1


def test_a_cancelled_upload_is_gone(gcs: GcsServer, wire: Wire) -> None:
    location = wire.location("a")
    wire.put(location, *CHUNKS[0])
    assert wire.session.delete(location, timeout=60).status_code == 499
    assert wire.put(location, *CHUNKS[1]).status_code == 499
    assert wire.put(location, "bytes */*").status_code == 499
    assert wire.session.delete(location, timeout=60).status_code == 499
    assert gcs.objects(BUCKET) == {}
    assert not list(gcs.state.glob("uploads/*.data"))


def test_a_finished_upload_cannot_be_cancelled(gcs: GcsServer, wire: Wire) -> None:
    location = wire.location("a")
    wire.put(location, "bytes */0")
    assert wire.session.delete(location, timeout=60).status_code == 200
    assert gcs.objects(BUCKET) == {"a": 0}


def test_an_upload_that_never_was_is_not_found(wire: Wire) -> None:
    location = wire.location("a")
    answer = wire.put(location[:-32] + "0" * 32, "bytes */*")
    assert (answer.status_code, reason(answer)) == (404, "notFound")


def test_an_expired_upload_is_gone(gcs: GcsServer, wire: Wire) -> None:
    location = wire.location("a")
    gcs.expire_sessions()
    assert wire.put(location, *CHUNKS[0]).status_code == 410
    assert wire.put(location, "bytes */*").status_code == 410
    assert gcs.sessions() == 0


# Checksums


@pytest.mark.parametrize(
    "given", [f"crc32c={crc32c(DATA)}", f"md5={md5(DATA)}", f"crc32c={crc32c(DATA)},md5={md5(DATA)}"]
)
def test_a_checksum_with_the_last_chunk_that_matches_is_accepted(wire: Wire, given: str) -> None:
    location = wire.location("a")
    for chunk in CHUNKS[:2]:
        wire.put(location, *chunk)
    assert wire.put(location, *CHUNKS[2], x_goog_hash=given).status_code == 200


@pytest.mark.parametrize(
    "given", [f"crc32c={crc32c(b'?')}", f"md5={md5(b'?')}", f"crc32c={crc32c(DATA)},md5={md5(b'?')}"]
)
def test_a_checksum_with_the_last_chunk_that_differs_stores_nothing(
    gcs: GcsServer, wire: Wire, given: str
) -> None:
    location = wire.location("a")
    answer = wire.put(location, f"bytes 0-{len(DATA) - 1}/{len(DATA)}", DATA, x_goog_hash=given)
    assert (answer.status_code, reason(answer)) == (400, "invalid")
    assert "doesn't match calculated" in answer.text
    assert gcs.objects(BUCKET) == {}
    assert gcs.sessions() == 0
    assert wire.put(location, "bytes */*").status_code == 410


@pytest.mark.parametrize("resource", [{"crc32c": crc32c(b"?")}, {"md5Hash": md5(b"?")}])
def test_a_checksum_from_the_start_of_the_upload_is_verified(
    gcs: GcsServer, wire: Wire, resource: dict[str, str]
) -> None:
    assert wire.put(wire.location("a", resource), "bytes 0-2/3", b"abc").status_code == 400
    assert gcs.objects(BUCKET) == {}
    assert wire.put(wire.location("a", resource), "bytes 0-0/1", b"?").status_code == 200


# Preconditions


def test_a_precondition_is_checked_when_an_upload_begins(wire: Wire) -> None:
    wire.upload("a", b"there")
    answer = wire.begin("a", ifGenerationMatch=0)
    assert (answer.status_code, reason(answer)) == (412, "conditionNotMet")


def test_a_precondition_is_checked_when_an_upload_ends(gcs: GcsServer, wire: Wire) -> None:
    location = wire.location("a", ifGenerationMatch=0)
    wire.upload("a", b"somebody else")
    for _ in range(2):
        answer = wire.put(location, "bytes 0-2/3", b"abc")
        assert (answer.status_code, reason(answer)) == (412, "conditionNotMet")
    assert gcs.objects(BUCKET) == {"a": len(b"somebody else")}


def test_of_two_create_only_uploads_one_lands(gcs: GcsServer, wire: Wire) -> None:
    locations = [wire.location("a", ifGenerationMatch=0) for _ in range(2)]
    answers = [wire.put(location, "bytes 0-2/3", b"abc").status_code for location in locations]
    assert answers == [200, 412]
    assert wire.session.delete(locations[1], timeout=60).status_code == 499
    assert gcs.sessions() == 0


def test_a_missing_bucket_is_said_at_the_start(wire: Wire) -> None:
    answer = wire.call("POST", "/upload/storage/v1/b/other/o", uploadType="resumable", name="a")
    assert (answer.status_code, reason(answer)) == (404, "notFound")


def test_a_body_in_http_chunks_is_taken(gcs: GcsServer, wire: Wire) -> None:
    pieces = iter([DATA[:1000], DATA[1000:]])
    headers = {"Content-Range": f"bytes 0-{len(DATA) - 1}/{len(DATA)}"}
    answer = wire.session.put(wire.location("a"), data=pieces, headers=headers, timeout=60)
    assert answer.status_code == 200
    assert (gcs.root / BUCKET / "a").read_bytes() == DATA
