"""The sink that drops everything: the control of every experiment."""

from __future__ import annotations

from collections.abc import Sequence

from sinks.base import Data, SealedPart
from sinks.parts import InOrder, Part


class Null(InOrder):
    """Counts the bytes of its parts, keeps their checksum, and drops them."""

    slots: int | None = None
    lasting: bool = False

    def occupied_by(self) -> str | None:
        """Return None: nothing can be in the way."""
        return None

    def recover(
        self,
        sealed: Sequence[SealedPart],  # noqa: ARG002
        last: SealedPart | None,
        *,
        epoch: int = 0,  # noqa: ARG002 - it counts on shared storage alone
    ) -> None:
        """Go on after `last`; there is nothing to check or to clear away."""
        self._abort_open()
        self._start(last)

    def open_part(self, sequence: int, *, epoch: int = 0) -> Part:  # noqa: ARG002
        """Open part `sequence`."""
        self._expect(sequence)
        self._current = _Dropped(self, sequence, generation=sequence)
        return self._current

    def release(self, part: SealedPart) -> None:
        """Do nothing: there is nothing to free."""

    def close(self) -> None:
        """Abort a part that is open still."""
        self._abort_open()

    def __reduce__(self) -> tuple[type[Null], tuple[()]]:
        return Null, ()

    def __repr__(self) -> str:
        return "Null()"


class _Dropped(Part):
    def _take(self, data: Data) -> None:
        pass

    def _uri(self) -> str:
        return "null://"

    def _finish(self, sealed: SealedPart) -> None:
        pass

    def _undo(self) -> None:
        pass
