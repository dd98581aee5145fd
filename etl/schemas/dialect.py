"""What a warehouse has to say about the names of columns, and about records within records.

Only names that a warehouse forbids are changed. Which field a column is made from is kept with the column, as long as
another name could have become the same one: two fields never share a column.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What a warehouse has to say about names and depth.

    Attributes:
        warehouse: its name, for messages.
        folded: returns what names that it takes for the same one have in common.
        valid: returns the name of the column for a field: the field's own, unless the warehouse forbids it.
        wrong_with_name: says what is wrong with the name of a column; None: it is taken.
        may_be_made: says whether `valid` may make this name out of another one.
        most_levels: of records within records.
    """

    warehouse: str
    folded: Callable[[str], str]
    valid: Callable[[str], str]
    wrong_with_name: Callable[[str], str | None]
    may_be_made: Callable[[str], bool]
    most_levels: int
