"""Decodes records out of JSON: their numbers are exact, and have each digit where a decimal is declared."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Any, Protocol

from etl.records import Declarations, nobody
from etl.schemas.numbers import json_number
from etl.sources import json_numbers
from etl.sources.bounds import UNLIMITED, check_values

_DECIMALS = frozenset({"NUMERIC", "BIGNUMERIC"})
_FIELDS = 10_000


class Decoder(Protocol):
    """Decodes JSON; what is none, or is too large, raises one of `json_numbers.NOT_JSON`.

    Attributes:
        most: how large a text may be, in bytes; see `bounds.check_values`.
    """

    most: int

    def records(self, text: bytes) -> Any:
        """Decode a record, or an array of records."""
        ...

    def document(self, text: bytes) -> Any:
        """Decode a document with records in it, which are still to be `settled`; of any size."""
        ...

    def settled(self, records: list[Any]) -> list[Any]:
        """Return records of a document with numbers as their fields want them."""
        ...


class _Plain:
    """Makes a float of each number that survives as one (see `json_numbers`): a column of floats holds it.

    Args:
        most: how large a text may be.
    """

    def __init__(self, most: int) -> None:
        self.most = most

    def records(self, text: bytes) -> Any:
        check_values(text, self.most)
        return json_numbers.loads(text)

    def document(self, text: bytes) -> Any:
        return json_numbers.loads(text)

    def settled(self, records: list[Any]) -> list[Any]:
        return records


class _Declared:
    """Keeps each digit of the fields that are declared as decimals: `0.10000000000000001` is not 0.1 there.

    Args:
        declared: tells what a field is declared as.
        most: how large a text may be.
    """

    def __init__(self, declared: Declarations, most: int) -> None:
        self.most = most

        def is_decimal(field: str) -> bool:
            found = declared(field)
            return found is not None and found.type in _DECIMALS

        self._is_decimal: Callable[[str], bool] = lru_cache(_FIELDS)(is_decimal)

    def records(self, text: bytes) -> Any:
        check_values(text, self.most)
        if json_numbers.is_as_written(text):
            return json_numbers.loads(text)
        return self._settled(json_numbers.loads_as_written(text), "")

    def document(self, text: bytes) -> Any:
        return (
            json_numbers.loads(text)
            if json_numbers.is_as_written(text)
            else json_numbers.loads_as_written(text)
        )

    def settled(self, records: list[Any]) -> list[Any]:
        return [self._settled(record, "") for record in records]

    def _settled(self, value: Any, path: str) -> Any:
        kind = type(value)
        if kind is dict:
            for name, item in value.items():
                if type(item) in (Decimal, dict, list):
                    value[name] = self._settled(item, f"{path}.{name}" if path else name)
        elif kind is list:
            for index, item in enumerate(value):
                if type(item) in (Decimal, dict, list):
                    value[index] = self._settled(item, path)
        elif kind is Decimal and not self._is_decimal(path):
            return json_number(str(value))
        return value


DECODER: Decoder = _Plain(UNLIMITED.record)


def decoder(declared: Declarations, most: int) -> Decoder:
    """Return what decodes the records of a job.

    Args:
        declared: tells what a field is declared as.
        most: how large a record may be, in bytes; see `bounds.check_values`.
    """
    return _Plain(most) if declared is nobody else _Declared(declared, most)
