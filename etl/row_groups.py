"""Arrays of records that wait to become a row group, and the file of row groups that a part in Parquet is."""

from __future__ import annotations

from array import array as numbers_of
from collections import deque
from typing import TYPE_CHECKING

from etl.arrow_fitting import RefuseNumbered, fitted
from etl.arrow_schemas import fixed_columns, row_bytes
from etl.formats import SchemaWidened, Write

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet


class RowGroups:
    """Writes the row groups of one part.

    Args:
        write: takes the bytes.
        refuse: takes each record that the schema does not hold after all.
        most_bytes: how large a row group may become in memory.

    Attributes:
        rows: how many are written, or wait.
    """

    def __init__(self, write: Write, refuse: RefuseNumbered, most_bytes: int) -> None:
        import pyarrow as arrow

        self._sink = _Output(write)
        self._output = arrow.PythonFile(self._sink, mode="w")
        self._refuse = refuse
        self._most_bytes = most_bytes
        self._writer: pyarrow.parquet.ParquetWriter | None = None
        self._waiting: deque[tuple[pyarrow.StructArray, numbers_of[int]]] = deque()
        self._rows_waiting = self._bytes_waiting = 0
        self.rows = 0

    def bytes_waiting(self, schema_row_bytes: int) -> int:
        """Return how many bytes wait: each row takes as many as the schema's columns do, also where it lacks them."""
        return max(self._bytes_waiting, self._rows_waiting * schema_row_bytes)

    def add(self, array: pyarrow.StructArray, numbers: numbers_of[int]) -> None:
        """Let records wait.

        Args:
            array: the records.
            numbers: of each, its number in the source.
        """
        self._waiting.append((array, numbers))
        self._bytes_waiting += array.nbytes
        self._rows_waiting += len(array)
        self.rows += len(array)

    def drop(self) -> None:
        """Forget the records that wait."""
        self.rows -= self._rows_waiting
        self._waiting.clear()
        self._rows_waiting = self._bytes_waiting = 0

    def flush(self, schema: pyarrow.Schema) -> None:
        """Write all records that wait; in several row groups where their types became wider than they were.

        Raises:
            SchemaWidened: the rows before them are written with another schema.
        """
        import pyarrow as arrow
        import pyarrow.parquet

        if self._writer is None:
            # Of text and bytes Arrow would copy the least and the largest value five times over to find them.
            self._writer = arrow.parquet.ParquetWriter(
                self._output, schema, compression="zstd", write_statistics=fixed_columns(schema) or False
            )
        elif not self._writer.schema.equals(schema):
            raise SchemaWidened
        whole = arrow.struct(list(schema))
        most_rows = max(1, self._most_bytes // max(1, row_bytes(schema)))
        batches: list[pyarrow.RecordBatch] = []
        size = 0
        while self._waiting:
            array, numbers = self._waiting.popleft()
            for start in range(0, len(array), most_rows):
                piece = array.slice(start, most_rows)
                if piece.type.equals(whole):
                    batch = arrow.RecordBatch.from_struct_array(piece)
                else:
                    batch = fitted(piece, numbers[start : start + most_rows], schema, self._refuse)
                    self.rows -= len(piece) - batch.num_rows
                if batches and size + batch.nbytes > 1.5 * self._most_bytes:
                    self._write(batches, schema)
                    size = 0
                batches.append(batch)
                size += batch.nbytes
                del piece, batch
            del array
        self._write(batches, schema)
        self._rows_waiting = self._bytes_waiting = 0

    def _write(self, batches: list[pyarrow.RecordBatch], schema: pyarrow.Schema) -> None:
        import pyarrow as arrow

        assert self._writer is not None
        table = arrow.Table.from_batches(batches, schema)
        batches.clear()
        if table.num_rows:
            self._writer.write_table(table, row_group_size=table.num_rows)
        del table
        arrow.default_memory_pool().release_unused()  # else it keeps what the largest row group took

    def discard(self) -> None:
        """Write nothing more: the part is aborted. Closing writes a footer, also when a writer is dropped."""
        self._sink.discard()

    def close(self) -> None:
        """End the file with its footer."""
        if self._writer is not None:
            self._writer.close()


class _Output:
    """What pyarrow writes to: a part that is written from its beginning to its end."""

    closed = False

    def __init__(self, write: Write) -> None:
        self._write = write

    def write(self, data: bytes) -> int:
        self._write(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back here."""

    def discard(self) -> None:
        """Drop what is still to come: the part is aborted."""
        self._write = _drop

    def close(self) -> None:
        self.closed = True


def _drop(data: bytes | bytearray | memoryview) -> None:
    """Take what nobody wants any more."""
