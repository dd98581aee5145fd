"""How a text may write a secret: each piece of it as URLs, JSON, HTML and Python do, also one within the other."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from functools import cache

# White space is written in many ways, and servers shorten it; a run of backslashes grows with each escaping.
_PIECES = re.compile(r"[ \t\n\r\f\v]+|\\+|(?s:.)")
# A backslash, as it is or in a URL. Each JSON within JSON doubles them: 64 are six deep, and a text of nothing else is
# no work.
_BACKSLASH = r"(?:\\|%(?:25)*5[cC])"
_ESCAPE = f"{_BACKSLASH}{{1,64}}"
_SPACE = (
    rf"(?:\s|%(?:25)*(?:0[9a-dA-D]|20)|{_ESCAPE}(?:[nrtfv]|x(?:0[9a-dA-D]|20)|u00(?:0[9a-dA-D]|20))|"
    r"&#(?i:x0*(?:[9a-d]|20)|0*(?:9|1[0-3]|32));)+|\++"
)


def pieces(value: str) -> Iterator[tuple[str, re.Pattern[str]]]:
    """Yield what a value is made of, and for each piece the pattern of how it may be written."""
    for match in _PIECES.finditer(value):
        yield match[0], _compiled(match[0])


def beginning(value: str) -> str:
    """Return a regular expression for the first characters of a value, in all ways to write them.

    What it finds is looked at piece by piece besides. It is tried at each character of a text: so what escapes the
    first one is left out, and a run of backslashes is looked at once. Else a text of nothing but backslashes would
    take half a minute.
    """
    first, *others = (match[0] for match in _PIECES.finditer(value))
    if first[0] == "\\":
        return rf"(?<!\\)(?<!%5[cC]){_compiled(first).pattern}"
    return _written(first, escaped=False) + "".join(_compiled(piece).pattern for piece in others)


@cache
def _compiled(piece: str) -> re.Pattern[str]:
    return re.compile(f"(?:{_written(piece)})")


def _written(piece: str, *, escaped: bool = True) -> str:
    if piece.isspace() and piece.isascii() and piece[0] not in "\x1c\x1d\x1e\x1f":
        return _SPACE
    if piece[0] == "\\":
        return rf"(?:{_ESCAPE}u005[cC]|{_BACKSLASH}|&#(?i:x0*5c|0*92);){{{len(piece)},}}"
    code = ord(piece)
    units = piece.encode("utf-16-be", "surrogatepass")
    octets = piece.encode("utf-8", "surrogatepass")
    in_json = "".join(rf"{_ESCAPE}u(?i:{units[at]:02x}{units[at + 1]:02x})" for at in range(0, len(units), 2))
    forms = {"".join(rf"%(?:25)*(?i:{byte:02x})" for byte in octets), in_json}
    plain = {
        re.escape(form) for form in (piece, html.escape(piece), repr(piece)[1:-1], json.dumps(piece)[1:-1])
    }
    if piece.isascii() and piece.isalnum():
        return _longest_first(forms | plain)
    forms |= {f"&#(?i:x0*{code:x});", f"&#0*{code};"}
    if piece.isascii() and piece.isprintable():
        # Some escape more than they must: PHP writes `\/`.
        return (rf"{_BACKSLASH}{{0,64}}" if escaped else "") + _longest_first(forms | plain)
    forms |= {"".join(rf"{_ESCAPE}x(?i:{byte:02x})" for byte in octets), rf"{_ESCAPE}U(?i:{code:08x})"}
    if code < 256:  # Python, and URLs in Latin-1
        forms |= {rf"{_ESCAPE}x(?i:{code:02x})", rf"%(?:25)*(?i:{code:02x})"}
    return _longest_first(forms | plain)


def _longest_first(forms: set[str]) -> str:
    """Join them; `&` is how `&amp;` begins."""
    return f"(?:{'|'.join(sorted(forms, key=len, reverse=True))})"
