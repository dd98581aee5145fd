"""A transform that changes nothing, and says once that the job is in the middle; it may hold the job after that."""

import os
import signal
from collections.abc import Iterator
from itertools import count
from typing import Any

RECORDS = 400_000  # about two years of flights have twice as many

# Who kills the job may be slow: it must not have come to its end by then.
HELD = int(os.environ.get("HELD_AT_RECORD", "0"))

_numbers = count(1)


def tell(records: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for record in records:
        number = next(_numbers)
        if number == RECORDS:
            os.write(1, b"halfway\n")
        elif number == HELD:
            signal.pause()
        yield record
