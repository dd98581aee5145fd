"""Columns that say where a record came from: its file, and the directories of Hive's layout."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from etl import secret_values
from etl.errors import SourceError
from etl.sources.place import Place

# What Hive writes for null (HiveConf, hive.exec.default.partition.name), and Spark, DuckDB and pyarrow after it.
NULL = "__HIVE_DEFAULT_PARTITION__"
_PARTITION = re.compile(r"([^=]+)=(.*)", re.DOTALL)


class Origin:
    """Adds to each record where it came from.

    Args:
        file_column: the column for the file; None: none.
        hive_partitions: whether directories that are called `name=value` are columns. The value is text, so that it is
            of one type whatever the files are called: `01` may follow `all`. That of `__HIVE_DEFAULT_PARTITION__`
            is null, and `%20` is a blank, as Hive writes it.

    Raises:
        ValueError: `file_column` is no name.
    """

    def __init__(self, file_column: str | None, *, hive_partitions: bool) -> None:
        if file_column is not None and (not isinstance(file_column, str) or not file_column):
            raise ValueError(f"file_column: {file_column!r} is no name of a column")
        if not isinstance(hive_partitions, bool):
            raise ValueError(f"hive_partitions: {hive_partitions!r} is neither true nor false")  # noqa: TRY004 - as every wrong argument
        self._file_column = file_column
        self._hive_partitions = hive_partitions

    def added(self, batches: Iterable[list[Any]], place: Place, path: str) -> Iterator[list[Any]]:
        """Yield batches with the columns in each of their records.

        Args:
            batches: of records and marks, out of one file.
            place: where the reading is: it names the member of an archive.
            path: of the file, in whose directories the partitions stand.

        Raises:
            SourceError: a record has such a column already, with another value, or two partitions have one name.
        """
        partitions = self._partitions(path)
        for batch in batches:
            columns: dict[str, Any] = dict(partitions)
            if self._file_column is not None:
                columns[self._file_column] = secret_values.hide(
                    place.file if place.member is None else f"{place.file}/{place.member}"
                )
            if columns:
                for item in batch:
                    if type(item) is dict:
                        if not columns.keys().isdisjoint(item):
                            self._see_that_they_agree(item, columns, place)
                            item.update({name: value for name, value in columns.items() if name not in item})
                        else:
                            item.update(columns)
            yield batch

    def _partitions(self, path: str) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        if not self._hive_partitions:
            return found
        for directory in re.split(r"[/\\]", path)[:-1]:
            if match := _PARTITION.fullmatch(directory):
                name, value = unquote(match[1]), unquote(match[2])
                if name in found or name == self._file_column:
                    raise SourceError(
                        f"{path}: the column {name!r} would be there twice: give `file_column` another name, or move "
                        "the file, so that each name=value stands in its path once"
                    )
                found[name] = None if value == NULL else value
        return found

    def _see_that_they_agree(
        self, record: Mapping[str, Any], columns: Mapping[str, Any], place: Place
    ) -> None:
        """See that what a file says itself is what its path says, as where a writer keeps partition columns."""
        for name in columns.keys() & record.keys():
            if name == self._file_column:
                raise SourceError(
                    f"{place}: its records have a column {name!r} already: give `file_column` another name"
                )
            if not _alike(record[name], columns[name]):
                raise SourceError(
                    f"{place}: a record says that {name!r} is {record[name]!r}, its path says {columns[name]!r}: set "
                    "hive_partitions = false to take what the records say, or correct the name of the directory"
                )


def _alike(value: Any, of_path: Any) -> bool:
    if value == of_path or value is None:
        return bool(value == of_path)
    one, other = str(value), str(of_path)
    if one == other:
        return True
    return one.lstrip("0") == other.lstrip("0") and one.isdigit() and other.isdigit()
