"""Text from outside, as it may be shown: in a terminal, control characters set titles, clear the screen, forge lines.

Column names, file names, servers' answers and errors of transforms are text from outside. What Python's `repr` would
escape is escaped (`str.isprintable`): controls (C0, C1, DEL; ECMA-48), marks that change the direction of text
(Unicode Standard Annex 9), separators of lines, and halves of surrogate pairs, which no terminal can be sent.
"""

from __future__ import annotations


def printable(text: str, *, keep: str = "") -> str:
    r"""Return `text` with what is not printable as Python writes it: `\x1b`.

    Args:
        text: any.
        keep: characters that stay as they are, such as the ends of lines that a program put in itself.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def printable_json(text: str) -> str:
    r"""Return a line of JSON with what is not printable as JSON writes it (`\u009b`): it means the same.

    Args:
        text: JSON, in which controls can only stand within strings; ends of lines stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else _json_escaped(c) for c in text)


def _json_escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
