"""An upload when things go wrong: at each of its requests in turn, in every way that a network and a server know.

Each time the object is there and exactly right, or there is an error, no object, and no session.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from etl.testing.fault_proxy import Answer, CutRequest, Drop, Fault, FaultProxy, Head, Truncate
from etl.testing.gcs_server import GcsServer
from sinks import SinkError, SinkOccupied, UploadLost, checksum
from sinks.gcs import Objects, StoredObject, Upload, connect
from sinks.retry import Retry
from tests.sinks.conftest import BUCKET, GivesUpSoon

CHUNK = 512 * 1024
DATA = bytes(number % 251 for number in range(CHUNK)) * 3 + b"and a little more"
# What an upload of DATA sends: it begins, sends three chunks and the rest, and adds what it knows late.
REQUESTS = 6
QUICK = Retry(deadline=20.0, first_wait=0.001, longest_wait=0.01)
FOREVER = 10**6

FAULTS: dict[str, Callable[[], Fault]] = {
    "408": lambda: Answer(408),
    "429": lambda: Answer(429),
    "500": lambda: Answer(500),
    "502": lambda: Answer(502),
    "503 three times": lambda: Answer(503, times=3),
    "503 though it was done": lambda: Answer(503, when="after"),
    "dropped": lambda: Drop("before"),
    "answer lost": lambda: Drop("after"),
    "answer cut": lambda: Truncate(10),
    "request cut": lambda: CutRequest(300 * 1024),
    "request cut at once": lambda: CutRequest(1),
}


@pytest.fixture
def proxy(gcs: GcsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    with FaultProxy(gcs.url) as made:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", made.url)
        yield made


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[Any]:
    made = connect()
    yield made
    made.close()


def upload(client: Any, retry: Retry = QUICK) -> StoredObject:
    with Upload(client, BUCKET, "object", chunk_bytes=CHUNK, metadata={"epoch": "1"}, retry=retry) as made:
        for start in range(0, len(DATA), 100_003):
            made.write(DATA[start : start + 100_003])
        made.describe({"records": "17"})
    return made.finish()


def assert_right(gcs: GcsServer, made: StoredObject) -> None:
    assert (gcs.root / BUCKET / "object").read_bytes() == DATA
    assert gcs.objects(BUCKET) == {"object": len(DATA)}
    assert (made.bytes, made.crc32c) == (len(DATA), checksum.extend(0, DATA))
    assert made.metadata["records"] == "17"


def is_last(head: Head) -> bool:
    span = head.headers.get("content-range", "")
    return head.method == "PUT" and span.endswith(f"/{len(DATA)}")


def test_without_faults_it_sends_no_more_than_it_must(gcs: GcsServer, proxy: FaultProxy, client: Any) -> None:
    assert_right(gcs, upload(client))
    assert [seen.method for seen in proxy.log] == ["POST", "PUT", "PUT", "PUT", "PUT", "PATCH"]
    assert len(proxy.log) == REQUESTS


@pytest.mark.parametrize("nth", range(1, REQUESTS + 1))
@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_at_any_request_is_got_over(
    gcs: GcsServer, proxy: FaultProxy, client: Any, kind: str, nth: int
) -> None:
    fault = FAULTS[kind]()
    proxy.at(nth, fault)
    made = upload(client)
    assert fault.happened.is_set()
    assert_right(gcs, made)
    found = Objects(client, BUCKET).find("object")
    assert found is not None
    assert (found.generation, dict(found.metadata)) == (made.generation, dict(made.metadata))
    # When the answer to the first is lost nobody knows the session; it expires, and can finalise nothing.
    assert gcs.sessions() <= (1 if nth == 1 else 0)


@pytest.mark.parametrize("kind", ["503", "dropped", "answer lost"])
def test_a_fault_at_every_second_request_is_got_over(
    gcs: GcsServer, proxy: FaultProxy, client: Any, kind: str
) -> None:
    numbers = itertools.count(2)
    fault = (lambda: Answer(503)) if kind == "503" else FAULTS[kind]
    for _ in range(40):
        number = next(numbers)
        proxy.at(1, fault(), of=lambda _head, number=number: len(proxy.log) == 2 * number)
    assert_right(gcs, upload(client))


@pytest.mark.parametrize("nth", range(1, REQUESTS + 1))
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_server_that_fails_for_good_leaves_an_error_and_once_it_is_back_nothing_else(
    gcs: GcsServer, proxy: FaultProxy, client: Any, nth: int, when: Any
) -> None:
    made = Upload(client, BUCKET, "object", chunk_bytes=CHUNK, metadata={"epoch": "1"}, retry=GivesUpSoon())
    proxy.at(nth, Answer(503, times=FOREVER, when=when))
    with pytest.raises(SinkError, match=r"gs://parts/object: the server said 503") as caught:  # noqa: PT012
        for start in range(0, len(DATA), 100_003):
            made.write(DATA[start : start + 100_003])
        made.describe({"records": "17"})
        made.finish()
    assert "\n" not in str(caught.value)
    proxy.counter._waiting.clear()  # the server is back
    made.abort()
    made.abort()
    assert gcs.objects(BUCKET) == {}
    assert nth == 1 or gcs.sessions() == 0


def test_an_abort_that_cannot_make_sure_says_so_and_may_be_repeated(
    gcs: GcsServer, proxy: FaultProxy, client: Any
) -> None:
    made = Upload(client, BUCKET, "object", retry=GivesUpSoon())
    made.write(b"x")
    proxy.at(2, Answer(503, times=FOREVER, when="after"), of=lambda head: head.method != "DELETE")
    with pytest.raises(SinkError):
        made.finish()
    assert gcs.objects(BUCKET) == {"object": 1}  # its answer was lost, for good
    with pytest.raises(SinkError, match="may exist, though it was not sealed"):
        made.abort()
    proxy.counter._waiting.clear()  # the server is back
    made.abort()
    assert gcs.objects(BUCKET) == {}


@pytest.mark.parametrize("kind", ["503 three times", "dropped", "answer lost"])
@pytest.mark.parametrize("sent", [0, 1, 3])
def test_an_abort_gets_over_faults(
    gcs: GcsServer, proxy: FaultProxy, client: Any, kind: str, sent: int
) -> None:
    made = Upload(client, BUCKET, "object", chunk_bytes=CHUNK, retry=QUICK)
    made.write(DATA[: sent * CHUNK + 1])
    proxy.at(1, FAULTS[kind](), of=lambda head: head.method == "DELETE")
    made.abort()
    assert gcs.objects(BUCKET) == {}
    assert gcs.sessions() == 0


@pytest.mark.parametrize("kept", [0, 1, 256 * 1024])
def test_a_short_308_is_followed_by_the_rest(gcs: GcsServer, client: Any, kept: int) -> None:
    gcs.persist_at_most(kept, requests=2)
    assert_right(gcs, upload(client))


def test_a_server_that_keeps_only_256_kib_of_each_request_gets_it_all(gcs: GcsServer, client: Any) -> None:
    gcs.persist_at_most(256 * 1024, requests=None)
    assert_right(gcs, upload(client))


def test_the_deadline_counts_from_the_last_progress(gcs: GcsServer, proxy: FaultProxy, client: Any) -> None:
    # Each request is refused once, for longer altogether than the deadline, which none of them alone exceeds.
    gcs.persist_at_most(256 * 1024, requests=None)
    for number in range(1, 40):
        proxy.at(number, Answer(503))
    assert_right(gcs, upload(client, Retry(deadline=30.0, first_wait=0.001, longest_wait=0.001)))


def test_a_lost_answer_on_the_last_chunk_is_found_out(gcs: GcsServer, proxy: FaultProxy, client: Any) -> None:
    fault = Drop("after")
    proxy.at(1, fault, of=is_last)
    assert_right(gcs, upload(client))
    assert fault.happened.is_set()
    assert [seen.method for seen in proxy.log].count("PUT") == 5  # the question, and nothing sent twice


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("nth", range(2, REQUESTS))
def test_a_session_that_is_lost_is_an_error_and_leaves_nothing(
    gcs: GcsServer, proxy: FaultProxy, client: Any, status: int, nth: int
) -> None:
    proxy.at(nth, Answer(status))
    with pytest.raises(UploadLost, match=rf"its upload session was lost \({status}\): abort"):
        upload(client)
    assert gcs.objects(BUCKET) == {}
    assert gcs.sessions() == 0


@pytest.mark.parametrize("status", [404, 410, 412])
def test_an_object_that_was_made_though_its_session_is_gone_is_ones_own(
    gcs: GcsServer, proxy: FaultProxy, client: Any, status: int
) -> None:
    proxy.at(1, Answer(status, when="after"), of=is_last)
    assert_right(gcs, upload(client))
    assert [seen.method for seen in proxy.log] == ["POST", "PUT", "PUT", "PUT", "PUT", "GET", "PATCH"]


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("made", [True, False])
def test_where_the_last_answer_is_lost_and_the_session_gone_the_object_tells(
    gcs: GcsServer, proxy: FaultProxy, client: Any, status: int, made: bool
) -> None:
    proxy.at(1, Drop("after" if made else "before"), of=is_last)
    proxy.at(1, Answer(status), of=lambda head: head.headers.get("content-range") == "bytes */*")
    if made:
        assert_right(gcs, upload(client))
        return
    with pytest.raises(UploadLost):
        upload(client)
    assert gcs.objects(BUCKET) == {}
    assert gcs.sessions() == 0


@pytest.mark.parametrize("status", [404, 410, 412])
def test_an_object_of_the_name_that_another_made_is_not_ones_own(
    gcs: GcsServer, proxy: FaultProxy, client: Any, status: int
) -> None:
    made = Upload(client, BUCKET, "object", chunk_bytes=CHUNK, retry=QUICK)
    made.write(DATA)
    client.bucket(BUCKET).blob("object").upload_from_string(b"theirs")
    proxy.at(1, Answer(status), of=is_last)
    with pytest.raises(SinkOccupied if status == 412 else UploadLost):
        made.finish()
    made.abort()
    assert gcs.objects(BUCKET) == {"object": 6}


def test_a_session_that_expired_is_an_error(gcs: GcsServer, client: Any) -> None:
    made = Upload(client, BUCKET, "object", chunk_bytes=CHUNK, retry=QUICK)
    made.write(DATA)
    made._land()  # the second chunk is there
    gcs.expire_sessions()
    with pytest.raises(SinkError, match="lost"):
        made.finish()
    made.abort()
    assert gcs.objects(BUCKET) == {}


def test_a_checksum_that_does_not_match_is_an_error_and_leaves_no_object(gcs: GcsServer, client: Any) -> None:
    made = Upload(client, BUCKET, "object", retry=QUICK)
    made.write(b"what was meant")
    assert made._buffer is not None
    made._session.crc32c = 1  # as memory that was damaged before it was sent
    with pytest.raises(SinkError, match="cannot write gs://parts/object"):
        made.finish()
    made.abort()
    assert gcs.objects(BUCKET) == {}
    assert gcs.sessions() == 0


def test_an_object_that_is_not_what_was_sent_is_removed(gcs: GcsServer, client: Any) -> None:
    made = Upload(client, BUCKET, "object", retry=QUICK)
    made.write(b"what was meant")
    send = made._session.send

    def send_and_forget_a_byte(chunk: memoryview, *, last: bool = False) -> None:
        send(chunk, last=last)
        made._session.size += 1

    made._session.send = send_and_forget_a_byte  # type: ignore[method-assign]
    with pytest.raises(SinkError, match="was damaged on its way"):
        made.finish()
    made.abort()
    assert gcs.objects(BUCKET) == {}


def test_what_another_made_of_the_name_meanwhile_is_never_removed(
    gcs: GcsServer, proxy: FaultProxy, client: Any
) -> None:
    made = Upload(client, BUCKET, "object", retry=GivesUpSoon())
    made.write(b"ours")
    proxy.at(1, Answer(503, times=FOREVER), of=lambda head: head.method == "PUT")
    with pytest.raises(SinkError):
        made.finish()
    (gcs_client := connect()).bucket(BUCKET).blob("object").upload_from_string(b"theirs")
    gcs_client.close()
    made.abort()
    assert gcs.objects(BUCKET) == {"object": 6}


@pytest.mark.parametrize("nth", range(1, REQUESTS + 1))
@pytest.mark.parametrize("status", [400, 403, 412])
def test_what_will_not_pass_is_an_error_at_once(
    gcs: GcsServer, proxy: FaultProxy, client: Any, nth: int, status: int
) -> None:
    proxy.at(nth, Answer(status))
    with pytest.raises(SinkError) as caught:
        upload(client)
    said = str(caught.value)
    assert "gs://parts/object" in said
    assert "\n" not in said
    if status == 403:
        assert "permission denied" in said
        assert f"give the account storage.objects.{'update' if nth == REQUESTS else 'create'}" in said
    assert isinstance(caught.value, SinkOccupied) == (status == 412 and nth < REQUESTS)
    assert gcs.objects(BUCKET) == {}
    assert gcs.sessions() == 0


def test_an_error_does_not_tell_the_address_of_the_session(proxy: FaultProxy, client: Any) -> None:
    for _ in range(200):
        proxy.at(1, Drop("before"), of=lambda head: head.method == "PUT")
    with pytest.raises(SinkError) as caught:
        upload(client, GivesUpSoon(deadline=0.1, longest_wait=0.02))
    assert any("upload_id=" in seen.path for seen in proxy.log)
    error: BaseException | None = caught.value
    while error is not None:
        assert "upload_id=" not in str(error).replace("upload_id=(hidden)", "")
        error = error.__cause__


def test_a_host_that_cannot_be_reached_is_an_error_by_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    client = connect()
    with pytest.raises(SinkError, match=r"no answer .* tried again until the deadline"):
        upload(client, GivesUpSoon())
    client.close()
    assert "upload object" not in [thread.name for thread in threading.enumerate()]
