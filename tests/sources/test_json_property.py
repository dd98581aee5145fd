"""Whatever JSON holds is read back exactly, in each layout, from each mark, whatever the blocks are."""

from __future__ import annotations

import json
import string
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pulling import assert_resumes_everywhere, small_blocks, taken, write

from etl.sources import Files

DIGITS = st.text(string.digits, min_size=1, max_size=25)
# As RFC 8259, section 6, writes numbers.
NUMBERS = st.builds(
    lambda minus, whole, fraction, exponent: minus + (whole.lstrip("0") or "0") + fraction + exponent,
    st.sampled_from(["", "-"]),
    DIGITS,
    st.one_of(st.just(""), DIGITS.map(lambda digits: "." + digits)),
    st.one_of(
        st.just(""),
        st.builds(
            "{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), st.integers(0, 420)
        ),
    ),
)
DOUBLES = st.floats(allow_nan=False, allow_infinity=False).flatmap(
    lambda value: st.sampled_from([repr(value), f"{value:.17g}", f"{value:.20f}", f"{value:E}"])
)
# Escaped or not; what looks like structure; no surrogate without its partner, which no UTF-8 holds.
TEXTS = st.text(
    st.one_of(st.sampled_from('{}[],:"\\ \n\x1e0123456789e.-'), st.characters(exclude_categories=["Cs"]))
)
STRINGS = st.builds(lambda text, escaped: json.dumps(text, ensure_ascii=escaped), TEXTS, st.booleans())
LEAVES = st.one_of(NUMBERS, DOUBLES, STRINGS, st.sampled_from(["true", "false", "null", "{}", "[]"]))
BLANKS = st.sampled_from(["", " ", "\t", "  "])


def objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.builds("{}{}:{}{}".format, STRINGS, BLANKS, BLANKS, values)
    return st.lists(member, max_size=4).map(lambda members: "{" + ",".join(members) + "}")


def arrays(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(
        lambda items, blank: f"[{blank}{f'{blank},'.join(items)}{blank}]",
        st.lists(values, max_size=4),
        BLANKS,
    )


VALUES = st.recursive(LEAVES, lambda inner: st.one_of(objects(inner), arrays(inner)), max_leaves=12)
ROWS = st.lists(objects(VALUES), max_size=12)


def agree(found: Any, wanted: Any) -> bool:
    """Say whether what was read is what stands there; a float must print as the number does."""
    if isinstance(wanted, dict):
        return (
            type(found) is dict
            and found.keys() == wanted.keys()
            and all(agree(found[k], wanted[k]) for k in wanted)
        )
    if isinstance(wanted, list):
        return type(found) is list and len(found) == len(wanted) and all(map(agree, found, wanted))
    if isinstance(wanted, Decimal) and type(found) is float:
        digits = len(wanted.as_tuple().digits)
        return wanted in (Decimal(f"{found:.{digits - 1}e}"), Decimal(repr(found)))
    return type(found) is type(wanted) and found == wanted


def assert_read(name: str, text: str, rows: list[str], block: int, **options: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = small_blocks(Files(write(Path(folder) / name, text), **options), block)
        found = taken(source)
        assert agree(found, [json.loads(row, parse_float=Decimal) for row in rows]), (found, rows)
        assert_resumes_everywhere(source)


BLOCKS = st.sampled_from([1, 7, 64, 1 << 15])


@settings(max_examples=15, deadline=None)
@given(ROWS, BLOCKS)
def test_lines_and_arrays_and_sequences_are_read_back(rows: list[str], block: int) -> None:
    assert_read("a.ndjson", "\n".join(rows), rows, block)
    assert_read("a.json", "[" + ",\n".join(rows) + "]", rows, block)
    assert_read("a.json-seq", "".join(f"\x1e{row}\n" for row in rows), rows, block)
    assert_read("a.txt", "\n".join(rows), rows, block, format="json")


@settings(max_examples=20, deadline=None)
@given(ROWS, VALUES, VALUES, BLOCKS)
def test_rows_at_a_path_are_read_back(rows: list[str], before: str, after: str, block: int) -> None:
    listed = "[" + " , ".join(rows) + "]"
    text = f'{{"a":{before}, "in" : {{"b":{before},"rows":{listed} ,"c":{after}}},"d":{after} }}\n'
    assert_read("a.json", text * 2, rows * 2, block, records="in.rows")
    text = f'[{before},{{"a":{before},"rows":{listed},"c":{after}}},{{"rows":{listed}}}]'
    if '"rows"' not in before:
        assert_read("a.json", text, rows * 2, block, records="*.rows")
