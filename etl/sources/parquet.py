"""Parquet: one row group after the other, in batches of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO, Any

from etl.errors import SourceChanged, SourceError
from etl.sources.decoding import Damaged
from etl.sources.place import Place

# A batch of rows is decoded at once: about this many bytes of it, and no more rows than that.
_BATCH_BYTES = 1 << 18
_BATCH_ROWS = 10_000
_READ_BYTES = 1 << 18


def read(file: IO[bytes], place: Place, advance: Callable[[float], None]) -> Iterator[list[Any]]:
    """Decode a file from `place`; yields lists of records, with a mark after each row group.

    Values are what pyarrow makes of them: `datetime`, `Decimal`, `bytes` … Times in nanoseconds that Python
    cannot hold become text, exact.

    Args:
        file: what is read; it stays open.
        place: where to begin; moved on with what was read.
        advance: told the share of the file that has been read.

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
            groups = opened.metadata.num_row_groups
            if place.row_group > groups:
                raise SourceChanged(
                    f"{place} has {groups} row groups, and {place.row_group} have been read of it: it is not "
                    "what it was; put it back, or start the job anew with another name and table"
                )
            for group in range(place.row_group, groups):
                about = opened.metadata.row_group(group)
                rows = max(
                    1, min(_BATCH_ROWS, _BATCH_BYTES * about.num_rows // max(about.total_byte_size, 1))
                )
                read_rows = 0
                for batch in opened.iter_batches(rows, row_groups=[group], use_threads=False):
                    records = _records(batch)
                    place.record += len(records)
                    read_rows += len(records)
                    advance((group + read_rows / max(about.num_rows, 1)) / groups)
                    yield records
                place.row_group = group + 1
                yield [place.mark()]
    except (pyarrow.ArrowException, OSError) as error:
        raise Damaged(f"it is no whole Parquet file: {' '.join(str(error).split())}") from error


def _records(batch: Any) -> list[Any]:
    try:
        return batch.to_pylist()  # type: ignore[no-any-return]  # pyarrow has no types
    except ValueError:
        # a time with nanoseconds, which datetime cannot hold
        return _with_nanoseconds_as_text(batch).to_pylist()  # type: ignore[no-any-return]


def _with_nanoseconds_as_text(batch: Any) -> Any:
    import pyarrow

    for index, field in enumerate(batch.schema):
        if getattr(field.type, "unit", None) == "ns":
            text = batch.column(index).cast(pyarrow.string())
            batch = batch.set_column(index, field.name, text)
    return batch
