"""Records as text for messages and dead letters, whatever they hold: also what Python itself cannot show.

A value may hold itself, be nested deeper than Python goes, be an integer of more digits than Python writes
(`sys.get_int_max_str_digits`), hold halves of surrogate pairs, or be of a class whose `__repr__` raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def shown(value: Any) -> str:
    r"""Return `repr(value)` as text that UTF-8 can hold; what has none is named by its class.

    Halves of surrogate pairs are escaped: `\ud800`.
    """
    try:
        text = repr(value)
    except Exception as error:  # of a class of the user's, or as this module says
        text = _in_pieces(value, error)
    return text.encode("utf-8", "backslashreplace").decode()


def is_encodable(text: str) -> bool:
    """Say whether UTF-8 has a text: halves of surrogate pairs it has not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _in_pieces(value: Any, error: Exception) -> str:
    """Show an object field by field, so that one that cannot be shown hides no other."""
    if isinstance(value, Mapping):
        try:
            pieces = [f"{_piece(name)}: {_piece(item)}" for name, item in value.items()]
        except Exception as other:  # a mapping of a class of the user's
            error = other
        else:
            return f"{{{', '.join(pieces)}}}"
    return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


def _piece(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # as in `shown`
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
