"""Files at other places follow the rules of local ones; each place is a real server, memory:// excepted."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from place_servers import PASSWORD, SERVERS, Gs, Memory, Place
from pulling import assert_resumes_everywhere, compress, last_cursor, ndjson, pull, small_blocks, taken

from etl.errors import SourceChanged, SourceError
from etl.records import Mark
from etl.sources import Files
from etl.sources.remote import file as remote_file


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with SERVERS[request.param](tmp_path_factory.mktemp(request.param)) as place:
        yield place


@pytest.fixture
def place(server: Place) -> Place:
    server.fresh()
    return server


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read a file in many ranges, as if it were a large one."""
    monkeypatch.setattr(remote_file, "FIRST_BYTES", 100)
    monkeypatch.setattr(remote_file, "MOST_BYTES", 400)


RECORDS = [{"n": number, "text": f"é {number}" * 3} for number in range(60)]


def numbers(source: Files, cursor: Any = None) -> list[int]:
    return [record["n"] for record in taken(source, cursor)]


def of(*values: int) -> bytes:
    return ndjson([{"n": value} for value in values])


def parquet(records: list[dict[str, Any]], group: int = 20) -> bytes:
    packed = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), packed, row_group_size=group)
    return packed.getvalue()


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd", "zip"])
def test_text_is_read_and_resumed_at_every_mark(place: Place, small_ranges: None, compression: str) -> None:
    place.put("a.ndjson", compress(ndjson(RECORDS), compression, "a.ndjson"))
    source = small_blocks(place.files("a.ndjson"), 700)
    assert taken(source) == RECORDS
    assert_resumes_everywhere(source)


def test_csv_is_read_and_resumed_at_every_mark(place: Place, small_ranges: None) -> None:
    place.put("a.csv", b"n,word\n" + b"".join(b"%d,w%d\n" % (n, n) for n in range(200)))
    source = small_blocks(place.files("a.csv"), 500)
    assert len(taken(source)) == 200
    assert_resumes_everywhere(source)


def test_parquet_is_read_and_resumed_at_every_mark(place: Place, small_ranges: None) -> None:
    place.put("a.parquet", parquet(RECORDS))
    source = place.files("a.parquet")
    assert taken(source) == RECORDS
    assert_resumes_everywhere(source)


def test_a_file_of_many_ranges_is_read_whole(place: Place) -> None:
    records = [{"n": number, "text": "x" * 90} for number in range(10_000)]
    place.put("a.ndjson", ndjson(records))
    source = place.files("a.ndjson")
    assert taken(source) == records
    assert source.progress() == 1.0


def test_a_directory_and_globs_give_their_files_by_name(place: Place) -> None:
    place.put("b.ndjson", of(2))
    place.put("a.ndjson", of(1))
    place.put(".hidden.ndjson", of(0))
    place.put("deep/er/c.ndjson", of(3))
    place.put("deep/.secret/d.ndjson", of(0))
    place.put("_SUCCESS", b"")
    place.put("_committed_1", of(0))
    place.put("deep/_temporary/e.ndjson", of(0))
    place.put("_year=1/f.ndjson", of(9))
    assert numbers(place.files("")) == [1, 2]
    assert numbers(Files(place.root, storage=place.storage)) == [1, 2]
    assert numbers(place.files("*.ndjson")) == [1, 2]
    assert numbers(place.files("**/*.ndjson")) == [9, 1, 2, 3]
    assert numbers(place.files("_*/*.ndjson")) == [9]
    assert numbers(place.files("deep/_temporary")) == [0]
    assert numbers(place.files("_committed_*")) == [0]
    assert numbers(place.files("d*/*/[a-d].ndjson")) == [3]
    assert numbers(place.files("b.ndjson", "*.ndjson")) == [2, 1]


def test_names_may_hold_what_means_something_in_uris(place: Place) -> None:
    for number, name in enumerate(["a b#1.ndjson", "a%20b.ndjson", "a[1].ndjson", "ü+&.ndjson"]):
        place.put(name, of(number))
        assert numbers(place.files(name)) == [number]
    assert sorted(numbers(place.files("*"))) == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["missing.csv", "*.csv", "no/such/**/*.csv"])
def test_a_path_that_names_nothing_is_an_error_that_says_so(place: Place, name: str) -> None:
    place.put("a.ndjson", of(1))
    with pytest.raises(SourceError, match=r"no file.*csv.*correct the (path|pattern)"):
        pull(place.files(name))


def test_a_later_run_takes_the_files_that_came_after(place: Place) -> None:
    place.put("1.ndjson", of(1))
    source = place.files("")
    cursor = last_cursor(source)
    assert numbers(source, cursor) == []
    place.put("2.ndjson", of(2))
    assert numbers(source, cursor) == [2]


def test_files_that_were_read_may_be_deleted(place: Place) -> None:
    place.put("1.ndjson", of(1))
    place.put("2.ndjson", of(2))
    source = place.files("")
    cursor = last_cursor(source)
    place.remove("1.ndjson")
    place.remove("2.ndjson")
    place.put("3.ndjson", of(3))
    assert numbers(source, cursor) == [3]


def test_a_plain_file_that_has_grown_gives_what_is_new(place: Place) -> None:
    place.put("a.ndjson", of(1, 2))
    source = place.files("a.ndjson")
    cursor = last_cursor(source)
    place.put("a.ndjson", of(1, 2, 3))
    assert numbers(source, cursor) == [3]


@pytest.mark.parametrize("compression", ["none", "gzip", "zip"])
def test_a_file_that_was_changed_in_the_middle_is_named(place: Place, compression: str) -> None:
    place.put("a", compress(of(*range(100)), compression, "a.ndjson"))
    source = small_blocks(place.files("a"), 64)
    cursor = [item.cursor for item in source.pull(None) if isinstance(item, Mark)][3]
    place.put("a", compress(of(*range(1, 90)), compression, "a.ndjson"))
    with pytest.raises(SourceChanged, match=r"a (\(member a.ndjson\) )?is not what it was"):
        numbers(source, cursor)


def test_a_file_that_was_read_and_is_another_now_is_named(place: Place) -> None:
    place.put("a.ndjson", of(1, 2, 3))
    source = place.files("a.ndjson")
    cursor = last_cursor(source)
    place.put("a.ndjson", of(4, 5, 6))
    with pytest.raises(SourceChanged, match=r"a\.ndjson is not what it was"):
        numbers(source, cursor)


def test_a_parquet_file_that_was_changed_in_the_middle_is_named(place: Place) -> None:
    place.put("a.parquet", parquet(RECORDS))
    source = place.files("a.parquet")
    cursor = next(
        item.cursor for item in source.pull(None) if isinstance(item, Mark) and item.cursor.get("record")
    )
    place.put("a.parquet", parquet([*RECORDS, *RECORDS]))
    with pytest.raises(SourceChanged, match="not what it was"):
        taken(source, cursor)


def test_a_file_that_is_changed_while_it_is_read_is_named(place: Place, small_ranges: None) -> None:
    place.put("a.ndjson", of(*range(1000)))
    pulling = small_blocks(place.files("a.ndjson"), 64).pull(None)
    for _ in range(100):
        next(pulling)
    place.put("a.ndjson", of(*range(1000, 1800)))
    with pytest.raises(SourceError, match="was changed while it was being read"):
        list(pulling)


def test_a_file_that_vanished_in_the_middle_of_reading_is_named(place: Place) -> None:
    place.put("a.ndjson", of(1, 2, 3))
    source = small_blocks(place.files(""), 8)
    cursors = [item.cursor for item in source.pull(None) if isinstance(item, Mark)]
    place.remove("a.ndjson")
    place.put("b.ndjson", of(4))
    with pytest.raises(SourceChanged, match=r"a\.ndjson is not there any more"):
        numbers(source, cursors[1])


def test_no_secret_is_in_a_cursor_a_fingerprint_or_an_error(place: Place) -> None:
    place.put("a.ndjson", b'{"n": 1\n')
    source = place.files("a.ndjson", "missing.ndjson")
    with pytest.raises(SourceError) as raised:
        list(pull(source))
    assert PASSWORD not in f"{raised.value}{source.fingerprint()}"
    assert PASSWORD not in str(last_cursor(place.files("a.ndjson")))


def test_credentials_that_are_refused_are_named_without_them(place: Place) -> None:
    if "password" not in place.storage:
        pytest.skip("it takes any credentials")
    place.put("a.ndjson", of(1))
    wrong = Files(place.uri("a.ndjson"), storage={**place.storage, "password": "a wrong word"}, deadline=5)
    with pytest.raises(SourceError, match=r"a\.ndjson: it is refused .*set storage\.username") as raised:
        pull(wrong)
    assert "a wrong word" not in str(raised.value)


def test_a_server_that_does_not_answer_is_named(place: Place, unused_address: str) -> None:
    if isinstance(place, Memory):
        pytest.skip("it has no server")
    if isinstance(place, Gs):
        pytest.skip("gcsfs tries for half a minute, whatever it is told")
    storage = dict(place.storage)
    if "endpoint_url" in storage:
        storage["endpoint_url"] = f"http://{unused_address}"
        uri = place.uri("a.ndjson")
    else:
        scheme = place.root.partition("://")[0]
        uri = f"{scheme}://{unused_address}/a.ndjson"
    with pytest.raises(SourceError, match=r"a\.ndjson: no answer.*tried again until the deadline"):
        pull(Files(uri, storage=storage, deadline=0.5))


@pytest.fixture
def unused_address() -> str:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
    return f"{host}:{port}"
