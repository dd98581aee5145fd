"""Several CSV files of one job: what makes one table, and what is refused by name.

Exports in parts of which only the first has a header come from `split` and from UNLOAD (Redshift, Athena); what does
not belong together is refused, as Polars and pyarrow do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pulling import assert_resumes_everywhere, small_blocks, taken, write

from etl.errors import SourceError
from etl.records import Mark
from etl.sources import Files


def source(folder: Path, *contents: str, **options: Any) -> Files:
    for number, content in enumerate(contents, 1):
        write(folder / f"a{number}.csv", content)
    return Files(folder, **options)


@pytest.mark.parametrize(
    ("contents", "rows"),
    [
        (("a,b\n1,x\n", "b,a\ny,2\n"), [{"a": 1, "b": "x"}, {"b": "y", "a": 2}]),
        (("a,b\n1,x\n", "a,b,c\n2,y,3\n"), [{"a": 1, "b": "x"}, {"a": 2, "b": "y", "c": 3}]),
        (("a,b\n1,x\n", "b\ny\n"), [{"a": 1, "b": "x"}, {"b": "y"}]),
        (("a,b\n1,x\n", "a,b\n1,x\n"), [{"a": 1, "b": "x"}, {"a": 1, "b": "x"}]),
    ],
)
def test_columns_may_come_go_and_change_places(tmp_path: Path, contents: tuple[str, ...], rows: Any) -> None:
    files = source(tmp_path, *contents)
    assert taken(files) == rows
    assert_resumes_everywhere(small_blocks(files, 4))


@pytest.mark.parametrize(
    ("contents", "options", "said"),
    [
        (("id,name\n1,a\n", "3,c\n4,d\n"), {}, "a2.csv: its columns are '3', 'c', none of which"),
        (("c,3\nd,4\n", "id,name\n1,a\n"), {}, "a2.csv: its columns are 'id', 'name', none of which"),
        (("id,name\n1,a\n", "x,y\n4,d\n"), {}, "theirs are 'id', 'name'"),
        (("1,a\n", "2,b,c\n"), {"header": False}, "a2.csv: its first row has 3 fields"),
        (("a\n\n", "x\n1\n"), {}, "a2.csv: its columns are 'x'"),
        (
            ("id;v\n1;2\n", "id,v\n3,4\n"),
            {},
            r"a2.csv: its fields are divided by ',' \(each .* has 2 fields\), those of .*a1.csv by ';'; .*`delimiter`",
        ),
    ],
)
def test_a_later_file_that_does_not_belong_is_refused_by_name(
    tmp_path: Path, contents: tuple[str, ...], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(SourceError, match=said):
        taken(source(tmp_path, *contents, **options))


def test_a_file_that_may_be_divided_in_two_ways_is_divided_as_those_before_it(tmp_path: Path) -> None:
    files = source(tmp_path, "a;b\n1;2\n", "a;b, c\n3;4, 5\n", "a\n6\n")
    assert taken(files) == [{"a": 1, "b": 2}, {"a": 3, "b, c": "4, 5"}, {"a": 6}]


def test_each_file_may_say_what_divides_it(tmp_path: Path) -> None:
    files = source(tmp_path, "sep=;\na;b\n1;2\n", "sep=|\na|b\n3|4\n")
    assert taken(files) == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    assert_resumes_everywhere(small_blocks(files, 4))


@pytest.mark.parametrize(
    ("contents", "values"),
    [
        (("k,v\n1,\n2,\n", "k,v\n3,10\n4,20\n"), [None, None, 10, 20]),
        (("k,v\n1,\n", "k\n2\n", "k,v\n3,\n4,1.5\n"), [None, None, None, 1.5]),
        (("k,v\n1,\n", "k,v\n3,NA\n"), [None, "NA"]),
        (("k,v\n1,\n", "k,v\n3,NA\n4,7\n"), [None, None, 7]),
        (("v\n", "v,k\n,1\n2024-01-31,2\n"), [None, "2024-01-31"]),
        (("k,v\n" + "1,\n" * 20 + "2,7\n3,x\n",), [None] * 20 + ["7", "x"]),
        (('k,v\n"a\nb",\n' * 1 + '"c\n",""\nd,007\ne,1\n',), [None, None, "007", "1"]),
    ],
)
def test_a_column_that_was_empty_so_far_has_no_type_yet(
    tmp_path: Path, contents: tuple[str, ...], values: list[Any]
) -> None:
    files = source(tmp_path, *contents)
    for block in (1, 9, 1000):
        assert [row.get("v") for row in taken(small_blocks(files, block))] == values
        assert_resumes_everywhere(files)


def test_a_column_that_is_empty_beyond_the_sample_gets_its_type_from_the_first_values(tmp_path: Path) -> None:
    text = "k,v,w\n" + "1,,\n" * 10_500 + "2,8,\n3,A9,5\n" + "4,,\n" * 100
    files = small_blocks(source(tmp_path, text), 1 << 14)
    rows = taken(files)
    assert rows[10_500:10_502] == [{"k": 2, "v": "8", "w": None}, {"k": 3, "v": "A9", "w": 5}]
    assert_resumes_everywhere(files)


def test_a_type_that_was_found_late_stands_in_the_cursor(tmp_path: Path) -> None:
    files = source(tmp_path, "k,v\n1,\n", "k,v\n2,5\n")
    cursors = [item.cursor for item in files.pull(None) if isinstance(item, Mark)]
    assert [cursor["types"].get("v") for cursor in cursors if "types" in cursor] == [
        *["unknown"] * 3,
        *["integer"] * 2,
    ]
