"""What warehouses that can be refreshed must do; part of `WarehouseSuite`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from etl.errors import Fenced
from etl.testing.warehouse_jobs import WarehouseMaker, named
from etl.warehouses.base import Audits, KeepsLedger


class RefreshSuite(WarehouseMaker):
    """A new table beside the old one, and what becomes of both."""

    def test_a_refresh_is_not_seen_before_it_is_finished(self, tmp_path: Path) -> None:
        """For warehouses that can be refreshed: the old table stays, then the new one has its place."""
        with self.job(tmp_path) as job:
            job.load(job.plan(range(3)))
            job.begin_refresh("a1")
            assert job.load(job.plan(range(10, 12))) == 2
        assert self.rows(tmp_path) == named(range(3))
        with self.job(tmp_path) as successor:
            successor.refresh("a1")
            assert successor.load(successor.plan(range(12, 13))) == 1
            successor.finish_refresh()
        assert self.rows(tmp_path) == named(range(10, 13))
        with self.job(tmp_path) as job:
            job.load(job.plan(range(1)))
        assert self.rows(tmp_path) == sorted(named((10, 11, 12, 0)))

    def test_the_first_load_of_a_table_may_be_a_refresh(self, tmp_path: Path) -> None:
        """There is no old table then."""
        with self.job(tmp_path) as job:
            job.begin_refresh("a1")
            job.load(job.plan(range(3)))
            job.finish_refresh()
        assert self.rows(tmp_path) == named(range(3))

    def test_a_plan_is_loaded_into_a_refresh_once(self, tmp_path: Path) -> None:
        """Whether it was begun once more in between or not, as long as it is the same one."""
        with self.job(tmp_path) as job:
            job.load(job.plan(range(3)))
            job.begin_refresh("a1")
            plan = job.plan(range(5, 7))
            assert [job.load(plan), job.load(plan)] == [2, 2]
        with self.job(tmp_path) as successor:
            successor.refresh("a1")
            assert successor.load(plan) == 2
            successor.finish_refresh()
        assert self.rows(tmp_path) == named(range(5, 7))

    def test_a_refresh_that_is_finished_again_changes_nothing(self, tmp_path: Path) -> None:
        """Not at once, not by a successor, and not after more was loaded."""
        with self.job(tmp_path) as job:
            job.load(job.plan(range(3)))
            job.begin_refresh("a1")
            job.load(job.plan(range(10, 12)))
            job.finish_refresh()
            job.finish_refresh()
        with self.job(tmp_path) as successor:
            successor.refresh("a1")
            successor.finish_refresh()
            successor.refresh("")
            successor.load(successor.plan(range(3)))
            successor.refresh("a1")
            successor.finish_refresh()
        assert self.rows(tmp_path) == sorted(named((10, 11, 0, 1, 2)))

    def test_the_ledger_says_whether_a_refresh_is_finished(self, tmp_path: Path) -> None:
        """For those that keep one: a checkpoint that was put back would load into it for ever."""
        with self.job(tmp_path) as job:
            warehouse = job.warehouse
            job.load(job.plan(range(3)))
            job.begin_refresh("a1")
            job.load(job.plan(range(10, 12)))
            if not isinstance(warehouse, KeepsLedger):
                pytest.skip("keeps no ledger")
            before = warehouse.latest(job.job)
            job.finish_refresh()
            after = warehouse.latest(job.job)
            assert before
            assert after
            assert (before.refreshed, after.refreshed) == (False, True)
            assert before.state == after.state
            job.refresh("")
            assert warehouse.latest(job.job) == before

    def test_an_empty_refresh_empties_the_table(self, tmp_path: Path) -> None:
        """Once: what is loaded after it stays."""
        with self.job(tmp_path) as job:
            job.load(job.plan(range(3)))
            job.begin_refresh("a1")
            job.finish_refresh()
            job.finish_refresh()
        assert self.rows(tmp_path) == []
        with self.job(tmp_path) as job:
            job.load(job.plan(range(2)))
            job.refresh("a1")
            job.finish_refresh()
        assert self.rows(tmp_path) == named(range(2))

    def test_an_empty_refresh_where_there_is_no_table_does_nothing(self, tmp_path: Path) -> None:
        """The table is made by the first record."""
        with self.job(tmp_path) as job:
            job.begin_refresh("a1")
            job.finish_refresh()
            job.refresh("")
            job.load(job.plan(range(2)))
        assert self.rows(tmp_path) == named(range(2))

    def test_a_refresh_that_was_given_up_leaves_nothing(self, tmp_path: Path) -> None:
        """The next one begins with an empty table, and the ledger knows the next one's loads only."""
        with self.job(tmp_path) as job:
            job.load(job.plan(range(3)))
            job.begin_refresh("a1")
            job.load(job.plan(range(10, 12)))
        with self.job(tmp_path) as successor:
            successor.begin_refresh("b2")
            warehouse = successor.warehouse
            if isinstance(warehouse, KeepsLedger):
                assert warehouse.latest(successor.job) is None
            successor.load(successor.plan(range(20, 22)))
            successor.finish_refresh()
        assert self.rows(tmp_path) == named(range(20, 22))

    def test_a_later_refresh_is_not_undone(self, tmp_path: Path) -> None:
        """Neither by one that it took the place of, nor by one that was finished before it."""
        with self.job(tmp_path) as job:
            for name, numbers in (("a1", range(10, 12)), ("b2", range(20, 22)), ("c3", range(30, 32))):
                job.begin_refresh(name)
                job.load(job.plan(numbers))
                if name != "b2":
                    job.finish_refresh()
        with self.job(tmp_path) as zombie:
            zombie.refresh("b2")
            with pytest.raises(Fenced):
                zombie.finish_refresh()
            zombie.refresh("a1")
            with suppress(Fenced):
                zombie.finish_refresh()
        assert self.rows(tmp_path) == named(range(30, 32))

    def test_a_refresh_is_what_the_warehouse_remembers(self, tmp_path: Path) -> None:
        """What was loaded before it is gone, from the ledger too."""
        with self.job(tmp_path) as job:
            warehouse = job.warehouse
            job.load(job.plan(range(3)))
            job.begin_refresh("a1")
            plan = job.plan(range(10, 15))
            job.load(plan)
            before = plan.after if isinstance(warehouse, KeepsLedger) else None
            assert job.state() == before
            job.finish_refresh()
            for name in ("a1", ""):
                job.refresh(name)
                assert job.state() == before
            if isinstance(warehouse, Audits):
                audit = warehouse.audit(job.job)
                assert [load.plan for load in audit.loads] == [plan.id]
                assert (audit.table_rows, audit.other_rows, audit.former_rows) == (5, 0, 0)
