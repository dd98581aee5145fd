"""Parts of file sinks: staged in a bucket for the load, or sent along with the job."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from etl.checkpoint import Part, State
from etl.errors import Fenced, StillLoading, WarehouseError
from etl.testing.fault_proxy import Answer, CutRequest, Drop, Fault, FaultProxy, Head, Truncate
from etl.warehouses.bigquery.staging import Staging
from etl.warehouses.bigquery.upload import CHUNK_UNIT, chunk_bytes
from sinks import BigFile, NumberedChunks, ReusedFile
from sinks.gcs import connect
from sinks.retry import Retry
from tests.google import GoogleServers
from tests.warehouses.bigquery_loader import Loader, encoded, inserting, looking_up, rows

MIB = 1024 * 1024
FORMATS = ["ndjson", "ndjson.gz", "parquet"]
FAULTS: list[Fault] = [Drop("before"), Drop("after"), CutRequest(1000), Truncate(5), Answer(503)]


@pytest.fixture
def loader(google_environment: GoogleServers, tmp_path: Path) -> Iterator[Loader]:
    loader = Loader(google_environment, tmp_path)
    yield loader
    loader.close()


@pytest.fixture
def staging(loader: Loader) -> str:
    return f"gs://{loader.bucket}/staged"


def put(head: Head) -> bool:
    return head.method == "PUT"


def written(sink: Any, loader: Loader, count: int = 2) -> list[Part]:
    """Write parts by a sink; of a reused file only the last one is left."""
    parts = []
    for sequence in range(1, count + 1):
        records = rows(sequence * 10, 5)
        with sink.open_part(sequence) as part:
            part.write(encoded(records, "ndjson"))
        parts.append(Part(sealed=part.sealed, records=5, after=State(sequence=sequence)))
        if count > 1 and sink.slots is not None:
            sink.release(part.sealed)
    return parts


@pytest.mark.parametrize("format", FORMATS)
def test_files_are_staged_for_their_load_and_not_longer(loader: Loader, staging: str, format: str) -> None:
    warehouse = loader.open(staging=staging)
    plan = loader.plan(format=format, local=True)
    assert warehouse.load(loader.job, plan) == 7
    assert loader.fetch() == [(n, f"name {n}") for n in range(7)]
    assert loader.objects() == []
    uris = loader.client.get_job(loader.id(plan)).source_uris
    assert uris == [f"{staging}/{plan.id}/{n:06}.{format}" for n in (1, 2)]


@pytest.mark.parametrize("format", FORMATS)
def test_without_staging_files_are_sent_along_with_the_job(loader: Loader, format: str) -> None:
    part = loader.part(rows(0, 3), format=format, local=True)
    assert loader.warehouse.load(loader.job, loader.plan(part, format=format)) == 3
    assert loader.fetch() == [(n, f"name {n}") for n in range(3)]


def test_lines_of_several_files_are_sent_as_one(loader: Loader) -> None:
    plan = loader.plan(local=True)
    assert loader.warehouse.load(loader.job, plan) == 7
    assert loader.open().load(loader.job, plan) == 7
    assert loader.count() == 7
    assert loader.warehouse.operations == 1


def test_several_parquet_files_cannot_be_sent_along_together(loader: Loader) -> None:
    plan = loader.plan(format="parquet", local=True)
    with pytest.raises(WarehouseError, match="give the warehouse `staging`"):
        loader.warehouse.load(loader.job, plan)
    part = loader.part(rows(0, 1), format="parquet", local=True)
    assert loader.warehouse.most_parts("parquet", [part] * 20_000) == 1
    assert loader.open(staging="gs://bucket").most_parts("parquet", [part] * 20_000) == 10_000


@pytest.mark.parametrize("staged", [True, False], ids=["staged", "sent along"])
@pytest.mark.parametrize("kind", [BigFile, NumberedChunks, ReusedFile])
def test_parts_of_every_file_sink_are_loaded(loader: Loader, staging: str, kind: Any, staged: bool) -> None:
    warehouse = loader.open(staging=staging if staged else None)
    sink = kind(loader.folder / "out" / "job.ndjson")
    parts = written(sink, loader, 1 if kind is ReusedFile else 2)
    assert warehouse.load(loader.job, loader.plan(*parts)) == 5 * len(parts)
    assert loader.count() == 5 * len(parts)
    sink.close()


@pytest.mark.parametrize("staged", [True, False], ids=["staged", "sent along"])
def test_a_file_that_was_changed_is_never_loaded(loader: Loader, staging: str, staged: bool) -> None:
    warehouse = loader.open(staging=staging if staged else None)
    plan = loader.plan(local=True)
    path = loader.folder / "part-2.ndjson"
    data = path.read_bytes()
    path.write_bytes(data[:-3] + b"9" + data[-2:])
    with pytest.raises(WarehouseError, match=r"part-2\.ndjson, has the CRC-32C"):
        warehouse.load(loader.job, plan)
    assert loader.jobs() == {}
    path.write_bytes(data)
    assert warehouse.load(loader.job, plan) == 7
    assert loader.objects() == []


def test_what_is_staged_already_is_taken_as_it_is(loader: Loader, staging: str) -> None:
    plan = loader.plan(local=True)
    warehouse = loader.open(staging=staging)
    warehouse._sending(warehouse._jobs())._staged().put(plan)
    storage = loader.servers.storage_client()
    before = {blob.name: blob.generation for blob in storage.list_blobs(loader.bucket)}
    warehouse._sending(warehouse._jobs())._staged().put(plan)
    assert {blob.name: blob.generation for blob in storage.list_blobs(loader.bucket)} == before
    storage.close()
    assert warehouse.load(loader.job, plan) == 7


@pytest.mark.parametrize("status", [404, 410])
def test_what_is_staged_and_gets_lost_on_its_way_is_sent_again(
    loader: Loader, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    plan = loader.plan(local=True)
    with FaultProxy(loader.servers.gcs.url) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        with closing(connect()) as client:
            place = Staging(client, loader.bucket, "staged", retry=Retry(), chunk_bytes=1 << 18, reading=iter)
            proxy.at(1, Answer(status), of=put)
            uris = place.put(plan)
            place.clear(plan)
    assert len(uris) == 2
    assert sum(seen.method == "PUT" for seen in proxy.log) == 3


def test_where_the_requester_pays_for_the_staging_bucket_each_request_says_who(
    loader: Loader, staging: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader.servers.gcs.configure(loader.bucket, {"billing": {"requesterPays": True}})
    plan = loader.plan(local=True)
    with FaultProxy(loader.servers.gcs.url) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        assert (
            pickle.loads(pickle.dumps(loader.open(staging=staging, user_project="mine"))).user_project
            == "mine"
        )
        assert loader.open(staging=staging, user_project="mine").load(loader.job, plan) == 7
    assert {seen.method for seen in proxy.log} == {"GET", "POST", "PUT", "DELETE"}
    assert all("userProject=mine" in seen.path for seen in proxy.log)


def test_where_the_requester_pays_for_the_staging_bucket_and_nobody_is_named_the_error_says_how(
    loader: Loader, staging: str
) -> None:
    loader.servers.gcs.configure(loader.bucket, {"billing": {"requesterPays": True}})
    with pytest.raises(WarehouseError, match=r'name the one that pays: user_project = "my-project"'):
        loader.open(staging=staging).load(loader.job, loader.plan(local=True))


def test_what_is_staged_and_is_something_else_is_replaced(loader: Loader, staging: str) -> None:
    plan = loader.plan(local=True)
    storage = loader.servers.storage_client()
    storage.bucket(loader.bucket).blob(f"staged/{plan.id}/000002.ndjson").upload_from_string(b"{}")
    storage.close()
    assert loader.open(staging=staging).load(loader.job, plan) == 7
    assert loader.fetch() == [(n, f"name {n}") for n in range(7)]


def test_a_plan_that_was_staged_elsewhere_is_taken_over(loader: Loader, staging: str) -> None:
    plan = loader.plan(local=True)
    loader.open(staging=staging).load(loader.job, plan)
    assert loader.open().load(loader.job, plan) == 7
    assert loader.open(staging=f"gs://{loader.bucket}/elsewhere").load(loader.job, plan) == 7


def test_what_is_staged_of_a_plan_that_is_given_up_goes(loader: Loader, staging: str) -> None:
    plan = loader.plan(local=True)
    warehouse = loader.open(staging=staging)
    warehouse._sending(warehouse._jobs())._staged().put(plan)
    assert len(loader.objects()) == 2
    assert warehouse.settle(loader.job, plan) is None
    assert loader.objects() == []


def test_a_zombie_that_sends_its_files_late_is_fenced(loader: Loader) -> None:
    plan = loader.plan(local=True)
    loader.warehouse.settle(loader.job, plan)
    with loader.proxy() as (proxy, zombie):
        proxy.at(1, Answer(404), of=looking_up)
        with pytest.raises(Fenced):
            zombie.load(loader.job, plan)
    assert loader.jobs() == {loader.id(plan): "query"}


def test_what_a_zombie_stages_late_does_not_stay(loader: Loader, staging: str) -> None:
    plan = loader.plan(local=True)
    loader.open(staging=staging).settle(loader.job, plan)
    with loader.proxy(staging=staging) as (proxy, zombie):
        proxy.at(1, Answer(404), of=looking_up)
        with pytest.raises(Fenced):
            zombie.load(loader.job, plan)
    assert loader.objects() == []


def large(loader: Loader) -> Part:
    """Return a part of several chunks of the least size."""
    return loader.part(rows(0, 30_000), local=True)


@pytest.mark.parametrize("nth", [1, 2, 99])
@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_an_upload_survives_a_fault_at_any_of_its_chunks(loader: Loader, nth: int, fault: Fault) -> None:
    fault = type(fault)(*[getattr(fault, name) for name in fault.__match_args__])
    part = large(loader)
    assert part.sealed.bytes > 3 * CHUNK_UNIT
    chunks = -(-part.sealed.bytes // CHUNK_UNIT)
    plan = loader.plan(part)
    with loader.proxy() as (proxy, warehouse):
        warehouse._chunk_bytes = CHUNK_UNIT
        proxy.at(min(nth, chunks), fault, of=put)
        assert warehouse.load(loader.job, plan) == 30_000
        assert fault.happened.is_set()
    assert loader.fetch("COUNT(*), COUNT(DISTINCT id)", "") == [(30_000, 30_000)]
    assert list(loader.jobs()) == [loader.id(plan)]


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_an_upload_survives_a_fault_at_its_beginning(loader: Loader, fault: Fault) -> None:
    fault = type(fault)(*[getattr(fault, name) for name in fault.__match_args__])
    plan = loader.plan(local=True)
    with loader.proxy() as (proxy, warehouse):
        proxy.at(1, fault, of=inserting)
        assert warehouse.load(loader.job, plan) == 7
    assert loader.count() == 7


@pytest.mark.parametrize("status", [404, 410])
def test_an_upload_whose_session_is_lost_is_begun_anew(loader: Loader, status: int) -> None:
    plan = loader.plan(large(loader))
    with loader.proxy() as (proxy, warehouse):
        warehouse._chunk_bytes = CHUNK_UNIT
        proxy.at(2, Answer(status), of=put)
        assert warehouse.load(loader.job, plan) == 30_000
    assert loader.count() == 30_000


def test_the_address_of_an_upload_is_told_to_nobody(loader: Loader) -> None:
    plan = loader.plan(local=True)
    with loader.proxy() as (proxy, warehouse):
        proxy.at(1, Drop("before"), of=put)
        proxy.at(2, Answer(400, times=99), of=put)
        with pytest.raises(WarehouseError) as raised:
            warehouse.load(loader.job, plan)
    assert "upload_id=" not in str(raised.value).replace("upload_id=(hidden)", "")


def test_an_upload_takes_the_memory_of_a_chunk_and_a_little_more(loader: Loader) -> None:
    part = loader.part(rows(0, 30_000), format="ndjson.gz", times=12, local=True)
    plan = loader.plan(part, format="ndjson.gz")
    loader.warehouse._chunk_bytes = MIB
    tracemalloc.start()
    try:
        assert loader.warehouse.load(loader.job, plan) == 360_000
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB  # of some 12 MiB of lines
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("memory", "expected"), [(None, 8 * MIB), (64 * MIB, 2 * MIB), (70 * MIB, 2 * MIB), (MIB, CHUNK_UNIT)]
)
def test_a_chunk_is_a_small_share_of_the_memory(memory: int | None, expected: int) -> None:
    assert chunk_bytes(memory) == expected


def test_a_plan_of_files_and_objects_is_refused(loader: Loader) -> None:
    plan = loader.plan(loader.part(rows(0, 1)), loader.part(rows(1, 1), local=True))
    with pytest.raises(WarehouseError, match="parts in a bucket and parts on this machine"):
        loader.warehouse.load(loader.job, plan)


def test_a_file_that_is_gone_is_named(loader: Loader) -> None:
    plan = loader.plan(local=True)
    (loader.folder / "part-1.ndjson").unlink()
    with pytest.raises(WarehouseError, match=r"part-1\.ndjson is missing"):
        loader.warehouse.load(loader.job, plan)


def test_a_staging_bucket_that_does_not_exist_is_named(loader: Loader) -> None:
    plan = loader.plan(local=True)
    with pytest.raises(WarehouseError, match="gs://no-such-bucket"):
        loader.open(staging="gs://no-such-bucket/x").load(loader.job, plan)


@pytest.mark.parametrize("nth", range(1, 9))
@pytest.mark.parametrize("when", ["before", "after"])
def test_staging_survives_a_lost_answer_at_any_request(
    loader: Loader, staging: str, monkeypatch: pytest.MonkeyPatch, nth: int, when: Any
) -> None:
    plan = loader.plan(local=True)
    with FaultProxy(loader.servers.gcs.url) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        proxy.at(nth, Drop(when))
        assert loader.open(staging=staging).load(loader.job, plan) == 7
        assert proxy.log[nth - 1 :], "there were fewer requests: lower the range"
    assert loader.count() == 7
    assert loader.objects() == []


@pytest.mark.parametrize("staged", [False, True])
def test_whoever_leaves_while_files_are_sent_submits_nothing(
    loader: Loader, staging: str, staged: bool
) -> None:
    plan = loader.plan(local=True)
    warehouse = loader.open(staging=staging if staged else None)
    warehouse.leave()
    with pytest.raises(StillLoading, match="nothing was submitted"):
        warehouse.load(loader.job, plan)
    assert loader.open(staging=staging if staged else None).load(loader.job, plan) == 7
    assert (loader.count(), loader.objects()) == (7, [])
