"""The conformance suite of checkpoint stores: inherit it, and say how a store is made.

class TestMyStore(StoreSuite):
    def make_store(self, directory: Path) -> Store:
        return MyStore(directory / "job.json")
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from etl.checkpoint import Checkpoint, replace
from etl.errors import Fenced
from etl.lease import Conflict, Lease, Store


class StoreSuite:
    """What every store must do. A store made twice for one directory means the same document."""

    def make_store(self, directory: Path) -> Store:
        """Make a store for a document below `directory`; each call makes another object for the same one."""
        raise AssertionError(f"{type(self).__name__} must define make_store, which {directory} is for")

    def test_an_empty_store_reads_none(self, tmp_path: Path) -> None:
        """There is no document before the first swap."""
        assert self.make_store(tmp_path).read() is None

    def test_what_is_swapped_in_is_read_back(self, tmp_path: Path) -> None:
        """A new object reads the bytes and the version that the swap returned."""
        version = self.make_store(tmp_path).swap(b"one", None)
        assert self.make_store(tmp_path).read() == (b"one", version)

    def test_a_swap_replaces_the_document_whole(self, tmp_path: Path) -> None:
        """A shorter document leaves nothing of a longer one."""
        store = self.make_store(tmp_path)
        version = store.swap(b"a longer document" * 1000, None)
        store.swap(b"short", version)
        found = store.read()
        assert found is not None
        assert found[0] == b"short"

    def test_a_swap_that_expects_none_conflicts_with_a_document(self, tmp_path: Path) -> None:
        """Only one of two processes can create the document."""
        self.make_store(tmp_path).swap(b"one", None)
        with pytest.raises(Conflict):
            self.make_store(tmp_path).swap(b"two", None)

    def test_a_swap_at_an_old_version_conflicts_and_changes_nothing(self, tmp_path: Path) -> None:
        """The document stays what the other process made it."""
        mine, other = self.make_store(tmp_path), self.make_store(tmp_path)
        version = mine.swap(b"one", None)
        newer = other.swap(b"two", version)
        with pytest.raises(Conflict):
            mine.swap(b"three", version)
        assert mine.read() == (b"two", newer)

    def test_of_many_swaps_at_once_one_lands(self, tmp_path: Path) -> None:
        """Eight threads expect the same version."""
        version = self.make_store(tmp_path).swap(b"start", None)
        barrier, landed = threading.Barrier(8), []

        def race(number: int) -> None:
            store = self.make_store(tmp_path)
            barrier.wait()
            try:
                store.swap(b"%d" % number, version)
            except Conflict:
                return
            landed.append(b"%d" % number)

        threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = self.make_store(tmp_path).read()
        assert found is not None
        assert landed == [found[0]]

    def test_who_holds_the_job_can_swap(self, tmp_path: Path) -> None:
        """A held store writes as any other."""
        store = self.make_store(tmp_path)
        with store.hold(wait=False):
            version = store.swap(b"one", None)
            assert store.read() == (b"one", version)

    def test_a_job_can_be_held_again_after_it_was_let_go(self, tmp_path: Path) -> None:
        """Also by another object, also after an error."""
        with pytest.raises(ZeroDivisionError), self.make_store(tmp_path).hold(wait=False):
            raise ZeroDivisionError
        with self.make_store(tmp_path).hold(wait=False):
            pass

    def test_a_lease_that_lost_the_race_is_fenced(self, tmp_path: Path) -> None:
        """The one whose document was replaced hears of it at its next write."""
        document = Checkpoint(pipeline="job")
        first = Lease(self.make_store(tmp_path), document, None)
        first.write(document)
        store = self.make_store(tmp_path)
        found = store.read()
        assert found is not None
        Lease(store, document, found[1]).write(replace(document, epoch=2))
        with pytest.raises(Fenced, match="epoch 2"):
            first.write(replace(document, epoch=1))

    def test_a_lease_recognises_its_own_write_whose_answer_was_lost(self, tmp_path: Path) -> None:
        """The write landed, then an error came back; the retry conflicts with itself."""
        store = _LosesAnswers(self.make_store(tmp_path))
        lease = Lease(store, Checkpoint(pipeline="job"), None)
        lease.write(replace(lease.document, epoch=1))
        lease.write(replace(lease.document, epoch=2))
        found = store.read()
        assert found is not None
        assert b'"epoch": 2' in found[0]


class _LosesAnswers:
    """Passes every swap on, and answers as a retry of it would be answered: with a conflict."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.uri = store.uri
        self.hold = store.hold
        self.read = store.read

    def swap(self, data: bytes, expected: str | None) -> str:
        self._store.swap(data, expected)
        raise Conflict(self.uri)
