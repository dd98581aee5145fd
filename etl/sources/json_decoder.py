"""Decodes records out of JSON: their numbers are exact, and have each digit where a decimal is declared."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Any, Protocol

from etl.records import Declarations, nobody
from etl.schemas.numbers import json_number
from etl.sources import json_numbers

_DECIMALS = frozenset({"NUMERIC", "BIGNUMERIC"})
_FIELDS = 10_000


class Decoder(Protocol):
    """Decodes JSON; what is none raises one of `json_numbers.NOT_JSON`."""

    def records(self, text: bytes) -> Any:
        """Decode a record, or an array of records."""
        ...

    def document(self, text: bytes) -> Any:
        """Decode a document with records in it, which are still to be `settled`."""
        ...

    def settled(self, records: list[Any]) -> list[Any]:
        """Return records of a document with numbers as their fields want them."""
        ...


class _Plain:
    """Makes a float of each number that survives as one (see `json_numbers`): a column of floats holds it."""

    def records(self, text: bytes) -> Any:
        return json_numbers.loads(text)

    document = records

    def settled(self, records: list[Any]) -> list[Any]:
        return records


class _Declared:
    """Keeps each digit of the fields that are declared as decimals: `0.10000000000000001` is not 0.1 there.

    Args:
        declared: tells what a field is declared as.
    """

    def __init__(self, declared: Declarations) -> None:
        def is_decimal(field: str) -> bool:
            found = declared(field)
            return found is not None and found.type in _DECIMALS

        self._is_decimal: Callable[[str], bool] = lru_cache(_FIELDS)(is_decimal)

    def records(self, text: bytes) -> Any:
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


DECODER: Decoder = _Plain()


def decoder(declared: Declarations) -> Decoder:
    """Return what decodes the records of a job.

    Args:
        declared: tells what a field is declared as.
    """
    return DECODER if declared is nobody else _Declared(declared)
