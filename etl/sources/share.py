"""How much of all that a source stands for has been read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class _Readable(Protocol):
    @property
    def closed(self) -> bool: ...

    def tell(self) -> int: ...


class Share:
    """Counts files by their weight, the one that is being read by how far it has been read.

    Args:
        total: the weight of all files.
        passed: the weight of those that need not be read any more.
    """

    def __init__(self, total: float, passed: float = 0.0) -> None:
        self._total = total
        self._passed = passed
        self._file: _Readable | None = None
        self._weight = 0.0
        self._length: Callable[[], int | None] = lambda: None
        self._reached = 0.0

    def reads(self, file: _Readable, weight: float, length: Callable[[], int | None]) -> None:
        """Count what is read of a file.

        Args:
            file: it tells how far it has been read.
            weight: the file's.
            length: returns its length in bytes; None: not known yet.
        """
        self._file, self._weight, self._length = file, weight, length
        self._reached = 0.0

    def reached(self, share: float) -> None:
        """Note how much of the file has been read, where it is not read from front to back."""
        self._reached = share

    def passed(self, weight: float) -> None:
        """Count a file as a whole."""
        self._passed += weight
        self._file = None

    def share(self) -> float | None:
        """Return the share of all, 0 to 1; None: there is nothing."""
        if not self._total:
            return None
        read = 0.0
        if self._file is not None and not self._file.closed and (length := self._length()):
            read = self._weight * (self._reached or self._file.tell() / length)
        return min((self._passed + read) / self._total, 1.0)
