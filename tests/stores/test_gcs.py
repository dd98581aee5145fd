"""The checkpoint in an object, over HTTP with Google's client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from etl.checkpoint import Checkpoint, replace
from etl.errors import CheckpointCorrupt, CheckpointError, ConfigError, Fenced
from etl.lease import Conflict, Lease
from etl.pipeline import Pipeline
from etl.stores.gcs import GcsStore
from etl.testing.fault_proxy import Answer, Damage, Drop, Fault, FaultProxy, Truncate
from etl.testing.gcs_server import GcsServer
from etl.testing.stores import StoreSuite
from sinks.gcs.client import connect
from sinks.retry import Retry
from tests.google import storage_alone

BUCKET = "checkpoints"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsServer]:
    with storage_alone(tmp_path, BUCKET, monkeypatch) as server:
        yield server


@pytest.fixture
def proxy(server: GcsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    with FaultProxy(server.url) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        yield proxy


@pytest.mark.usefixtures("server")
class TestGcsStore(StoreSuite):
    def make_store(self, directory: Path) -> GcsStore:
        return GcsStore(f"gs://{BUCKET}/{directory.name}/job.json")


def store(name: str = "job.json", deadline: float = 60.0) -> GcsStore:
    return GcsStore(f"gs://{BUCKET}/{name}", deadline=deadline)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_write_whose_answer_is_lost_is_recognised_as_ones_own(proxy: FaultProxy, when: str) -> None:
    lease = Lease(store(), Checkpoint(pipeline="job"), None)
    lease.write(lease.document)
    proxy.at(1, Drop(when=when))
    lease.write(replace(lease.document, epoch=1))
    lease.write(replace(lease.document, epoch=2))
    found = store().read()
    assert found is not None
    assert b'"epoch": 2' in found[0]


def test_a_write_whose_answer_is_lost_does_not_hide_a_successor(proxy: FaultProxy) -> None:
    mine, other = store(), store()
    lease = Lease(mine, Checkpoint(pipeline="job"), None)
    lease.write(lease.document)
    found = other.read()
    assert found is not None
    Lease(other, lease.document, found[1]).write(replace(lease.document, epoch=2))
    proxy.at(1, Drop(when="after"))
    with pytest.raises(Fenced, match="epoch 2"):
        lease.write(replace(lease.document, epoch=1))


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_passing_answer_is_tried_again(proxy: FaultProxy, status: int) -> None:
    proxy.at(1, Answer(status))
    version = store().swap(b"one", None)
    proxy.at(1, Answer(status))
    assert store().read() == (b"one", version)


@pytest.mark.usefixtures("server")
def test_an_object_that_was_deleted_is_a_conflict() -> None:
    mine = store()
    version = mine.swap(b"one", None)
    connect().bucket(BUCKET).blob("job.json").delete()
    with pytest.raises(Conflict):
        mine.swap(b"two", version)


@pytest.mark.usefixtures("server")
def test_a_missing_bucket_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"checkpoint gs://nowhere/job\.json: it does not exist"):
        GcsStore("gs://nowhere/job.json").read()


def test_a_missing_permission_is_named(proxy: FaultProxy) -> None:
    proxy.at(1, Answer(403))
    with pytest.raises(CheckpointError, match=r"permission denied .* storage\.objects\.create"):
        store().swap(b"one", None)


def test_an_unreachable_host_is_an_error_within_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match="no answer"):
        store(deadline=0.5).read()


@pytest.mark.parametrize("uri", ["gs://bucket", "gs://bucket/", "gs:///object", "gs://bucket/folder/"])
def test_a_uri_without_an_object_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="gs://bucket/object"):
        GcsStore(uri)


def test_dead_letters_go_beside_the_checkpoint(tmp_path: Path) -> None:
    sink = tmp_path / "out.ndjson"
    job = Pipeline(
        "job",
        source=iter,
        sink={"type": "big_file", "path": str(sink)},
        checkpoint="gs://bucket/etl/job.json",
    )
    assert job.rejects.path == "gs://bucket/etl/job-rejects.ndjson"
    assert job.rejects.lasting


def test_a_wrong_uri_in_a_job_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="gs://bucket/object"):
        Pipeline("job", source=iter, sink={"type": "null"}, checkpoint="gs://bucket")


def test_two_processes_of_one_machine_do_not_hold_a_job_at_once() -> None:
    with (
        store().hold(wait=False),
        pytest.raises(Fenced, match=r"gs://checkpoints/job\.json"),
        store().hold(wait=False),
    ):
        pass


def test_where_no_lock_can_be_made_a_job_is_held_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    with store().hold(wait=False):
        pass


# --- what comes and is not what was sent ---


def quick() -> GcsStore:
    made = store()
    made._retry = Retry(first_wait=0.001, longest_wait=0.01)
    return made


BROKEN: dict[str, Callable[[], Fault]] = {
    "damaged": lambda: Damage(1),
    "damaged three times": lambda: Damage(1, times=3),
    "cut": lambda: Truncate(2),
    "empty": lambda: Truncate(0),
    "lost": lambda: Drop("after"),
    "503": lambda: Answer(503, when="after"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_document_that_breaks_or_is_damaged_on_its_way_is_asked_for_again(
    proxy: FaultProxy, kind: str
) -> None:
    version = store().swap(b"one", None)
    proxy.at(1, BROKEN[kind]())
    assert quick().read() == (b"one", version)


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_that_there_is_no_document_is_found_out_whatever_breaks(
    proxy: FaultProxy, kind: str, nth: int
) -> None:
    fault = BROKEN[kind]()
    proxy.at(nth, fault)
    assert quick().read() is None
    assert fault.happened.is_set()


@pytest.mark.parametrize("kind", BROKEN)
def test_the_answer_to_a_write_that_breaks_or_is_damaged_is_no_other_writer(
    proxy: FaultProxy, kind: str
) -> None:
    lease = Lease(quick(), Checkpoint(pipeline="job"), None)
    lease.write(lease.document)
    proxy.at(1, BROKEN[kind]())
    lease.write(replace(lease.document, epoch=1))
    lease.write(replace(lease.document, epoch=2))
    assert b'"epoch": 2' in quick().read()[0]  # type: ignore[index]


def test_a_document_that_comes_damaged_each_time_is_an_error_in_words(proxy: FaultProxy) -> None:
    store().swap(b"one", None)
    proxy.at(1, Damage(times=10**6))
    with pytest.raises(
        CheckpointCorrupt, match=r"checkpoint gs://checkpoints/job\.json: what comes has not the"
    ):
        store(deadline=0.3).read()


@pytest.mark.parametrize("bytes", [0, 5])
def test_an_error_whose_words_break_off_is_an_error_in_words(
    server: GcsServer, proxy: FaultProxy, bytes: int
) -> None:
    store().swap(b"one", None)
    server.configure(BUCKET, {"billing": {"requesterPays": True}})
    for _ in range(200):
        proxy.at(1, Truncate(bytes))
    with pytest.raises(CheckpointError, match=r"cannot read the checkpoint gs://checkpoints/job\.json"):
        store(deadline=0.3).read()


# --- what may not be replaced ---

KEEPING = {
    "a retention policy of 86,400 s": {"retentionPolicy": {"retentionPeriod": 86400}},
    "a hold on every new object": {"defaultEventBasedHold": True},
}


@pytest.mark.parametrize("kept", KEEPING)
def test_a_bucket_that_keeps_its_objects_is_refused_before_anything_is_written(
    server: GcsServer, kept: str
) -> None:
    server.configure(BUCKET, KEEPING[kept])
    with pytest.raises(
        CheckpointError, match=f"cannot be kept there: {kept} forbids .* into another|a bucket without"
    ):
        store().read()
    assert server.objects(BUCKET) == {}


@pytest.mark.parametrize("kept", KEEPING)
def test_where_the_bucket_may_not_be_looked_at_the_first_write_tells(
    server: GcsServer, proxy: FaultProxy, kept: str
) -> None:
    server.configure(BUCKET, KEEPING[kept])
    proxy.at(1, Answer(403, times=10**6), of=lambda head: head.path.split("?")[0].endswith(f"/b/{BUCKET}"))
    assert quick().read() is None
    with pytest.raises(CheckpointError, match=r"cannot be kept there: a (hold|retention policy)"):
        store().swap(b"one", None)


@pytest.mark.parametrize("change", [{"temporaryHold": True}, {"eventBasedHold": True}, None])
@pytest.mark.usefixtures("server")
def test_a_document_that_may_not_be_replaced_any_more_is_named(
    server: GcsServer, change: dict[str, bool] | None
) -> None:
    version = store().swap(b"one", None)
    if change is None:
        server.configure(BUCKET, {"retentionPolicy": {"retentionPeriod": 60}})
    else:
        blob = connect().bucket(BUCKET).blob("job.json")
        blob.temporary_hold = change.get("temporaryHold", False)
        blob.event_based_hold = change.get("eventBasedHold", False)
        blob.patch()
    with pytest.raises(CheckpointError, match=r"cannot be kept there: a .* forbids to replace the object"):
        store().swap(b"two", version)
    assert quick().read() == (b"one", version)
