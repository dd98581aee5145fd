"""Which objects count: what the manifest names after every crash, and what a process that is fenced takes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

import duckdb
import pytest

import etl
from etl.checkpoint import encode, replace
from etl.errors import EtlError, Fenced
from etl.stores.gcs import GcsStore
from etl.testing.fault_proxy import Answer, Drop
from sinks import GcsStream, SealedPart
from sinks.gcs import Objects
from sinks.gcs.manifest import Manifest
from sinks.retry import Retry
from tests.gcs_jobs import BUCKET, RECORDS, REJECTED, Place, Some, made_place, transform
from tests.sinks.conftest import GivesUpSoon

QUICK = Retry(deadline=20.0, first_wait=0.001, longest_wait=0.01)
FOREVER = 10**6


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with made_place(tmp_path, monkeypatch) as made:
        yield made


# --- what is named ---


def test_a_run_names_its_parts_and_its_dead_letters_and_readers_read_those(place: Place) -> None:
    place.run()
    place.assert_exactly_once()
    place.assert_named()
    root = place.gcs.root / BUCKET
    with duckdb.connect() as reader:
        reader.execute(
            f"SET VARIABLE files = (SELECT list(replace(uri, 'gs://{BUCKET}', '{root}'))"
            f" FROM read_json('{root}/out/_manifest/job/*.json'))"
        )
        rows = reader.execute("SELECT number FROM read_json(getvariable('files'))").fetchall()
    assert sorted(number for (number,) in rows) == sorted(set(range(RECORDS)) - REJECTED)


def test_a_line_says_what_the_object_is(place: Place) -> None:
    place.run()
    first, *_ = place.lines("out/_manifest/job/")
    blob = place.client.bucket(BUCKET).get_blob(first["uri"].removeprefix(f"gs://{BUCKET}/"))
    assert (first["sequence"], first["bytes"], first["generation"]) == (1, blob.size, blob.generation)


def test_later_runs_add_to_it(place: Place) -> None:
    for records in (20, 40):
        place.run(source=Some(records))
        place.assert_named()
    place.assert_exactly_once()
    assert len([name for name in place.gcs.objects(BUCKET) if name.startswith("out/_manifest/job/")]) == 2


def test_where_nothing_is_kept_any_more_what_was_named_is_named_no_more(place: Place) -> None:
    place.run_one_part()
    assert place.lines("out/_manifest/job/")
    sink = GcsStream(BUCKET, prefix="out/job.ndjson", keep=False, client=place.client)
    sink.recover([], None, epoch=9)
    assert not [name for name in place.gcs.objects(BUCKET) if name.startswith("out/")]


def test_where_nothing_is_kept_nothing_is_named(place: Place) -> None:
    sink = GcsStream(BUCKET, prefix="job", keep=False)
    with sink.open_part(1, epoch=1) as part:
        part.write(b"x")
    assert part.sealed is not None
    sink.publish([part.sealed], epoch=1)
    sink.publish_all(1)
    assert not sink.published(part.sealed)
    assert len(place.gcs.objects(BUCKET)) == 1
    sink.close()


def test_what_was_written_before_there_were_manifests_is_named_by_the_next_run(place: Place) -> None:
    place.run()
    document = place.pipeline().read_checkpoint()
    assert document is not None
    document = replace(document, unpublished_parts=None, unpublished_rejects=None)
    bucket = place.client.bucket(BUCKET)
    bucket.blob("etl/job.json").upload_from_string(encode(document))
    for name in place.gcs.objects(BUCKET):
        if "_manifest/" in name:
            bucket.blob(name).delete()
    place.run()
    place.assert_named()
    place.assert_exactly_once()


# --- a checkpoint that was put back from an older copy ---


@pytest.mark.parametrize(("copied", "runs"), [(1, 2), (1, 3), (2, 3), (1, 4), (2, 4), (3, 4)])
def test_with_an_older_checkpoint_what_later_runs_wrote_is_pulled_again_and_named_once(
    place: Place, copied: int, runs: int
) -> None:
    copies = {}
    for run in range(1, runs + 1):
        place.run(source=Some(10 * run))
        copies[run] = (place.gcs.root / BUCKET / "etl/job.json").read_bytes()
    place.client.bucket(BUCKET).blob("etl/job.json").upload_from_string(copies[copied])
    place.run()
    place.assert_exactly_once()
    place.assert_named()
    (notice,) = place.notices
    assert f"objects of epoch {runs} are there, the checkpoint said {copied + 1}: it was put back" in notice


def test_who_finds_objects_of_a_later_epoch_and_is_fenced_leaves_them(place: Place) -> None:
    """The successor swapped and wrote after the process had looked at the checkpoint, and before it listed."""
    place.run_one_part()
    struck: list[int] = []

    class Late(Elsewhere):
        def read(self) -> tuple[bytes, str] | None:
            found = super().read()
            struck.append(1)
            if len(struck) == 2:  # the look before what is left behind is cleared away
                place.run()
            return found

    with pytest.raises(Fenced):
        place.run(checkpoint=Late(f"gs://{BUCKET}/etl/job.json"))
    place.assert_exactly_once()
    place.assert_named()


# --- cut off, as if killed, at each request ---


def cut_off(place: Place, nth: int) -> bool:
    """Run the job until its nth request, after which it hears of nothing any more; say whether it got so far.

    What is left behind is the same as where the next request never reaches the server.
    """
    struck = Answer(503, when="after")
    place.proxy.at(nth, struck)
    place.proxy.at(nth + 1, Answer(503, times=FOREVER))
    job = place.pipeline(part_records=20)
    for part in (job.sink, job.rejects, job.store):
        part._retry = GivesUpSoon(deadline=0.005, first_wait=0.01)  # type: ignore[attr-defined]
    with suppress(EtlError):
        job.run(handle_signals=False)
    place.proxy.counter._waiting.clear()
    return struck.happened.is_set()


@pytest.mark.slow
def test_cut_off_at_any_request_it_never_names_what_does_not_count_and_in_the_end_all_that_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nth = 1
    while True:
        with made_place(tmp_path / str(nth), monkeypatch) as place:
            struck = cut_off(place, nth)
            early = [*place.named("out/_manifest/job"), *place.named("etl/_manifest/job-rejects")]
            assert len(early) == len(set(early))
            place.run(part_records=20)
            place.assert_named()
            place.assert_exactly_once()
            assert set(early) <= set(place.gcs.objects(BUCKET))  # what was named once is not taken back
        if not struck:
            break
        nth += 1
    assert nth >= 27, "the job makes fewer requests than it did"


# --- a process that is fenced ---


class Elsewhere(GcsStore):
    """The checkpoint of a process on a machine of its own: no lock keeps another one out."""

    def hold(self, *, wait: bool) -> AbstractContextManager[None]:
        return nullcontext()


class Overtaken(Elsewhere):
    """Lets another machine take the job over at one of its writes: before it lands, or after it, the answer lost."""

    def __init__(self, uri: str, nth: int, when: str, successor: Callable[[], object]) -> None:
        super().__init__(uri)
        self._left = nth
        self._when = when
        self._successor = successor
        self.happened = False

    def swap(self, data: bytes, expected: str | None) -> str:
        self._left -= 1
        if self._left:
            return super().swap(data, expected)
        if self._when == "after":
            super().swap(data, expected)
        self._successor()
        self.happened = True
        return super().swap(data, expected)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("nth", range(2, 8))
@pytest.mark.parametrize("succeed", [Place.run, Place.run_one_part])
def test_a_fenced_process_takes_back_what_it_made_and_nothing_that_counts(
    place: Place, when: str, nth: int, succeed: Callable[[Place], object]
) -> None:

    store = Overtaken(f"gs://{BUCKET}/etl/job.json", nth, when, lambda: succeed(place))
    try:
        place.run(checkpoint=store)
    except Fenced:
        assert store.happened
    else:
        assert not store.happened
    objects = place.gcs.objects(BUCKET)
    place.assert_named()  # nothing is there that nobody knows of
    place.run()
    place.assert_named()
    place.assert_exactly_once()
    assert set(objects) - {"etl/job.json"} <= set(place.gcs.objects(BUCKET))


@pytest.mark.parametrize("succeed", [Place.run, Place.run_one_part])
@pytest.mark.parametrize("at", [2, 15, 22, 39])
def test_what_a_process_seals_after_it_was_overtaken_is_gone_when_it_ends(
    place: Place, at: int, succeed: Callable[[Place], object]
) -> None:
    """The successor has cleared up by then: nobody else would, before the next run."""
    overtaken: list[int] = []

    def overtake(records: Iterator[Any]) -> Iterator[Any]:
        for record in transform(records):
            number = record.record["number"] if isinstance(record, etl.Reject) else record["number"]
            if number == at and not overtaken:
                overtaken.append(number)
                succeed(place)
            yield record

    with pytest.raises(Fenced):
        place.run(checkpoint=Elsewhere(f"gs://{BUCKET}/etl/job.json"), transforms=[overtake])
    assert overtaken
    place.assert_named()
    place.run()
    place.assert_named()
    place.assert_exactly_once()


# --- the manifest by itself ---


def sealed(sequence: int, epoch: int = 1, tail: str = "0") -> SealedPart:
    uri = f"gs://{BUCKET}/job/{epoch:06d}/{sequence:06d}-{tail * 16}"
    return SealedPart(sequence=sequence, uri=uri, bytes=1, crc32c=0, generation=1)


def manifest(place: Place) -> Manifest:
    return Manifest(Objects(place.client, BUCKET, retry=QUICK), "job/", lambda uri: int(uri.split("/")[-2]))


def uris(parts: list[SealedPart]) -> list[str]:
    return [part.uri.removeprefix(f"gs://{BUCKET}/") for part in parts]


FIVE = [sealed(number) for number in range(1, 6)]


@pytest.mark.parametrize("more", [[], [sealed(6), sealed(8)]])
def test_what_two_have_to_add_is_named_once(place: Place, more: list[SealedPart]) -> None:
    manifest(place).add(FIVE, epoch=1)
    manifest(place).add([*FIVE, *more], epoch=2)
    manifest(place).add(FIVE, epoch=1)
    assert place.named("_manifest/job") == uris([*FIVE, *more])
    assert all(manifest(place).names(part) for part in [*FIVE, *more])
    assert not manifest(place).names(sealed(3, tail="1"))
    assert not manifest(place).names(sealed(7))


@pytest.mark.parametrize("last", range(7))
def test_what_is_given_up_is_named_no_more(place: Place, last: int) -> None:
    for parts in (FIVE[:3], FIVE[3:], [sealed(6)]):
        manifest(place).add(parts, epoch=1)
    manifest(place).cut(last, epoch=1)
    assert place.named("_manifest/job") == uris([*FIVE, sealed(6)][:last])
    again = [sealed(number, epoch=2) for number in range(last + 1, 8)]
    manifest(place).add(again, epoch=2)
    assert place.named("_manifest/job") == uris([*FIVE, sealed(6)][:last] + again)


def test_what_a_later_epoch_named_is_a_successors(place: Place) -> None:
    manifest(place).add(FIVE[:2], epoch=1)
    theirs = [sealed(number, epoch=2) for number in (3, 4)]
    manifest(place).add(theirs, epoch=2)
    manifest(place).cut(1, epoch=1)
    assert place.named("_manifest/job") == uris([FIVE[0], *theirs])
    manifest(place).add([sealed(3)], epoch=1)  # by a process that does not know yet that it is fenced
    assert place.named("_manifest/job") == uris([FIVE[0], *theirs])


@pytest.mark.parametrize(
    "fault", [lambda: Drop("before"), lambda: Drop("after"), lambda: Answer(503, when="after")]
)
@pytest.mark.parametrize("nth", range(1, 12))
def test_a_fault_at_any_request_changes_nothing(place: Place, nth: int, fault: Callable[[], Any]) -> None:
    place.proxy.at(nth, fault())
    made = manifest(place)
    made.add(FIVE[:3], epoch=1)
    made.add(FIVE, epoch=1)
    made.cut(4, epoch=1)
    assert made.names(FIVE[3])
    assert place.named("_manifest/job") == uris(FIVE[:4])


@pytest.mark.parametrize(
    ("prefix", "folder"),
    [("flights/job.ndjson.gz", "flights/_manifest/job/"), ("job", "_manifest/job/"), ("", "_manifest/")],
)
def test_a_manifest_lies_beside_the_folder_of_the_objects(place: Place, prefix: str, folder: str) -> None:
    sink = GcsStream(BUCKET, prefix=prefix, keep=True, client=place.client)
    with sink.open_part(7, epoch=1) as part:
        part.write(b"x")
    assert part.sealed is not None
    sink.publish([part.sealed], epoch=1)
    assert f"{folder}000007.json" in place.gcs.objects(BUCKET)
    assert sink.published(part.sealed)
    sink.recover([], None, epoch=1)
    assert place.gcs.objects(BUCKET) == {}
