"""Merging into a table of BigQuery: each plan once, whoever dies in between, and exactly what a dict would hold."""

from __future__ import annotations

import itertools
import pickle
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from etl.checkpoint import Part, Plan
from etl.columns import Column
from etl.drift import gate_of
from etl.errors import ConfigError, Fenced, LoadMismatch, WarehouseError
from etl.testing.fault_proxy import Answer, Drop
from etl.warehouses.base import Misfit
from etl.warehouses.bigquery.jobs import job_id
from etl.warehouses.bigquery.merge import LEDGER, ORDER
from tests.google import TIMEOUT, GoogleServers
from tests.warehouses.bigquery_loader import Loader, Paused, in_background, inserting

COLUMNS = (
    Column(name="id", type="INTEGER"),
    Column(name="name", type="STRING"),
    Column(name="at", type="INTEGER"),
)

# The requests of a merge are dealt out to so many tests, each of which ends in good time on a busy machine, too.
SHARES = 3

Make = Callable[..., Loader]


@pytest.fixture
def make(google_environment: GoogleServers, tmp_path: Path) -> Iterator[Make]:
    made: list[Loader] = []

    def make(**options: Any) -> Loader:
        options = {"disposition": "merge", "key": ["id"], "updated_at": "at"} | options
        made.append(Loader(google_environment, tmp_path, **options))
        made[-1].job = msgspec.structs.replace(made[-1].job, columns=COLUMNS, life="f00d")
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def loader(make: Make) -> Loader:
    return make()


def row(number: int, name: str | None, at: int | None = None) -> dict[str, Any]:
    return {"id": number, "name": name, "at": at}


def part(loader: Loader, *records: dict[str, Any], **options: Any) -> Part:
    """Write a part through the gate; parts are in the order in which they are written."""
    job = msgspec.structs.replace(
        loader.job, sequence=len(loader.objects()) + len(list(loader.folder.iterdir()))
    )
    gate = loader.warehouse.gate(job, options.get("format", "ndjson"))
    admitted = [gate.admit(record) for record in records]
    loader.job = msgspec.structs.replace(loader.job, columns=gate.columns)
    return loader.part(admitted, **options)


def plan(loader: Loader, *records: dict[str, Any]) -> Plan:
    return loader.plan(part(loader, *records), columns=None)


def merge(loader: Loader, *records: dict[str, Any]) -> int:
    each = plan(loader, *records)  # which may bring columns
    return loader.warehouse.load(loader.job, each)


def table(loader: Loader) -> dict[int, tuple[str | None, int | None]]:
    found = loader.fetch("id, name, at")
    assert len({row[0] for row in found}) == len(found)
    return {row[0]: row[1:] for row in found}


def ledger(loader: Loader) -> list[str]:
    rows = loader.client.query(f"SELECT plan FROM `{loader.dataset}.{LEDGER}`").result()
    return sorted(row.plan for row in rows)


def tables(loader: Loader) -> list[str]:
    return sorted(each.table_id for each in loader.client.list_tables(loader.dataset, timeout=TIMEOUT))


def merged(loader: Loader, plan: Plan, attempt: int = 0) -> str:
    return job_id("job", plan, attempt, "m")


def test_the_key_is_a_part_of_the_destination_and_is_pickled(loader: Loader) -> None:
    assert loader.warehouse.destination.endswith("disposition=merge&key=id&updated_at=at")
    again = pickle.loads(pickle.dumps(loader.warehouse))
    assert (again.key, again.destination) == (("id",), loader.warehouse.destination)


def test_a_plan_is_a_load_and_a_merge_and_leaves_the_table_and_the_ledger(loader: Loader) -> None:
    each = plan(loader, row(1, "a", 1), row(1, "b", 2), row(2, "c"))
    assert loader.warehouse.load(loader.job, each) == 3
    assert table(loader) == {1: ("b", 2), 2: ("c", None)}
    assert loader.jobs() == {loader.id(each): "load", merged(loader, each): "query"}
    assert tables(loader) == [LEDGER, "t"]
    assert ledger(loader) == [each.id]
    assert [field.name for field in loader.client.get_table(loader.table).schema] == ["id", "name", "at"]


def test_a_merge_is_dml_which_does_not_count_against_the_quota(loader: Loader) -> None:
    each = plan(loader, row(1, "a"))
    for _ in range(2):
        loader.warehouse.load(loader.job, each)
    assert (loader.warehouse.operations, loader.warehouse.operations_a_load) == (0, 0)


def test_the_ledger_forgets_after_half_a_year(loader: Loader) -> None:
    merge(loader, row(1, "a"))
    partitions = loader.client.get_table(f"{loader.dataset}.{LEDGER}").time_partitioning
    assert (partitions.field, partitions.expiration_ms) == ("loaded", 180 * 24 * 3600 * 1000)


def test_a_script_that_runs_twice_merges_once(loader: Loader) -> None:
    first = plan(loader, row(1, "a", 1), row(2, "a", 1))
    assert loader.warehouse.load(loader.job, first) == 2
    script = loader.client.get_job(merged(loader, first)).query
    # The staging table is back, and the id is another one: nothing but the ledger is left to tell.
    staging = f"{loader.table}__etl_merge_{first.id}"
    merge(loader, row(1, "b", 1))
    loader.client.query(
        f"CREATE TABLE `{staging}` AS SELECT *, 1 AS {ORDER.name} FROM `{loader.table}`"
    ).result()
    loader.client.query(f"UPDATE `{staging}` SET name = 'again' WHERE TRUE").result()
    loader.client.query(script, job_retry=None).result()
    assert table(loader) == {1: ("b", 1), 2: ("a", 1)}
    assert ledger(loader).count(first.id) == 1


@pytest.mark.slow
@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_request_a_plan_is_merged_once(loader: Loader, when: Any, share: int) -> None:
    """As the process sees it: a request is refused for good, and it goes no further."""
    merge(loader, row(0, "kept", 1))
    for nth in itertools.count(1 + share, SHARES):
        each = plan(loader, row(1, f"a{nth}", nth), row(1, f"b{nth}", nth), row(nth, "new", nth))
        before = table(loader)
        after = before | {1: (f"b{nth}", nth)} | {nth: ("new", nth)}
        with loader.proxy() as (proxy, warehouse):
            proxy.at(len(proxy.log) + nth, Answer(400, when=when))
            try:
                warehouse.load(loader.job, each)
            except WarehouseError:
                survived = False
            else:
                survived = True
        assert table(loader) in (before, after)
        assert loader.open().load(loader.job, each) == 3
        assert table(loader) == after
        assert ledger(loader).count(each.id) == 1
        assert tables(loader) == [LEDGER, "t"]
        if survived:
            assert nth > 10
            return


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("fault", [Drop("before"), Drop("after"), Answer(503), Answer(503, when="after")])
def test_a_job_whose_answer_is_lost_is_one_job(loader: Loader, fault: Any, nth: int) -> None:
    each = plan(loader, row(1, "a"), row(1, "b"))
    with loader.proxy() as (proxy, warehouse):
        proxy.at(nth, fault, of=inserting)
        assert warehouse.load(loader.job, each) == 2
    assert fault.happened.is_set()
    assert len(loader.jobs()) == 2
    assert table(loader) == {1: ("b", None)}
    assert warehouse.operations == 0


def test_a_zombie_that_merges_late_changes_nothing(loader: Loader) -> None:
    merge(loader, row(1, "a"))
    each = plan(loader, row(1, "b"))
    zombie = loader.open(url=loader.servers.bigquery.url)
    with in_background(zombie.load, loader.job, each) as ended, Paused(zombie, "query") as paused:
        paused.wait()
        assert loader.open().load(loader.job, each) == 1
        merge(loader, row(1, "c"))
    assert ended == [1]
    assert table(loader) == {1: ("c", None)}
    assert zombie.operations == 0
    assert tables(loader) == [LEDGER, "t"]


@pytest.mark.parametrize("where", ["query", "load_table_from_uri"])
def test_a_zombie_of_a_plan_that_was_given_up_is_fenced(loader: Loader, where: str) -> None:
    merge(loader, row(1, "a"))
    each = plan(loader, row(1, "b"))
    zombie = loader.open(url=loader.servers.bigquery.url)
    with in_background(zombie.load, loader.job, each) as ended, Paused(zombie, where) as paused:
        paused.wait()
        for _ in range(2):
            assert loader.open().settle(loader.job, each) is None
    assert isinstance(ended[0], (Fenced, WarehouseError))
    with pytest.raises(Fenced):
        loader.open().load(loader.job, each)
    assert table(loader) == {1: ("a", None)}
    assert tables(loader) == [LEDGER, "t"]


def test_a_plan_that_is_merged_cannot_be_given_up(loader: Loader) -> None:
    each = plan(loader, row(1, "a"), row(1, "b"))
    loader.warehouse.load(loader.job, each)
    assert loader.open().settle(loader.job, each) == 2


def test_a_plan_that_is_loaded_and_not_merged_can_be_given_up(loader: Loader) -> None:
    each = plan(loader, row(1, "a"))
    with loader.proxy() as (proxy, killed):
        proxy.at(2, Answer(400), of=inserting)
        with pytest.raises(WarehouseError):
            killed.load(loader.job, each)
    assert loader.jobs() == {loader.id(each): "load"}
    assert loader.warehouse.settle(loader.job, each) is None
    assert not any("merge" in name for name in tables(loader))


def test_a_staging_table_that_is_gone_is_loaded_again(loader: Loader) -> None:
    each = plan(loader, row(1, "a"))
    with loader.proxy() as (proxy, killed):
        proxy.at(2, Answer(400), of=inserting)
        with pytest.raises(WarehouseError):
            killed.load(loader.job, each)
    loader.client.delete_table(f"{loader.table}__etl_merge_{each.id}")
    assert loader.warehouse.load(loader.job, each) == 1
    assert set(loader.jobs()) == {loader.id(each), loader.id(each, 1), merged(loader, each)}
    assert table(loader) == {1: ("a", None)}


def test_a_staging_table_expires(loader: Loader) -> None:
    each = plan(loader, row(1, "a"))
    with loader.proxy() as (proxy, killed):
        proxy.at(2, Answer(400), of=inserting)
        with pytest.raises(WarehouseError):
            killed.load(loader.job, each)
    assert loader.client.get_table(f"{loader.table}__etl_merge_{each.id}").expires is not None


def test_after_a_merge_that_failed_the_next_id_is_taken(loader: Loader) -> None:
    from google.cloud.bigquery import QueryJobConfig

    each = plan(loader, row(1, "a"))
    merging = loader.warehouse._plan_load(loader.job, each)._merging
    assert merging is not None
    config = QueryJobConfig(labels=merging._labels)
    failed = loader.client.query(
        "SELECT 1 / 0", job_config=config, job_id=merged(loader, each), job_retry=None
    )
    while not failed.done():
        pass
    assert failed.error_result is not None
    assert loader.warehouse.load(loader.job, each) == 1
    assert merged(loader, each, 1) in loader.jobs()


def test_what_is_no_merge_under_the_id_is_never_adopted(loader: Loader) -> None:
    each = plan(loader, row(1, "a"))
    loader.client.query("SELECT 1", job_id=merged(loader, each), job_retry=None).result()
    for step in (loader.warehouse.load, loader.warehouse.settle):
        with pytest.raises(WarehouseError, match="is not the merge of plan"):
            step(loader.job, each)


def test_another_number_of_rows_merges_nothing(loader: Loader) -> None:
    one = part(loader, row(1, "a"))
    each = loader.plan(msgspec.structs.replace(one, records=2), columns=None)
    for _ in range(2):
        with pytest.raises(LoadMismatch, match="nothing was merged"):
            loader.warehouse.load(loader.job, each)
    assert "t" not in tables(loader)


def test_columns_are_added_as_they_come(loader: Loader) -> None:
    merge(loader, row(1, "a"), row(2, "a"))
    merge(loader, row(1, "b") | {"more": {"deep": 1}, "list": ["x"]})
    merge(loader, row(3, "c") | {"late": True})
    assert loader.fetch("id, name, more, late") == [
        (1, "b", {"deep": 1}, None),
        (2, "a", None, None),
        (3, "c", None, True),
    ]
    assert loader.fetch("ARRAY_LENGTH(list)", "WHERE id = 1") == [(1,)]
    merge(loader, row(1, "d"))
    assert loader.fetch("name, more, late", "WHERE id = 1") == [("d", None, None)]


def test_a_table_is_made_with_partitions_and_clusters(make: Make) -> None:
    loader = make(partition_by="day", partition_type="MONTH", cluster_by=["name"], schema={"day": "DATE"})
    merge(loader, row(1, "a") | {"day": "2026-01-02"})
    made = loader.client.get_table(loader.table)
    assert (made.time_partitioning.type_, made.time_partitioning.field) == ("MONTH", "day")
    assert made.clustering_fields == ["name"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("type_", "values"),
    [
        ("INTEGER", [1, 2, 3]),
        ("FLOAT", [-0.5, 1.25, 2.0]),
        ("NUMERIC", ["1.5", "2.5", "10.5"]),
        ("STRING", ["a", "b", "c"]),
        ("TIMESTAMP", ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000001Z", "2026-01-01T02:00:00+01:00"]),
        ("DATE", ["2025-12-31", "2026-01-01", "2026-02-01"]),
        ("DATETIME", ["2026-01-01T00:00:00", "2026-01-01T00:00:01", "2026-01-02T00:00:00"]),
    ],
)
def test_what_is_newer_is_told_by_any_type_that_has_an_order(
    make: Make, type_: str, values: list[Any]
) -> None:
    loader = make(updated_at="when", schema={"when": type_})
    old, middle, new = values
    merge(loader, {"id": 1, "name": "middle", "when": middle}, {"id": 2, "name": "x", "when": middle})
    merge(loader, {"id": 1, "name": "old", "when": old}, {"id": 2, "name": "new", "when": new})
    merge(
        loader,
        {"id": 1, "name": "null"},
        {"id": 3, "name": "b", "when": new},
        {"id": 3, "name": "c", "when": old},
    )
    assert loader.fetch() == [(1, "middle"), (2, "new"), (3, "b")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "type_", ["STRING", "BYTES", "BOOLEAN", "NUMERIC", "TIMESTAMP", "DATE", "TIME", "DATETIME"]
)
def test_a_key_is_of_any_type_that_can_be_compared(make: Make, type_: str) -> None:
    values = {
        "STRING": "é `\"'",
        "BYTES": "YQ==",
        "BOOLEAN": False,
        "NUMERIC": "1.50",
        "TIMESTAMP": "2026-01-01T00:00:00Z",
        "DATE": "2026-01-01",
        "TIME": "01:02:03",
        "DATETIME": "2026-01-01T00:00:00",
    }
    loader = make(key=["k"], updated_at=None, schema={"k": type_})
    for name in ("a", "b"):
        merge(loader, {"k": values[type_], "name": name})
    assert loader.fetch("name") == [("b",)]


@pytest.mark.parametrize("type_", ["FLOAT", "JSON", "GEOGRAPHY", "RECORD", "STRING"])
def test_a_key_that_cannot_be_compared_is_told_before_any_record(make: Make, type_: str) -> None:
    column: dict[str, Any] = {"name": "id", "type": type_}
    if type_ == "RECORD":
        column["fields"] = [{"name": "x", "type": "STRING"}]
    if type_ == "STRING":
        column["mode"] = "REPEATED"
    loader = make(schema=[column])
    with pytest.raises(ConfigError, match=r"warehouse\.key: column id is"):
        loader.warehouse.gate(msgspec.structs.replace(loader.job, columns=None), "ndjson")
    with pytest.raises(ConfigError, match="id"):
        loader.warehouse.look_back(msgspec.structs.replace(loader.job, columns=None))


@pytest.mark.parametrize("value", [1.5, [1], {"a": 1}, (1, 2)])
def test_a_value_that_would_make_such_a_key_does_not_fit(make: Make, value: Any) -> None:
    loader = make()
    gate = loader.warehouse.gate(msgspec.structs.replace(loader.job, columns=None), "ndjson")
    with pytest.raises(Misfit, match=r"column id: a .* cannot be a key"):
        gate.admit({"id": value})
    gate.admit({"id": 1})
    assert gate.columns == (COLUMNS[0],)


def test_the_column_of_the_order_is_nobody_elses(loader: Loader) -> None:
    gate = loader.warehouse.gate(loader.job, "ndjson")
    with pytest.raises(Misfit, match=ORDER.name):
        gate.admit({"id": 1, ORDER.name: 1})
    assert gate.admit({"id": 1}) == {"id": 1, ORDER.name: (1 << 32) + 1}
    assert ORDER not in gate.columns


def test_names_that_are_made_valid_are_no_new_fields(loader: Loader) -> None:
    columns = (*COLUMNS, Column(name="a_b", type="STRING", field="a.b"))
    job = msgspec.structs.replace(loader.job, columns=columns)
    gate = gate_of("freeze", loader.warehouse.gate(job, "ndjson"), table=None, pinned=None)
    assert gate is not None
    assert gate.admit({"id": 1, "a.b": "x"})["a_b"] == "x"


def test_a_key_that_no_record_has_is_told(make: Make) -> None:
    loader = make(key=["nothing"])
    with pytest.raises(ConfigError, match="no record so far has nothing"):
        merge(loader, row(1, "a"))


@pytest.mark.slow
def test_many_plans_at_random_are_what_a_dict_would_hold(loader: Loader) -> None:
    chance = random.Random(7)
    expected: dict[int, tuple[str | None, int | None]] = {}
    for number in range(6):
        parts = []
        for _ in range(chance.randint(1, 3)):
            records = [
                row(chance.randint(1, 12), f"{number}-{chance.random()}", chance.choice([None, 1, 2, 3, 4]))
                for _ in range(chance.randint(1, 20))
            ]
            for record in records:
                was = expected.get(record["id"])
                if was is None or was[1] is None or (record["at"] is not None and record["at"] >= was[1]):
                    expected[record["id"]] = (record["name"], record["at"])
            parts.append(part(loader, *records))
        loader.warehouse.load(loader.job, loader.plan(*parts, columns=None))
        assert table(loader) == expected


def test_an_audit_counts_what_was_merged(loader: Loader) -> None:
    first = plan(loader, row(1, "a"), row(1, "b"), row(2, "a"))
    loader.warehouse.load(loader.job, first)
    merge(loader, row(2, "b"))
    audit = loader.open().audit(loader.job)
    assert audit.merged
    assert [(load.rows, load.first) for load in audit.loads] == [(3, 1), (1, 2)]
    assert audit.loads[0].job == merged(loader, first)
    assert (audit.table_rows, audit.other_rows, audit.former_rows) == (2, 0, 0)
    again = loader.open().audit(msgspec.structs.replace(loader.job, life="1234"))
    assert (again.loads, again.former_rows) == ((), 4)


def test_a_former_life_is_merged_over(loader: Loader) -> None:
    merge(loader, row(1, "a"))
    anew = msgspec.structs.replace(loader.job, life="1234")
    loader.open().look_back(anew)


def test_what_bigquery_refuses_is_told_with_part_and_row(make: Make) -> None:
    loader = make()
    merge(loader, row(1, "a"))
    each = loader.plan(loader.part([row(2, "b") | {ORDER.name: 1}, {"id": "x", ORDER.name: 2}]), columns=None)
    with pytest.raises(WarehouseError, match="row 2: column id"):
        loader.warehouse.load(loader.job, each)
    assert table(loader) == {1: ("a", None)}
