"""Parquet: one row group after the other, in batches of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO, Any

from etl.errors import SourceChanged, SourceError
from etl.field_types import FieldTypes
from etl.records import describe
from etl.sources.parquet_types import check_times, field_types, readable
from etl.sources.place import Place, unreadable
from etl.sources.refusals import Damaged

# A batch of rows is decoded at once: about this many bytes of it, and no more rows than that.
_BATCH_BYTES = 1 << 18
_BATCH_ROWS = 10_000
_READ_BYTES = 1 << 18


def read(
    file: IO[bytes],
    place: Place,
    advance: Callable[[float], None],
    describe_fields: Callable[[FieldTypes], None] = lambda _: None,
) -> Iterator[list[Any]]:
    """Decode a file from `place`; yields lists of records, with a mark after each row group.

    Values are what pyarrow makes of them: `datetime`, `Decimal`, `bytes` … A map is a list of `key` and `value`. Times
    in nanoseconds that Python cannot hold become text, exact. A row with another value that it cannot hold, as a year
    past 9999 or a time past 23:59, is unreadable.

    Args:
        file: what is read; it stays open.
        place: where to begin; moved on with what was read.
        advance: told the share of the file that has been read.
        describe_fields: told the types of the fields, before the first record.

    Raises:
        Damaged: the file cannot be decoded.
        SourceChanged: it has fewer row groups than were read of it.
        SourceError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise SourceError(
            f"{place} is Parquet, which needs the package pyarrow: pip install 'etl-sinks[parquet]'"
        ) from error

    try:
        # Nothing is read ahead: that would hold whole column chunks.
        with pyarrow.parquet.ParquetFile(file, pre_buffer=False, buffer_size=_READ_BYTES) as opened:
            if twice := _named_twice(opened.schema_arrow):
                raise Damaged(
                    f"two of its columns, or of the fields of one, are called {twice!r}, so that a record could hold "
                    "but one of them; give them other names"
                )
            describe_fields(field_types(opened.schema_arrow))
            groups = opened.metadata.num_row_groups
            if place.row_group > groups:
                raise SourceChanged(
                    f"{place} has {groups} row groups, and {place.row_group} have been read of it: it is not "
                    "what it was; put it back, or start the job over with another name and table"
                )
            for group in range(place.row_group, groups):
                about = opened.metadata.row_group(group)
                rows = max(
                    1, min(_BATCH_ROWS, _BATCH_BYTES * about.num_rows // max(about.total_byte_size, 1))
                )
                read_rows = 0
                for batch in opened.iter_batches(rows, row_groups=[group], use_threads=False):
                    records = _records(batch, place)
                    place.record += len(records)
                    read_rows += len(records)
                    advance((group + read_rows / max(about.num_rows, 1)) / groups)
                    yield records
                place.row_group = group + 1
                yield [place.mark()]
    except (pyarrow.ArrowException, OSError) as error:
        raise Damaged(f"it is no whole Parquet file: {' '.join(str(error).split())}") from error


def _records(batch: Any, place: Place) -> list[Any]:
    import pyarrow

    columns = [readable(column) for column in batch.columns]
    batch = pyarrow.RecordBatch.from_arrays(columns, names=batch.schema.names)
    try:
        for column in columns:
            check_times(column)
        return batch.to_pylist()  # type: ignore[no-any-return]  # pyarrow has no types
    except (ValueError, OverflowError):
        return [
            _record(batch.slice(row, 1), f"{place}, row {place.record + row + 1}")
            for row in range(len(batch))
        ]


def _record(row: Any, where: str) -> Any:
    try:
        for column in row.columns:
            check_times(column)
        return row.to_pylist()[0]
    except (ValueError, OverflowError) as error:
        raw = " ".join(str(row.to_string(preview_cols=0)).split())
        return unreadable(raw, where, f"a value that Python cannot hold ({describe(error)})")


def _named_twice(fields: Any) -> str | None:
    """Return a name that two columns have, or two fields of a column; None: there is none."""
    names: set[str] = set()
    for field in fields:
        if field.name in names:
            return str(field.name)
        names.add(field.name)
        inner = field.type
        within = [inner.field(number) for number in range(inner.num_fields)]
        if (twice := _named_twice(within)) is not None:
            return twice
    return None
