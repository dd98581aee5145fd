"""What Python's csv module writes and reads, in a dialect that the job names, is read back exactly, from each mark."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pulling import assert_resumes_everywhere, small_blocks, taken

from etl.sources import Files

QUOTING = (csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC, csv.QUOTE_NONE)


@st.composite
def dialects(draw: st.DrawFn) -> dict[str, Any]:
    delimiter = draw(st.sampled_from(",;\t|^: \x01§"))
    quote = draw(st.sampled_from("\"'~"))
    escape = draw(st.sampled_from([None, "\\", "!"]))
    return {
        "delimiter": delimiter,
        "quotechar": quote,
        "escapechar": escape,
        "doublequote": escape is None or draw(st.booleans()),
        "lineterminator": draw(st.sampled_from(["\n", "\r\n", "\r"])),
        "quoting": draw(st.sampled_from(QUOTING)),
        "skipinitialspace": draw(st.booleans()),
    }


FIELDS = st.text(st.sampled_from(",;\t|^: \"'~\\!\r\n#abN1é☃"), max_size=6)
TABLES = st.integers(1, 3).flatmap(
    lambda width: st.lists(st.lists(FIELDS, min_size=width, max_size=width), max_size=8)
)


def written(rows: list[list[str]], dialect: dict[str, Any]) -> str:
    """Return what Python writes, if it can, and reads back."""
    text = io.StringIO(newline="")
    try:
        csv.writer(text, strict=True, **dialect).writerows(rows)
        back = list(csv.reader(io.StringIO(text.getvalue(), newline=""), strict=True, **dialect))
    except csv.Error:  # it has nothing to escape with; or, of 3.11, `!` before a quote
        assume(False)
    assume(back == rows)
    return text.getvalue()


def source(path: Path, dialect: dict[str, Any], width: int, **more: Any) -> Files:
    return Files(
        path,
        settle=0,
        format="csv",
        delimiter=dialect["delimiter"],
        quote="" if dialect["quoting"] == csv.QUOTE_NONE else dialect["quotechar"],
        escape=dialect["escapechar"],
        skip_initial_space=dialect["skipinitialspace"],
        null=[],
        types={f"c{number}": "string" for number in range(width)},
        **more,
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(rows=TABLES, dialect=dialects(), block=st.integers(1, 40))
def test_what_python_writes_is_read_back(rows: list[list[str]], dialect: dict[str, Any], block: int) -> None:
    width = len(rows[0]) if rows else 1
    names = [f"c{number}" for number in range(width)]
    text = written([names, *rows], dialect)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.csv")
        path.write_bytes(text.encode())
        files = small_blocks(source(path, dialect, width), block)
        assert taken(files) == [dict(zip(names, row, strict=True)) for row in rows]
        assert_resumes_everywhere(files)
