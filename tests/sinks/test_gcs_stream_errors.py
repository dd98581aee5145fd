"""What the sink says when the other side fails: one line, with the place and what to do, by the deadline."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from etl.testing.fault_proxy import Answer, Drop, Fault, FaultProxy
from etl.testing.gcs_server import GcsServer
from sinks import GcsStream, SealedPart, SinkError
from sinks.gcs import Objects, StoredObject, connect
from sinks.gcs.upload import Upload
from sinks.retry import Retry
from tests.sinks.conftest import BUCKET, GivesUpSoon

QUICK = Retry(deadline=20.0, first_wait=0.001, longest_wait=0.01)
SEALED = SealedPart(
    sequence=1, uri=f"gs://{BUCKET}/job/000001/000001-{'0' * 16}", bytes=1, crc32c=0, generation=1
)

CALLS: dict[str, tuple[Callable[[GcsStream], object], str]] = {
    "occupied_by": (lambda sink: sink.occupied_by(), "list"),
    "recover": (lambda sink: sink.recover([], None, epoch=1), "list"),
    "seal": (lambda sink: sink.open_part(1, epoch=1).seal(), "create"),
    "release": (lambda sink: sink.release(SEALED), "delete"),
}


@pytest.fixture
def proxy(gcs: GcsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    with FaultProxy(gcs.url) as made:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", made.url)
        yield made


def error_of(call: str, sink: GcsStream) -> str:
    with pytest.raises(SinkError) as caught:
        CALLS[call][0](sink)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 400
    sink.close()
    return said


@pytest.mark.parametrize("call", CALLS)
def test_a_missing_permission_is_named(proxy: FaultProxy, call: str) -> None:
    proxy.at(1, Answer(403))
    said = error_of(call, GcsStream(BUCKET, prefix="job"))
    assert f"gs://{BUCKET}/job" in said
    assert f"give the account storage.objects.{CALLS[call][1]}" in said


@pytest.mark.parametrize("call", ["occupied_by", "recover", "seal"])
def test_a_missing_bucket_is_named(gcs: GcsServer, call: str) -> None:
    said = error_of(call, GcsStream("other", prefix="job"))
    assert "gs://other/job" in said
    assert "bucket does not exist" in said
    assert gcs.sessions() == 0


@pytest.mark.parametrize("call", CALLS)
def test_credentials_that_are_not_accepted_are_named(proxy: FaultProxy, call: str) -> None:
    proxy.at(1, Answer(401))  # the server's credentials here are none, and cannot be renewed
    said = error_of(call, GcsStream(BUCKET, prefix="job"))
    assert "no Google credentials can be used (Anonymous credentials cannot be refreshed.)" in said
    assert "gcloud auth application-default login" in said


@pytest.mark.parametrize("call", CALLS)
def test_a_host_that_cannot_be_reached_is_named_by_the_deadline(
    monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    said = error_of(call, GcsStream(BUCKET, prefix="job", deadline=0.3))
    assert "no answer" in said
    assert "look at the network" in said


@pytest.mark.parametrize("call", CALLS)
def test_a_server_that_is_overloaded_is_given_up_by_the_deadline(proxy: FaultProxy, call: str) -> None:
    proxy.at(1, Answer(429, times=10**6))
    sink = GcsStream(BUCKET, prefix="job")
    sink._retry = GivesUpSoon()
    said = error_of(call, sink)
    assert "the server said 429" in said
    assert "run again later" in said


@pytest.mark.parametrize("call", CALLS)
def test_what_passes_is_tried_again(proxy: FaultProxy, call: str) -> None:
    proxy.at(1, Answer(503))
    sink = GcsStream(BUCKET, prefix="job")
    CALLS[call][0](sink)
    sink.close()


@pytest.mark.parametrize(
    "fault", [lambda: Drop("before"), lambda: Drop("after"), lambda: Answer(503, when="after")]
)
@pytest.mark.parametrize("nth", range(1, 5))
def test_clearing_away_gets_over_a_fault_at_any_request(
    gcs: GcsServer, proxy: FaultProxy, fault: Callable[[], Fault], nth: int
) -> None:
    client = connect()
    for name in ("one", "two", "three"):
        with Upload(client, BUCKET, name) as upload:
            upload.write(b"x")
    proxy.at(nth, fault())
    objects = Objects(client, BUCKET, retry=QUICK)
    for each in list(objects.under("")):
        assert objects.delete(each.name, each.generation)
    assert gcs.objects(BUCKET) == {}
    client.close()


def test_what_somebody_else_changed_meanwhile_is_not_described_over(gcs: GcsServer) -> None:
    client = connect()
    with Upload(client, BUCKET, "object", metadata={"epoch": "1"}) as upload:
        upload.write(b"x")
    stored = upload.finish()
    objects = Objects(client, BUCKET, retry=QUICK)
    objects.describe(stored, {"records": "1"})
    objects.describe(stored, {"records": "1"})  # as after a lost answer
    with pytest.raises(SinkError, match="cannot describe gs://parts/object: the server said 412"):
        objects.describe(stored, {"records": "2"})
    assert gcs.objects(BUCKET) == {"object": 1}
    client.close()


def test_an_object_whose_resource_leaves_out_what_is_nothing_is_an_object() -> None:
    found = StoredObject.of({"name": "object", "generation": "7"})
    assert (found.bytes, found.crc32c, found.metageneration, found.kept) == (0, None, 1, False)


@pytest.mark.parametrize(
    "facts",
    [{"a": "x" * 10_000}, {"a": "ü" * 5_000, "b": "y" * 9_000}, {str(n): "z" * 500 for n in range(40)}],
)
def test_facts_are_cut_to_what_a_strict_server_takes(
    gcs: GcsServer, proxy: FaultProxy, facts: dict[str, str]
) -> None:
    client = connect()
    with Upload(client, BUCKET, "object", metadata=facts) as upload:
        upload.write(b"x")
    assert upload.finish().metadata.keys() == {*facts, "upload"}
    client.close()


# --- credentials; google.auth reads its environment when it is imported, hence processes of their own ---


def connecting(tmp_path: Path, deadline: float, **environment: str) -> str:
    script = (
        "import sinks\n"
        "try:\n"
        f"    sinks.GcsStream('parts', prefix='job', deadline={deadline}).occupied_by()\n"
        "except sinks.SinkError as error:\n"
        "    print(error)\n"
    )
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("GOOGLE", "STORAGE", "GCE"))
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**kept, "HOME": str(tmp_path), "CLOUDSDK_CONFIG": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.count("\n") == 1
    return done.stdout


def test_without_credentials_it_says_how_to_get_some(tmp_path: Path) -> None:
    said = connecting(tmp_path, 20.0, NO_GCE_CHECK="true")
    assert said.startswith("cannot reach Cloud Storage: no Google credentials can be used")
    assert "gcloud auth application-default login" in said


def test_a_metadata_server_that_does_not_answer_is_waited_for_no_longer_than_the_deadline(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        said = connecting(tmp_path, 0.5, GCE_METADATA_HOST=host, GCE_METADATA_IP=host)
    assert "no Google credentials were found in 0.5 s" in said
