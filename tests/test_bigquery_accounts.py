"""Jobs under accounts that may not see, or do, everything; and a BigQuery that has forgotten its jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

import etl
from etl import config
from etl.cli import main
from etl.errors import Fenced, TransformError, WarehouseError
from etl.stores.local import LocalStore
from etl.testing.fault_proxy import Answer, FaultProxy
from tests.google import LOCATION, PROJECT, TIMEOUT, GoogleServers
from tests.google_accounts import Account, Memory

# What README names.
README = ("roles/storage.objectUser", "roles/bigquery.dataEditor", "roles/bigquery.jobUser")
USER = (*README, "roles/bigquery.user")
VIEWER = (*README, "roles/bigquery.resourceViewer")

RECORDS = 20


def source(records: int = RECORDS) -> Callable[..., Iterator[Any]]:
    """Return the job's source, which has so many records by now."""

    def pull(cursor: int | None = None) -> Iterator[Any]:
        for number in range(cursor or 0, records):
            yield etl.Mark(number)
            yield {"number": number, "text": f"record {number}"}
        yield etl.Mark(max(cursor or 0, records))

    return pull


@dataclass
class Place:
    """A dataset, and a job whose checkpoint may be lost, under one account or another."""

    servers: GoogleServers
    directory: Path
    stack: ExitStack
    patch: pytest.MonkeyPatch
    bucket: str
    dataset: str
    memory: Memory = field(default_factory=Memory)
    checkpoint: str = "job"
    copy: bytes = b""

    @property
    def table(self) -> str:
        return f"{PROJECT}.{self.dataset}.numbers"

    def account(self, name: str, roles: tuple[str, ...] = README) -> Account:
        """Act as an account from now on."""
        made = self.stack.enter_context(Account(self.servers, self.memory, name, roles))
        self.use(made)
        return made

    def use(self, account: Account) -> None:
        for key, value in account.environment().items():
            self.patch.setenv(key, value)

    def pipeline(self, name: str = "job", **changes: Any) -> etl.Pipeline:
        warehouse = {"type": "bigquery", "table": self.table, "location": LOCATION, "deadline": 10.0}
        definition = {
            "source": source(),
            "sink": {"type": "reused_file", "path": str(self.directory / f"{name}-{self.checkpoint}.ndjson")},
            "checkpoint": str(self.directory / f"{name}-{self.checkpoint}.json"),
            "part_records": 10,
            **changes,
        }
        definition["warehouse"] = warehouse | changes.get("warehouse", {})
        return etl.Pipeline(name, **definition)

    def path(self) -> Path:
        return self.directory / f"job-{self.checkpoint}.json"

    def loaded(self) -> None:
        """Load a part, keep a copy of the checkpoint, and load the others."""
        self.pipeline(source=source(10)).run()
        self.copy = self.path().read_bytes()
        self.pipeline().run()

    def exists(self) -> bool:
        with self.client() as client:
            return any(table.table_id == "numbers" for table in client.list_tables(self.dataset))

    def verify(self, **changes: Any) -> tuple[int, str]:
        """Return the exit code of `etl verify`, and what it says."""
        found: list[Any] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                config, "read", lambda _: SimpleNamespace(pipeline=lambda: self.pipeline(**changes))
            )
            done = CliRunner().invoke(main, ["verify", "job.toml"])
        assert not done.exception or isinstance(done.exception, SystemExit), found
        return done.exit_code, done.output

    def lose_checkpoint(self) -> None:
        self.checkpoint += "-lost"

    def client(self) -> Any:
        return closing(self.servers.bigquery_client())

    def numbers(self) -> list[int]:
        with self.client() as client:
            return sorted(row["number"] for row in client.list_rows(self.table, timeout=TIMEOUT))

    def labels(self, labels: dict[str, str | None]) -> None:
        with self.client() as client:
            table = client.get_table(self.table)
            table.labels = {**table.labels, **labels}
            client.update_table(table, ["labels"])

    def strip(self) -> None:
        """Take the marks off the table, as if an older version had loaded it."""
        with self.client() as client:
            found = client.get_table(self.table).labels
        self.labels(dict.fromkeys(found))

    def take_off(self) -> None:
        """Take the job's own mark off, as a person does who sees a label that says nothing to them."""
        with self.client() as client:
            found = client.get_table(self.table).labels
        assert "etl_marked" in found
        self.labels(dict.fromkeys(found.keys() - {"etl_marked"}))

    def drop(self) -> None:
        with self.client() as client:
            client.delete_table(self.table)

    def make(self, rows: int = 0) -> None:
        """Make a table with the columns of the job, and some rows of somebody else's."""
        with self.client() as client:
            client.query_and_wait(f"CREATE TABLE `{self.table}` (number INT64, text STRING)")
            if rows:
                values = ", ".join(f"({-number}, 'x')" for number in range(1, rows + 1))
                client.query_and_wait(f"INSERT INTO `{self.table}` VALUES {values}")


@pytest.fixture
def place(google_servers: GoogleServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(
            google_servers,
            tmp_path,
            stack,
            monkeypatch,
            google_servers.new_bucket(),
            google_servers.new_dataset(),
        )


ALL = list(range(RECORDS))


def lose_checkpoint(place: Place) -> None:
    place.lose_checkpoint()


def put_checkpoint_back(place: Place) -> None:
    place.path().write_bytes(place.copy)


def lose_table(place: Place) -> None:
    place.drop()


def lose_rows(place: Place) -> None:
    with place.client() as client:
        client.query_and_wait(f"TRUNCATE TABLE `{place.table}`")


def make_another_table(place: Place) -> None:
    place.drop()
    place.make(rows=5)


def lose_mark(place: Place) -> None:
    place.strip()


def lose_own_mark(place: Place) -> None:
    place.take_off()


def lose_jobs(place: Place) -> None:
    place.memory.forgotten = True


def lose_sight(place: Place) -> None:
    place.account("b")


def see_all(place: Place) -> None:
    place.account("c", VIEWER)


# Refusals, by what they say.
TWICE, GONE, UNMARKED, OLDER = (
    "loaded twice",
    "is gone, into which",
    "bears no mark of that",
    "older copy of it",
)
COMING = "may still be under way"
ON, AGAIN = "goes on", "loads all again"

# What is lost, what a run does then, and with what `etl verify` exits.
CELLS: list[tuple[tuple[Callable[[Place], None], ...], str, int]] = [
    ((), ON, 0),
    ((lose_checkpoint,), TWICE, 1),
    ((put_checkpoint_back,), OLDER, 1),
    ((lose_table,), GONE, 1),
    ((lose_rows,), ON, 1),
    ((make_another_table,), UNMARKED, 1),
    ((lose_mark,), ON, 0),
    ((lose_jobs,), ON, 3),
    ((lose_sight,), ON, 3),
    ((lose_checkpoint, lose_table), AGAIN, 0),
    ((lose_checkpoint, lose_rows), COMING, 1),
    ((lose_checkpoint, make_another_table), UNMARKED, 1),
    ((lose_checkpoint, lose_mark), TWICE, 1),
    ((lose_checkpoint, lose_jobs), TWICE, 1),
    ((lose_checkpoint, lose_sight), TWICE, 1),
    ((put_checkpoint_back, lose_table), GONE, 1),
    ((put_checkpoint_back, lose_rows), OLDER, 1),
    ((put_checkpoint_back, make_another_table), UNMARKED, 1),
    ((put_checkpoint_back, lose_mark), OLDER, 1),
    ((put_checkpoint_back, lose_jobs), OLDER, 1),
    ((put_checkpoint_back, lose_sight), OLDER, 1),
    ((lose_table, lose_jobs), GONE, 1),
    ((lose_table, lose_sight), GONE, 1),
    ((lose_rows, lose_mark), ON, 1),
    ((lose_rows, lose_jobs), ON, 1),
    ((lose_rows, lose_sight), ON, 1),
    ((make_another_table, lose_jobs), UNMARKED, 1),
    ((make_another_table, lose_sight), UNMARKED, 1),
    ((lose_mark, lose_jobs), UNMARKED, 3),
    ((lose_mark, lose_sight), UNMARKED, 3),
    ((lose_jobs, lose_sight), ON, 3),
    ((lose_checkpoint, lose_mark, lose_sight), UNMARKED, 1),
    ((lose_checkpoint, lose_mark, lose_jobs), UNMARKED, 1),
    ((lose_own_mark,), UNMARKED, 0),
    ((lose_checkpoint, lose_own_mark), TWICE, 1),
    ((put_checkpoint_back, lose_own_mark), UNMARKED, 1),
    ((lose_checkpoint, lose_rows, lose_sight), COMING, 0),
    ((lose_checkpoint, lose_rows, see_all), AGAIN, 1),
    ((lose_checkpoint, make_another_table, see_all), AGAIN, 1),
]


def named(value: object) -> str:
    if isinstance(value, tuple):
        return "+".join(each.__name__ for each in value) or "nothing"
    return str(value)


@pytest.mark.slow
@pytest.mark.parametrize(("lost", "then", "verified"), CELLS, ids=named)
def test_whatever_is_lost_nothing_is_loaded_twice_and_no_more_is_said_than_was_compared(
    place: Place, lost: tuple[Callable[[Place], None], ...], then: str, verified: int
) -> None:
    place.account("a")
    place.loaded()
    for lose in lost:
        lose(place)
    before = place.numbers() if place.exists() else []
    assert place.verify()[0] == verified, place.verify()
    if then in (ON, AGAIN):
        place.pipeline().run()
        new = ALL if then == AGAIN else []
        assert place.numbers() == sorted([*before, *new])
        return
    for _ in range(2):
        with pytest.raises(WarehouseError, match=then):
            place.pipeline().run()
    assert (place.numbers() if place.exists() else []) == before


def test_a_person_may_say_that_the_table_is_right_once(place: Place) -> None:
    """Job User sees no jobs of others: whether the rows are the job's own, nobody can tell."""
    place.make(rows=5)
    place.account("a")
    with pytest.raises(WarehouseError, match=r"holds 5 rows, and it cannot be told.*hidden.*--adopt-table"):
        place.pipeline().run()
    stopped = place.pipeline(transforms=[failing])
    with pytest.raises(TransformError):
        stopped.run(adopt_table=True)
    place.pipeline().run()  # what was said once is noted
    assert place.numbers() == [*range(-5, 0), *ALL]


def failing(records: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for _ in records:
        raise ValueError("no")
        yield {}


def test_a_checkpoint_that_is_lost_may_be_made_again_by_hand(place: Place) -> None:
    place.account("a")
    place.pipeline(source=source(10)).run()
    place.lose_checkpoint()
    place.pipeline().run(start=etl.Mark(10), adopt_table=True)
    assert place.numbers() == ALL
    assert place.pipeline().run().records == 0


@pytest.mark.parametrize("roles", [USER, VIEWER], ids=["others redacted", "others shown"])
def test_an_account_that_sees_all_jobs_needs_not_be_told(place: Place, roles: tuple[str, ...]) -> None:
    place.account("a").grant("roles/bigquery.dataEditor")
    place.pipeline("other").run()
    place.strip()
    place.account("b", roles)
    if roles is VIEWER:
        place.pipeline().run()
        assert place.numbers() == sorted(ALL * 2)
        return
    with pytest.raises(WarehouseError, match="cannot be told"):  # and no TypeError: their times are text
        place.pipeline().run()


def test_a_process_that_finds_the_table_loaded_further_by_its_successor_is_fenced(place: Place) -> None:
    """It is told nothing of an older checkpoint, or of loading all of it again: the checkpoint is the successor's."""
    place.account("account")

    class Elsewhere(LocalStore):
        def hold(self, *, wait: bool) -> AbstractContextManager[None]:
            return nullcontext()

    class Late(Elsewhere):
        def swap(self, data: bytes, expected: str | None) -> str:
            done = super().swap(data, expected)
            place.pipeline(checkpoint=Elsewhere(place.path())).run()
            return done

    late = place.pipeline(
        checkpoint=Late(place.path()),
        sink={"type": "numbered_chunks", "path": str(place.directory / "late.ndjson")},
    )
    with pytest.raises(Fenced):
        late.run()
    assert place.numbers() == ALL


def test_several_jobs_that_load_into_one_table_have_a_mark_each(place: Place) -> None:
    place.account("a")
    for name in ("one", "other"):
        place.pipeline(name).run()
    place.account("b")
    place.lose_checkpoint()
    for name in ("one", "other"):
        with pytest.raises(WarehouseError, match=f"job '{name}' has loaded into"):
            place.pipeline(name).run()
    place.pipeline("third").run()
    assert place.numbers() == sorted(ALL * 3)


def test_a_refresh_of_one_job_stops_the_others_whose_rows_are_gone_with_it(place: Place) -> None:
    place.account("a")
    for name in ("one", "other"):
        place.pipeline(name).run()
    place.pipeline("one").run(full_refresh=True)
    assert place.numbers() == ALL
    said = "another job has refreshed .*--adopt-table"
    for lose in (lambda: None, place.lose_checkpoint):  # a load of it might have been under way
        lose()
        with pytest.raises(WarehouseError, match=said):
            place.pipeline("other").run()
    place.pipeline("other").run(adopt_table=True)
    assert place.numbers() == sorted(ALL * 2)


def test_a_table_that_has_no_room_for_a_label_is_told_before_anything_is_loaded(place: Place) -> None:
    place.account("a")
    place.make()
    place.labels({f"label{number}": "x" for number in range(64)})
    with pytest.raises(WarehouseError, match="has 64 labels, and BigQuery allows 64"):
        place.pipeline().run()
    assert place.numbers() == []


def test_a_load_of_another_account_whose_outcome_is_unknown_stops_the_run_with_right_advice(
    place: Place,
) -> None:
    with FaultProxy(place.servers.bigquery.url) as proxy:
        account = place.account("a")
        account.targets["bigquery"] = proxy.url
        # It was submitted, and nobody heard; the process goes no further.
        proxy.at(1, Answer(400, when="after"), of=lambda head: head.method == "PUT")
        with pytest.raises(WarehouseError):
            place.pipeline().run()
    successor = place.account("b")
    advice = (
        r"does not show job .* another account has submitted it.*Let that account run this, or give this one "
    )
    with pytest.raises(WarehouseError, match=advice + "bigquery.jobs.listAll and bigquery.jobs.get"):
        place.pipeline().run()
    successor.grant("roles/bigquery.resourceViewer")
    place.pipeline().run()
    assert place.numbers() == ALL


def test_a_plan_that_was_about_to_be_loaded_long_ago_is_not_loaded_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its job is forgotten, so that its id is free again."""
    place.account("a")
    place.pipeline(source=source(10)).run()
    copy = place.path().read_bytes()
    with FaultProxy(place.servers.bigquery.url) as proxy:
        account = place.account("a")
        account.targets["bigquery"] = proxy.url
        proxy.at(1, Answer(400), of=lambda head: head.method == "GET" and "/jobs/" in head.path)
        with pytest.raises(WarehouseError):
            place.pipeline().run()
    assert place.path().read_bytes() != copy
    place.account("a")
    waiting = place.path().read_bytes()
    place.pipeline().run()
    place.path().write_bytes(waiting)
    place.memory.forgotten = True
    monkeypatch.setattr("etl.warehouses.bigquery.guard.REMEMBERED", timedelta(0))
    for retry in (False, True):
        with pytest.raises(WarehouseError, match="BigQuery has forgotten by now whether it was"):
            place.pipeline().run(retry_failed=retry)
    assert place.numbers() == ALL
