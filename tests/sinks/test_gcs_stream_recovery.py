"""What a stream of objects is named, what it keeps, and what it clears away: beyond the suite of all sinks."""

from __future__ import annotations

import gc
import pickle
import re
from collections.abc import Mapping

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from etl.testing.gcs_server import GcsServer
from sinks import GcsStream, PartLost, SealedPart, Sink, TakesBudget, TakesFacts
from sinks.gcs import Objects, connect, objects
from tests.sinks.conftest import BUCKET
from tests.sinks.gcs_harness import name_of

CHUNK = 1 << 18


def write(
    sink: Sink, sequence: int, *, epoch: int, size: int = 10, facts: Mapping[str, str] | None = None
) -> SealedPart:
    with sink.open_part(sequence, epoch=epoch) as part:
        assert isinstance(part, TakesFacts)
        part.describe({"pipeline": "flights"})
        part.write(bytes(size))
        part.describe(facts or {})
    assert part.sealed is not None
    return part.sealed


def names(gcs: GcsServer) -> list[str]:
    """Return what is stored, without the random digits."""
    return [name.rpartition("-")[0] for name in gcs.objects(BUCKET)]


@pytest.mark.parametrize(
    ("prefix", "pattern"),
    [
        ("flights/job.ndjson.gz", r"flights/job/000003/000007-[0-9a-f]{16}\.ndjson\.gz"),
        ("flights", r"flights/000003/000007-[0-9a-f]{16}"),
        ("a.b/job.parquet", r"a\.b/job/000003/000007-[0-9a-f]{16}\.parquet"),
        ("flights/.ndjson", r"flights/000003/000007-[0-9a-f]{16}\.ndjson"),
        ("", r"000003/000007-[0-9a-f]{16}"),
        ("Flüge und mehr/job.ndjson", r"Flüge und mehr/job/000003/000007-[0-9a-f]{16}\.ndjson"),
    ],
)
def test_a_name_says_epoch_and_sequence(gcs: GcsServer, prefix: str, pattern: str) -> None:
    sink = GcsStream(BUCKET, prefix=prefix)
    sealed = write(sink, 7, epoch=3)
    (name,) = gcs.objects(BUCKET)
    assert re.fullmatch(pattern, name)
    assert sealed.uri == f"gs://{BUCKET}/{name}"
    assert sink.occupied_by() == sealed.uri
    assert str(sink.path) == f"gs://{BUCKET}/{prefix}"
    sink.close()


def test_numbers_of_more_than_six_digits_are_ours_too(gcs: GcsServer) -> None:
    sink = GcsStream(BUCKET, prefix="job")
    write(sink, 12_345_678, epoch=9_999_999)
    assert sink.occupied_by() is not None
    sink.recover([], None, epoch=9_999_999)
    assert gcs.objects(BUCKET) == {}
    sink.close()


@pytest.mark.parametrize("bucket", ["", "gs://parts", "parts/job", "Parts", "pa rts"])
def test_what_is_no_bucket_is_refused(bucket: str) -> None:
    with pytest.raises(ValueError, match="the name of a bucket"):
        GcsStream(bucket)


@pytest.mark.parametrize("prefix", ["/job", "a//b", "a/../b", ".", "a\nb", "job*.ndjson", "job#1", "j" * 961])
def test_what_is_no_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match=r"prefix=.* expected"):
        GcsStream(BUCKET, prefix=prefix)


@pytest.mark.parametrize(
    ("memory", "chunk"),
    [
        (None, 8 << 20),
        (1 << 30, 8 << 20),
        (64 << 20, 2 << 20),
        (50_000_000, 5 * CHUNK),
        (1 << 20, CHUNK),
        (0, CHUNK),
    ],
)
def test_chunks_follow_from_the_budget(memory: int | None, chunk: int) -> None:
    sink = GcsStream(BUCKET)
    assert isinstance(sink, TakesBudget)
    sink.take_budget(memory=memory, durable=True)
    assert sink._chunk_bytes == chunk


def test_chunks_that_were_asked_for_stay() -> None:
    sink = GcsStream(BUCKET, chunk_bytes=CHUNK)
    sink.take_budget(memory=None, durable=True)
    assert sink._chunk_bytes == CHUNK
    with pytest.raises(ValueError, match="chunk_bytes=100000"):
        GcsStream(BUCKET, chunk_bytes=100_000)


def test_all_arguments_but_the_client_survive_pickling() -> None:
    client = storage.Client("project", credentials=AnonymousCredentials())
    sink = GcsStream(BUCKET, prefix="job.ndjson", keep=True, chunk_bytes=CHUNK, deadline=7.0, client=client)
    copy = pickle.loads(pickle.dumps(sink))
    assert (copy.path, copy.lasting, copy.chunk_bytes, copy.deadline) == (sink.path, True, CHUNK, 7.0)
    assert copy._client is None


@pytest.mark.parametrize("size", [10, 4 * CHUNK])
def test_a_part_keeps_the_facts_that_it_was_told(gcs: GcsServer, size: int) -> None:
    sink = GcsStream(BUCKET, prefix="job", chunk_bytes=CHUNK)
    sealed = write(sink, 1, epoch=1, size=size, facts={"records": "7"})
    (found,) = Objects(sink._connected, BUCKET).under("")
    assert {name: found.metadata[name] for name in ("pipeline", "records")} == {
        "pipeline": "flights",
        "records": "7",
    }
    sink.recover([sealed], sealed, epoch=2)  # they did not change what was sealed
    sink.release(sealed)
    assert gcs.objects(BUCKET) == {}
    sink.close()


def test_a_sink_that_is_dropped_with_an_open_part_leaves_nothing(gcs: GcsServer) -> None:
    client = connect()
    sink = GcsStream(BUCKET, prefix="job", chunk_bytes=CHUNK, client=client)
    part = sink.open_part(1)
    part.write(bytes(4 * CHUNK))
    thread = part._upload._thread  # type: ignore[attr-defined]
    del sink, part
    gc.collect()
    thread.join()
    assert gcs.objects(BUCKET) == {}
    assert gcs.sessions() == 0
    client.close()


# --- epochs ---


def test_what_a_later_epoch_wrote_is_a_successors(gcs: GcsServer) -> None:
    for keep in (True, False):
        sink = GcsStream(BUCKET, prefix=f"keep-{keep}", keep=keep)
        write(sink, 1, epoch=1)
        write(sink, 2, epoch=3)
        sink.recover([], None, epoch=2)
        sink.close()
    assert names(gcs) == ["keep-False/000003/000002", "keep-True/000003/000002"]


def test_what_is_not_sealed_goes_unless_it_is_kept(gcs: GcsServer) -> None:
    sink = GcsStream(BUCKET, prefix="job")
    first, second, third = (write(sink, number, epoch=1) for number in (1, 2, 3))
    sink.recover([second], third, epoch=2)
    assert names(gcs) == ["job/000001/000002"]
    assert first.uri != second.uri
    sink.close()


def test_what_an_epoch_wrote_after_its_successor_took_over_is_not_kept(gcs: GcsServer) -> None:
    sink = GcsStream(BUCKET, prefix="job", keep=True)
    write(sink, 1, epoch=1)
    write(sink, 2, epoch=1)
    third = write(sink, 3, epoch=1)  # the last that was committed in the first epoch
    zombie = GcsStream(BUCKET, prefix="job", keep=True)
    zombie.recover([], third, epoch=1)
    successor = GcsStream(BUCKET, prefix="job", keep=True)
    successor.recover([], third, epoch=2)
    write(zombie, 4, epoch=1)
    write(zombie, 5, epoch=1)
    fourth = write(successor, 4, epoch=2)
    fifth = write(successor, 5, epoch=2)
    third_epoch = GcsStream(BUCKET, prefix="job", keep=True)
    third_epoch.recover([fifth], fifth, epoch=3)
    assert names(gcs) == [
        "job/000001/000001",
        "job/000001/000002",
        "job/000001/000003",
        "job/000002/000004",
        "job/000002/000005",
    ]
    assert {fourth.uri, fifth.uri} <= {f"gs://{BUCKET}/{name}" for name in gcs.objects(BUCKET)}
    for each in (sink, zombie, successor, third_epoch):
        each.close()


def test_of_two_objects_of_one_number_the_sealed_one_is_kept(gcs: GcsServer) -> None:
    for keep in (True, False):
        sink = GcsStream(BUCKET, prefix=f"keep-{keep}", keep=keep)
        sealed = write(sink, 1, epoch=1)
        twin = GcsStream(BUCKET, prefix=f"keep-{keep}", keep=keep)
        write(twin, 1, epoch=1)
        sink.recover([sealed], sealed, epoch=1)
        assert name_of(sealed) in gcs.objects(BUCKET)
        sink.close()
        twin.close()
    assert len(gcs.objects(BUCKET)) == 2


def test_a_sealed_part_of_an_earlier_epoch_is_kept_whatever_a_later_one_wrote(gcs: GcsServer) -> None:
    sink = GcsStream(BUCKET, prefix="job")
    sealed = write(sink, 2, epoch=1)
    later = GcsStream(BUCKET, prefix="job")
    write(later, 1, epoch=2)
    sink.recover([sealed], sealed, epoch=2)
    assert names(gcs) == ["job/000001/000002"]
    sink.close()
    later.close()


# --- what is not as it was sealed ---


def test_a_part_of_another_place_is_lost(gcs: GcsServer) -> None:
    sink = GcsStream(BUCKET, prefix="job.ndjson")
    sealed = write(sink, 1, epoch=1)
    moved = GcsStream(BUCKET, prefix="elsewhere.ndjson")
    with pytest.raises(PartLost, match="does not write; give the sink the bucket and the prefix that it had"):
        moved.recover([sealed], sealed, epoch=2)
    moved.release(sealed)  # is not there to be freed
    assert len(gcs.objects(BUCKET)) == 1
    sink.close()
    moved.close()


def test_a_part_that_was_written_again_with_the_same_bytes_is_another(gcs: GcsServer) -> None:
    sink = GcsStream(BUCKET, prefix="job")
    sealed = write(sink, 1, epoch=1)
    orphan = write(sink, 2, epoch=1)
    blob = sink._connected.bucket(BUCKET).blob(name_of(sealed))
    blob.upload_from_string(bytes(10))
    with pytest.raises(PartLost, match="somebody overwrote it"):
        sink.recover([sealed], sealed, epoch=2)
    assert name_of(orphan) in gcs.objects(BUCKET)  # nothing was cleared away
    sink.release(sealed)
    assert name_of(sealed) in gcs.objects(BUCKET)  # it is not what was released
    sink.close()


def test_objects_are_found_on_all_pages(gcs: GcsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "PAGE", 2)
    sink = GcsStream(BUCKET, prefix="job")
    for number in range(1, 6):
        last = write(sink, number, epoch=1)
    sink.recover([last], last, epoch=1)
    assert names(gcs) == ["job/000001/000005"]
    sink.close()


def test_a_slash_at_the_end_of_a_prefix_says_nothing_more() -> None:
    assert GcsStream("bucket", prefix="job/").path == GcsStream("bucket", prefix="job").path


def test_what_is_no_client_is_refused() -> None:
    with pytest.raises(ValueError, match="in Python alone"):
        GcsStream("bucket", client="a client")
