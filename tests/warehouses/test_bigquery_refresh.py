"""Refreshing a table of BigQuery: the old table until the exchange, the new one's rows after it, whoever dies."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from etl.checkpoint import Plan
from etl.columns import Column
from etl.errors import Fenced, WarehouseError
from etl.testing.fault_proxy import Answer, Drop, Head
from etl.warehouses import base
from etl.warehouses.base import Job
from etl.warehouses.bigquery import BigQuery, marks
from etl.warehouses.bigquery.refresh import KEPT, new_name
from tests.google import LOCATION, TIMEOUT, GoogleServers
from tests.warehouses.bigquery_loader import COLUMNS, Loader, Paused, in_background, looking_up, rows

OLD = [(n, f"name {n}") for n in range(7)]
NEW = [(n, f"name {n}") for n in range(100, 103)]


# The requests of an exchange are dealt out to so many tests, each of which ends in good time on a busy machine, too.
SHARES = 3

# The method of the client that submits the exchange, for each value of `schema_on_refresh`.
EXCHANGES = {"keep": "query", "infer": "copy_table"}


@pytest.fixture
def schema_on_refresh() -> str:
    """Give what `both_ways` gives elsewhere."""
    return "keep"


both_ways = pytest.mark.parametrize("schema_on_refresh", EXCHANGES)


@pytest.fixture
def loader(google_environment: GoogleServers, tmp_path: Path, schema_on_refresh: str) -> Iterator[Loader]:
    loader = Loader(google_environment, tmp_path, schema_on_refresh=schema_on_refresh)
    loader.job = msgspec.structs.replace(loader.job, life="f00d")
    yield loader
    loader.close()


def refresh(loader: Loader, name: str = "a1") -> Job:
    return msgspec.structs.replace(loader.job, refresh=name)


def begun(loader: Loader, name: str = "a1", *, first: int = 100, old: bool = True) -> Job:
    """Fill the table, and the new one of a refresh."""
    if old and loader.client.list_tables(loader.dataset).num_results == 0:
        loader.warehouse.load(loader.job, loader.plan())
    job = refresh(loader, name)
    loader.warehouse.begin_refresh(job)
    loader.warehouse.load(job, fresh(loader, first))
    return job


def fresh(loader: Loader, first: int = 100) -> Plan:
    return loader.plan(loader.part(rows(first, 3)))


def tables(loader: Loader) -> list[str]:
    return sorted(table.table_id for table in loader.client.list_tables(loader.dataset, timeout=TIMEOUT))


def exchanges(loader: Loader) -> list[str]:
    """Return the ids of the jobs that copied into the table, or exchanged its rows."""
    short = loader.warehouse._options.short
    return [
        job.job_id
        for job in loader.client.list_jobs(max_results=200, timeout=TIMEOUT)
        if job.job_id.startswith("etl_") and (job.labels or {}).get("etl_into") == short
    ]


def new_table(loader: Loader, job: Job) -> str:
    return f"{loader.dataset}.{new_name(loader.warehouse._options, job)}"


def test_it_keeps_the_contracts_of_refreshes(loader: Loader) -> None:
    assert isinstance(loader.warehouse, base.Refreshes)
    assert isinstance(loader.warehouse, base.MergesByKey)
    assert (loader.warehouse.disposition, loader.warehouse.key) == ("append", ())


def test_replacing_and_adding_are_different_destinations() -> None:
    made = BigQuery(table="project.d.t", location="EU", disposition="replace")
    assert made.disposition == "replace"
    assert made.destination == "bigquery://project/d/t?location=eu&disposition=replace"


def test_the_new_table_expires_and_says_whose_it_is(loader: Loader) -> None:
    job = begun(loader)
    table = loader.client.get_table(new_table(loader, job))
    assert table.labels == {"etl_pipeline": "job", "etl_refresh": "a1"}
    assert timedelta() <= datetime.now(UTC) + KEPT - table.expires < timedelta(minutes=5)


def test_a_load_after_some_days_keeps_the_new_table_for_longer(loader: Loader) -> None:
    job = begun(loader)
    table = loader.client.get_table(new_table(loader, job))
    table.expires = datetime.now(UTC) + timedelta(days=2)
    loader.client.update_table(table, ["expires"])
    loader.open().load(job, fresh(loader, 200))
    table = loader.client.get_table(new_table(loader, job))
    assert table.expires > datetime.now(UTC) + KEPT - timedelta(minutes=5)


@pytest.mark.parametrize("schema_on_refresh", ["infer"])
def test_the_table_does_not_expire_because_the_new_one_did(loader: Loader) -> None:
    job = begun(loader)
    with loader.proxy() as (proxy, warehouse):
        proxy.at(1, Answer(400), of=copying)
        with pytest.raises(WarehouseError):
            warehouse.finish_refresh(job)
    assert loader.client.get_table(new_table(loader, job)).expires is None


def test_the_new_table_is_laid_out_as_the_old_one_is(loader: Loader) -> None:
    columns = (*COLUMNS, Column(name="at", type="TIMESTAMP"))
    record = {"id": 1, "name": "a", "at": "2026-01-02T03:04:05Z"}
    job = msgspec.structs.replace(loader.job, columns=columns)
    options: dict[str, Any] = {"partition_by": "at", "partition_type": "MONTH", "cluster_by": ["name"]}
    loader.open(**options).load(job, loader.plan(loader.part([record]), columns=columns))
    warehouse = loader.open()  # whatever the options are by now
    refreshing = msgspec.structs.replace(job, refresh="a1")
    warehouse.begin_refresh(refreshing)
    warehouse.load(refreshing, loader.plan(loader.part([record, record]), columns=columns))
    for name in (new_table(loader, refreshing), loader.table):
        table = loader.client.get_table(name)
        assert (table.time_partitioning.type_, table.time_partitioning.field) == ("MONTH", "at")
        assert table.clustering_fields == ["name"]
        warehouse.finish_refresh(refreshing)
        loader.client.create_table(new_table(loader, refreshing), exists_ok=True)  # for the second round
        if name == loader.table:
            assert loader.count() == 2


def test_where_there_is_no_table_the_new_one_is_laid_out_as_the_options_say(loader: Loader) -> None:
    warehouse = loader.open(cluster_by=["name"])
    job = refresh(loader)
    warehouse.begin_refresh(job)
    warehouse.load(job, fresh(loader))
    assert loader.client.get_table(new_table(loader, job)).clustering_fields == ["name"]


@both_ways
def test_partitions_of_a_table_that_somebody_made_are_counted_from_the_first_part_on(loader: Loader) -> None:
    loader.client.query_and_wait(f"CREATE TABLE `{loader.table}` (id INT64, day DATE) PARTITION BY day")
    job = msgspec.structs.replace(refresh(loader), columns=None)
    loader.warehouse.begin_refresh(job)
    gate = loader.warehouse.gate(job, "ndjson")
    for day in ("2026-01-01", "2026-01-02"):
        gate.admit({"id": 1, "day": day})
    assert isinstance(gate, base.SeesPartitions)
    assert gate.partitions.count == 2
    assert loader.warehouse.daily_modifications


@pytest.mark.parametrize("schema_on_refresh", ["infer"])
def test_columns_of_the_old_table_do_not_bind_the_new_one(loader: Loader) -> None:
    loader.warehouse.load(loader.job, loader.plan())
    columns = (Column(name="id", type="STRING"),)
    job = msgspec.structs.replace(refresh(loader), columns=None)
    warehouse = loader.open(schema={"id": "STRING"})
    warehouse.begin_refresh(job)
    gate = warehouse.gate(job, "ndjson")
    assert gate.admit({"id": "x"}) == {"id": "x"}
    job = msgspec.structs.replace(job, columns=gate.columns)
    warehouse.load(job, loader.plan(loader.part([{"id": "x"}]), columns=columns))
    assert loader.fetch() == OLD
    warehouse.finish_refresh(job)
    assert loader.fetch("id") == [("x",)]
    done = msgspec.structs.replace(loader.job, columns=None, loads=1)
    warehouse.look_back(done)
    assert warehouse.gate(done, "ndjson").columns == columns


def test_the_gate_of_a_refresh_knows_what_was_loaded_into_it(loader: Loader) -> None:
    job = msgspec.structs.replace(begun(loader), columns=None)
    assert loader.open().gate(job, "ndjson").columns == COLUMNS
    assert loader.open().columns(job) == COLUMNS


def copying(head: Head) -> bool:
    """Say whether a request submits the exchange: what else is submitted then is a query that uses an id up."""
    return head.method == "POST" and head.path.split("?")[0].endswith("/jobs")


@pytest.mark.slow
@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("schema_on_refresh", "empty"), [("keep", False), ("keep", True), ("infer", False), ("infer", True)]
)
def test_killed_at_any_request_of_the_exchange_it_is_done_once(
    loader: Loader, when: Any, empty: bool, share: int
) -> None:
    """As the process sees it: a request is refused for good, and it goes no further."""
    for nth in itertools.count(1 + share, SHARES):
        name = f"a{nth}"
        job = begun(loader, name, first=nth * 100)
        if empty:
            job = refresh(loader, f"b{nth}")
            loader.warehouse.begin_refresh(job)
        before = set(loader.fetch())
        with loader.proxy() as (proxy, warehouse):
            opened = len(proxy.log)
            proxy.at(opened + nth, Answer(400, when=when))
            try:
                warehouse.finish_refresh(job)
            except WarehouseError:
                survived = False
            else:
                survived = True
        expected = set() if empty else {(n, f"name {n}") for n in range(nth * 100, nth * 100 + 3)}
        assert set(loader.fetch()) in (before, expected)
        loader.open().finish_refresh(job)
        assert set(loader.fetch()) == expected
        loader.warehouse.load(loader.job, loader.plan(loader.part(rows(nth * 1000, 1))))
        loader.open().finish_refresh(job)
        assert len(loader.fetch()) == len(expected) + 1
        assert not any("refresh" in table for table in tables(loader))
        if survived:
            assert nth > 4
            return


@both_ways
@pytest.mark.parametrize(
    "fault",
    [lambda: Drop("before"), lambda: Drop("after"), lambda: Answer(503), lambda: Answer(503, when="after")],
    ids=["dropped before", "dropped after", "503 before", "503 after"],
)
def test_an_exchange_whose_answer_is_lost_is_one_exchange(loader: Loader, fault: Any) -> None:
    job = begun(loader)
    fault = fault()
    with loader.proxy() as (proxy, warehouse):
        proxy.at(1, fault, of=copying)
        warehouse.finish_refresh(job)
    assert fault.happened.is_set()
    assert loader.fetch() == NEW
    assert len(exchanges(loader)) == warehouse.operations == 1


@both_ways
def test_processes_that_finish_at_once_do_it_once(loader: Loader) -> None:
    job = begun(loader)
    others = [loader.open() for _ in range(4)]
    errors: list[BaseException] = []

    def finish(warehouse: BigQuery) -> None:
        try:
            warehouse.finish_refresh(job)
        except WarehouseError as error:  # the new table went while it looked
            errors.append(error)

    threads = [threading.Thread(target=finish, args=(each,)) for each in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    loader.open().finish_refresh(job)
    assert loader.fetch() == NEW
    assert len(exchanges(loader)) == 1
    assert sum(each.operations for each in others) == 1


@both_ways
@pytest.mark.parametrize("empty", [False, True])
def test_a_zombie_that_comes_after_a_later_refresh_changes_nothing(
    loader: Loader, empty: bool, schema_on_refresh: str
) -> None:
    loader.warehouse.load(loader.job, loader.plan())
    job = refresh(loader) if empty else begun(loader)
    zombie = loader.open(url=loader.servers.bigquery.url)
    paused = Paused(zombie, "query" if empty else EXCHANGES[schema_on_refresh])
    with in_background(zombie.finish_refresh, job) as ended, paused:
        paused.wait()
        successor = loader.open()
        successor.finish_refresh(job)
        successor.finish_refresh(begun(loader, "b2", first=500))
    assert ended == [None]
    assert loader.fetch() == [(n, f"name {n}") for n in range(500, 503)]
    assert (zombie.operations, successor.operations) == (0, 2)


def test_a_zombie_that_ends_a_refresh_again_leaves_the_marks_of_jobs_that_have_loaded_since(
    loader: Loader,
) -> None:
    job = msgspec.structs.replace(begun(loader), rewinds=1, loads=1)
    loader.warehouse.finish_refresh(job)
    other = msgspec.structs.replace(loader.job, pipeline="other", life="beef")
    loader.warehouse.load(other, fresh(loader, 200))
    loader.open().finish_refresh(job)
    found = marks.read(loader.client.get_table(loader.table), "other")
    assert found
    assert found.is_of(other)


@both_ways
def test_a_zombie_of_a_refresh_that_was_given_up_is_fenced(loader: Loader, schema_on_refresh: str) -> None:
    job = begun(loader)
    zombie = loader.open(url=loader.servers.bigquery.url)
    paused = Paused(zombie, EXCHANGES[schema_on_refresh])
    with in_background(zombie.finish_refresh, job) as ended, paused:
        paused.wait()
        loader.open().begin_refresh(refresh(loader, "b2"))
        after = tables(loader)
    assert isinstance(ended[0], Fenced)
    assert loader.fetch() == OLD
    assert tables(loader) == after


def test_a_zombie_that_is_about_to_begin_gives_up_no_later_refresh(loader: Loader) -> None:
    loader.warehouse.load(loader.job, loader.plan())
    zombie = loader.open(url=loader.servers.bigquery.url)
    paused = Paused(zombie, "list_tables")
    with in_background(zombie.begin_refresh, refresh(loader, "9-a1")) as ended, paused:
        paused.wait()
        later = begun(loader, "10-b2")
    assert ended == [None]
    loader.open().finish_refresh(later)
    assert loader.fetch() == NEW


def test_what_is_staged_for_a_refresh_stays_until_that_is_given_up(loader: Loader) -> None:
    job = refresh(loader, "1-a1")
    staged = f"{new_table(loader, job)}__etl_merge_{'0' * 32}"
    loader.client.create_table(staged)
    loader.warehouse.begin_refresh(job)
    assert tables(loader) == [staged.split(".")[1]]
    loader.warehouse.begin_refresh(refresh(loader, "2-b2"))
    assert tables(loader) == []


@both_ways
def test_an_exchange_that_bigquery_refuses_is_told_and_the_old_table_stays(
    loader: Loader, schema_on_refresh: str
) -> None:
    job = begun(loader)
    warehouse = loader.open(url=loader.servers.bigquery.url)
    paused = Paused(warehouse, EXCHANGES[schema_on_refresh])
    with in_background(warehouse.finish_refresh, job) as ended, paused:
        paused.wait()
        loader.client.delete_table(new_table(loader, job))
    assert isinstance(ended[0], WarehouseError)
    assert "cannot put what was loaded in the place of" in str(ended[0])
    assert loader.fetch() == OLD
    assert warehouse.operations == 1  # what fails counts, too


def test_what_another_job_refreshes_is_left_alone(loader: Loader) -> None:
    other = msgspec.structs.replace(refresh(loader), pipeline="Job")  # which has the same label
    loader.warehouse.begin_refresh(other)
    loader.warehouse.load(other, fresh(loader))
    loader.warehouse.begin_refresh(refresh(loader, "b2"))
    assert tables(loader) == [new_table(loader, other).split(".")[1]]


def test_a_copy_of_something_else_is_never_adopted(loader: Loader) -> None:
    from google.cloud.bigquery import CopyJobConfig

    job = begun(loader)
    exchange = loader.warehouse._refreshing(job)._exchange.id(0)
    config = CopyJobConfig(write_disposition="WRITE_APPEND")
    loader.client.copy_table(
        new_table(loader, job), loader.table, job_id=exchange, job_config=config
    ).result()
    with pytest.raises(WarehouseError, match="its write disposition is WRITE_APPEND"):
        loader.warehouse.finish_refresh(job)


@pytest.mark.parametrize("schema_on_refresh", ["infer"])
def test_after_an_exchange_that_failed_the_next_id_is_taken(loader: Loader) -> None:
    from google.cloud.bigquery import CopyJobConfig

    loader.warehouse.load(loader.job, loader.plan())
    job = refresh(loader)
    config = CopyJobConfig(write_disposition="WRITE_TRUNCATE")
    exchange = loader.warehouse._refreshing(job)._exchange.id
    failed = loader.client.copy_table(  # there is no such table yet
        new_table(loader, job), loader.table, job_id=exchange(0), job_config=config
    )
    while not failed.done():
        pass
    begun(loader)
    loader.warehouse.finish_refresh(job)
    assert loader.fetch() == NEW
    assert exchanges(loader) == [exchange(1)]


def test_a_new_table_that_is_gone_is_told_and_the_old_one_stays(loader: Loader) -> None:
    job = begun(loader)
    loader.client.delete_table(new_table(loader, job))
    for warehouse in (loader.warehouse, loader.open()):
        with pytest.raises(WarehouseError, match=r"is gone, into which .* as it was\. Begin again"):
            warehouse.finish_refresh(job)
    with pytest.raises(WarehouseError, match="is gone"):
        loader.warehouse.load(job, fresh(loader, 200))
    with pytest.raises(WarehouseError, match="is gone"):
        loader.open().look_back(msgspec.structs.replace(job, loads=1))
    assert loader.fetch() == OLD


def test_a_new_table_that_is_gone_is_told_also_where_bigquery_has_forgotten_all_jobs(loader: Loader) -> None:
    job = msgspec.structs.replace(begun(loader), loads=1)
    loader.client.delete_table(new_table(loader, job))
    with loader.proxy() as (proxy, warehouse):
        proxy.at(1, Answer(404, times=99), of=looking_up)
        with pytest.raises(WarehouseError, match=r"is gone, into which .* as it was\. Begin again"):
            warehouse.finish_refresh(job)
    assert loader.fetch() == OLD


def test_a_table_that_is_gone_in_the_middle_of_a_run_is_not_made_anew(loader: Loader) -> None:
    loader.warehouse.load(loader.job, loader.plan())
    loader.client.delete_table(loader.table)
    with pytest.raises(WarehouseError, match="is gone, into which"):
        loader.warehouse.load(loader.job, fresh(loader))
    assert tables(loader) == []


@pytest.mark.parametrize(
    ("how", "said"),
    [("made again", "bears no mark of that"), ("refreshed by another job", "another job has refreshed")],
)
def test_a_table_that_lost_its_rows_in_the_middle_of_a_run_is_not_loaded_into(
    loader: Loader, how: str, said: str
) -> None:
    loader.warehouse.load(loader.job, loader.plan())
    if how == "made again":
        loader.client.delete_table(loader.table)
        loader.client.query_and_wait(f"CREATE TABLE `{loader.table}` (id INT64, name STRING)")
    else:
        other = msgspec.structs.replace(refresh(loader), pipeline="other", life="beef")
        loader.warehouse.begin_refresh(other)
        loader.warehouse.finish_refresh(other)
    with pytest.raises(WarehouseError, match=said):
        loader.warehouse.load(msgspec.structs.replace(loader.job, loads=1), fresh(loader))
    assert loader.count() == 0


def test_a_plan_that_was_given_up_is_not_loaded_into_a_refresh(loader: Loader) -> None:
    job = begun(loader)
    plan = fresh(loader, 200)
    assert loader.warehouse.settle(job, plan) is None
    with pytest.raises(Fenced):
        loader.open().load(job, plan)
    loader.warehouse.finish_refresh(job)
    assert loader.fetch() == NEW


def test_a_load_into_the_table_is_none_into_the_new_one(loader: Loader) -> None:
    plan = loader.plan()
    loader.warehouse.load(loader.job, plan)
    with pytest.raises(WarehouseError, match="it loads into"):
        loader.warehouse.load(refresh(loader), plan)


def test_a_former_life_keeps_no_refresh_from_running(loader: Loader) -> None:
    loader.warehouse.load(msgspec.structs.replace(loader.job, life="0ld"), loader.plan())
    with pytest.raises(WarehouseError, match="--full-refresh"):
        loader.open().look_back(msgspec.structs.replace(loader.job, life="f00d"))
    loader.open().look_back(refresh(loader))
    replacing = loader.open(disposition="replace")
    replacing.look_back(msgspec.structs.replace(loader.job, life="f00d"))


@both_ways
def test_an_audit_follows_the_exchange(loader: Loader) -> None:
    job = begun(loader)
    assert [load.rows for load in loader.warehouse.audit(job).loads] == [3]
    loader.warehouse.finish_refresh(job)
    after = loader.plan(loader.part(rows(200, 2)))
    main = msgspec.structs.replace(job, refresh="")
    loader.warehouse.load(main, after)
    audit = loader.open().audit(main)
    assert [load.rows for load in audit.loads] == [3, 2]
    assert (audit.table_rows, audit.former_rows, audit.other_rows) == (5, 0, 0)
    begun_anew = loader.open().audit(msgspec.structs.replace(main, life="1234"))
    assert (begun_anew.loads, begun_anew.former_rows) == ((), 5)
    another = loader.open().audit(msgspec.structs.replace(main, pipeline="another"))
    assert (another.loads, another.other_rows) == ((), 5)


def test_an_audit_after_an_empty_refresh_knows_of_nothing(loader: Loader) -> None:
    loader.warehouse.load(loader.job, loader.plan())
    job = refresh(loader)
    loader.warehouse.finish_refresh(job)
    audit = loader.warehouse.audit(msgspec.structs.replace(job, refresh=""))
    assert (audit.loads, audit.table_rows, audit.other_rows, audit.former_rows) == ((), 0, 0, 0)


def test_exchanges_count_against_the_quota(loader: Loader) -> None:
    warehouse = loader.open()
    job = refresh(loader)
    warehouse.begin_refresh(job)
    warehouse.load(job, fresh(loader))
    warehouse.finish_refresh(job)
    warehouse.finish_refresh(job)
    assert warehouse.operations == 2


def test_the_disposition_is_pickled(google_environment: GoogleServers) -> None:
    made = BigQuery(table="project.d.t", location=LOCATION, disposition="replace")
    again = made.__reduce__()[0]()
    assert (again.disposition, again.destination) == (made.disposition, made.destination)
