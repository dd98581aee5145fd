"""Columns that say where a record came from: `file_column`, and `hive_partitions`.

Hive's layout is `name=value` directories, whose special characters are written as `%20`, and null as
`__HIVE_DEFAULT_PARTITION__` (Hive, `FileUtils.escapePathName`, `hive.exec.default.partition.name`); DuckDB ("Hive
partitioning") and pyarrow (`HivePartitioning`) read it so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from place_servers import Memory
from pulling import assert_resumes_everywhere, compress, ndjson, small_blocks, taken, write

from etl.errors import SourceError
from etl.sources import Files, Http
from tests.web import Answer, WebServer

CSV = b"v\n1\n2\n"


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(path, data)


PARTITIONS = [
    ("year=2024/month=01", {"year": "2024", "month": "01"}),
    ("day=2024-01-02", {"day": "2024-01-02"}),
    ("of=__HIVE_DEFAULT_PARTITION__", {"of": None}),
    ("of=", {"of": ""}),
    ("a%3Ab=c%2Fd%20e", {"a:b": "c/d e"}),
    ("of=a=b", {"of": "a=b"}),
    ("data/year=2024/more", {"year": "2024"}),
    ("no partition", {}),
]


@pytest.mark.parametrize(("directory", "columns"), PARTITIONS)
def test_directories_of_hives_layout_are_columns(
    tmp_path: Path, directory: str, columns: dict[str, Any]
) -> None:
    put(tmp_path / directory / "x=y.csv", CSV)
    source = small_blocks(Files(tmp_path / "**" / "*.csv", hive_partitions=True), 2)
    assert taken(source) == [{"v": 1, **columns}, {"v": 2, **columns}]
    assert_resumes_everywhere(source)


@pytest.mark.parametrize(("directory", "columns"), PARTITIONS[:2])
def test_so_are_those_of_other_places_and_of_urls(directory: str, columns: dict[str, Any]) -> None:
    arguments: Any = {
        "hive_partitions": True,
    }
    place = Memory("origin")
    place.fresh()
    place.put(f"{directory}/a.csv", CSV)
    assert taken(place.files("**/*.csv", **arguments)) == [{"v": 1, **columns}, {"v": 2, **columns}]
    with WebServer(lambda _: Answer(body=CSV)) as server:
        url = f"{server.url}/{directory}/a.csv?b=c/d=e"
        assert taken(Http(url, **arguments)) == [{"v": 1, **columns}, {"v": 2, **columns}]


def test_partitions_may_differ_between_files(tmp_path: Path) -> None:
    put(tmp_path / "y=1" / "a.csv", CSV)
    put(tmp_path / "z=1" / "a.csv", CSV)
    found = taken(Files(tmp_path / "**" / "*.csv", hive_partitions=True))
    assert [sorted(record) for record in found] == [["v", "y"], ["v", "y"], ["v", "z"], ["v", "z"]]


def test_without_the_options_nothing_is_added(tmp_path: Path) -> None:
    put(tmp_path / "y=1" / "a.csv", CSV)
    assert taken(Files(tmp_path / "**" / "*.csv")) == [{"v": 1}, {"v": 2}]


@pytest.mark.parametrize("said", [1, "1", "01"])
def test_a_record_that_says_the_same_as_its_path_keeps_what_it_says(tmp_path: Path, said: Any) -> None:
    put(tmp_path / "month=01" / "a.ndjson", ndjson([{"month": said}]))
    assert taken(Files(tmp_path / "**" / "*.ndjson", hive_partitions=True)) == [{"month": said}]


@pytest.mark.parametrize("said", [2, "", None, [1]])
def test_a_record_that_says_something_else_than_its_path_is_named(tmp_path: Path, said: Any) -> None:
    put(tmp_path / "month=01" / "a.ndjson", ndjson([{"month": said}]))
    with pytest.raises(SourceError, match=r"a\.ndjson: a record says that 'month' is .*, its path says '01'"):
        taken(Files(tmp_path / "**" / "*.ndjson", hive_partitions=True))


@pytest.mark.parametrize("arguments", [{}, {"file_column": "y"}])
def test_a_name_that_would_be_there_twice_is_named(tmp_path: Path, arguments: Any) -> None:
    put(tmp_path / "y=1" / ("a" if arguments else "y=2") / "a.csv", CSV)
    with pytest.raises(SourceError, match="'y' would be there twice"):
        taken(Files(tmp_path / "**" / "*.csv", hive_partitions=True, **arguments))


@pytest.mark.parametrize(("name", "within"), [("a.csv", ""), ("a.csv.gz", ""), ("a.zip", "/b.csv")])
def test_the_file_column_names_the_file_and_its_member(tmp_path: Path, name: str, within: str) -> None:
    kind = {"a.csv": "none", "a.csv.gz": "gzip", "a.zip": "zip"}[name]
    path = put(tmp_path / name, compress(CSV, kind, "b.csv"))
    source = small_blocks(Files(path, file_column="source"), 2)
    assert taken(source) == [{"v": 1, "source": f"{path}{within}"}, {"v": 2, "source": f"{path}{within}"}]
    assert_resumes_everywhere(source)


def test_the_file_column_of_a_url_has_no_credentials() -> None:
    with WebServer(lambda _: Answer(body=CSV)) as server:
        found = taken(Http(f"{server.url}/a.csv?token=secret1", file_column="source"))
    assert found[0] == {"v": 1, "source": f"{server.url}/a.csv?token=***"}


def test_a_file_column_that_the_records_have_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "a.csv", CSV)
    with pytest.raises(SourceError, match=r"a\.csv: its records have a column 'v' already"):
        taken(Files(tmp_path / "a.csv", file_column="v"))


def test_what_cannot_be_read_stays_as_it_was_found(tmp_path: Path) -> None:
    put(tmp_path / "y=1" / "a.ndjson", b'{"n":1}\nno\n')
    found = taken(Files(tmp_path / "y=1" / "a.ndjson", hive_partitions=True))
    assert found[0] == {"n": 1, "y": "1"}
    assert found[1][0] == "no"


def test_a_directory_of_hives_layout_stands_for_those_below_it(tmp_path: Path) -> None:
    for name in ("year=2023", "year=2024", "_temporary/0"):
        (tmp_path / "t" / name).mkdir(parents=True)
        write(tmp_path / "t" / name / "a.csv", "v\n1\n")
    source = Files(tmp_path / "t", hive_partitions=True)
    assert taken(source) == [{"v": 1, "year": "2023"}, {"v": 1, "year": "2024"}]
    assert_resumes_everywhere(source)
    (tmp_path / "empty").mkdir()
    assert taken(Files(tmp_path / "empty", hive_partitions=True)) == []


@pytest.mark.parametrize("arguments", [{"file_column": ""}, {"file_column": 1}, {"hive_partitions": "yes"}])
def test_arguments_that_are_wrong_are_refused(arguments: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Files("a.csv", **arguments)
