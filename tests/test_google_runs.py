"""Whole jobs on Google Cloud: what a run leaves, how it stops, what it does after a load that failed for good."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import etl
from etl import memory, progress
from etl.checkpoint import Checkpoint
from etl.errors import CheckpointError, LoadFailed, RecordError, SinkFailed, WarehouseError
from etl.testing.fault_proxy import Answer, FaultProxy
from etl.verification import compare
from etl.warehouses.base import Audit, Job
from tests.google import LOCATION, PROJECT, TIMEOUT, GoogleServers

RECORDS = 60


def pull(cursor: int | None = None) -> Iterator[Any]:
    for number in range(cursor or 0, RECORDS):
        yield etl.Mark(number)
        yield {"number": number, "text": f"record {number}"}


@dataclass
class Place:
    """A bucket and a dataset of a test's own."""

    servers: GoogleServers
    bucket: str
    dataset: str

    @property
    def table(self) -> str:
        return f"{PROJECT}.{self.dataset}.numbers"

    def pipeline(self, *, warehouse: dict[str, Any] | None = None, **changes: Any) -> etl.Pipeline:
        definition: dict[str, Any] = {
            "source": pull,
            "sink": {"type": "gcs_stream", "bucket": self.bucket, "prefix": "parts/job.ndjson"},
            "warehouse": {
                "type": "bigquery",
                "table": self.table,
                "location": LOCATION,
                **(warehouse or {}),
            },
            "checkpoint": f"gs://{self.bucket}/etl/job.json",
            "part_records": 10,
        }
        return etl.Pipeline("job", **{**definition, **changes})

    def audit(self, life: str, loads: int = 0) -> Audit:
        warehouse = self.pipeline().warehouse
        warehouse.open(memory.budget())
        with closing(warehouse):
            return warehouse.audit(Job(pipeline="job", fingerprint={}, life=life, loads=loads))

    def rows(self) -> list[dict[str, Any]]:
        with closing(self.servers.bigquery_client()) as client:
            return [dict(row) for row in client.list_rows(self.table, timeout=TIMEOUT)]

    def numbers(self) -> list[int]:
        return sorted(row["number"] for row in self.rows())

    def jobs(self) -> list[Any]:
        with closing(self.servers.bigquery_client()) as client:
            return [
                job for job in client.list_jobs() if job.job_id.startswith("etl_job_") and self._is_ours(job)
            ]

    def _is_ours(self, job: Any) -> bool:
        return job.job_type == "load" and job.destination.dataset_id == self.dataset

    def objects(self, prefix: str = "parts/") -> list[str]:
        return [name for name in self.servers.gcs.objects(self.bucket) if name.startswith(prefix)]

    def letters(self) -> list[dict[str, Any]]:
        root = self.servers.gcs.root / self.bucket
        paths = [root / name for name in self.objects("etl/job-rejects/")]
        return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]


@pytest.fixture
def place(google_environment: GoogleServers) -> Place:
    return Place(google_environment, google_environment.new_bucket(), google_environment.new_dataset())


ALL = list(range(RECORDS))


def test_a_job_touches_no_disk(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place.pipeline().run()
    assert place.numbers() == ALL
    assert list(tmp_path.iterdir()) == []
    assert place.objects() == []


def test_without_a_warehouse_the_objects_are_the_result(place):
    sink = {"type": "gcs_stream", "bucket": place.bucket, "prefix": "parts/job.ndjson", "keep": True}
    place.pipeline(sink=sink).run()
    keeping = etl.Pipeline(
        "kept", source=pull, sink={**sink, "prefix": "kept/"}, checkpoint=f"gs://{place.bucket}/kept.json"
    )
    keeping.run()
    root = place.servers.gcs.root / place.bucket
    for prefix in ("parts/job/", "kept/"):
        lines = [line for name in place.objects(prefix) for line in (root / name).read_bytes().splitlines()]
        assert sorted(json.loads(line)["number"] for line in lines) == ALL


def test_an_object_says_which_part_of_which_job_it_is(place):
    sink = {"type": "gcs_stream", "bucket": place.bucket, "prefix": "parts/job.ndjson", "keep": True}
    place.pipeline(sink=sink).run()
    with closing(place.servers.storage_client()) as client:
        second = next(
            blob for blob in client.list_blobs(place.bucket, prefix="parts/") if "/000002-" in blob.name
        )
    facts = {name: value for name, value in second.metadata.items() if name != "upload"}
    assert facts.pop("first_position")
    assert facts.pop("last_position")
    assert facts == {"pipeline": "job", "epoch": "1", "part": "2", "records": "10"}


def test_when_the_daily_quota_is_used_up_the_run_ends_and_parts_wait_in_the_bucket(place):
    notices: list[str] = []

    def listen(event: progress.Event) -> None:
        if isinstance(event, progress.Notice):
            notices.append(event.message)

    for _ in range(2):
        result = place.pipeline(warehouse={"daily_operations": 1}).run(listeners=[listen])
        assert result.stopped == "quota"
        assert len(result.checkpoint.sealed) == len(place.objects()) == 5
        assert "the daily quota of the table is used up: 5 sealed parts wait" in notices[-1]
    assert len(place.jobs()) == 1


def test_once_the_quota_is_free_again_all_that_waits_goes_with_one_job(place):
    place.pipeline(warehouse={"daily_operations": 1}).run()
    assert place.pipeline().run().stopped is None
    assert len(place.jobs()) == 2
    assert place.numbers() == ALL
    assert place.objects() == []


class Spoil:
    """Spoils a part in the bucket once it is sealed, so that BigQuery refuses it."""

    def __init__(self, place: Place, sequence: int = 3) -> None:
        self.place = place
        self.sequence = sequence
        self.done = False

    def __call__(self, event: progress.Event) -> None:
        if isinstance(event, progress.PartSealed) and event.sequence == self.sequence and not self.done:
            path = self.place.servers.gcs.root / event.uri.removeprefix("gs://")
            data = path.read_bytes()
            path.write_bytes(b"!" * 10 + data[10:])
            self.done = True


@pytest.fixture
def failed(place):
    """A job one of whose loads failed for good."""
    with pytest.raises(LoadFailed):
        place.pipeline(part_records=20).run(listeners=[Spoil(place)])
    return place


def test_after_a_load_that_failed_for_good_nothing_goes_on_by_itself(failed):
    jobs = len(failed.jobs())
    with pytest.raises(LoadFailed, match="in an earlier run"):
        failed.pipeline(part_records=20).run()
    assert len(failed.jobs()) == jobs
    document = failed.pipeline(part_records=20).read_checkpoint()
    assert document.clean
    assert document.plans[0].failure


def test_once_the_cause_is_mended_the_records_are_pulled_again(failed):
    failed.pipeline(part_records=20).run(retry_failed=True)
    assert failed.numbers() == ALL
    assert failed.objects() == []


def test_retry_failed_changes_nothing_where_nothing_failed(place):
    place.pipeline().run(retry_failed=True)
    assert place.numbers() == ALL


def with_misfits(cursor: int | None = None) -> Iterator[Any]:
    for record in pull(cursor):
        if isinstance(record, dict) and record["number"] % 20 == 7:
            yield {**record, "number": f"{record['number']}"}  # text
        else:
            yield record


def test_records_that_do_not_fit_the_table_become_dead_letters(place):
    warehouse = {"schema": {"number": "INTEGER", "text": "STRING"}}
    result = place.pipeline(
        source=with_misfits, transforms=[words], warehouse=warehouse, on_error="reject"
    ).run()
    assert result.rejects == 3
    assert [letter["record"]["number"] for letter in place.letters()] == ["seven"] * 3
    assert all("number" in letter["reason"] for letter in place.letters())
    assert place.numbers() == [number for number in ALL if number % 20 != 7]


def words(records: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for record in records:
        yield {**record, "number": "seven"} if isinstance(record["number"], str) else record


def test_a_record_that_does_not_fit_stops_the_run_unless_it_may_be_rejected(place):
    with pytest.raises(RecordError, match=r"record 8 .* does not fit the table: .*number"):
        place.pipeline(source=with_misfits, transforms=[words]).run()
    assert place.jobs() == []


def test_a_type_that_changes_does_not_fit_what_the_first_part_pinned(place):
    def later_text(records: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for record in records:
            yield {**record, "number": "many"} if record["number"] == 35 else record

    result = place.pipeline(transforms=[later_text], on_error="reject").run()
    assert result.rejects == 1
    assert place.numbers() == [number for number in ALL if number != 35]


def test_a_column_that_comes_later_is_added(place):
    def growing(records: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for record in records:
            yield {**record, "late": record["number"] / 2} if record["number"] >= 30 else record

    place.pipeline(transforms=[growing]).run()
    assert {row["number"]: row.get("late") for row in place.rows()} == {
        number: number / 2 if number >= 30 else None for number in ALL
    }


def test_columns_that_a_load_adds_to_the_table_are_told(place):
    records: list[dict[str, Any]] = [{"number": 1, "of": {"a": 1}}]

    def growing() -> Iterator[dict[str, Any]]:
        yield from records

    told: list[progress.Event] = []
    for more in ([], [{"number": 2, "late": 1.5, "of": {"b": ["x"]}}]):
        records += more
        place.pipeline(source=growing).run(listeners=[told.append])
    (event,) = (event for event in told if isinstance(event, progress.ColumnsChanged))
    assert (event.table, event.sequence, event.changed) == (place.table, 2, {})
    assert event.added == {"late": "FLOAT", "of.b": "STRING REPEATED"}


@pytest.mark.parametrize("format", ["ndjson.gz", "parquet"])
def test_every_format_is_loaded(place, format):
    place.pipeline(sink={"type": "gcs_stream", "bucket": place.bucket, "prefix": f"parts/job.{format}"}).run()
    assert place.numbers() == ALL


@pytest.mark.parametrize("staging", [False, True])
@pytest.mark.parametrize("format", ["ndjson", "ndjson.gz", "parquet"])
@pytest.mark.parametrize("sink", ["reused_file", "numbered_chunks", "big_file"])
def test_every_file_sink_goes_with_it(place, tmp_path: Path, sink, format, staging):
    if sink == "big_file" and format == "parquet":
        pytest.skip("refused when it is configured")
    warehouse = {"staging": f"gs://{place.bucket}/staging"} if staging else {}
    made = {"type": sink, "path": str(tmp_path / f"job.{format}")}
    place.pipeline(sink=made, warehouse=warehouse).run()
    assert place.numbers() == ALL
    assert place.objects("staging/") == []


def test_a_second_run_takes_what_is_new_and_nothing_twice(place):
    place.pipeline().run()
    result = place.pipeline().run()
    assert result.records == 0
    assert place.numbers() == ALL


def test_a_job_that_is_begun_anew_loads_everything_again(place, tmp_path):
    """Its parts are the same files with the same content as in its former life, whose jobs BigQuery remembers."""
    again = {"sink": {"type": "numbered_chunks", "path": str(tmp_path / "job.ndjson")}}
    place.pipeline(**again).run()
    with closing(place.servers.bigquery_client()) as client:
        client.delete_table(place.table)
    for path in tmp_path.iterdir():
        path.unlink()
    result = place.pipeline(**again, checkpoint=f"gs://{place.bucket}/etl/anew.json").run()
    assert result.records == RECORDS
    assert place.numbers() == ALL


def test_a_schema_that_is_mended_helps_also_where_the_first_load_failed(place):
    with pytest.raises(LoadFailed):
        place.pipeline(part_records=20, transforms=[days]).run(listeners=[Spoil(place, sequence=1)])
    mended = {"schema": {"day": "DATE"}}
    place.pipeline(part_records=20, transforms=[days], warehouse=mended).run(retry_failed=True)
    assert place.numbers() == ALL
    assert {str(row["day"]) for row in place.rows()} == {"2026-11-23"}


def days(records: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for record in records:
        yield {**record, "day": "2026-11-23"}


def test_what_an_interrupted_run_left_is_the_jobs_own_and_no_strangers(place):
    """After a first part that was given up the checkpoint knows of no part, and the bucket may hold some."""
    with pytest.raises(LoadFailed):
        place.pipeline().run(listeners=[Spoil(place, sequence=1)])
    with FaultProxy(place.servers.gcs.url) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        proxy.at(1, Answer(400), of=lambda head: head.method == "DELETE")
        with pytest.raises(SinkFailed):
            place.pipeline().run(retry_failed=True)
    place.pipeline().run()
    assert place.numbers() == ALL
    assert place.objects() == []


def test_a_lost_checkpoint_does_not_let_everything_be_loaded_twice(place):
    place.pipeline().run()
    anew = place.pipeline(checkpoint=f"gs://{place.bucket}/etl/anew.json")
    with pytest.raises(WarehouseError, match="would be loaded twice"):
        anew.run()
    assert place.numbers() == ALL


def test_a_table_that_is_gone_is_not_made_anew_half_full(place):
    place.pipeline().run()
    with closing(place.servers.bigquery_client()) as client:
        client.delete_table(place.table)
    with pytest.raises(WarehouseError, match="is gone, into which job 'job' has loaded"):
        place.pipeline().run()


def test_verify_tells_what_a_former_life_has_loaded(place):
    place.pipeline().run()
    audit = place.audit("another life")
    assert audit.former_rows == RECORDS
    found = compare(Checkpoint(pipeline="job"), audit)
    assert [finding.kind for finding in found] == ["twice"]


def test_verify_counts_the_rows_that_are_there(place):
    place.pipeline().run()
    document = place.pipeline().read_checkpoint()
    assert compare(document, place.audit(document.life, document.loads)) == []
    with closing(place.servers.bigquery_client()) as client:
        client.query_and_wait(f"DELETE FROM `{place.table}` WHERE number < 5")
    findings = compare(document, place.audit(document.life, document.loads))
    assert [finding.kind for finding in findings] == ["missing"]
    assert "5 were deleted or lost" in findings[0].text


def named(place: Place) -> list[str]:
    """Return the names of the objects that the manifest of the parts names."""
    root = place.servers.gcs.root / place.bucket
    lines = [
        line for name in place.objects("parts/_manifest/") for line in (root / name).read_bytes().splitlines()
    ]
    return sorted(json.loads(line)["uri"].removeprefix(f"gs://{place.bucket}/") for line in lines)


def test_what_is_kept_is_named_once_it_is_loaded_and_not_before(place):
    sink = {"type": "gcs_stream", "bucket": place.bucket, "prefix": "parts/job.ndjson", "keep": True}
    first = place.pipeline(sink=sink, warehouse={"daily_operations": 1}).run()
    waiting = [part.sealed.uri for part in first.checkpoint.outstanding]
    assert waiting
    assert place.numbers()
    loaded = {f"gs://{place.bucket}/{name}" for name in place.objects("parts/job/")} - set(waiting)
    assert {f"gs://{place.bucket}/{name}" for name in named(place)} == loaded
    place.pipeline(sink=sink).run()
    assert place.numbers() == ALL
    assert named(place) == place.objects("parts/job/")


RETENTION = {"retentionPolicy": {"retentionPeriod": 86400}}


def test_what_a_retention_policy_keeps_is_loaded_told_once_and_deleted_later(place):
    notices: list[str] = []

    def listen(event: progress.Event) -> None:
        if isinstance(event, progress.Notice):
            notices.append(event.message)

    other = place.servers.new_bucket()  # a checkpoint is replaced all the time
    checkpoint = f"gs://{other}/etl/job.json"
    place.servers.gcs.configure(place.bucket, RETENTION)
    for kept in (6, 6):  # the second run has nothing to load, and may not delete what is there either
        notices.clear()
        result = place.pipeline(checkpoint=checkpoint).run(listeners=[listen])
        assert result.checkpoint.finished
        assert result.checkpoint.outstanding == ()
        assert place.numbers() == ALL
        assert len(place.objects()) == kept
        (notice,) = notices
        assert "retention policy" in notice
    place.servers.gcs.configure(place.bucket, {"retentionPolicy": None})
    place.pipeline(checkpoint=checkpoint).run()
    assert place.objects() == []
    assert place.numbers() == ALL


def test_a_checkpoint_that_could_not_be_replaced_is_refused_before_the_source_is_pulled(place):
    place.servers.gcs.configure(place.bucket, RETENTION)
    with pytest.raises(CheckpointError, match="a retention policy of 86,400 s forbids to replace the object"):
        place.pipeline().run()
    assert place.objects("") == []


def test_what_was_staged_and_may_not_be_deleted_is_logged_and_stays(place, tmp_path, caplog):
    staging = place.servers.new_bucket()
    place.servers.gcs.configure(staging, RETENTION)
    sink = {"type": "numbered_chunks", "path": str(tmp_path / "out.ndjson"), "keep": False}
    place.pipeline(sink=sink, warehouse={"staging": f"gs://{staging}/staged"}, part_records=RECORDS).run()
    assert place.numbers() == ALL
    assert len(place.servers.gcs.objects(staging)) == 1
    assert "is not needed any more and stays" in caplog.text
