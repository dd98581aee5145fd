"""What warehouses that merge by key must do; part of `WarehouseSuite`."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from etl.checkpoint import replace
from etl.errors import LoadMismatch
from etl.testing.warehouse_jobs import JobLoader, WarehouseMaker, row
from etl.warehouses.base import Audits, MergesByKey, Refreshes, Warehouse


class MergeSuite(WarehouseMaker):
    """Which record of a key is kept, and that each plan is merged once."""

    def test_records_replace_those_of_the_same_key(self, tmp_path: Path, format: str) -> None:
        """For warehouses that merge: what was loaded last counts, also within one plan."""
        with self._merging(tmp_path, format=format) as job:
            assert job.load(job.plan([row(1, "a"), row(2, "b"), row(4, "x"), row(4, "d")])) == 4
            assert job.load(job.plan([row(2, "x"), row(3, "x"), row(3, "c"), row(2, "z")])) == 4
        assert self.rows(tmp_path) == [(1, "a"), (2, "z"), (3, "c"), (4, "d")]

    def test_a_plan_that_is_merged_again_changes_nothing(self, tmp_path: Path) -> None:
        """Or it would put back what a later one has changed."""
        with self._merging(tmp_path) as job:
            early, late = job.plan([row(1, "a"), row(2, "b")]), job.plan([row(2, "c")])
            assert [job.load(early), job.load(late), job.load(early)] == [2, 1, 2]
        with self._merging(tmp_path) as successor:
            assert successor.load(early) == 2
        assert self.rows(tmp_path) == [(1, "a"), (2, "c")]

    def test_a_record_that_is_older_is_dropped(self, tmp_path: Path) -> None:
        """The greatest `updated_at` wins, whether it is in the table or in the plan."""
        with self._merging(tmp_path, updated_at="at") as job:
            job.load(job.plan([row(1, "new", 5), row(1, "old", 4), row(2, "a", 7), row(3, "a", 1)]))
            assert job.load(job.plan([row(2, "old", 6), row(3, "new", 2), row(1, "older", 1)])) == 3
        assert self.rows(tmp_path) == [(1, "new"), (2, "a"), (3, "new")]

    def test_of_records_that_are_equally_old_the_last_wins(self, tmp_path: Path) -> None:
        """In the order of parts and records; and one of the plan against one of the table."""
        with self._merging(tmp_path, updated_at="at") as job:
            job.load(job.plan([row(1, "a", 5), row(2, "a", 5), row(2, "b", 5)]))
            job.load(job.plan([row(1, "b", 5)], [row(1, "c", 5)], [row(1, "old", 4)]))
        assert self.rows(tmp_path) == [(1, "c"), (2, "b")]

    def test_no_updated_at_is_older_than_any(self, tmp_path: Path) -> None:
        """Null in the table loses, null in a plan loses, among nulls the last one wins."""
        with self._merging(tmp_path, updated_at="at") as job:
            job.load(job.plan([row(1, "a", 1), row(1, "x"), row(2, "x"), row(2, "b"), row(3, "a")]))
            job.load(job.plan([row(1, "y"), row(2, "c"), row(3, "b", 1)]))
        assert self.rows(tmp_path) == [(1, "a"), (2, "c"), (3, "b")]

    def test_a_record_replaces_the_whole_row(self, tmp_path: Path) -> None:
        """What it does not have is null."""
        with self._merging(tmp_path) as job:
            job.load(job.plan([row(1, "a"), row(2, "b")]))
            job.load(job.plan([{"id": 1, "more": True}]))
        assert self.rows(tmp_path) == [(1, None), (2, "b")]

    def test_a_key_may_have_many_columns(self, tmp_path: Path) -> None:
        """All of them must be equal."""
        with self._merging(tmp_path, key=("id", "name"), updated_at="at") as job:
            job.load(job.plan([row(1, "a", 1), row(1, "b", 1), row(2, "a", 1)]))
            assert job.load(job.plan([row(1, "a", 2), row(2, "b", 1)])) == 2
        assert sorted(self.rows(tmp_path)) == [(1, "a"), (1, "b"), (2, "a"), (2, "b")]

    def test_another_number_of_merged_records_is_an_error(self, tmp_path: Path) -> None:
        """They are counted before those that lose are dropped; nothing is kept."""
        with self._merging(tmp_path) as job:
            job.load(job.plan([row(1, "a")]))
            plan = job.plan([row(1, "b"), row(1, "c"), row(2, "c")])
            wrong = replace(plan, parts=(replace(plan.parts[0], records=2),))
            with pytest.raises(LoadMismatch):
                job.load(wrong)
        assert self.rows(tmp_path) == [(1, "a")]

    def test_a_refresh_merges_too(self, tmp_path: Path) -> None:
        """Into its own table, which knows nothing of the old one."""
        with self._merging(tmp_path, updated_at="at") as job:
            job.load(job.plan([row(1, "old", 9), row(7, "old", 9)]))
            job.begin_refresh("a1")
            job.load(job.plan([row(1, "a", 1), row(2, "b", 1)]))
            job.load(job.plan([row(2, "x", 0), row(1, "c", 2)]))
            job.finish_refresh()
        assert self.rows(tmp_path) == [(1, "c"), (2, "b")]

    def test_what_merges_says_so(self, tmp_path: Path) -> None:
        """Its key, its disposition, and in an audit that the table may hold fewer rows than were loaded."""
        with self._merging(tmp_path) as job:
            warehouse = job.warehouse
            assert isinstance(warehouse, MergesByKey)
            assert warehouse.key == ("id",)
            assert warehouse.destination != self.make_warehouse(tmp_path).destination
            again: Warehouse = pickle.loads(pickle.dumps(warehouse))  # noqa: S301  # it was made here
            assert again.destination == warehouse.destination
            if isinstance(warehouse, Refreshes):
                assert warehouse.disposition == "merge"
            job.load(job.plan([row(1, "a"), row(1, "b")]))
            if isinstance(warehouse, Audits):
                audit = warehouse.audit(job.job)
                assert (audit.merged, audit.table_rows) == (True, 1)
                assert sum(load.rows for load in audit.loads) == 2

    @contextmanager
    def _merging(
        self,
        directory: Path,
        *,
        key: Sequence[str] = ("id",),
        updated_at: str | None = None,
        format: str = "ndjson",
    ) -> Iterator[JobLoader]:
        warehouse = self.make_merging_warehouse(directory, key=key, updated_at=updated_at)
        with JobLoader(warehouse, directory, format) as job:
            yield job
