"""A transform that changes nothing, and says once that the job is in the middle."""

import os
from collections.abc import Iterator
from itertools import count
from typing import Any

RECORDS = 400_000  # about two years of flights have twice as many

_numbers = count(1)


def tell(records: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for record in records:
        if next(_numbers) == RECORDS:
            os.write(1, b"halfway\n")
        yield record
