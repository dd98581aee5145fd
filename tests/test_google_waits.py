"""Cloud Storage and BigQuery that stop answering: each wait has a deadline, and ends when the run is to end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import etl
from etl import memory
from etl.errors import CheckpointError, WarehouseError
from etl.stores.gcs import GcsStore
from etl.testing.fault_proxy import Delay, FaultProxy, Head
from etl.warehouses.bigquery import BigQuery
from sinks import GcsStream, SinkError, hurry
from sinks.gcs import Upload, connect
from sinks.retry import Retry
from tests.bad_servers import TRICKLES, BadServer
from tests.gcs_jobs import BUCKET, Place, made_place, pull

LONG = 1000.0
ANSWERS = [name for name in TRICKLES if "TLS" not in name]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with made_place(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hurry, "GRACE_SECONDS", 0.2)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def hang_from(proxy: FaultProxy, nth: int, then: Callable[[], object]) -> None:
    """Let no request from the nth on be answered; call `then` as the first of them comes."""
    heads: list[Head] = []

    def hangs(head: Head) -> bool:
        if not heads or heads[-1] is not head:
            heads.append(head)
            if len(heads) == nth:
                then()
        return len(heads) >= nth

    for _ in range(50):
        proxy.at(1, Delay(LONG), of=hangs)


def stopped(place: Place) -> bool:
    """Run the job, whose storage has a thousand seconds to answer; say whether a signal ended it."""
    sink = {
        "type": "gcs_stream",
        "bucket": BUCKET,
        "prefix": "out/job.ndjson",
        "keep": True,
        "deadline": LONG,
    }
    pipeline = place.pipeline(sink=sink, checkpoint=GcsStore(f"gs://{BUCKET}/etl/job.json", deadline=LONG))
    try:
        return pipeline.run().stopped == "SIGTERM"
    except KeyboardInterrupt:
        return True


def test_a_signal_ends_a_run_at_whichever_request_the_storage_stops_to_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next run goes on, exactly once. The first is the checkpoint's, the last ones name what was written."""
    with made_place(tmp_path / "whole", monkeypatch) as place:
        place.run()
        requests = len(place.proxy.log)
    assert requests > 20
    for nth in range(1, requests + 1, 3):
        with made_place(tmp_path / str(nth), monkeypatch) as place:
            hang_from(place.proxy, nth, stop)
            assert stopped(place)
            place.proxy.counter._waiting.clear()
            place.run()
            place.assert_exactly_once()


def test_a_signal_does_not_end_a_request_that_is_answered(place: Place) -> None:
    """What is written is sealed and committed, as long as the storage answers."""

    def twelfth(_: Head) -> bool:
        if len(place.proxy.log) == 12:
            stop()
        return len(place.proxy.log) == 12

    place.proxy.at(1, Delay(0.05), of=twelfth)
    assert stopped(place)
    before = len(place.lines("out/job/0"))
    assert before
    place.run()
    place.assert_exactly_once()


@pytest.mark.parametrize("name", ANSWERS)
def test_cloud_storage_that_trickles_is_given_up_at_the_deadline(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, again = TRICKLES[name]
    with BadServer(first, again) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        with pytest.raises(CheckpointError):
            GcsStore("gs://bucket/job.json", deadline=0.6).read()
        assert server.left.wait(20)


def test_an_upload_to_a_server_that_stops_to_read_is_given_up_at_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = b"HTTP/1.1 200 OK\r\nLocation: %s/session\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    class Storage(BadServer):
        """Begins a session, and reads nothing of what is sent after that."""

        def _serve(self, connection: Any) -> None:
            if not self.asked:
                self.asked.append(connection.recv(1 << 16))
                connection.sendall(session % self.url.encode())
                connection.close()
                return
            super()._serve(connection)

    with Storage(b"", b"", reads=False) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        client = connect()
        upload = Upload(client, "bucket", "object", retry=Retry(deadline=0.6, first_wait=0.001))
        with pytest.raises(SinkError, match="no answer"):
            upload.write(bytes(64 << 20))
        upload.abort()
        client.close()


def test_a_server_of_metadata_that_does_not_answer_is_given_up_at_the_deadline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with BadServer(*TRICKLES["a header"]) as server:
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{server.port}")
        monkeypatch.setenv("GCE_METADATA_IP", f"127.0.0.1:{server.port}")
        sink = GcsStream("bucket", deadline=0.5)
        with pytest.raises(SinkError, match="credentials"):
            sink.occupied_by()


@pytest.mark.parametrize("name", ["a header", "100 Continue", "the size of a chunk", "trailers"])
def test_bigquery_that_trickles_is_given_up_at_the_deadline(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BadServer(*TRICKLES[name]) as server:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", server.url)
        with pytest.raises(WarehouseError):
            BigQuery(table="project.dataset.t", location="EU", deadline=0.6).open(memory.budget())
        assert server.left.wait(20)


@pytest.mark.parametrize("name", ["nothing", "a header", "the size of a chunk"])
def test_a_signal_ends_the_wait_for_bigquery(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with BadServer(*TRICKLES[name], reached=stop) as server:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", server.url)
        pipeline = etl.Pipeline(
            "job",
            source=pull,
            sink={"type": "reused_file", "path": str(tmp_path / "part.ndjson")},
            warehouse=BigQuery(table="project.dataset.t", location="EU", deadline=LONG),
            checkpoint=str(tmp_path / "job.checkpoint.json"),
        )
        with pytest.raises(KeyboardInterrupt, match="what it waited for did not come"):
            pipeline.run()
        assert server.left.wait(20)
