"""Runs that ask for the rows since a time: new rows and changed rows once each, whatever happens in between."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paged_api import STYLES, Api, rows_of
from pulling import assert_resumes_everywhere, last_cursor, taken, values

from etl.errors import SourceError
from etl.records import Mark, Unreadable
from etl.sources import Pages
from etl.sources.paging.since import MOST_REMEMBERED, Times
from tests.web import Answer, Request

START = datetime(2024, 1, 1, tzinfo=UTC)


def source(api: Api, path: str = "offset", updated_at: Any = (), **changes: Any) -> Pages:
    since = {"field": "updated_at", "param": "since", **dict(updated_at)}
    return Pages(
        f"{api.url}/{path}",
        **{"page_size": 10, "deadline": 30, "key": "id", "updated_at": since, **STYLES[path], **changes},
    )


def at(minute: float) -> str:
    return (START + timedelta(minutes=minute)).isoformat().replace("+00:00", "Z")


def asked(api: Api) -> list[str | None]:
    return [request.query.get("since") for request in api.requests]


@pytest.mark.parametrize("path", ["offset", "page", "cursor", "link"])
def test_a_later_run_takes_new_and_changed_rows_alone(path: str) -> None:
    with Api(rows_of(25)) as api:
        pages = source(api, path)
        assert taken(pages) == rows_of(25)
        cursor = last_cursor(pages)
        assert taken(pages, cursor) == []
        changed = {**api.rows[3], "updated_at": at(30)}
        api.rows[3] = changed
        api.rows += rows_of(15, 40)
        assert taken(pages, cursor) == [changed, *rows_of(15, 40)]
        cursor = last_cursor(pages, cursor)
        assert taken(pages, cursor) == []


@pytest.mark.parametrize("look_back", [0, 600])
@pytest.mark.parametrize("path", ["offset", "page", "cursor", "link"])
def test_a_pull_goes_on_from_every_mark_of_a_first_and_a_later_run(path: str, look_back: float) -> None:
    with Api(rows_of(25)) as api:
        pages = source(api, path, {"look_back": look_back})
        assert_resumes_everywhere(pages)
        cursor = last_cursor(pages)
        api.rows += rows_of(25, 25)
        items = list(pages.pull(cursor))
        assert values(items) == rows_of(25, 25)
        for index, item in enumerate(items):
            if isinstance(item, Mark):
                assert taken(pages, json.loads(json.dumps(item.cursor))) == values(items[index:])


def test_the_bound_stays_the_same_during_a_run_and_when_it_goes_on() -> None:
    with Api(rows_of(25)) as api:
        pages = source(api)
        cursor = last_cursor(pages)
        api.rows += rows_of(25, 25)
        items = list(pages.pull(cursor))
        marks = [item.cursor for item in items if isinstance(item, Mark)]
        taken(pages, marks[12])
        assert set(asked(api)) == {None, at(24)}


def test_start_is_the_bound_of_the_first_run() -> None:
    with Api(rows_of(25)) as api:
        assert taken(source(api, updated_at={"start": at(20)})) == rows_of(5, 20)
        assert set(asked(api)) == {at(20)}


def test_rows_that_come_late_are_taken_within_the_look_back_and_no_row_twice() -> None:
    with Api(rows_of(25)) as api:
        pages = source(api, updated_at={"look_back": 300})
        cursor = last_cursor(pages)
        late, too_late = {"id": 90, "updated_at": at(19.5)}, {"id": 91, "updated_at": at(18.5)}
        api.rows += [late, too_late]
        assert taken(pages, cursor) == [late]
        assert asked(api)[-1] == at(19)


def test_what_the_api_gives_from_before_the_bound_is_dropped() -> None:
    with Api(rows_of(25)) as api:
        pages = source(api, updated_at={"format": "date"})
        cursor = last_cursor(pages)
        api.rows += rows_of(1, 25)
        assert taken(pages, cursor) == rows_of(1, 25)
        assert asked(api)[-1] == "2024-01-01"


def test_a_row_that_changes_behind_a_run_is_in_the_next_one_though_later_rows_were_seen() -> None:
    with Api(rows_of(25)) as api:
        pages = source(api)
        changed = {**api.rows[0], "updated_at": at(40)}

        def change(request: Request) -> None:
            if request.number == 1:  # the first page was read, the last one was not
                api.rows[0] = changed
                api.rows[-1] = {**api.rows[-1], "updated_at": at(50)}

        api.before = change
        api.faults = lambda request: with_date(api.serve(request), START + timedelta(minutes=30))
        assert taken(pages)[-1] == api.rows[-1]
        api.rows[:] = rows_of(25)
        api.server.requests.clear()
        cursor = last_cursor(pages)
        assert taken(pages, cursor) == [changed]
        assert asked(api)[-1] == at(30)


def with_date(answer: Answer, when: datetime) -> Answer:
    return replace(answer, headers={**answer.headers, "Date": format_datetime(when, usegmt=True)})


def test_too_many_rows_within_the_look_back_are_a_named_error() -> None:
    with Api([{"id": n, "updated_at": at(0)} for n in range(MOST_REMEMBERED + 1)]) as api:
        pages = source(api, page_size=1000)
        with pytest.raises(
            SourceError, match=r'more than 4096 rows lie.*look_back.*repeat.*disposition = "merge"'
        ):
            taken(pages)
        api.rows.pop()
        cursor = last_cursor(pages)
        assert taken(pages, cursor) == []
        assert len(json.dumps(cursor)) < 100_000


def test_many_rows_at_one_time_are_no_error_if_later_ones_follow() -> None:
    with Api([*({"id": n, "updated_at": at(0)} for n in range(5000)), *rows_of(10, 5000)]) as api:
        pages = source(api, page_size=1000)
        assert len(taken(pages)) == 5010
        assert taken(pages, last_cursor(pages)) == []


def test_repeat_lets_the_rows_within_the_look_back_come_again() -> None:
    with Api(rows_of(25)) as api:
        pages = source(api, updated_at={"repeat": True, "look_back": 180}, key=None)
        assert taken(pages, last_cursor(pages)) == rows_of(4, 21)
        assert_resumes_everywhere_but_the_end(pages)


def assert_resumes_everywhere_but_the_end(pages: Pages) -> None:
    items = list(pages.pull(None))
    for index, item in enumerate(items[:-1]):
        if isinstance(item, Mark):
            assert taken(pages, item.cursor) == values(items[index:])


def test_without_a_key_only_rows_that_are_later_are_taken() -> None:
    with Api(rows_of(25)) as api:
        pages = source(api, key=None)
        cursor = last_cursor(pages)
        assert taken(pages, cursor) == []
        api.rows += [{"id": 90, "updated_at": at(24)}, {"id": 91, "updated_at": at(24.1)}]
        assert [row["id"] for row in taken(pages, cursor)] == [91]


@pytest.mark.parametrize("value", [None, "soon", 5, "2024-13-01"])
def test_a_row_without_a_time_is_unreadable_with_the_reason(value: Any) -> None:
    with Api(rows_of(5)) as api:
        api.rows[2]["updated_at"] = value
        found = [item for item in source(api).pull(None) if isinstance(item, Unreadable)]
        assert [item.reason.partition("row 3: ")[2][:40] for item in found] == [
            "its 'updated_at' is no time as ISO 8601 "
        ]


def test_more_rows_on_a_page_than_can_be_compared_are_a_named_error() -> None:
    with Api(rows_of(1001), most=5000) as api:
        with pytest.raises(ValueError, match="page_size: with updated_at and a key, 1000 at most"):
            source(api, page_size=1001)
        with pytest.raises(SourceError, match=r"it has 1001 rows; .* lower page_size"):
            taken(source(api, page_size=None, params={"limit": 1001}))


@pytest.mark.parametrize(
    ("format", "written", "back", "expected"),
    [
        ("iso", "2024-03-01T00:00:30Z", 60, "2024-02-29T23:59:30Z"),
        ("iso", "2024-03-01T00:00:30.120Z", 60, "2024-02-29T23:59:30.120Z"),
        ("iso", "2024-03-01 00:00:30.123456", 60, "2024-02-29 23:59:30.123456"),
        ("iso", "2024-03-01T00:00:30+05:30", 60, "2024-02-29T23:59:30+05:30"),
        ("iso", "2024-03-01", 60, "2024-02-29"),
        ("date", "2024-03-01T00:00:30.123456", 60, "2024-02-29"),
        ("seconds", 1709251230, 60, "1709251170"),
        ("milliseconds", 1709251230500, 60.25, "1709251170250"),
    ],
)
def test_the_bound_is_written_as_the_api_writes_it(
    format: str, written: Any, back: float, expected: str
) -> None:
    times = Times.of({"field": "f", "param": "p", "format": format})
    assert times is not None
    assert times.write(times.read(written) - round(back * 10**6), written) == expected


class World:
    """Rows that are put in and changed between requests, by a clock that the server tells.

    Args:
        api: serves them, in the order of their ids.
        chance: decides.
    """

    def __init__(self, api: Api, chance: random.Random) -> None:
        self.api = api
        self.chance = chance
        self.minute = 1
        self.quiet = False
        self.versions: set[tuple[int, str]] = set()
        api.before = lambda _request: None if self.quiet else self.turn()
        api.faults = lambda request: with_date(api.serve(request), START + timedelta(minutes=self.minute))

    def turn(self) -> None:
        for _ in range(self.chance.randrange(2)):
            self.minute += 1
            rows = self.api.rows
            if not rows or self.chance.random() < 0.6:
                rows.append({"id": len(rows)})
            row = rows[-1] if "updated_at" not in rows[-1] else self.chance.choice(rows)
            rows[rows.index(row)] = {**row, "updated_at": at(self.minute)}
            self.versions.add((row["id"], at(self.minute)))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["offset", "page", "cursor"]), st.sampled_from([0, 120]))
def test_whatever_changes_between_requests_the_last_version_of_each_row_is_taken_and_none_twice(
    seed: int, path: str, look_back: float
) -> None:
    chance = random.Random(seed)
    with Api([], most=7) as api:
        world = World(api, chance)
        pages = source(api, path, {"look_back": look_back}, page_size=7)
        found: list[tuple[int, str]] = []
        cursor = None
        for run in range(10):
            world.quiet = run > 7
            stop = chance.randrange(40) if not world.quiet else 10**9
            for item in pages.pull(cursor):
                if isinstance(item, Mark):
                    cursor = json.loads(json.dumps(item.cursor))
                    if stop <= 0:
                        break
                else:
                    found.append((item["id"], item["updated_at"]))
                    stop -= 1
        assert len(found) == len(set(found))
        assert set(found) <= world.versions
        assert {(row["id"], row["updated_at"]) for row in api.rows} <= set(found)
