"""What a warehouse has to say about the names of columns, and about records within records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What a warehouse has to say about names and depth.

    Attributes:
        warehouse: its name, for messages.
        folded: returns what names that it takes for the same one have in common.
        wrong_with_name: says what is wrong with the name of a column; None: it is taken.
        most_levels: of records within records.
    """

    warehouse: str
    folded: Callable[[str], str]
    wrong_with_name: Callable[[str], str | None]
    most_levels: int
