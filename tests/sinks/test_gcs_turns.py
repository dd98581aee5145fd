"""While something is sent, Python's threads take turns often; afterwards as before."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from etl.testing.gcs_server import GcsServer
from sinks.gcs import Upload, connect, turns
from sinks.gcs.session import LARGEST_PIECE, PIECE, Pace
from tests.sinks.conftest import BUCKET

CHUNK = 256 * 1024


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    assert sys.getswitchinterval() == before


def test_two_that_send_at_once_restore_it_when_the_last_is_done() -> None:
    before = sys.getswitchinterval()
    with turns.often():
        with turns.often():
            assert sys.getswitchinterval() == pytest.approx(turns.INTERVAL)
        assert sys.getswitchinterval() == pytest.approx(turns.INTERVAL)
    assert sys.getswitchinterval() == before


def test_who_takes_turns_more_often_already_is_left_alone() -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0001)
    try:
        exact = sys.getswitchinterval()  # in whole microseconds
        with turns.often():
            assert sys.getswitchinterval() == exact
        assert sys.getswitchinterval() == exact
    finally:
        sys.setswitchinterval(before)


@pytest.mark.parametrize("end", ["finish", "abort"])
def test_an_upload_that_is_over_leaves_nothing_changed(gcs: GcsServer, end: str) -> None:
    with closing(connect()) as client:
        upload = Upload(client, BUCKET, "object", chunk_bytes=CHUNK)
        upload.write(bytes(3 * CHUNK))
        assert upload._thread is not None
        assert sys.getswitchinterval() == pytest.approx(turns.INTERVAL)
        getattr(upload, end)()
        upload._thread.join()


def test_pieces_grow_while_they_go_quickly_and_shrink_when_they_do_not() -> None:
    pace = Pace()
    for _ in range(20):
        pace.note(0.001)
    assert pace.piece == LARGEST_PIECE
    pace.note(3.0)
    assert pace.piece == LARGEST_PIECE // 2
    for _ in range(20):
        pace.note(3.0)
    assert pace.piece == PIECE
