"""What BigQuery remembers of a job's loads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from etl.errors import WarehouseError
from etl.testing.fault_proxy import Answer, Drop
from etl.warehouses.base import Job, Loaded
from etl.warehouses.bigquery import jobs as bigquery_jobs
from tests.google import GoogleServers
from tests.warehouses.bigquery_loader import COLUMNS, Loader, rows


@pytest.fixture
def loader(google_environment: GoogleServers, tmp_path: Path) -> Iterator[Loader]:
    loader = Loader(google_environment, tmp_path)
    yield loader
    loader.close()


def test_a_job_that_loaded_nothing_has_no_loads_and_no_table(loader: Loader) -> None:
    audit = loader.warehouse.audit(loader.job)
    assert (audit.loads, audit.table_rows, audit.other_rows) == ((), None, 0)


def test_loads_are_told_oldest_first_with_their_parts_and_rows(loader: Loader) -> None:
    plans = [loader.plan(), loader.plan(loader.part(rows(7, 2)))]
    for plan in plans:
        loader.warehouse.load(loader.job, plan)
    audit = loader.warehouse.audit(loader.job)
    assert audit.loads == (
        Loaded(plan=plans[0].id, job=loader.id(plans[0]), first=1, last=2, rows=7),
        Loaded(plan=plans[1].id, job=loader.id(plans[1]), first=3, last=3, rows=2),
    )
    assert (audit.table, audit.table_rows, audit.other_rows) == (loader.table, 9, 0)


def test_rows_of_others_are_told_apart(loader: Loader) -> None:
    loader.warehouse.load(loader.job, loader.plan())
    # Its name begins as ours does, and it is another job.
    other = Job(pipeline="job_2", fingerprint={}, columns=COLUMNS)
    loader.warehouse.load(other, loader.plan(loader.part(rows(100, 5))))
    audit = loader.warehouse.audit(loader.job)
    assert (len(audit.loads), audit.table_rows, audit.other_rows) == (1, 12, 5)


def test_failed_loads_and_used_up_ids_are_no_loads(loader: Loader) -> None:
    loader.warehouse.load(loader.job, loader.plan())
    bad = loader.plan(loader.part([b"nonsense"]))
    with pytest.raises(WarehouseError):
        loader.warehouse.load(loader.job, bad)
    loader.warehouse.settle(loader.job, bad)
    audit = loader.warehouse.audit(loader.job)
    assert (len(audit.loads), audit.table_rows) == (1, 7)


@pytest.mark.parametrize("fault", [Drop("before"), Answer(503), Answer(403)], ids=repr)
def test_a_list_that_goes_wrong_is_asked_for_again_page_by_page(
    loader: Loader, monkeypatch: pytest.MonkeyPatch, fault: Drop | Answer
) -> None:
    monkeypatch.setattr(bigquery_jobs, "PAGE", 2)
    for n in range(5):
        loader.warehouse.load(loader.job, loader.plan(loader.part(rows(n, 1))))
    with loader.proxy() as (proxy, warehouse):
        # All users' jobs may be refused; one's own are asked for then.
        proxy.at(1, fault, of=lambda head: "/jobs?" in head.path)
        assert len(warehouse.audit(loader.job).loads) == 5
