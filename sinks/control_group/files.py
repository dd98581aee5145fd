"""The kinds of files that a control group, and `/proc`, consist of."""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/")  # where `/proc` and `/sys` are


def text_of(path: Path) -> str | None:
    """Return what the file says; None: it is not there, or not to be read."""
    try:
        return path.read_text()
    except OSError:
        return None


def number_of(path: Path) -> int | None:
    """Return the one number that the file says; None: it is not there, or says "max", for no limit."""
    text = (text_of(path) or "").strip()
    return int(text) if text.lstrip("-").isdigit() else None


def pairs_of(path: Path) -> dict[str, int]:
    """Return what the file says in lines of a name, a number, and perhaps a unit; {}: it is not there."""
    pairs = {}
    for line in (text_of(path) or "").splitlines():
        words = line.split()
        if len(words) >= 2 and words[1].isdigit():
            pairs[words[0]] = int(words[1])
    return pairs
