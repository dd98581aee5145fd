"""The conformance suite of warehouses: inherit it, and say how a warehouse is made and its table is read.

class TestMyWarehouse(WarehouseSuite):
    def make_warehouse(self, directory: Path) -> Warehouse:
        return MyWarehouse(directory / "warehouse", table="t")

    def rows(self, directory: Path) -> list[tuple[int, str]]:
        return read(directory / "warehouse", "SELECT id, name FROM t ORDER BY id")

A warehouse that merges by key defines `make_merging_warehouse` too.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from etl.checkpoint import replace
from etl.errors import Fenced, LoadMismatch, WarehouseError
from etl.testing.merges import MergeSuite
from etl.testing.refreshes import RefreshSuite
from etl.testing.warehouse_jobs import BUDGET, JobLoader, named
from etl.warehouses.base import Audits, Job, KeepsLedger, LoadsByJobs, Warehouse


class WarehouseSuite(RefreshSuite, MergeSuite):
    """What every warehouse must do, and what one must do that has more abilities.

    Parts are files below the directory, as file sinks write them.
    """

    def test_every_row_of_a_plan_is_there_once(self, tmp_path: Path, format: str) -> None:
        """A plan's parts are loaded together, and its rows are counted."""
        with self.job(tmp_path, format) as job:
            assert job.load(job.plan(range(3))) == 3
        assert self.rows(tmp_path) == named(range(3))

    def test_a_plan_that_is_loaded_again_adds_nothing(self, tmp_path: Path) -> None:
        """Not by the same object, and not by that of another process."""
        with self.job(tmp_path) as job:
            plan = job.plan(range(3), range(3, 5))
            assert [job.load(plan), job.load(plan)] == [5, 5]
        with self.job(tmp_path) as successor:
            assert successor.load(plan) == 5
        assert self.rows(tmp_path) == named(range(5))

    def test_plans_add_up(self, tmp_path: Path) -> None:
        """A plan adds to what is there; records that are equal are records all the same."""
        with self.job(tmp_path) as job:
            for _ in range(2):
                assert job.load(job.plan(range(2))) == 2
        assert self.rows(tmp_path) == sorted(named(range(2)) * 2)

    def test_another_number_of_records_is_an_error(self, tmp_path: Path) -> None:
        """What was sealed is compared with what was loaded."""
        with self.job(tmp_path) as job:
            plan = job.plan(range(3))
            wrong = replace(plan, parts=(replace(plan.parts[0], records=4),))
            with pytest.raises(LoadMismatch):
                job.load(wrong)

    def test_a_part_that_is_missing_is_named_and_nothing_is_loaded(self, tmp_path: Path) -> None:
        """When it is back, the plan loads: nothing was spoilt."""
        with self.job(tmp_path) as job:
            job.load(job.plan(range(2)))
            plan = job.plan(range(2, 4), range(4, 6))
            path = Path(plan.parts[1].sealed.uri.removeprefix("file://"))
            data = path.read_bytes()
            path.unlink()
            with pytest.raises(WarehouseError, match=path.name):
                job.load(plan)
            path.write_bytes(data)
            assert job.load(plan) == 4
        assert self.rows(tmp_path) == named(range(6))

    def test_it_must_be_open_and_may_be_closed_twice(self, tmp_path: Path) -> None:
        """An object can be opened again after it was closed."""
        with self.job(tmp_path) as job:
            plan = job.plan(range(1))
            job.warehouse.close()
            job.warehouse.close()
            with pytest.raises(WarehouseError):
                job.load(plan)
            job.warehouse.open(BUDGET)
            assert job.load(plan) == 1

    def test_its_definition_can_be_pickled(self, tmp_path: Path) -> None:
        """An object that was open loads on another machine what it would have loaded here."""
        with self.job(tmp_path) as job:
            plan = job.plan(range(2))
            pickled = pickle.dumps(job.warehouse)
        again: Warehouse = pickle.loads(pickled)  # noqa: S301  # it was made in the line above
        with JobLoader(again, tmp_path, "ndjson") as successor:
            assert again.destination == self.make_warehouse(tmp_path).destination
            assert again.load(job.job, plan) == 2
            assert successor.load(plan) == 2

    def test_a_ledger_says_how_far_the_warehouse_is(self, tmp_path: Path) -> None:
        """For warehouses that keep one."""
        with self.job(tmp_path) as job:
            if not isinstance(job.warehouse, KeepsLedger):
                pytest.skip("keeps no ledger")
            assert job.warehouse.latest(job.job) is None
            plan = job.plan(range(2))
            job.load(plan)
            entry = job.warehouse.latest(job.job)
            assert entry is not None
            assert (entry.state, entry.loads) == (plan.after, 1)

    def test_a_plan_that_is_given_up_is_never_loaded(self, tmp_path: Path) -> None:
        """For warehouses that load by jobs: a process that comes late is fenced."""
        with self.job(tmp_path) as job:
            warehouse = job.warehouse
            if not isinstance(warehouse, LoadsByJobs):
                pytest.skip("its loads do not outlast the process")
            loaded, given_up = job.plan(range(2)), job.plan(range(2, 4))
            job.load(loaded)
            for _ in range(2):
                assert warehouse.settle(job.job, loaded) == 2
                assert warehouse.settle(job.job, given_up) is None
            with pytest.raises(Fenced):
                job.load(given_up)
            assert warehouse.operations == warehouse.operations_a_load
        assert self.rows(tmp_path) == named(range(2))

    def test_it_remembers_what_it_loaded(self, tmp_path: Path) -> None:
        """For warehouses that can be asked."""
        with self.job(tmp_path) as job:
            if not isinstance(job.warehouse, Audits):
                pytest.skip("cannot be asked")
            plans = [job.plan(range(3)), job.plan(range(3, 5))]
            for plan in plans:
                job.load(plan)
            audit = job.warehouse.audit(job.job)
            assert [(load.plan, load.last, load.rows) for load in audit.loads] == [
                (plan.id, plan.parts[-1].sequence, plan.records) for plan in plans
            ]
            assert (audit.table_rows, audit.other_rows) == (5, 0)
            assert job.warehouse.audit(Job(pipeline="another", fingerprint={})).loads == ()
