"""Which partitions parts touch: exactly for one, at most for several, in a few numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.partitions import MOST_SPANS, Touched, fitting, together

numbers = st.sets(st.integers(-2, 5000), min_size=1, max_size=60)


@given(numbers)
def test_a_part_knows_how_many_and_covers_all_with_a_few_spans(touched: set[int]) -> None:
    known = Touched.of(touched)
    assert known.count == len(touched)
    assert len(known.spans) <= MOST_SPANS
    assert all(any(first <= number <= last for first, last in known.spans) for number in touched)


@given(st.lists(numbers, min_size=1, max_size=8))
def test_parts_together_are_never_thought_to_touch_less_than_they_do(parts: list[set[int]]) -> None:
    known = [Touched.of(part) for part in parts]
    assert len(set().union(*parts)) <= together(known) <= sum(map(len, parts))


@given(st.lists(numbers, min_size=1, max_size=8), st.integers(1, 100))
def test_as_many_parts_fit_as_touch_no_more_together(parts: list[set[int]], most: int) -> None:
    known = [Touched.of(part) for part in parts]
    count = fitting(known, most)
    assert count == 1 or together(known[:count]) <= most
    assert count == len(parts) or together(known[: count + 1]) > most


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([range(30)] * 100, 30),
        ([{1}, {2}, {3}], 3),
        ([{1, 1000}, {1000}], 2),
        ([range(0, 8000, 2)], 4000),
        ([None, {1}, None], 1),
        ([None], 0),
    ],
)
def test_partitions_that_parts_share_count_once(parts: list[set[int] | None], expected: int) -> None:
    assert together(part if part is None else Touched.of(part) for part in parts) == expected
