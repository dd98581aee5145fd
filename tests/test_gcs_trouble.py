"""Jobs whose parts and dead letters stay in a bucket, when Cloud Storage is in trouble that need not end a run."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from etl.commands.check import check
from etl.engine import MOST_LOST
from etl.errors import CheckpointError, SinkFailed
from etl.stores.gcs import GcsStore
from etl.testing.fault_proxy import Answer, Damage, Drop, Fault, Head, Truncate
from sinks import GcsStream, NotDeleted, SinkError
from sinks.gcs.staying import MOST_REFUSED
from tests.gcs_jobs import BUCKET, Place, Some, made_place


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with made_place(tmp_path, monkeypatch) as made:
        yield made


# --- a session that is lost ---

# The job has four parts and four parts of dead letters, each a session of its own with one request for its bytes.
SESSIONS = 8


def is_sent(head: Head) -> bool:
    return head.method == "PUT" and "upload_id=" in head.path


@pytest.mark.parametrize(("status", "when"), [(404, "before"), (410, "after")])
@pytest.mark.parametrize("nth", range(1, SESSIONS + 1))
def test_a_session_that_is_lost_costs_its_part_alone(place: Place, nth: int, status: int, when: Any) -> None:
    fault = Answer(status, when=when)
    place.proxy.at(nth, fault, of=is_sent)
    assert place.run().stopped is None
    assert fault.happened.is_set()
    place.assert_exactly_once()
    assert place.gcs.sessions() == 0
    assert len(place.notices) == (when == "before")  # after: the object was made
    assert all(f"is pulled again: cannot write gs://{BUCKET}/" in notice for notice in place.notices)


def test_the_job_has_as_many_sessions_as_are_lost_in_turn(place: Place) -> None:
    place.run()
    sent = [seen for seen in place.proxy.log if seen.method == "PUT" and "upload_id=" in seen.path]
    assert len(sent) == SESSIONS


def test_a_part_that_is_lost_again_and_again_ends_the_run_in_words(place: Place) -> None:
    place.proxy.at(5, Answer(410, times=10**6), of=is_sent)
    with pytest.raises(
        SinkFailed, match=rf"part 3 .* was lost on its way {MOST_LOST + 1} times in a row"
    ) as caught:
        place.run()
    assert "look at what stands between" in str(caught.value)
    place.proxy.counter._waiting.clear()
    place.run()
    place.assert_exactly_once()


def test_parts_that_are_lost_now_and_then_do_not_add_up(place: Place) -> None:
    for part in range(4):  # the first two attempts of each; the third sends dead letters and records
        for attempt in (1, 2):
            place.proxy.at(4 * part + attempt, Answer(404), of=is_sent)
    place.run()
    place.assert_exactly_once()
    assert len(place.notices) == 8 > MOST_LOST


# --- a fault at each request of a takeover and of the job that goes on ---

# Each run is disturbed at every so many requests, beginning with another one.
APART = 6


def assert_gets_through(place: Place, begin: int, fault: Callable[[], Fault]) -> None:
    """Run the rest of a job, disturbed at every so many requests from one on."""
    faults = [fault() for _ in range(20)]
    for number, each in enumerate(faults):
        place.proxy.at(begin + number * APART, each)
    place.run_quickly()
    struck = sum(each.happened.is_set() for each in faults)
    assert 6 <= struck < len(faults)
    place.assert_exactly_once()
    place.assert_named()


@pytest.mark.parametrize(
    "fault",
    [lambda: Damage(1), lambda: Truncate(2), lambda: Drop("after")],
    ids=["damaged", "cut", "lost"],
)
@pytest.mark.parametrize("begin", range(1, APART + 1))
def test_disturbed_at_any_request_a_takeover_and_the_rest_of_the_job_get_through(
    place: Place, begin: int, fault: Callable[[], Fault]
) -> None:
    place.run_one_part()
    add_strangers(3)
    assert_gets_through(place, begin, fault)


@pytest.mark.parametrize("begin", range(1, APART + 1))
def test_rate_limits_that_come_with_403_pass_at_any_request(place: Place, begin: int) -> None:
    place.run_one_part()
    assert_gets_through(place, begin, lambda: Answer(403, reason="rateLimitExceeded"))


# --- what may not be deleted ---


def is_deleted(head: Head) -> bool:
    return head.method == "DELETE" and "/o/" in head.path


def add_strangers(count: int) -> None:
    sink = GcsStream(BUCKET, prefix="out/job.ndjson", keep=True)
    for sequence in range(100, 100 + count):
        with sink.open_part(sequence, epoch=1) as part:
            part.write(b"{}")
    sink.close()


def leave_behind(place: Place, count: int = 3) -> list[str]:
    """Leave what a killed process leaves: objects that no checkpoint knows."""
    place.run()
    add_strangers(count)
    return [name for name in place.gcs.objects(BUCKET) if "out/job/000001/0001" in name]


def hold_all(place: Place, hold: bool) -> None:
    bucket = place.client.bucket(BUCKET)
    for name in place.gcs.objects(BUCKET):
        if not name.startswith("etl/job.json"):
            blob = bucket.blob(name)
            blob.temporary_hold = hold
            blob.patch()


KEEPING: dict[str, Callable[[Place, bool], None]] = {
    "hold": hold_all,
    "permission": lambda place, on: (
        place.proxy.at(1, Answer(403, times=10**6), of=is_deleted)
        if on
        else place.proxy.counter._waiting.clear()
    ),
}


@pytest.mark.parametrize("kind", ["hold", "permission"])
def test_what_a_killed_run_left_and_may_not_be_deleted_is_told_once_and_cleared_later(
    place: Place, kind: str
) -> None:
    left = leave_behind(place)
    KEEPING[kind](place, True)
    for _ in range(2):
        place.notices.clear()
        assert place.run().stopped is None
        (notice,) = place.notices
        assert f"3 objects of gs://{BUCKET}/out/job.ndjson that are not needed any more stay" in notice
        assert "The job goes on, and a later run deletes what may be deleted by then" in notice
        assert set(left) <= set(place.gcs.objects(BUCKET))
    KEEPING[kind](place, False)
    place.notices.clear()
    place.run()
    assert place.notices == []
    place.assert_exactly_once()


@pytest.mark.parametrize("kind", ["hold", "retention"])
def test_names_that_may_not_be_taken_back_are_told_before_anything_is_pulled_again(
    place: Place, tmp_path: Path, kind: str
) -> None:
    checkpoint = tmp_path / "job.json"  # a bucket that keeps its objects takes none
    place.run(checkpoint=str(checkpoint), source=Some(20))
    copy = checkpoint.read_bytes()
    place.run(checkpoint=str(checkpoint))
    checkpoint.write_bytes(copy)
    if kind == "hold":
        hold_all(place, True)
    else:
        place.gcs.configure(BUCKET, {"retentionPolicy": {"retentionPeriod": 86400}})
    before = place.gcs.objects(BUCKET)
    with pytest.raises(SinkFailed, match=r"told of parts after number 2, .* cannot be taken back"):
        place.run(checkpoint=str(checkpoint))
    assert place.gcs.objects(BUCKET) == before
    if kind == "hold":
        hold_all(place, False)
    else:
        place.gcs.configure(BUCKET, {"retentionPolicy": None})
    place.run(checkpoint=str(checkpoint))
    parts = [name for name in place.gcs.objects(BUCKET) if name.startswith("out/job/")]
    assert sorted(place.named("out/_manifest/job")) == sorted(parts)


def test_what_the_listing_says_is_held_is_not_asked_for(place: Place) -> None:
    leave_behind(place)
    hold_all(place, True)
    before = len(place.proxy.log)
    place.run()
    assert [seen.path for seen in place.proxy.log[before:] if seen.method == "DELETE"] == []


def test_after_some_refusals_nothing_more_is_asked_to_be_deleted(place: Place) -> None:
    leave_behind(place, MOST_REFUSED + 5)
    place.proxy.at(1, Answer(403, times=10**6), of=is_deleted)
    before = len(place.proxy.log)
    place.run()
    assert sum(seen.method == "DELETE" for seen in place.proxy.log[before:]) == MOST_REFUSED


@pytest.mark.parametrize("hold", [True, False])
def test_a_part_that_failed_and_may_not_be_deleted_is_no_part(place: Place, hold: bool) -> None:
    """It was made, and what was to follow (its description) failed."""
    if hold:
        place.gcs.configure(BUCKET, {"defaultEventBasedHold": True})
    else:
        place.proxy.at(1, Answer(403, times=10**6), of=is_deleted)
    sink = GcsStream(BUCKET, prefix="other", chunk_bytes=1 << 18, client=place.client)
    part = sink.open_part(1, epoch=1)
    part.write(bytes(1 << 20))
    part.describe({"records": "1"})
    place.proxy.at(1, Answer(400), of=lambda head: head.method == "PATCH")
    with pytest.raises(SinkError):
        part.seal()
    part.abort()
    assert part.sealed is None
    with pytest.raises(NotDeleted, match=f"1 objects of gs://{BUCKET}/other"):
        sink.recover([], None, epoch=1)
    sink.open_part(2, epoch=1).abort()  # it may be used


# --- who pays ---

PAYS = {"billing": {"requesterPays": True}}


def paying(name: str | None) -> dict[str, Any]:
    sink = {"type": "gcs_stream", "bucket": BUCKET, "prefix": "out/job.ndjson", "keep": True}
    return {
        "sink": {**sink, "user_project": name},
        "checkpoint": {"uri": f"gs://{BUCKET}/etl/job.json", "user_project": name},
    }


def test_where_the_requester_pays_each_request_says_who(place: Place) -> None:
    leave_behind(place)
    place.gcs.configure(BUCKET, PAYS)
    before = len(place.proxy.log)
    place.run(**paying("mine"))
    requests = place.proxy.log[before:]
    assert {seen.method for seen in requests} >= {"GET", "POST", "DELETE"}
    assert all("userProject=mine" in seen.path for seen in requests)
    place.assert_exactly_once()


def test_where_the_requester_pays_a_whole_job_is_paid_for(place: Place) -> None:
    place.gcs.configure(BUCKET, PAYS)
    place.run(**paying("mine"))
    assert all("userProject=mine" in seen.path for seen in place.proxy.log)
    place.assert_exactly_once()


@pytest.mark.parametrize("missing", ["sink", "checkpoint"])
def test_where_the_requester_pays_and_nobody_is_named_the_error_says_how(place: Place, missing: str) -> None:
    place.gcs.configure(BUCKET, PAYS)
    with pytest.raises(
        (SinkFailed, CheckpointError), match=r'name the one that pays: user_project = "my-project"'
    ):
        place.run(**{**paying("mine"), missing: paying(None)[missing]})


def test_who_pays_survives_pickling() -> None:
    store = GcsStore("gs://bucket/object", user_project="mine")
    for made in (store, store.dead_letters("job"), GcsStream("bucket", user_project="mine")):
        assert pickle.loads(pickle.dumps(made)).user_project == "mine"


def test_etl_check_says_that_the_checkpoint_could_not_be_replaced(place: Place, tmp_path: Path) -> None:
    place.gcs.configure(BUCKET, {"retentionPolicy": {"retentionPeriod": 86400}})
    (tmp_path / "in.ndjson").write_text('{"number": 1}\n')
    job = tmp_path / "job.toml"
    job.write_text(
        f"""
        name = "job"
        [source]
        type = "files"
        paths = "{tmp_path}/in.ndjson"
        [sink]
        type = "gcs_stream"
        bucket = "{BUCKET}"
        prefix = "out.ndjson"
        keep = true
        [checkpoint]
        uri = "gs://{BUCKET}/job.json"
        """
    )
    said = CliRunner().invoke(check, [str(job)]).stderr
    assert "a retention policy of 86,400 s forbids to replace the object" in said
