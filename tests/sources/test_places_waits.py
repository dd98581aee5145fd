"""Other places that keep a source waiting: each wait has a deadline, and ends when the run is stopped."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from place_servers import gs
from pulling import ndjson, taken

from etl import Pipeline
from etl.errors import SourceError, SourceStopped
from etl.sources import Files
from etl.sources.aside import Aside
from etl.sources.waiting import Waiting
from etl.testing.fault_proxy import Delay, FaultProxy
from tests.bad_servers import TRICKLES, BadServer

LONG = 1000.0
RECORDS = [{"n": number, "text": "x" * 20} for number in range(500)]
WEB = {"token": "anon", "project": "test"}
KEY = {"key": "k", "secret": "s", "client_kwargs": {"region_name": "us-east-1"}}

# What a server of each kind trickles; those of SSH and FTP greet first.
PLACES: dict[str, tuple[Callable[[BadServer], tuple[str, dict[str, Any]]], tuple[bytes, bytes]]] = {
    "gs": (
        lambda server: ("gs://bucket/a.ndjson", {**WEB, "endpoint_url": server.url}),
        TRICKLES["a header"],
    ),
    "s3": (
        lambda server: ("s3://bucket/a.ndjson", {**KEY, "endpoint_url": server.url}),
        TRICKLES["a header"],
    ),
    "ftp": (
        lambda server: (f"ftp://127.0.0.1:{server.port}/a.ndjson", {"timeout": 600}),
        (b"220-welcome\r\n", b"220-to all\r\n"),
    ),
    "sftp": (
        lambda server: (
            f"sftp://127.0.0.1:{server.port}/a.ndjson",
            {"username": "u", "password": "p", "banner_timeout": 600},
        ),
        (b"", b"S"),
    ),
}


@pytest.mark.parametrize("kind", PLACES)
def test_a_place_that_trickles_is_given_up_at_the_deadline(kind: str) -> None:
    make, trickle = PLACES[kind]
    with BadServer(*trickle, waits="ftp" not in kind) as server:
        path, storage = make(server)
        with pytest.raises(SourceError, match=r"a\.ndjson"):
            taken(Files(path, storage=storage, deadline=0.3))
        assert not server.gave_up.is_set()


@pytest.mark.parametrize("kind", PLACES)
def test_a_signal_ends_the_wait_for_a_place_that_trickles(tmp_path: Path, kind: str) -> None:
    make, trickle = PLACES[kind]
    with BadServer(
        *trickle, waits="ftp" not in kind, reached=lambda: os.kill(os.getpid(), signal.SIGTERM)
    ) as server:
        path, storage = make(server)
        pipeline = Pipeline(
            "job",
            source=Files(path, storage=storage, deadline=LONG),
            sink={"type": "null"},
            checkpoint=str(tmp_path / "job.checkpoint.json"),
        )
        assert pipeline.run().stopped == "SIGTERM"
        assert not server.gave_up.is_set()


@pytest.mark.parametrize("nth", [1, 3])
def test_a_request_that_is_left_behind_is_made_again(tmp_path: Path, nth: int) -> None:
    """It is late, and answered at last: what it finds then is nobody's."""
    with gs(tmp_path) as place, FaultProxy(place.server.url) as proxy:
        place.fresh()
        place.put("a.ndjson", ndjson(RECORDS))
        storage = {**place.storage, "endpoint_url": proxy.url}
        source = Files(place.uri("a.ndjson"), storage=storage, deadline=6)
        late = Delay(4)
        proxy.at(nth, late)
        assert taken(source) == RECORDS


class TestAside:
    def test_what_returns_or_raises_in_time_does_so_here(self) -> None:
        aside = Aside(lambda: None)
        assert aside.call(lambda: 3, 20) == 3
        with pytest.raises(ZeroDivisionError):
            aside.call(lambda: 1 // 0, 20)
        aside.close()
        assert aside.call(lambda: 4, 20) == 4

    def test_what_does_not_return_in_time_is_left_behind(self) -> None:
        aside = Aside(lambda: None)
        with pytest.raises(TimeoutError, match=r"no answer in 0\.01 s"):
            aside.call(lambda: time.sleep(1), 0.01)
        assert aside.call(lambda: 3, 20) == 3

    def test_a_source_that_is_told_to_leave_does_not_wait(self) -> None:
        waiting = Waiting()
        waiting.leave()
        with pytest.raises(SourceStopped):
            Aside(waiting.look).call(lambda: time.sleep(1), LONG)
