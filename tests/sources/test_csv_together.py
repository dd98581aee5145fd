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
        (("3,c\n4,d\n", "id,name\n1,a\n"), {}, "a2.csv: its columns are 'id', 'name', none of which"),
        (("id,name\n1,a\n", "x,y\n4,d\n"), {}, "theirs are 'id', 'name'"),
        (("1,a\n", "2,b,c\n"), {"header": False}, "a2.csv: its first row has 3 fields"),
    ],
)
def test_a_later_file_that_does_not_belong_is_refused_by_name(
    tmp_path: Path, contents: tuple[str, ...], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(SourceError, match=said):
        taken(source(tmp_path, *contents, **options))
