"""What DuckDB reads of a part, all in one place."""

from __future__ import annotations

from etl.nesting import Extent

# Documentation of `read_json`, `maximum_object_size`: 16 MiB, which a line must be shorter than. DuckDB 2.0 takes some
# that are longer, up to 32 MiB, as they happen to lie in its buffers.
MOST_LINE_BYTES = 16 * 1024 * 1024

# Measured with DuckDB 2.0. It reserves memory for each column that it reads of a part: with 64 MiB it reads 800 out of
# NDJSON and not 1,000, and 1,800 out of Parquet.
FIELD_BYTES = {"parquet": 32 * 1024}
LINE_FIELD_BYTES = 80 * 1024

# JSON of more than 128 levels is refused as a whole ("maximum recursion depth"). A list in a list is converted by a
# function within a function, for which DuckDB takes twice the time and memory each: 3,000 records of 10 lists within
# each other take 0.6 s, of 12 1.5 s and 60 MiB, of 16 13 s and 1.2 GiB. Parquet is alike, from 20 on.
MOST_LEVELS = 100
MOST_LISTS = 10


# DuckDB streams rows, but so many of them at a time, and a commit pins what it writes. With 64 MiB, 24 records of 1 MiB
# of text are inserted at once and 32 are not; where they are converted or merged, each is there several times.
ROWS_AT_ONCE = 2048
HELD_IN_MEMORY = 8

# A record that is alone is read in one piece: its text takes blocks of powers of two, some at once. 112 MiB are too
# little for one of 14 MiB.
RECORD_IN_MEMORY = 16


def most_nested(format: str, memory: int) -> Extent:
    """Return how far a record may go that is to be read out of a format with so many bytes of memory."""
    fields = memory // FIELD_BYTES.get(format, LINE_FIELD_BYTES)
    return Extent(fields=fields, levels=MOST_LEVELS, lists=MOST_LISTS, json=MOST_LEVELS)
