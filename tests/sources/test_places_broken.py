"""Connections to other places that break: the records come all the same, once each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from place_servers import S3, Ftp, Gs, Sftp, ftp, gs, s3, sftp
from pulling import compress, ndjson, taken, values

from etl.errors import SourceChanged
from etl.sources import Files
from etl.sources.remote import file as remote_file
from etl.sources.remote import storage as remote_storage
from etl.testing.fault_proxy import Answer, Drop, Fault, FaultProxy, Truncate
from sinks.retry import Retry

RECORDS = [{"n": number, "text": "x" * 20} for number in range(500)]
PACKED = compress(ndjson(RECORDS), "gzip")


@pytest.fixture(autouse=True)
def small_ranges_and_short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_file, "FIRST_BYTES", 1000)
    monkeypatch.setattr(remote_file, "MOST_BYTES", 4000)
    monkeypatch.setattr(remote_storage, "Retry", partial(Retry, first_wait=0.01))


@pytest.fixture(scope="module")
def ftp_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ftp]:
    with ftp(tmp_path_factory.mktemp("ftp")) as place:
        yield place


@pytest.fixture(scope="module")
def sftp_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sftp]:
    with sftp(tmp_path_factory.mktemp("sftp")) as place:
        yield place


@pytest.mark.parametrize("cut_after", [0, 1, 500, 999, 2500])
def test_an_ftp_transfer_that_breaks_off_is_gone_on_with(ftp_place: Ftp, cut_after: int) -> None:
    ftp_place.fresh()
    ftp_place.put("a.ndjson", ndjson(RECORDS))
    ftp_place.cut_after = cut_after
    assert taken(ftp_place.files("a.ndjson")) == RECORDS
    assert ftp_place.cut_after is None


@pytest.mark.parametrize("kind", ["ftp", "sftp"])
@pytest.mark.parametrize("name", ["a.ndjson", "a.ndjson.gz"])
def test_a_connection_that_is_gone_is_made_again(
    ftp_place: Ftp, sftp_place: Sftp, kind: str, name: str
) -> None:
    place = ftp_place if kind == "ftp" else sftp_place
    place.fresh()
    place.put(name, PACKED if name.endswith("gz") else ndjson(RECORDS))
    items = []
    for count, item in enumerate(place.files(name).pull(None)):
        items.append(item)
        if count in (0, 100, 300):
            place.break_connections()
    assert values(items) == RECORDS


@pytest.mark.parametrize("kind", ["ftp", "sftp"])
def test_a_file_that_was_changed_while_the_connection_was_gone_is_named(
    ftp_place: Ftp, sftp_place: Sftp, kind: str
) -> None:
    place = ftp_place if kind == "ftp" else sftp_place
    place.fresh()
    place.put("a.ndjson.gz", PACKED)
    pulling = place.files("a.ndjson.gz").pull(None)
    next(pulling)
    place.put("a.ndjson.gz", compress(ndjson(RECORDS[1:]), "gzip"))
    place.break_connections()
    with pytest.raises(SourceChanged, match="was changed while it was being read"):
        list(pulling)


@pytest.fixture(scope="module")
def s3_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3(tmp_path_factory.mktemp("s3")) as place:
        yield place


@pytest.fixture(scope="module")
def gs_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gs]:
    with gs(tmp_path_factory.mktemp("gs")) as place:
        yield place


FAULTS: dict[str, Callable[[], Fault]] = {
    "cut before the first byte": lambda: Truncate(0),
    "cut in the middle": lambda: Truncate(700),
    "no answer": lambda: Drop("before"),
    "429": lambda: Answer(429),
    "500": lambda: Answer(500),
    "503": lambda: Answer(503),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_request_to_s3_may_fail_once(s3_place: S3, fault: str) -> None:
    s3_place.fresh()
    s3_place.put("a.ndjson.gz", PACKED)
    with FaultProxy(s3_place.storage["endpoint_url"]) as proxy:
        storage = {**s3_place.storage, "endpoint_url": proxy.url}
        source = Files(s3_place.uri("*.ndjson.gz"), storage=storage)
        assert taken(source) == RECORDS
        requests = len(proxy.log)
        for number in range(1, requests + 1):
            proxy.at(number, FAULTS[fault]())
            assert taken(source) == RECORDS
        assert len(proxy.log) > requests * (requests + 1)


def test_requests_to_gs_may_fail(gs_place: Gs) -> None:
    """A few only: gcsfs waits for a second or more before it tries again."""
    gs_place.fresh()
    gs_place.put("a.ndjson.gz", PACKED)
    with FaultProxy(gs_place.storage["endpoint_url"]) as proxy:
        source = Files(gs_place.uri("a.ndjson.gz"), storage={**gs_place.storage, "endpoint_url": proxy.url})
        for number, fault in enumerate([Truncate(0), Truncate(700), Drop("before"), Answer(503)], 1):
            proxy.at(2 * number, fault)
        assert taken(source) == RECORDS
