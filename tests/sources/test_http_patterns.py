"""Which URLs a pattern stands for, and what a later run takes of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from http_sources import source
from hypothesis import given
from hypothesis import strategies as st
from pulling import ndjson, pull, small_blocks, taken

from etl import registry
from etl.errors import ConfigError, SourceChanged, SourceMissing, SourceRefused
from etl.records import Mark
from etl.sources import Http
from etl.sources.url_patterns import Patterns
from etl.sources.urls import without_credentials
from tests.web import Answer, Request, WebServer

NOW = datetime(2024, 3, 2, 5, 30, tzinfo=UTC)


def expanded(*patterns: str, start: Any = None, end: Any = None, now: datetime = NOW) -> list[str]:
    """Return the URLs without what all have in common."""
    return [named.url.removeprefix("http://a/") for named in Patterns(patterns, start, end).expand(now)]


@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        ("{1..3}", ["1", "2", "3"]),
        ("{08..11}", ["08", "09", "10", "11"]),
        ("{8..011}", ["008", "009", "010", "011"]),
        ("{0..23}", [str(number) for number in range(24)]),
        ("{3..1}", ["3", "2", "1"]),
        ("{0..10..5}", ["0", "5", "10"]),
        ("{10..1..4}", ["10", "6", "2"]),
        ("{5..5}", ["5"]),
        ("{1..2}-{01..2}.gz", ["1-01.gz", "1-02.gz", "2-01.gz", "2-02.gz"]),
        ("plain?a=%7B1..3%7D", ["plain?a=%7B1..3%7D"]),
    ],
)
def test_ranges_are_bashs(pattern: str, texts: list[str]) -> None:
    assert expanded(f"http://a/{pattern}") == texts


def test_the_hours_of_gh_archive() -> None:
    urls = expanded("http://a/2024-01-{01..31}-{0..23}.json.gz")
    assert len(urls) == 31 * 24
    assert urls[0] == "2024-01-01-0.json.gz"
    assert urls[9:11] == ["2024-01-01-9.json.gz", "2024-01-01-10.json.gz"]
    assert urls[-1] == "2024-01-31-23.json.gz"


def test_a_million_urls_are_no_list() -> None:
    named = Patterns(["http://a/{1..1000000}/{1..1000000}"], None, None).expand(NOW)
    assert [one.url for one in itertools.islice(named, 2)] == ["http://a/1/1", "http://a/1/2"]
    assert Patterns(["http://a/{1..1000000}/{1..1000000}"], None, None).count(NOW) == 10**12


@pytest.mark.parametrize(
    ("pattern", "start", "end", "texts"),
    [
        ("{date}", "2024-02-28", None, ["2024-02-28", "2024-02-29", "2024-03-01"]),
        ("{date}", date(2024, 2, 28), date(2024, 2, 29), ["2024-02-28", "2024-02-29"]),
        ("{date:%Y/%m/%d}", "2024-03-01", None, ["2024/03/01"]),
        ("{date:%Y-%m}", "2024-01-15", None, ["2024-01", "2024-02"]),
        ("{date:%Y-%m}", "2024-01-15", "2024-01-20", ["2024-01"]),
        ("{date:%Y}", "2022-06-01", None, ["2022", "2023"]),
        ("{date:%Y}/{date:%Y-%m}", "2023-12-31", None, ["2023/2023-12", "2024/2024-01", "2024/2024-02"]),
        ("{date}-{hour}", "2024-03-02", None, [f"2024-03-02-{hour}" for hour in range(5)]),
        ("{date}-{hour:02}", "2024-03-02T03", None, ["2024-03-02-03", "2024-03-02-04"]),
        ("{date}-{hour}", "2024-03-01T23", "2024-03-02", ["2024-03-01-23", *(f"2024-03-02-{h}" for h in range(5))]),
        ("{date}-{hour}", "2024-03-01T22:30", "2024-03-01T23", ["2024-03-01-22", "2024-03-01-23"]),
        ("{date}-{hour}", "2024-03-01T22:30", "2024-03-01T22:40", ["2024-03-01-22"]),
        ("{date}", "2024-03-02", None, []),  # the day is not over
        ("{date}", "2025-01-01", None, []),
        ("{1..2}/{date}", "2024-02-29", None, ["1/2024-02-29", "2/2024-02-29", "1/2024-03-01", "2/2024-03-01"]),
    ],
)  # fmt: skip
def test_dates_and_hours_go_up_to_what_is_over(pattern: str, start: Any, end: Any, texts: list[str]) -> None:
    assert expanded(f"http://a/{pattern}", start=start, end=end) == texts


def test_a_moment_with_a_time_zone_is_made_utc() -> None:
    start = datetime(2024, 3, 2, 3, tzinfo=timezone(timedelta(hours=2)))
    assert expanded("http://a/{date}-{hour}", start=start, end="2024-03-02T02:00+00:00") == [
        "2024-03-02-1",
        "2024-03-02-2",
    ]


def test_patterns_with_a_date_take_turns_and_plain_urls_go_first() -> None:
    urls = expanded("http://a/x", "http://a/{date}", "http://a/{date}-{hour:02}", start="2024-03-01T22")
    assert urls == [
        "x",
        "2024-03-01-22",
        "2024-03-01",
        "2024-03-01-23",
        *(f"2024-03-02-{hour:02}" for hour in range(5)),
    ]


@given(
    st.sampled_from(
        ["{date}", "{date:%Y-%m}", "{date}-{hour}", "{1..2}/{date}", "{date:%G-%V}", "{date:%Y}"]
    ),
    st.integers(0, 900),
    st.integers(0, 900),
)
def test_what_a_later_run_adds_comes_last(pattern: str, hours: int, later: int) -> None:
    patterns = Patterns([f"http://a/{pattern}"], "2024-12-20", None)
    begin = datetime(2024, 12, 20, tzinfo=UTC)
    before = list(patterns.expand(begin + timedelta(hours=hours)))
    after = list(patterns.expand(begin + timedelta(hours=hours + later)))
    assert after[: len(before)] == before
    assert len(set(after)) == len(after)
    assert patterns.count(begin + timedelta(hours=hours + later)) == len(after)


@pytest.mark.parametrize(
    ("patterns", "arguments", "why"),
    [
        ([], {}, "at least one URL"),
        (["ftp://a/x"], {}, "no URL that begins with http"),
        (["x.ndjson"], {}, "no URL that begins with http"),
        (["http:///x"], {}, "no URL that begins"),
        (["http://a:b/x"], {}, "no host, or a port"),
        (["http://a/b c"], {}, "write it as %20"),
        (["http://a/{x}"], {}, r"\{x\} in 'http://a/\{x\}' is none of"),
        (["http://a/{1..}"], {}, "is none of"),
        (["http://a/{1..3"], {}, "a brace without its other one"),
        (["http://a/{1..3..0}"], {}, "steps of 0"),
        (["http://a/{1..20}{1..20}"], {}, "may give the same URL"),
        (["http://a/{date}/{hour}{1..20}"], {"start": "2024-01-01"}, "may give the same URL"),
        (["http://a/{date}"], {}, "start: missing"),
        (["http://a/x"], {"start": "2024-01-01"}, "none has one"),
        (["http://a/{date}"], {"start": "yesterday"}, "start: 'yesterday' is no date"),
        (["http://a/{date}"], {"start": 2024}, "is no date"),
        (["http://a/{date}"], {"start": "2024-01-02", "end": "2024-01-01"}, "lies before"),
        (["http://a/{hour}"], {"start": "2024-01-01"}, "let it hold the whole date"),
        (["http://a/{date:%m-%d}"], {"start": "2024-01-01"}, "let it hold the whole date"),
        (["http://a/{date:%Y-%d}"], {"start": "2024-01-01"}, "let it hold the whole date"),
        (["http://a/{date:%Y-%m}-{hour}"], {"start": "2024-01-01"}, "let it hold the whole date"),
        (["http://a/{date:daily}"], {"start": "2024-01-01"}, "is no date format"),
        (["http://a/{date}-{hour:%H}"], {"start": "2024-01-01"}, r"say \{hour\} or \{hour:02\}"),
        (["http://a/{date}", "http://a/x"], {"start": "2024-01-01"}, "go last"),
        ("http://a/x", {"on_missing": "ignore"}, "is none of: fail, skip, wait"),
        ("http://a/x", {"missing_statuses": [200]}, "no HTTP status from 400 to 499"),
        ("http://a/x", {"checksum": "md5"}, "is none of"),
        ("http://a/x", {"requests_per_second": 0.0}, "not greater than 0"),
        ("http://a/x", {"least_speed": -1.0}, "less than 0"),
        ("http://a/x", {"read_timeout": 0.0}, "not greater than 0"),
        ("http://a/x", {"deadline": 0.0}, "greater than 0"),
    ],
)
def test_wrong_arguments_are_refused(patterns: Any, arguments: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Http(patterns, **arguments)


def test_a_secret_in_a_url_is_in_no_message_about_it() -> None:
    with pytest.raises(ValueError, match="is none of") as caught:
        Http("http://me:pass@a/{x}?token=abc&x=1")
    assert "http://a/{x}?token=***&x=1" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@a:1/b?c=d", "https://a:1/b?c=d"),
        ("https://a/b@c", "https://a/b@c"),
        ("https://a/?api_key=1&API-KEY=2&apikey=3&key=4&x=5", "https://a/?api_key=***&API-KEY=***&apikey=***&key=***&x=5"),
        ("https://a/?accessToken=1&$$app_token=2&%24%24app_token=3", "https://a/?accessToken=***&$$app_token=***&%24%24app_token=***"),
        ("https://a/?sig=1&sv=2&se=3", "https://a/?sig=***&sv=2&se=3"),
        ("https://a/?X-Amz-Credential=1&X-Amz-Date=2&X-Amz-Security-Token=3", "https://a/?X-Amz-Credential=***&X-Amz-Date=***&X-Amz-Security-Token=***"),
        ("https://a/?keyword=1&monkey=2&author=3&design=4&token=", "https://a/?keyword=1&monkey=2&author=3&design=4&token="),
        ("https://a/?token=1#x", "https://a/?token=***#x"),
    ],
)  # fmt: skip
def test_credentials_are_not_shown(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


def hours(there: Callable[[str], bool]) -> WebServer:
    """Serve a record of the path, where there is one."""

    def answer(request: Request) -> Answer:
        if not there(request.path):
            return Answer(status=404 if request.number % 2 else 410)
        return Answer(body=ndjson([{"path": request.path}]))

    return WebServer(answer)


def last_mark(items: list[Any], cursor: Any = None) -> Any:
    return next((item.cursor for item in reversed(items) if isinstance(item, Mark)), cursor)


def test_a_missing_url_stops_the_run_with_a_named_error() -> None:
    with (
        hours(lambda path: path != "/2") as server,
        pytest.raises(SourceMissing, match="/2: the server said 4"),
    ):
        taken(source(server.url + "/{1..3}"))


def test_a_missing_url_is_left_out_for_good_when_it_is_to_be_skipped() -> None:
    with hours(lambda path: path not in ("/1", "/4")) as server:
        made = source(server.url + "/{1..4}", on_missing="skip")
        items = pull(made)
        assert [item["path"] for item in items if not isinstance(item, Mark)] == ["/2", "/3"]
        server.requests.clear()
        assert taken(made, last_mark(items)) == []
        assert server.requests == []


def test_a_missing_url_is_waited_for_by_the_next_run() -> None:
    published = {"/1", "/2"}
    with hours(lambda path: path in published) as server:
        made = source(server.url + "/{1..4}", on_missing="wait")
        items = pull(made)
        assert [item["path"] for item in items if not isinstance(item, Mark)] == ["/1", "/2"]
        cursor = last_mark(items)
        assert taken(made, cursor) == []
        published.add("/3")
        items = pull(made, cursor)
        assert [item["path"] for item in items if not isinstance(item, Mark)] == ["/3"]
        assert [request.path for request in server.requests][-2:] == ["/3", "/4"]


def test_a_server_may_say_of_what_is_missing_that_it_is_forbidden() -> None:
    said = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    forbidden = Answer(status=403, headers={"Content-Type": "application/xml"}, body=said)
    with WebServer(lambda _: forbidden) as server:
        with pytest.raises(SourceRefused, match=r"said 403 \(AccessDenied Access Denied\)"):
            taken(source(server.url, on_missing="skip"))
        assert taken(source(server.url, on_missing="skip", missing_statuses=[403, 404, 410])) == []


def test_a_later_run_takes_the_hours_that_came() -> None:
    with hours(lambda _: True) as server:
        made = source(server.url + "/{date}-{hour}", start="2024-03-02T03")
        made._now = lambda: NOW
        items = pull(made)
        assert [item["path"] for item in items if not isinstance(item, Mark)] == [
            "/2024-03-02-3",
            "/2024-03-02-4",
        ]
        cursor = last_mark(items)
        assert taken(made, cursor) == []
        made._now = lambda: NOW + timedelta(hours=2)
        assert [item["path"] for item in taken(made, cursor)] == ["/2024-03-02-5", "/2024-03-02-6"]


@pytest.mark.parametrize("taken_before", [1, 2, 3, 4])
def test_a_clock_that_is_behind_that_of_the_run_before_goes_on_and_takes_nothing_early(
    taken_before: int,
) -> None:
    with WebServer(lambda request: Answer(body=ndjson([{"path": request.path}] * 2))) as server:
        made = small_blocks(source(server.url + "/{date}-{hour}", start="2024-03-02T03"), 10)
        made._now = lambda: NOW
        items = pull(made)
        marks = [
            n for n, item in enumerate(items) if isinstance(item, Mark) and item.cursor["file"][-1] == "4"
        ]
        made._now = lambda: NOW - timedelta(minutes=NOW.minute, seconds=1)
        at = marks[taken_before - 1]
        rest = [item for item in items[at:] if not isinstance(item, Mark)]
        assert taken(made, items[at].cursor) == rest
        made._now = lambda: NOW - timedelta(days=2)
        with pytest.raises(SourceChanged, match=r"it is 2024-02-29 .* UTC here"):
            taken(made, items[at].cursor)


def test_urls_of_several_entries_are_told_apart() -> None:
    with hours(lambda _: True) as server:
        made = source([server.url + "/1", server.url + "/2", server.url + "/1"])
        items = pull(made)
        for index, item in enumerate(items):
            if isinstance(item, Mark):
                assert taken(made, item.cursor) == [i for i in items[index:] if not isinstance(i, Mark)]


def test_types_of_columns_are_kept_from_one_url_to_the_next() -> None:
    def answer(request: Request) -> Answer:
        return Answer(body=b"a\n1\n2\n" if request.path == "/1" else b"a\nx\n")

    with WebServer(answer) as server:
        made = source(server.url + "/{1..2}", format="csv")
        items = pull(made)
        assert [record["a"] for record in items if isinstance(record, dict)] == [1, 2]
        (done,) = [
            i
            for i in items
            if isinstance(i, Mark) and i.cursor.get("done") and i.cursor["file"].endswith("1")
        ]
        assert taken(made, done.cursor) == taken(made)[2:]


def test_a_job_file_says_all_of_it() -> None:
    table = {
        "type": "http",
        "urls": ["https://data.gharchive.org/{date}-{hour}.json.gz"],
        "start": date(2024, 1, 1),
        "end": "2024-01-31",
        "format": "ndjson",
        "on_missing": "wait",
        "checksum": "none",
        "headers": {"X-App-Token": "abc"},
        "requests_per_second": 2,
        "deadline": 60,
        "read_timeout": 10,
        "least_speed": 100,
    }
    assert isinstance(registry.build("sources", table, "source"), Http)
    with pytest.raises(ConfigError, match="source: start: 5 is no date"):
        registry.build("sources", {**table, "start": 5}, "source")
    with pytest.raises(ConfigError, match=r'source\.on_missing: expected one of "fail", "skip", "wait"'):
        registry.build("sources", {**table, "on_missing": "never"}, "source")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("http://a/{01..03}", "http://a/{01..12}"),
        (["http://a/1"], ["http://a/1", "http://a/2"]),
        ("http://a/{1..2}/{1..3}", "http://a/{1..4}/{1..3}"),
    ],
)
def test_urls_that_come_last_may_be_added(before: Any, after: Any) -> None:
    assert Http(before).fingerprint() == Http(after).fingerprint()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("http://a/{01..03}", "http://a/{00..03}"),
        ("http://a/{1..2}/{1..3}", "http://a/{1..2}/{1..4}"),
        (["http://a/{1..2}", "http://b/1"], ["http://a/{1..3}", "http://b/1"]),
        ("http://a/{date}/{1..2}", "http://a/{date}/{1..3}"),
    ],
)
def test_urls_that_come_in_between_make_another_source(before: Any, after: Any) -> None:
    start = "2024-01-01" if "date" in str(before) else None
    assert Http(before, start=start).fingerprint() != Http(after, start=start).fingerprint()


def test_the_fingerprint_is_that_of_the_urls_not_of_how_they_are_fetched() -> None:
    one = Http("http://a/{date}?token=1", start="2024-01-01", headers={"X-A": "a"}).fingerprint()
    assert one == Http("http://a/{date}?token=2", start="2024-02-01", on_missing="skip").fingerprint()
    assert one != Http("http://a/{date}.gz?token=1", start="2024-01-01").fingerprint()
    assert one != Http("http://a/{date}?token=1", start="2024-01-01", format="csv").fingerprint()
